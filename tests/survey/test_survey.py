import pytest

from stages.config import Filter
from stages.runtime.errors import UserError
from stages.survey.survey import Survey, take_survey
from tests.records.conftest import CLASSES
from tests.survey.surveys import frozen_of


def survey(frozen, filters) -> Survey:
    return take_survey(frozen, filters=filters, source_groups={}, indexes=[])


def test_a_stage_trains_on_what_its_filter_lets_through(rows) -> None:
    drawn = rows(
        [
            *({"id": f"c/{name}", "label": name, "native_px": 64} for name in CLASSES),
            {"id": "a/1", "native_px": 48},
            {"id": "a/2", "native_px": 100},
            {"id": "a/3", "native_px": 100, "split": "val"},
            {"id": "b/1", "native_px": 100},
            {"id": "b/2", "native_px": 100},
        ]
    )
    filters = {"stageA": Filter(), "stageB": Filter(min_native_px=64)}
    stages = survey(frozen_of(drawn, excluded={"b/2": "twin_in_val"}), filters).stages
    others = {name: found[found["source"] != "c"] for name, found in stages.items()}
    assert {name: list(found["id"]) for name, found in others.items()} == {
        "stageA": ["a/1", "a/2", "b/1"],
        "stageB": ["a/2", "b/1"],
    }


def test_incident_D3_a_stage_that_names_no_source_stops_here(rows) -> None:
    filters = {"stageB": Filter(include_sources=("expw_hq",))}
    with pytest.raises(UserError, match=r"stageB\.filter\.include_sources: no rows .*'expw_hq'"):
        survey(frozen_of(rows([{"id": "expw_lq/1"}])), filters)


def test_a_stage_without_a_class_to_train_on_stops_here(rows) -> None:
    drawn = rows([{"id": f"a/{name}", "label": name, "native_px": 48} for name in CLASSES])
    drawn.loc[drawn["label"] == "Fear", "split"] = "val"
    with pytest.raises(UserError, match=r"stageB\.filter: expected train rows .* \['Fear'\]"):
        survey(frozen_of(drawn), {"stageB": Filter()})

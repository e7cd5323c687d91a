import pytest

from stages.config import Filter
from stages.runtime.errors import UserError
from stages.survey.survey import Survey, require_rows_to_report_on, take_survey
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


def _ask(rows, report: str, *, folds: int = 2, **filters: Filter) -> None:
    require_rows_to_report_on(rows, filters=filters, source_groups={}, report=report, folds=folds)


def _refusal(rows, report: str, *, folds: int = 2, **filters: Filter) -> str:
    with pytest.raises(UserError) as caught:
        _ask(rows, report, folds=folds, **filters)
    return str(caught.value)


def test_reported_no_rows_in_the_split_that_is_reported_on_stop_here(rows) -> None:
    """It was said by calibrate, after the nights of training."""
    drawn = rows(
        [
            {"id": "a/1", "native_px": 100},
            {"id": "a/2", "native_px": 100, "split": "val"},
            {"id": "a/3", "native_px": 100, "split": "val"},
            {"id": "b/4", "native_px": 48, "split": "test"},
        ]
    )
    filters = {"stageA": Filter(), "stageB": Filter(min_native_px=64)}
    # One stage is enough, and its row of test is one that its own filter leaves out.
    assert _refusal(drawn, "test", **filters) == (
        "params.yaml: calibrate.report: test, but stageB.filter leaves no test rows to report on; "
        "it admits {'train': 1, 'val': 2, 'test': 0}; raise manifest.test_share, widen the filter, "
        "or set val_crossfit"
    )
    _ask(drawn, "val_crossfit", **filters)
    three = _refusal(drawn, "val_crossfit", folds=3, **filters)
    assert "expected val rows of 3 groups (calibrate.folds) or more" in three
    # What thins training is no filter of what is reported on.
    _ask(drawn, "test", stageA=Filter(max_per_class=1))


def test_reported_val_rows_that_calibrate_needs_are_asked_for_here(rows) -> None:
    drawn = rows(
        [{"id": "a/1"}, {"id": "a/2", "split": "val"}, {"id": "a/3", "split": "test"}],
    )
    _ask(drawn, "test", stageA=Filter())
    one_group = _refusal(drawn, "val_crossfit", stageA=Filter())
    assert (
        "params.yaml: stageA.filter: expected val rows of 2 groups (calibrate.folds) or more"
        in one_group
    )
    no_val = _refusal(drawn[drawn["split"] != "val"], "test", stageA=Filter(), stageB=Filter())
    assert [line.split(" expected")[0] for line in no_val.splitlines()] == [
        "params.yaml: stageA.filter:",
        "params.yaml: stageB.filter:",
    ]


def test_reported_rows_that_a_teacher_has_learnt_from_are_none_to_report_on(rows) -> None:
    """With `policy: report_only` copies of train rows stay in test."""
    drawn = rows(
        [
            {"id": "a/1", "group": "one"},
            {"id": "a/2", "split": "val"},
            {"id": "a/3", "group": "one", "split": "test"},
        ]
    )
    message = _refusal(drawn, "test", stageA=Filter())
    assert "'test': 1}, 1 of them in groups of train rows" in message

from pathlib import Path

import pytest
from small_faces import small_face, write_faces

from stages.config import CLASSES, Filter
from stages.runtime.errors import UserError
from stages.survey.survey import (
    SourceIndex,
    Survey,
    read_indexes,
    require_rows_to_report_on,
    take_survey,
)
from tests.survey.surveys import frozen_of, specs

COUNTS = {
    "rejects": {"image_missing": 2},
    "crops": {"none": 0, "box": 1, "aligned": 0},
    "boxes_partly_outside": 1,
    "boxes_in_turned_photos": {"stored": 1, "turned": 0},
}


def test_counts_of_each_folder(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_faces(tmp_path / name, [small_face(f"{name}/1")], **COUNTS)
    assert read_indexes(tmp_path) == [SourceIndex(name=name, faces=1, **COUNTS) for name in "ab"]
    index = tmp_path / "a/index.json"
    index.write_text(index.read_text().replace("crops", "cuts"))
    with pytest.raises(
        UserError, match=r"a/index\.json: expected counts of \['crops'\].* standardize"
    ):
        read_indexes(tmp_path)


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
    others = {name: list(train.loc[train["source"] != "c", "id"]) for name, train in stages.items()}
    assert others == {"stageA": ["a/1", "a/2", "b/1"], "stageB": ["a/2", "b/1"]}


def test_incident_D3_a_stage_that_names_no_source_stops_here(rows) -> None:
    filters = {"stageB": Filter(include_sources=("expw_hq",))}
    with pytest.raises(UserError, match=r"stageB\.filter\.include_sources: no rows .*'expw_hq'"):
        survey(frozen_of(rows(specs("expw_lq/1"))), filters)


def test_a_stage_without_a_class_to_train_on_stops_here(rows) -> None:
    drawn = rows(specs(*(f"a/{name} label={name}" for name in CLASSES)))
    drawn.loc[drawn["label"] == "Fear", "split"] = "val"
    with pytest.raises(UserError, match=r"stageB\.filter: expected train rows .* \['Fear'\]"):
        survey(frozen_of(drawn), {"stageB": Filter()})


def _ask(rows, report: str, *, folds: int = 2, **filters: Filter) -> str:
    """The refusal, or nothing."""
    try:
        require_rows_to_report_on(
            rows, filters=filters, source_groups={}, report=report, folds=folds
        )
    except UserError as error:
        return str(error)
    return ""


def test_reported_no_rows_in_the_split_that_is_reported_on_stop_here(rows) -> None:
    """It was said by calibrate, after the nights of training."""
    drawn = rows(specs("a/1", "a/2 split=val", "a/3 split=val", "b/4 split=test"))
    drawn["native_px"] = [100, 100, 100, 48]
    filters = {"stageA": Filter(), "stageB": Filter(min_native_px=64)}
    # One stage is enough, and its row of test is one that its own filter leaves out.
    assert _ask(drawn, "test", **filters) == (
        "params.yaml: calibrate.report: test, but stageB.filter leaves no test rows to report on; "
        "it admits {'train': 1, 'val': 2, 'test': 0}; raise manifest.test_share, widen the filter, "
        "or set val_crossfit"
    )
    assert not _ask(drawn, "val_crossfit", **filters)
    three = _ask(drawn, "val_crossfit", folds=3, **filters)
    assert "expected val rows of 3 groups (calibrate.folds) or more" in three
    # What thins training is no filter of what is reported on.
    assert not _ask(drawn, "test", stageA=Filter(max_per_class=1))


def test_reported_val_rows_that_calibrate_needs_are_asked_for_here(rows) -> None:
    drawn = rows(specs("a/1", "a/2 split=val", "a/3 split=test"))
    assert not _ask(drawn, "test", stageA=Filter())
    needs = "params.yaml: stageA.filter: expected val rows of 2 groups (calibrate.folds) or more"
    assert needs in _ask(drawn, "val_crossfit", stageA=Filter())
    no_val = _ask(drawn[drawn["split"] != "val"], "test", stageA=Filter(), stageB=Filter())
    assert [line.split(" expected")[0] for line in no_val.splitlines()] == [
        "params.yaml: stageA.filter:",
        "params.yaml: stageB.filter:",
    ]


def test_reported_rows_that_a_teacher_has_learnt_from_are_none_to_report_on(rows) -> None:
    """With `policy: report_only` copies of train rows stay in test."""
    drawn = rows(specs("a/1 group=one", "a/2 split=val", "a/3 group=one split=test"))
    message = _ask(drawn, "test", stageA=Filter())
    assert "'test': 1}, 1 of them in groups of train rows" in message

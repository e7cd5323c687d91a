from pathlib import Path
from typing import Any

import pytest
from small_faces import small_face, write_faces

from stages.config import CLASSES, Filter
from stages.runtime.errors import UserError
from stages.survey.survey import (
    SourceIndex,
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
STAGES = {"stageA": Filter(), "stageB": Filter(min_native_px=64)}


def test_counts_of_each_folder(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_faces(tmp_path / name, [small_face(f"{name}/1")], **COUNTS)
    assert read_indexes(tmp_path) == [SourceIndex(name=name, faces=1, **COUNTS) for name in "ab"]
    index = tmp_path / "a/index.json"
    index.write_text(index.read_text().replace("crops", "cuts"))
    expected = r"a/index\.json: expected counts of \['crops'\].* standardize"
    with pytest.raises(UserError, match=expected):
        read_indexes(tmp_path)


def test_incident_D3_a_stage_without_a_source_or_a_class_stops_here(rows) -> None:
    def survey(**rows_of_stage_b: Any) -> None:
        filters = {"stageB": Filter(**rows_of_stage_b)}
        take_survey(frozen_of(drawn), filters=filters, source_groups={}, indexes=[])

    drawn = rows(specs(*(f"a/{name} label={name}" for name in CLASSES)))
    with pytest.raises(UserError, match=r"stageB\.filter\.include_sources: no rows .*'expw_hq'"):
        survey(include_sources=("expw_hq",))
    drawn.loc[drawn["label"] == "Fear", "split"] = "val"
    with pytest.raises(UserError, match=r"stageB\.filter: expected train rows .* \['Fear'\]"):
        survey()


def ask(rows, report: str, *, folds: int = 2, filters=None) -> str:
    """Return the refusal, or nothing."""
    try:
        require_rows_to_report_on(
            rows, filters=filters or STAGES, source_groups={}, report=report, folds=folds
        )
    except UserError as error:
        return str(error)
    return ""


def test_reported_no_rows_in_the_split_that_is_reported_on_stop_here(rows) -> None:
    """It was said by calibrate, after the nights of training."""
    drawn = rows(specs("a/1", "a/2 split=val", "a/3 split=val", "b/4 split=test"))
    drawn["native_px"] = [100, 100, 100, 48]
    # One stage is enough, and its row of test is one that its own filter leaves out.
    assert ask(drawn, "test") == (
        "params.yaml: calibrate.report: test, but stageB.filter leaves no test rows to report on; "
        "it admits {'train': 1, 'val': 2, 'test': 0}; raise manifest.test_share, widen the filter, "
        "or set val_crossfit"
    )
    assert not ask(drawn, "val_crossfit")
    # What thins training is no filter of what is reported on.
    assert not ask(drawn, "test", filters={"stageA": Filter(max_per_class=1)})


def test_reported_val_rows_that_calibrate_needs_are_asked_for_here(rows) -> None:
    drawn = rows(specs("a/1", "a/2 split=val", "a/3 split=test")).assign(native_px=100)
    assert not ask(drawn, "test")
    for key, line in zip(STAGES, ask(drawn, "val_crossfit").splitlines(), strict=True):
        needs = f"{key}.filter: expected val rows of 2 groups (calibrate.folds) or more, by which"
        assert line.startswith(f"params.yaml: {needs}")
    no_val = ask(drawn[drawn["split"] != "val"], "test")
    assert no_val.count("expected val rows, by which the best epoch is chosen") == 2


def test_reported_rows_that_a_teacher_has_learnt_from_are_none_to_report_on(rows) -> None:
    """With `policy: report_only` copies of train rows stay in test."""
    drawn = rows(specs("a/1 group=g", "a/2 split=val", "a/3 group=g split=test"))
    message = ask(drawn, "test", filters={"stageA": Filter()})
    assert "'test': 1}, 1 of them in groups of train rows" in message

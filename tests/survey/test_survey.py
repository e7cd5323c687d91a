from pathlib import Path
from typing import Any

import pytest
from small_faces import small_face, write_faces

from stages.config import CLASSES, Filter
from stages.runtime.errors import UserError
from stages.survey.survey import read_indexes, require_rows_to_report_on, take_survey
from tests.survey.surveys import frozen_of, specs


def test_an_index_without_counts_names_what_makes_it(tmp_path: Path) -> None:
    for name in "ba":
        write_faces(tmp_path / name, [small_face(f"{name}/1")])
    assert list(read_indexes(tmp_path)) == ["a", "b"]
    index = tmp_path / "a/index.json"
    index.write_text(index.read_text().replace("crops", "cuts"))
    with pytest.raises(
        UserError, match=r"a/index\.json: expected counts of \['crops'\].* standard"
    ):
        read_indexes(tmp_path)


def test_incident_D3_a_stage_without_a_source_or_a_class_stops_here(rows) -> None:
    def survey(**rows_of_stage_b: Any) -> None:
        filters = {"stageB": Filter(**rows_of_stage_b)}
        take_survey(frozen_of(drawn), filters=filters, source_groups={}, indexes={})

    drawn = rows(specs(*(f"a/{name} label={name}" for name in CLASSES)))
    with pytest.raises(UserError, match=r"stageB\.filter\.include_sources: no rows .*'expw_hq'"):
        survey(include_sources=("expw_hq",))
    drawn.loc[drawn["label"] == "Fear", "split"] = "val"
    with pytest.raises(UserError, match=r"stageB\.filter: expected train rows .* \['Fear'\]"):
        survey()


LEARNT = ["a/1 group=g", "a/2 split=val", "a/3 group=g split=test"]


@pytest.mark.parametrize(
    ("chosen", "report", "lines", "message"),
    [
        ({}, "test", ["a/1", "a/2 split=val", "a/3 split=test"], ""),
        # Its only test row is one that the filter leaves out.
        (
            {"exclude_sources": ("b",)},
            "test",
            ["a/1", "a/2 split=val", "a/3 split=val", "b/4 split=test"],
            "params.yaml: calibrate.report: test, but stageB.filter leaves no test rows to report "
            "on; it admits {'train': 1, 'val': 2, 'test': 0}; raise manifest.test_share, widen the "
            "filter, or set val_crossfit",
        ),
        ({}, "val_crossfit", ["a/1", "a/2 split=val", "a/3 split=val"], ""),
        # What thins training is no filter of what is reported on.
        ({"max_per_class": 1}, "test", ["a/1", "a/2 split=val", "a/3 split=test"], ""),
        (
            {},
            "val_crossfit",
            ["a/1", "a/2 split=val", "a/3 split=test"],
            "stageB.filter: expected val rows of 2 groups (calibrate.folds) or more, by which the ",
        ),
        ({}, "test", ["a/1", "a/3 split=test"], "expected val rows, by which the best epoch is"),
        # A teacher has learnt from copies of train rows, which `policy: report_only` leaves.
        ({}, "test", LEARNT, "'test': 1}, 1 of them in groups of train rows"),
    ],
)
def test_reported_rows_that_calibrate_needs_are_asked_for_before_the_nights_of_training(
    rows, chosen, report, lines, message
) -> None:
    got = ""
    filters = {"stageB": Filter(**chosen)}
    try:
        require_rows_to_report_on(
            rows(specs(*lines)), filters=filters, source_groups={}, report=report, folds=2
        )
    except UserError as error:
        got = str(error)
    assert message in got
    assert bool(message) == bool(got)

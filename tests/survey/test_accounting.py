import json

import pandas as pd
import pytest
from shipped import shipped

from stages.config import Duplicates, Manifest
from stages.records.native_sizes import BUCKETS
from stages.splitting.frozen import freeze
from stages.survey.accounting import (
    REASONS,
    carved_shares,
    duplicate_free,
    duplicates,
    label_counts,
    leaks,
    report,
    stage_counts,
    stage_line,
    standardized_counts,
    tally,
)
from stages.survey.data_warnings import CODES, DataWarning
from stages.survey.relations import relations
from tests.records.conftest import CLASSES
from tests.survey.surveys import frozen_of, index_of, survey_of

NO_PAIRS = {"pairs": 0, "mirrored": 0, "label_conflicts": 0, "across_splits": 0}


def counted(frozen):
    return duplicates(frozen, relations(frozen.drawn, frozen.duplicates))


def test_exact_duplicates_are_pictures(rows) -> None:
    frame = rows(
        [
            {"id": "a/1", "sha256": "x"},
            {"id": "a/2", "sha256": "x", "label": "Sad"},
            {"id": "b/1", "sha256": "x", "label": "Fear", "split": "val"},
            {"id": "b/2", "sha256": "y", "split": "test", "group": "y"},
            {"id": "c/1", "sha256": "y", "split": "test", "group": "y"},
            {"id": "c/2", "sha256": "z"},
        ]
    )
    assert counted(frozen_of(frame)) == {
        "exact": {
            "pictures": 2,
            "redundant_rows": 3,
            "label_conflicts": 1,
            "across_splits": 1,
            "by_sources": {"a+a": 1, "a+b": 1, "b+c": 1},
        },
        "near": NO_PAIRS | {"by_sources": {}},
        "review": NO_PAIRS,
        "label_conflict_share": 0.5,
        "largest_group_rows": 2,
    }


def test_near_duplicates_are_pairs_and_review_is_apart(rows) -> None:
    frame = rows(
        [
            {"id": "a/1"},
            {"id": "a/2", "label": "Sad"},
            {"id": "b/1", "split": "val"},
            {"id": "b/2"},
        ]
    )
    near = [
        ("a/1", "b/1", {"mirrored": "true"}),
        ("a/2", "b/2", {}),
        ("a/1", "b/2", {}),
    ]
    counts = counted(frozen_of(frame, near=near, review=[("b/1", "b/2", {})]))
    assert counts["near"] == {
        "pairs": 3, "mirrored": 1, "label_conflicts": 1, "across_splits": 1, "by_sources": {"a+b": 3},
    }  # fmt: skip
    assert counts["review"] == NO_PAIRS | {"pairs": 1, "across_splits": 1}
    assert counts["label_conflict_share"] == 0.3333
    assert counts["exact"]["pictures"] == 0


def test_nothing_repeats(rows) -> None:
    counts = counted(frozen_of(rows([{"id": "a/1"}, {"id": "a/2"}])))
    assert counts["exact"]["by_sources"] == counts["near"]["by_sources"] == {}
    assert counts["label_conflict_share"] == 0.0
    assert counts["largest_group_rows"] == 1


def test_leaks_are_groups_and_rows(rows) -> None:
    frame = rows(
        [
            {"id": "a/1", "group": "g"},
            {"id": "a/2", "group": "g", "split": "test"},
            {"id": "a/3", "group": "g", "split": "test"},
            {"id": "a/4", "group": "h", "split": "test"},
            {"id": "a/5", "group": "h", "split": "val"},
        ]
    )
    assert leaks(frame) == {
        "train_val_groups": 0,
        "train_test_groups": 1,
        "val_test_groups": 1,
        "val_rows_with_kin_in_train": 0,
        "test_rows_with_kin_in_train": 2,
    }


def test_a_name_that_is_not_counted_is_a_mistake() -> None:
    assert tally(pd.Series(["a", "b", "a"]), ("a", "b", "c")) == {"a": 2, "b": 1, "c": 0}
    with pytest.raises(AssertionError, match="expected only"):
        tally(pd.Series(["a", "b"]), ("a",))


def test_label_counts_have_every_label(rows) -> None:
    frame = rows([{"id": "a/1"}, {"id": "a/2"}, {"id": "b/1", "label": "Sad", "split": "val"}])
    nothing = dict.fromkeys(CLASSES, 0)
    assert label_counts(frame) == {
        "a": {"train": nothing | {"Happy": 2}},
        "b": {"val": nothing | {"Sad": 1}},
    }


def test_the_duplicate_free_part_of_each_test(rows) -> None:
    frame = rows(
        [
            {"id": "a/1", "split": "test", "twin_splits": "train"},
            {"id": "a/2", "split": "test", "twin_splits": "train+val"},
            {"id": "a/3", "split": "test"},
            {"id": "a/4", "split": "val"},
            {"id": "b/1", "split": "val", "twin_splits": "train"},
            {"id": "b/2", "twin_splits": "val"},
        ]
    )
    assert duplicate_free(frame) == {
        "a": {"test": {"rows": 3, "duplicate_free": 1}, "val": {"rows": 1, "duplicate_free": 1}},
        "b": {"val": {"rows": 1, "duplicate_free": 0}},
    }


def test_carved_shares_leave_out_sources_with_a_split_of_their_own(rows) -> None:
    own = [{"id": f"own/{i}", "split": "test", "official": "test"} for i in range(5)]
    carved = [
        {"id": f"s/{label}{i}", "label": label, "split": split}
        for label, splits in {"Sad": "test test train val", "Fear": "test train train"}.items()
        for i, split in enumerate(splits.split())
    ]
    shares = carved_shares(rows([*own, *carved]))
    assert shares["test"] == {"Fear": 0.3333, "Sad": 0.5}
    assert shares["val"] == {"Fear": 0.0, "Happy": 0.0, "Sad": 0.25}


def test_a_stage_by_class_source_and_native_size(rows) -> None:
    frame = rows(
        [
            {"id": "a/1"},
            {"id": "b/1", "native_px": 100, "label": "Sad"},
            {"id": "b/2", "native_px": 20},
        ]
    )
    counts = stage_counts(frame)
    assert counts["train_rows"] == 3
    assert counts["classes"] == dict.fromkeys(CLASSES, 0) | {"Happy": 2, "Sad": 1}
    assert counts["sources"] == {"a": 1, "b": 2}
    sizes = {"lt32": 1, "48_63": 1, "96_127": 1}
    assert counts["native_px"] == dict.fromkeys(BUCKETS, 0) | sizes
    assert stage_line(frame) == "3 train rows; native size lt32 px 1, 48_63 px 1, 96_127 px 1"


def test_report_tells_before_and_after(faces, one_of_each_class) -> None:
    twins = [
        {"id": f"s/{split}", "split": split, "sha256": "0" * 64} for split in ("train", "test")
    ]
    unsplit = [{"id": f"u/{i}"} for i in range(50)]
    build = faces([*one_of_each_class, *twins, *unsplit])
    section = shipped(Manifest, val_share=0.2, test_share=0.2)
    files = {"excluded.csv": {"sha256": "f" * 64, "rows": 1, "gate": False}}
    survey = survey_of(freeze(build, section=section, seed=1))
    content = report(survey, warnings=[], files=files)["manifest"]
    assert content["rows"]["official"] == {"train": 8, "val": 1, "test": 2, "unsplit": 50}
    assert sum(content["rows"]["carved"].values()) == 61
    assert content["rows"]["carved"]["test"] > 2
    assert sum(content["rows"]["final"].values()) == 60
    assert content["leaks"]["found"]["train_test_groups"] == 1
    assert content["leaks"]["excluded"] == dict.fromkeys(REASONS, 0) | {"twin_in_test": 1}
    assert set(content["leaks"]["left"].values()) == {0}
    assert content["duplicate_free"]["s"] == {"test": {"rows": 1, "duplicate_free": 0}}
    assert content["official"]["u"]["unsplit"]["Happy"] == 50
    assert "unsplit" not in content["final"]["u"]
    assert content["files"] == {"excluded": {"rows": 1, "sha256": "f" * 64}}
    lenient = section.model_copy(update={"duplicates": shipped(Duplicates, policy="report_only")})
    left = report(survey_of(freeze(build, section=lenient, seed=1)), warnings=[], files=files)
    assert left["manifest"]["leaks"]["left"]["test_rows_with_kin_in_train"] == 1


@pytest.mark.parametrize("policy", ["drop_from_train", "keep_one", "report_only"])
def test_every_reason_of_every_policy_is_counted(faces, one_of_each_class, policy) -> None:
    several = [
        {"id": f"s/{split}{number}", "split": split, "photo": photo, "sha256": pixel * 64}
        for split in ("train", "val", "test")
        for number, (photo, pixel) in enumerate([("p", "0"), ("p", "1"), ("q", "2"), ("q", "0")])
    ]
    section = shipped(Manifest, duplicates=shipped(Duplicates, policy=policy))
    frozen = freeze(faces([*one_of_each_class, *several]), section=section, seed=1)
    content = report(survey_of(frozen), warnings=[], files={})["manifest"]
    assert sum(content["leaks"]["excluded"].values()) == len(frozen.excluded)
    assert sum(content["rows"]["final"].values()) + len(frozen.excluded) == len(frozen.drawn)
    assert (len(frozen.excluded) > 0) == (policy != "report_only")


def test_the_report_is_json_and_its_keys_do_not_depend_on_the_data(rows) -> None:
    drawn = rows([{"id": f"a/{name}", "label": name, "split": "test"} for name in CLASSES])
    warnings = [DataWarning("few_rows", "a test", ""), DataWarning("few_rows", "all test", "")]
    indexes = [index_of("a", rejects={"box_empty": 3})]
    first = survey_of(frozen_of(drawn), stages=["stageA", "stageB"], indexes=indexes)
    files = {"tests.csv": {"sha256": "f", "rows": 7, "gate": False}}
    content = report(first, warnings=warnings, files=files)["manifest"]
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["warnings"] == dict.fromkeys(CODES, 0) | {"few_rows": 2}
    assert content["native_px"]["a"] == dict.fromkeys(BUCKETS, 0) | {"48_63": 7}
    assert set(content["stages"]) == {"stageA", "stageB"}
    assert content["standardized"]["a"] == standardized_counts(indexes[0])
    assert content["standardized"]["a"]["rejects"] == {"box_empty": 3}
    assert content["files"]["tests"]["classes"] == dict.fromkeys(CLASSES, 1)
    other = rows([{"id": f"a/{i}", "sha256": "0"} for i in range(2)])
    again = report(survey_of(frozen_of(other)), warnings=[], files={})["manifest"]
    assert set(again) == set(content)
    for part in ("rows", "warnings", "leaks", "duplicates"):
        assert set(again[part]) == set(content[part])

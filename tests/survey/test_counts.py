import pandas as pd
import pytest
from shipped import shipped

from stages.config import CLASSES, Duplicates, Manifest
from stages.runtime.files import write_csv
from stages.splitting.frozen import freeze
from stages.survey.counts import (
    REASONS,
    carved_shares,
    count,
    duplicate_free,
    leaks,
    native_px_counts,
    plot_tables,
    row_counts,
    stage_line,
    summarize,
)
from tests.survey.surveys import frozen_of, index_of, specs, survey_of


def test_exact_duplicates_are_pictures_near_ones_pairs_and_review_is_apart(rows) -> None:
    frame = rows(
        specs(
            *("a/1 sha256=x", "a/2 sha256=x label=Sad", "b/1 sha256=x split=val"),
            *("b/2 sha256=y split=test group=y", "c/1 sha256=y split=test group=y"),
            *("d/1", "d/2 label=Sad", "d/3 split=val"),
        )
    )
    near = [("d/1", "d/3", {"mirrored": "true"}), ("d/1", "d/2", {})]
    counts = count(frozen_of(frame, near=near, review=[("d/2", "d/3", {})]))
    assert {
        part: value for (subject, part), value in counts.items() if subject == "duplicates"
    } == {
        "exact": {"pictures": 2, "redundant_rows": 3, "label_conflicts": 1, "across_splits": 1},
        "near": {"pairs": 2, "mirrored": 1, "label_conflicts": 1, "across_splits": 1},
        "review": {"pairs": 1, "mirrored": 0, "label_conflicts": 1, "across_splits": 1},
        "all": {"compared": 4, "label_conflicts": 2, "largest_group_rows": 2},
    }
    frame.loc[0, "split"] = "trian"
    with pytest.raises(AssertionError, match="expected only"):
        count(frozen_of(frame))


def test_leaks_are_groups_and_rows(rows) -> None:
    in_groups = ["train g", "test g", "test g", "test h", "val h", "train i", "val i", "test i"]
    places = enumerate(spec.split() for spec in in_groups)
    frame = rows({"id": f"a/{n}", "split": split, "group": group} for n, (split, group) in places)
    assert leaks(frame) == {
        "groups": 3,
        "train_val_groups": 1,
        "train_test_groups": 2,
        "val_test_groups": 2,
        "val_rows_with_kin_in_train": 1,
        "test_rows_with_kin_in_train": 3,
    }


def test_the_duplicate_free_part_of_each_test(rows) -> None:
    frame = rows(
        specs(
            *("a/1 split=test twin_splits=train", "a/2 split=test twin_splits=train+val"),
            *("a/3 split=test", "a/4 split=val", "b/1 split=val twin_splits=train"),
            "b/2 twin_splits=val",
        )
    )
    expected = [["a", "test", 3, 1], ["a", "val", 1, 1], ["b", "val", 1, 0]]
    assert duplicate_free(frame).to_numpy().tolist() == expected


def test_carved_shares_leave_out_sources_with_a_split_of_their_own(rows) -> None:
    own = [{"id": f"own/{i}", "split": "test", "official": "test"} for i in range(5)]
    carved = [
        {"id": f"s/{label}{i}", "label": label, "split": split}
        for label, splits in {"Sad": "test test train val", "Fear": "test train train"}.items()
        for i, split in enumerate(splits.split())
    ]
    val = [["val", "Fear", 0.0], ["val", "Happy", 0.0], ["val", "Sad", 0.25]]
    expected = [*val, ["test", "Fear", 0.3333], ["test", "Sad", 0.5]]
    assert carved_shares(rows([*own, *carved])).to_numpy().tolist() == expected


def test_rows_have_each_class_of_each_split_in_its_order(rows) -> None:
    frame = rows(specs("b/1 split=test label=Sad", "b/2 label=Fear", "a/1 split=val", "a/2", "a/3"))
    table = row_counts(frame)
    places = [("a", "train"), ("a", "val"), ("b", "train"), ("b", "test")]
    assert list(zip(table["source"], table["split"], table["label"], strict=True)) == [
        (*place, name) for place in places for name in CLASSES
    ]
    filled = table.loc[table["rows"] > 0, ["label", "rows"]].to_numpy().tolist()
    assert filled == [["Happy", 2], ["Happy", 1], ["Fear", 1], ["Sad", 1]]


def test_incident_D4_small_faces_of_a_stage_show_by_source(rows) -> None:
    small = [{"id": f"fer2013_uniform/{i}", "native_px": 48} for i in range(3)]
    drawn = rows([*small, {"id": "rafdb_basic/1", "native_px": 100}])
    table = native_px_counts({"stageB": drawn})
    assert len(table) == 2 * 9
    assert table[table["rows"] > 0].to_numpy().tolist() == [
        ["stageB", "fer2013_uniform", "48_63", 3],
        ["stageB", "rafdb_basic", "96_127", 1],
    ]
    assert stage_line(drawn) == "4 train rows; native size 48_63 px 3, 96_127 px 1"


def test_tables_agree_with_each_other_and_with_the_metrics(rows, tmp_path) -> None:
    drawn = rows([{"id": f"{source}/{i}", "sha256": f"{i}"} for source in "ab" for i in range(3)])
    drawn.loc[drawn["id"] == "b/0", "split"] = "test"
    frozen = frozen_of(drawn, near=[("a/0", "a/1", {})], excluded={"b/2": "twin_in_test"})
    indexes = [index_of("a", rejects={"b_box": 1, "a_box": 2}), index_of("b")]
    survey, counts = survey_of(frozen, indexes=indexes), count(frozen)
    for name, table in plot_tables(survey, counts).items():
        write_csv(tmp_path / f"{name}.csv", table)
    tables = {path.stem: pd.read_csv(path) for path in tmp_path.iterdir()}
    assert tables["rows"]["rows"].sum() == len(frozen.rows) == 5
    assert set(tables["official_rows"]["split"]) == {"unsplit"}
    assert tables["official_rows"]["rows"].sum() == 6
    sizes = tables["native_px"].groupby("selection")["rows"].sum()
    assert sizes.to_dict() == {"manifest": 5, "stageA": 4}
    selected = tables["selections"].groupby(["kind", "name"])["rows"].sum()
    assert selected.to_dict() == {("stage", "stageA"): 4, ("view", "tests"): 1}
    pairs = tables["duplicates"].set_index(["source_a", "source_b", "kind"])["pairs"]
    near = {("a", "a", "near"): 1, ("a", "b", "near"): 2, ("b", "b", "near"): 1}
    assert pairs.to_dict() == {("a", "b", "exact"): 3} | near
    assert tables["rejects"].to_numpy().tolist() == [["a", "a_box", 2], ["a", "b_box", 1]]
    faces = [["a", 100, 3, 100, 0, 0, 0], ["b", 100, 0, 100, 0, 0, 0]]
    assert tables["standardized"].to_numpy().tolist() == faces
    files = {f"{name}.csv": {"sha256": name} for name in ("classification_manifest", "tests")}
    (content,) = summarize(survey, counts, files=files, num_warnings=4).values()
    duplicates = {"exact_pictures": 3, "near_pairs": 1, "review_pairs": 0, "label_conflicts": 0}
    assert content == {
        "sha256": {"classification_manifest": "classification_manifest", "tests": "tests"},
        "rows": {"train": 4, "val": 0, "test": 1},
        "excluded": 1,
        "duplicates": duplicates,
        "leaks_found": {"groups": 0, "rows_with_kin_in_train": 0},
        "leaks_left": {"groups": 0, "rows_with_kin_in_train": 0},
        "rejects": 3,
        "warnings": 4,
        "sources": {"a": 3, "b": 2},
    }


@pytest.mark.parametrize("policy", ["drop_from_train", "keep_one", "report_only"])
def test_every_reason_of_every_policy_is_counted(faces, one_of_each_class, policy) -> None:
    several = [
        {"id": f"s/{split}{number}", "split": split, "photo": photo, "sha256": pixel * 64}
        for split in ("train", "val", "test")
        for number, (photo, pixel) in enumerate([("p", "0"), ("p", "1"), ("q", "2"), ("q", "0")])
    ]
    section = shipped(Manifest, duplicates=shipped(Duplicates, policy=policy))
    frozen = freeze(faces([*one_of_each_class, *several]), section=section, seed=1)
    counts = count(frozen)
    assert list(counts["leaks", "excluded"]) == list(REASONS)
    assert sum(counts["leaks", "excluded"].values()) == len(frozen.excluded)
    assert sum(counts["rows", "final"].values()) + len(frozen.excluded) == len(frozen.drawn)
    assert (len(frozen.excluded) > 0) == (policy != "report_only")
    assert counts["leaks", "found"]["groups"] == 1
    assert counts["leaks", "left"]["groups"] == (policy == "report_only")

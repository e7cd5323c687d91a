import pandas as pd
import pytest

from stages.config import CLASSES
from stages.runtime.files import write_csv
from stages.survey.counts import count, plot_tables, summarize
from tests.survey.surveys import frozen_of, index_of, specs, survey_of


def test_exact_duplicates_are_pictures_near_ones_pairs_and_review_is_apart(rows) -> None:
    frame = rows(
        specs(
            *("a/1 sha256=x", "a/2 sha256=x label=Sad", "b/1 sha256=x split=val"),
            *("b/2 sha256=y split=test group=y", "c/1 sha256=y split=test group=y"),
            *("d/1", "d/2 label=Sad", "d/3 split=val"),
        )
    )
    near = [("d/1", "d/3", 0.95, True), ("d/1", "d/2", 0.95, False)]
    counts = count(frozen_of(frame, near=near, review=[("d/2", "d/3", 0.91, False)]))
    assert {part: value for (about, part), value in counts.items() if about == "duplicates"} == {
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
    assert count(frozen_of(frame))["leaks", "left"] == {
        "groups": 3,
        "train_val_groups": 1,
        "train_test_groups": 2,
        "val_test_groups": 2,
        "val_rows_with_kin_in_train": 1,
        "test_rows_with_kin_in_train": 3,
    }


def test_shares_of_duplicate_free_and_of_carved_rows(rows) -> None:
    """Carved shares leave out sources with a split of their own."""
    frozen = frozen_of(
        rows(
            specs(
                *("a/1 split=test twin_splits=train", "a/2 split=test twin_splits=train+val"),
                *("a/3 split=test label=Sad", "a/4 split=val", "a/5 label=Sad twin_splits=val"),
                *("b/1 split=val official=val twin_splits=train", "b/2 twin_splits=val"),
            )
        )
    )
    tables = plot_tables(survey_of(frozen), count(frozen))
    free, carved = (
        tables[name].to_numpy().tolist() for name in ("duplicate_free", "carved_shares")
    )
    assert free == [["a", "test", 3, 1], ["a", "val", 1, 1], ["b", "val", 1, 0]]
    assert carved[:2] == [["val", "Happy", 0.3333], ["val", "Sad", 0.0]]
    assert carved[2:] == [["test", "Happy", 0.4], ["test", "Sad", 0.5]]


def test_tables_agree_with_each_other_and_with_the_metrics(rows, tmp_path) -> None:
    drawn = rows([{"id": f"{source}/{i}", "sha256": f"{i}"} for source in "ab" for i in range(3)])
    drawn.loc[drawn["id"] == "b/0", "split"] = "test"
    near = [("a/0", "a/1", 0.95, False)]
    frozen = frozen_of(drawn, near=near, excluded={"b/2": "twin_in_test"})
    indexes = {"a": index_of(rejects={"b_box": 1, "a_box": 2}), "b": index_of()}
    survey, counts = survey_of(frozen, indexes=indexes), count(frozen)
    for name, table in plot_tables(survey, counts).items():
        write_csv(tmp_path / f"{name}.csv", table)
    tables = {path.stem: pd.read_csv(path) for path in tmp_path.iterdir()}
    places = [("a", "train"), ("b", "train"), ("b", "test")]
    assert tables["rows"].to_numpy().tolist() == [
        [*place, label, number if label == "Happy" else 0]
        for place, number in zip(places, (3, 1, 1), strict=True)
        for label in CLASSES
    ]
    assert set(tables["official_rows"]["split"]) == {"unsplit"}
    assert tables["official_rows"]["rows"].sum() == 6
    sizes = tables["native_px"].groupby("selection")["rows"].sum()
    assert sizes.to_dict() == {"manifest": 5, "stageA": 4}
    selected = tables["selections"].groupby(["kind", "name"])["rows"].sum()
    assert selected.to_dict() == {("stage", "stageA"): 4, ("view", "tests"): 1}
    near = [["a", "a", "near", 1, 1.0], ["a", "b", "near", 2, 1.0], ["b", "b", "near", 1, 1.0]]
    exact = ["a", "b", "exact", 3, 1.0]
    assert sorted(tables["duplicates"].to_numpy().tolist()) == sorted([*near, exact])
    assert tables["rejects"].to_numpy().tolist() == [["a", "a_box", 2], ["a", "b_box", 1]]
    faces = [["a", 100, 3, 100, 0, 0, 0], ["b", 100, 0, 100, 0, 0, 0]]
    assert tables["standardized"].to_numpy().tolist() == faces
    hashes = {name: name.upper() for name in ("classification_manifest", "tests")}
    files = {f"{name}.csv": {"sha256": digest} for name, digest in hashes.items()}
    no_leaks = {"groups": 0, "rows_with_kin_in_train": 0}
    found = {"exact_pictures": 3, "near_pairs": 1, "review_pairs": 0, "label_conflicts": 0}
    assert summarize(survey, counts, files=files, num_warnings=4)["manifest"] == {
        "sha256": hashes,
        "rows": {"train": 4, "val": 0, "test": 1},
        "excluded": 1,
        "duplicates": found,
        "leaks_found": no_leaks,
        "leaks_left": no_leaks,
        "rejects": 3,
        "warnings": 4,
        "sources": {"a": 3, "b": 2},
    }

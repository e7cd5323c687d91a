from stages.config import Manifest
from stages.records.accounting import copies, label_counts, leaks, report
from stages.records.frozen import freeze


def test_copies_are_pictures(rows) -> None:
    frame = rows(
        [
            {"id": "a/1", "sha256": "x"},
            {"id": "a/2", "sha256": "x", "label": "Sad"},
            {"id": "b/1", "sha256": "x", "label": "Fear", "split": "val"},
            {"id": "b/2", "sha256": "y", "split": "test"},
            {"id": "c/1", "sha256": "y", "split": "test"},
            {"id": "c/2", "sha256": "z"},
        ]
    )
    assert copies(frame) == {
        "pictures": 2,
        "redundant_rows": 3,
        "label_conflicts": 1,
        "across_splits": 1,
        "by_sources": {"a+a": 1, "a+b": 1, "b+c": 1},
    }


def test_nothing_repeats(rows) -> None:
    counts = copies(rows([{"id": "a/1"}, {"id": "a/2"}]))
    assert counts == {
        "pictures": 0,
        "redundant_rows": 0,
        "label_conflicts": 0,
        "across_splits": 0,
        "by_sources": {},
    }


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


def test_label_counts_have_every_label(rows) -> None:
    frame = rows([{"id": "a/1"}, {"id": "a/2"}, {"id": "b/1", "label": "Sad", "split": "val"}])
    nothing = dict.fromkeys(("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral"), 0)
    assert label_counts(frame) == {
        "a": {"train": nothing | {"Happy": 2}},
        "b": {"val": nothing | {"Sad": 1}},
    }


def test_report_tells_before_and_after(faces, one_of_each_class) -> None:
    twins = [
        {"id": f"s/{split}", "split": split, "sha256": "0" * 64} for split in ("train", "test")
    ]
    unsplit = [{"id": f"u/{i}"} for i in range(50)]
    build = faces([*one_of_each_class, *twins, *unsplit])
    section = Manifest(val_share=0.2, test_share=0.2)
    files = {"excluded.csv": {"sha256": "f" * 64, "rows": 1, "gate": False}}
    content = report(freeze(build, section=section, seed=1), files=files)["manifest"]
    assert content["rows"]["official"] == {"train": 8, "val": 1, "test": 2, "unsplit": 50}
    assert sum(content["rows"]["carved"].values()) == 61
    assert content["rows"]["carved"]["test"] > 2
    assert sum(content["rows"]["final"].values()) == 60
    assert content["leaks"]["found"]["train_test_groups"] == 1
    assert content["leaks"]["excluded"] == {
        "twin_in_test": 1,
        "twin_in_val": 0,
        "group_in_test": 0,
        "group_in_val": 0,
    }
    assert set(content["leaks"]["left"].values()) == {0}
    assert content["official"]["u"]["unsplit"]["Happy"] == 50
    assert "unsplit" not in content["final"]["u"]
    assert content["files"] == {"excluded": {"rows": 1, "sha256": "f" * 64}}
    open_leaks = freeze(build, section=section.model_copy(update={"copies": "report_only"}), seed=1)
    assert (
        report(open_leaks, files=files)["manifest"]["leaks"]["left"]["test_rows_with_kin_in_train"]
        == 1
    )

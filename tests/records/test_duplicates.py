from stages.records.duplicates import copy_pairs


def test_n_copies_make_n_minus_one_pairs_with_the_first(rows) -> None:
    frame = rows(
        [
            {"id": "a/1", "sha256": "x"},
            {"id": "a/2", "sha256": "y"},
            {"id": "b/1", "sha256": "x", "label": "Sad", "split": "val", "group": "a/1"},
            {"id": "c/1", "sha256": "x", "split": "test", "group": "a/1"},
            {"id": "c/2", "sha256": "z"},
        ]
    )
    assert copy_pairs(frame).to_numpy().tolist() == [
        ["a/1", "b/1", "a/1", "exact", "false", "train", "val"],
        ["a/1", "c/1", "a/1", "exact", "true", "train", "test"],
    ]


def test_no_copies_is_an_empty_table_with_its_columns(rows) -> None:
    pairs = copy_pairs(rows([{"id": "a/1"}, {"id": "a/2"}]))
    assert pairs.empty
    assert list(pairs.columns) == [
        "id_a",
        "id_b",
        "group",
        "kind",
        "same_label",
        "split_a",
        "split_b",
    ]

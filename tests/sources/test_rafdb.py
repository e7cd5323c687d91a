import pytest

from stages.config import RafdbCompoundSource, RafdbSource
from stages.runtime.errors import UserError
from stages.sources.face import Candidate, Reject
from stages.sources.formats import read_source

SOURCE = RafdbSource(format="rafdb_basic", path="rafdb")
COMPOUND = RafdbCompoundSource(format="rafdb_compound_mapped", path="compound")


def rows_of(tree, source=SOURCE):
    return list(read_source(tree, name=source.format, source=source))


def test_codes_and_splits_of_the_list(make_tree):
    labels = ["Surprise", "Fear", "Disgust", "Happy", "Sad", "Angry", "Neutral"]
    files = {f"basic/Image/aligned/train_0000{code}_aligned.jpg": b"x" for code in range(1, 8)}
    files["basic/Image/aligned/aligned/test_0001_aligned.JPG"] = b"x"
    files["basic/Image/original/train_00001.jpg"] = b"not a row: aligned pictures are there"
    lines = [f"train_0000{code}.jpg {code}" for code in range(1, 8)] + ["test_0001.jpg\t4"]
    files["basic/EmoLabel/list_patition_label.txt"] = "\r\n".join(lines)
    rows = rows_of(make_tree(files))
    assert [row.label for row in rows] == [*labels, "Happy"]
    assert [row.split for row in rows] == ["train"] * 7 + ["test"]
    assert rows[-1].id == rows[-1].photo == "rafdb_basic/test_0001"
    assert rows[-1].member == "basic/Image/aligned/aligned/test_0001_aligned.JPG"


def test_a_compound_emotion_counts_as_the_first_of_its_pair(make_tree):
    labels = ["Happy"] * 2 + ["Sad"] * 4 + ["Fear"] * 2 + ["Angry"] * 2 + ["Disgust"]
    files = {f"Image/aligned/train_{code}_aligned.jpg": b"x" for code in range(1, 13)}
    lines = [f"train_{code}.jpg {code}" for code in range(1, 13)]
    files["EmoLabel/list_patition_label.txt"] = "\n".join(lines)
    *rows, wrong = rows_of(make_tree(files), COMPOUND)
    assert [row.label for row in rows] == labels
    assert rows[10].id == "rafdb_compound_mapped/train_11"
    assert (wrong.reason, wrong.detail) == ("label_invalid", "expected 1 to 11, got '12'")


def test_compound_emotions_in_kaggle_folders(make_tree):
    tree = make_tree({"DATASET/train/11/train_1_aligned.jpg": b"x", "DATASET/test/7/x.jpg": b"x"})
    assert [(row.id, row.label, row.split) for row in rows_of(tree, COMPOUND)] == [
        ("rafdb_compound_mapped/x", "Fear", "test"),
        ("rafdb_compound_mapped/train_1", "Disgust", "train"),
    ]


def test_a_picture_with_two_labels_is_no_face(make_tree):
    lines = ["train_1.jpg 1", "train_2.jpg 2", "TRAIN_1.jpg 5", "train_1.jpg 1"]
    files = {f"aligned/train_{n}_aligned.jpg": b"x" for n in (1, 2)}
    rows = rows_of(make_tree({**files, "list_patition_label.txt": "\n".join(lines)}))
    assert [getattr(row, "reason", "face") for row in rows] == [
        "label_contradictory", "face", "label_contradictory", "label_contradictory",
    ]  # fmt: skip
    assert rows[0].detail == (
        "aligned/train_1_aligned.jpg: Surprise (train) in list_patition_label.txt:1, "
        "Sad (train) in list_patition_label.txt:3, Surprise (train) in list_patition_label.txt:4"
    )


def test_original_pictures_serve_where_no_aligned_ones_are(make_tree, caplog):
    tree = make_tree(
        {"Image/original/test_1.jpg": b"x", "list_partition_label.txt": "test_1.jpg 1\n"}
    )
    assert rows_of(tree) == [
        Candidate(
            row="list_partition_label.txt:1",
            id="rafdb_basic/test_1",
            member="Image/original/test_1.jpg",
            label="Surprise",
            split="test",
            photo="rafdb_basic/test_1",
        )
    ]
    assert "native_px is the photo's" in caplog.text


def test_every_row_that_is_no_face_says_why(make_tree):
    lines = [
        "train_1.jpg 1",
        "train_1.jpg 1",
        "train_2.jpg",
        "train_3.jpg 8",
        "tarin_4.jpg 1",
        "train_5.jpg 1",
    ]
    files = {f"Image/aligned/train_{n}_aligned.jpg": b"x" for n in (1, 3, 6)}
    rows = rows_of(make_tree({**files, "EmoLabel/list_patition_label.txt": "\n".join(lines)}))
    assert len(rows) == len(lines) + 1
    assert [(row.row.split(":")[-1], row.reason) for row in rows if isinstance(row, Reject)] == [
        ("2", "row_repeated"),
        ("3", "row_malformed"),
        ("4", "label_invalid"),
        ("5", "row_malformed"),
        ("6", "image_missing"),
        ("Image/aligned/train_6_aligned.jpg", "label_missing"),
    ]


def test_kaggle_folders_give_the_same_ids_as_the_list(make_tree):
    tree = make_tree(
        {
            "DATASET/train/4/train_00001_aligned.jpg": b"x",
            "DATASET/test/9/test_0001_aligned.jpg": b"x",
            "train_labels.csv": "image,label",
        }
    )
    wrong, right = rows_of(tree)
    assert (right.id, right.label, right.split) == ("rafdb_basic/train_00001", "Happy", "train")
    assert (wrong.row, wrong.reason) == ("DATASET/test/9/test_0001_aligned.jpg", "label_invalid")


def test_a_list_without_pictures_is_an_error(make_tree):
    with pytest.raises(UserError, match=r"source rafdb_basic: expected pictures"):
        rows_of(make_tree({"list_patition_label.txt": "train_1.jpg 1"}))


def test_a_list_that_is_not_utf8_is_an_error(make_tree):
    tree = make_tree({"list_patition_label.txt": b"\xff\xfe", "aligned/a_aligned.jpg": b"x"})
    with pytest.raises(UserError, match=r"list_patition_label.txt: expected text in UTF-8"):
        rows_of(tree)

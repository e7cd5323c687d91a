import pytest

from stages.config import RafmlSource
from stages.runtime.errors import UserError
from stages.sources.face import Candidate, Reject
from stages.sources.formats import read_source

SOURCE = RafmlSource(format="rafml_argmax", path="rafml")


def rows_of(tree):
    return list(read_source(tree, name="rafml", source=SOURCE))


def dataset(shares: list[str], parts: list[str], *, pictures: int):
    return {
        **{f"Image/aligned/000{n}_aligned.jpg": b"x" for n in range(1, pictures + 1)},
        "EmoLabel/distribution.txt": "\n".join(shares),
        "EmoLabel/partition_label.txt": "\n".join(parts),
    }


def test_the_largest_share_is_the_label_and_shares_are_votes_in_canonical_order(make_tree):
    shares = ["0001.jpg 0.1 0.2 0.3 0.05 0.15 0.2", "0002.jpg\t0\t0\t0\t0\t0.4\t0.6"]
    tree = make_tree(dataset(shares, ["0002.jpg 1", "0001.jpg 0"], pictures=2))
    assert rows_of(tree) == [
        Candidate(
            row="EmoLabel/distribution.txt:1",
            id="rafml/0001",
            member="Image/aligned/0001_aligned.jpg",
            label="Disgust",
            split="train",
            photo="rafml/0001",
            votes=(0.2, 0.3, 0.2, 0.05, 0.15, 0.1, 0.0),
        ),
        Candidate(
            row="EmoLabel/distribution.txt:2",
            id="rafml/0002",
            member="Image/aligned/0002_aligned.jpg",
            label="Angry",
            split="test",
            photo="rafml/0002",
            votes=(0.6, 0.0, 0.0, 0.0, 0.4, 0.0, 0.0),
        ),
    ]


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ("0.4 0.4 0.2 0 0 0", "no_majority"),
        ("0 0 0 0 0 0", "row_malformed"),
        ("1.1 -0.1 0 0 0 0", "row_malformed"),
        ("nan 0 0 0 0 1", "row_malformed"),
        ("inf 0 0 0 0 1", "row_malformed"),
        ("1e30 0 0 0 0 1", "row_malformed"),
        ("1 0 0 0 0", "row_malformed"),
        ("x 0 0 0 0 1", "row_malformed"),
    ],
)
def test_shares_without_a_winner(make_tree, numbers, reason):
    (row,) = rows_of(make_tree(dataset([f"0001.jpg {numbers}"], ["0001.jpg 0"], pictures=1)))
    assert row.reason == reason


def test_every_row_that_is_no_face_says_why(make_tree):
    one = "1 0 0 0 0 0"
    shares = [f"{name}.jpg {one}" for name in ("0001", "0002", "0003", "0004", "0004", "0009")]
    parts = [
        "0001.jpg 0",
        "0001.jpg 0",  # again
        "0003.jpg 0",
        "0003.jpg 1",  # and the other split
        "0004.JPG 1",
        "0005.jpg 1",  # without shares
        "0006.jpg 2",
        "0009.jpg 0",
    ]
    rows = rows_of(make_tree(dataset(shares, parts, pictures=7)))
    table, partition = "EmoLabel/distribution.txt", "EmoLabel/partition_label.txt"
    assert [(row.row, getattr(row, "reason", "face")) for row in rows] == [
        (f"{table}:1", "face"),
        (f"{table}:2", "row_malformed"),  # no partition
        (f"{table}:3", "label_contradictory"),
        (f"{table}:4", "face"),
        (f"{table}:5", "row_repeated"),
        (f"{table}:6", "image_missing"),
        (f"{partition}:2", "row_repeated"),
        (f"{partition}:4", "label_contradictory"),
        (f"{partition}:6", "label_missing"),
        (f"{partition}:7", "row_malformed"),
        ("Image/aligned/0007_aligned.jpg", "label_missing"),
    ]
    contradictory = next(row for row in rows if isinstance(row, Reject) and "3" in row.row)
    assert contradictory.detail == f"test in {partition}:4, train in {partition}:3"


def test_original_pictures_serve_here_too(make_tree):
    files = {"original/1.jpg": b"x", "distribution.txt": "1.jpg 0 0 0 0 0 1"}
    tree = make_tree({**files, "partition_label.txt": "1.jpg 1"})
    assert [(row.label, row.member) for row in rows_of(tree)] == [("Angry", "original/1.jpg")]


def test_a_list_missing_is_an_error(make_tree):
    tree = make_tree({"original/1.jpg": b"x", "distribution.txt": "1.jpg 0 0 0 0 0 1"})
    with pytest.raises(UserError, match=r"source rafml: expected distribution.txt and partition_"):
        rows_of(tree)

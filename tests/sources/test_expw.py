import pytest

from stages.config import ExpwSource
from stages.runtime.errors import UserError
from stages.sources.face import FAULTS, Box, Candidate, Reject
from stages.sources.formats import read_source

SOURCE = ExpwSource(format="expw", path="expw", hq_confidence=60.0)


def rows_of(tree):
    return list(read_source(tree, name="expw", source=SOURCE))


def test_faces_of_a_photo_share_it_and_confidence_names_the_source(make_tree):
    tree = make_tree(
        {
            "image/origin/party 1.JPG": b"x",
            "label/label.lst": (
                "party 1.jpg 0 10 20 60 70 60.0 3\r\nparty 1.jpg 1  5 6 7 8\t59.99 6\r\n"
            ),
        }
    )
    first, second = rows_of(tree)
    assert first == Candidate(
        row="label/label.lst:1",
        id="expw_hq/party 1#0",
        member="image/origin/party 1.JPG",
        label="Happy",
        split=None,
        photo="expw/party 1",
        box=Box(left=20, top=10, right=60, bottom=70, pixels="stored"),
        confidence=60.0,
    )
    assert (second.id, second.photo, second.label) == (
        "expw_lq/party 1#1",
        "expw/party 1",
        "Neutral",
    )


def test_every_row_that_is_no_face_says_why(make_tree):
    lines = [
        "a.jpg 0 1 2 30 40 70.5 0",
        "a.jpg 0 1 2 30 40 70.5 0",  # the line again: by rule
        "a.jpg 7 1 2 30 40 70.5 0",  # the face again under another number: by rule
        "a.jpg 0 9 9 30 40 70.5 0",  # another face under the same number: a fault
        "a.jpg 1 5 5 30 40 70.5 7",
        "a.jpg 2 5 5 30 40 nan 1",
        "a.jpg 2 5 5 30 40 1_0 1",
        f"a.jpg 2 5 5 30 {'4' * 5000} 1.0 1",
        "a.jpg 2 5 5 30 40 1",
        "a.jpg x 5 5 30 40 50.0 1",
        "gone.jpg 0 5 5 30 40 50.0 1",
        "one",
    ]
    files = {"origin/a.jpg": b"x", "origin/b.jpg": b"x", "label.lst": "\n".join(lines)}
    rows = rows_of(make_tree(files))
    assert len(rows) == len(lines) + 1
    assert [(row.row, row.reason) for row in rows if isinstance(row, Reject)] == [
        ("label.lst:2", "box_repeated"),
        ("label.lst:3", "box_repeated"),
        ("label.lst:4", "row_repeated"),
        ("label.lst:5", "label_invalid"),
        ("label.lst:6", "row_malformed"),
        ("label.lst:7", "row_malformed"),
        ("label.lst:8", "row_malformed"),
        ("label.lst:9", "row_malformed"),
        ("label.lst:10", "row_malformed"),
        ("label.lst:11", "image_missing"),
        ("label.lst:12", "row_malformed"),
        ("origin/b.jpg", "photo_unlisted"),
    ]


def test_photos_that_the_list_leaves_out_are_no_faults(make_tree):
    files = {f"origin/{n}.jpg": b"x" for n in range(9)} | {"label.lst": "0.jpg 0 1 2 30 40 70.5 0"}
    _, *rejects = rows_of(make_tree(files))
    assert [reject.reason for reject in rejects] == ["photo_unlisted"] * 8
    assert "photo_unlisted" not in FAULTS


@pytest.mark.parametrize("files", [{"label.lst": "a.jpg 0 1 2 3 4 5 6"}, {"origin/a.jpg": b"x"}])
def test_a_list_or_pictures_missing_is_an_error(make_tree, files):
    with pytest.raises(
        UserError, match=r"source expw: expected label.lst and pictures below origin"
    ):
        rows_of(make_tree(files))


def test_one_face_with_two_labels_is_none_and_its_neighbour_stays(make_tree):
    lines = ["a.jpg 0 1 2 30 40 70 0", "a.jpg 1 9 9 30 40 70 5", "a.jpg 2 1 2 30 40 20 3"]
    files = {"origin/a.jpg": b"x", "label.lst": "\n".join(lines)}
    first, kept, last = rows_of(make_tree(files))
    assert kept.id == "expw_hq/a#1"
    assert first.reason == last.reason == "label_contradictory"
    assert first.detail == "origin/a.jpg: Angry in label.lst:1, Happy in label.lst:3"


def test_photos_that_share_a_stem_do_not_merge(make_tree):
    lines = [f"{name} 0 1 2 30 40 70 0" for name in ("a.jpg", "a.png", "b.PNG", "c.JPG")]
    files = {
        "origin/a.jpg": b"x",
        "origin/x/a.png": b"x",
        "origin/b.png": b"x",
        "origin/c.jpg": b"x",
    }
    rows = rows_of(make_tree({**files, "label.lst": "\n".join(lines)}))
    assert [row.photo for row in rows] == ["expw/a", "expw/a.png", "expw/b.png", "expw/c"]
    assert [row.id for row in rows] == [
        "expw_hq/a#0", "expw_hq/a.png#0", "expw_hq/b.png#0", "expw_hq/c#0",
    ]  # fmt: skip

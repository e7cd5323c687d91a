import pytest

from stages.config import ExpwSource
from stages.runtime.errors import UserError
from stages.sources.expw import read
from stages.sources.face import Box, Candidate, Reject

SOURCE = ExpwSource(format="expw", path="expw", hq_confidence=60.0)


def rows_of(tree):
    return list(read(tree, name="expw", source=SOURCE))


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
        box=Box(left=20, top=10, right=60, bottom=70),
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
        ("label.lst:9", "image_missing"),
        ("label.lst:10", "row_malformed"),
        ("origin/b.jpg", "label_missing"),
    ]


@pytest.mark.parametrize("files", [{"label.lst": "a.jpg 0 1 2 3 4 5 6"}, {"origin/a.jpg": b"x"}])
def test_a_list_or_pictures_missing_is_an_error(make_tree, files):
    with pytest.raises(
        UserError, match=r"source expw: expected label.lst and pictures below origin"
    ):
        rows_of(make_tree(files))

import cv2
import numpy as np
import pytest

from stages.config import Fer2013Source
from stages.runtime.errors import UserError
from stages.sources.face import Candidate, Reject
from stages.sources.fer2013 import read

SOURCE = Fer2013Source(format="fer2013", path="fer2013")


def rows_of(tree):
    return list(read(tree, name="fer", source=SOURCE))


def pixels(value: int) -> str:
    return " ".join([str(value)] * 48 * 48)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "archive/fer2013.csv",
            f"emotion,pixels,Usage\r\n0,{pixels(7)},Training\r\n"
            f"3,{pixels(8)},PublicTest\r\n6,{pixels(9)},PrivateTest\r\n",
        ),
        (
            "icml_face_data.csv",
            f"emotion, Usage, pixels\n0, Training, {pixels(7)}\n"
            f"3, PublicTest, {pixels(8)}\n6, PrivateTest, {pixels(9)}\n",
        ),
    ],
)
def test_the_csv_in_either_order_of_columns(make_tree, file, text):
    rows = rows_of(make_tree({file: text, "readme.txt": "x"}))
    assert [(row.row, row.id, row.label, row.split) for row in rows] == [
        (f"{file}:2", "fer/row0000000", "Angry", "train"),
        (f"{file}:3", "fer/row0000001", "Happy", "val"),
        (f"{file}:4", "fer/row0000002", "Neutral", "test"),
    ]
    assert [(row.member, row.photo) for row in rows] == [(row.row, row.id) for row in rows]
    image = cv2.imdecode(np.frombuffer(rows[1].image, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(image, np.full((48, 48), 8))


def test_every_row_that_is_no_face_says_why_and_the_count_goes_on(make_tree):
    lines = [
        f"7,{pixels(1)},Training",
        f"x,{pixels(1)},Training",
        f",{pixels(1)},Training",
        "0,1 2 3,Training",
        f"0,{pixels(256)},Training",
        f"0,{pixels(1)},Testing",
        f"0,{pixels(1)}",
        f"0,{pixels(1)},Training,1",
        f"5,{pixels(1)},Training",
    ]
    rows = rows_of(make_tree({"fer2013.csv": "\n".join(["emotion,pixels,Usage", *lines])}))
    assert [(row.row, row.reason) for row in rows if isinstance(row, Reject)] == [
        ("fer2013.csv:2", "label_invalid"),
        ("fer2013.csv:3", "label_invalid"),
        ("fer2013.csv:4", "label_invalid"),
        ("fer2013.csv:5", "image_unreadable"),
        ("fer2013.csv:6", "image_unreadable"),
        ("fer2013.csv:7", "row_malformed"),
        ("fer2013.csv:8", "row_malformed"),
        ("fer2013.csv:9", "row_malformed"),
    ]
    assert [row.id for row in rows if isinstance(row, Candidate)] == ["fer/row0000008"]
    # Pixels stay out of messages, however wrong a row is.
    assert all(len(row.detail) < 200 for row in rows if isinstance(row, Reject))


def test_folders_name_split_and_class(make_tree):
    tree = make_tree(
        {
            "archive/train/angry/Training_1.jpg": b"x",
            "archive/train/happy/Training_1.JPG": b"x",
            "archive/validation/suprise/é 2.jpg": b"x",
            "archive/test/neutral/PrivateTest_3.jpg": b"x",
            "archive/test/4/PrivateTest_5.jpg": b"x",
        }
    )
    rows = rows_of(tree)
    assert [(row.id, row.label, row.split) for row in rows if isinstance(row, Candidate)] == [
        ("fer/test/neutral/PrivateTest_3", "Neutral", "test"),
        ("fer/train/angry/Training_1", "Angry", "train"),
        ("fer/train/happy/Training_1", "Happy", "train"),
        ("fer/validation/suprise/é 2", "Surprise", "val"),
    ]
    # 4 is Sad in the csv and Neutral where a copy numbers its folders by the alphabet.
    assert [(row.row, row.reason) for row in rows if isinstance(row, Reject)] == [
        ("archive/test/4/PrivateTest_5.jpg", "label_invalid")
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"notes.txt": ""}, r"source fer: expected fer2013.csv \(or icml_face_data.csv\), or \{tr"),
        ({"fer2013.csv": "", "train/sad/1.jpg": b"x"}, r"expected either .* train/sad/1.jpg"),
        ({"fer2013.csv": "emotion,pixels\n"}, r"fer2013.csv: expected the columns .*\['usage'\]"),
        ({"fer2013.csv": ""}, r"fer2013.csv: expected the columns"),
    ],
)
def test_a_layout_that_cannot_be_read_is_an_error(make_tree, files, message):
    with pytest.raises(UserError, match=message):
        rows_of(make_tree(files))

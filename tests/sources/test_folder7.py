import pytest

from stages.config import Folder7Source
from stages.runtime.errors import UserError
from stages.sources.face import Candidate, Reject
from stages.sources.folder7 import read

SOURCE = Folder7Source(format="folder7", path="affectnet")


def rows_of(tree):
    return list(read(tree, name="affectnet", source=SOURCE))


def test_folders_name_split_and_class(make_tree):
    tree = make_tree(
        {
            "archive/Train/anger/ffhq_1.png": b"x",
            "archive/Train/happiness/deep/er/ffhq_1.JPG": b"x",
            "archive/valid/Suprise/2.b.png": b"x",
            "archive/test/neutral/3.png": b"x",
            "archive/readme.txt": "beside the split folders: no row",
            "license.txt": "nor this",
        }
    )
    assert [(row.id, row.label, row.split) for row in rows_of(tree)] == [
        ("affectnet/Train/anger/ffhq_1", "Angry", "train"),
        ("affectnet/Train/happiness/deep/er/ffhq_1", "Happy", "train"),
        ("affectnet/test/neutral/3", "Neutral", "test"),
        ("affectnet/valid/Suprise/2.b", "Surprise", "val"),
    ]


def test_every_row_that_is_no_face_says_why(make_tree):
    tree = make_tree(
        {
            "train/Contempt/1.png": b"x",
            "train/3/1.png": b"x",
            "train/lonely.png": b"x",
            "train/sad/notes.txt": b"x",
        }
    )
    rows = rows_of(tree)
    assert [(row.row, row.reason) for row in rows if isinstance(row, Reject)] == [
        ("train/3/1.png", "label_invalid"),
        ("train/Contempt/1.png", "not_a_class"),
        ("train/lonely.png", "label_missing"),
    ]
    # A file in a class folder is a row whatever its name; the decoder decides.
    assert [row.member for row in rows if isinstance(row, Candidate)] == ["train/sad/notes.txt"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["train/sad/1.png", "trian/sad/2.png"], "trian/sad/2.png: expected a folder train, val"),
        (["x/train/sad/1.png", "y/other/2.png"], "y/other/2.png: expected a folder train, val"),
        (["sad/1.png", "happy/2.png"], r"expected \{train,val,test\}/<class>"),
        (["a/train/sad/1.png", "a/a/train/sad/1.png"], r"at several places.*\['a', 'a/a'\]"),
    ],
)
def test_incident_D8_folders_that_are_no_split_are_an_error(make_tree, files, message):
    with pytest.raises(UserError, match=message):
        rows_of(make_tree(dict.fromkeys(files, b"x")))

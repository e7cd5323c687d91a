import pytest

from stages.config import Folder7Source
from stages.runtime.errors import UserError
from stages.sources.face import Candidate, Reject
from stages.sources.folder7 import read
from stages.sources.formats import read_source
from stages.sources.tree import open_tree
from tests.sources.conftest import write_zip

SOURCE = Folder7Source(format="folder7", path="affectnet")


def rows_of(tree, **class_folders):
    source = SOURCE.model_copy(update={"class_folders": class_folders})
    return list(read(tree, name="affectnet", source=source))


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
        ("affectnet/Train/anger/ffhq_1.png", "Angry", "train"),
        ("affectnet/Train/happiness/deep/er/ffhq_1", "Happy", "train"),
        ("affectnet/test/neutral/3.png", "Neutral", "test"),
        ("affectnet/valid/Suprise/2.b.png", "Surprise", "val"),
    ]


def test_pictures_that_share_a_stem_are_several_faces(make_tree):
    names = ["1.jpeg", "1.jpg", "1.png", "dr.jones.JPG", "dr.smith.jpg", "dr.who"]
    tree = make_tree({f"train/sad/{name}": b"x" for name in names})
    rows = list(read_source(tree, name="affectnet", source=SOURCE))
    ids = ["1.jpeg", "1", "1.png", "dr.jones", "dr.smith", "dr.who"]
    assert [row.id for row in rows] == [f"affectnet/train/sad/{id_}" for id_ in ids]
    assert [row.photo for row in rows] == [row.id for row in rows]


def test_a_name_with_a_control_character_is_a_reject(tmp_path):
    # In a zip, for not every file system holds such a name.
    files = {"train/Happy/a\tb.jpg": b"x", "train/Happy/b.jpg": b"x", "train/Sad/Icon\r": b"x"}
    with open_tree(write_zip(tmp_path / "it.zip", files), key="k") as tree:
        reject, face = read_source(tree, name="affectnet", source=SOURCE)
    assert (reject.row, reject.reason) == ("train/Happy/a\tb.jpg", "row_malformed")
    assert face.id == "affectnet/train/Happy/b"


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


def test_the_params_say_what_a_folder_means_whatever_its_name(make_tree):
    tree = make_tree(
        {
            "train/0/1.png": b"x",
            "test/0/1.png": b"x",
            "train/sad/1.png": b"x",
            "train/fear/1.png": b"x",
            "train/2/1.png": b"x",
        }
    )
    rows = rows_of(tree, **{"0": "Angry", "sad": "Happy"})
    assert [(row.row, getattr(row, "label", None)) for row in rows] == [
        ("test/0/1.png", "Angry"),
        ("train/0/1.png", "Angry"),
        ("train/2/1.png", None),
        ("train/fear/1.png", "Fear"),
        ("train/sad/1.png", "Happy"),
    ]


def test_reported_a_numbered_folder_of_contempt_is_left_out_and_counted(make_tree):
    names = ["0", "1", "2", "sad", "Contempt"]
    tree = make_tree({f"train/{name}/1.png": b"x" for name in names})
    rows = rows_of(tree, **{"0": "Angry", "1": "Contempt", "2": "none", "sad": "Uncertain"})
    assert [(row.row, row.reason, row.detail) for row in rows if isinstance(row, Reject)] == [
        ("train/1/1.png", "not_a_class", "Contempt"),
        ("train/2/1.png", "not_a_class", "none"),
        ("train/Contempt/1.png", "not_a_class", "Contempt"),
        ("train/sad/1.png", "not_a_class", "Uncertain"),
    ]
    assert [row.label for row in rows if isinstance(row, Candidate)] == ["Angry"]


def test_a_declared_folder_that_is_not_there_is_an_error(make_tree):
    tree = make_tree({"train/0/1.png": b"x", "test/1/1.png": b"x"})
    with pytest.raises(
        UserError,
        match=r"standardize.sources.affectnet.class_folders: no folders \['6'\]; found: \['0', '1'\]",
    ):
        rows_of(tree, **{"0": "Angry", "6": "Neutral"})


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

"""Folders that mean no class are counted, and layouts that cannot be read are an error."""

import pytest

from stages.runtime.errors import UserError
from tests.sources.conftest import AFFECTNET, became, in_memory, npy, rows_of

NAMES = "train: ../train/images\nnames: ['Anger', 'Contempt', 'happy', 'dog']\n"
FACE = "0 0.5 0.5 0.25 0.5"


def test_reported_a_numbered_folder_of_contempt_is_left_out_and_counted():
    # What the params say of a folder stands above its name.
    meanings = {"0": "Angry", "1": "Contempt", "2": "none", "sad": "Uncertain", "fear": "Happy"}
    files = dict.fromkeys([f"train/{n}/x.txt" for n in (*meanings, "3", "Contempt")], b"x")
    rows = rows_of(in_memory(files | {"train/lonely": b"x"}), "folder7", class_folders=meanings)
    words = {row.row: getattr(row, "detail", None) or row.label for row in rows}
    assert words.pop("train/lonely") == "in no class folder"
    detail = words.pop("train/3/x.txt")
    assert detail.startswith("expected a folder named by a class, got '3'; class_folders")
    meant = {f"train/{n}/x.txt": meaning for n, meaning in meanings.items()}
    assert words == meant | {"train/Contempt/x.txt": "Contempt"}
    left_out = {row.split("/")[1] for row, reason in became(rows) if reason == "not_a_class"}
    assert left_out == {"1", "2", "sad", "Contempt"}


# --- layouts that cannot be read -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "files", "message"),
    [
        ("affectnet", {"auto.csv": AFFECTNET, "1/a.jpg": b"x"},
         "source it: expected training.csv or val.* found .'1/a.jpg', 'auto"),
        ("affectnet", {"validation.csv": AFFECTNET, "val_set/annotations/1_exp.npy": npy("1")},
         "and not both; found .'validation.csv', 'val_set/annotations/1_exp.npy'"),
        ("affectnet", {"validation.csv": "subDirectory_filePath,expression\n"},
         "missing .'face_x', 'face_y'"),
        ("affectnet", {"trian_set/annotations/1_exp.npy": npy("1")},
         "trian_set/annotations/1_exp.npy: expected .train_set,val_set./.images,annotations."),
        ("affectnet_yolo", {"train/images/a.png": b"x"},
         r"source it: expected data.yaml and \{train,valid,test\}"),
        ("affectnet_yolo", {"data.yaml": NAMES},
         r"expected \{train,val,valid,validation,test\}/\{images,labels\}"),
        ("affectnet_yolo", {"data.yaml": NAMES, "labels/a.txt": FACE}, "labels/a.txt: expected"),
        *(("affectnet_yolo", {"data.yaml": text}, "data.yaml: expected names, a list or a mapping")
          for text in ("names: []", "- a", "names: !!python/object/apply:os.getcwd []")),
        *(("affectnet_yolo", {"data.yaml": text}, "data.yaml: not valid YAML")
          for text in ("names: [a", "[" * 20_000, b"\xff\xfe")),
        *(("affectnet_yolo", {"data.yaml": f"names: {names}"}, "names: expected the name of each")
          for names in ("{a: sad}", "{0: sad, 0.0: happy}", "{0.5: sad}", "[[a], b]")),
        ("expw", {"origin/a.jpg": b"x"}, "source it: expected label.lst and pictures below origin"),
        ("fer2013", {"notes.txt": ""}, r"expected fer2013.csv \(or icml_face_data.csv\), or \{tr"),
        ("fer2013", {"fer2013.csv": "", "train/sad/1.jpg": b"x"}, "either .* train/sad/1.jpg"),
        ("fer2013", {"fer2013.csv": "emotion,pixels\n"}, r"expected the columns .*\['usage'\]"),
        ("rafdb_basic", {"list_patition_label.txt": "train_1.jpg 1"}, "it: expected pictures"),
        ("rafml_argmax", {"original/1.jpg": b"x", "distribution.txt": "1.jpg 1 0 0 0 0 0"},
         "source it: expected distribution.txt and partition_"),
        ("ferplus", {"FER2013Train/a.png": b"x"}, r"no FER2013Train/label\.csv"),
        ("ferplus", {"fer2013new.csv": "", "notes.txt": ""},
         r"source it: expected the folders .* found \['fer2013new"),
    ],
)  # fmt: skip
def test_a_layout_that_cannot_be_read_is_an_error(form, files, message):
    with pytest.raises(UserError, match=message):
        rows_of(in_memory(files), form)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["train/sad/1.png", "trian/sad/2.png"], "trian/sad/2.png: expected a folder train, val"),
        (["x/train/sad/1.png", "y/other/2.png"], "y/other/2.png: expected a folder train, val"),
        (["sad/1.png", "happy/2.png"], r"expected \{train,val,test\}/<class>"),
        (["a/train/sad/1.png", "a/a/train/sad/1.png"], r"at several places.*\['a', 'a/a'\]"),
        (
            ["train/0/1.png", "test/1/1.png"],
            r"class_folders: no folders \['6'\]; found: \['0', '1'",
        ),
    ],
)
def test_incident_D8_folders_that_are_no_split_are_an_error(files, message):
    meanings = {"0": "Angry", "6": "Neutral"} if "class_folders" in message else {}
    with pytest.raises(UserError, match=message):
        rows_of(in_memory(dict.fromkeys(files, b"x")), "folder7", class_folders=meanings)

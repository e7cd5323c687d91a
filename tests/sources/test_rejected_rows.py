"""Every raw row that is no face says why, and layouts that cannot be read are an error."""

import pytest

from stages.runtime.errors import UserError
from tests.sources.conftest import AFFECTNET, HAPPY, WHOLE, became, in_memory, npy, rows_of

NAMES = "train: ../train/images\nnames: ['Anger', 'Contempt', 'happy', 'dog']\n"
FACE = "0 0.5 0.5 0.25 0.5"
GREY = " ".join(["1"] * 48 * 48)


def affect(path: str, code: str, box: str = "1,2,3,4") -> str:
    return f"{path},{box},1;2,{code},-0.1,0.2"


# By format: the table, its head, other files, and what becomes of each line and of other rows.
LINES = {
    "affectnet": (
        "training.csv",
        [AFFECTNET],
        {f"1/{stem}.jpg": b"x" for stem in "abcdefghijkm"},
        [
            (affect("1/a.jpg", "7"), "not_a_class"),
            (affect("1/b.jpg", "8", "NULL,NULL,NULL,NULL"), "not_a_class"),
            (affect("1/c.jpg", "9"), "not_a_class"),
            (affect("1/gone.jpg", "10"), "not_a_class"),
            (affect("1/gone.jpg", "1"), "image_missing"),
            (affect("1/d.jpg", "11"), "label_invalid"),
            (affect("1/e.jpg", ""), "label_invalid"),
            (affect("1/f.jpg", "1", "NULL,null,,nan"), "box_missing"),
            (affect("1/g.jpg", "1", "1,NULL,3,4"), "row_malformed"),
            (affect("1/h.jpg", "1", "1,2.5,3,4"), "row_malformed"),
            (affect("1/i.jpg", "1", "1,inf,3,nan"), "row_malformed"),
            (affect("1/j.jpg", "1") + ",1", "row_malformed"),
            ("1/k.jpg,1,2,3", "row_malformed"),
            (affect("", "1"), "row_malformed"),
        ],
        [("1/m.jpg", "label_missing")],
    ),
    "affectnet_yolo": (
        "test/labels/a.txt",
        [],
        {
            "data.yaml": NAMES,
            "test/images/a.png": b"x",
            "train/images/b.jpg": b"x",
            "train/images/b.png": b"x",
            "train/labels/b.txt": FACE,
            "train/images/alone.png": b"x",
            "train/images/empty.png": b"x",
            "train/labels/empty.txt": " \n\n",
            "train/images/latin.png": b"x",
            "train/labels/latin.txt": "é".encode("latin-1"),
            "train/labels/lost.txt": f"{FACE}\n{FACE}",
            "train/labels/lost_and_empty.txt": "",
            "labels/train/b.txt": FACE,
            "train/notes.txt": b"x",
            "train/labels.jpg": b"x",
        },
        [
            ("1 0.5 0.5 0.2 0.2", "not_a_class"),
            ("3 0.5 0.5 0.2 0.2", "label_invalid"),
            ("4 0.5 0.5 0.2 0.2", "label_invalid"),
            ("Anger 0.5 0.5 0.2 0.2", "label_invalid"),
            ("0 0.5 0.5 0.2", "row_malformed"),
            ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", "row_malformed"),
            ("0 0.5 nan 0.2 0.2", "row_malformed"),
            ("0 1.7e308 0.5 1.7e308 0.2", "row_malformed"),
            (FACE, "face"),
        ],
        [
            ("train/images/b.png", "row_repeated"),
            ("train/labels/b.txt", "row_repeated"),
            ("train/images/alone.png", "label_missing"),
            ("labels/train/b.txt:1", "face"),
            ("train/images/empty.png", "label_missing"),
            ("train/labels/latin.txt", "row_malformed"),
            ("train/labels/lost.txt:1", "image_missing"),
            ("train/labels/lost.txt:2", "image_missing"),
            ("train/labels/lost_and_empty.txt", "image_missing"),
        ],
    ),
    "expw": (
        "label.lst",
        [],
        {"origin/a.jpg": b"x", "origin/b.jpg": b"x"},
        [
            ("a.jpg 0 1 2 30 40 70.5 0", "face"),
            ("a.jpg 0 1 2 30 40 70.5 0", "box_repeated"),  # the line again: by rule
            ("a.jpg 7 1 2 30 40 70.5 0", "box_repeated"),  # the face under another number: by rule
            ("a.jpg 0 9 9 30 40 70.5 0", "row_repeated"),  # another face under its number: a fault
            ("a.jpg 1 5 5 30 40 70.5 7", "label_invalid"),
            ("a.jpg 2 5 5 30 40 nan 1", "row_malformed"),
            (f"a.jpg 2 5 5 30 {'4' * 5000} 1.0 1", "row_malformed"),
            ("a.jpg 2 5 5 30 40 1", "row_malformed"),
            ("gone.jpg 0 5 5 30 40 50.0 1", "image_missing"),
            ("one", "row_malformed"),
        ],
        [("origin/b.jpg", "photo_unlisted")],
    ),
    "fer2013": (
        "fer2013.csv",
        ["emotion,pixels,Usage"],
        {},
        [
            (f"7,{GREY},Training", "label_invalid"),
            (f",{GREY},Training", "label_invalid"),
            ("0,1 2 3,Training", "image_unreadable"),
            (f"0,{GREY},Testing", "row_malformed"),
            (f"0,{GREY}", "row_malformed"),
            (f"5,{GREY},Training", "face"),
        ],
        [],
    ),
    "rafdb_basic": (
        "EmoLabel/list_patition_label.txt",
        [],
        {f"Image/aligned/train_{n}_aligned.jpg": b"x" for n in (1, 3, 6)},
        [
            ("train_1.jpg 1", "face"),
            ("train_1.jpg 1", "row_repeated"),
            ("train_2.jpg", "row_malformed"),
            ("train_3.jpg 8", "label_invalid"),
            ("tarin_4.jpg 1", "row_malformed"),
            ("train_5.jpg 1", "image_missing"),
        ],
        [("Image/aligned/train_6_aligned.jpg", "label_missing")],
    ),
    "rafml_argmax": (
        "distribution.txt",
        [],
        {
            **{f"Image/aligned/{n}_aligned.jpg": b"x" for n in range(1, 8)},
            "partition_label.txt": "1.jpg 0\n1.jpg 0\n3.jpg 0\n3.jpg 1\n4.JPG 1\n5.jpg 1\n6.jpg 2\n9.jpg 0",
        },
        [
            ("1.jpg 1 0 0 0 0 0", "face"),
            ("2.jpg 1 0 0 0 0 0", "row_malformed"),  # no partition
            ("3.jpg 1 0 0 0 0 0", "label_contradictory"),
            ("4.jpg 1 0 0 0 0 0", "face"),
            ("4.jpg 1 0 0 0 0 0", "row_repeated"),
            ("9.jpg 1 0 0 0 0 0", "image_missing"),
            ("1.jpg 0.4 0.4 0.2 0 0 0", "no_majority"),
            *((f"1.jpg {wrong}", "row_malformed") for wrong in (
                "0 0 0 0 0 0", "1.1 -0.1 0 0 0 0", "nan 0 0 0 0 1", "1e30 0 0 0 0 1", "1 0 0 0 0",
            )),
        ],
        [
            ("partition_label.txt:2", "row_repeated"),
            ("partition_label.txt:4", "label_contradictory"),
            ("partition_label.txt:6", "label_missing"),
            ("partition_label.txt:7", "row_malformed"),
            ("Image/aligned/7_aligned.jpg", "label_missing"),
        ],
    ),
    "ferplus": (
        "FER2013Test/label.csv",
        [],
        {f"FER2013Test/{stem}.png": b"x" for stem in "abcdefgh"},
        [
            (f"a.png,{WHOLE},{HAPPY}", "face"),
            (f"a.png,{WHOLE},{HAPPY}", "row_repeated"),
            (f"gone.png,{WHOLE},{HAPPY}", "image_missing"),
            (f"b.png,{WHOLE},0,0,0,0,0,0,0,9,1,0", "not_a_class"),
            (f"c.png,{WHOLE},5,5,0,0,0,0,0,0,0,0", "no_majority"),
            (f"d.png,{WHOLE},5,5", "row_malformed"),
            (f"e.png,{WHOLE},5,5,0,x,0,0,0,0,0,0", "row_malformed"),
            (f'f.png,"(10, 10, 20, 20)",{HAPPY}', "row_malformed"),
            (f"g.png,{WHOLE},0,0,0,0,0,0,0,0,2,8", "not_a_class"),
        ],
        [("FER2013Test/h.png", "label_missing")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", LINES)
def test_every_row_that_is_no_face_says_why(form):
    table, head, files, lines, others = LINES[form]
    text = "\n".join([*head, *(line for line, _ in lines)])
    rows = rows_of(in_memory({**files, table: text}), form)
    numbered = enumerate(lines, start=len(head) + 1)
    expected = [(f"{table}:{number}", reason) for number, (_, reason) in numbered]
    assert sorted(became(rows)) == sorted(expected + others)
    # Tables stay out of messages, however wrong a row is.
    assert all(len(getattr(row, "detail", "")) < 200 for row in rows)
    contradictory = [row.detail for row in rows if "contradictory" in getattr(row, "reason", "")]
    assert set(contradictory) <= {"test in partition_label.txt:4, train in partition_label.txt:3"}


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
        ("expw", {"label.lst": "a.jpg 0 1 2 3 4 5 6"}, "source it: expected label.lst and pictures"),
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

"""Every raw row that is no face says why, and layouts that cannot be read are an error."""

import pytest

from stages.runtime.errors import UserError
from tests.sources.conftest import AFFECTNET, npy, rejects_of, rows_of

WHOLE, HAPPY = '"(0, 0, 48, 48)"', "1,8,0,0,0,0,0,0,1,0"
NAMES = "train: ../train/images\nnames: ['Anger', 'Contempt', 'happy', 'dog']\n"
FACE = "0 0.5 0.5 0.25 0.5"
GREY = " ".join(["1"] * 48 * 48)
ONE = "1 0 0 0 0 0"


def affect(path: str, code: str, box: str = "1,2,3,4") -> str:
    return f"{path},{box},1;2,{code},-0.1,0.2"


# By format: the table, its first line of data, pictures beside it and what becomes of each line.
LINES = {
    "affectnet": (
        "training.csv", [AFFECTNET], [f"1/{stem}.jpg" for stem in "abcdefghijkm"],
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
            ("1/m.jpg", "label_missing"),
        ],
    ),
    "affectnet_yolo": (
        "test/labels/a.txt", [], ["test/images/a.png", "data.yaml"],
        [
            ("1 0.5 0.5 0.2 0.2", "not_a_class"),
            ("3 0.5 0.5 0.2 0.2", "label_invalid"),
            ("4 0.5 0.5 0.2 0.2", "label_invalid"),
            ("Anger 0.5 0.5 0.2 0.2", "label_invalid"),
            ("0 0.5 0.5 0.2", "row_malformed"),
            ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", "row_malformed"),
            ("0 0.5 0.5 0.2 x", "row_malformed"),
            ("0 0.5 nan 0.2 0.2", "row_malformed"),
            ("0 0.5 0.5 inf 0.2", "row_malformed"),
            ("0 1.7e308 0.5 1.7e308 0.2", "row_malformed"),
            ("0", "row_malformed"),
            (FACE, "face"),
        ],
    ),
    "expw": (
        "label.lst", [], ["origin/a.jpg", "origin/b.jpg"],
        [
            ("a.jpg 0 1 2 30 40 70.5 0", "face"),
            ("a.jpg 0 1 2 30 40 70.5 0", "box_repeated"),  # the line again: by rule
            ("a.jpg 7 1 2 30 40 70.5 0", "box_repeated"),  # the face under another number: by rule
            ("a.jpg 0 9 9 30 40 70.5 0", "row_repeated"),  # another face under its number: a fault
            ("a.jpg 1 5 5 30 40 70.5 7", "label_invalid"),
            ("a.jpg 2 5 5 30 40 nan 1", "row_malformed"),
            ("a.jpg 2 5 5 30 40 1_0 1", "row_malformed"),
            (f"a.jpg 2 5 5 30 {'4' * 5000} 1.0 1", "row_malformed"),
            ("a.jpg 2 5 5 30 40 1", "row_malformed"),
            ("a.jpg x 5 5 30 40 50.0 1", "row_malformed"),
            ("gone.jpg 0 5 5 30 40 50.0 1", "image_missing"),
            ("one", "row_malformed"),
            ("origin/b.jpg", "photo_unlisted"),
        ],
    ),
    "fer2013": (
        "fer2013.csv", ["emotion,pixels,Usage"], [],
        [
            (f"7,{GREY},Training", "label_invalid"),
            (f"x,{GREY},Training", "label_invalid"),
            (f",{GREY},Training", "label_invalid"),
            ("0,1 2 3,Training", "image_unreadable"),
            (f"0,256{GREY[1:]},Training", "image_unreadable"),
            (f"0,{GREY},Testing", "row_malformed"),
            (f"0,{GREY}", "row_malformed"),
            (f"0,{GREY},Training,1", "row_malformed"),
            (f"5,{GREY},Training", "face"),
        ],
    ),
    "rafdb_basic": (
        "EmoLabel/list_patition_label.txt", [],
        [f"Image/aligned/{name}_aligned.jpg" for name in ("train_1", "train_3", "train_6")],
        [
            ("train_1.jpg 1", "face"),
            ("train_1.jpg 1", "row_repeated"),
            ("train_2.jpg", "row_malformed"),
            ("train_3.jpg 8", "label_invalid"),
            ("tarin_4.jpg 1", "row_malformed"),
            ("train_5.jpg 1", "image_missing"),
            ("Image/aligned/train_6_aligned.jpg", "label_missing"),
        ],
    ),
    "ferplus": (
        "FER2013Test/label.csv", [], [f"FER2013Test/{stem}.png" for stem in "abcdefgh"],
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
            ("FER2013Test/h.png", "label_missing"),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", LINES)
def test_every_row_that_is_no_face_says_why(make_tree, form):
    table, head, pictures, lines = LINES[form]
    text = "\n".join([*head, *(line for line, _ in lines if line not in pictures)])
    files = {name: NAMES if name == "data.yaml" else b"x" for name in pictures}
    rows = rows_of(make_tree({**files, table: text}), form)
    assert [(row.row, getattr(row, "reason", "face")) for row in rows] == [
        (line if line in pictures else f"{table}:{number}", reason)
        for number, (line, reason) in enumerate(lines, start=len(head) + 1)
    ]
    # Tables stay out of messages, however wrong a row is.
    assert all(len(getattr(row, "detail", "")) < 200 for row in rows)


def test_rows_of_rafmls_two_lists_that_are_no_face_say_why(make_tree):
    shares = [f"{name}.jpg {ONE}" for name in ("0001", "0002", "0003", "0004", "0004", "0009")]
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
    table, partition = "EmoLabel/distribution.txt", "EmoLabel/partition_label.txt"
    files = {f"Image/aligned/000{n}_aligned.jpg": b"x" for n in range(1, 8)}
    files |= {table: "\n".join(shares), partition: "\n".join(parts)}
    rows = rows_of(make_tree(files), "rafml_argmax")
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
    assert rows[2].detail == f"test in {partition}:4, train in {partition}:3"


@pytest.mark.parametrize(
    ("shares", "reason"),
    [
        ("0.4 0.4 0.2 0 0 0", "no_majority"),
        *((wrong, "row_malformed") for wrong in (
            "0 0 0 0 0 0", "1.1 -0.1 0 0 0 0", "nan 0 0 0 0 1", "inf 0 0 0 0 1", "1e30 0 0 0 0 1",
            "1 0 0 0 0", "x 0 0 0 0 1",
        )),
    ],
)  # fmt: skip
def test_shares_without_a_winner(make_tree, shares, reason):
    files = {"distribution.txt": f"1.jpg {shares}", "partition_label.txt": "1.jpg 0"}
    rows = rows_of(make_tree({**files, "aligned/1_aligned.jpg": b"x"}), "rafml_argmax")
    assert [row.reason for row in rows] == [reason]


def test_files_of_class_folders_that_are_no_face_say_why(make_tree):
    names = ["train/3/1.png", "train/Contempt/1.png", "train/lonely.png", "train/sad/notes.txt"]
    rows = rows_of(make_tree(dict.fromkeys(names, b"x")), "folder7")
    reasons = ["label_invalid", "not_a_class", "label_missing"]
    assert rejects_of(rows) == list(zip(names, reasons, strict=False))
    assert rows[-1].member == names[-1]  # whatever its name; the decoder decides


def test_pictures_and_label_files_without_each_other_say_so(make_tree):
    files = {
        "data.yaml": NAMES,
        "train/images/a.jpg": b"x",
        "train/images/a.png": b"x",
        "train/labels/a.txt": FACE,
        "train/images/alone.png": b"x",
        "train/images/empty.png": b"x",
        "train/labels/empty.txt": " \n\n",
        "train/images/latin.png": b"x",
        "train/labels/latin.txt": "é".encode("latin-1"),
        "train/labels/lost.txt": f"{FACE}\n{FACE}",
        "train/labels/lost_and_empty.txt": "",
        "labels/train/a.txt": FACE,
        "train/notes.txt": b"x",
        "train/labels.jpg": b"x",
    }
    rows = rows_of(make_tree(files), "affectnet_yolo")
    assert [(row.row, row.reason, row.member) for row in rows if hasattr(row, "reason")] == [
        ("train/images/a.png", "row_repeated", "train/images/a.png"),
        ("train/labels/a.txt", "row_repeated", None),
        ("train/images/alone.png", "label_missing", "train/images/alone.png"),
        ("train/images/empty.png", "label_missing", "train/images/empty.png"),
        ("train/labels/latin.txt", "row_malformed", "train/images/latin.png"),
        ("train/labels/lost.txt:1", "image_missing", None),
        ("train/labels/lost.txt:2", "image_missing", None),
        ("train/labels/lost_and_empty.txt", "image_missing", None),
    ]


# --- layouts that cannot be read -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "files", "message"),
    [
        ("affectnet", {"auto.csv": AFFECTNET, "1/a.jpg": b"x"}, "found .'1/a.jpg', 'auto"),
        ("affectnet", {"train_set/images/1.jpg": b"x"}, "source it: expected training.csv or val"),
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
        ("affectnet_yolo", {"data.yaml": NAMES, "trian/images/a.png": b"x"},
         "trian/images/a.png: expected"),
        ("affectnet_yolo", {"data.yaml": NAMES, "labels/a.txt": FACE}, "labels/a.txt: expected"),
        *(("affectnet_yolo", {"data.yaml": text}, "data.yaml: expected names, a list or a mapping")
          for text in ("nc: 3", "names: []", "names: 3", "- a",
                       "names: !!python/object/apply:os.getcwd []")),
        ("affectnet_yolo", {"data.yaml": "names: [[a], b]"}, "names: expected class names, got .*a"),
        *(("affectnet_yolo", {"data.yaml": text}, "data.yaml: not valid YAML")
          for text in ("names: [a", "[" * 20_000, b"\xff\xfe")),
        *(("affectnet_yolo", {"data.yaml": f"names: {names}"}, "expected each class by its own num")
          for names in ("{a: sad}", "{0: sad, 0.0: happy}", "{0.5: sad}")),
        ("expw", {"label.lst": "a.jpg 0 1 2 3 4 5 6"}, "source it: expected label.lst and pictures"),
        ("expw", {"origin/a.jpg": b"x"}, "source it: expected label.lst and pictures below origin"),
        ("fer2013", {"notes.txt": ""}, r"expected fer2013.csv \(or icml_face_data.csv\), or \{tr"),
        ("fer2013", {"fer2013.csv": "", "train/sad/1.jpg": b"x"}, "either .* train/sad/1.jpg"),
        ("fer2013", {"fer2013.csv": "emotion,pixels\n"}, r"expected the columns .*\['usage'\]"),
        ("rafdb_basic", {"list_patition_label.txt": "train_1.jpg 1"}, "it: expected pictures"),
        ("rafdb_basic", {"list_patition_label.txt": b"\xff\xfe", "aligned/a_aligned.jpg": b"x"},
         "list_patition_label.txt: expected text in UTF-8"),
        ("rafml_argmax", {"original/1.jpg": b"x", "distribution.txt": f"1.jpg {ONE}"},
         "source it: expected distribution.txt and partition_"),
        ("ferplus", {"FER2013Train/a.png": b"x"}, r"no FER2013Train/label\.csv"),
        ("ferplus", {"fer2013new.csv": "", "notes.txt": ""},
         r"source it: expected the folders .* found \['fer2013new"),
    ],
)  # fmt: skip
def test_a_layout_that_cannot_be_read_is_an_error(make_tree, form, files, message):
    with pytest.raises(UserError, match=message):
        rows_of(make_tree(files), form)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["train/sad/1.png", "trian/sad/2.png"], "trian/sad/2.png: expected a folder train, val"),
        (["x/train/sad/1.png", "y/other/2.png"], "y/other/2.png: expected a folder train, val"),
        (["sad/1.png", "happy/2.png"], r"expected \{train,val,test\}/<class>"),
        (["a/train/sad/1.png", "a/a/train/sad/1.png"], r"at several places.*\['a', 'a/a'\]"),
        (
            ["train/0/1.png", "test/1/1.png"],
            r"it.class_folders: no folders \['6'\]; found: \['0', '1'",
        ),
    ],
)
def test_incident_D8_folders_that_are_no_split_are_an_error(make_tree, files, message):
    tree = make_tree(dict.fromkeys(files, b"x"))
    meanings = {"0": "Angry", "6": "Neutral"} if "class_folders" in message else {}
    with pytest.raises(UserError, match=message):
        rows_of(tree, "folder7", class_folders=meanings)

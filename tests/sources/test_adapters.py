"""What each adapter makes of the rows of a dataset as it should be."""

import cv2
import numpy as np
import pytest

from stages.faces.decode import Box
from stages.sources.rows import FAULTS, Candidate
from tests.sources.conftest import MakeTree, faces_of, rejects_of, rows_of

HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
    "expression,valence,arousal"
)
PLACE = "Manually_Annotated_Images"
WHOLE, HAPPY = '"(0, 0, 48, 48)"', "1,8,0,0,0,0,0,0,1,0"
FACE = "0 0.5 0.5 0.25 0.5"


def stored(left, top, right, bottom) -> Box:
    return Box(left, top, right, bottom, unit="px", pixels="stored")


def test_affectnets_tables_name_pictures_below_any_folder(make_tree: MakeTree):
    lines = [
        f"{name},10,20,30,40,1;2,{n},-0.1,0.2"
        for n, name in ((1, "689/abc.JPG"), (6, "690/abc.jpg"))
    ]
    files = {
        "lists/training.csv": "\n".join(["\ufeff" + HEADER, *lines]),
        "validation.csv": f"{HEADER.upper()}\n1\\é.png,0, 0, 9, 8,1;2,0,-0.1,0.2",
        f"deep/{PLACE}/689/abc.jpg": b"x",
        f"deep/{PLACE}/690/abc.jpg": b"x",
        f"deep/{PLACE}/1/e\u0301.png": b"x",
    }
    rows = rows_of(make_tree(files), "affectnet")
    assert rows[0] == Candidate(
        "lists/training.csv:2",
        id="it/689/abc",
        member=f"deep/{PLACE}/689/abc.jpg",
        label="Happy",
        split="train",
        photo="it/689/abc",
        box=stored(10, 20, 40, 60),
    )
    assert faces_of(rows)[1:] == [
        ("it/690/abc", "Angry", "train"),
        ("it/1/é.png", "Neutral", "val"),
    ]
    assert rows[2].box == stored(0, 0, 9, 8)


@pytest.mark.parametrize(
    ("table", "box"),
    [
        ("1/a.jpg,10,20,30,40,1;2,4,-0.1,0.2", (10, 20, 40, 60)),  # no header: AffectNet's columns
        ("expression,face_height,face_width,face_y,face_x,subDirectory_filePath\n4,4,3,2,1,1/a.jpg",
         (1, 2, 4, 6)),
        (f"{HEADER}\n1/a.jpg,1.0,2.0,3.0,4.0,,4,,", (1, 2, 4, 6)),  # as pandas writes it
        (f"{HEADER}\n1/a.jpg,-5,2,-3,0,,4,,", (-5, 2, -8, 2)),  # left to the crop
    ],
)  # fmt: skip
def test_affectnets_columns_are_found_and_its_boxes_are_edges(make_tree: MakeTree, table, box):
    (row,) = rows_of(make_tree({"validation.csv": table, "1/a.jpg": b"x"}), "affectnet")
    assert (row.label, row.box) == ("Fear", stored(*box))


@pytest.mark.parametrize(
    "layout",
    ["YOLO/{split}/{kind}", "{kind}/{split}", "images/{split}/{kind}", "{split} /{kind}"],
)
def test_each_line_of_yolo_is_a_face_of_its_picture(make_tree: MakeTree, layout):
    def folder(split, kind):
        return layout.format(split=split, kind=kind)

    files = {
        "data.yaml": "\ufeffnames: ['Anger', 'Contempt', 'happy', 'dog']\n",
        f"{folder('Train', 'images')}/a1é.JPG": b"x",
        f"{folder('Train', 'labels')}/a1é.txt": f"{FACE}\r\n\r\n 2\t0.1 0.2 0.1 0.2 \r\n",
        f"{folder('valid', 'images')}/b.png": b"x",
        f"{folder('valid', 'Labels')}/B.TXT": FACE,
        f"{folder('test', 'images')}/deep/c.png": b"x",
        f"{folder('test', 'labels')}/deep/c.txt": FACE,
        f"{folder('test', 'labels')}/deep.cache": b"\0",
        f"{folder('train', 'labels')}/Classes.txt": "Anger\nContempt\n",
    }
    rows = {row.id: row for row in rows_of(make_tree(files), "affectnet_yolo")}
    first = rows["it/train/a1é#0"]
    assert first == Candidate(
        f"{folder('Train', 'labels')}/a1é.txt:1",
        id="it/train/a1é#0",
        member=f"{folder('Train', 'images')}/a1é.JPG",
        label="Angry",
        split="train",
        photo="it/train/a1é",
        box=Box(0.375, 0.25, 0.625, 0.75, unit="share", pixels="turned"),
    )
    second = rows["it/train/a1é#1"]
    assert (second.label, second.photo, second.row[-2:]) == ("Happy", first.photo, ":3")
    others = {row.id: row.split for row in rows.values() if row not in (first, second)}
    assert others == {"it/val/b#0": "val", "it/test/deep/c#0": "test"}


@pytest.mark.parametrize(
    "names",
    ["names:\n  0: Anger\n  2: happy\n", 'names: {"2": Happy, "0": angry}', "names: [Anger, x, happy]"],
)  # fmt: skip
def test_yolo_names_are_a_list_or_a_mapping(make_tree: MakeTree, names):
    lines = "2 0.5 0.5 0.25 0.5\n0 1.5 -1 1 0"
    tree = make_tree({"data.yaml": names, "val/images/a.png": b"x", "val/labels/a.txt": lines})
    happy, outside = rows_of(tree, "affectnet_yolo")
    assert (happy.label, outside.label) == ("Happy", "Angry")
    # Left to the crop.
    assert outside.box == Box(1.0, -1.0, 2.0, -1.0, unit="share", pixels="turned")


def test_faces_of_an_expw_photo_share_it_and_confidence_names_the_source(make_tree: MakeTree):
    lines = ["party 1.jpg 0 10 20 60 70 60.0 3", "party 1.jpg 1  5 6 7 8\t59.99 6"]
    # A stem may stand twice.
    lines += [f"{name} 0 1 2 30 40 70 0" for name in ("a.jpg", "a.png", "b.PNG")]
    names = ("party 1.JPG", "a.jpg", "x/a.png", "b.png")
    files = {f"image/origin/{name}": b"x" for name in names} | {"label.lst": "\r\n".join(lines)}
    first, *others = rows_of(make_tree(files), "expw", hq_confidence=60.0)
    assert first == Candidate(
        "label.lst:1",
        id="it_hq/party 1#0",
        member="image/origin/party 1.JPG",
        label="Happy",
        split=None,
        photo="it/party 1",
        box=stored(20, 10, 60, 70),
        confidence=60.0,
    )
    assert [(row.id, row.photo, row.label) for row in others] == [
        ("it_lq/party 1#1", "it/party 1", "Neutral"),
        ("it_hq/a#0", "it/a", "Angry"),
        ("it_hq/a.png#0", "it/a.png", "Angry"),
        ("it_hq/b.png#0", "it/b.png", "Angry"),
    ]


def test_photos_that_expws_list_leaves_out_are_no_faults(make_tree: MakeTree):
    files = {f"origin/{n}.jpg": b"x" for n in range(3)} | {"label.lst": "0.jpg 0 1 2 30 40 70.5 0"}
    _, *rejects = rows_of(make_tree(files), "expw")
    assert [reject.reason for reject in rejects] == ["photo_unlisted"] * 2
    assert "photo_unlisted" not in FAULTS


def grey(value: int) -> str:
    return " ".join([str(value)] * 48 * 48)


@pytest.mark.parametrize("spaced", [False, True])
def test_fer2013s_csv_in_either_order_of_columns(make_tree: MakeTree, spaced):
    file = "icml_face_data.csv" if spaced else "archive/fer2013.csv"
    usages = [("0", "Training"), ("3", "PublicTest"), ("6", "PrivateTest")]
    if spaced:
        lines = [f"{n}, {usage}, {grey(7)}" for n, usage in usages]
        text = "\n".join(["emotion, Usage, pixels", *lines])
    else:
        text = "\r\n".join(["emotion,pixels,Usage", *(f"{n},{grey(7)},{u}" for n, u in usages)])
    rows = rows_of(make_tree({file: text, "readme.txt": "x"}), "fer2013")
    assert faces_of(rows) == [
        ("it/row0000000", "Angry", "train"),
        ("it/row0000001", "Happy", "val"),
        ("it/row0000002", "Neutral", "test"),
    ]
    assert [(row.member, row.photo) for row in rows] == [(row.row, row.id) for row in rows]
    image = cv2.imdecode(np.frombuffer(rows[1].image, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(image, np.full((48, 48), 7))


@pytest.mark.parametrize("form", ["fer2013", "folder7"])
def test_folders_name_split_and_class(make_tree: MakeTree, form):
    names = [
        "Train/anger/ffhq_1.png", "Train/happiness/deep/er/ffhq_1.JPG", "valid/Suprise/2.b é.png",
        "test/neutral/3.png", "test/4/5.jpg",
    ]  # fmt: skip
    files = {f"archive/{name}": b"x" for name in names}
    rows = rows_of(make_tree({**files, "archive/readme.txt": "no row", "license.txt": ""}), form)
    assert faces_of(rows) == [
        ("it/Train/anger/ffhq_1.png", "Angry", "train"),
        ("it/Train/happiness/deep/er/ffhq_1", "Happy", "train"),
        ("it/test/neutral/3.png", "Neutral", "test"),
        ("it/valid/Suprise/2.b é.png", "Surprise", "val"),
    ]
    # 4 is Sad in FER2013's csv and Neutral where a copy numbers its folders by the alphabet.
    assert rejects_of(rows) == [("archive/test/4/5.jpg", "label_invalid")]


def test_pictures_that_share_a_stem_are_several_faces(make_tree: MakeTree):
    names = ["1.jpeg", "1.jpg", "1.png", "dr.jones.JPG", "dr.smith.jpg", "dr.who"]
    rows = rows_of(make_tree({f"train/sad/{name}": b"x" for name in names}), "folder7")
    ids = ["1.jpeg", "1", "1.png", "dr.jones", "dr.smith", "dr.who"]
    assert [row.id for row in rows] == [f"it/train/sad/{id_}" for id_ in ids]
    assert [row.photo for row in rows] == [row.id for row in rows]


def test_reported_a_numbered_folder_of_contempt_is_left_out_and_counted(make_tree: MakeTree):
    # What the params say of a folder stands above its name.
    meanings = {"0": "Angry", "1": "Contempt", "2": "none", "sad": "Uncertain", "fear": "Happy"}
    names = ["0", "1", "2", "3", "sad", "fear", "Contempt"]
    tree = make_tree({f"train/{name}/1.png": b"x" for name in names})
    rows = rows_of(tree, "folder7", class_folders=meanings)
    said = {row.row.split("/")[1]: getattr(row, "detail", None) or row.label for row in rows}
    assert said.pop("3").startswith("expected a folder named by a class, got '3'; class_folders")
    assert said == meanings | {"Contempt": "Contempt"}
    assert [row.reason for row in rows if row.row.split("/")[1] in ("1", "2", "sad", "Contempt")] == (
        ["not_a_class"] * 4
    )  # fmt: skip


LABELS = {
    "rafdb_basic": ["Surprise", "Fear", "Disgust", "Happy", "Sad", "Angry", "Neutral"],
    # A compound emotion counts as the first of its pair.
    "rafdb_compound_mapped": [
        *["Happy"] * 2, *["Sad"] * 4, *["Fear"] * 2, *["Angry"] * 2, "Disgust",
    ],
}  # fmt: skip


@pytest.mark.parametrize("form", LABELS)
@pytest.mark.parametrize("ending", ["list_patition_label.txt", "list_partition_label.txt"])
def test_codes_and_splits_of_rafdbs_list(make_tree: MakeTree, form, ending):
    labels = LABELS[form]
    files = {f"it/Image/aligned/train_{n}_aligned.jpg": b"x" for n in range(1, len(labels) + 2)}
    files["it/Image/aligned/aligned/test_0001_aligned.JPG"] = b"x"
    files["it/Image/original/train_1.jpg"] = b"not a row: aligned pictures are there"
    lines = [f"train_{n}.jpg {n}" for n in range(1, len(labels) + 2)] + ["test_0001.jpg\t4"]
    rows = rows_of(make_tree({**files, f"it/EmoLabel/{ending}": "\r\n".join(lines)}), form)
    assert [row[1:] for row in faces_of(rows)] == [
        *((label, "train") for label in labels),
        (labels[3], "test"),
    ]
    assert rows[-1].id == rows[-1].photo == "it/test_0001"
    assert rows[-1].member == "it/Image/aligned/aligned/test_0001_aligned.JPG"
    wrong = rows[-2]
    assert wrong.detail == f"expected 1 to {len(labels)}, got '{len(labels) + 1}'"


@pytest.mark.parametrize("form", LABELS)
def test_kaggle_folders_give_the_same_ids_as_the_list(make_tree: MakeTree, form):
    names = ["DATASET/train/4/train_00001_aligned.jpg", "DATASET/test/13/test_0001_aligned.jpg"]
    rows = rows_of(make_tree({**dict.fromkeys(names, b"x"), "train_labels.csv": "image"}), form)
    assert faces_of(rows) == [("it/train_00001", LABELS[form][3], "train")]
    assert rejects_of(rows) == [(names[1], "label_invalid")]


@pytest.mark.parametrize(
    ("form", "tables"),
    [
        ("rafdb_basic", {"list_partition_label.txt": "test_1.jpg 6\n"}),
        ("rafml_argmax",
         {"distribution.txt": "test_1.jpg 0 0 0 0 0 1", "partition_label.txt": "test_1.jpg 1"}),
    ],
)  # fmt: skip
def test_original_pictures_serve_where_no_aligned_ones_are(make_tree, caplog, form, tables):
    rows = rows_of(make_tree({"Image/original/test_1.jpg": b"x", **tables}), form)
    assert faces_of(rows) == [("it/test_1", "Angry", "test")]
    assert rows[0].member == "Image/original/test_1.jpg"
    assert "native_px is the photo's" in caplog.text


def test_the_largest_share_of_rafml_is_the_label_and_shares_are_votes_in_canonical_order(make_tree):
    shares = ["0001.jpg 0.1 0.2 0.3 0.05 0.15 0.2", "0002.jpg\t0\t0\t0\t0\t0.4\t0.6"]
    files = {f"Image/aligned/000{n}_aligned.jpg": b"x" for n in (1, 2)}
    files |= {
        "distribution.txt": "\n".join(shares),
        "partition_label.txt": "0002.jpg 1\n0001.jpg 0",
    }
    rows = rows_of(make_tree(files), "rafml_argmax")
    assert faces_of(rows) == [("it/0001", "Disgust", "train"), ("it/0002", "Angry", "test")]
    assert [row.votes for row in rows] == [
        (0.2, 0.3, 0.2, 0.05, 0.15, 0.1, 0.0),
        (0.6, 0.0, 0.0, 0.0, 0.4, 0.0, 0.0),
    ]


def test_ferplus_in_generated_folders(make_tree: MakeTree):
    folders = {"Train": (1, 2), "Valid": (9,)}
    files = {f"data/FER2013Train/fer{n}.png": b"x" for n in (1, 2)}
    files |= {"data/FER2013Valid/fer9.PNG": b"x"} | {
        f"data/FER2013{name}/label.csv": "\ufeff"
        + "\r\n\r\n".join(f" fer{n}.png ,{WHOLE}, {HAPPY}" for n in numbers)
        for name, numbers in folders.items()
    }
    rows = rows_of(make_tree(files), "ferplus")
    assert faces_of(rows) == [
        ("it/fer1", "Happy", "train"), ("it/fer2", "Happy", "train"), ("it/fer9", "Happy", "val"),
    ]  # fmt: skip
    assert rows[1].row == "data/FER2013Train/label.csv:3"
    assert rows[1].votes == (0, 0, 0, 8, 0, 0, 1)
    assert rows[2].member == "data/FER2013Valid/fer9.PNG"

"""What each adapter makes of the rows of a dataset as it should be."""

import cv2
import numpy as np
import pytest

from stages.faces.decode import Box
from stages.sources.rows import FAULTS, Candidate, Reject
from tests.sources.conftest import AFFECTNET, MakeTree, faces_of, rejects_of, rows_of

PLACE = "deep/Manually_Annotated_Images"
WHOLE, HAPPY = '"(0, 0, 48, 48)"', "1,8,0,0,0,0,0,0,1,0"
FACE = "0 0.5 0.5 0.25 0.5"
GREY = " ".join(["7"] * 48 * 48)
LABELS = {
    "rafdb_basic": ["Surprise", "Fear", "Disgust", "Happy", "Sad", "Angry", "Neutral"],
    # A compound emotion counts as the first of its pair.
    "rafdb_compound_mapped": [
        *["Happy"] * 2, *["Sad"] * 4, *["Fear"] * 2, *["Angry"] * 2, "Disgust",
    ],
}  # fmt: skip


def stored(left, top, right, bottom) -> Box:
    return Box(left, top, right, bottom, unit="px", pixels="stored")


# Format, files, and what becomes of the rows in their order: id, label and split, or a reject.
CASES = {
    # Tables name pictures below any folder, letter case aside, with either slash.
    "affectnet": (
        "affectnet",
        {"lists/training.csv": "\n".join(["\ufeff" + AFFECTNET, "689/abc.JPG,10,20,30,40,,1,,",
                                          "690/abc.jpg,1,2,3,4,,6,,"]),
         "validation.csv": f"{AFFECTNET.upper()}\n1\\é.png,0, 0, 9, 8,1;2,0,-0.1,0.2",
         **dict.fromkeys((f"{PLACE}/689/abc.jpg", f"{PLACE}/690/abc.jpg"), b"x"),
         f"{PLACE}/1/e\u0301.png": b"x"},
        [("it/689/abc", "Happy", "train"), ("it/690/abc", "Angry", "train"),
         ("it/1/é.png", "Neutral", "val")],
    ),
    # Faces of a photo share it, and their confidence names the source; a stem may stand twice.
    "expw": (
        "expw",
        {"label.lst": "\r\n".join(["party 1.jpg 0 10 20 60 70 60.0 3",
                                   "party 1.jpg 1  5 6 7 8\t59.99 6", "a.jpg 0 1 2 30 40 70 0",
                                   "x.png 0 1 2 30 40 70 0", "b.PNG 0 1 2 30 40 70 0"]),
         **{f"image/origin/{name}": b"x"
            for name in ("party 1.JPG", "a.jpg", "x/x.png", "b.png", "unlisted.jpg")}},
        [("it_hq/party 1#0", "Happy", None), ("it_lq/party 1#1", "Neutral", None),
         ("it_hq/a#0", "Angry", None), ("it_hq/x.png#0", "Angry", None),
         ("it_hq/b.png#0", "Angry", None), "photo_unlisted"],
    ),
    "fer2013, spaced": (
        "fer2013",
        {"icml_face_data.csv": "\n".join(["emotion, Usage, pixels", f"0, Training, {GREY}",
                                          f"3, PublicTest, {GREY}"])},
        [("it/row0000000", "Angry", "train"), ("it/row0000001", "Happy", "val")],
    ),
    "fer2013": (
        "fer2013",
        {"archive/fer2013.csv": f"emotion,pixels,Usage\r\n6,{GREY},PrivateTest", "readme.txt": "x"},
        [("it/row0000000", "Neutral", "test")],
    ),
    # 4 is Sad in FER2013's csv and Neutral where a copy numbers its folders by the alphabet.
    **{f"{form} in folders": (
        form,
        {f"archive/{name}": b"x"
         for name in ("Train/anger/ffhq_1.png", "Train/happiness/deep/er/ffhq_1.JPG",
                      "valid/Suprise/2.b é.png", "test/neutral/3.png", "test/4/5.jpg",
                      "readme.txt")},
        [("it/Train/anger/ffhq_1.png", "Angry", "train"),
         ("it/Train/happiness/deep/er/ffhq_1", "Happy", "train"), "label_invalid",
         ("it/test/neutral/3.png", "Neutral", "test"),
         ("it/valid/Suprise/2.b é.png", "Surprise", "val")],
    ) for form in ("fer2013", "folder7")},
    # Pictures that share a stem are several faces.
    "folder7": (
        "folder7",
        {f"train/sad/{name}": b"x" for name in ("1.jpeg", "1.jpg", "1.png", "dr.jones.JPG", "dr.who")},
        [(f"it/train/sad/{stem}", "Sad", "train")
         for stem in ("1.jpeg", "1", "1.png", "dr.jones", "dr.who")],
    ),
    # Where aligned pictures are, the originals are no rows.
    **{f"{form}, {ending}": (
        form,
        {f"it/EmoLabel/{ending}": "\r\n".join([*(f"train_{n}.jpg {n}" for n in range(1, len(labels) + 2)),
                                               "test_0001.jpg\t4"]),
         **{f"it/Image/aligned/train_{n}_aligned.jpg": b"x" for n in range(1, len(labels) + 2)},
         "it/Image/aligned/aligned/test_0001_aligned.JPG": b"x", "it/Image/original/train_1.jpg": b"x"},
        [*((f"it/train_{n}", label, "train") for n, label in enumerate(labels, start=1)),
         "label_invalid", ("it/test_0001", labels[3], "test")],
    ) for form, labels in LABELS.items()
      for ending in ("list_patition_label.txt", "list_partition_label.txt")},
    # Kaggle's folders give the same ids as the list.
    **{f"{form} in folders": (
        form,
        {**dict.fromkeys(("DATASET/train/4/train_00001_aligned.jpg",
                          "DATASET/test/13/test_0001_aligned.jpg"), b"x"), "train_labels.csv": "image"},
        ["label_invalid", ("it/train_00001", labels[3], "train")],
    ) for form, labels in LABELS.items()},
    "rafdb, original pictures": (
        "rafdb_basic",
        {"Image/original/test_1.jpg": b"x", "list_partition_label.txt": "test_1.jpg 6\n"},
        [("it/test_1", "Angry", "test")],
    ),
    "ferplus": (
        "ferplus",
        {**{f"data/FER2013Train/fer{n}.png": b"x" for n in (1, 2)},
         "data/FER2013Train/label.csv": f"\ufeff fer1.png ,{WHOLE}, {HAPPY}\r\n\r\nfer2.png,{WHOLE},{HAPPY}",
         "data/FER2013Valid/fer9.PNG": b"x", "data/FER2013Valid/label.csv": f"fer9.png,{WHOLE},{HAPPY}"},
        [("it/fer1", "Happy", "train"), ("it/fer2", "Happy", "train"), ("it/fer9", "Happy", "val")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_rows_of_a_dataset_as_it_should_be(make_tree: MakeTree, caplog, case):
    form, files, expected = CASES[case]
    rows = rows_of(make_tree(files), form)
    assert [
        row.reason if isinstance(row, Reject) else (row.id, row.label, row.split) for row in rows
    ] == expected
    assert ("native_px is the photo's" in caplog.text) == ("original" in case)
    for row in rows:
        if isinstance(row, Candidate):
            assert row.photo == row.id.partition("#")[0].replace("_hq", "").replace("_lq", "")
            assert row.picture is None or row.picture in files or "é" in row.picture


def test_what_else_a_row_says(make_tree: MakeTree):
    def row_of(case: str, number: int) -> Candidate:
        form, files, _ = CASES[case]
        row = rows_of(make_tree(files), form)[number]
        assert isinstance(row, Candidate)
        return row

    face = row_of("affectnet", 0)
    assert (face.row, face.member) == ("lists/training.csv:2", f"{PLACE}/689/abc.jpg")
    assert face.box == stored(10, 20, 40, 60)
    face = row_of("expw", 0)
    assert (face.row, face.member) == ("label.lst:1", "image/origin/party 1.JPG")
    assert (face.box, face.confidence) == (stored(20, 10, 60, 70), 60.0)
    face = row_of("fer2013, spaced", 1)
    assert face.member == face.row == "icml_face_data.csv:3"
    image = cv2.imdecode(np.frombuffer(face.image, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(image, np.full((48, 48), 7))
    face = row_of("ferplus", 1)
    assert (face.row, face.votes) == ("data/FER2013Train/label.csv:3", (0, 0, 0, 8, 0, 0, 1))
    assert "photo_unlisted" not in FAULTS


@pytest.mark.parametrize(
    ("table", "box"),
    [
        ("1/a.jpg,10,20,30,40,1;2,4,-0.1,0.2", (10, 20, 40, 60)),  # no header: AffectNet's columns
        ("expression,face_height,face_width,face_y,face_x,subDirectory_filePath\n4,4,3,2,1,1/a.jpg",
         (1, 2, 4, 6)),
        (f"{AFFECTNET}\n1/a.jpg,1.0,2.0,3.0,4.0,,4,,", (1, 2, 4, 6)),  # as pandas writes it
        (f"{AFFECTNET}\n1/a.jpg,-5,2,-3,0,,4,,", (-5, 2, -8, 2)),  # left to the crop
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
    first, second = rows.pop("it/train/a1é#0"), rows.pop("it/train/a1é#1")
    assert first == Candidate(
        f"{folder('Train', 'labels')}/a1é.txt:1",
        id="it/train/a1é#0",
        member=f"{folder('Train', 'images')}/a1é.JPG",
        label="Angry",
        split="train",
        photo="it/train/a1é",
        box=Box(0.375, 0.25, 0.625, 0.75, unit="share", pixels="turned"),
    )
    assert (second.label, second.photo, second.row[-2:]) == ("Happy", first.photo, ":3")
    splits = {row.id: row.split for row in rows.values()}
    assert splits == {"it/val/b#0": "val", "it/test/deep/c#0": "test"}


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


def test_reported_a_numbered_folder_of_contempt_is_left_out_and_counted(make_tree: MakeTree):
    # What the params say of a folder stands above its name.
    meanings = {"0": "Angry", "1": "Contempt", "2": "none", "sad": "Uncertain", "fear": "Happy"}
    names = ["0", "1", "2", "3", "sad", "fear", "Contempt"]
    tree = make_tree({f"train/{name}/1.png": b"x" for name in names})
    rows = rows_of(tree, "folder7", class_folders=meanings)
    words = {row.row.split("/")[1]: getattr(row, "detail", None) or row.label for row in rows}
    assert words.pop("3").startswith("expected a folder named by a class, got '3'; class_folders")
    assert words == meanings | {"Contempt": "Contempt"}
    left_out = {row for row, reason in rejects_of(rows) if reason == "not_a_class"}
    assert left_out == {f"train/{name}/1.png" for name in ("1", "2", "sad", "Contempt")}


def test_the_largest_share_of_rafml_is_the_label_and_shares_are_votes_in_canonical_order(make_tree):
    shares = ["0001.jpg 0.1 0.2 0.3 0.05 0.15 0.2", "0002.jpg\t0\t0\t0\t0\t0.4\t0.6"]
    files = {f"Image/aligned/000{n}_aligned.jpg": b"x" for n in (1, 2)}
    files |= {"distribution.txt": "\n".join(shares)}
    files |= {"partition_label.txt": "0002.jpg 1\n0001.jpg 0"}
    rows = rows_of(make_tree(files), "rafml_argmax")
    assert faces_of(rows) == [("it/0001", "Disgust", "train"), ("it/0002", "Angry", "test")]
    assert [row.votes for row in rows] == [
        (0.2, 0.3, 0.2, 0.05, 0.15, 0.1, 0.0),
        (0.6, 0.0, 0.0, 0.0, 0.4, 0.0, 0.0),
    ]

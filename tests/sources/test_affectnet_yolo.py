import pytest

from stages.config import AffectnetYoloSource
from stages.runtime.errors import UserError
from stages.sources.affectnet_yolo import read
from stages.sources.face import Candidate, Reject, ShareBox
from stages.sources.members import MemberReader
from stages.sources.tree import RawTree

SOURCE = AffectnetYoloSource(format="affectnet_yolo", path="yolo")
NAMES = "train: ../train/images\nnc: 4\nnames: ['Anger', 'Contempt', 'happy', 'dog']\n"
FACE = "0 0.5 0.5 0.25 0.5"


def rows_of(tree):
    return list(read(tree, name="yolo", source=SOURCE))


def rejects_of(rows):
    return [(row.row, row.reason, row.member) for row in rows if isinstance(row, Reject)]


@pytest.mark.parametrize("folder", ["train/labels", "labels/train", "labels"])
def test_the_list_of_classes_among_the_labels_is_no_label_file(make_tree, folder):
    tree = make_tree(
        {
            "data.yaml": NAMES,
            "train/images/a.jpg": b"x",
            "train/labels/a.txt": FACE,
            f"{folder}/Classes.txt": "Anger\nContempt\n",
        }
    )
    (row,) = rows_of(tree)
    assert isinstance(row, Candidate)


@pytest.mark.parametrize(
    "layout",
    ["YOLO/{split}/{kind}", "{kind}/{split}", "images/{split}/{kind}", "{split} /{kind}"],
)
def test_each_line_is_a_face_of_its_picture(make_tree, layout):
    def folder(split, kind):
        return layout.format(split=split, kind=kind)

    tree = make_tree(
        {
            "data.yaml": "\ufeff" + NAMES,
            f"{folder('Train', 'images')}/a_jpg.rf.1é.JPG": b"x",
            f"{folder('Train', 'labels')}/a_jpg.rf.1é.txt": f"{FACE}\r\n\r\n 2\t0.1 0.2 0.1 0.2 \r\n",
            f"{folder('valid', 'images')}/b.png": b"x",
            f"{folder('valid', 'Labels')}/B.TXT": FACE,
            f"{folder('test', 'images')}/deep/c.png": b"x",
            f"{folder('test', 'labels')}/deep/c.txt": FACE,
            f"{folder('test', 'labels')}/deep.cache": b"\0",
        }
    )
    rows = {row.id: row for row in rows_of(tree)}
    first = rows["yolo/train/a_jpg.rf.1é#0"]
    assert first == Candidate(
        row=f"{folder('Train', 'labels')}/a_jpg.rf.1é.txt:1",
        id="yolo/train/a_jpg.rf.1é#0",
        member=f"{folder('Train', 'images')}/a_jpg.rf.1é.JPG",
        label="Angry",
        split="train",
        photo="yolo/train/a_jpg.rf.1é",
        box=ShareBox(left=0.375, top=0.25, right=0.625, bottom=0.75, pixels="turned"),
    )
    second = rows["yolo/train/a_jpg.rf.1é#1"]
    assert (second.label, second.photo) == ("Happy", first.photo)
    assert second.row.endswith(":3")
    assert {row.id: row.split for row in rows.values() if row not in (first, second)} == {
        "yolo/val/b#0": "val",
        "yolo/test/deep/c#0": "test",
    }


@pytest.mark.parametrize(
    "names", ["names:\n  0: Anger\n  2: happy\n", 'names: {"2": Happy, "0": angry}', NAMES]
)
def test_names_are_a_list_or_a_mapping(make_tree, names):
    tree = make_tree(
        {"data.yaml": names, "val/images/a.png": b"x", "val/labels/a.txt": f"2{FACE[1:]}\n{FACE}"}
    )
    assert [row.label for row in rows_of(tree)] == ["Happy", "Angry"]


def test_every_line_that_is_no_face_says_why(make_tree):
    lines = {
        "1 0.5 0.5 0.2 0.2": "not_a_class",
        "3 0.5 0.5 0.2 0.2": "label_invalid",
        "4 0.5 0.5 0.2 0.2": "label_invalid",
        "Anger 0.5 0.5 0.2 0.2": "label_invalid",
        "0 0.5 0.5 0.2": "row_malformed",
        "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2": "row_malformed",
        "0 0.5 0.5 0.2 x": "row_malformed",
        "0 0.5 nan 0.2 0.2": "row_malformed",
        "0 0.5 0.5 inf 0.2": "row_malformed",
        "0 1.7e308 0.5 1.7e308 0.2": "row_malformed",
        "0": "row_malformed",
    }
    text = "\n".join([*lines, FACE])
    tree = make_tree({"data.yaml": NAMES, "test/images/a.png": b"x", "test/labels/a.txt": text})
    rows = rows_of(tree)
    assert rejects_of(rows) == [
        (f"test/labels/a.txt:{n}", reason, "test/images/a.png")
        for n, reason in enumerate(lines.values(), start=1)
    ]
    assert rows[-1].id == f"yolo/test/a#{len(lines)}"


def test_boxes_outside_the_picture_are_left_to_the_crop(make_tree):
    tree = make_tree(
        {
            "data.yaml": NAMES,
            "test/images/a.png": b"x",
            "test/labels/a.txt": "0 1.5 -1 1 0\n0 0.5 0.5 -0.5 0.5",
        }
    )
    assert [row.box for row in rows_of(tree)] == [
        ShareBox(left=1.0, top=-1.0, right=2.0, bottom=-1.0, pixels="turned"),
        ShareBox(left=0.75, top=0.25, right=0.25, bottom=0.75, pixels="turned"),
    ]


def test_pictures_and_label_files_without_each_other_say_so(make_tree):
    tree = make_tree(
        {
            "data.yaml": NAMES,
            "train/images/alone.png": b"x",
            "train/images/empty.png": b"x",
            "train/labels/empty.txt": " \n\n",
            "train/images/latin.png": b"x",
            "train/labels/latin.txt": "é".encode("latin-1"),
            "train/labels/lost.txt": f"{FACE}\n{FACE}",
            "train/labels/lost_and_empty.txt": "",
            "train/images/notes.md": b"x",
            "train/notes.txt": b"x",
            "train/labels.jpg": b"x",
        }
    )
    assert rejects_of(rows_of(tree)) == [
        ("train/images/alone.png", "label_missing", "train/images/alone.png"),
        ("train/images/empty.png", "label_missing", "train/images/empty.png"),
        ("train/labels/latin.txt", "row_malformed", "train/images/latin.png"),
        ("train/labels/lost.txt:1", "image_missing", None),
        ("train/labels/lost.txt:2", "image_missing", None),
        ("train/labels/lost_and_empty.txt", "image_missing", None),
    ]


def test_of_two_pictures_of_one_name_the_first_stays(make_tree):
    tree = make_tree(
        {
            "data.yaml": NAMES,
            "val/images/a.jpg": b"x",
            "val/images/a.png": b"x",
            "val/labels/a.txt": FACE,
            "valid/labels/a.txt": FACE,
        }
    )
    rows = rows_of(tree)
    assert rejects_of(rows) == [
        ("val/images/a.png", "row_repeated", "val/images/a.png"),
        ("valid/labels/a.txt", "row_repeated", None),
    ]
    assert [row.member for row in rows if isinstance(row, Candidate)] == ["val/images/a.jpg"]


def test_letter_case_does_not_matter_where_it_alone_does_not_tell_two_apart():
    files = {
        "data.yaml": NAMES,
        "train/images/One.png": "x",
        "train/labels/one.txt": FACE,
        "train/images/Two.png": "x",
        "train/images/tWo.png": "x",
        "train/labels/tWo.txt": FACE,
        "train/images/Three.png": "x",
        "train/images/tHree.png": "x",
        "train/labels/three.txt": FACE,
    }

    class Memory(RawTree):
        def read(self, member):
            return files[member].encode()

    # A folder on some file systems cannot hold them all.
    rows = rows_of(Memory(dict.fromkeys(files), reader=MemberReader(None)))
    assert [row.id for row in rows if isinstance(row, Candidate)] == [
        "yolo/train/One#0",
        "yolo/train/tWo#0",
    ]
    assert rejects_of(rows) == [
        ("train/images/Three.png", "label_missing", "train/images/Three.png"),
        ("train/images/Two.png", "label_missing", "train/images/Two.png"),
        ("train/images/tHree.png", "label_missing", "train/images/tHree.png"),
        ("train/labels/three.txt:1", "image_missing", None),
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train/images/a.png": b"x"}, r"source yolo: expected data.yaml and \{train,valid,test\}"),
        ({"data.yaml": NAMES}, r"expected \{train,val,valid,validation,test\}/\{images,labels\}"),
        ({"data.yaml": NAMES, "trian/images/a.png": b"x"}, "trian/images/a.png: expected"),
        ({"data.yaml": NAMES, "labels/a.txt": FACE}, "labels/a.txt: expected"),
        ({"data.yaml": "nc: 3"}, "data.yaml: expected names, a list or a mapping"),
        ({"data.yaml": "names: []"}, "data.yaml: expected names, a list or a mapping"),
        ({"data.yaml": "names: 3"}, "data.yaml: expected names, a list or a mapping"),
        ({"data.yaml": "- a"}, "data.yaml: expected names, a list or a mapping"),
        ({"data.yaml": "names: [[a], b]"}, r"data.yaml: names: expected class names, got .*a"),
        ({"data.yaml": "names: [a"}, "data.yaml: not valid YAML"),
        ({"data.yaml": "names: !!python/object/apply:os.getcwd []"}, "data.yaml: expected names"),
        ({"data.yaml": "[" * 20_000}, "data.yaml: not valid YAML"),
        ({"data.yaml": b"\xff\xfe"}, "data.yaml: not valid YAML"),
    ],
)
def test_a_layout_that_cannot_be_read_is_an_error(make_tree, files, message):
    with pytest.raises(UserError, match=message):
        rows_of(make_tree(files))

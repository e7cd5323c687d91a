import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.runtime.errors import UserError
from stages.sources import affectnet
from stages.sources.members import MemberReader
from stages.sources.rows import Candidate, Reject
from stages.sources.tree import RawTree
from tests.sources.conftest import AFFECTNET, faces_of, npy, rows_of, source_of

TRAIN, PLACE = "Manually_Annotated_file_lists/training.csv", "Manually_Annotated_Images"


def rejects_of(rows):
    return [(row.row, row.reason, row.member) for row in rows if isinstance(row, Reject)]


def in_memory(files) -> RawTree:
    class Memory(RawTree):
        def read(self, member):
            return files[member]

        def open(self, member):
            return io.BytesIO(files[member])

    return Memory(dict.fromkeys(files), reader=MemberReader(None))


def line(path: str, expression: str, *, box: str = "10,20,30,40") -> str:
    return f"{path},{box},1;2,{expression},-0.1,0.2"


def table(*lines: str) -> str:
    return "\n".join([AFFECTNET, *lines])


# --- tables --------------------------------------------------------------------------------------


def test_pictures_without_a_row_count_where_the_tables_look(make_tree):
    tree = make_tree(
        {
            TRAIN: table(line("1/a.jpg", "1"), line("2/gone.jpg", "1"), "1/short.jpg,3"),
            "automatically_annotated.csv": table(line("1/auto.jpg", "1")),
            f"{PLACE}/1/a.jpg": b"x",
            f"{PLACE}/1/short.jpg": b"x",
            f"{PLACE}/1/b.JPG": b"x",
            f"{PLACE}/1/notes.txt": b"x",
            f"{PLACE}/1/deeper/c.jpg": b"x",
            f"{PLACE}/2/c.jpg": b"x",
            f"{PLACE}/3/d.jpg": b"x",
            "Automatically_Annotated_Images/1/auto.jpg": b"x",
        }
    )
    assert rejects_of(rows_of(tree, "affectnet")) == [
        (f"{TRAIN}:3", "image_missing", None),
        (f"{TRAIN}:4", "row_malformed", f"{PLACE}/1/short.jpg"),
        (f"{PLACE}/1/b.JPG", "label_missing", f"{PLACE}/1/b.JPG"),
        (f"{PLACE}/2/c.jpg", "label_missing", f"{PLACE}/2/c.jpg"),
    ]


def test_incident_D2_a_row_that_means_two_pictures_is_an_error(make_tree):
    tree = make_tree(
        {TRAIN: table(line("1/a.jpg", "1")), f"{PLACE}/1/a.jpg": b"x", "cropped/1/a.jpg": b"x"}
    )
    with pytest.raises(UserError, match=r"1/a.jpg: expected one such picture, found 2: .*cropped"):
        rows_of(tree, "affectnet")


def test_where_letter_case_alone_tells_two_apart_only_the_exact_name_finds_one():
    lines = [line("1/A.jpg", "1"), line("1/a.JPG", "2")]
    text = table(*lines).encode()

    # A folder on some file systems cannot hold both pictures.
    rows = rows_of(in_memory({"training.csv": text, "1/A.jpg": b"x", "1/a.jpg": b"x"}), "affectnet")
    assert rows[0].member == "1/A.jpg"
    assert rejects_of(rows) == [
        ("training.csv:3", "image_missing", None),
        ("1/a.jpg", "label_missing", "1/a.jpg"),
    ]


def test_label_files_find_their_picture_where_letter_case_alone_does_not_tell_two_apart():
    pictures = ["One", "Two", "tWo", "Three", "tHree"]
    files = {f"train/images/{name}.png": b"x" for name in pictures} | {
        f"train/labels/{name}.txt": b"0 .5 .5 .2 .2" for name in ("one", "tWo", "three")
    }
    rows = rows_of(in_memory({**files, "data.yaml": b"names: [sad]"}), "affectnet_yolo")
    assert [row[0] for row in faces_of(rows)] == ["it/train/One#0", "it/train/tWo#0"]
    assert [row[:2] for row in rejects_of(rows)] == [
        ("train/images/Three.png", "label_missing"),
        ("train/images/Two.png", "label_missing"),
        ("train/images/tHree.png", "label_missing"),
        ("train/labels/three.txt:1", "image_missing"),
    ]


SPELLINGS = [
    ["0/p0.jpg", "0/P0.jpg"],
    ["0/p0.jpg", f"{PLACE}/0/p0.jpg"],
    [f"{PLACE}/0/p0.JPG", "0\\p0.jpg"],
    [f"{PLACE}/0/p0.jpg", f"it/{PLACE}/0/p0.jpg", "0/p0.jpg"],
]


@pytest.mark.parametrize("spellings", [*SPELLINGS, *(each[::-1] for each in SPELLINGS)])
def test_a_picture_has_one_name_however_the_table_spells_it(make_tree, spellings):
    lines = [line(path, "1", box=f"1,2,30,{n}") for n, path in enumerate(spellings, start=40)]
    others = [line("0/other.jpg", "2"), line(f"{PLACE}/1/P0.jpg", "3")]
    files = {f"it/{PLACE}/{name}": b"x" for name in ("0/P0.jpg", "0/other.jpg", "1/P0.jpg")}
    tree = make_tree(files | {TRAIN: table(*lines, *others)})
    rows = list(affectnet.read(tree, name="it", source=source_of("affectnet")))
    assert {(row.id, row.photo) for row in rows[: len(lines)]} == {("it/0/P0", "it/0/P0")}
    assert [row.id for row in rows[len(lines) :]] == ["it/0/other", f"it/{PLACE}/1/P0"]


# --- .npy annotations ----------------------------------------------------------------------------


def test_npy_annotations_are_numbers_in_a_string(make_tree):
    files = {
        "AffectNet/train_set/images/0.jpg": b"x",
        "AffectNet/train_set/annotations/0_exp.npy": npy("1"),
        "AffectNet/train_set/annotations/0_aro.npy": npy("0.1"),
        "AffectNet/train_set/annotations/0_lnd.npy": npy([1.0, 2.0]),
        "AffectNet/val_set/images/0.JPG": b"x",
        "AffectNet/val_set/annotations/0_exp.npy": npy(6),
    }
    rows = rows_of(make_tree(files), "affectnet")
    assert faces_of(rows) == [("it/train/0", "Happy", "train"), ("it/val/0", "Angry", "val")]
    assert rows[0].member == "AffectNet/train_set/images/0.jpg"
    assert rows[0].row == "AffectNet/train_set/annotations/0_exp.npy"


class Bomb:
    """Pickled, it would make a file when it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_every_annotation_that_is_no_face_says_why_and_none_is_executed(make_tree, tmp_path):
    executed = tmp_path / "executed"
    pickled = np.empty((), dtype=object)
    pickled[()] = Bomb(str(executed))
    zipped = io.BytesIO()
    np.savez(zipped, 1)
    huge = npy("1").replace(b"'shape': (), }           ", b"'shape': (99999999999,), }")
    malformed = [
        *map(npy, ["happy", "", 1.5, float("nan"), float("inf"), "1.5", "1_0", np.longdouble(1)]),
        *map(npy, [["1", "2"], pickled]),
        *(zipped.getvalue(), b"", b"1", npy("1")[:-1], npy("1") + b"\0\0\0\0", huge),
        npy("1")[:-4] + b"\xff\xff\xff\xff",
        npy("1").replace(b"<U1", b"<U0"),
        npy(np.int64(1)).replace(b"<i8", b"<i7"),
    ]
    others = [
        ("7", "not_a_class"),
        ("10", "not_a_class"),
        ("11", "label_invalid"),
        ("-1", "label_invalid"),
    ]
    contents = [(npy(text), reason) for text, reason in others]
    contents += [(data, "row_malformed") for data in malformed]
    annotations = {str(n): content for n, content in enumerate(contents, start=10)}
    files = {f"train_set/annotations/{n}_exp.npy": data for n, (data, _) in annotations.items()}
    files |= {f"train_set/images/{n}.jpg": b"x" for n in annotations}
    files |= {"train_set/images/8.jpg": b"x", "train_set/annotations/9_exp.npy": npy("1")}
    rows = rows_of(make_tree(files), "affectnet")
    assert rejects_of(rows) == [
        *(
            (f"train_set/annotations/{n}_exp.npy", reason, f"train_set/images/{n}.jpg")
            for n, (_, reason) in annotations.items()
        ),
        ("train_set/images/8.jpg", "label_missing", "train_set/images/8.jpg"),
        ("train_set/annotations/9_exp.npy", "image_missing", None),
    ]
    assert not executed.exists()
    np.load(io.BytesIO(npy(pickled)), allow_pickle=True)
    assert executed.exists()


def label_of(data: bytes) -> Candidate | Reject:
    files = {"train_set/images/1.jpg": b"x", "train_set/annotations/1_exp.npy": data}
    (row,) = rows_of(in_memory(files), "affectnet")
    return row


@given(
    st.integers(0, 6),
    st.sampled_from(["<U1", "<U7", ">U2", "S1", "S3", "i1", "<i4", ">i4", "<i8", "u1", ">u8"]),
)
def test_any_string_or_integer_that_numpy_saves_is_read_as_numpy_loads_it(code, dtype):
    data = npy(np.array(str(code)).astype(dtype))
    expected = label_of(npy(str(int(np.load(io.BytesIO(data), allow_pickle=False).item()))))
    assert isinstance(expected, Candidate)
    assert label_of(data) == expected


@given(st.data())
def test_any_byte_may_be_wrong(data):
    whole = bytearray(npy("3"))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)):
        whole[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    row = label_of(bytes(whole[:cut]))
    assert isinstance(row, Candidate) or row.reason in {
        "row_malformed", "label_invalid", "not_a_class",
    }  # fmt: skip


@pytest.mark.parametrize("value", [1.0, np.float32(1), np.float16(1), "1.0", " 1", np.str_("1")])
def test_reported_a_number_in_an_npy_file_may_be_a_float(value):
    assert label_of(npy(value)).label == "Happy"

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.config import AffectnetSource
from stages.runtime.errors import UserError
from stages.sources.affectnet import read
from stages.sources.face import Box, Candidate, Reject
from stages.sources.members import MemberReader
from stages.sources.tree import RawTree

SOURCE = AffectnetSource(format="affectnet", path="affectnet")
HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
    "expression,valence,arousal"
)
LANDMARKS = ";".join(["12.5"] * 136)
TRAIN, VAL = "Manually_Annotated_file_lists/training.csv", "validation.csv"
PLACE = "Manually_Annotated_Images"


def rows_of(tree):
    return list(read(tree, name="aff", source=SOURCE))


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
    return f"{path},{box},{LANDMARKS},{expression},-0.1,0.2"


def table(*lines: str, header: str = HEADER) -> str:
    return "\n".join([header, *lines])


# --- tables --------------------------------------------------------------------------------------


def test_tables_name_pictures_below_any_folder(make_tree):
    tree = make_tree(
        {
            TRAIN: "\ufeff" + table(line("689/abc.JPG", "1"), line("690/abc.jpg", "6")),
            VAL: table(line("1\\é.png", "0", box="0, 0, 9, 8"), header=HEADER.upper()),
            f"deep/{PLACE}/689/abc.jpg": b"x",
            f"deep/{PLACE}/690/abc.jpg": b"x",
            f"deep/{PLACE}/1/e\u0301.png": b"x",
        }
    )
    rows = rows_of(tree)
    assert rows[0] == Candidate(
        row=f"{TRAIN}:2",
        id="aff/689/abc",
        member=f"deep/{PLACE}/689/abc.jpg",
        label="Happy",
        split="train",
        photo="aff/689/abc",
        box=Box(left=10, top=20, right=40, bottom=60, pixels="stored"),
    )
    assert [(row.id, row.label, row.split) for row in rows[1:]] == [
        ("aff/690/abc", "Angry", "train"),
        ("aff/1/é.png", "Neutral", "val"),
    ]
    assert rows[2].box == Box(0, 0, 9, 8, pixels="stored")


def test_a_table_without_header_has_affectnets_columns(make_tree):
    lines = [line("1/a.jpg", "2"), line("1/b.jpg", "3")]
    tree = make_tree({VAL: "\n".join(lines), "1/a.jpg": b"x", "1/b.jpg": b"x"})
    rows = rows_of(tree)
    assert [(row.row, row.label) for row in rows] == [(f"{VAL}:1", "Sad"), (f"{VAL}:2", "Surprise")]


def test_columns_are_found_by_name(make_tree):
    tree = make_tree(
        {
            VAL: "expression,face_height,face_width,face_y,face_x,subDirectory_filePath\n"
            "4,4,3,2,1,1/a.jpg",
            "1/a.jpg": b"x",
        }
    )
    (row,) = rows_of(tree)
    assert (row.label, row.box) == ("Fear", Box(left=1, top=2, right=4, bottom=6, pixels="stored"))


def test_every_row_that_is_no_face_says_why(make_tree):
    lines = {
        line("1/a.jpg", "7"): ("not_a_class", "1/a.jpg"),
        line("1/b.jpg", "8", box="NULL,NULL,NULL,NULL"): ("not_a_class", "1/b.jpg"),
        line("1/c.jpg", "9"): ("not_a_class", "1/c.jpg"),
        line("1/gone.jpg", "10"): ("not_a_class", None),
        line("1/gone.jpg", "1"): ("image_missing", None),
        line("1/d.jpg", "11"): ("label_invalid", "1/d.jpg"),
        line("1/e.jpg", ""): ("label_invalid", "1/e.jpg"),
        line("1/f.jpg", "1", box="NULL,null,,nan"): ("box_missing", "1/f.jpg"),
        line("1/g.jpg", "1", box="1,NULL,3,4"): ("row_malformed", "1/g.jpg"),
        line("1/h.jpg", "1", box="1,2.5,3,4"): ("row_malformed", "1/h.jpg"),
        line("1/i.jpg", "1", box="1,inf,3,nan"): ("row_malformed", "1/i.jpg"),
        line("1/j.jpg", "1") + ",1": ("row_malformed", "1/j.jpg"),
        "1/k.jpg,1,2,3": ("row_malformed", "1/k.jpg"),
        line("", "1"): ("row_malformed", None),
    }
    files = {f"1/{stem}.jpg": b"x" for stem in "abcdefghijk"}
    rows = rows_of(make_tree({**files, TRAIN: table(*lines)}))
    assert rejects_of(rows) == [
        (f"{TRAIN}:{n}", reason, member)
        for n, (reason, member) in enumerate(lines.values(), start=2)
    ]
    assert len(rows) == len(lines)


def test_a_box_that_went_through_pandas_is_a_box(make_tree):
    tree = make_tree({TRAIN: table(line("1/a.jpg", "1", box="1.0,2.0,3.0,4.0")), "1/a.jpg": b"x"})
    (row,) = rows_of(tree)
    assert row.box == Box(left=1, top=2, right=4, bottom=6, pixels="stored")


def test_a_box_that_cannot_be_is_left_to_the_crop(make_tree):
    tree = make_tree({TRAIN: table(line("1/a.jpg", "1", box="-5,2,-3,0")), "1/a.jpg": b"x"})
    (row,) = rows_of(tree)
    assert row.box == Box(left=-5, top=2, right=-8, bottom=2, pixels="stored")


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
    assert rejects_of(rows_of(tree)) == [
        (f"{TRAIN}:3", "image_missing", None),
        (f"{TRAIN}:4", "row_malformed", f"{PLACE}/1/short.jpg"),
        (f"{PLACE}/1/b.JPG", "label_missing", f"{PLACE}/1/b.JPG"),
        (f"{PLACE}/2/c.jpg", "label_missing", f"{PLACE}/2/c.jpg"),
    ]


def test_pictures_at_the_top_are_found_and_counted(make_tree):
    tree = make_tree({TRAIN: table(line("a.jpg", "1")), "a.jpg": b"x", "b.jpg": b"x"})
    face, reject = rows_of(tree)
    assert face.id == "aff/a"
    assert (reject.row, reject.reason) == ("b.jpg", "label_missing")


def test_incident_D2_a_row_that_means_two_pictures_is_an_error(make_tree):
    tree = make_tree(
        {TRAIN: table(line("1/a.jpg", "1")), f"{PLACE}/1/a.jpg": b"x", "cropped/1/a.jpg": b"x"}
    )
    with pytest.raises(UserError, match=r"1/a.jpg: expected one such picture, found 2: .*cropped"):
        rows_of(tree)


def test_where_letter_case_alone_tells_two_apart_only_the_exact_name_finds_one():
    lines = [line("1/A.jpg", "1"), line("1/a.JPG", "2")]
    text = table(*lines).encode()

    # A folder on some file systems cannot hold both pictures.
    rows = rows_of(in_memory({"training.csv": text, "1/A.jpg": b"x", "1/a.jpg": b"x"}))
    assert rows[0].member == "1/A.jpg"
    assert rejects_of(rows) == [
        ("training.csv:3", "image_missing", None),
        ("1/a.jpg", "label_missing", "1/a.jpg"),
    ]


SPELLINGS = [
    ["0/p0.jpg", "0/P0.jpg"],
    ["0/p0.jpg", f"{PLACE}/0/p0.jpg"],
    [f"{PLACE}/0/p0.JPG", "0\\p0.jpg"],
    [f"{PLACE}/0/p0.jpg", f"aff/{PLACE}/0/p0.jpg", "0/p0.jpg"],
]


@pytest.mark.parametrize("spellings", [*SPELLINGS, *(each[::-1] for each in SPELLINGS)])
def test_a_picture_has_one_name_however_the_table_spells_it(make_tree, spellings):
    lines = [line(path, "1", box=f"1,2,30,{n}") for n, path in enumerate(spellings, start=40)]
    others = [line("0/other.jpg", "2"), line(f"{PLACE}/1/P0.jpg", "3")]
    files = {f"aff/{PLACE}/{name}": b"x" for name in ("0/P0.jpg", "0/other.jpg", "1/P0.jpg")}
    rows = rows_of(make_tree(files | {TRAIN: table(*lines, *others)}))
    assert {(row.id, row.photo) for row in rows[: len(lines)]} == {("aff/0/P0", "aff/0/P0")}
    assert [row.id for row in rows[len(lines) :]] == ["aff/0/other", f"aff/{PLACE}/1/P0"]


# --- .npy annotations ----------------------------------------------------------------------------


def npy(value) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(value))
    return file.getvalue()


def test_npy_annotations_are_numbers_in_a_string(make_tree):
    tree = make_tree(
        {
            "AffectNet/train_set/images/0.jpg": b"x",
            "AffectNet/train_set/annotations/0_exp.npy": npy("1"),
            "AffectNet/train_set/annotations/0_aro.npy": npy("0.1"),
            "AffectNet/train_set/annotations/0_val.npy": npy("0.1"),
            "AffectNet/train_set/annotations/0_lnd.npy": npy([1.0, 2.0]),
            "AffectNet/val_set/images/0.JPG": b"x",
            "AffectNet/val_set/annotations/0_exp.npy": npy(6),
        }
    )
    train, val = rows_of(tree)
    assert train == Candidate(
        row="AffectNet/train_set/annotations/0_exp.npy",
        id="aff/train/0",
        member="AffectNet/train_set/images/0.jpg",
        label="Happy",
        split="train",
        photo="aff/train/0",
    )
    assert (val.id, val.label, val.split) == ("aff/val/0", "Angry", "val")


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
    annotations = {
        "10": (npy("7"), "not_a_class"),
        "11": (npy("10"), "not_a_class"),
        "12": (npy("11"), "label_invalid"),
        "13": (npy("-1"), "label_invalid"),
        "14": (npy("happy"), "row_malformed"),
        "15": (npy(""), "row_malformed"),
        "16": (npy(1.5), "row_malformed"),
        "17": (npy(["1", "2"]), "row_malformed"),
        "18": (npy(pickled), "row_malformed"),
        "19": (zipped.getvalue(), "row_malformed"),
        "20": (b"", "row_malformed"),
        "21": (b"1", "row_malformed"),
        "22": (npy("1")[:-1], "row_malformed"),
        "23": (npy("1") + b"\0\0\0\0", "row_malformed"),
        "24": (huge, "row_malformed"),
        "25": (npy("1")[:-4] + b"\xff\xff\xff\xff", "row_malformed"),
        "26": (npy("1").replace(b"<U1", b"<U0"), "row_malformed"),
        "27": (npy(np.int64(1)).replace(b"<i8", b"<i7"), "row_malformed"),
    }
    files = {f"train_set/annotations/{n}_exp.npy": data for n, (data, _) in annotations.items()}
    files |= {f"train_set/images/{n}.jpg": b"x" for n in annotations}
    files |= {"train_set/images/8.jpg": b"x", "train_set/annotations/9_exp.npy": npy("1")}
    rows = rows_of(make_tree(files))
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


def test_the_number_that_stands_for_nothing_is_shown(make_tree):
    tree = make_tree({"val_set/images/1.jpg": b"x", "val_set/annotations/1_exp.npy": npy(-1)})
    (row,) = rows_of(tree)
    assert row.detail == "expected 0 to 10, got '-1'"


def label_of(data: bytes) -> Candidate | Reject:
    files = {"train_set/images/1.jpg": b"x", "train_set/annotations/1_exp.npy": data}
    (row,) = rows_of(in_memory(files))
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


# --- neither, both -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"automatically_annotated.csv": HEADER, "1/a.jpg": b"x"}, "found .'1/a.jpg', 'automat"),
        ({"train_set/images/1.jpg": b"x"}, "source aff: expected training.csv or validation.csv"),
        (
            {VAL: HEADER, "val_set/annotations/1_exp.npy": npy("1")},
            "and not both; found .'validation.csv', 'val_set/annotations/1_exp.npy'",
        ),
        ({VAL: "subDirectory_filePath,expression\n"}, "missing .'face_x', 'face_y'"),
        ({VAL: ""}, "validation.csv: expected the columns"),
        (
            {"trian_set/annotations/1_exp.npy": npy("1")},
            "trian_set/annotations/1_exp.npy: expected .train_set,val_set./.images,annotations.",
        ),
        ({"1_exp.npy": npy("1")}, "source aff: expected .train_set,val_set./.images,annotations."),
    ],
)
def test_a_layout_that_cannot_be_read_is_an_error(make_tree, files, message):
    with pytest.raises(UserError, match=message):
        rows_of(make_tree(files))

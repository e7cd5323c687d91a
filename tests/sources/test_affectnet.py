"""AffectNet's own tables and .npy files, and the pairs that it shares with its YOLO form."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.runtime.errors import UserError
from stages.sources import affectnet
from stages.sources.rows import Candidate, Reject
from tests.sources.conftest import AFFECTNET, became, ids_of, in_memory, npy, rows_of, source_of

TRAIN, PLACE = "Manually_Annotated_file_lists/training.csv", "Manually_Annotated_Images"


def table(*lines: tuple[str, str]) -> str:
    """A table of paths and boxes, all happy."""
    return "\n".join([AFFECTNET, *(f"{path},{box},1;2,1,-0.1,0.2" for path, box in lines)])


def pictures(*names: str) -> dict[str, bytes]:
    return dict.fromkeys(names, b"x")


def test_pictures_without_a_row_count_where_the_tables_look():
    text = table(
        *((f"{path}.jpg", "1,2,3,4") for path in ("1/a", "2/gone", "4/A", "4/B")),
        ("1/short.jpg", "3"),
    )
    files = pictures(
        *(f"{PLACE}/1/{name}" for name in ("a.jpg", "b.JPG", "notes.txt", "deeper/c.jpg")),
        *(f"{PLACE}/{name}.jpg" for name in ("1/short", "2/c", "3/d", "4/A", "4/a", "4/b")),
        "Automatically_Annotated_Images/1/auto.jpg",
    )
    auto = {"automatically_annotated.csv": table(("1/auto.jpg", "1,2,3,4"))}
    assert became(rows_of(in_memory({**files, **auto, TRAIN: text}), "affectnet")) == [
        (f"{TRAIN}:2", "face"),
        (f"{TRAIN}:3", "image_missing"),
        (f"{TRAIN}:4", "face"),
        (f"{TRAIN}:5", "face"),
        (f"{TRAIN}:6", "row_malformed"),
        (f"{PLACE}/1/b.JPG", "label_missing"),
        (f"{PLACE}/2/c.jpg", "label_missing"),
        # Where letter case alone tells two apart, only the exact name finds one.
        (f"{PLACE}/4/a.jpg", "label_missing"),
    ]


def test_incident_D2_a_row_that_means_two_pictures_is_an_error():
    files = pictures(f"{PLACE}/1/a.jpg", "cropped/1/a.jpg") | {TRAIN: table(("1/a.jpg", "1,2,3,4"))}
    with pytest.raises(UserError, match=r"1/a.jpg: expected one such picture, found 2: .*cropped"):
        rows_of(in_memory(files), "affectnet")


@pytest.mark.parametrize(
    "place", ["YOLO/{split}/{kind}", "{kind}/{split}", "images/{split}/{kind}", "{split} /{kind}"]
)
def test_label_files_find_their_picture_by_the_same_rule(place):
    images, labels = (place.format(split="Train", kind=kind) for kind in ("images", "Labels"))
    names = ["One", "Two", "tWo", "Three", "tHree"]
    files = pictures(*(f"{images}/{name}.png" for name in names)) | {"data.yaml": "names: [sad]"}
    files |= {f"{labels}/{name}.TXT": "0 .5 .5 .2 .2" for name in ("one", "tWo", "three")}
    rows = rows_of(in_memory(files), "affectnet_yolo")
    assert ids_of(rows) == ["it/train/One#0", "it/train/tWo#0"]
    assert [each for each in became(rows) if each[1] != "face"] == [
        (f"{images}/Three.png", "label_missing"),
        (f"{images}/Two.png", "label_missing"),
        (f"{images}/tHree.png", "label_missing"),
        (f"{labels}/three.TXT:1", "image_missing"),
    ]


SPELLINGS = [
    ["0/p0.jpg", "0/P0.jpg"],
    ["0/p0.jpg", f"{PLACE}/0/p0.jpg"],
    [f"{PLACE}/0/p0.JPG", "0\\p0.jpg"],
    [f"{PLACE}/0/p0.jpg", f"it/{PLACE}/0/p0.jpg", "0/p0.jpg"],
]


@pytest.mark.parametrize("spellings", [*SPELLINGS, *(each[::-1] for each in SPELLINGS)])
def test_a_picture_has_one_name_however_the_table_spells_it(spellings):
    lines = [(path, f"1,2,30,{n}") for n, path in enumerate(spellings)]
    others = [("0/other.jpg", "1,2,3,4"), (f"{PLACE}/1/P0.jpg", "1,2,3,4")]
    files = pictures(*(f"it/{PLACE}/{name}" for name in ("0/P0.jpg", "0/other.jpg", "1/P0.jpg")))
    tree = in_memory(files | {TRAIN: table(*lines, *others)})
    rows = list(affectnet.read(tree, name="it", source=source_of("affectnet")))
    assert {(row.id, row.photo) for row in rows[: len(lines)]} == {("it/0/P0", "it/0/P0")}
    assert [row.id for row in rows[len(lines) :]] == ["it/0/other", f"it/{PLACE}/1/P0"]


# --- .npy annotations ----------------------------------------------------------------------------


def row_of(data: bytes) -> Candidate | Reject:
    files = {"train_set/images/1.jpg": b"x", "train_set/annotations/1_exp.npy": data}
    (row,) = rows_of(in_memory(files), "affectnet")
    return row


class Bomb:
    """Pickled, it would make a file when it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_every_annotation_that_is_no_face_says_why_and_none_is_executed(tmp_path):
    executed = tmp_path / "executed"
    pickled = np.empty((), dtype=object)
    pickled[()] = Bomb(str(executed))
    zipped = io.BytesIO()
    np.savez(zipped, 1)
    malformed = [
        *map(npy, ["happy", "", 1.5, float("nan"), float("inf"), "1_0", np.longdouble(1)]),
        *map(npy, [["1", "2"], pickled]),
        *(zipped.getvalue(), b"", b"1", npy("1")[:-1], npy("1") + b"\0\0\0\0"),
        npy("1").replace(b"'shape': (), }           ", b"'shape': (99999999999,), }"),
        npy("1")[:-4] + b"\xff\xff\xff\xff",
        npy("1").replace(b"<U1", b"<U0"),
    ]
    assert [row_of(data).reason for data in malformed] == ["row_malformed"] * len(malformed)
    assert not executed.exists()
    np.load(io.BytesIO(npy(pickled)), allow_pickle=True)
    assert executed.exists()


@given(
    st.integers(0, 6),
    st.sampled_from(["<U1", "<U7", ">U2", "S1", "S3", "i1", "<i4", ">i4", "<i8", "u1", ">u8"]),
)
def test_any_string_or_integer_that_numpy_saves_is_read_as_numpy_loads_it(code, dtype):
    data = npy(np.array(str(code)).astype(dtype))
    expected = row_of(npy(str(int(np.load(io.BytesIO(data), allow_pickle=False).item()))))
    assert isinstance(expected, Candidate)
    assert row_of(data) == expected


@pytest.mark.parametrize("value", [1.0, np.float32(1), np.float16(1), "1.0", " 1", np.str_("1")])
def test_reported_a_number_in_an_npy_file_may_be_a_float(value):
    assert row_of(npy(value)).label == "Happy"

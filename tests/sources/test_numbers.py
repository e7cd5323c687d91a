import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shipped import shipped

from stages.config import (
    AffectnetSource,
    AffectnetYoloSource,
    ExpwSource,
    Fer2013Source,
    FerplusSource,
    RafdbSource,
    RafmlSource,
)
from stages.sources.face import Reject
from stages.sources.formats import read_source
from stages.sources.numbers import code, number, whole


@pytest.mark.parametrize(
    "text", ["1", "1.0", "1.", " 1 ", "\xa01", "01", "+1", "1.00000e+00", "1E0"]
)
def test_reported_one_is_one_however_it_is_written(text: str):
    assert (whole(text), number(text), code(text)) == (1, 1.0, "1")


@pytest.mark.parametrize("text", ["1.5", ".5", "-0.25", "1e-3"])
def test_a_part_is_a_number_and_not_a_whole_one(text: str):
    assert whole(text) is None
    assert number(text) == float(text)
    assert code(text) == text


@pytest.mark.parametrize(
    "text", ["", " ", "nan", "NaN", "inf", "-Infinity", "1_0", "0x1", "1,0", "٣", "²", "1 2", ".",
             "e1", "1e", "--1", "9" * 400, "1e999", "NULL"],
)  # fmt: skip
def test_what_is_no_finite_number_is_none(text: str):
    assert (number(text), whole(text), code(text)) == (None, None, text)


@given(st.integers(-(10**9), 10**9))
def test_whole_numbers_come_back(value: int):
    assert whole(str(value)) == whole(f"{value}.0") == whole(f"{value:.12e}") == value
    assert code(f"{value}.0") == str(value)


def test_what_no_code_or_pixel_comes_near_is_no_whole_number():
    assert whole("1e9") == 10**9
    assert whole("1000000001") is whole("-1e10") is None


WHOLE = '"(0, 0, 48, 48)"'
PIXELS = " ".join(["1"] * 48**2)
FACES = {
    "ferplus": (
        shipped(FerplusSource, format="ferplus", path="x"),
        "FER2013Test/label.csv",
        f"a.png,{WHOLE},@,8,0,0,0,0,0,0,0,0",
        {"FER2013Test/a.png": b"x"},
    ),
    "fer2013": (
        Fer2013Source(format="fer2013", path="x"),
        "fer2013.csv",
        f"emotion,Usage,pixels\n@,Training,{PIXELS}",
        {},
    ),
    "rafdb": (
        RafdbSource(format="rafdb_basic", path="x"),
        "list_patition_label.txt",
        "train_1.jpg @",
        {"aligned/train_1_aligned.jpg": b"x"},
    ),
    "rafml": (
        RafmlSource(format="rafml_argmax", path="x"),
        "partition_label.txt",
        "1.jpg @",
        {"aligned/1_aligned.jpg": b"x", "distribution.txt": "1.jpg 1.0 0 0 0 0 0"},
    ),
    "affectnet code": (
        AffectnetSource(format="affectnet", path="x"),
        "validation.csv",
        "a.jpg,1,2,3,4,1;2,@,0.1,0.2",
        {"a.jpg": b"x"},
    ),
    "affectnet box": (
        AffectnetSource(format="affectnet", path="x"),
        "validation.csv",
        "a.jpg,@,2,3,4,1;2,1,0.1,0.2",
        {"a.jpg": b"x"},
    ),
    "yolo": (
        AffectnetYoloSource(format="affectnet_yolo", path="x"),
        "train/labels/a.txt",
        "@ 0.5 0.5 0.1 0.1",
        {"train/images/a.jpg": b"x", "data.yaml": "names: {0: sad, 1: happy}"},
    ),
    "expw box": (
        shipped(ExpwSource, format="expw", path="x"),
        "label.lst",
        "a.jpg 0 @ 2 30 40 60 3",
        {"origin/a.jpg": b"x"},
    ),
    "expw face": (
        shipped(ExpwSource, format="expw", path="x"),
        "label.lst",
        "a.jpg @ 1 2 30 40 60 3",
        {"origin/a.jpg": b"x"},
    ),
    "expw code": (
        shipped(ExpwSource, format="expw", path="x"),
        "label.lst",
        "a.jpg 0 1 2 30 40 60 @",
        {"origin/a.jpg": b"x"},
    ),
}


@pytest.mark.parametrize("field", FACES)
def test_reported_a_number_of_any_table_is_read_or_refused_with_its_row(make_tree, field):
    source, table, text, files = FACES[field]

    def rows(value: str):
        tree = make_tree({**files, table: text.replace("@", value)})
        return list(read_source(tree, name="it", source=source))

    plain = rows("1")
    assert not any(isinstance(row, Reject) for row in plain)
    for value in ("1.0", "1.000e+00"):
        assert rows(value) == plain
    line = text.count("\n") + 1
    for value in ("1.5", "nan", "1_0", "inf"):
        refused = [row.row for row in rows(value) if isinstance(row, Reject)]
        assert f"{table}:{line}" in refused, value


@pytest.mark.parametrize("names", ["{a: sad}", "{0: sad, 0.0: happy}", "{0.5: sad}"])
def test_classes_of_data_yaml_have_a_number_each(make_tree, names):
    source, table, text, files = FACES["yolo"]
    tree = make_tree({**files, table: text, "data.yaml": f"names: {names}"})
    with pytest.raises(ValueError, match=r"data.yaml: names: expected each class by its own num"):
        list(read_source(tree, name="it", source=source))


@pytest.mark.parametrize("value", [1.0, np.float32(1), np.float16(1), "1.0", " 1", np.str_("1")])
def test_reported_a_number_in_an_npy_file_may_be_a_float(make_tree, value):
    file = io.BytesIO()
    np.save(file, np.array(value))
    files = {"val_set/images/a.jpg": b"x", "val_set/annotations/a_exp.npy": file.getvalue()}
    source = AffectnetSource(format="affectnet", path="x")
    assert [row.label for row in read_source(make_tree(files), name="it", source=source)] == [
        "Happy"
    ]


@pytest.mark.parametrize("value", [1.5, float("nan"), float("inf"), "1.5", "1_0", np.longdouble(1)])
def test_any_other_number_in_an_npy_file_is_refused_with_its_row(make_tree, value):
    file = io.BytesIO()
    np.save(file, np.array(value))
    files = {"val_set/images/a.jpg": b"x", "val_set/annotations/a_exp.npy": file.getvalue()}
    source = AffectnetSource(format="affectnet", path="x")
    (row,) = read_source(make_tree(files), name="it", source=source)
    assert (row.row, row.reason) == ("val_set/annotations/a_exp.npy", "row_malformed")

"""Rows of text tables, and the numbers in them."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.runtime.errors import UserError
from stages.sources.tables import code, column_rows, csv_rows, number, whole
from tests.sources.conftest import in_memory


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Rows are named by line, and blank lines are none.
        ('\ufeff a , "b, c" \r\n\r\n , ,\rd,e', [("t:1", ["a", "b, c"]), ("t:4", ["d", "e"])]),
        # A quote that is never closed swallows no other row.
        ('a,"b\nc,d\n', [("t:1", ["a", "b"]), ("t:2", ["c", "d"])]),
        # Only line ends end lines, and letters are composed.
        ("e\u0301\u2028b\x85c\x0cd 1\n2", [("t:1", ["é\u2028b\x85c\x0cd 1"]), ("t:2", ["2"])]),
    ],
)
def test_rows_are_lines(text, expected):
    assert list(csv_rows(in_memory({"t": text}), "t")) == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        *((mark + "a,b\n".encode(encoding), "t: expected text in UTF-8: this is UTF-16.*save it")
          for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"),
                                 (codecs.BOM_UTF16_BE, "utf-16-be"))),
        ("fête".encode("latin-1"), "t: expected text in UTF-8: .*0xea in position 1"),
        (f"a,b\n{'x' * 200_000},c\n", "t:2: expected a row of a CSV table: field larger"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_an_error(content, words):
    with pytest.raises(UserError, match=words):
        list(csv_rows(in_memory({"t": content}), "t"))


def test_columns_are_found_by_name_and_a_row_of_another_length_keeps_what_it_has():
    tree = in_memory({"a.csv": "\ufeffx, Usage, EMOTION\r\n1, Training , 3\r\n\r\n2\n3,4,5,6"})
    assert [tuple(row) for row in column_rows(tree, "a.csv", ("emotion", "usage"))] == [
        ("a.csv:2", ("3", "Training"), None),
        ("a.csv:4", ("", ""), "expected 3 columns, got 1"),
        ("a.csv:5", ("5", "4"), "expected 3 columns, got 4"),
    ]


ONES = ["1", "1.0", "1.", " 1 ", "\xa01", "01", "+1", "1.00000e+00", "1E0"]
PARTS = ["1.5", ".5", "-0.25", "1e-3"]
NEITHER = [
    *("", " ", "nan", "NaN", "inf", "-Infinity", "1_0", "0x1", "1,0", "٣", "²", "1 2", ".", "NULL"),
    *("e1", "1e", "--1", "9" * 400, "1e999"),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, (1, 1.0, "1")) for text in ONES),
        *((text, (None, float(text), text)) for text in PARTS),
        *((text, (None, None, text)) for text in NEITHER),
    ],
)
def test_reported_one_is_one_however_it_is_written(text: str, expected):
    assert (whole(text), number(text), code(text)) == expected


@given(st.integers(-(10**9), 10**9))
def test_whole_numbers_come_back_and_larger_ones_are_none(value: int):
    assert whole(str(value)) == whole(f"{value}.0") == whole(f"{value:.12e}") == value
    assert code(f"{value}.0") == str(value)
    assert whole("1000000001") is whole("-1e10") is None

import codecs

import pytest

from stages.runtime.errors import UserError
from stages.sources.tables import csv_rows, quoted, text_rows


def test_rows_are_named_by_line_and_blank_lines_are_none(make_tree):
    tree = make_tree({"t.csv": '\ufeff a , "b, c" \r\n\r\n , ,\rd,e'})
    assert list(csv_rows(tree, "t.csv")) == [("t.csv:1", ["a", "b, c"]), ("t.csv:4", ["d", "e"])]


def test_a_quote_that_is_never_closed_swallows_no_other_row(make_tree):
    tree = make_tree({"t.csv": 'a,"b\nc,d\n'})
    assert list(csv_rows(tree, "t.csv")) == [("t.csv:1", ["a", "b"]), ("t.csv:2", ["c", "d"])]


def test_only_line_ends_end_lines(make_tree):
    tree = make_tree({"t.txt": "a\u2028b\x85c\x0cd 1\ne 2"})
    assert [row for row, _ in text_rows(tree, "t.txt")] == ["t.txt:1", "t.txt:2"]


def test_letters_are_composed(make_tree):
    tree = make_tree({"t.txt": "e\u0301"})
    assert list(text_rows(tree, "t.txt")) == [("t.txt:1", "\u00e9")]


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_a_spreadsheets_utf16_is_named(make_tree, mark):
    encoding = "utf-16-le" if mark == codecs.BOM_UTF16_LE else "utf-16-be"
    tree = make_tree({"t.csv": mark + "a,b\n".encode(encoding)})
    with pytest.raises(UserError, match=r"t.csv: expected text in UTF-8: this is UTF-16.*save it"):
        list(csv_rows(tree, "t.csv"))


def test_other_encodings_are_an_error(make_tree):
    tree = make_tree({"t.txt": "fête".encode("latin-1")})
    with pytest.raises(UserError, match=r"t.txt: expected text in UTF-8: .*0xea in position 1"):
        list(text_rows(tree, "t.txt"))


def test_a_field_without_end_is_an_error_that_names_its_row(make_tree):
    tree = make_tree({"t.csv": f"a,b\n{'x' * 200_000},c\n"})
    with pytest.raises(UserError, match=r"t.csv:2: expected a row of a CSV table: field larger"):
        list(csv_rows(tree, "t.csv"))


def test_raw_texts_are_shown_in_one_short_line():
    assert quoted("a\nb") == "'a\\nb'"
    assert len(quoted("x" * 10_000)) == 81

import pytest

from stages.runtime.errors import UserError
from stages.sources.columns import column_rows


def test_columns_are_found_by_name_wherever_they_stand(make_tree):
    tree = make_tree({"a.csv": "\ufeffx, Usage, EMOTION\r\n1, Training , 3\r\n\r\n2,PublicTest,4"})
    rows = list(column_rows(tree, "a.csv", ("emotion", "usage")))
    assert [(row.row, row.fields, row.problem) for row in rows] == [
        ("a.csv:2", ("3", "Training"), None),
        ("a.csv:4", ("4", "PublicTest"), None),
    ]


def test_a_row_of_another_length_keeps_what_it_has(make_tree):
    tree = make_tree({"a.csv": "x,y,z\n1,2\n1,2,3,4\n1,2,3"})
    rows = list(column_rows(tree, "a.csv", ("z", "x")))
    assert [(row.fields, row.problem) for row in rows] == [
        (("", "1"), "expected 3 columns, got 2"),
        (("3", "1"), "expected 3 columns, got 4"),
        (("3", "1"), None),
    ]


@pytest.mark.parametrize("text", ["", "a,x\n1,2"])
def test_a_missing_column_is_an_error_and_a_fixed_order_does_not_hide_it(make_tree, text):
    tree = make_tree({"a.csv": text})
    with pytest.raises(UserError, match=r"a.csv: expected the columns \['x', 'y'\], missing \["):
        list(column_rows(tree, "a.csv", ("x", "y"), fixed_order=("x", "y")))


def test_a_table_without_header_has_the_fixed_order(make_tree):
    tree = make_tree({"a.csv": "1,2\n3\n"})
    rows = list(column_rows(tree, "a.csv", ("y",), fixed_order=("X", "Y")))
    assert [(row.row, row.fields) for row in rows] == [("a.csv:1", ("2",)), ("a.csv:2", ("",))]
    assert [row.problem is None for row in rows] == [True, False]

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.config import Filter
from stages.records.views import BUCKETS, EDGES, select, size_table
from stages.runtime.errors import UserError

GROUPS = {"both": ("a", "b"), "odd": ("a", "gone")}


def chosen(frame: pd.DataFrame, splits=("train", "val", "test"), **options) -> str:
    rows = Filter(**options)
    selected = select(frame, rows, key="views.v", source_groups=GROUPS, splits=splits)
    return " ".join(selected["id"])


@pytest.fixture
def frame(rows) -> pd.DataFrame:
    return rows(
        [
            {"id": "a/1", "native_px": 48},
            {"id": "a/2", "native_px": 100, "split": "test"},
            {"id": "b/1", "native_px": 224, "confidence": 59.9, "label": "Sad"},
            {"id": "b/2", "native_px": 224, "confidence": 60.0},
            {"id": "c/1", "native_px": 20, "confidence": 99.0, "split": "val"},
        ]
    )


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, "a/1 a/2 b/1 b/2 c/1"),
        ({"include_sources": ("a", "c")}, "a/1 a/2 c/1"),
        ({"exclude_sources": ("a",)}, "b/1 b/2 c/1"),
        ({"include_sources": ("both",), "exclude_sources": ("b",)}, "a/1 a/2"),
        ({"exclude_sources": ("both",)}, "c/1"),
        ({"min_native_px": 100}, "a/2 b/1 b/2"),
        ({"min_confidence": 60.0}, "a/1 a/2 b/2 c/1"),
        ({"splits": ("val", "test")}, "a/2 c/1"),
        # A group has rows left as long as one member has.
        ({"include_sources": ("both",), "min_native_px": 110}, "b/1 b/2"),
    ],
)
def test_the_grammar(frame, options, ids) -> None:
    assert chosen(frame, **options) == ids


UNKNOWN = ": no rows of source 'bothh'; known: ['a', 'b', 'both', 'c', 'odd']; did you mean 'both'?"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include_sources": ("a", "bothh")}, f"views.v.include_sources{UNKNOWN}"),
        (
            {"include_sources": ("odd",)},
            "manifest.source_groups.odd: no rows of source 'gone'; known: ['a', 'b', 'c']",
        ),
        (
            {"include_sources": ("b", "c"), "min_native_px": 110},
            "views.v.include_sources: expected rows of 'c', but the filter lets none pass; "
            "sources with rows left: ['b']",
        ),
        ({"min_native_px": 1000}, "views.v: expected some rows, but the filter lets none pass; "),
    ],
)
def test_a_name_that_matches_nothing_is_an_error(frame, options, message: str) -> None:
    with pytest.raises(UserError) as error:
        chosen(frame, **options)
    assert str(error.value).startswith(f"params.yaml: {message}")


@given(st.integers(1, 4), st.integers(0, 30))
@settings(max_examples=40)
def test_max_per_class_is_exact_and_stable(rows, limit: int, drop: int) -> None:
    frame = rows(
        {"id": f"s/{i:02d}", "label": ["Sad", "Fear"][i % 2], "split": ["train", "val"][i % 3 == 0]}
        for i in range(31)
    )
    taken = chosen(frame, max_per_class=limit).split()
    counts = frame[frame["id"].isin(taken)].groupby(["split", "label"]).size()
    assert counts.to_list() == [limit] * 4
    assert taken == sorted(taken)
    # Without one row, the others that were taken still are, whatever order they come in.
    gone = frame["id"].iloc[drop]
    fewer = frame.drop(index=drop).iloc[::-1]
    assert set(taken) - {gone} <= set(chosen(fewer, max_per_class=limit).split())


def test_a_bucket_of_native_sizes_begins_at_its_name(rows) -> None:
    begin = [int(name.removeprefix("ge").split("_")[0]) for name in BUCKETS[1:]]
    assert (BUCKETS[0], begin) == ("lt32", list(EDGES[1:]))
    specs = [{"id": f"{s}/{px}", "native_px": px - (s == "b")} for s in "ba" for px in begin]
    table = size_table(rows(specs))
    assert table.loc["a"].to_dict() == dict.fromkeys(BUCKETS, 1) | {BUCKETS[0]: 0}
    assert table.loc["b"].to_dict() == dict.fromkeys(BUCKETS, 1) | {BUCKETS[-1]: 0}
    assert list(table.index) == ["a", "b"]

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.config import Filter, View
from stages.records.views import require_classes, select, select_view
from stages.runtime.errors import UserError

KEY = "manifest.views.v"
GROUPS = {"both": ("a", "b"), "odd": ("a", "gone")}


def chosen(frame: pd.DataFrame, **options) -> list[str]:
    return select(frame, Filter(**options), key=KEY, source_groups=GROUPS)["id"].to_list()


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


def test_an_empty_filter_lets_all_through(frame) -> None:
    assert chosen(frame) == ["a/1", "a/2", "b/1", "b/2", "c/1"]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"include_sources": ("a", "c")}, ["a/1", "a/2", "c/1"]),
        ({"exclude_sources": ("a",)}, ["b/1", "b/2", "c/1"]),
        ({"include_sources": ("both",), "exclude_sources": ("b",)}, ["a/1", "a/2"]),
        ({"exclude_sources": ("both",)}, ["c/1"]),
        ({"min_native_px": 100}, ["a/2", "b/1", "b/2"]),
        ({"min_confidence": 60.0}, ["a/1", "a/2", "b/2", "c/1"]),
    ],
)
def test_the_grammar(frame, options, ids) -> None:
    assert chosen(frame, **options) == ids


@pytest.mark.parametrize("field", ["include_sources", "exclude_sources"])
def test_an_unknown_name_lists_the_known(frame, field: str) -> None:
    with pytest.raises(UserError) as error:
        chosen(frame, **{field: ("a", "bothh")})
    assert str(error.value) == (
        f"params.yaml: manifest.views.v.{field}: no rows of source 'bothh'; "
        "known: ['a', 'b', 'both', 'c', 'odd']; did you mean 'both'?"
    )


def test_a_group_with_a_member_without_rows(frame) -> None:
    with pytest.raises(UserError) as error:
        chosen(frame, include_sources=("odd",))
    assert str(error.value) == (
        "params.yaml: manifest.source_groups.odd: no rows of source 'gone'; known: ['a', 'b', 'c']"
    )


def test_an_included_source_of_which_nothing_is_left(frame) -> None:
    expected = r"v\.include_sources: expected rows of 'c', .* left: \['b'\]"
    with pytest.raises(UserError, match=expected):
        chosen(frame, include_sources=("b", "c"), min_native_px=110)
    # A group has rows left as long as one member has.
    assert chosen(frame, include_sources=("both",), min_native_px=110) == ["b/1", "b/2"]


def test_nothing_is_left_at_all(frame) -> None:
    with pytest.raises(UserError, match=r"^params.yaml: manifest.views.v: expected some rows"):
        chosen(frame, min_native_px=1000)


def test_a_view_takes_splits_and_refuses_a_source_that_they_lack(frame) -> None:
    def view(**options) -> list[str]:
        selected = select_view(frame, View(**options), key=KEY, source_groups={})
        return selected["id"].to_list()

    assert view(splits=("val", "test")) == ["a/2", "c/1"]
    with pytest.raises(UserError, match=r"v\.include_sources: expected rows of 'b'"):
        view(splits=("test",), include_sources=("a", "b"))
    with pytest.raises(UserError, match="expected some rows"):
        view(splits=("test",), exclude_sources=("a",))


@given(st.integers(1, 4), st.integers(0, 30))
@settings(deadline=None, max_examples=40)
def test_max_per_class_is_exact_and_stable(rows, limit: int, drop: int) -> None:
    frame = rows(
        {"id": f"s/{i:02d}", "label": ["Sad", "Fear"][i % 2], "split": ["train", "val"][i % 3 == 0]}
        for i in range(31)
    )
    taken = chosen(frame, max_per_class=limit)
    counts = frame[frame["id"].isin(taken)].groupby(["split", "label"]).size()
    assert counts.to_list() == [limit] * 4
    assert taken == sorted(taken)
    # Without one row, the others that were taken still are, whatever order they come in.
    gone = frame["id"].iloc[drop]
    fewer = frame.drop(index=drop).iloc[::-1]
    assert set(taken) - {gone} <= set(chosen(fewer, max_per_class=limit))


def test_a_class_without_rows_is_named(rows) -> None:
    frame = rows({"id": f"s/{name}", "label": name} for name in ("Sad", "Happy", "Fear", "Angry"))
    expected = r"params.yaml: manifest: .* \['Disgust', 'Surprise', 'Neutral'\].*'Sad': 1"
    with pytest.raises(UserError, match=expected):
        require_classes(frame, key="manifest")

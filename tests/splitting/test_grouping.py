import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.splitting.splits import edges_by_value
from stages.splitting.splits import group_keys as keys_of

small = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=14)


def frame(pairs: list[tuple[int, int]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "photo": [f"p{photo}" for photo, _ in pairs],
            "sha256": [f"h{pixel}" for _, pixel in pairs],
        }
    )


def group_keys(rows: pd.DataFrame) -> pd.Series:
    return keys_of(rows["photo"], [edges_by_value(rows["sha256"])])


def slow_keys(pairs: list[tuple[int, int]]) -> list[str]:
    """The oracle: let each row take the smallest photo of all rows it touches, until nothing moves."""
    keys = [f"p{photo}" for photo, _ in pairs]
    while True:
        after = [
            min(k for k, (p, h) in zip(keys, pairs, strict=True) if p == photo or h == pixel)
            for photo, pixel in pairs
        ]
        if after == keys:
            return keys
        keys = after


@given(small)
@settings(deadline=None)
def test_groups_are_the_transitive_closure(pairs: list[tuple[int, int]]) -> None:
    assert group_keys(frame(pairs)).to_list() == slow_keys(pairs)


@given(small, st.randoms())
@settings(deadline=None)
def test_order_of_rows_plays_no_part(pairs: list[tuple[int, int]], random) -> None:
    rows = frame(pairs)
    order = list(rows.index)
    random.shuffle(order)
    shuffled = group_keys(rows.loc[order])
    pd.testing.assert_series_equal(shuffled.sort_index(), group_keys(rows))


def test_a_chain_over_photos_and_copies_is_one_group() -> None:
    rows = frame([(3, 1), (3, 2), (1, 2), (1, 5), (0, 4)])
    assert group_keys(rows).to_list() == ["p1", "p1", "p1", "p1", "p0"]


def test_edges_join_rows_with_the_first_of_their_value() -> None:
    edges = edges_by_value(pd.Series(["b", "a", "b", "c", "b"]))
    assert edges.tolist() == [[0, 2], [0, 4]]


def test_no_edges_at_all() -> None:
    assert group_keys(frame([(2, 2), (1, 1)])).to_list() == ["p2", "p1"]

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.splitting.splits import (
    carve,
    cross_split_rows,
    edges_by_value,
    group_keys,
    share_no_group,
    spare_copies,
)

searched = settings(max_examples=60)

# The splits that rows of each source may have.
OFFICIAL = {
    "full": ["train", "val", "test"],
    "noval": ["train", "test"],
    "notest": ["train", "val"],
}
OFFICIAL |= {"none": [None], "none2": [None], "trainonly": ["train"]}
NONE_NEAR = pd.DataFrame({"sha256": [], "other": []}, dtype="str")


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Rows of several sources, with photos and pictures that recur within and across them."""
    rows = []
    for number in range(draw(st.integers(1, 25))):
        source = draw(st.sampled_from(sorted(OFFICIAL)))
        split = draw(st.sampled_from(OFFICIAL[source]))
        photo, picture = f"p{draw(st.integers(0, 15))}", f"h{draw(st.integers(0, 20))}"
        rows.append((f"{source}/{number:03d}", source, "Sad", split, photo, picture))
    columns = ["id", "source", "label", "split", "photo", "sha256"]
    return grouped(pd.DataFrame(rows, columns=columns))


def grouped(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.astype({"split": "str"}).sort_values("id", ignore_index=True)
    return rows.assign(group=group_keys(rows["photo"], [edges_by_value(rows["sha256"])]))


def table(*lines: str) -> pd.DataFrame:
    """Rows of one source and group, each as `id split sha256`."""
    rows = pd.DataFrame([line.split() for line in lines], columns=["id", "split", "sha256"])
    return rows.assign(source="s", label="Sad", group="g")


def near(*pairs: tuple[str, str]) -> pd.DataFrame:
    """Near pictures, both ways."""
    both = [*pairs, *((second, first) for first, second in pairs)]
    return pd.DataFrame(both, columns=["sha256", "other"], dtype="str")


def carved(rows: pd.DataFrame, *, seed: int = 1, share: float = 0.3) -> pd.Series:
    return carve(rows, groups=rows["group"], seed=seed, val_share=share, test_share=share)


def singles(source: str, count: int, split: str | None = None) -> pd.DataFrame:
    """Faces that have nothing to do with each other."""
    names = [f"{source}/{number:05d}{split or ''}" for number in range(count)]
    rows = pd.DataFrame({"id": names, "source": source, "photo": names, "sha256": names})
    return rows.assign(split=split, label="Sad")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=14))
def test_groups_are_the_transitive_closure(pairs) -> None:
    rows = pd.DataFrame([(f"p{p}", f"h{h}") for p, h in pairs], columns=["photo", "sha256"])
    # The oracle: let each row take the smallest photo of all rows it touches, until nothing moves.
    keys, before = rows["photo"].to_list(), None
    while keys != before:
        before = keys
        keys = [
            min(k for k, (p, h) in zip(before, pairs, strict=True) if p == photo or h == pixel)
            for photo, pixel in pairs
        ]
    assert group_keys(rows["photo"], [edges_by_value(rows["sha256"])]).to_list() == keys


@given(tables())
@searched
def test_carving_moves_whole_groups_and_only_into_splits_that_a_source_lacks(rows) -> None:
    split, before = carved(rows), rows["split"].fillna("train")
    # A group stands in two splits only if it did with the official splits, unsplit being train.
    torn, was_torn = (s.groupby(rows["group"]).nunique() > 1 for s in (split, before))
    assert not (torn & ~was_torn).any()
    moved = split != before
    assert set(before[moved]) <= {"train"}
    for source, name in rows[["source", "split"]].dropna().itertuples(index=False):
        assert name == "train" or not (moved & (rows["source"] == source) & (split == name)).any()


@given(tables())
@searched
def test_what_stays_shares_no_group_and_what_leaves_names_a_row_that_stays(rows) -> None:
    rows = rows.assign(split=carved(rows))
    excluded = cross_split_rows(rows, near=NONE_NEAR)
    kept = rows[~rows["id"].isin(excluded["id"])]
    assert share_no_group(kept)
    assert set(kept["group"]) == set(rows["group"])
    assert not (excluded["split"] == "test").any()
    # Nothing leaves without need: in each group that kept its rows, all of that split stayed.
    best = kept.groupby("group")["split"].first()
    assert (rows["split"] == rows["group"].map(best)).sum() == len(kept)
    by_id = rows.set_index("id")
    for row in excluded.itertuples():
        twin, left = by_id.loc[row.detail], by_id.loc[row.id]
        assert row.detail in set(kept["id"])
        assert (twin["group"], twin["split"]) == (left["group"], row.reason.split("_in_")[1])
        assert row.reason.startswith("twin") == (twin["sha256"] == left["sha256"])


def test_shares_are_met_in_each_class_and_follow_the_seed() -> None:
    """Stratified by the draw itself: one hash a group, whatever the class."""
    rows = grouped(singles("none", 14_000))
    labels = pd.Series([f"class{number % 7}" for number in range(len(rows))])
    split = carved(rows, seed=3)
    for name in ("val", "test"):
        assert (split == name).groupby(labels).mean().between(0.27, 0.33).all()
    assert not split.equals(carved(rows, seed=4))
    assert (carved(rows, share=0.0) == "train").all()


def test_a_frozen_draw() -> None:
    """The draw is part of the data: changing it moves every carved row of every user."""
    split = carved(grouped(singles("none", 12)), seed=7)
    expected = "train test val train train val train train test test val train"
    assert split.to_list() == expected.split()


def test_what_is_lacking_is_carved_out_of_train() -> None:
    rows = grouped(pd.concat([singles("noval", 200, split) for split in ("train", "test")]))
    moves = rows.assign(to=carved(rows)).query("split != to")
    assert set(zip(moves["split"], moves["to"], strict=True)) == {("train", "val")}


def test_a_near_twin_is_a_pair_and_not_a_chain() -> None:
    rows = table(
        "a/1 train h1",  # near a/3 alone, which is near the test row
        "a/2 train h2",  # its pixels stand in test
        "a/3 train h3",
        "b/1 test h2",
        "b/2 test h4",
    )
    excluded = cross_split_rows(rows, near=near(("h1", "h3"), ("h3", "h4")))
    assert excluded[["id", "reason", "detail"]].to_numpy().tolist() == [
        ["a/1", "group_in_test", "b/1"],
        ["a/2", "twin_in_test", "b/1"],
        ["a/3", "near_twin_in_test", "b/2"],
    ]


def test_a_row_is_spare_only_beside_one_that_stays() -> None:
    rows = table(
        *("a/1 train h1", "a/2 val h1", "a/3 test h1"),
        "b/1 test h2",  # near h1: the smaller id of two test rows stays
        "b/2 train h3",  # near h2 alone, and that one goes: a face of its own
        *("b/3 train h3", "c/1 val h4"),
    )
    spare = spare_copies(rows, near=near(("h1", "h2"), ("h2", "h3")))
    assert spare[["id", "reason", "detail"]].to_numpy().tolist() == [
        ["a/1", "copy_of_kept", "a/3"],
        ["a/2", "copy_of_kept", "a/3"],
        ["b/1", "copy_of_kept", "a/3"],
        ["b/3", "copy_of_kept", "b/2"],
    ]

import pandas as pd
import pytest
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

# No deadline: how busy the machine is says nothing about the code.
searched = settings(max_examples=60, deadline=None)

SPLITS = ["train", "val", "test"]
# What each source may say of a row's split: all three, no val, no test, nothing.
OFFICIAL = {"full": SPLITS, "noval": ["train", "test"], "notest": ["train", "val"]}
OFFICIAL |= {"none": [None], "none2": [None], "trainonly": ["train"]}


@st.composite
def tables(draw: st.DrawFn, sources: tuple[str, ...] = tuple(OFFICIAL)) -> pd.DataFrame:
    """Rows of several sources, with photos and pictures that recur within and across them."""
    rows = []
    for number in range(draw(st.integers(1, 25))):
        source = draw(st.sampled_from(sources))
        rows.append(
            {
                "id": f"{source}/{number:03d}",
                "source": source,
                "label": "Sad",
                "split": draw(st.sampled_from(OFFICIAL[source])),
                "photo": f"p{draw(st.integers(0, 15))}",
                "sha256": f"h{draw(st.integers(0, 20))}",
            }
        )
    return grouped(pd.DataFrame(rows))


def grouped(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.astype({"split": "str"}).sort_values("id", ignore_index=True)
    return rows.assign(group=group_keys(rows["photo"], [edges_by_value(rows["sha256"])]))


NONE_NEAR = pd.DataFrame({"sha256": [], "other": []}, dtype="str")


def near(*pairs: tuple[str, str]) -> pd.DataFrame:
    """Near pictures, both ways."""
    both = [*pairs, *((other, one) for one, other in pairs)]
    return pd.DataFrame(both, columns=["sha256", "other"], dtype="str")


def carved(rows: pd.DataFrame, seed: int = 1) -> pd.DataFrame:
    return rows.assign(
        split=carve(rows, groups=rows["group"], seed=seed, val_share=0.3, test_share=0.3)
    )


def singles(source: str, count: int, split: str | None = None) -> pd.DataFrame:
    """Faces that have nothing to do with each other."""
    names = [f"{source}/{number:05d}" for number in range(count)]
    rows = pd.DataFrame({"id": names, "source": source, "photo": names, "sha256": names})
    return rows.assign(split=split, label="Sad")


@given(tables(sources=("none", "none2", "trainonly")))
@searched
def test_carving_by_group_leaves_no_group_in_two_splits(rows: pd.DataFrame) -> None:
    assert share_no_group(carved(rows))


@given(tables())
@searched
def test_carving_tears_no_group_apart(rows: pd.DataFrame) -> None:
    """A group stands in two splits only if it did with the official splits, unsplit being train."""
    before = rows.assign(split=rows["split"].fillna("train"))
    torn = carved(rows).groupby("group")["split"].nunique() > 1
    was_torn = before.groupby("group")["split"].nunique() > 1
    assert not (torn & ~was_torn).any()


@given(tables())
@searched
def test_official_val_and_test_are_never_moved(rows: pd.DataFrame) -> None:
    official = rows["split"].isin(["val", "test"])
    assert carved(rows)["split"][official].equals(rows["split"][official])


@given(tables())
@searched
def test_a_source_is_carved_only_where_it_lacks_a_split(rows: pd.DataFrame) -> None:
    split_now = carved(rows)["split"]
    moved = split_now != rows["split"].fillna("train")
    for source, split in [("full", "val"), ("full", "test"), ("noval", "test"), ("notest", "val")]:
        has = ((rows["source"] == source) & (rows["split"] == split)).any()
        if has:
            assert not (moved & (rows["source"] == source) & (split_now == split)).any()


@given(tables(), st.integers(1, 5), st.randoms())
@searched
def test_rows_added_elsewhere_move_nothing(rows: pd.DataFrame, count: int, random) -> None:
    old = carved(rows).set_index("id")["split"]
    others = [singles(random.choice(["new", "none"]), count).assign(id=lambda f: f["id"] + "x")]
    new = carved(grouped(pd.concat([rows.drop(columns="group"), *others], ignore_index=True)))
    assert new.set_index("id")["split"].loc[old.index].equals(old)


@given(tables(), st.randoms())
@searched
def test_order_of_rows_plays_no_part(rows: pd.DataFrame, random) -> None:
    order = list(rows.index)
    random.shuffle(order)
    pd.testing.assert_frame_equal(carved(rows.loc[order]).sort_index(), carved(rows))


@given(tables())
@searched
def test_what_stays_shares_no_group(rows: pd.DataFrame) -> None:
    rows = carved(rows)
    excluded = cross_split_rows(rows, near=NONE_NEAR)
    kept = rows[~rows["id"].isin(excluded["id"])]
    assert share_no_group(kept)
    assert set(kept["group"]) == set(rows["group"])
    assert not (excluded["split"] == "test").any()
    # Nothing leaves without need: in each group that kept its rows, all of that split stayed.
    best = kept.groupby("group")["split"].first()
    alone = rows[rows["split"] == rows["group"].map(best)]
    assert len(alone) == len(kept)


@given(tables())
@searched
def test_each_excluded_row_names_a_row_that_stays(rows: pd.DataFrame) -> None:
    rows = carved(rows)
    excluded = cross_split_rows(rows, near=NONE_NEAR)
    by_id = rows.set_index("id")
    for row in excluded.itertuples():
        twin, me = by_id.loc[row.detail], by_id.loc[row.id]
        assert row.detail not in set(excluded["id"])
        assert (twin["group"], twin["split"]) == (me["group"], row.reason.split("_in_")[1])
        assert row.reason.startswith("twin") == (twin["sha256"] == me["sha256"])


def test_shares_are_met_and_follow_the_seed() -> None:
    rows = grouped(singles("none", 4000))
    split = carve(rows, groups=rows["group"], seed=3, val_share=0.1, test_share=0.2)
    assert abs((split == "val").mean() - 0.1) < 0.02
    assert abs((split == "test").mean() - 0.2) < 0.02
    assert not split.equals(
        carve(rows, groups=rows["group"], seed=4, val_share=0.1, test_share=0.2)
    )
    assert (
        carve(rows, groups=rows["group"], seed=3, val_share=0.0, test_share=0.0) == "train"
    ).all()


def test_a_frozen_draw() -> None:
    """The draw is part of the data: changing it moves every carved row of every user."""
    split = carved(grouped(singles("none", 12)), seed=7)["split"]
    expected = "train test val train train val train train test test val train"
    assert split.to_list() == expected.split()


@pytest.mark.parametrize(
    ("official", "lacking"),
    [(["train", "test"], {"val"}), (["train", "val"], {"test"}), ([None], {"val", "test"})],
)
def test_what_is_lacking_is_carved_out_of_train(
    official: list[str | None], lacking: set[str]
) -> None:
    parts = [
        singles("s", 200, split).assign(id=lambda f, s=split: f["id"] + str(s))
        for split in official
    ]
    rows = pd.concat([part.assign(photo=part["id"], sha256=part["id"]) for part in parts])
    rows = grouped(rows)
    moved = carved(rows)["split"] != rows["split"].fillna("train")
    assert set(carved(rows)["split"][moved]) == lacking
    assert set(rows["split"][moved].fillna("train")) == {"train"}


def test_reasons() -> None:
    rows = pd.DataFrame(
        [
            ("a/1", "train", "p1", "h1"),  # same pixels as the test row
            ("a/2", "train", "p2", "h2"),  # another face of the test row's photo
            ("a/3", "val", "p3", "h1"),
            ("b/1", "test", "p2", "h1"),
            ("c/1", "train", "p4", "h4"),
            ("c/2", "val", "p4", "h5"),
            ("c/3", "val", "p5", "h4"),
            ("d/1", "train", "p6", "h6"),  # copies on one side stay
            ("d/2", "train", "p7", "h6"),
        ],
        columns=["id", "split", "photo", "sha256"],
    ).assign(source="s", label="Sad")
    rows = grouped(rows)
    excluded = cross_split_rows(rows, near=NONE_NEAR)
    assert excluded[["id", "split", "reason", "detail"]].to_numpy().tolist() == [
        ["a/1", "train", "twin_in_test", "b/1"],
        ["a/2", "train", "group_in_test", "b/1"],
        ["a/3", "val", "twin_in_test", "b/1"],
        ["c/1", "train", "twin_in_val", "c/3"],
    ]


def test_a_near_twin_is_a_pair_and_not_a_chain() -> None:
    rows = pd.DataFrame(
        [
            ("a/1", "train", "h1"),  # near a/3 alone, which is near the test row
            ("a/2", "train", "h2"),  # its pixels stand in test
            ("a/3", "train", "h3"),
            ("b/1", "test", "h2"),
            ("b/2", "test", "h4"),
        ],
        columns=["id", "split", "sha256"],
    ).assign(source="s", label="Sad", group="g")
    excluded = cross_split_rows(rows, near=near(("h1", "h3"), ("h3", "h4")))
    assert excluded[["id", "reason", "detail"]].to_numpy().tolist() == [
        ["a/1", "group_in_test", "b/1"],
        ["a/2", "twin_in_test", "b/1"],
        ["a/3", "near_twin_in_test", "b/2"],
    ]


def test_a_row_is_spare_only_beside_one_that_stays() -> None:
    rows = pd.DataFrame(
        [
            ("a/1", "train", "h1"),
            ("a/2", "val", "h1"),
            ("a/3", "test", "h1"),
            ("b/1", "test", "h2"),  # near h1: the smaller id of two test rows stays
            ("b/2", "train", "h3"),  # near h2 alone, and that one goes: a face of its own
            ("b/3", "train", "h3"),
            ("c/1", "val", "h4"),
        ],
        columns=["id", "split", "sha256"],
    ).assign(source="s", label="Sad")
    spare = spare_copies(rows, near=near(("h1", "h2"), ("h2", "h3")))
    assert spare[["id", "reason", "detail"]].to_numpy().tolist() == [
        ["a/1", "copy_of_kept", "a/3"],
        ["a/2", "copy_of_kept", "a/3"],
        ["b/1", "copy_of_kept", "a/3"],
        ["b/3", "copy_of_kept", "b/2"],
    ]


def test_each_class_is_carved_in_about_its_share() -> None:
    """Stratified by the draw itself: one hash a group, whatever the class."""
    rows = grouped(singles("none", 21_000))
    labels = pd.Series([f"class{number % 7}" for number in range(len(rows))])
    share = (carved(rows)["split"] == "val").groupby(labels).mean()
    assert share.between(0.27, 0.33).all()

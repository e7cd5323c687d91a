from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shipped import shipped

from stages.config import Duplicates, Manifest, View
from stages.runtime.errors import UserError
from stages.splitting.frozen import freeze
from stages.splitting.splits import share_no_group

SHARES = shipped(Manifest, val_share=0.3, test_share=0.3)
REPORT_ONLY = shipped(Manifest, duplicates=shipped(Duplicates, policy="report_only"))

specs = st.lists(
    st.tuples(
        st.sampled_from(["s", "t", "u"]),
        st.integers(0, 9),
        st.integers(0, 12),
        st.sampled_from(["train", "test", None]),
    ),
    max_size=20,
)


@given(specs, st.randoms())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=25)
def test_rows_and_excluded_part_the_faces(faces, one_of_each_class, drawn, random) -> None:
    several = [
        {"id": f"{source}/{i:02d}", "photo": f"p{photo}", "sha256": f"{pixel:064x}", "split": split}
        for i, (source, photo, pixel, split) in enumerate(drawn)
    ] + one_of_each_class
    frozen = freeze(faces(several), section=shipped(Manifest), seed=1)
    kept, left = frozen.rows["id"].to_list(), frozen.excluded["id"].to_list()
    assert sorted([*kept, *left]) == sorted(face["id"] for face in several)
    assert kept == sorted(kept)
    assert share_no_group(frozen.rows)
    random.shuffle(several)
    again = freeze(faces(several), section=shipped(Manifest), seed=1)
    assert again.rows.equals(frozen.rows)
    assert again.excluded.equals(frozen.excluded)
    assert again.duplicates.equals(frozen.duplicates)


def test_report_only_leaves_every_row(faces, one_of_each_class) -> None:
    twins = [
        {"id": f"s/{split}", "split": split, "sha256": "0" * 64}
        for split in ("train", "val", "test")
    ]
    build = faces([*one_of_each_class, *twins])
    assert len(freeze(build, section=REPORT_ONLY, seed=1).rows) == len(build)
    dropped = freeze(build, section=shipped(Manifest), seed=1)
    assert dropped.excluded["id"].to_list() == ["s/train", "s/val"]
    assert len(dropped.duplicates) == 2


def test_a_class_whose_only_train_row_leaves_is_named(faces, one_of_each_class) -> None:
    one_of_each_class = [
        face | ({"sha256": "0" * 64} if face["id"] in ("zz/Fear", "zz/test") else {})
        for face in one_of_each_class
    ]
    with pytest.raises(
        UserError,
        match=r"params.yaml: manifest: expected train rows .* \['Fear'\].* \{'twin_in_test': 1\}",
    ):
        freeze(faces(one_of_each_class), section=shipped(Manifest), seed=1)


@pytest.mark.parametrize("names", [["Excluded"], ["mine", "Mine"], ["classification_manifest"]])
def test_view_names_that_would_share_a_file(faces, one_of_each_class, names: list[str]) -> None:
    section = shipped(Manifest, views=dict.fromkeys(names, View()))
    with pytest.raises(
        UserError, match=rf"manifest\.views\.{names[-1]}: expected a name of its own"
    ):
        freeze(faces(one_of_each_class), section=section, seed=1)


def near_twins(split_a: str, split_b: str) -> list[dict[str, Any]]:
    """Two pictures of one face, the second with some noise."""
    random = np.random.default_rng(1)
    picture = random.integers(40, 200, 576)
    noisy = picture + random.integers(-15, 16, 576)
    thumbnails = [one.astype(np.uint8).tobytes() for one in (picture, noisy)]
    return [
        {"id": "s/1", "split": split_a, "thumbnail": thumbnails[0]},
        {"id": "s/2", "split": split_b, "thumbnail": thumbnails[1]},
    ]


def test_a_near_twin_of_a_test_row_leaves_train(faces, one_of_each_class) -> None:
    frozen = freeze(
        faces([*one_of_each_class, *near_twins("train", "test")]), section=shipped(Manifest), seed=1
    )
    assert frozen.excluded[["id", "reason", "detail"]].to_numpy().tolist() == [
        ["s/1", "near_twin_in_test", "s/2"]
    ]
    assert frozen.duplicates[["id_a", "id_b", "kind"]].to_numpy().tolist() == [
        ["s/1", "s/2", "near"]
    ]
    test_row = frozen.rows.set_index("id").loc["s/2"]
    assert (test_row["official"], test_row["twin_splits"]) == ("test", "train")


def test_keep_one(faces, one_of_each_class) -> None:
    section = shipped(Manifest, duplicates=shipped(Duplicates, policy="keep_one"))
    exact = [{"id": f"t/{n}", "split": "train", "sha256": "0" * 64} for n in range(3)]
    frozen = freeze(
        faces([*one_of_each_class, *near_twins("train", "train"), *exact]), section=section, seed=1
    )
    assert frozen.excluded[["id", "reason", "detail"]].to_numpy().tolist() == [
        ["s/2", "copy_of_kept", "s/1"],
        ["t/1", "copy_of_kept", "t/0"],
        ["t/2", "copy_of_kept", "t/0"],
    ]


@given(specs, specs)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=25)
def test_a_source_that_is_added_changes_no_split(faces, one_of_each_class, old, new) -> None:
    """Its rows share pictures with the others: those may leave for a twin, but none changes side."""

    def build(drawn: list[Any], *, prefix: str) -> list[dict[str, Any]]:
        return [
            {"id": f"{prefix}{source}/{i:02d}", "sha256": f"{pixel:064x}", "split": split}
            | {"photo": f"{prefix}{source}/p{photo}"}
            for i, (source, photo, pixel, split) in enumerate(drawn)
        ]

    before = [*build(old, prefix="m"), *one_of_each_class]
    one = freeze(faces(before), section=SHARES, seed=1)
    two = freeze(faces([*before, *build(new, prefix="a")]), section=SHARES, seed=1)
    first, second = (f.drawn.set_index("id")["split"] for f in (one, two))
    assert second.loc[first.index].equals(first)
    gone = set(one.rows["id"]) - set(two.rows["id"])
    assert gone <= set(two.excluded["id"])

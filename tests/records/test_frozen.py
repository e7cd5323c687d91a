import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.config import Manifest, View
from stages.records.frozen import freeze
from stages.records.splits import share_no_group
from stages.runtime.errors import UserError

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
    frozen = freeze(faces(several), section=Manifest(), seed=1)
    kept, left = frozen.rows["id"].to_list(), frozen.excluded["id"].to_list()
    assert sorted([*kept, *left]) == sorted(face["id"] for face in several)
    assert kept == sorted(kept)
    assert share_no_group(frozen.rows)
    random.shuffle(several)
    again = freeze(faces(several), section=Manifest(), seed=1)
    assert again.rows.equals(frozen.rows)
    assert again.excluded.equals(frozen.excluded)
    assert again.duplicates.equals(frozen.duplicates)


def test_report_only_leaves_every_row(faces, one_of_each_class) -> None:
    twins = [
        {"id": f"s/{split}", "split": split, "sha256": "0" * 64}
        for split in ("train", "val", "test")
    ]
    build = faces([*one_of_each_class, *twins])
    assert len(freeze(build, section=Manifest(copies="report_only"), seed=1).rows) == len(build)
    dropped = freeze(build, section=Manifest(), seed=1)
    assert dropped.excluded["id"].to_list() == ["s/train", "s/val"]
    assert len(dropped.duplicates) == 2


def test_a_class_whose_only_train_row_leaves_is_named(faces, one_of_each_class) -> None:
    one_of_each_class = [
        face | ({"sha256": "0" * 64} if face["id"] in ("zz/Fear", "zz/test") else {})
        for face in one_of_each_class
    ]
    with pytest.raises(
        UserError, match=r"params.yaml: manifest: expected train rows .* \['Fear'\]"
    ):
        freeze(faces(one_of_each_class), section=Manifest(), seed=1)


@pytest.mark.parametrize("names", [["Excluded"], ["mine", "Mine"], ["classification_manifest"]])
def test_view_names_that_would_share_a_file(faces, one_of_each_class, names: list[str]) -> None:
    section = Manifest(views=dict.fromkeys(names, View()))
    with pytest.raises(
        UserError, match=rf"manifest\.views\.{names[-1]}: expected a name of its own"
    ):
        freeze(faces(one_of_each_class), section=section, seed=1)

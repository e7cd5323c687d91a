from pathlib import Path

import matplotlib.image
import pytest
from small_faces import small_face, write_faces

from stages.runtime.errors import UserError
from stages.survey.pictures import (
    DUPLICATES,
    REVIEW,
    caption,
    duplicate_rows,
    fair_draw,
    lowest,
    review_rows,
    rows_figure,
    write_figures,
    write_pair_sheets,
)
from tests.survey.surveys import frozen_of, pair_rows, specs, survey_of


@pytest.fixture
def drawn(rows):
    return rows([{"id": f"a/{i:02d}", "split": ["train", "test"][i % 2]} for i in range(60)])


def test_figures_grow_with_the_sources_and_a_number_more_shows(rows, tmp_path: Path) -> None:
    def write(folder: str, num_sources: int, near=()) -> dict[str, bytes]:
        drawn = rows(
            {"id": f"a_source_of_a_long_name_{n}/{split}{i}", "split": split, "sha256": f"{i}"}
            for n in range(num_sources)
            for split in ("train", "val", "test")
            for i in range(2)
        )
        write_figures(tmp_path / folder, survey_of(frozen_of(drawn, near=near)))
        return {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}

    pair = ("a_source_of_a_long_name_0/train0", "a_source_of_a_long_name_0/train1", {})
    few, more, many = write("few", 1), write("more", 1, near=[pair]), write("many", 4)
    assert many == write("again", 4)
    assert sorted(few) == ["duplicates.png", "native_px.png", "rows.png"]
    for name in few:
        assert b"Software" not in few[name]
        assert (few[name] != more[name]) == (name == "duplicates.png")
        height, large = (
            matplotlib.image.imread(tmp_path / folder / name).shape[0] for folder in ("few", "many")
        )
        assert 200 < height < 0.9 * large


def test_a_split_is_carved_if_the_dataset_has_none(rows) -> None:
    own = specs(
        "a/1 official=train", "a/2 official=train split=val", "a/3 official=test split=test"
    )
    axis = rows_figure(rows([*own, *specs("b/1", "b/2 split=test")])).axes[0]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["train", "val, carved", "test", "train", "test, carved"]


def test_each_row_shows_its_kind_of_pair_and_counts_them(drawn) -> None:
    pairs = [
        ("a/00", "a/02", {"kind": "exact", "correlation": 1.0}),
        ("a/00", "a/03", {"kind": "exact", "correlation": 1.0}),
        ("a/04", "a/06", {"correlation": 0.97, "same_label": "false"}),
        ("a/04", "a/09", {"correlation": 0.94}),
        ("a/10", "a/12", {"correlation": 0.93, "mirrored": "true"}),
    ]
    shown = duplicate_rows(pair_rows(drawn, pairs))
    assert {title: list(pairs["id_b"]) for title, pairs in shown.items()} == {
        "exact, across splits\n1 pair": ["a/03"],
        "near, from the lowest\n3 pairs": ["a/12", "a/09", "a/06"],
        "near, mirrored\n1 pair": ["a/12"],
        "labels disagree\n1 pair": ["a/06"],
    }


def test_review_has_a_row_for_each_hundredth(drawn) -> None:
    # 0.58 * 100 is 57.99999999999999.
    values = [0.9, 0.9099, 0.91, 0.58]
    pairs = [(f"a/{i:02d}", f"a/{i + 30}", {"correlation": c}) for i, c in enumerate(values)]
    shown = review_rows(pair_rows(drawn, pairs))
    assert [(title, sorted(pairs["correlation"])) for title, pairs in shown.items()] == [
        ("0.91 to 0.92\n1 pair", [0.91]),
        ("0.90 to 0.91\n2 pairs", [0.9, 0.9099]),
        ("0.58 to 0.59\n1 pair", [0.58]),
    ]
    assert [*review_rows(pair_rows(drawn, []))] == ["for review\n0 pairs"]


def test_the_draw_is_the_same_in_any_order_and_of_many_groups(drawn) -> None:
    pairs = pair_rows(drawn, [(f"a/{i:02d}", f"a/{i + 30}", {}) for i in range(30)])

    def draw(pairs):
        return list(fair_draw(pairs, pairs["kind"] == "near")["id_a"])

    first = draw(pairs)
    assert len(first) == 8
    assert draw(pairs.sample(frac=1, random_state=1)) == first
    # Not the first by id, and not others when pairs are added that are not drawn themselves.
    assert first != sorted(pairs["id_a"])[:8]
    assert draw(pairs[pairs["id_a"].isin(first) | (pairs["id_a"] < "a/20")]) == first
    assert len(draw(pairs.assign(group="a/00"))) == 1
    chosen = pairs["id_a"] >= "a/27"
    for few in (fair_draw(pairs, chosen), lowest(pairs, chosen)):
        assert sorted(few["id_a"]) == ["a/27", "a/28", "a/29"]


def test_captions_say_once_what_both_share(drawn) -> None:
    pairs = [
        ("a/00", "a/02", {"kind": "exact", "correlation": 1.0}),
        ("a/00", "a/03", {"mirrored": "true"}),
    ]
    exact, near = pair_rows(drawn, pairs).to_dict("records")
    labels = {"a/00": "Happy", "a/02": "Happy", "a/03": "Sad"}
    assert caption(exact, labels) == "exact, Happy, train"
    assert caption(near, labels) == "0.9500 mirrored, Happy / Sad, train / test"


def test_sheets_show_the_pairs_and_are_the_same_bytes_again(drawn, tmp_path: Path) -> None:
    # What is not drawn is not read: the last face has no picture that could be decoded.
    images = [small_face(id_) for id_ in drawn["id"][:-1]]
    write_faces(tmp_path / "a", [*images, small_face("a/59", image=b"-")])
    near = [(f"a/{i:02d}", f"a/{i + 20}", {}) for i in range(0, 20, 5)]
    review = [(f"a/{i:02d}", f"a/{i + 30}", {"correlation": 0.91}) for i in range(3)]
    frozen = frozen_of(drawn, near=near, review=review)
    for folder, shown in (("first", frozen), ("again", frozen), ("none", frozen_of(drawn))):
        write_pair_sheets(tmp_path / folder, shown, standardized=tmp_path)
    for name in (DUPLICATES, REVIEW):
        first, again, none = (
            (tmp_path / f / name).read_bytes() for f in ("first", "again", "none")
        )
        assert first == again != none
        assert min(matplotlib.image.imread(tmp_path / "first" / name).shape[:2]) > 90


def test_incident_D7_a_pair_without_its_image_is_an_error(drawn, tmp_path: Path) -> None:
    write_faces(tmp_path / "a", [small_face("a/00")])
    frozen = frozen_of(drawn, near=[("a/00", "a/02", {})])
    with pytest.raises(UserError, match=r"1 of 2 manifest rows have no image: a/02;"):
        write_pair_sheets(tmp_path / "sheets", frozen, standardized=tmp_path)

from pathlib import Path

import matplotlib.image
import pytest
from small_faces import small_face, write_faces

from stages.survey.pictures import (
    DUPLICATES,
    REVIEW,
    caption,
    duplicate_rows,
    fair_draw,
    review_rows,
    rows_figure,
    write_figures,
    write_pair_sheets,
)
from tests.survey.surveys import frozen_of, specs, survey_of


@pytest.fixture
def drawn(rows):
    """Pictures in train and test; two of them stand there twice."""
    copies = {2: "0", 3: "0"}
    return rows(
        {"id": f"a/{i:02d}", "split": ["train", "test"][i % 2], "sha256": copies.get(i, f"{i}")}
        for i in range(60)
    )


def test_figures_are_the_same_bytes_again_and_a_number_more_shows(drawn, tmp_path: Path) -> None:
    pair = ("a/04", "a/06", 0.95, False)
    figures = []
    for folder, near in (("first", []), ("again", []), ("more", [pair])):
        write_figures(tmp_path / folder, survey_of(frozen_of(drawn, near=near)))
        figures.append({path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()})
    first, again, more = figures
    assert first == again
    assert sorted(first) == ["duplicates.png", "native_px.png", "rows.png"]
    assert [name for name in first if first[name] != more[name]] == ["duplicates.png"]
    assert not any(b"Software" in data for data in first.values())


def test_a_split_is_carved_if_the_dataset_has_none(rows) -> None:
    own = ["a/1 official=train", "a/2 official=train split=val", "a/3 official=test split=test"]
    axis = rows_figure(rows(specs(*own, "b/1", "b/2 split=test"))).axes[0]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["train", "val, carved", "test", "train", "test, carved"]


def test_each_row_shows_its_kind_of_pair_and_counts_them(drawn) -> None:
    drawn.loc[6, "label"] = "Sad"
    near = [("a/04", "a/06", 0.97, False), ("a/04", "a/09", 0.94, False)]
    near.append(("a/10", "a/12", 0.93, True))
    pairs = frozen_of(drawn, near=near).duplicates
    assert {title: list(chosen["id_b"]) for title, chosen in duplicate_rows(pairs).items()} == {
        "exact, across splits\n1 pair": ["a/03"],
        "near, from the lowest\n3 pairs": ["a/12", "a/09", "a/06"],
        "near, mirrored\n1 pair": ["a/12"],
        "labels disagree\n1 pair": ["a/06"],
    }
    labels = drawn.set_index("id")["label"].to_dict()
    assert [caption(pair, labels) for pair in pairs.to_dict("records")[1:4]] == [
        "exact, Happy, train / test",
        "0.9700, Happy / Sad, train",
        "0.9400, Happy, train / test",
    ]
    assert caption(pairs.iloc[-1], labels) == "0.9300 mirrored, Happy, train"


def test_review_has_a_row_for_each_hundredth(drawn) -> None:
    # 0.58 * 100 is 57.99999999999999.
    values = [0.9, 0.9099, 0.91, 0.58]
    review = [(f"a/{i:02d}", f"a/{i + 30}", value, False) for i, value in enumerate(values)]
    shown = review_rows(frozen_of(drawn, review=review).review)
    assert [(title, sorted(pairs["correlation"])) for title, pairs in shown.items()] == [
        ("0.91 to 0.92\n1 pair", [0.91]),
        ("0.90 to 0.91\n2 pairs", [0.9, 0.9099]),
        ("0.58 to 0.59\n1 pair", [0.58]),
    ]
    assert [*review_rows(frozen_of(drawn).review)] == ["for review\n0 pairs"]


def test_the_draw_is_the_same_in_any_order_and_of_many_groups(drawn) -> None:
    review = [(f"a/{i:02d}", f"a/{i + 30}", 0.91, False) for i in range(30)]
    pairs = frozen_of(drawn, review=review).review

    def draw(pairs):
        return list(fair_draw(pairs, pairs["kind"] == "review")["id_a"])

    first = draw(pairs)
    assert len(first) == 8
    assert draw(pairs.sample(frac=1, random_state=1)) == first
    # Not the first by id, and not others when pairs are added that are not drawn themselves.
    assert first != sorted(pairs["id_a"])[:8]
    assert draw(pairs[pairs["id_a"].isin(first) | (pairs["id_a"] < "a/20")]) == first
    assert len(draw(pairs.assign(group="a/00"))) == 1


def test_sheets_show_the_pairs_and_are_the_same_bytes_again(drawn, tmp_path: Path) -> None:
    # What is not drawn is not read: the last face has no picture that could be decoded.
    images = [small_face(id_) for id_ in drawn["id"][:-1]]
    write_faces(tmp_path / "a", [*images, small_face("a/59", image=b"-")])
    near = [(f"a/{i:02d}", f"a/{i + 20}", 0.95, False) for i in range(0, 20, 5)]
    review = [(f"a/{i:02d}", f"a/{i + 30}", 0.91, False) for i in range(3)]
    frozen = frozen_of(drawn, near=near, review=review)
    for folder, shown in (("first", frozen), ("again", frozen), ("none", frozen_of(drawn))):
        write_pair_sheets(tmp_path / folder, shown, standardized=tmp_path)
    for name in (DUPLICATES, REVIEW):
        first, again, none = [
            (tmp_path / f / name).read_bytes() for f in ("first", "again", "none")
        ]
        assert first == again != none
        assert min(matplotlib.image.imread(tmp_path / "first" / name).shape[:2]) > 90

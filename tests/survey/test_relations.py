from collections import Counter
from itertools import combinations, product

import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.survey.relations import least_twin_px, matrix, relations, rows_with_twin
from tests.survey.surveys import frozen_of

drawn_rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.sampled_from(["Happy", "Sad"])),
    min_size=1,
    max_size=14,
)
picture_pairs = st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=6)


def built(rows, drawn, near):
    frame = rows(
        [
            {"id": f"{source}/{at:02d}", "sha256": f"{picture}", "label": label}
            for at, (source, picture, label) in enumerate(drawn)
        ]
    )
    first = frame.drop_duplicates("sha256").set_index("sha256")["id"].to_dict()
    pictures = sorted({(a, b) for a, b in near if a != b and str(a) in first and str(b) in first})
    pairs = [(first[str(a)], first[str(b)], {}) for a, b in pictures]
    return frame, frozen_of(frame, near=pairs), pictures


def labels_of(frame: pd.DataFrame, source: str, picture: int) -> list[str]:
    return frame.loc[
        (frame["source"] == source) & (frame["sha256"] == str(picture)), "label"
    ].to_list()


@given(drawn_rows, picture_pairs)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
def test_the_matrix_is_what_counting_by_hand_gives(rows, drawn, near) -> None:
    frame, frozen, pictures = built(rows, drawn, near)
    expected: Counter[tuple[str, str, str]] = Counter()
    agreeing: Counter[tuple[str, str, str]] = Counter()
    for picture in range(6):
        for one, other in [*combinations("abc", 2), *zip("abc", "abc", strict=True)]:
            labels = [labels_of(frame, source, picture) for source in (one, other)]
            if all(labels) and (one != other or len(labels[0]) > 1):
                expected[one, other, "exact"] += 1
                agreeing[one, other, "exact"] += len(set(labels[0] + labels[1])) == 1
    unordered = {tuple(sorted(pair)) for pair in pictures}
    for (first, second), one, other in product(unordered, "abc", "abc"):
        labels = labels_of(frame, one, first), labels_of(frame, other, second)
        if all(labels):
            key = (*sorted([one, other]), "near")
            expected[key] += 1
            agreeing[key] += len(set(labels[0] + labels[1])) == 1
    found = matrix(relations(frozen.drawn, frozen.duplicates))
    keys = [tuple(key) for key in found[["source_a", "source_b", "kind"]].to_numpy()]
    assert dict(zip(keys, found["pairs"], strict=True)) == expected
    shares = {key: agreeing[key] / expected[key] for key in expected}
    assert dict(zip(keys, found["same_label"], strict=True)) == shares


@given(drawn_rows, picture_pairs)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
def test_rows_with_a_twin_are_what_looking_at_each_gives(rows, drawn, near) -> None:
    frame, frozen, pictures = built(rows, drawn, near)
    alike = {tuple(map(str, pair)) for pair in pictures}
    alike |= {(b, a) for a, b in alike}
    every = list(zip(frame["id"], frame["source"], frame["sha256"], strict=True))
    expected: Counter[tuple[str, str | None]] = Counter()
    for id_, source, picture in every:
        twins = {
            other_source
            for other, other_source, other_picture in every
            if other != id_ and (other_picture == picture or (picture, other_picture) in alike)
        }
        expected.update((source, other) for other in twins)
        expected[source, None] += bool(twins)
    found = rows_with_twin(relations(frozen.drawn, frozen.duplicates))
    others = [None if pd.isna(other) else other for other in found["other"]]
    keys = zip(found["source"], others, strict=True)
    assert dict(zip(keys, found["rows"], strict=True)) == +expected


@given(drawn_rows, picture_pairs, st.data())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
def test_the_smallest_twin_is_what_looking_at_each_gives(rows, drawn, near, data) -> None:
    frame, frozen, pictures = built(rows, drawn, near)
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=len(frame), max_size=len(frame)))
    frame = frozen.drawn.assign(native_px=sizes)
    alike = {tuple(map(str, pair)) for pair in pictures}
    alike |= {(b, a) for a, b in alike}
    every = list(zip(frame["sha256"], sizes, strict=True))
    expected = [
        min(px for other, px in every if other == picture or (picture, other) in alike)
        for picture, _ in every
    ]
    assert least_twin_px(frame, frozen.duplicates).tolist() == expected


def test_a_pair_of_pictures_counts_once_whichever_rows_stand_for_it(rows) -> None:
    drawn = rows(
        [{"id": id_, "sha256": id_[2:]} for id_ in ("a/first", "b/second", "b/first", "c/second")]
    )
    # As duplicates.csv has it where two datasets hold both pictures, in either order of ids.
    near = [("a/first", "b/second", {}), ("b/second", "b/first", {}), ("b/first", "c/second", {})]
    frozen = frozen_of(drawn, near=near)
    counts = matrix(relations(frozen.drawn, frozen.duplicates))
    found = counts[counts["kind"] == "near"].set_index(["source_a", "source_b"])["pairs"]
    assert found.to_dict() == {("a", "b"): 1, ("a", "c"): 1, ("b", "b"): 1, ("b", "c"): 1}


def test_nothing_repeats(rows) -> None:
    frozen = frozen_of(rows([{"id": "a/1"}, {"id": "b/2"}]))
    related = relations(frozen.drawn, frozen.duplicates)
    assert related.empty
    assert matrix(related).empty
    assert rows_with_twin(related).empty

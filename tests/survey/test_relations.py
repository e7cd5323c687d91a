from collections import Counter
from itertools import product

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.survey.relations import least_twin_px, matrix, relations, rows_with_twin
from tests.survey.surveys import frozen_of

any_row = st.tuples(
    st.sampled_from("abc"), st.integers(0, 5), st.sampled_from(["Happy", "Sad"]), st.integers(1, 9)
)
picture_pairs = st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=6)


@given(st.lists(any_row, min_size=1, max_size=14), picture_pairs)
@settings(max_examples=60)
def test_relations_are_what_comparing_all_rows_gives(rows, drawn, near) -> None:
    frame = rows(
        {"id": f"{source}/{n:02d}", "sha256": str(picture), "label": label, "native_px": px}
        for n, (source, picture, label, px) in enumerate(drawn)
    )
    first, last = (
        frame.drop_duplicates("sha256", keep=end).set_index("sha256")["id"].to_dict()
        for end in ("first", "last")
    )
    pairs = {(str(a), str(b)) for a, b in near if a != b and {str(a), str(b)} <= set(first)}
    # A pair of pictures counts once, whichever rows stand for it, and in either order of ids.
    near_rows = [(end[a], end[b], 0.95, False) for a, b in sorted(pairs) for end in (first, last)]
    frozen = frozen_of(frame, near=near_rows)
    related = relations(frozen.drawn, frozen.duplicates)

    alike = pairs | {(b, a) for a, b in pairs}
    every = list(frame[["id", "source", "sha256", "native_px"]].itertuples(index=False))
    num_rows: Counter[tuple[str, str | None]] = Counter()
    least = []
    for row in every:
        twins = [
            other
            for other in every
            if other.id != row.id
            and (other.sha256 == row.sha256 or (row.sha256, other.sha256) in alike)
        ]
        num_rows.update((row.source, source) for source in {twin.source for twin in twins})
        num_rows[row.source, None] += bool(twins)
        least.append(min(twin.native_px for twin in [row, *twins]))
    counted = rows_with_twin(related)
    others = [None if pd.isna(other) else other for other in counted["other"]]
    keys = zip(counted["source"], others, strict=True)
    assert dict(zip(keys, counted["rows"], strict=True)) == +num_rows
    assert least_twin_px(frame, frozen.duplicates).tolist() == least

    labels = frame.groupby(["source", "sha256"])["label"].agg(list).to_dict()
    cells: dict[tuple[str, str, str], list[bool]] = {}
    unordered = {tuple(sorted(pair)) for pair in pairs}
    for (p, q), a, b in product([*((p, p) for p in first), *unordered], "abc", "abc"):
        both = labels.get((a, p), []), labels.get((b, q), [])
        # Within a source a picture is a duplicate of itself if it stands there twice.
        if all(both) and (p != q or a < b or (a == b and len(both[0]) > 1)):
            key = (*sorted([a, b]), "exact" if p == q else "near")
            cells.setdefault(key, []).append(len({*both[0], *both[1]}) == 1)
    counts = matrix(related)
    assert {tuple(row[:3]): tuple(row[3:]) for row in counts.to_numpy().tolist()} == {
        key: (len(agree), sum(agree) / len(agree)) for key, agree in cells.items()
    }

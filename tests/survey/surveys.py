"""Frozen manifests and surveys put together by hand, for what is counted and drawn from them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from stages.splitting.frozen import FrozenManifest
from stages.splitting.splits import EXCLUDED_COLUMNS
from stages.survey.relations import relations
from stages.survey.survey import SourceIndex, Survey

Pair = tuple[str, str, Mapping[str, Any]]
PAIR_COLUMNS = "id_a id_b group kind mirrored correlation same_label split_a split_b".split()


def specs(*lines: str) -> list[dict[str, str]]:
    """Specs of rows: `a/1 split=val` is the row of that id and split."""
    return [
        {"id": id_} | dict(value.split("=") for value in values)
        for id_, *values in (line.split() for line in lines)
    ]


def pair_rows(drawn: pd.DataFrame, pairs: Iterable[Pair]) -> pd.DataFrame:
    """Pairs of ids as duplicates.csv has them; `near`, alike by 0.95, unless the spec differs."""
    known = drawn.set_index("id")
    rows = []
    for id_a, id_b, spec in pairs:
        a, b = known.loc[id_a], known.loc[id_b]
        row = {"id_a": id_a, "id_b": id_b, "group": b["group"], "kind": "near"}
        row |= {"mirrored": "false", "correlation": 0.95, "split_a": a["split"]}
        row |= {"split_b": b["split"], "same_label": str(a["label"] == b["label"]).lower()}
        rows.append(row | dict(spec))
    return pd.DataFrame(rows, columns=PAIR_COLUMNS)


def frozen_of(
    drawn: pd.DataFrame,
    *,
    near: Iterable[Pair] = (),
    review: Iterable[Pair] = (),
    excluded: Mapping[str, str] | None = None,
) -> FrozenManifest:
    """`drawn` with the exact duplicates that it has and the pairs and excluded rows stated."""
    reasons = drawn["id"].map(excluded or {}).astype("str")
    left = drawn.assign(detail="", reason=reasons)[reasons.notna()]
    rows = drawn[reasons.isna()].reset_index(drop=True)
    first = drawn.groupby("sha256")["id"].transform("first")
    copies = drawn["id"] != first
    exact = [
        (a, b, {"kind": "exact", "correlation": 1.0})
        for a, b in zip(first[copies], drawn.loc[copies, "id"], strict=True)
    ]
    duplicates = pair_rows(drawn, [*exact, *near])
    return FrozenManifest(
        drawn=drawn,
        rows=rows,
        excluded=left[list(EXCLUDED_COLUMNS)],
        duplicates=duplicates.sort_values(["id_a", "id_b"], ignore_index=True),
        review=pair_rows(drawn, [(a, b, {"kind": "review"} | dict(c)) for a, b, c in review]),
        views={"tests": rows[rows["split"] == "test"]},
    )


def index_of(name: str, **values: Any) -> SourceIndex:
    """A source folder of 100 faces that came as faces, without rejects."""
    crops = {"none": 100, "box": 0, "aligned": 0}
    counts: dict[str, Any] = {"faces": 100, "rejects": {}, "crops": crops}
    counts |= {"boxes_partly_outside": 0, "boxes_in_turned_photos": {"stored": 0, "turned": 0}}
    return SourceIndex(name=name, **(counts | values))


def survey_of(frozen: FrozenManifest, *, indexes: Sequence[SourceIndex] = ()) -> Survey:
    """A survey in which Stage A trains on every train row, whatever the classes."""
    train = frozen.rows[frozen.rows["split"] == "train"]
    related = relations(frozen.drawn, frozen.duplicates)
    return Survey(frozen=frozen, stages={"stageA": train}, indexes=indexes, related=related)

"""Frozen manifests and surveys put together by hand, for what is counted and drawn from them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from stages.splitting.duplicates import PAIR_COLUMNS
from stages.splitting.frozen import FrozenManifest
from stages.splitting.splits import EXCLUDED_COLUMNS
from stages.survey.indexes import SourceIndex
from stages.survey.relations import relations
from stages.survey.survey import Survey


def pair_rows(drawn: pd.DataFrame, specs: Iterable[tuple[str, str, Mapping[str, Any]]]) -> Any:
    """Pairs of ids as duplicates.csv has them; `near`, alike by 0.95, unless the spec differs."""
    known = drawn.set_index("id")
    rows = []
    for id_a, id_b, spec in specs:
        a, b = known.loc[id_a], known.loc[id_b]
        row = {"id_a": id_a, "id_b": id_b, "group": b["group"], "kind": "near"}
        row |= {"mirrored": "false", "correlation": 0.95, "split_a": a["split"]}
        row |= {"split_b": b["split"], "same_label": str(a["label"] == b["label"]).lower()}
        rows.append(row | dict(spec))
    return pd.DataFrame(rows, columns=list(PAIR_COLUMNS))


def exact_pairs(drawn: pd.DataFrame) -> pd.DataFrame:
    """The pairs of equal pixels, each with the first row that has them."""
    first: dict[str, str] = {}
    specs = []
    for id_, sha256 in zip(drawn["id"], drawn["sha256"], strict=True):
        if first.setdefault(sha256, id_) != id_:
            specs.append((first[sha256], id_, {"kind": "exact", "correlation": 1.0}))
    return pair_rows(drawn, specs)


def frozen_of(
    drawn: pd.DataFrame,
    *,
    near: Iterable[tuple[str, str, Mapping[str, Any]]] = (),
    review: Iterable[tuple[str, str, Mapping[str, Any]]] = (),
    excluded: Mapping[str, str] | None = None,
) -> FrozenManifest:
    """`drawn` with the exact duplicates that it has and the pairs and excluded rows stated."""
    reasons = excluded or {}
    leaving = drawn["id"].isin(list(reasons))
    left = drawn[leaving]
    left = left.assign(detail="", reason=left["id"].map(reasons).astype("str"))
    rows = drawn[~leaving].reset_index(drop=True)
    duplicates = [exact_pairs(drawn), pair_rows(drawn, near)]
    kept = [part for part in duplicates if len(part)] or duplicates[:1]
    return FrozenManifest(
        drawn=drawn,
        rows=rows,
        excluded=left[list(EXCLUDED_COLUMNS)],
        duplicates=pd.concat(kept).sort_values(["id_a", "id_b"], ignore_index=True),
        review=pair_rows(drawn, [(a, b, {"kind": "review"} | dict(c)) for a, b, c in review]),
        views={"tests": rows[rows["split"] == "test"]},
    )


def index_of(name: str, **values: Any) -> SourceIndex:
    """A source folder of 100 faces that came as faces, without rejects."""
    counts: dict[str, Any] = {
        "faces": 100,
        "rejects": {},
        "crops": {"none": 100, "box": 0, "aligned": 0},
        "boxes_partly_outside": 0,
        "boxes_in_turned_photos": {"stored": 0, "turned": 0},
    }
    return SourceIndex(name=name, **(counts | values))


def survey_of(
    frozen: FrozenManifest,
    *,
    stages: Sequence[str] = ("stageA",),
    indexes: Sequence[SourceIndex] = (),
) -> Survey:
    """A survey in which each stage trains on every train row, whatever the classes."""
    train = frozen.rows[frozen.rows["split"] == "train"]
    return Survey(
        frozen=frozen,
        stages=dict.fromkeys(stages, train),
        indexes=indexes,
        related=relations(frozen.drawn, frozen.duplicates),
    )

"""Frozen manifests and surveys put together by hand, for what is counted and drawn from them."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from stages.splitting.duplicates import DuplicatePairs, pair_tables
from stages.splitting.frozen import FrozenManifest
from stages.splitting.similarity import Pairs
from stages.splitting.splits import EXCLUDED_COLUMNS, edges_by_value
from stages.survey.relations import relations
from stages.survey.survey import SourceIndexes, Survey

# Two ids, their correlation and if one is mirrored.
Pair = tuple[str, str, float, bool]


def specs(*lines: str) -> list[dict[str, str]]:
    """Specs of rows: `a/1 split=val` is the row of that id and split."""
    return [
        {"id": id_} | dict(value.split("=") for value in values)
        for id_, *values in (line.split() for line in lines)
    ]


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
    ids, pairs = pd.Index(drawn["id"]), []
    for stated in (near, review):
        a, b, correlation, mirrored = zip(*stated, strict=True) if stated else ((), (), (), ())
        places = ids.get_indexer(list(a)), ids.get_indexer(list(b))
        pairs.append(Pairs(*places, np.array(correlation, float), np.array(mirrored, bool)))
    exact = edges_by_value(drawn["sha256"])
    duplicates, shown = pair_tables(drawn, DuplicatePairs(exact, *pairs))
    return FrozenManifest(
        drawn=drawn,
        rows=rows,
        excluded=left[list(EXCLUDED_COLUMNS)],
        duplicates=duplicates,
        review=shown,
        views={"tests": rows[rows["split"] == "test"]},
    )


def index_of(**values: Any) -> dict[str, Any]:
    """The index of a source folder of 100 faces that came as faces, without rejects."""
    crops = {"none": 100, "box": 0, "aligned": 0}
    counts: dict[str, Any] = {"faces": 100, "rejects": {}, "crops": crops}
    counts |= {"boxes_partly_outside": 0, "boxes_in_turned_photos": {"stored": 0, "turned": 0}}
    return counts | values


def survey_of(frozen: FrozenManifest, *, indexes: SourceIndexes | None = None) -> Survey:
    """A survey in which Stage A trains on every train row, whatever the classes."""
    train = frozen.rows[frozen.rows["split"] == "train"]
    related = relations(frozen.drawn, frozen.duplicates)
    return Survey(frozen=frozen, stages={"stageA": train}, indexes=indexes or {}, related=related)

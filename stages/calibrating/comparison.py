"""Two models on the same rows -> their difference, with paired intervals.

Numbers of different rows are never compared: `same_rows` cuts both to what they share first.
"""

from typing import Literal

import numpy as np

from stages.calibrating.blocks import MAJORITY, Block, Evidence, score_row, source_masks
from stages.calibrating.protocol import Protocol
from stages.scoring.bootstrap import Resamples, draw, percentiles

# What is compared, and what the difference, second minus first, is called.
DIFFERENCES: tuple[tuple[Literal["macro_f1", "nll"], str], ...] = (
    ("macro_f1", "macro_f1_gain"),
    ("nll", "nll_change"),
)


def same_rows(first: Evidence, second: Evidence) -> tuple[Evidence, Evidence]:
    """Both pieces of evidence on the rows that they share, in the same order."""
    first_ids, second_ids = first.rows["id"], second.rows["id"]
    shared = (
        first.only(first_ids.isin(second_ids).to_numpy()),
        second.only(second_ids.isin(first_ids).to_numpy()),
    )
    assert list(shared[0].rows["id"]) == list(shared[1].rows["id"]), "rows go by id"
    return shared


def compare(first: Evidence, second: Evidence, *, protocol: Protocol) -> Block:
    """Second minus first after calibration, on the rows that they share; `n: 0` without any.

    `macro_f1_gain` above 0 and `nll_change` below 0 speak for the second; a difference whose 95 %
    interval holds 0 is none. `scores` are those of the first and of the second on these rows.
    """
    pair = same_rows(first, second)
    about = [line for one in pair for line in one.about(label_rule=MAJORITY)]
    if pair[0].rows.empty:
        return {"n": 0, "about": about}
    draws = protocol.resamples(pair[0].rows["group"].tolist())
    rows = [
        score_row(one.pair.scaled, one.targets, resamples=draws, bins=protocol.bins) for one in pair
    ]
    return differences(*pair, resamples=draws, bins=protocol.bins) | {
        "about": about,
        "scores": rows,
        "per_source": [
            {"source": name}
            | differences(
                *(one.only(mask) for one in pair), resamples=draws.only(mask), bins=protocol.bins
            )
            for name, mask in source_masks(pair[0].rows).items()
        ],
    }


def differences(first: Evidence, second: Evidence, *, resamples: Resamples, bins: int) -> Block:
    """n, and each difference of `DIFFERENCES` with its interval, of the same rows."""
    assert np.array_equal(first.rows["id"], second.rows["id"]), "compared on the same rows only"
    values: Block = {"n": len(first.rows)}
    before, after = (
        draw(one.pair.scaled, one.targets, resamples=resamples, bins=bins)
        for one in (first, second)
    )
    for metric, name in DIFFERENCES:
        values[name] = float((after.metrics[metric] - before.metrics[metric])[0])
        values[f"{name}_95"] = list(percentiles(after.draws[metric] - before.draws[metric]))
    return values

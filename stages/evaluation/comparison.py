"""Two models on the same rows -> their difference, with paired intervals.

Numbers of different rows are never compared: `same_rows` cuts both to what they share first.
"""

from typing import Literal

import numpy as np

from stages.evaluation.blocks import Block, Evidence, source_masks
from stages.evaluation.bootstrap import Resamples, draw_metrics, percentiles
from stages.evaluation.metrics import score

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


def compare(first: Evidence, second: Evidence, *, resamples: Resamples, bins: int) -> Block:
    """Second minus first after scaling, on all rows and per source.

    `macro_f1_gain` above 0 and `nll_change` below 0 speak for the second; a difference whose 95 %
    interval holds 0 is none.
    """
    sources = source_masks(first.rows)
    return _differences(first, second, resamples=resamples, bins=bins) | {
        "evidence": [{"fitted_on": first.fitted_on, "reported_on": first.reported_on}],
        "per_source": [
            {"source": name}
            | _differences(
                first.only(mask), second.only(mask), resamples=resamples.only(mask), bins=bins
            )
            for name, mask in sources.items()
        ],
    }


def _differences(first: Evidence, second: Evidence, *, resamples: Resamples, bins: int) -> Block:
    assert np.array_equal(first.rows["id"], second.rows["id"]), "compared on the same rows only"
    before, after = (score(e.pair.scaled, e.targets, bins=bins) for e in (first, second))
    draws_before, draws_after = (
        draw_metrics(e.pair.scaled, e.targets, resamples=resamples, bins=bins)
        for e in (first, second)
    )
    values: Block = {"n": len(first.rows)}
    for metric, name in DIFFERENCES:
        values[name] = after[metric] - before[metric]
        values[f"{name}_95"] = percentiles(draws_after[metric] - draws_before[metric])
    return values

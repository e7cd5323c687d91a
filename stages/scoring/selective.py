"""Probabilities and targets -> the error among the rows that a model is most confident of."""

import numpy as np
import pandas as pd

from stages.scoring.metrics import Floats, Ints
from stages.scoring.proportion import wilson_interval

_POINTS = 100


def risk_coverage(probabilities: Floats, targets: Ints) -> pd.DataFrame:
    """`coverage, rows, risk, risk_low, risk_high`: the error of the most confident rows (N, 7).

    At most a hundred points, from the most confident rows to all. Rows of equal confidence are
    taken together, so that their order says nothing (Geifman and El-Yaniv 2017).
    """
    confidence = probabilities.max(axis=1)
    wrong = probabilities.argmax(axis=1) != targets
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order]
    ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)) + 1
    wanted = np.ceil(np.linspace(0, len(targets), _POINTS + 1)[1:])
    rows = np.unique(ends[np.searchsorted(ends, wanted)])
    errors = np.cumsum(wrong[order])[rows - 1]
    low, high = wilson_interval(errors, rows)
    return pd.DataFrame(
        {
            "coverage": rows / len(targets),
            "rows": rows,
            "risk": errors / rows,
            "risk_low": low,
            "risk_high": high,
        }
    )

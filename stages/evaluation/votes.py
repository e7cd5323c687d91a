"""Probabilities and the crowd's votes -> how far one is from the other.

Votes are shares (N, 7) of the manifest columns `p_angry` ... `p_neutral`.
"""

import numpy as np
import pandas as pd
from scipy.special import rel_entr

from stages.evaluation.bootstrap import Estimate, Resamples, ece_estimate, percentiles
from stages.evaluation.metrics import Floats, log_probabilities
from stages.evaluation.reliability import bin_of
from stages.records.schema import SHARE_COLUMNS

VOTE_METRICS = ("kl", "soft_ece")


def shares_of(rows: pd.DataFrame) -> Floats:
    """The votes (N, 7) of manifest rows, NaN in rows without."""
    return rows[list(SHARE_COLUMNS)].to_numpy(dtype=np.float64)


def row_kl(probabilities: Floats, shares: Floats) -> Floats:
    """`KL(shares || p) = sum_c s_c log(s_c / p_c)` of each row, (N,), nats."""
    result: Floats = rel_entr(shares, np.exp(log_probabilities(probabilities))).sum(axis=1)
    return result


def soft_ece(probabilities: Floats, shares: Floats, *, bins: int) -> float:
    """ECE to the votes: a hit is the share of the crowd that chose the predicted class."""
    gaps = _gap_columns(probabilities, shares, bins=bins).sum(axis=0)
    return float(np.abs(gaps).sum() / len(shares))


def vote_estimates(
    probabilities: Floats, shares: Floats, *, resamples: Resamples, bins: int
) -> dict[str, Estimate]:
    """The metrics of `VOTE_METRICS` and their 95 % bootstrap intervals."""
    kl = row_kl(probabilities, shares)
    gaps = _gap_columns(probabilities, shares, bins=bins)
    totals = resamples.totals(np.column_stack([gaps, kl, np.ones(len(kl))]))
    num = np.where(totals[:, -1] > 0, totals[:, -1], np.nan)
    ece = soft_ece(probabilities, shares, bins=bins)
    drawn = np.abs(totals[:, :bins]).sum(axis=1) / num
    noise = np.abs(totals[:, :bins] - gaps.sum(axis=0)).sum(axis=1) / len(kl)
    return {
        "kl": Estimate(float(kl.mean()), percentiles(totals[:, bins] / num)),
        "soft_ece": ece_estimate(ece, drawn, noise=noise),
    }


def _gap_columns(probabilities: Floats, shares: Floats, *, bins: int) -> Floats:
    """Confidence minus the share of its class, in the column of its bin, (N, bins)."""
    rows, confidence = np.arange(len(shares)), probabilities.max(axis=1)
    columns = np.zeros((len(shares), bins))
    gap = confidence - shares[rows, probabilities.argmax(axis=1)]
    columns[rows, bin_of(confidence, bins=bins)] = gap
    return columns

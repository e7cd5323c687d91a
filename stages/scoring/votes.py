"""Probabilities and the crowd's votes -> the distance between them.

Votes are shares (N, 7) of the manifest columns `p_angry` ... `p_neutral`.
"""

import numpy as np
import pandas as pd
from scipy.special import rel_entr

from stages.records.schema import SHARE_COLUMNS
from stages.scoring.bootstrap import Estimate, Resamples, mean_interval
from stages.scoring.metrics import Floats, log_probabilities


def shares_of(rows: pd.DataFrame) -> Floats:
    """The votes (N, 7) of manifest rows, NaN in rows without votes."""
    return rows[list(SHARE_COLUMNS)].to_numpy(dtype=np.float64)


def row_kl(probabilities: Floats, shares: Floats) -> Floats:
    """`KL(shares || p) = sum_c s_c log(s_c / p_c)` of each row, (N,), nats."""
    result: Floats = rel_entr(shares, np.exp(log_probabilities(probabilities))).sum(axis=1)
    return result


def kl_estimate(probabilities: Floats, shares: Floats, *, resamples: Resamples) -> Estimate:
    """The mean KL and its 95 % bootstrap interval."""
    kl = row_kl(probabilities, shares)
    return Estimate(float(kl.mean()), mean_interval(kl, resamples=resamples))

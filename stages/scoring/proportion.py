"""A share of independent rows -> its interval, good for few rows and for shares of 0 and 1."""

import numpy as np
import numpy.typing as npt

from stages.scoring.metrics import Floats

_Z = 1.959964  # a standard normal lies within it 95 % of the time


def wilson_interval(successes: npt.ArrayLike, n: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Low and high ends of the 95 % score interval of `successes / n`, for n above 0.

    `(p + z^2 / 2n ± z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)` (Wilson 1927). It takes
    rows as independent: unlike the bootstrap by group it does not collapse where all rows agree.
    """
    count = np.asarray(n, dtype=np.float64)
    share = np.asarray(successes, dtype=np.float64) / count
    square = _Z**2 / count
    middle = (share + square / 2) / (1 + square)
    half = np.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)

import numpy as np
import pytest
from scipy.stats import binomtest

from stages.scoring.confidence import wilson_interval


@pytest.mark.parametrize(
    ("successes", "n"), [(0, 1), (1, 1), (0, 30), (7, 9), (45, 50), (500, 1000)]
)
def test_interval_is_scipys(successes, n):
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    low, high = wilson_interval(successes, n)
    assert (low, high) == (
        pytest.approx(expected.low, abs=1e-6),
        pytest.approx(expected.high, abs=1e-6),
    )


def test_interval_of_many_shares_at_once_holds_each_of_them():
    n = np.array([1, 5, 40])
    low, high = wilson_interval([1, 0, 20], n)
    assert low.shape == high.shape == (3,)
    assert (low <= np.array([1, 0, 0.5])).all()
    assert (high >= np.array([1, 0, 0.5])).all()

import numpy as np
import pytest
from sklearn.linear_model import PoissonRegressor

from stages.calibrating.refinement import PER_CLASS
from stages.calibrating.scaling import fit_scaling, scaling_intervals
from stages.scoring.bootstrap import resample
from stages.scoring.temperature import one_hot

BIAS = np.array([1.5, -0.5, 0, 0, 0, -1, 0])
TEMPERATURE = 2.0


def _resamples(n):
    return resample([f"g{k}" for k in range(n)], samples=200, random=np.random.default_rng(0))


def _fit(logits, targets, *, directions=PER_CLASS, start=1.0):
    return fit_scaling(logits, targets, directions=directions, start=start)


def _with_bias(draw, n, *, seed=0):
    """Logits of which `logits / TEMPERATURE + BIAS` is the truth."""
    logits, targets = draw(n, seed=seed)
    return (logits - BIAS) * TEMPERATURE, targets


@pytest.mark.parametrize("directions", [PER_CLASS, BIAS[None]], ids=["per class", "along it"])
def test_known_temperature_and_bias_come_back_together(draw, directions):
    scaling = _fit(*_with_bias(draw, 20_000), directions=directions, start=5.0)
    assert scaling.temperature == pytest.approx(TEMPERATURE, rel=0.03)
    assert np.array(scaling.class_bias) == pytest.approx(BIAS, abs=0.1)
    assert sum(scaling.class_bias) == pytest.approx(0, abs=1e-9)


def test_temperature_and_bias_are_those_of_sklearn_s_regression(draw):
    """A multinomial fit is a Poisson one with an effect for each row."""
    logits, targets = draw(60, seed=3)
    columns = np.column_stack(
        [logits.ravel(), np.tile(np.eye(7), (60, 1)), np.repeat(np.eye(60), 7, axis=0)]
    )
    oracle = PoissonRegressor(alpha=1e-10, fit_intercept=False, max_iter=10_000, tol=1e-10)
    slopes = oracle.fit(columns, one_hot(targets).ravel()).coef_
    for start in (0.2, 1.0, 49.0):
        scaling = _fit(logits, targets, start=start)
        assert 1 / scaling.temperature == pytest.approx(slopes[0], abs=1e-3)
        assert scaling.class_bias == pytest.approx(slopes[1:8] - slopes[1:8].mean(), abs=1e-3)


def test_rows_that_are_all_right_or_all_the_same_have_no_optimum(draw):
    logits, _ = draw(300)
    assert _fit(logits, logits.argmax(axis=1)) is None
    assert _fit(np.tile(np.linspace(0, 1, 7), (70, 1)), np.arange(70) % 7) is None


@pytest.mark.parametrize("directions", [PER_CLASS, BIAS[None]], ids=["per class", "along it"])
def test_intervals_of_temperature_and_bias_hold_the_truth_at_their_rate(draw, directions):
    holds = []
    for seed in range(100):
        logits, targets = _with_bias(draw, 300, seed=seed)
        scaling = _fit(logits, targets, directions=directions)
        made = scaling_intervals(
            logits, targets, directions=directions, scaling=scaling, resamples=_resamples(300)
        )
        assert made.temperature[0] < scaling.temperature < made.temperature[1]
        known = [(TEMPERATURE, made.temperature), *zip(BIAS, made.class_bias, strict=True)]
        if len(directions) == 1:
            known = [known[0], (1.0, *made.coefficients)]
        holds.append([low < truth < high for truth, (low, high) in known])
    assert ((np.mean(holds, axis=0) >= 0.88) & (np.mean(holds, axis=0) <= 0.99)).all()

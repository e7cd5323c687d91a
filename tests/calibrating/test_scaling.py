import numpy as np
import pytest
from sklearn.linear_model import PoissonRegressor

from stages.calibrating.scaling import (
    NO_OPTIMUM,
    PER_CLASS,
    Scaling,
    fit_scaling,
    scaling_interval,
    try_bias,
)
from stages.scoring.bootstrap import mean_interval, resample
from stages.scoring.metrics import expected_calibration_error, row_nll, softmax
from stages.scoring.temperature import fit_temperature, one_hot

BIAS = np.array([1.5, -0.5, 0, 0, 0, -1, 0])
TEMPERATURE = 2.0


def _resamples(n):
    return resample([f"g{k}" for k in range(n)], samples=200, random=np.random.default_rng(0))


def _fit(logits, targets, *, directions=PER_CLASS, start=1.0):
    return fit_scaling(logits, targets, directions=directions, start=start)


def _tried(logits, targets):
    n = len(targets)
    return try_bias(logits, targets, fold=np.arange(n) % 5, resamples=_resamples(n))


def _nll_change(trial):
    """The interval of what the bias changes."""
    change = row_nll(trial.refined, trial.targets) - row_nll(trial.without, trial.targets)
    return mean_interval(change, resamples=_resamples(len(change)))


def _with_bias(draw, n, *, seed=0):
    """Logits of which `logits / TEMPERATURE + BIAS` is the truth."""
    logits, targets = draw(n, seed=seed)
    return (logits - BIAS) * TEMPERATURE, targets


def _parted(n):
    """Rows whose temperature alone has an optimum; beside it the biases run off to infinity."""
    targets = np.arange(n) % 7
    logits = np.random.default_rng(0).normal(scale=0.3, size=(n, 7)) - BIAS * 2
    logits[np.arange(n), targets] += 4
    return logits, targets


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


@pytest.mark.parametrize("n", [70, 3_000])
def test_reported_rows_that_a_bias_parts_adopt_no_bias(n):
    logits, targets = _parted(n)
    assert (logits.argmax(axis=1) != targets).any()
    assert fit_temperature(logits, one_hot(targets)).no_fit is None
    assert _fit(logits, targets) is None
    trial = _tried(logits, targets)
    assert (trial.adopted, trial.reason) == (False, f"{NO_OPTIMUM} without fold 0")


def test_interval_of_a_temperature_with_a_bias_holds_the_truth_at_its_rate(draw):
    holds = []
    for seed in range(100):
        logits, targets = _with_bias(draw, 300, seed=seed)
        scaling = _fit(logits, targets)
        low, high = scaling_interval(
            logits, targets, directions=PER_CLASS, scaling=scaling, resamples=_resamples(300)
        )
        assert low < scaling.temperature < high
        holds.append(low < TEMPERATURE < high)
    assert 88 <= sum(holds) <= 99


def test_real_gain_is_adopted_and_costs_no_calibration(draw):
    """A bias on top of a temperature that was fitted alone would be over-confident."""
    logits, targets = _with_bias(draw, 10_000)
    trial = _tried(logits, targets)
    assert trial.adopted
    assert _nll_change(trial)[1] < 0
    is_right = (p.argmax(axis=1) == targets for p in (trial.without, trial.refined))
    before, after = (right.mean() for right in is_right)
    assert before < after
    assert expected_calibration_error(trial.refined, targets, bins=15) < 0.02
    alone = Scaling(fit_temperature(logits, one_hot(targets)).value)
    late = softmax(np.log(alone.apply(logits)) + _fit(logits, targets).class_bias)
    assert expected_calibration_error(late, targets, bins=15) > 0.05


def test_no_real_gain_on_held_out_folds_is_not_adopted_though_it_fits_better(draw):
    logits, targets = draw(150)
    alone = Scaling(fit_temperature(logits, one_hot(targets)).value)
    both = (_fit(logits, targets), alone)
    in_sample = [row_nll(scaling.apply(logits), targets).mean() for scaling in both]
    assert in_sample[0] < in_sample[1]
    trial = _tried(logits, targets)
    assert not trial.adopted
    assert _nll_change(trial)[1] >= 0


def test_incident_N3_bias_is_tried_on_rows_that_it_was_not_fitted_on(draw):
    logits, targets = draw(200)
    trial = _tried(logits, targets)
    out = np.arange(200) % 5 == 2
    expected = _fit(logits[~out], targets[~out]).apply(logits[out])
    assert trial.refined[out] == pytest.approx(expected, abs=1e-6)


def test_class_without_rows_is_said_and_not_fitted(draw):
    logits, targets = draw(100)
    trial = _tried(logits, np.where(targets == 1, 0, targets))
    assert (trial.adopted, trial.reason) == (False, "a class has too few rows")
    assert len(trial.targets) == 0

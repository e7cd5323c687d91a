import numpy as np
import pytest

from stages.calibrating.decision import try_exponents
from stages.calibrating.refinement import (
    class_shares,
    fit_refinement,
    prior_exponent,
    try_refinements,
)
from stages.calibrating.scaling import Scaling
from stages.scoring.bootstrap import f1_of_classes, resample
from stages.scoring.metrics import expected_calibration_error, row_nll, softmax
from stages.scoring.temperature import fit_temperature, one_hot

# Shares like those of a real dataset: its rarest class has one row in 120.
SHARES = np.array([0.1, 0.008, 0.022, 0.308, 0.142, 0.13, 0.29])
LOGS = np.log(SHARES) - np.log(SHARES).mean()
BIAS = np.array([1.5, -0.5, 0, 0, 0, -1, 0])
TEMPERATURE = 1.3


def _resamples(n, samples=50):
    groups = [f"g{k}" for k in range(n)]
    return resample(groups, samples=samples, random=np.random.default_rng(0))


def _try(logits, targets, asked="auto"):
    n = len(targets)
    fold = np.arange(n) % 5
    return try_refinements(logits, targets, asked=asked, fold=fold, resamples=_resamples(n))


def _rare(n, *, seed, off=0.0):
    """Logits of which `logits / TEMPERATURE + off` is the truth, of classes as in SHARES."""
    random = np.random.default_rng(seed)
    targets = random.choice(7, size=n, p=SHARES)
    features = random.normal(size=(n, 7)) + 1.5 * np.eye(7)[targets]
    return TEMPERATURE * (1.5 * features + np.log(SHARES) - off), targets


def test_true_refinement_is_chosen_and_a_simpler_one_where_nothing_is_gained():
    for off, expected in ((0.0, "none"), (LOGS, "prior"), (BIAS, "bias")):
        chosen = [_try(*_rare(1_000, seed=seed, off=off)).taken for seed in range(6)]
        assert chosen.count(expected) >= 5, (expected, chosen)


def test_prior_that_was_not_put_back_has_the_exponent_1():
    logits, targets = _rare(20_000, seed=1, off=LOGS)
    scaling = fit_refinement("prior", logits, targets)
    logs = np.log(class_shares(targets))
    assert np.array(scaling.class_bias) == pytest.approx(logs - logs.mean(), rel=0.05)
    assert prior_exponent(scaling, targets) == pytest.approx(1, abs=0.05)
    assert scaling.temperature == pytest.approx(TEMPERATURE, rel=0.03)


def test_real_gain_of_a_bias_costs_no_calibration(draw):
    """A bias on top of a temperature that was fitted alone would be over-confident."""
    logits, targets = draw(10_000)
    logits = (logits - BIAS) * 2
    refined = _try(logits, targets).held_out["bias"]
    assert expected_calibration_error(refined, targets, bins=15) < 0.02
    alone = Scaling(fit_temperature(logits, one_hot(targets)).value)
    both = fit_refinement("bias", logits, targets)
    late = softmax(np.log(alone.apply(logits)) + both.class_bias)
    assert expected_calibration_error(late, targets, bins=15) > 0.05


def test_bias_that_only_fits_better_is_not_taken_unless_it_is_asked_for(draw):
    logits, targets = draw(150)
    alone, both = (fit_refinement(name, logits, targets) for name in ("none", "bias"))
    in_sample = [row_nll(scaling.apply(logits), targets).mean() for scaling in (both, alone)]
    assert in_sample[0] < in_sample[1]
    assert _try(logits, targets).taken == "none"
    asked = _try(logits, targets, "bias")
    assert (asked.taken, asked.reason) == ("bias", "params.yaml says so")


def test_incident_N3_refinements_are_tried_on_rows_that_they_were_not_fitted_on(draw):
    logits, targets = draw(200)
    trial = _try(logits, targets)
    out = np.arange(200) % 5 == 2
    for name, probabilities in trial.held_out.items():
        expected = fit_refinement(name, logits[~out], targets[~out]).apply(logits[out])
        assert probabilities[out] == pytest.approx(expected, abs=1e-6)
    assert trial.shares[out][0] == pytest.approx(class_shares(targets[~out]))


@pytest.mark.parametrize("n", [70, 3_000])
def test_reported_rows_that_a_bias_parts_adopt_no_bias(n):
    targets = np.arange(n) % 7
    logits = np.random.default_rng(0).normal(scale=0.3, size=(n, 7)) - BIAS * 2
    logits[np.arange(n), targets] += 4
    assert (logits.argmax(axis=1) != targets).any()
    assert fit_temperature(logits, one_hot(targets)).no_fit is None
    assert fit_refinement("bias", logits, targets) is None
    trial = _try(logits, targets)
    assert (trial.taken, [*trial.held_out]) == ("none", ["none"])


def test_what_cannot_be_tried_is_said(draw):
    logits, targets = draw(100)
    few = _try(logits, np.where(targets == 1, 0, targets))
    assert (few.taken, [*few.held_out]) == ("none", ["none"])
    assert few.reason == "no other could be fitted in every fold"
    one = try_refinements(
        logits, targets, asked="auto", fold=np.zeros(100), resamples=_resamples(100)
    )
    assert (one.reason, one.held_out) == ("too few groups", {})
    assert _try(logits, logits.argmax(axis=1)).reason == "some folds fit no temperature"


def _f1(named, targets):
    return f1_of_classes(np.bincount(7 * targets + named, minlength=49).reshape(7, 7)).mean()


def test_decision_for_macro_f1_is_taken_on_a_real_gain_and_keeps_it_on_fresh_rows():
    gains = []
    for seed in range(8):
        logits, targets = _rare(2_000, seed=seed)
        fold, resamples = np.arange(2_000) % 5, _resamples(2_000)
        trial = _try(logits, targets, "none")
        found = try_exponents(trial, targets, fold=fold, resamples=resamples)
        assert 0 <= found.exponent <= 1
        if found.gain_is_real:
            fresh, truth = _rare(20_000, seed=100 + seed)
            p = softmax(fresh / TEMPERATURE)
            by_prior = (p * class_shares(targets) ** -found.exponent).argmax(axis=1)
            gains.append(_f1(by_prior, truth) - _f1(p.argmax(axis=1), truth))
    assert 1 <= len(gains) < 8
    assert np.mean(gains) > 0


def test_no_exponent_is_tried_without_rows_of_every_class_or_without_a_fit(draw):
    logits, targets = draw(200)
    for labels, reason in (
        (np.where(targets == 1, 0, targets), "a class has too few rows"),
        (logits.argmax(axis=1), "not every fold has a fit"),
    ):
        found = try_exponents(
            _try(logits, labels), labels, fold=np.arange(200) % 5, resamples=_resamples(200)
        )
        reason = f"no exponent could be tried: {reason}"
        assert (found.exponent, found.gain_is_real, found.reason) == (0, False, reason)

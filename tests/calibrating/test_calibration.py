import numpy as np
import pytest

from stages.calibrating.calibration import (
    Calibration,
    Observed,
    Resampling,
    crossfit,
    fit,
    no_fits,
)
from stages.calibrating.fusion import Mixing
from stages.runtime.errors import UserError
from stages.scoring.metrics import row_nll, softmax
from stages.scoring.temperature import fit_temperature, one_hot

RESAMPLING = Resampling("test", bins=15, folds=3, bootstrap_samples=50, seed=7)
SINGLE = Mixing((1.0,))


def _observed(members, targets, *, shares=None, groups=None):
    n = len(targets)
    groups = [f"g{k:04d}" for k in range(n)] if groups is None else groups
    shares = np.full((n, 7), np.nan) if shares is None else shares
    return Observed(np.stack(members), targets, shares, np.array(groups))


def _fit(observed, mixing=SINGLE):
    calibration, _ = fit(observed, mixing=mixing, resampling=RESAMPLING)
    return calibration


def _crossfit(observed, mixing=SINGLE):
    probabilities, _ = crossfit(observed, mixing=mixing, resampling=RESAMPLING)
    return probabilities


def _right_but(wrong, n=1_000):
    """Logits that are right but on the first rows; those are wrong by as much."""
    targets = np.arange(n) % 7
    logits = np.random.default_rng(0).normal(size=(n, 7))
    logits[np.arange(n), targets] += 8
    logits[:wrong] = np.roll(logits[:wrong], 1, axis=1)
    return logits, targets


def test_single_teacher_is_a_fusion_of_one(draw):
    logits, targets = draw(300)
    observed = _observed([softmax(logits * 2)], targets)
    found = _fit(observed)
    assert no_fits([found]) == ""
    expected = fit_temperature(logits * 2, one_hot(targets)).value
    assert found.temperature == pytest.approx(expected)
    probabilities = found.apply(softmax(logits * 2)[None])
    assert probabilities.raw == pytest.approx(softmax(logits * 2))
    assert probabilities.calibrated == pytest.approx(softmax(logits * 2 / found.temperature))


def test_fuses_first_scales_then_and_adds_the_bias_last(draw):
    logits, _ = draw(50)
    members = np.stack([softmax(logits * 4), softmax(draw(50, seed=9)[0])])
    bias = np.linspace(-0.3, 0.3, 7)
    found = Calibration((0.7, 0.3), 2.0, "probabilities", tuple(bias)).apply(members)
    mixed = np.log(0.7 * members[0] + 0.3 * members[1])
    assert found.calibrated == pytest.approx(softmax(mixed / 2 + bias))


def test_fit_lowers_the_nll_of_the_mixture(draw):
    logits, targets = draw(500)
    members = [softmax(logits * 4), softmax(logits * 3 + draw(500, seed=9)[0])]
    for space in ("probabilities", "logits"):
        observed = _observed(members, targets)
        probabilities = _fit(observed, Mixing((0.7, 0.3), space)).apply(observed.members)
        assert (
            row_nll(probabilities.calibrated, targets).mean()
            < row_nll(probabilities.raw, targets).mean()
        )


def test_votes_have_a_temperature_of_their_own_where_there_are_enough(draw):
    logits, _ = draw(900)
    shares = np.random.default_rng(1).multinomial(10, softmax(logits)) / 10
    targets = shares.argmax(axis=1)
    shares[600:] = np.nan
    found = _fit(_observed([softmax(logits * 3)], targets, shares=shares))
    expected = fit_temperature(logits[:600] * 3, shares[:600]).value
    assert found.votes_temperature == pytest.approx(expected)
    assert found.temperature < 0.7 * found.votes_temperature
    probabilities = found.apply(softmax(logits * 3)[None])
    assert probabilities.crowd == pytest.approx(softmax(logits * 3 / found.votes_temperature))
    shares[2:] = np.nan
    few = _fit(_observed([softmax(logits * 3)], targets, shares=shares))
    assert few.votes_temperature is None
    assert np.isnan(few.apply(softmax(logits)[None]).crowd).all()


def test_folds_keep_groups_together_and_are_even():
    fold = RESAMPLING.fold_of([f"g{n // 3}" for n in range(90)])
    assert all(len(set(fold[n : n + 3])) == 1 for n in range(0, 90, 3))
    assert np.bincount(fold).tolist() == [30] * 3


def test_fewer_groups_than_folds_is_the_users_problem():
    with pytest.raises(UserError, match=r"calibrate\.folds: 3 folds need .* groups .*found 2"):
        _crossfit(_observed([np.full((3, 7), 1 / 7)], np.arange(3), groups=["a", "a", "b"]))


def test_incident_N3_a_fold_is_scaled_by_what_the_others_were_fitted_on(draw):
    logits, targets = draw(600)
    observed = _observed([softmax(logits)], targets)
    fold = RESAMPLING.fold_of(observed.groups)
    logits[fold == 0] *= 5  # only this fold is overconfident
    probabilities = _crossfit(_observed([softmax(logits)], targets))
    others = fit_temperature(logits[fold != 0], one_hot(targets[fold != 0])).value
    assert probabilities.calibrated[fold == 0] == pytest.approx(softmax(logits[fold == 0] / others))
    assert others == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("space", ["probabilities", "logits"])
def test_incident_N3_labels_and_votes_of_a_fold_do_not_reach_its_own_numbers(draw, space):
    logits, targets = draw(600)
    members = [softmax(logits), softmax(draw(600, seed=4)[0])]
    shares = np.random.default_rng(1).multinomial(10, softmax(logits)) / 10
    before = _observed(members, targets, shares=shares)
    is_held = RESAMPLING.fold_of(before.groups) == 1
    after = _observed(
        members,
        np.where(is_held, (targets + 1) % 7, targets),
        shares=np.where(is_held[:, None], np.roll(shares, 1, axis=1), shares),
    )
    first, second = (_crossfit(rows, Mixing(None, space)) for rows in (before, after))
    for name in ("raw", "calibrated", "crowd"):
        changed = (getattr(first, name) != getattr(second, name)).any(axis=1)
        assert not changed[is_held].any(), name
        assert changed[~is_held].any(), name


def test_reported_fold_without_an_optimum_stops_nothing():
    """Without its one wrong row there is none, so that row alone is scaled by T = 1."""
    logits, targets = _right_but(1)
    observed = _observed([softmax(logits)], targets)
    whole, trial = fit(observed, mixing=SINGLE, resampling=RESAMPLING)
    assert (whole.temperature_no_fit, trial.adopted) == (None, False)
    assert "no optimum together without fold" in trial.reason
    probabilities, calibrations = crossfit(observed, mixing=SINGLE, resampling=RESAMPLING)
    held = RESAMPLING.fold_of(observed.groups)[0]
    no_fit = [fitted.temperature_no_fit is not None for fitted in calibrations]
    assert no_fit == [number == held for number in range(3)]
    out = RESAMPLING.fold_of(observed.groups) == held
    assert probabilities.calibrated[out] == pytest.approx(probabilities.raw[out])
    assert (probabilities.calibrated[~out] != probabilities.raw[~out]).any(axis=1).all()
    assert no_fits(calibrations) == "no fit in 1 of 3 folds: T = 1"


def test_reported_fold_whose_other_folds_have_too_few_votes_is_told(draw):
    """Its rows are in no number of votes, so the reader must see why n is smaller."""
    logits, targets = draw(300)
    fold = RESAMPLING.fold_of(_observed([softmax(logits)], targets).groups)
    voted = np.zeros(300, dtype=bool)
    voted[np.flatnonzero(fold == 0)[:20]] = voted[np.flatnonzero(fold == 1)[:2]] = True
    shares = np.where(voted[:, None], softmax(logits), np.nan)
    observed = _observed([softmax(logits)], targets, shares=shares)
    probabilities, calibrations = crossfit(observed, mixing=SINGLE, resampling=RESAMPLING)
    assert np.isnan(probabilities.crowd[fold == 0]).all()
    assert not np.isnan(probabilities.crowd[fold != 0]).any()
    assert no_fits(calibrations) == "no fit to votes for 1 of 3 folds: too few"


def test_incident_N2_rows_that_are_all_right_are_left_as_they_are():
    logits, targets = _right_but(0)
    shares = np.where(np.arange(1_000)[:, None] < 500, one_hot(targets), np.nan)
    observed = _observed([softmax(logits)], targets, shares=shares)
    calibration, trial = fit(observed, mixing=SINGLE, resampling=RESAMPLING)
    assert (calibration.temperature, calibration.votes_temperature) == (1, 1)
    assert calibration.temperature_no_fit == "the logits are right on each of 1000 rows"
    assert calibration.votes_temperature_no_fit == "the logits are right on each of 500 rows"
    assert trial.reason == f"no temperature: {calibration.temperature_no_fit}"
    assert no_fits([calibration]) == "no fit, no fit to votes: T = 1"
    probabilities = calibration.apply(softmax(logits)[None])
    assert probabilities.calibrated == pytest.approx(probabilities.raw)
    assert probabilities.crowd == pytest.approx(probabilities.raw)

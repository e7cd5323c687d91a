import itertools

import numpy as np
import pandas as pd
import pytest

from stages.calibrating.calibration import (
    Calibration,
    Mixing,
    Resampling,
    crossfit,
    fit,
    fuse,
    no_fits,
    search_weights,
)
from stages.config import CLASSES
from stages.records.schema import SHARE_COLUMNS
from stages.scoring.metrics import row_nll, softmax
from stages.scoring.temperature import fit_temperature, one_hot, scale
from tests.calibrating.conftest import SETTINGS

RESAMPLING = Resampling(SETTINGS.model_copy(update={"folds": 3}), 7)
SINGLE = Mixing((1.0,))
SPACES = ("probabilities", "logits")


def _observed(members, targets, *, shares=None):
    """Members' probabilities and the manifest rows that they are of, each a group of its own."""
    rows = pd.DataFrame({"label": np.array(CLASSES)[targets]})
    rows["group"] = [f"g{k:04d}" for k in range(len(targets))]
    rows[list(SHARE_COLUMNS)] = np.nan if shares is None else shares
    return np.stack(members), rows


def _right_but(wrong, n=1_000):
    """Logits that are right but on the first rows; those are wrong by as much."""
    targets = np.arange(n) % 7
    logits = np.random.default_rng(0).normal(size=(n, 7))
    logits[np.arange(n), targets] += 8
    logits[:wrong] = np.roll(logits[:wrong], 1, axis=1)
    return logits, targets


@pytest.mark.parametrize("space", SPACES)
def test_fuses_first_scales_then_and_adds_the_bias_last(draw, space):
    first, second, bias = draw(50)[0] * 4, draw(50, seed=9)[0], np.linspace(-0.3, 0.3, 7)
    members = np.stack([softmax(first), softmax(second)])
    mixed = np.log(0.7 * members[0] + 0.3 * members[1])
    if space == "logits":
        mixed = 0.7 * first + 0.3 * second
    probabilities = Calibration((0.7, 0.3), 2.0, space, tuple(bias), 3.0).apply(members)
    assert probabilities.raw == pytest.approx(softmax(mixed))
    logits = np.log(softmax(mixed))
    assert probabilities.calibrated == pytest.approx(softmax(logits / 2 + bias))
    assert probabilities.crowd == pytest.approx(softmax(logits / 3))


@pytest.mark.parametrize("space", SPACES)
def test_searched_weights_beat_every_grid_point(draw, space):
    logits, targets = draw(400)
    random, scales = np.random.default_rng(5), (0.5, 1.5, 1.0)
    members = [softmax(logits + random.normal(scale=s, size=logits.shape)) for s in scales]
    members = np.stack(members)

    def nll(weights):
        mixed = fuse(members, weights, space=space)
        if space == "logits":  # searched together with a temperature
            mixed = scale(mixed, fit_temperature(np.log(mixed), one_hot(targets)).value)
        return row_nll(mixed, targets).mean()

    weights = search_weights(members, targets, space=space)
    grid = (w for w in itertools.product(range(11), repeat=3) if sum(w) == 10)
    assert nll(weights) <= min(nll(np.array(w) / 10) for w in grid) + 1e-6
    assert sum(weights) == pytest.approx(1)


@pytest.mark.parametrize("space", SPACES)
def test_useless_teacher_gets_nothing_among_any_number(draw, space):
    logits, targets = draw(400)
    useless = np.full((9, 400, 7), 1 / 7)
    members = np.concatenate([useless, softmax(logits)[None]])
    assert search_weights(members, targets, space=space) == (0,) * 9 + (1,)


def test_proportions_are_kept_and_nothing_is_shared_evenly():
    assert Mixing((0.2, 0.2, 0.6)).without(0).weights == pytest.approx((0.25, 0.75))
    assert Mixing((1.0, 0.0, 0.0)).without(0).weights == (0.5, 0.5)
    assert Mixing(None).without(0) == Mixing(None)


def test_votes_have_a_temperature_of_their_own_where_there_are_enough(draw):
    logits, _ = draw(900)
    shares = np.random.default_rng(1).multinomial(10, softmax(logits)) / 10
    targets = shares.argmax(axis=1)
    shares[600:] = np.nan
    fitted, _ = fit(
        *_observed([softmax(logits * 3)], targets, shares=shares),
        mixing=SINGLE,
        resampling=RESAMPLING,
    )
    expected = fit_temperature(logits[:600] * 3, shares[:600]).value
    assert fitted.votes_temperature == pytest.approx(expected)
    assert fitted.temperature < 0.7 * fitted.votes_temperature
    shares[2:] = np.nan
    observed = _observed([softmax(logits * 3)], targets, shares=shares)
    few, _ = fit(*observed, mixing=SINGLE, resampling=RESAMPLING)
    assert few.votes_temperature is None
    assert np.isnan(few.apply(observed[0]).crowd).all()


def test_folds_keep_groups_together_and_are_even():
    fold = RESAMPLING.fold_of([f"g{n // 3}" for n in range(90)])
    assert all(len(set(fold[n : n + 3])) == 1 for n in range(0, 90, 3))
    assert np.bincount(fold).tolist() == [30] * 3


def test_incident_N3_a_fold_is_scaled_by_what_the_others_were_fitted_on(draw):
    logits, targets = draw(600)
    held = RESAMPLING.fold_of(_observed([softmax(logits)], targets)[1]["group"]) == 0
    logits[held] *= 5  # only this fold is overconfident
    observed = _observed([softmax(logits)], targets)
    probabilities, _ = crossfit(*observed, mixing=SINGLE, resampling=RESAMPLING)
    others = fit_temperature(logits[~held], one_hot(targets[~held])).value
    assert probabilities.calibrated[held] == pytest.approx(softmax(logits[held] / others))
    assert others == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("space", SPACES)
def test_incident_N3_labels_and_votes_of_a_fold_do_not_reach_its_own_numbers(draw, space):
    logits, targets = draw(600)
    members = [softmax(logits), softmax(draw(600, seed=4)[0])]
    shares = np.random.default_rng(1).multinomial(10, softmax(logits)) / 10
    before = _observed(members, targets, shares=shares)
    is_held = RESAMPLING.fold_of(before[1]["group"]) == 1
    after = _observed(
        members,
        np.where(is_held, (targets + 1) % 7, targets),
        shares=np.where(is_held[:, None], np.roll(shares, 1, axis=1), shares),
    )
    first, second = (
        crossfit(*rows, mixing=Mixing(None, space), resampling=RESAMPLING)[0]
        for rows in (before, after)
    )
    for name in ("raw", "calibrated", "crowd"):
        changed = (getattr(first, name) != getattr(second, name)).any(axis=1)
        assert not changed[is_held].any(), name
        assert changed[~is_held].any(), name


def test_reported_fold_without_an_optimum_stops_nothing():
    """Without its one wrong row there is none, so that row alone is scaled by T = 1."""
    logits, targets = _right_but(1)
    observed = _observed([softmax(logits)], targets)
    probabilities, calibrations = crossfit(*observed, mixing=SINGLE, resampling=RESAMPLING)
    fold = RESAMPLING.fold_of(observed[1]["group"])
    no_fit = [fitted.temperature_no_fit is not None for fitted in calibrations]
    assert no_fit == [number == fold[0] for number in range(3)]
    is_scaled = (probabilities.calibrated != probabilities.raw).any(axis=1)
    assert is_scaled[fold != fold[0]].all()
    held = fold == fold[0]
    assert probabilities.calibrated[held] == pytest.approx(probabilities.raw[held])
    assert no_fits(calibrations) == "no fit in 1 of 3 folds: T = 1"


def test_reported_fold_whose_other_folds_have_too_few_votes_is_told(draw):
    """Its rows are in no number of votes, so the reader must see why n is smaller."""
    logits, targets = draw(300)
    fold = RESAMPLING.fold_of(_observed([softmax(logits)], targets)[1]["group"])
    voted = np.zeros(300, dtype=bool)
    voted[np.flatnonzero(fold == 0)[:20]] = voted[np.flatnonzero(fold == 1)[:2]] = True
    shares = np.where(voted[:, None], softmax(logits), np.nan)
    observed = _observed([softmax(logits)], targets, shares=shares)
    probabilities, calibrations = crossfit(*observed, mixing=SINGLE, resampling=RESAMPLING)
    assert (np.isnan(probabilities.crowd).all(axis=1) == (fold == 0)).all()
    assert no_fits(calibrations) == "no fit to votes for 1 of 3 folds: too few"


def test_incident_N2_rows_that_are_all_right_are_left_as_they_are():
    logits, targets = _right_but(0)
    shares = np.where(np.arange(1_000)[:, None] < 500, one_hot(targets), np.nan)
    observed = _observed([softmax(logits)], targets, shares=shares)
    calibration, trial = fit(*observed, mixing=SINGLE, resampling=RESAMPLING)
    assert (calibration.temperature, calibration.votes_temperature) == (1, 1)
    assert calibration.temperature_no_fit == "the logits are right on each of 1000 rows"
    assert calibration.votes_temperature_no_fit == "the logits are right on each of 500 rows"
    assert trial.reason == f"no temperature: {calibration.temperature_no_fit}"
    assert no_fits([calibration]) == "no fit, no fit to votes: T = 1"
    probabilities = calibration.apply(observed[0])
    assert probabilities.calibrated == pytest.approx(probabilities.raw)
    assert probabilities.crowd == pytest.approx(probabilities.raw)

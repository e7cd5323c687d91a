import itertools

import numpy as np
import pandas as pd
import pytest

from stages.calibrating.calibration import Calibration, Resampling, crossfit, fit, no_fits
from stages.calibrating.fusion import Mixing, fuse, search_weights
from stages.config import CLASSES
from stages.records.schema import SHARE_COLUMNS
from stages.scoring.metrics import row_nll, softmax
from stages.scoring.temperature import fit_temperature, one_hot, scale
from tests.calibrating.conftest import SETTINGS

RESAMPLING = Resampling(SETTINGS.model_copy(update={"folds": 3}), 7)
NOTHING = (0.0,) * 7
SINGLE = Mixing((1.0,), (NOTHING,))
SPACES = ("probabilities", "logits")


def _observed(members, targets, *, shares=None):
    """Members' logits and the manifest rows that they are of, each a group of its own."""
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
def test_corrects_first_then_fuses_scales_and_adds_the_bias(draw, space):
    first, second, bias = draw(50)[0] * 4, draw(50, seed=9)[0], np.linspace(-0.3, 0.3, 7)
    prior, shares = np.log(np.arange(1, 8) / 28), np.arange(1, 8) / 28
    members = [softmax(first + prior), softmax(second)]
    mixed = np.log(0.7 * members[0] + 0.3 * members[1])
    if space == "logits":
        mixed = 0.7 * np.log(members[0]) + 0.3 * np.log(members[1])
    outputs = Calibration(
        weights=(0.7, 0.3),
        corrections=(tuple(prior), NOTHING),
        temperature=2.0,
        val_shares=tuple(shares),
        space=space,
        class_bias=tuple(bias),
        exponent=0.5,
        f1_exponent=1.0,
        crowd_temperature=3.0,
    ).apply(np.stack([first, second]))
    raw = [softmax(first), softmax(second)]
    if space == "probabilities":
        assert outputs.raw == pytest.approx(0.7 * raw[0] + 0.3 * raw[1])
    logits = np.log(softmax(mixed))
    calibrated = softmax(logits / 2 + bias)
    assert outputs.calibrated == pytest.approx(calibrated)
    assert outputs.crowd == pytest.approx(softmax(logits / 3 + bias))
    assert outputs.named.tolist() == (calibrated / shares**0.5).argmax(axis=1).tolist()
    assert outputs.named_for_f1.tolist() == (calibrated / shares).argmax(axis=1).tolist()
    assert (outputs.named != calibrated.argmax(axis=1)).any()


def test_reported_members_trained_with_unlike_corrections_are_fused_in_one_world(draw):
    """Their logits differ by what training did to the prior alone, so fusing them changes nothing."""
    logits, targets = draw(400)
    priors = [tuple(tau * np.log(np.arange(1, 8) / 28)) for tau in (0.0, 1.0)]
    rows = _observed([logits - np.array(prior) for prior in priors], targets)
    fused = fit(*rows, mixing=Mixing((0.5, 0.5), tuple(priors)), resampling=RESAMPLING)
    alone = fit(*_observed([logits], targets), mixing=SINGLE, resampling=RESAMPLING)
    expected = alone.calibration.apply(logits[None]).calibrated
    assert fused.calibration.apply(rows[0]).calibrated == pytest.approx(expected)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("sureness", [1.0, 0.4, 8.0], ids=["true", "reported_unsure", "too_sure"])
def test_searched_weights_beat_every_grid_point(draw, space, sureness):
    logits, targets = draw(400)
    random, scales = np.random.default_rng(5), (0.5, 1.5, 1.0)
    members = [logits + random.normal(scale=s, size=logits.shape) for s in scales]
    members = softmax(sureness * np.stack(members))

    def nll(weights):
        mixed = fuse(members, weights, space=space)
        fitted = fit_temperature(np.log(mixed), one_hot(targets))
        return row_nll(scale(mixed, fitted.value), targets).mean()

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
    corrections = ((0.0,) * 7, (1.0,) * 7, (2.0,) * 7)
    rest = Mixing((0.2, 0.2, 0.6), corrections).without(0)
    assert (rest.weights, rest.corrections) == (pytest.approx((0.25, 0.75)), corrections[1:])
    assert Mixing((1.0, 0.0, 0.0), corrections).without(0).weights == (0.5, 0.5)
    assert Mixing(None, corrections).without(2) == Mixing(None, corrections[:2])


def test_votes_have_a_temperature_of_their_own_where_there_are_enough(draw):
    logits, _ = draw(900)
    shares = np.random.default_rng(1).multinomial(10, softmax(logits)) / 10
    targets = shares.argmax(axis=1)
    shares[600:] = np.nan
    observed = _observed([logits * 3], targets, shares=shares)
    fitted = fit(*observed, mixing=SINGLE, resampling=RESAMPLING).calibration
    bias = fitted.class_bias
    expected = fit_temperature(logits[:600] * 3, shares[:600], bias=bias).value
    assert fitted.crowd_temperature == pytest.approx(expected)
    assert fitted.temperature < 0.7 * fitted.crowd_temperature
    shares[2:] = np.nan
    observed = _observed([logits * 3], targets, shares=shares)
    few = fit(*observed, mixing=SINGLE, resampling=RESAMPLING).calibration
    assert few.crowd_temperature is None
    assert np.isnan(few.apply(observed[0]).crowd).all()


def test_refinement_that_is_asked_for_is_taken_or_its_lack_is_said(draw):
    logits, targets = draw(300)
    asked = Resampling(RESAMPLING.settings.model_copy(update={"refinement": "bias"}), 7)
    taken = fit(*_observed([logits], targets), mixing=SINGLE, resampling=asked)
    assert (taken.trial.taken, any(taken.calibration.class_bias)) == ("bias", True)
    lacking = fit(
        *_observed([logits], np.where(targets == 1, 0, targets)), mixing=SINGLE, resampling=asked
    )
    assert (lacking.trial.taken, any(lacking.calibration.class_bias)) == ("none", False)
    assert lacking.trial.reason.startswith("bias could not be fitted: no optimum with the temp")
    assert lacking.exponents.reason.startswith("no exponent could be tried")


def test_folds_keep_groups_together_and_are_even():
    fold = RESAMPLING.fold_of([f"g{n // 3}" for n in range(90)])
    assert all(len(set(fold[n : n + 3])) == 1 for n in range(0, 90, 3))
    assert np.bincount(fold).tolist() == [30] * 3


def test_incident_N3_a_fold_is_scaled_by_what_the_others_were_fitted_on(draw):
    logits, targets = draw(600)
    held = RESAMPLING.fold_of(_observed([logits], targets)[1]["group"]) == 0
    logits[held] *= 5  # only this fold is overconfident
    observed = _observed([logits], targets)
    outputs, _ = crossfit(*observed, mixing=SINGLE, resampling=RESAMPLING)
    others = fit_temperature(logits[~held], one_hot(targets[~held])).value
    assert outputs.calibrated[held] == pytest.approx(softmax(logits[held] / others))
    assert others == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("space", SPACES)
def test_incident_N3_labels_and_votes_of_a_fold_do_not_reach_its_own_numbers(draw, space):
    logits, targets = draw(600)
    members = [logits, draw(600, seed=4)[0]]
    shares = np.random.default_rng(1).multinomial(10, softmax(logits)) / 10
    before = _observed(members, targets, shares=shares)
    is_held = RESAMPLING.fold_of(before[1]["group"]) == 1
    after = _observed(
        members,
        np.where(is_held, (targets + 1) % 7, targets),
        shares=np.where(is_held[:, None], np.roll(shares, 1, axis=1), shares),
    )
    first, second = (
        crossfit(*rows, mixing=Mixing(None, (NOTHING,) * 2, space), resampling=RESAMPLING)[0]
        for rows in (before, after)
    )
    for name in ("raw", "calibrated", "crowd"):
        changed = (getattr(first, name) != getattr(second, name)).any(axis=1)
        assert not changed[is_held].any(), name
        assert changed[~is_held].any(), name


def test_reported_fold_without_an_optimum_stops_nothing():
    """Without its one wrong row there is none, so that row alone is scaled by T = 1."""
    logits, targets = _right_but(1)
    observed = _observed([logits], targets)
    outputs, calibrations = crossfit(*observed, mixing=SINGLE, resampling=RESAMPLING)
    fold = RESAMPLING.fold_of(observed[1]["group"])
    no_fit = [fitted.temperature_no_fit is not None for fitted in calibrations]
    assert no_fit == [number == fold[0] for number in range(3)]
    is_scaled = (outputs.calibrated != outputs.raw).any(axis=1)
    assert is_scaled[fold != fold[0]].all()
    held = fold == fold[0]
    assert outputs.calibrated[held] == pytest.approx(outputs.raw[held])
    assert no_fits(calibrations) == "no fit in 1 of 3 folds: T = 1"


def test_reported_fold_whose_other_folds_have_too_few_votes_is_told(draw):
    """Its rows are in no number of votes, so the reader must see why n is smaller."""
    logits, targets = draw(300)
    fold = RESAMPLING.fold_of(_observed([logits], targets)[1]["group"])
    voted = np.zeros(300, dtype=bool)
    voted[np.flatnonzero(fold == 0)[:20]] = voted[np.flatnonzero(fold == 1)[:2]] = True
    shares = np.where(voted[:, None], softmax(logits), np.nan)
    observed = _observed([logits], targets, shares=shares)
    outputs, calibrations = crossfit(*observed, mixing=SINGLE, resampling=RESAMPLING)
    assert (np.isnan(outputs.crowd).all(axis=1) == (fold == 0)).all()
    assert no_fits(calibrations) == "no fit to votes for 1 of 3 folds: too few"


def test_incident_N2_rows_that_are_all_right_are_left_as_they_are():
    logits, targets = _right_but(0)
    shares = np.where(np.arange(1_000)[:, None] < 500, one_hot(targets), np.nan)
    observed = _observed([logits], targets, shares=shares)
    fitted = fit(*observed, mixing=SINGLE, resampling=RESAMPLING)
    calibration = fitted.calibration
    assert (calibration.temperature, calibration.crowd_temperature) == (1, 1)
    assert calibration.temperature_no_fit == "the logits are right on each of 1000 rows"
    assert calibration.crowd_temperature_no_fit == "the logits are right on each of 500 rows"
    assert fitted.trial.reason == f"no temperature: {calibration.temperature_no_fit}"
    assert no_fits([calibration]) == "no fit, no fit to votes: T = 1"
    outputs = calibration.apply(observed[0])
    assert outputs.calibrated == pytest.approx(outputs.raw)
    assert outputs.crowd == pytest.approx(outputs.raw)

import numpy as np
import pytest

from stages.evaluation.calibration import assign_folds, crossfit, fit, fixed
from stages.evaluation.fusion import search_weights
from stages.evaluation.metrics import row_nll, softmax
from stages.evaluation.temperature import fit_temperature
from stages.runtime.errors import UserError


def test_single_teacher_is_a_fusion_of_one(draw):
    logits, targets = draw(300)
    fitted = fit([softmax(logits * 2)], targets, rule=fixed(1.0), name="x")
    assert fitted.temperature == pytest.approx(fit_temperature(logits * 2, targets, name="x"))
    pair = fitted.apply([softmax(logits * 2)])
    assert pair.raw == pytest.approx(softmax(logits * 2))
    assert pair.scaled == pytest.approx(softmax(logits * 2 / fitted.temperature))


def test_fuses_first_and_scales_then(draw):
    logits, targets = draw(500)
    members = [softmax(logits * 4), softmax(logits * 3 + draw(500, seed=9)[0])]
    fitted = fit(members, targets, rule=fixed(0.7, 0.3), name="x")
    mixed = np.log(0.7 * members[0] + 0.3 * members[1])
    assert fitted.apply(members).scaled == pytest.approx(softmax(mixed / fitted.temperature))
    assert (
        row_nll(fitted.apply(members).scaled, targets).mean()
        < row_nll(np.exp(mixed), targets).mean()
    )


def test_folds_keep_groups_together_and_are_even():
    groups = [f"g{n // 3}" for n in range(90)]
    fold = assign_folds(groups, folds=5, random=np.random.default_rng(0))
    assert all(len(set(fold[n : n + 3])) == 1 for n in range(0, 90, 3))
    assert np.bincount(fold).tolist() == [18] * 5


def test_fewer_groups_than_folds_is_the_users_problem():
    with pytest.raises(UserError, match=r"calibrate\.folds: 5 folds need .* groups .*found 2"):
        assign_folds(["a", "a", "b"], folds=5, random=np.random.default_rng(0))


def test_incident_N3_a_fold_is_scaled_by_what_the_others_were_fitted_on(draw):
    logits, targets = draw(600)
    fold = np.arange(600) % 3
    logits[fold == 0] *= 5  # only this fold is overconfident
    members = [softmax(logits)]
    pair = crossfit(members, targets, fold=fold, rule=fixed(1.0), name="x")
    others = fit_temperature(logits[fold != 0], targets[fold != 0], name="x")
    assert pair.scaled[fold == 0] == pytest.approx(softmax(logits[fold == 0] / others))
    assert others == pytest.approx(1, abs=0.15)


def test_incident_N3_labels_of_a_fold_do_not_reach_its_own_numbers(draw):
    logits, targets = draw(600)
    fold = np.arange(600) % 3
    members = [softmax(logits), softmax(draw(600, seed=4)[0])]
    changed = np.where(fold == 1, (targets + 1) % 7, targets)
    before = crossfit(members, targets, fold=fold, rule=search_weights, name="x")
    after = crossfit(members, changed, fold=fold, rule=search_weights, name="x")
    assert np.array_equal(before.scaled[fold == 1], after.scaled[fold == 1])
    assert not np.array_equal(before.scaled[fold != 1], after.scaled[fold != 1])

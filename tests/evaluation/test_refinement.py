import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from stages.evaluation.bootstrap import resample
from stages.evaluation.metrics import row_nll, softmax
from stages.evaluation.refinement import NO_BIAS, fit_class_bias, refine

BIAS = np.array([1.5, -0.5, 0, 0, 0, -1, 0])


def _refine(logits, targets):
    names = [f"g{n}" for n in range(len(targets))]
    resamples = resample(names, samples=200, random=np.random.default_rng(0))
    return refine(logits, targets, fold=np.arange(len(targets)) % 5, resamples=resamples)


def test_known_bias_comes_back_and_lowers_the_nll(draw):
    logits, targets = draw(20_000)
    found = np.array(fit_class_bias(logits - BIAS, targets))
    assert found == pytest.approx(BIAS - BIAS.mean(), abs=0.1)
    assert found.sum() == pytest.approx(0, abs=1e-9)


def test_mean_probability_of_each_class_becomes_its_share(draw):
    logits, targets = draw(500)
    moved = softmax(logits * 2 + fit_class_bias(logits * 2, targets))
    assert moved.mean(axis=0) == pytest.approx(np.bincount(targets) / 500, abs=1e-6)


def test_bias_is_that_of_sklearn_s_regression_with_the_logits_as_offset():
    # Logits that are the same in each row are an offset of 0: the bias is the regression's intercept.
    targets = np.repeat(np.arange(7), [30, 20, 10, 25, 5, 15, 40])
    oracle = LogisticRegression(C=np.inf, tol=1e-8).fit(np.zeros((len(targets), 1)), targets)
    found = fit_class_bias(np.zeros((len(targets), 7)), targets)
    centred = oracle.intercept_ - oracle.intercept_.mean()
    assert found == pytest.approx(centred, abs=1e-3)


def test_real_gain_is_adopted_with_its_changes(draw):
    logits, targets = draw(2_000)
    found = _refine(logits - BIAS, targets)
    assert found.adopted
    assert found.nll_change_95[0] < found.nll_change < found.nll_change_95[1] < 0
    assert found.accuracy_change > 0
    assert found.accuracy_change_95[0] < found.accuracy_change < found.accuracy_change_95[1]


def test_no_real_gain_on_held_out_folds_is_not_adopted_though_it_fits_better(draw):
    logits, targets = draw(150)
    in_sample = softmax(logits + fit_class_bias(logits, targets))
    assert row_nll(in_sample, targets).mean() < row_nll(softmax(logits), targets).mean()
    found = _refine(logits, targets)
    assert not found.adopted
    assert found.class_bias == NO_BIAS
    assert found.nll_change_95[1] >= 0


def test_class_without_rows_is_said_and_not_fitted(draw):
    logits, targets = draw(100)
    found = _refine(logits, np.where(targets == 1, 0, targets))
    assert (found.adopted, found.class_bias, found.nll_change) == (False, NO_BIAS, None)
    assert found.reason == "a class has too few rows"

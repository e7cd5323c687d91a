import itertools

import numpy as np
import pytest

from stages.calibrating.fusion import fuse, in_proportion, search_weights
from stages.scoring.metrics import row_nll, softmax
from stages.scoring.temperature import fit_temperature, one_hot, scale


def _noisy(logits, *scales):
    random = np.random.default_rng(5)
    return np.stack([softmax(logits + random.normal(scale=s, size=logits.shape)) for s in scales])


def test_fuse_mixes_probabilities_or_logits(draw):
    first, second = draw(40, seed=1)[0], draw(40, seed=2)[0]
    members = softmax(first), softmax(second)
    mixed = fuse(np.stack(members), (0.7, 0.3), space="probabilities")
    assert mixed == pytest.approx(0.7 * members[0] + 0.3 * members[1])
    mixed = fuse(np.stack(members), (0.7, 0.3), space="logits")
    assert mixed == pytest.approx(softmax(0.7 * first + 0.3 * second))
    for space in ("probabilities", "logits"):
        alone = fuse(members[0][None], (1.0,), space=space)
        assert alone == pytest.approx(members[0])


def _grid(num, steps):
    for places in itertools.product(range(steps + 1), repeat=num):
        if sum(places) == steps:
            yield tuple(place / steps for place in places)


def test_search_of_probabilities_beats_every_grid_point(draw):
    logits, targets = draw(400)
    members = _noisy(logits, 0.5, 1.5, 1.0)

    def nll(weights):
        return row_nll(fuse(members, weights, space="probabilities"), targets).mean()

    found = search_weights(members, targets, space="probabilities")
    assert nll(found) <= min(map(nll, _grid(3, 20))) + 1e-6
    assert sum(found) == pytest.approx(1)


def test_search_of_logits_beats_every_grid_point_after_scaling(draw):
    logits, targets = draw(400)
    members = _noisy(logits, 0.5, 1.5)

    def nll(weights):
        mixed = fuse(members, weights, space="logits")
        temperature = fit_temperature(np.log(mixed), one_hot(targets)).value
        return row_nll(scale(mixed, temperature), targets).mean()

    found = search_weights(members, targets, space="logits")
    assert nll(found) <= min(map(nll, _grid(2, 20))) + 1e-6


@pytest.mark.parametrize("space", ["probabilities", "logits"])
def test_useless_teacher_gets_nothing_among_any_number(draw, space):
    logits, targets = draw(400)
    useless = np.full((9, 400, 7), 1 / 7)
    members = np.concatenate([useless, softmax(logits)[None]])
    found = search_weights(members, targets, space=space)
    assert found == (0,) * 9 + (1,)


def test_proportions_are_kept_and_nothing_is_shared_evenly():
    assert in_proportion([0.2, 0.6]) == pytest.approx((0.25, 0.75))
    assert in_proportion([0.0, 0.0]) == (0.5, 0.5)

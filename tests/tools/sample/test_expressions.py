from dataclasses import astuple
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import config
from stages.runtime.seed import generator
from tools.sample.expressions import CLASSES, FORMS, blend, mix

NAMES = st.sampled_from(sorted(FORMS))


def test_the_classes_are_the_project_s():
    assert config.CLASSES == CLASSES


@given(NAMES, NAMES, st.floats(0, 1))
def test_a_mix_lies_between_its_parts(first, second, share):
    a, b = FORMS[first][0], FORMS[second][0]
    assert mix(a, b, share=0) == a
    mixed = np.array(astuple(mix(a, b, share=share)))
    np.testing.assert_allclose(
        mixed, (1 - share) * np.array(astuple(a)) + share * np.array(astuple(b)), rtol=0, atol=1e-12
    )


@given(NAMES, NAMES, st.floats(0, 0.5), st.floats(0, 1), st.integers(0, 99))
def test_strengths_stay_within_0_and_1(main, other, share, intensity, seed):
    rng = generator(seed, "test")
    strengths = astuple(blend(main, other, share=share, intensity=intensity, rng=rng))
    assert min(strengths) >= 0
    assert max(strengths) <= 1


@pytest.mark.parametrize(("first", "second"), [*combinations(CLASSES, 2)])
def test_any_two_classes_differ_clearly(first, second):
    """By more than their own two forms do."""
    one, two = (
        np.array([astuple(form) for form in FORMS[first]]),
        [np.array(astuple(form)) for form in FORMS[second]],
    )
    apart = min(np.abs(a - b).sum() for a in one for b in two)
    assert apart > 1.2

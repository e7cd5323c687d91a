"""The learning rate is a pure function of the optimizer step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.training.schedule import CosineSchedule

SCHEDULE = CosineSchedule(peak=3e-4, floor=1e-5, warmup_steps=10, total_steps=100)


def test_warm_up_rises_in_equal_steps_to_the_peak() -> None:
    assert [SCHEDULE.at(step) for step in (0, 4, 9)] == pytest.approx([3e-5, 1.5e-4, 3e-4])


def test_the_last_step_ends_at_the_floor() -> None:
    assert SCHEDULE.at(99) == pytest.approx(1e-5)
    assert SCHEDULE.at(54) == pytest.approx((3e-4 + 1e-5) / 2, rel=0.02)


@given(st.integers(min_value=99, max_value=10**9))
def test_incident_T5_the_cosine_never_rises_again_past_its_end(step: int) -> None:
    assert SCHEDULE.at(step) == pytest.approx(1e-5)


@given(st.integers(min_value=10, max_value=98))
def test_it_falls_from_step_to_step_after_warm_up(step: int) -> None:
    assert SCHEDULE.at(step) > SCHEDULE.at(step + 1)


def test_one_step_without_warm_up() -> None:
    assert CosineSchedule(peak=1.0, floor=0.1, warmup_steps=0, total_steps=1).at(0) == 1.0

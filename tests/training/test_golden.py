"""Losses and scores of a small run, to be changed only with a reason: `golden.json`.

The average of the weights shows in the scores only. Other instructions and another number of
threads round differently: SSE4.1 with one thread and AVX-512 with two differed by 2e-4 at most, a
tenth of the tolerance.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from stages import train
from stages.runtime.files import read_json
from tests.training.small_run import STEPS, prepare, record_steps

GOLDEN = Path(__file__).with_name("golden.json")
RELATIVE = 2e-3


def test_golden_losses_and_scores_of_twenty_steps(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepare(project)
    steps = record_steps(monkeypatch)
    assert train.main(["stageA", "RN18"]) == 0
    assert sorted(steps) == list(range(STEPS))
    history = read_json(folder / "models" / "stageA" / "RN18" / "history.json")
    scores = [record["val"]["nll"] for record in history]
    golden = read_json(GOLDEN)
    assert [steps[n][0] for n in range(STEPS)] == pytest.approx(golden["loss"], rel=RELATIVE)
    assert scores == pytest.approx(golden["val_nll"], rel=RELATIVE)

"""Losses and scores of small runs, by the training version: `golden.json`.

Losses that change demand a new version in `stages/training/run.py`; then WRITE_GOLDEN=1 adds what
this test finds, under that version only. Other instructions and another number of threads round
differently: SSE4.1 with one thread and AVX-512 with two differed by 2e-4 at most, a tenth of the
tolerance. The average of the weights shows in the scores only.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages import train
from stages.config import load_params
from stages.runtime.files import read_json, write_json
from stages.training.run import training_version
from tests.training.small_run import record_steps

GOLDEN = Path(__file__).with_name("golden.json")
RELATIVE = 2e-3
# A run by the rules of each version.
RUNS: dict[int, dict[str, Any]] = {
    1: {},
    2: {
        "stageA__label_smoothing": 0.0,
        "stageA__prior": {"kind": "class_weights", "beta": 0.99},
    },
}


@pytest.mark.parametrize("version", RUNS)
def test_golden_losses_and_scores(
    rare: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    folder = rare(**RUNS[version])
    assert training_version(load_params().stageA) == version
    steps = record_steps(monkeypatch)
    assert train.main(["stageA", "RN18"]) == 0
    assert sorted(steps) == list(range(len(steps)))
    history = read_json(folder / "models" / "stageA" / "RN18" / "history.json")
    measured = {
        "loss": [round(steps[n][0], 6) for n in range(len(steps))],
        "val_nll": [record["val"]["nll"] for record in history],
    }
    if os.environ.get("WRITE_GOLDEN"):
        write_golden(version, measured, path=GOLDEN)
    for name, golden in read_json(GOLDEN)[str(version)].items():
        assert measured[name] == pytest.approx(golden, rel=RELATIVE)


def test_a_version_that_has_golden_losses_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "golden.json"
    path.write_bytes(GOLDEN.read_bytes())
    with pytest.raises(ValueError, match="version 1 has its golden losses: raise the version"):
        write_golden(1, {"loss": [0.0]}, path=path)
    assert path.read_bytes() == GOLDEN.read_bytes()


def write_golden(version: int, measured: dict[str, list[float]], *, path: Path) -> None:
    golden = read_json(path)
    if str(version) in golden:
        raise ValueError(f"version {version} has its golden losses: raise the version")
    write_json(path, golden | {str(version): measured})

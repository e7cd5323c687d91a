"""A run of the small project with everything on that decides over a bit: 20 steps in 4 epochs.

Accumulation with a remainder, a class that the sampler fills up, augmentation, label smoothing, a
margin that rises, and an average of the weights.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from small_project import small_params, write_params

from stages.runtime.files import read_json
from stages.training.losses import Outcome
from stages.training.progress import CLOCK_KEYS
from stages.training.step import Batch, TrainingStep

PARAMS = {
    "teachers__RN18__backbone": "resnet10t",
    "teachers__RN18__learning_rate_scale": 1.0,
    "stageA__epochs": 4,
    "stageA__batch_size": 8,
    # Small steps: larger ones amplify how a processor rounds to a hundredth of a loss.
    "stageA__learning_rate": 1e-4,
    "stageA__accumulate": 2,
    "stageA__ema_decay": 0.9,
    "stageA__label_smoothing": 0.1,
    "stageA__prior": {"kind": "sampler_fill", "min_per_class": 1},
    "stageA__arcface__margin_rad": 0.2,
    "stageA__arcface__warmup_epochs": 1,
    "stageA__arcface__ramp_end_epoch": 3,
    "machine__device": "cpu",
    "machine__precision": "fp32",
    "machine__workers": 0,
}
NEVER: Mapping[int, Callable[[TrainingStep], None]] = {}


def write_run_params(folder: Path, **changes: Any) -> Path:
    write_params(folder, small_params(**PARAMS | changes))
    return folder


def run_folder(folder: Path) -> Path:
    (run,) = (folder / ".work" / "stageA" / "RN18").iterdir()
    return run


def record_steps(
    monkeypatch: pytest.MonkeyPatch, *, after: Mapping[int, Callable[[TrainingStep], None]] = NEVER
) -> dict[int, float]:
    """Loss of each step of the runs to come; `after` a step something may happen, once.

    The steps of a preflight are recorded too, until training does, and records, them again.
    """
    losses: dict[int, float] = {}
    events, take = dict(after), TrainingStep.take

    def recorded(
        step: TrainingStep, group: Sequence[Batch], *, number: int, **options: Any
    ) -> Outcome:
        outcome = take(step, group, number=number, **options)
        losses[number] = float(outcome.loss)
        if number in events:
            events.pop(number)(step)
        return outcome

    monkeypatch.setattr(TrainingStep, "take", recorded)
    return losses


def published(folder: Path) -> dict[str, Any]:
    """What a run publishes, without what the clock decides."""
    models = folder / "models" / "stageA" / "RN18"
    history = read_json(models / "history.json")
    return {
        "history": [{k: v for k, v in r.items() if k not in CLOCK_KEYS} for r in history],
        "weights": (models / "best.safetensors").read_bytes(),
        "logits": (models / "logits.parquet").read_bytes(),
        "card": read_json(models / "teacher.json"),
    }

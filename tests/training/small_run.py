"""A run of the small project with everything on that decides over a bit: 20 steps in 4 epochs.

Accumulation with a remainder, a class that the sampler fills up, augmentation, label smoothing, a
margin that rises, and an average of the weights.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from stages import manifest, standardize
from stages.training.machinery import Batch, Machinery
from stages.training.outcomes import Outcome

EPOCHS, STEPS = 4, 20
RECIPE = {
    "stageA__epochs": EPOCHS,
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
Steps = dict[int, tuple[float, list[int]]]


def prepare(project: Callable[..., Path], **changes: Any) -> Path:
    """The project with its manifest, in which one class is rare; params can be changed later."""
    folder = project(**RECIPE | changes)
    if not (folder / "manifests").exists():
        for picture in sorted((folder / "raw" / "toy" / "train" / "Disgust").iterdir())[2:]:
            picture.unlink()
        assert standardize.main([]) == 0
        assert manifest.main([]) == 0
    return folder


def record_steps(
    monkeypatch: pytest.MonkeyPatch, *, after: Mapping[int, Callable[[], object]] | None = None
) -> Steps:
    """Loss and rows of each step of the runs to come; `after` a step something may happen, once.

    The steps of a preflight are recorded too, until training does, and records, them again.
    """
    steps: Steps = {}
    events, step = dict(after or {}), Machinery.step

    def recorded(
        machinery: Machinery, group: Sequence[Batch], *, number: int, **options: Any
    ) -> Outcome:
        outcome = step(machinery, group, number=number, **options)
        steps[number] = float(outcome.loss), [int(row) for batch in group for row in batch["index"]]
        events.pop(number, lambda: None)()
        return outcome

    monkeypatch.setattr(Machinery, "step", recorded)
    return steps

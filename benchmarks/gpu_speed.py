"""The parts of `benchmarks.gpu` about speed: the pipeline's loop, as `benchmarks.train` builds it.

On a GPU: RN18 at 224 px and EfficientNet-B3 at 384 px, in the precision that `auto` chooses. Goals
are held against only there.
"""

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks.command import Finding
from benchmarks.loader import write_faces
from benchmarks.train import (
    STAGE_A,
    STAGE_B_EPOCH,
    Setting,
    build_drawn,
    measure_drawn,
    take_epoch,
)
from stages.computing.device import peak_gpu_bytes, reset_peak
from stages.training.loop import Loop

RN18 = Setting(
    *("two_stage", "stageA", "RN18", 224, 224), num_batches=200, whole=STAGE_A, num_pictures=2048
)
B3 = Setting(
    *("two_stage", "stageB", "B3", 384, 384), num_batches=40, whole=STAGE_B_EPOCH, num_pictures=1024
)
BATCH_SIZES, ROUNDS = (64, 128, 256), 3
# Seconds of `Setting.whole`.
GOALS = {"RN18": 1500, "B3": 400}
GOAL_RATIO = 0.95
_TINY: dict[str, Any] = {"image_px": 32, "face_px": 32, "num_batches": 2, "num_pictures": 32}
_TINY |= {"backbone": "test_resnet", "batch_size": 8}
_TINY_BATCH_SIZES, _TINY_ROUNDS = (8, 16), 1


@dataclass(frozen=True)
class Speed:
    """Rates on a device; the faces are drawn in `folder` when they are first asked for."""

    folder: Path
    device: torch.device
    tiny: bool

    def rates_rn18(self) -> Finding:
        """Compare RN18's loop with the bare step."""
        return self._rates(self._rn18)

    def rates_b3(self) -> Finding:
        """Compare B3's loop with the bare step."""
        return self._rates(self._b3)

    def compile_rn18(self) -> Finding:
        """Compare RN18's steps with compiled ones."""
        return self._compile(self._rn18)

    def compile_b3(self) -> Finding:
        """Compare B3's steps with compiled ones."""
        return self._compile(self._b3)

    def batches_rn18(self) -> Finding:
        """Compare RN18's batch sizes."""
        return self._batches(self._rn18)

    def batches_b3(self) -> Finding:
        """Compare B3's batch sizes."""
        return self._batches(self._b3)

    @cached_property
    def _rn18(self) -> tuple[Path, Setting]:
        return self._drawn(RN18)

    @cached_property
    def _b3(self) -> tuple[Path, Setting]:
        return self._drawn(B3)

    def _drawn(self, setting: Setting) -> tuple[Path, Setting]:
        if self.tiny:
            setting = replace(setting, **_TINY)
        folder = self.folder / setting.name
        write_faces(folder, setting.num_pictures, size=setting.face_px)
        return folder, setting

    def _rates(self, drawn: tuple[Path, Setting]) -> Finding:
        folder, setting = drawn
        rounds = _TINY_ROUNDS if self.tiny else ROUNDS
        figures = measure_drawn(folder, setting, device=self.device, rounds=rounds)
        goal, holds = GOALS[setting.teacher], {}
        if self.device.type == "cuda" and not self.tiny:
            holds = {
                f"the loop has at least {GOAL_RATIO} of the bare step's rate": (
                    figures["of_bare_step"] >= GOAL_RATIO
                ),
                f"{figures['projected']} take at most {goal} s": figures["projected_s"] <= goal,
            }
        return Finding(holds, figures)

    def _compile(self, drawn: tuple[Path, Setting]) -> Finding:
        folder, setting = drawn
        loop, _ = build_drawn(folder, setting, device=self.device)
        eager = _rate(loop)
        start = time.monotonic()
        loop.step.path.compile_embed()
        take_epoch(loop, 0)
        compile_s = time.monotonic() - start
        compiled = _rate(loop)
        figures = {
            "eager_img_s": round(eager, 1),
            "compiled_img_s": round(compiled, 1),
            "gain": round(compiled / eager, 3),
            "first_compiled_epoch_s": round(compile_s, 1),
        }
        return Finding({}, figures)

    def _batches(self, drawn: tuple[Path, Setting]) -> Finding:
        folder, setting = drawn
        figures: dict[str, Any] = {}
        for size in _TINY_BATCH_SIZES if self.tiny else BATCH_SIZES:
            # As many pictures for each size.
            num_batches = max(2, setting.num_batches * 64 // size)
            sized = replace(setting, batch_size=size, num_batches=num_batches)
            try:
                loop, workers = build_drawn(folder, sized, device=self.device)
                reset_peak(self.device)
                rate = round(_rate(loop), 1)
            except torch.cuda.OutOfMemoryError:
                figures[f"batch_{size}"] = "does not fit"
                continue
            peak = peak_gpu_bytes(self.device)
            figures[f"batch_{size}"] = {
                "img_s": rate,
                "peak_gpu_gib": None if peak is None else round(peak / 2**30, 2),
                "workers": workers,
            }
            # Before the next one is built.
            del loop
        return Finding({}, figures)


def _rate(loop: Loop) -> float:
    """Images a second over an epoch, after one that warms up; a loss that is not finite raises."""
    take_epoch(loop, 0)
    progress = take_epoch(loop, 1)
    return progress.images / progress.seconds

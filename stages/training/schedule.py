"""The learning rate as a function of the optimizer step."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class CosineSchedule:
    """Linear warm-up to `peak`, half a cosine to `floor`, constant past the end; in steps."""

    peak: float
    floor: float
    warmup_steps: int
    total_steps: int

    def at(self, step: int) -> float:
        """The rate of step `step`, counted from 0; the first warm-up step is already above zero."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        decay_steps = max(self.total_steps - 1 - self.warmup_steps, 1)
        progress = min((step - self.warmup_steps) / decay_steps, 1.0)
        return self.floor + (self.peak - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))

"""Synthetic predictions whose truth is known."""

from collections.abc import Callable

import numpy as np
import pytest

Drawn = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def draw() -> Callable[..., Drawn]:
    """Logits (n, 7) and targets drawn from `softmax(logits)`: a perfectly calibrated model."""

    def build(n: int, *, seed: int = 0, spread: float = 1.5) -> Drawn:
        random = np.random.default_rng(seed)
        logits = random.normal(scale=spread, size=(n, 7))
        targets = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
        return logits, targets

    return build

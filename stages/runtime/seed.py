"""Random numbers as a function of names: no state to save, the same on every machine."""

import hashlib

import numpy as np


def derive_seed(seed: int, *names: int | str) -> int:
    """A 63-bit seed for one purpose, such as `derive_seed(7, "augmentation", epoch, position)`."""
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: int | str) -> np.random.Generator:
    """A numpy generator of its own for one purpose."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, *names)))

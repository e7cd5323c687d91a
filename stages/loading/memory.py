"""Memory of batches that are gone, for the next ones."""

import math
import weakref
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", np.uint8, np.float32)


class BatchMemory:
    """Gives out arrays, and their memory again once nobody holds them.

    The system clears what it newly gives, which for a large batch takes as long as filling it.
    """

    def __init__(self) -> None:
        # Threads may share it: its `pop` and `append` are whole.
        self._free: list[npt.NDArray[np.uint8]] = []

    def take(self, *shape: int, dtype: type[Number]) -> npt.NDArray[Number]:
        """An array of any content; it is free when this object is gone, whoever holds parts of it.

        A tensor made of it by `torch.from_numpy` keeps it.
        """
        number = math.prod(shape) * np.dtype(dtype).itemsize
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(number, np.uint8)
        if len(memory) < number:
            memory = np.empty(number, np.uint8)
        taken = memory[:number].view(dtype).reshape(shape)
        weakref.finalize(taken, self._free.append, memory).atexit = False
        return taken

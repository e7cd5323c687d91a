"""Memory of batches that are gone, for the next ones."""

import math
import weakref

import numpy as np
import numpy.typing as npt


class BatchMemory:
    """Gives out float32 arrays, and their memory again once nobody holds them.

    The system clears what it newly gives, which for a large batch takes as long as filling it.
    """

    def __init__(self) -> None:
        # Threads may share it: its `pop` and `append` are whole.
        self._free: list[npt.NDArray[np.float32]] = []

    def take(self, *shape: int) -> npt.NDArray[np.float32]:
        """An array of any content; it is free when this object is gone, whoever holds parts of it.

        A tensor made of it by `torch.from_numpy` keeps it.
        """
        number = math.prod(shape)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(number, np.float32)
        if len(memory) < number:
            memory = np.empty(number, np.float32)
        taken = memory[:number].reshape(shape)
        weakref.finalize(taken, self._free.append, memory).atexit = False
        return taken

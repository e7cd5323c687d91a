import gc
import pickle

import numpy as np
import torch

from stages.loading.memory import BatchMemory


def test_memory_is_given_again_when_nobody_holds_it_and_not_before() -> None:
    memory = BatchMemory()
    first, second = memory.take(4, 5, dtype=np.uint8), memory.take(4, 5, dtype=np.uint8)
    assert not np.shares_memory(first, second)
    place = first.ctypes.data
    held = torch.from_numpy(first).permute(1, 0)[1:]
    del first
    gc.collect()
    assert memory.take(4, 5, dtype=np.uint8).ctypes.data != place
    del held
    assert memory.take(3, 2, dtype=np.uint8).ctypes.data == place


def test_an_array_larger_than_what_is_free_is_new() -> None:
    memory = BatchMemory()
    memory.take(2, 2, dtype=np.uint8)
    large = memory.take(3, 3, dtype=np.float32)
    large[:] = 7
    assert large.shape == (3, 3)
    assert large.dtype == np.float32
    assert pickle.loads(pickle.dumps(BatchMemory())).take(1, dtype=np.uint8).shape == (1,)

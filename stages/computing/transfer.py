"""Data to and from the device that computes, without waiting on either side.

On a GPU work is only asked for: the program runs ahead of it, and what it reads at once stops both.
So batches are prepared on a stream of their own while earlier ones are worked on, and results are
read `RUN_AHEAD` batches later. On a CPU the same code does one thing after the other.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor

# Enough that the device always has work. What runs ahead holds its batches in the GPU's memory.
RUN_AHEAD = 2

Batch = Mapping[str, Tensor]
Prepare = Callable[[Batch], Batch]
# Waits for a tensor that is on its way to the CPU.
Reading = Callable[[], Tensor]


def prepared(
    batches: Iterable[Batch], *, prepare: Prepare, device: torch.device
) -> Iterator[Batch]:
    """Yield every batch prepared; a GPU prepares it beside the work on earlier batches."""
    if device.type != "cuda":
        yield from map(prepare, batches)
        return
    beside: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    main = torch.cuda.current_stream(device)
    for batch in batches:
        with torch.cuda.stream(beside):
            ready = prepare(batch)
        main.wait_stream(beside)
        for tensor in ready.values():
            if tensor.is_cuda:
                # Else its memory would be given to the next batch while this one is worked on.
                tensor.record_stream(main)
        yield ready


def sent_back(tensor: Tensor) -> Reading:
    """Begin to copy a small tensor to the CPU."""
    if not tensor.is_cuda:
        return lambda: tensor
    copy = tensor.to("cpu", non_blocking=True)  # into pinned memory, so it does not wait
    arrived: torch.cuda.Event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    arrived.record(torch.cuda.current_stream(tensor.device))

    def read() -> Tensor:
        arrived.synchronize()
        return copy

    return read


def read_behind(readings: Iterable[Reading]) -> Iterator[Tensor]:
    """Yield every tensor in order, each when `RUN_AHEAD` later ones have been asked for."""
    pending: deque[Reading] = deque()
    for reading in readings:
        pending.append(reading)
        if len(pending) > RUN_AHEAD:
            yield pending.popleft()()
    for reading in pending:
        yield reading()

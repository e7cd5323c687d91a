"""How far a run is, and how fast: what a checkpoint holds besides tensors, and its log lines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# What the clock and the device decide in an epoch's record: it differs between two equal runs.
CLOCK_KEYS = (
    "rate_img_s",
    "data_wait_share",
    "seconds",
    "eval_seconds",
    "checkpoint_seconds",
    "peak_gpu_bytes",
    "preflight",
)

# Numbers, or None for a temperature that could not be fitted.
Scores = dict[str, Any]


@dataclass
class Progress:
    """Progress of a run: `epoch` and `batch` are those to do next; sums are of the running epoch.

    `preflight` is that of the working process, until the record of its first epoch holds it.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    images: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    preflight: dict[str, Any] | None = None
    best: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    def is_better(self, scores: Scores, *, select_by: str) -> bool:
        """Return whether scores beat the best so far; the first do, equal later ones do not."""
        if not self.best:
            return True
        new, old = (float(each[select_by]) for each in (scores, self.best["val"]))
        return new < old if select_by == "nll" else new > old

    def clear_sums(self) -> None:
        """Count images, losses and seconds from 0."""
        self.images = 0
        self.loss_sum, self.seconds, self.wait_seconds = 0.0, 0.0, 0.0


def describe_progress(progress: Progress, *, num_batches: int, epochs: int) -> str:
    """Say how fast the running epoch goes and how much of the run is left."""
    batches_left = (epochs - progress.epoch) * num_batches - progress.batch
    left = describe_duration(progress.seconds / progress.batch * batches_left)
    return (
        f"epoch {progress.epoch + 1} of {epochs}, batch {progress.batch} of {num_batches}: "
        f"loss {progress.loss_sum / progress.images:.4f}, "
        f"{progress.images / progress.seconds:.0f} img/s, "
        f"data wait {100 * progress.wait_seconds / progress.seconds:.0f} %, {left} left"
    )


def describe_epoch(record: Mapping[str, Any], *, epochs: int) -> str:
    """Put an epoch's record of the history into words."""
    text = f"epoch {record['epoch']} of {epochs}: loss {record['train_loss']:.4f}, "
    text += f"{record['rate_img_s']:.0f} img/s, data wait {record['data_wait_share']:.0%}"
    if record["peak_gpu_bytes"] is not None:
        text += f", GPU memory {record['peak_gpu_bytes'] / 2**30:.1f} GiB"
    if record["val"] is not None:
        scores = {name: value for name, value in record["val"].items() if value is not None}
        text += "; val " + ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
    return text


def describe_duration(seconds: float) -> str:
    """Write seconds as `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"

"""How far a run is: what a checkpoint holds besides tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from stages.runtime.files import remove, sha256_file, write_bytes

# What the clock and the device decide in an epoch's record: it differs between two equal runs.
CLOCK_KEYS = (
    "rate_img_s", "data_wait_share", "seconds", "eval_seconds", "checkpoint_seconds",
    "peak_gpu_bytes", "preflight",
)  # fmt: skip

Scores = dict[str, float]


@dataclass
class Progress:
    """`epoch` and `batch` are those to do next; the sums are of the running epoch.

    `preflight` is that of the process that works, until the record of its first epoch holds it.
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
        """Whether scores beat the best so far; the first ones always do, an equal later one not."""
        if not self.best:
            return True
        new, old = scores[select_by], float(self.best["val"][select_by])
        return new < old if select_by == "nll" else new > old

    def close_epoch(
        self,
        *,
        learning_rate: float,
        margin_rad: float,
        rows_seen_share: float,
        scores: Scores | None,
        eval_seconds: float,
        peak_gpu_bytes: int | None,
    ) -> None:
        """Turn the sums into the epoch's line of the history, and start the next epoch."""
        self.epoch += 1
        self.history.append(
            {
                "epoch": self.epoch,
                "step": self.step,
                "learning_rate": learning_rate,
                "margin_rad": margin_rad,
                "train_loss": self.loss_sum / self.images,
                "rate_img_s": round(self.images / self.seconds, 1),
                "data_wait_share": round(self.wait_seconds / self.seconds, 4),
                "images": self.images,
                "rows_seen_share": rows_seen_share,
                "seconds": round(self.seconds, 3),
                "eval_seconds": round(eval_seconds, 3),
                "checkpoint_seconds": round(self.checkpoint_seconds, 3),
                "peak_gpu_bytes": peak_gpu_bytes,
                "val": scores,
                "preflight": self.preflight,
            }
        )
        self.batch, self.preflight, self.checkpoint_seconds = 0, None, 0.0
        self.clear_sums()

    def clear_sums(self) -> None:
        """Count images, losses and seconds from 0."""
        self.images = 0
        self.loss_sum, self.seconds, self.wait_seconds = 0.0, 0.0, 0.0

    def count_checkpoint(self, seconds: float) -> None:
        """Add the time that the checkpoint behind an epoch took to the record of that epoch."""
        record = self.history[-1]
        record["checkpoint_seconds"] = round(record["checkpoint_seconds"] + seconds, 3)


def keep_best(
    model: nn.Module, scores: Scores, *, epoch: int, folder: Path, before: str
) -> dict[str, Any]:
    """Write the weights under a name of their own; `before` names the best that they replace."""
    path = folder / f"best-{epoch:04d}.safetensors"
    tensors = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    write_bytes(path, save(tensors))
    return {
        "epoch": epoch,
        "file": path.name,
        "sha256": sha256_file(path),
        "before": before,
        "val": scores,
    }


def remove_superseded(folder: Path, *, best: Mapping[str, Any]) -> None:
    """Drop best weights that neither the last nor the previous checkpoint names.

    A checkpoint follows every change of the best, so the previous one names this or the one before.
    """
    for path in folder.glob("best-*.safetensors"):
        if path.name not in {best["file"], best["before"]}:
            remove(path)

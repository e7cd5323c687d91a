"""The training loop: a step, batches, a schedule and an evaluation in; the best weights out.

A run can be stopped after any optimizer step and go on later. Everything random is a function of
(seed, epoch, position) or (seed, step), so on a CPU the interrupted run ends in the same bits.
"""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from torch import nn

from stages.computing.device import peak_gpu_bytes, reset_peak
from stages.computing.transfer import Prepare, prepared
from stages.runtime.errors import InterruptedRunError, UserError
from stages.runtime.signals import StopRequest
from stages.training.checkpoint import (
    describe_kept,
    keep_best,
    load_checkpoint,
    remove_superseded,
    save_checkpoint,
    save_with_retries,
)
from stages.training.losses import Losses
from stages.training.progress import Progress, Scores, describe_epoch, describe_progress
from stages.training.step import Batch, TrainingStep

LINE_EVERY_SECONDS = 20.0

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Batches(Protocol):
    """The training batches of any epoch, from any batch on, the same at every call.

    `sizes` counts the images of each batch of an epoch, of which each process of a team gets its
    share; `finish` makes model input on the device of a batch; `share_seen` is the share of all
    rows that an epoch shows.
    """

    @property
    def sizes(self) -> Sequence[int]: ...  # noqa: D102

    @property
    def finish(self) -> Prepare: ...  # noqa: D102

    def share_seen(self, epoch: int) -> float: ...  # noqa: D102

    def epoch(self, epoch: int, *, start_batch: int) -> Iterable[Batch]: ...  # noqa: D102


@dataclass(frozen=True)
class CosineSchedule:
    """Linear warm-up to `peak`, half a cosine to `floor`, constant past the end; in steps."""

    peak: float
    floor: float
    warmup_steps: int
    total_steps: int

    def at(self, step: int) -> float:
        """Return the rate of a step, counted from 0; the first warm-up step is above zero."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        decay_steps = max(self.total_steps - 1 - self.warmup_steps, 1)
        progress = min((step - self.warmup_steps) / decay_steps, 1.0)
        return self.floor + (self.peak - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Loop:
    """The loop that takes steps until all epochs are done and keeps their state in `folder`.

    Losses are read some steps later, and always before anything of their steps is kept. In a team
    every process runs this loop, and all take the same decisions.
    """

    step: TrainingStep
    batches: Batches
    evaluate: Callable[[nn.Module], Scores]
    folder: Path
    stop: StopRequest
    seed: int
    epochs: int
    accumulate: int
    eval_every: int
    select_by: str
    checkpoint_seconds: float
    schedule: CosineSchedule
    margin_at: Callable[[float], float]
    losses: Losses = field(default_factory=Losses)

    @property
    def num_batches(self) -> int:
        """Number of batches in an epoch."""
        return len(self.batches.sizes)

    def is_evaluated(self, epoch: int) -> bool:
        """Return whether epoch `epoch`, counted from 1, is evaluated; the last always is."""
        return epoch % self.eval_every == 0 or epoch == self.epochs

    def stop_signal(self) -> int:
        """Return the signal that asked any process of the team to stop; 0 if there is none."""
        (signal_number,) = self.step.team.greatest(self.stop.signal_number)
        return signal_number

    def resume(self) -> Progress:
        """Restore the last checkpoint, if there is one, and return the progress of the run."""
        state = load_checkpoint(self.folder)
        steps = self.step.team.gather(None if state is None else state["progress"]["step"])
        if len(set(steps)) > 1:
            raise UserError(
                f"{self.folder.as_posix()}: the processes of this run see different checkpoints "
                f"(of steps {steps}); `.work` must be one folder for all"
            )
        if state is None:
            return Progress()
        self.step.restore(state)
        progress = Progress(**state["progress"])
        if progress.epoch >= self.epochs:
            logger.info("nothing to train: all %d epochs of this run are done", self.epochs)
        else:
            logger.info("resuming at epoch %d, batch %d", progress.epoch + 1, progress.batch + 1)
        return progress

    def fit(self, progress: Progress) -> None:
        """Train from `progress`, as `resume` returned it, until all epochs are done.

        Raises:
            InterruptedRunError: after saving, when a stop was requested.
            NonFiniteError: on a non-finite loss; the last good checkpoint is kept.
        """
        while progress.epoch < self.epochs:
            self._train_epoch(progress)
            self._conclude_epoch(progress)
            # Best first, then the checkpoint that names it. Its seconds belong to this epoch.
            record, seconds = progress.history[-1], self._save(progress)
            record["checkpoint_seconds"] = round(record["checkpoint_seconds"] + seconds, 3)
            self.step.team.lead(lambda: remove_superseded(self.folder, best=progress.best))
            if signal_number := self.stop_signal():
                raise InterruptedRunError(signal_number)

    def _train_epoch(self, progress: Progress) -> None:
        """Take the steps that are left of the epoch; save by the clock and before a stop."""
        reset_peak(self.step.device)
        last_saved = last_line = time.monotonic()
        for _ in self.steps(progress):
            now = time.monotonic()
            # A clock and a signal differ between processes: any of them decides for all.
            signal_number, is_due, is_line_due = self.step.team.greatest(
                self.stop.signal_number,
                now - last_saved >= self.checkpoint_seconds,
                now - last_line >= LINE_EVERY_SECONDS,
            )
            if is_line_due:
                self.settle(progress)
                last_line, sizes = now, {"num_batches": self.num_batches, "epochs": self.epochs}
                logger.info("%s", describe_progress(progress, **sizes))
            if (signal_number or is_due) and progress.batch < self.num_batches:
                self.settle(progress)
                progress.checkpoint_seconds += self._save(progress)
                last_saved = time.monotonic()
                if signal_number:
                    raise InterruptedRunError(signal_number)

    def steps(self, progress: Progress) -> Iterator[None]:
        """Take the rest of the epoch, an optimizer step for every `accumulate` batches.

        `progress.seconds` counts steps with their wait for data; what happens between two steps is
        left out.
        """
        self.step.model.train()
        made = self.batches.epoch(progress.epoch, start_batch=progress.batch)
        batches = prepared(made, prepare=self.batches.finish, device=self.step.device)
        while True:
            start = time.monotonic()
            group = list(itertools.islice(batches, self.accumulate))
            progress.wait_seconds += time.monotonic() - start
            if not group:
                break
            num_images = sum(self.batches.sizes[progress.batch : progress.batch + len(group)])
            outcome = self.step.take(
                group,
                number=progress.step,
                num_images=num_images,
                learning_rate=self.schedule.at(progress.step),
                margin_rad=self.margin_at(progress.epoch + progress.batch / self.num_batches),
                seed=self.seed,
            )
            self.losses.add(outcome)
            for loss, num_read in self.losses.read(self.step.team):
                progress.loss_sum += loss * num_read
            progress.batch += len(group)
            progress.step += 1
            progress.images += num_images
            progress.seconds += time.monotonic() - start
            yield
        self.settle(progress)

    def settle(self, progress: Progress) -> None:
        """Wait for all steps taken so far and count their losses, as `Losses.read`."""
        start = time.monotonic()
        for loss, num_images in self.losses.read(self.step.team, behind=0):
            progress.loss_sum += loss * num_images
        progress.seconds += time.monotonic() - start

    def _conclude_epoch(self, progress: Progress) -> None:
        """Evaluate where it is due, keep the best weights, and turn the sums into a record."""
        epoch, scores, start = progress.epoch + 1, None, time.monotonic()
        peak, weights = peak_gpu_bytes(self.step.device), self.step.weights()
        if self.is_evaluated(epoch):
            scores = self.evaluate(weights)
        eval_seconds = time.monotonic() - start
        if scores is not None and progress.is_better(scores, select_by=self.select_by):
            start, before = time.monotonic(), progress.best.get("file", "")
            keep = partial(
                keep_best, weights, scores, epoch=epoch, folder=self.folder, before=before
            )
            progress.best = self._lead_saving(keep, num_bytes=self.step.weights_bytes())
            progress.checkpoint_seconds += time.monotonic() - start
        record = {
            "epoch": epoch,
            "step": progress.step,
            "learning_rate": self.schedule.at(progress.step - 1),
            "margin_rad": self.margin_at(epoch),
            "train_loss": progress.loss_sum / progress.images,
            "rate_img_s": round(progress.images / progress.seconds, 1),
            "data_wait_share": round(progress.wait_seconds / progress.seconds, 4),
            "images": progress.images,
            "rows_seen_share": self.batches.share_seen(progress.epoch),
            "seconds": round(progress.seconds, 3),
            "eval_seconds": round(eval_seconds, 3),
            "checkpoint_seconds": round(progress.checkpoint_seconds, 3),
            "peak_gpu_bytes": peak,
            "val": scores,
            "preflight": progress.preflight,
        }
        logger.info("%s", describe_epoch(record, epochs=self.epochs))
        progress.history.append(record)
        progress.epoch, progress.batch = epoch, 0
        progress.preflight, progress.checkpoint_seconds = None, 0.0
        progress.clear_sums()

    def _save(self, progress: Progress) -> float:
        """Write a checkpoint; returns the seconds that it took."""
        assert not len(self.losses), "steps that are not known to be finite are not kept"
        start = time.monotonic()
        extent = {"epochs": self.epochs, "num_batches": self.num_batches}
        state = self.step.state() | {"progress": asdict(progress), "extent": extent}
        num_bytes = self.step.state_bytes()
        self._lead_saving(lambda: save_checkpoint(self.folder, state), num_bytes=num_bytes)
        return time.monotonic() - start

    def _lead_saving(self, write: Callable[[], T], *, num_bytes: int) -> T:
        kept = partial(describe_kept, self.folder)
        return self.step.team.lead(
            partial(save_with_retries, write, path=self.folder, num_bytes=num_bytes, kept=kept)
        )

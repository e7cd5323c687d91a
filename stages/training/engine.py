"""The training loop: a model, batches, an optimizer and a schedule in; the best weights out.

A run can be stopped after any optimizer step and go on later. Everything random is a function of
(seed, epoch, position) or (seed, step), so on a CPU the interrupted run ends in the same bits.
"""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from torch import nn

from stages.computing.team import Team
from stages.computing.transfer import Prepare, prepared
from stages.runtime.errors import InterruptedRunError, UserError
from stages.runtime.signals import StopRequest
from stages.training.checkpoint import describe_kept, load_checkpoint, save_checkpoint
from stages.training.machinery import Batch, Machinery
from stages.training.memory import peak_gpu_bytes, reset_peak
from stages.training.outcomes import Outcomes
from stages.training.pace import Pace, PaceLine, describe_epoch
from stages.training.progress import Progress, Scores, keep_best, remove_superseded
from stages.training.saving import saved
from stages.training.schedule import CosineSchedule

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Batches(Protocol):
    """The training batches of any epoch, from any batch on.

    Of a batch of `sizes[i]` images each process of a team gets its share.
    """

    @property
    def sizes(self) -> Sequence[int]:
        """Images of each batch of an epoch."""
        ...

    def share_seen(self, epoch: int) -> float:
        """Which share of all rows an epoch shows."""
        ...

    def epoch(self, epoch: int, *, start_batch: int) -> Iterable[Batch]:
        """Batches of an epoch, the same at every call."""
        ...


@dataclass(frozen=True)
class Plan:
    """The numbers of a run."""

    seed: int
    epochs: int
    accumulate: int
    eval_every: int
    select_by: str
    checkpoint_seconds: float
    schedule: CosineSchedule
    margin_at: Callable[[float], float]

    def is_evaluated(self, epoch: int) -> bool:
        """Whether an evaluation follows epoch `epoch`, counted from 1; the last always has one."""
        return epoch % self.eval_every == 0 or epoch == self.epochs


@dataclass(frozen=True)
class Engine:
    """Trains `machinery` as `plan` says and keeps its state in `folder`.

    `finish` makes model input on the device of the batches. What steps came to is read a little
    later, and always before anything of them is kept.
    """

    machinery: Machinery
    plan: Plan
    batches: Batches
    finish: Prepare
    evaluate: Callable[[nn.Module], Scores]
    folder: Path
    stop: StopRequest
    outcomes: Outcomes = field(default_factory=Outcomes)

    @property
    def team(self) -> Team:
        """The processes that train together; they all run this engine."""
        return self.machinery.team

    @property
    def num_batches(self) -> int:
        """Of an epoch."""
        return len(self.batches.sizes)

    def stop_signal(self) -> int:
        """The signal that asked any process of the team to stop; 0 if none did."""
        (signal_number,) = self.team.greatest(self.stop.signal_number)
        return signal_number

    def resume(self) -> Progress:
        """Take back the last checkpoint, if there is one, and say how far the run is.

        Raises:
            UserError: if the processes of the team do not see the same checkpoint.
        """
        state = load_checkpoint(self.folder)
        steps = self.team.gather(None if state is None else state["progress"]["step"])
        if len(set(steps)) > 1:
            raise UserError(
                f"{self.folder.as_posix()}: the processes of this run see different checkpoints "
                f"(of steps {steps}); `.work` must be one folder for all"
            )
        if state is None:
            return Progress()
        self.machinery.restore(state)
        progress = Progress(**state["progress"])
        if progress.epoch >= self.plan.epochs:
            logger.info("nothing to train: all %d epochs of this run are done", self.plan.epochs)
        else:
            logger.info("resuming at epoch %d, batch %d", progress.epoch + 1, progress.batch + 1)
        return progress

    def fit(self, progress: Progress) -> None:
        """Train from `progress`, as `resume` returned it, until all epochs are done.

        Raises:
            InterruptedRunError: after saving, when a stop was requested.
            NonFiniteError: on a non-finite loss; the last good checkpoint is kept.
        """
        while progress.epoch < self.plan.epochs:
            self._train(progress)
            self._conclude_epoch(progress)
            # Best first, then the checkpoint that names it.
            progress.count_checkpoint(self._save(progress))
            self.team.lead(lambda: remove_superseded(self.folder, best=progress.best))
            if signal_number := self.stop_signal():
                raise InterruptedRunError(signal_number)

    def steps(self, progress: Progress) -> Iterator[None]:
        """The rest of the running epoch, one optimizer step for every `accumulate` batches."""
        self.machinery.model.train()
        made = self.batches.epoch(progress.epoch, start_batch=progress.batch)
        batches = prepared(made, prepare=self.finish, device=self.machinery.device)
        pace = Pace(progress)
        while group := pace.fetch(lambda: list(itertools.islice(batches, self.plan.accumulate))):
            self._step(group, progress, pace)
            yield
        self.settle(progress)

    def settle(self, progress: Progress) -> None:
        """Wait for all steps taken so far and count their losses.

        Raises:
            NonFiniteError: if loss or gradient of one is not finite.
        """
        start = time.monotonic()
        for loss, num_images in self.outcomes.read(self.team, behind=0):
            progress.loss_sum += loss * num_images
        progress.seconds += time.monotonic() - start

    def _train(self, progress: Progress) -> None:
        line = PaceLine(num_batches=self.num_batches, epochs=self.plan.epochs)
        reset_peak(self.machinery.device)
        last_saved = time.monotonic()
        for _ in self.steps(progress):
            is_old = time.monotonic() - last_saved >= self.plan.checkpoint_seconds
            signal_number, is_due, is_line_due = self.team.greatest(
                self.stop.signal_number, is_old, line.is_due()
            )
            if is_line_due:
                self.settle(progress)
                line.log(progress)
            if (signal_number or is_due) and progress.batch < self.num_batches:
                self.settle(progress)
                progress.checkpoint_seconds += self._save(progress)
                last_saved = time.monotonic()
                if signal_number:
                    raise InterruptedRunError(signal_number)

    def _step(self, group: Sequence[Batch], progress: Progress, pace: Pace) -> None:
        num_images = sum(self.batches.sizes[progress.batch : progress.batch + len(group)])
        outcome = self.machinery.step(
            group,
            number=progress.step,
            num_images=num_images,
            learning_rate=self.plan.schedule.at(progress.step),
            margin_rad=self.plan.margin_at(progress.epoch + progress.batch / self.num_batches),
            seed=self.plan.seed,
        )
        self.outcomes.add(outcome)
        for loss, num_read in self.outcomes.read(self.team):
            progress.loss_sum += loss * num_read
        progress.batch += len(group)
        progress.step += 1
        pace.after_step(num_images)

    def _conclude_epoch(self, progress: Progress) -> None:
        """Evaluate where it is due, keep the best weights, and write the epoch's record."""
        epoch, scores, start = progress.epoch + 1, None, time.monotonic()
        peak = peak_gpu_bytes(self.machinery.device)
        if self.plan.is_evaluated(epoch):
            scores = self.evaluate(self.machinery.weights())
        eval_seconds = time.monotonic() - start
        if scores is not None and progress.is_better(scores, select_by=self.plan.select_by):
            self._keep_best(progress, scores, epoch=epoch)
        progress.close_epoch(
            learning_rate=self.plan.schedule.at(progress.step - 1),
            margin_rad=self.plan.margin_at(epoch),
            rows_seen_share=self.batches.share_seen(progress.epoch),
            scores=scores,
            eval_seconds=eval_seconds,
            peak_gpu_bytes=peak,
        )
        logger.info("%s", describe_epoch(progress.history[-1], epochs=self.plan.epochs))

    def _keep_best(self, progress: Progress, scores: Scores, *, epoch: int) -> None:
        start = time.monotonic()
        weights = self.machinery.weights()
        before = progress.best.get("file", "")
        keep = partial(keep_best, weights, scores, epoch=epoch, folder=self.folder, before=before)
        progress.best = self._lead_saving(keep, num_bytes=self.machinery.weights_bytes())
        progress.checkpoint_seconds += time.monotonic() - start

    def _save(self, progress: Progress) -> float:
        """Write a checkpoint; returns the seconds that it took."""
        assert not len(self.outcomes), "what is not known to be finite is not kept"
        start = time.monotonic()
        extent = {"epochs": self.plan.epochs, "num_batches": self.num_batches}
        state = self.machinery.state() | {"progress": asdict(progress), "extent": extent}
        num_bytes = self.machinery.state_bytes()
        self._lead_saving(lambda: save_checkpoint(self.folder, state), num_bytes=num_bytes)
        return time.monotonic() - start

    def _lead_saving(self, write: Callable[[], T], *, num_bytes: int) -> T:
        kept = partial(describe_kept, self.folder)
        return self.team.lead(
            lambda: saved(write, path=self.folder, num_bytes=num_bytes, kept=kept)
        )

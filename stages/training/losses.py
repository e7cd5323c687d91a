"""The loss of a step, and the losses of past steps, read from the device behind the steps."""

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.computing.team import Team
from stages.computing.transfer import RUN_AHEAD, Reading, sent_back
from stages.config import ClassWeights, LogitAdjustment, Prior, SamplerFill
from stages.runtime.errors import UserError
from stages.runtime.files import write_json
from stages.training.checkpoint import describe_kept
from stages.training.run import Run

NONFINITE_FILE = "nonfinite.json"


@dataclass(frozen=True)
class Loss:
    """Cross entropy with the stage's one correction of the class prior, float32.

    Targets are classes (N,) or shares (N, 7) of them; a row of one whole share counts as its class,
    to the bit without label smoothing. `offset` (7,) is added to the logits; `weight` (7,) says how
    much a row of each class counts in a mean, None that all count the same.
    """

    offset: Tensor
    weight: Tensor | None
    label_smoothing: float

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Average over the rows of logits (N, 7) and targets: `-sum w t log p / sum w t`."""
        logits, smoothing = logits.float() + self.offset, self.label_smoothing
        if targets.ndim == 1:
            return F.cross_entropy(logits, targets, weight=self.weight, label_smoothing=smoothing)
        targets = targets * (1 - smoothing) + smoothing / targets.shape[1]
        if self.weight is not None:
            targets = targets * self.weight
        losses = -(targets * F.log_softmax(logits, dim=1)).sum(dim=1)
        whole = len(targets) if self.weight is None else _added(targets.sum(dim=1))
        return _added(losses) / whole

    def shares(
        self, targets: Sequence[Tensor], *, num_images: int, team: Team
    ) -> Sequence[Tensor | float]:
        """Weigh the mean loss of each batch of a step so that their sum is the step's mean.

        `targets` are those of this process's batches; `num_images` counts all processes.
        """
        if (weight := self.weight) is None:
            return [len(batch) / num_images for batch in targets]
        sums = [
            (weight[batch] if batch.ndim == 1 else (batch * weight).sum(dim=1)).sum()
            for batch in targets
        ]
        whole = team.total(torch.stack(sums).sum())
        return [part / whole for part in sums]


def _added(values: Tensor) -> Tensor:
    """Sum values (N,) in the order in which torch's cross entropy sums them."""
    nothing = torch.zeros(len(values), dtype=torch.int64, device=values.device)
    return -F.nll_loss(values[:, None], nothing, reduction="sum")


def build_loss(
    prior: Prior, *, counts: np.ndarray, label_smoothing: float, device: torch.device
) -> Loss:
    """Build the loss of a stage; sampler fill and no correction leave cross entropy as it is.

    Class weights are (1 - beta) / (1 - beta^n), scaled to a mean of 1 (Cui et al., CVPR 2019,
    eq. 2); logit adjustment adds tau * log(share) to the training logits (Menon et al., ICLR 2021,
    eq. 10). `counts` (7,) are the rows of each class that an epoch shows, or the sums of their
    shares; all are above zero.
    """
    weight, offset = None, torch.zeros(len(counts), device=device)
    if isinstance(prior, ClassWeights):
        weights = (1 - prior.beta) / (1 - np.power(prior.beta, counts.astype(np.float64)))
        scaled = np.asarray(weights / weights.mean(), dtype=np.float32)
        weight = torch.tensor(scaled, device=device)
    if isinstance(prior, LogitAdjustment):
        offsets = np.asarray(prior.tau * np.log(counts / counts.sum()), dtype=np.float32)
        offset = torch.tensor(offsets, device=device)
    return Loss(offset, weight, label_smoothing)


def prior_correction(
    prior: Prior, *, counts: np.ndarray, shown_counts: np.ndarray
) -> tuple[float, ...]:
    """Return what takes the correction of the class prior back, v (7,), rounded to six digits.

    A loss with logit adjustment or class weights, and batches that are filled up, teach logits z
    for another share of the classes than the training rows have. `softmax(z + v)` speaks for the
    training rows: v is tau * log(share), -log(weight), or log(share) - log(share that is shown).

    `counts` (7,) are the rows of each class to train on, `shown_counts` those that an epoch shows.
    """
    loss = build_loss(prior, counts=shown_counts, label_smoothing=0.0, device=torch.device("cpu"))
    correction = loss.offset.double().numpy()
    if loss.weight is not None:
        correction = correction - np.log(loss.weight.double().numpy())
    if isinstance(prior, SamplerFill):
        correction = np.log(counts / counts.sum()) - np.log(shown_counts / shown_counts.sum())
    return tuple(round(float(value), 6) for value in correction)


@dataclass(frozen=True)
class Outcome:
    """Loss and gradient of step `number`, as they lie on the device, 0-dimensional.

    `loss` is this process's part of the mean loss of an image; `gradient_norm` is infinite where
    float16's scaler has skipped the step; `num_images` counts all processes; `rows` of the training
    set are those of each batch of this process.
    """

    number: int
    num_images: int
    learning_rate: float
    loss: Tensor
    gradient_norm: Tensor
    rows: Sequence[Tensor]
    may_overflow: bool


class NonFiniteError(UserError):
    """Loss or gradient of a step is not finite; nothing of it or of later steps is written.

    `rows` are rows of the training set; `record` is what nonfinite.json says of the step, with
    numbers as text (JSON has none for inf and nan) and no gradient where the loss was enough.
    """

    def __init__(self, outcome: Outcome, *, loss: float, norm: float, rows: list[int]) -> None:
        is_loss, rate = not math.isfinite(loss), outcome.learning_rate
        what, value = ("loss", loss) if is_loss else ("norm of the gradient", norm)
        self.what = f"the {what} of step {outcome.number} is {value} at learning rate {rate:g}"
        self.rows = rows
        self.record = {
            "step": outcome.number,
            "loss": str(loss),
            "gradient_norm": None if is_loss else str(norm),
            "learning_rate": rate,
        }
        super().__init__(f"{self.what}; rows of the training set in this step: {rows}")


class Losses:
    """Outcomes of steps that are not read yet."""

    def __init__(self) -> None:
        self._pending: deque[tuple[Outcome, Reading]] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome, to be read later."""
        values = torch.stack([outcome.loss, outcome.gradient_norm])
        self._pending.append((outcome, sent_back(values)))

    def read(self, team: Team, *, behind: int = RUN_AHEAD) -> Iterator[tuple[float, int]]:
        """Yield mean loss and number of images of all steps but the last `behind`.

        The processes of a team call this at the same steps. The first step whose loss or gradient
        is not finite raises a NonFiniteError.
        """
        while len(self._pending) > behind:
            outcome, reading = self._pending.popleft()
            part, norm = reading().tolist()
            loss = team.sum(part)
            is_norm_bad = not outcome.may_overflow and not math.isfinite(norm)
            if not math.isfinite(loss) or is_norm_bad:
                rows = [int(row) for batch in outcome.rows for row in batch]
                rows = list(itertools.chain(*team.gather(rows)))
                raise NonFiniteError(outcome, loss=loss, norm=norm, rows=rows)
            yield loss, outcome.num_images


def explain_non_finite(
    error: NonFiniteError, *, run: Run, ids: Sequence[str], lower: Sequence[str]
) -> NoReturn:
    """Say what to look at in the morning: in nonfinite.json, and in words with ways to go on.

    `ids` are the names of the step's faces; `lower` are keys of params.yaml that may be too high.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(run.folder / NONFINITE_FILE, {"at": now, **error.record, "ids": ids})
    raise UserError(
        f"{error.what}; nothing of it is kept: {describe_kept(run.folder)}, and `dvc repro "
        f"{run.stage}@{run.teacher}` goes on with the same faces. Should it come back: "
        f"machine.precision fp32, a lower {' or '.join(lower)}, or a look at "
        f"these {len(ids)} faces (also in .work/{run.stage}/{run.teacher}/{run.folder.name}/"
        f"{NONFINITE_FILE}): {', '.join(ids)}"
    ) from None

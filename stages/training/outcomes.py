"""What steps came to: losses and gradient norms, read from the device behind the steps."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stages.computing.team import Team
from stages.computing.transfer import RUN_AHEAD, Reading, sent_back
from stages.runtime.errors import UserError


class NonFiniteError(UserError):
    """Loss or gradient of a step is not finite; of it and of later steps nothing is written.

    `gradient_norm` is None where the loss was enough; `rows` are those of the training set.
    """

    def __init__(
        self,
        step: int,
        *,
        loss: float,
        gradient_norm: float | None,
        learning_rate: float,
        rows: Sequence[int],
    ) -> None:
        what = f"the loss of step {step} is {loss}"
        if gradient_norm is not None:
            what = f"the norm of the gradient of step {step} is {gradient_norm}"
        self.what = f"{what} at learning rate {learning_rate:g}"
        super().__init__(f"{self.what}; rows of the training set in this step: {list(rows)}")
        self.step = step
        self.loss = loss
        self.gradient_norm = gradient_norm
        self.learning_rate = learning_rate
        self.rows = list(rows)


@dataclass(frozen=True)
class Outcome:
    """What step `number` came to, as it lies on the device.

    Args:
        num_images: of the step, in all processes.
        loss: this process's part of the mean loss of an image, 0-dimensional.
        gradient_norm: 0-dimensional; infinite where float16's scaler has skipped the step.
        rows: of the training set, of each batch of this process.
    """

    number: int
    num_images: int
    learning_rate: float
    loss: Tensor
    gradient_norm: Tensor
    rows: Sequence[Tensor]
    may_overflow: bool


@dataclass(frozen=True)
class Outcomes:
    """Outcomes that are not read yet."""

    _pending: deque[tuple[Outcome, Reading]] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome, to be read later."""
        values = torch.stack([outcome.loss, outcome.gradient_norm])
        self._pending.append((outcome, sent_back(values)))

    def read(self, team: Team, *, behind: int = RUN_AHEAD) -> Iterator[tuple[float, int]]:
        """The mean loss of an image and the number of images of all steps but the last `behind`.

        The processes of a team call this at the same steps.

        Raises:
            NonFiniteError: at the first step whose loss or gradient is not finite.
        """
        while len(self._pending) > behind:
            outcome, reading = self._pending.popleft()
            part, norm = reading().tolist()
            loss = team.sum(part)
            if not math.isfinite(loss):
                raise _non_finite(outcome, team, loss=loss, gradient_norm=None)
            if not outcome.may_overflow and not math.isfinite(norm):
                raise _non_finite(outcome, team, loss=loss, gradient_norm=norm)
            yield loss, outcome.num_images


def _non_finite(
    outcome: Outcome, team: Team, *, loss: float, gradient_norm: float | None
) -> NonFiniteError:
    mine = [int(row) for rows in outcome.rows for row in rows]
    return NonFiniteError(
        outcome.number,
        loss=loss,
        gradient_norm=gradient_norm,
        learning_rate=outcome.learning_rate,
        rows=[row for rows in team.gather(mine) for row in rows],
    )

"""The published teachers of a stage -> its models: each teacher, and the fusions of them all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.calibrating.calibration import Mask, Mixing, Observed
from stages.calibrating.fusion import Weights
from stages.calibrating.published import PublishedTeacher
from stages.calibrating.stage_rows import Account
from stages.records.schema import targets_of
from stages.scoring.metrics import Floats, softmax
from stages.scoring.votes import shares_of

# `calibrate.fusion` -> the name of the model.
FUSED_NAMES = {
    "fixed": "fused_fixed",
    "searched": "fused_searched",
    "fixed_logits": "fused_fixed_logits",
    "searched_logits": "fused_searched_logits",
}
TRAINED_ON = "the row or a copy of it was trained on"


@dataclass(frozen=True)
class Model:
    """One or several teachers of a stage, and how they are mixed."""

    stage: str
    name: str
    teachers: tuple[PublishedTeacher, ...]
    mixing: Mixing

    @property
    def weights_sha256(self) -> tuple[str, ...]:
        """What names the model beyond doubt."""
        return tuple(teacher.weights_sha256 for teacher in self.teachers)

    def observed(self, account: Account) -> Observed:
        """Rows to fit on, as this model sees them."""
        rows = account.rows
        groups = rows["group"].to_numpy(dtype=str)
        return Observed(self.members(account), targets_of(rows), shares_of(rows), groups)

    def members(self, account: Account) -> Floats:
        """Each teacher's raw probabilities (M, N, 7) of these rows."""
        return np.stack([softmax(teacher.logits_of(account.rows)) for teacher in self.teachers])

    def seen(self, account: Account) -> Mask:
        """Which rows (N,), or their copies, some teacher was trained on."""
        by_teacher = np.stack([teacher.seen(account.rows) for teacher in self.teachers])
        return np.asarray(by_teacher.any(axis=0))

    def unseen(self, account: Account) -> Account:
        """The rows that no teacher was trained on."""
        mask = account.rows["id"].isin(account.rows["id"][self.seen(account)])
        return account.without(mask, reason=TRAINED_ON)


def single(teacher: PublishedTeacher) -> Model:
    """A teacher by itself."""
    return Model(teacher.stage, teacher.name, (teacher,), Mixing((1.0,)))


def stage_models(
    teachers: Sequence[PublishedTeacher], *, weights: Mapping[str, float]
) -> list[Model]:
    """The teachers of one stage, then their fusions with the given and with searched weights."""
    given = tuple(weights[teacher.name] for teacher in teachers)
    fusions = [fusion(teachers, kind=kind, weights=given) for kind in FUSED_NAMES]
    return [*map(single, teachers), *fusions]


def fusion(teachers: Sequence[PublishedTeacher], *, kind: str, weights: Weights) -> Model:
    """The fusion of a kind, as `calibrate.fusion` names it, of these teachers."""
    mixing = {
        "fixed": Mixing(weights),
        "searched": Mixing(None),
        "fixed_logits": Mixing(weights, "logits"),
        "searched_logits": Mixing(None, "logits"),
    }[kind]
    return Model(teachers[0].stage, FUSED_NAMES[kind], tuple(teachers), mixing)

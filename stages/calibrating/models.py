"""The published teachers of a stage -> its models: each teacher, and the fusions of them all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.calibrating.calibration import Observed
from stages.calibrating.fusion import Mixing
from stages.calibrating.published import Mask, PublishedTeacher
from stages.calibrating.stage_rows import KeptRows
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
    def weights_sha256(self) -> str:
        """Hashes of the teachers' weights, joined by `+`."""
        return "+".join(teacher.weights_sha256 for teacher in self.teachers)

    def observe(self, rows: KeptRows) -> Observed:
        """Gather what a fit needs of these rows."""
        groups = rows.frame["group"].to_numpy(dtype=str)
        return Observed(self.predict(rows), targets_of(rows.frame), shares_of(rows.frame), groups)

    def predict(self, rows: KeptRows) -> Floats:
        """Return each teacher's raw probabilities (M, N, 7) of these rows."""
        return np.stack([softmax(teacher.logits_of(rows.frame)) for teacher in self.teachers])

    def seen(self, rows: KeptRows) -> Mask:
        """Mark the rows (N,) that a teacher was trained on, or on a copy of them."""
        by_teacher = np.stack([teacher.seen(rows.frame) for teacher in self.teachers])
        return np.asarray(by_teacher.any(axis=0))

    def unseen(self, rows: KeptRows) -> KeptRows:
        """Keep the rows that no teacher was trained on."""
        return rows.without(self.seen(rows), reason=TRAINED_ON)

    def without(self, member: int) -> "Model":
        """Leave one of the teachers out."""
        rest = tuple(t for number, t in enumerate(self.teachers) if number != member)
        return Model(self.stage, self.name, rest, self.mixing.without(member))


def single(teacher: PublishedTeacher) -> Model:
    """Make a model of one teacher."""
    return Model(teacher.stage, teacher.name, (teacher,), Mixing((1.0,)))


def stage_models(
    teachers: Sequence[PublishedTeacher], *, weights: Mapping[str, float]
) -> list[Model]:
    """Make the models of a stage: its teachers, then all fusions of them."""
    fixed = tuple(weights[teacher.name] for teacher in teachers)
    return [*map(single, teachers), *(fusion(teachers, kind=k, weights=fixed) for k in FUSED_NAMES)]


def fusion(teachers: Sequence[PublishedTeacher], *, kind: str, weights: tuple[float, ...]) -> Model:
    """Make the fusion of a kind, as `calibrate.fusion` names it, of these teachers."""
    space = "logits" if kind.endswith("_logits") else "probabilities"
    mixing = Mixing(weights if kind.startswith("fixed") else None, space)
    return Model(teachers[0].stage, FUSED_NAMES[kind], tuple(teachers), mixing)

"""models/<stage>/* and calibration.json -> what is exported together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.calibrating.calibration import Calibration
from stages.exporting.fitted import Fitted, FittedTeacher, read_fitted
from stages.modeling.card import TeacherCard
from stages.modeling.teacher import Teacher
from stages.modeling.weights import load_teacher
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file
from stages.scoring.metrics import Floats, softmax

ENSEMBLE = "ensemble"

# A file can say these only once, so its teachers must not differ in them.
_SHARED = (
    "stage", "classes", "image_size", "preprocess", "manifest_sha256", "training_version",
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A teacher, what is said of it, and how it is calibrated when used alone."""

    model: Teacher
    card: TeacherCard
    calibration: Calibration


@dataclass(frozen=True)
class Bundle:
    """The teachers of one stage by name, and what was fitted on exactly these weights."""

    stage: str
    fusion: str
    verdict: str
    members: dict[str, Member]
    calibration: Calibration
    calibration_sha256: str

    @property
    def weights(self) -> dict[str, float]:
        """Each teacher's weight in the ensemble."""
        return dict(zip(self.members, self.calibration.weights, strict=True))

    @property
    def cards(self) -> list[TeacherCard]:
        """What is said of each teacher."""
        return [member.card for member in self.members.values()]

    def probabilities(self, logits: Sequence[Floats]) -> Floats:
        """Calibrated probabilities (N, 7) of the ensemble from each teacher's logits (N, 7)."""
        return self.calibration.apply(np.stack([softmax(own) for own in logits])).calibrated


def read_bundle(models: Path) -> Bundle:
    """Load the teachers of the stage that calibrate chose, with all that was fitted on them.

    Raises:
        UserError: if something is missing, was calibrated with other weights (incident N5), or the
            teachers differ in what a common file says only once (incident X3).
    """
    path = models / "calibrated" / "calibration.json"
    fitted = read_fitted(path)
    members = {
        name: _member(models / fitted.stage / name, entry=entry)
        for name, entry in fitted.teachers.items()
    }
    _require_agreement([member.card for member in members.values()])
    _require_manifest([member.card for member in members.values()], fitted=fitted)
    return Bundle(
        fitted.stage, fitted.fusion, fitted.verdict, members, fitted.ensemble, sha256_file(path)
    )


def _member(folder: Path, *, entry: FittedTeacher) -> Member:
    if folder.name.lower() == ENSEMBLE:
        raise UserError(f"params.yaml: teachers.{folder.name}: this name is kept for the ensemble")
    model, card = load_teacher(folder)
    if card.weights_sha256 != entry.weights_sha256:
        raise UserError(
            f"models/calibrated/calibration.json: {folder.parent.name}.{folder.name}: fitted on "
            f"weights {entry.weights_sha256[:12]}…, got {card.weights_sha256[:12]}… in "
            f"models/{folder.parent.name}/{folder.name}; run `dvc repro calibrate`"
        )
    return Member(model, card, entry.calibration)


def _require_agreement(cards: Sequence[TeacherCard]) -> None:
    for key in _SHARED:
        found = {card.teacher: getattr(card, key) for card in cards}
        if any(value != getattr(cards[0], key) for value in found.values()):
            raise UserError(
                f"models/{cards[0].stage}: teacher.json: {key}: expected the same for all "
                f"teachers, got {found}; train them again with one recipe"
            )


def _require_manifest(cards: Sequence[TeacherCard], *, fitted: Fitted) -> None:
    if cards[0].manifest_sha256 != fitted.manifest_sha256:
        raise UserError(
            f"models/calibrated/calibration.json: manifest_sha256: expected that of the teachers, "
            f"{cards[0].manifest_sha256[:12]}…, got {fitted.manifest_sha256[:12]}…; "
            "run `dvc repro calibrate`"
        )

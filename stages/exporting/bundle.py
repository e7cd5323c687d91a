"""calibration.json and models/<stage>/* -> the models that are exported together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.calibrating.calibration import Calibration
from stages.calibrating.calibration_file import CalibrationFile, read_calibration
from stages.exporting.onnx_file import CalibratedModel
from stages.modeling.card import TeacherCard
from stages.modeling.teacher import Teacher
from stages.modeling.weights import load_teacher
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file
from stages.scoring.metrics import Floats, softmax

ENSEMBLE = "ensemble"

# A file can say these only once, so its teachers must not differ in them.
_SHARED = (
    *("stage", "classes", "image_size", "preprocess"),
    *("manifest_sha256", "training_version"),
)


@dataclass(frozen=True)
class Member:
    """A teacher, its card, and its calibration when used alone."""

    model: Teacher
    card: TeacherCard
    calibration: Calibration


@dataclass(frozen=True)
class ExportedModel:
    """A model that becomes ONNX files: a module with the cards of the teachers inside."""

    name: str
    module: CalibratedModel
    cards: Sequence[TeacherCard]
    calibration: Calibration


@dataclass(frozen=True)
class Bundle:
    """The teachers of one stage by name, and what was fitted on exactly these weights.

    `calibration` is the ensemble's; its weights go as `members`.
    """

    fitted: CalibrationFile
    members: dict[str, Member]
    calibration: Calibration
    calibration_sha256: str

    @property
    def stage(self) -> str:
        """The stage that calibrate chose."""
        return self.fitted.stage

    @property
    def weights(self) -> dict[str, float]:
        """Each teacher's weight in the ensemble."""
        return dict(zip(self.members, self.calibration.weights, strict=True))

    @property
    def cards(self) -> list[TeacherCard]:
        """The teachers' cards."""
        return [member.card for member in self.members.values()]

    def exported_models(self) -> Iterator[ExportedModel]:
        """Assemble each teacher alone, then the ensemble."""
        for name, member in self.members.items():
            module = CalibratedModel([member.model], calibration=member.calibration)
            yield ExportedModel(name, module.eval(), [member.card], member.calibration)
        teachers = [member.model for member in self.members.values()]
        module = CalibratedModel(teachers, calibration=self.calibration)
        yield ExportedModel(ENSEMBLE, module.eval(), self.cards, self.calibration)

    def probabilities(self, logits: Sequence[Floats]) -> Floats:
        """Fuse and calibrate each teacher's logits (N, 7) to probabilities (N, 7)."""
        return self.calibration.apply(np.stack([softmax(each) for each in logits])).calibrated


def read_bundle(models: Path) -> Bundle:
    """Load the teachers of the stage that calibrate chose, with all that was fitted on them.

    Raises:
        UserError: if something is missing, was calibrated with other weights (incident N5), or the
            teachers differ in what a common file says only once (incident X3).
    """
    fitted = read_calibration(models / "calibrated")
    ensemble = fitted.taken[fitted.fused_model]
    members = {}
    for name, entry in ensemble.members.items():
        alone = fitted.taken[name]
        if name.lower() == ENSEMBLE:
            raise UserError(f"params.yaml: teachers.{name}: this name is kept for the ensemble")
        model, card = load_teacher(models / fitted.stage / name)
        for weights_sha256 in (entry.weights_sha256, alone.weights_sha256):
            if card.weights_sha256 != weights_sha256:
                raise UserError(
                    f"models/calibrated/calibration.json: {fitted.stage}.{name}: fitted on weights "
                    f"{weights_sha256[:12]}…, got {card.weights_sha256[:12]}… in "
                    f"models/{fitted.stage}/{name}; run `dvc repro calibrate`"
                )
        members[name] = Member(model, card, alone.calibration)
    cards = [member.card for member in members.values()]
    for key in _SHARED:
        values = {card.teacher: getattr(card, key) for card in cards}
        if any(value != getattr(cards[0], key) for value in values.values()):
            raise UserError(
                f"models/{fitted.stage}: teacher.json: {key}: expected the same for all "
                f"teachers, got {values}; train them again with one recipe"
            )
    if cards[0].manifest_sha256 != fitted.manifest_sha256:
        raise UserError(
            f"models/calibrated/calibration.json: manifest_sha256: expected that of the teachers, "
            f"{cards[0].manifest_sha256[:12]}…, got {fitted.manifest_sha256[:12]}…; "
            "run `dvc repro calibrate`"
        )
    sha256 = sha256_file(models / "calibrated" / "calibration.json")
    return Bundle(fitted, members, ensemble.calibration, sha256)

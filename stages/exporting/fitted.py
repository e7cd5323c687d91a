"""models/calibrated/calibration.json -> what was fitted, typed. Read here and nowhere else."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.calibrating.calibration import Calibration
from stages.calibrating.fusion import Space
from stages.runtime.errors import UserError
from stages.runtime.files import read_json


@dataclass(frozen=True)
class FittedTeacher:
    """How a teacher is calibrated by itself, and which weights that was fitted on."""

    weights_sha256: str
    calibration: Calibration


@dataclass(frozen=True)
class Fitted:
    """What calibrate chose to be exported: a stage, a fusion, and all that was fitted for them.

    `verdict` says in words why this stage; the weights of `ensemble` go as `teachers`.
    """

    stage: str
    fusion: str
    verdict: str
    manifest_sha256: str
    teachers: dict[str, FittedTeacher]
    ensemble: Calibration


def read_fitted(path: Path) -> Fitted:
    """Read what was fitted for the stage and the fusion that calibration.json names.

    Raises:
        UserError: if the file is missing or lacks a part.
    """
    shown = f"models/calibrated/{path.name}"
    if not path.is_file():
        raise UserError(f"{shown}: missing; run `dvc repro calibrate`")
    found: dict[str, Any] = read_json(path)
    try:
        stage, fusion = found["stage"], found["fusion"]
        chosen = found["stages"][stage]
        fused = chosen["fused"][fusion]
        weights = tuple(float(fused["weights"][name]) for name in chosen["teachers"])
        teachers = {
            name: FittedTeacher(
                entry["weights_sha256"],
                _calibration(entry, weights=(1.0,), space="probabilities"),
            )
            for name, entry in chosen["teachers"].items()
        }
        ensemble = _calibration(fused, weights=weights, space=fused["space"])
        return Fitted(stage, fusion, found["verdict"], found["manifest_sha256"], teachers, ensemble)
    except KeyError as error:
        raise UserError(f"{shown}: {error} is missing; run `dvc repro calibrate`") from None


def _calibration(
    entry: Mapping[str, Any], *, weights: tuple[float, ...], space: Space
) -> Calibration:
    return Calibration(
        weights=weights,
        temperature=entry["temperature"],
        space=space,
        class_bias=tuple(entry["class_bias"]),
        votes_temperature=entry["votes_temperature"],
        temperature_no_fit=entry["temperature_no_fit"],
        votes_temperature_no_fit=entry["votes_temperature_no_fit"],
    )

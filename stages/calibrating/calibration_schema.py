"""What models/calibrated/calibration.json must have, to the last key."""

from typing import Annotated, Any, Literal

from pydantic import Field

from stages.calibrating.block_schema import (
    Bias,
    Interval,
    Positive,
    Promise,
    Rows,
    Sha256,
    Share,
    Stage,
)


class Fitted(Promise):
    """The calibration of a model; a temperature that is no fit is 1 and says why."""

    temperature: Positive
    temperature_95: Interval | None
    temperature_no_fit: str | None
    class_bias: Bias
    votes_temperature: Positive | None
    votes_temperature_no_fit: str | None
    fitted_rows: Rows


class FittedTeacher(Fitted):
    """Of a teacher."""

    weights_sha256: Sha256


class FittedFusion(Fitted):
    """Of a fusion."""

    weights: dict[str, Share]
    space: Literal["probabilities", "logits"]


class StageCalibration(Promise):
    """Of all models of a stage."""

    teachers: Annotated[dict[str, FittedTeacher], Field(min_length=1)]
    fused: Annotated[dict[str, FittedFusion], Field(min_length=1)]


class StagesCalibration(Promise):
    """Of both stages."""

    stage_a: StageCalibration = Field(alias="stageA")
    stage_b: StageCalibration = Field(alias="stageB")


class CalibrationFile(Promise):
    """The whole of calibration.json."""

    stage: Stage
    stage_asked: Literal["stageA", "stageB", "auto"]
    verdict: Annotated[str, Field(min_length=1)]
    fusion: str
    classes: Annotated[list[str], Field(min_length=7, max_length=7)]
    manifest_sha256: Sha256
    fitted_on: Literal["val"]
    n: Rows
    order: str
    temperature_range: Interval
    stages: StagesCalibration


def check_calibration(found: Any) -> None:
    """Refuse a calibration in which anything promised is missing, or that holds anything else.

    Raises:
        ValueError: naming each key.
    """
    CalibrationFile.model_validate(found)

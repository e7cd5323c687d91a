"""teacher.json: what a published teacher is, what it was trained on, and how to use it.

One pydantic model, written by training and read by everything that follows. No torch is imported.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.config import BackboneOption, Filter, Preprocess
from stages.runtime.errors import UserError
from stages.runtime.files import read_json

CARD_FILE = "teacher.json"


class StartedFrom(BaseModel):
    """A published teacher whose weights a run started from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    stage: str
    weights_sha256: str


class TeacherCard(BaseModel):
    """The card of the weights beside it.

    `preprocess` is the params section as JSON has it; `metric` says what was measured on what;
    `filter` is the stage's row filter as trained, `targets` what it learnt of each row.
    `started_from` is None if the run started from weights of the backbone alone (ImageNet or a
    file) or from random numbers. `prior_correction` takes training's correction of the class prior
    back: the logits speak for evened-out classes, the logits plus these seven numbers for the
    classes as frequent as in the training rows. `mirror_averaged`: logits are the mean of those of
    the face and of its mirror image; a card that does not say so is of a teacher that sees one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    teacher: str
    stage: str
    backbone: str
    # Left out where there are none, as in cards of earlier versions; so is `mirror_averaged`.
    backbone_options: Annotated[
        dict[str, BackboneOption], Field(default={}, exclude_if=lambda options: not options)
    ]
    embedding_size: int
    dropout: float
    scale: float
    classes: tuple[str, ...]
    image_size: int
    preprocess: dict[str, Any]
    targets: Literal["majority", "votes"]
    filter: Filter
    started_from: StartedFrom | None
    prior_correction: Annotated[tuple[float, ...], Field(min_length=7, max_length=7)]
    epoch: int
    metric: dict[str, Any]
    fingerprint: str
    manifest_sha256: str
    training_version: int
    weights_sha256: str
    mirror_averaged: Annotated[bool, Field(default=False, exclude_if=lambda holds: not holds)]

    @property
    def preprocess_params(self) -> Preprocess:
        """Return `preprocess` as the params section that it was."""
        return Preprocess.model_validate_json(json.dumps(self.preprocess))


def read_card(folder: Path) -> TeacherCard:
    """Read teacher.json of a published teacher.

    Raises:
        UserError: if it is missing or unreadable, or has other fields or impossible values.
    """
    path = folder / CARD_FILE
    # The end of the path: it names the teacher and no place on a machine.
    shown = "/".join(path.parts[-3:])
    if not path.is_file():
        raise UserError(f"{shown}: missing; run the training stage that publishes it")
    try:
        values = read_json(path)
    except ValueError as error:  # not JSON, or not even text
        raise UserError(f"{shown}: not readable JSON: {error}") from None
    fields = set(values) if isinstance(values, dict) else set()
    known = TeacherCard.model_fields
    needed = {name for name, field in known.items() if field.is_required()}
    if differing := sorted((needed - fields) | (fields - known.keys())):
        raise UserError(
            f"{shown}: fields missing or unknown: {differing}; run the training stage again, "
            "which publishes it anew"
        )
    try:
        return TeacherCard.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}, got {problem['input']!r}"
            for problem in error.errors()
        ]
        raise UserError(f"{shown}: {'; '.join(problems)}") from None

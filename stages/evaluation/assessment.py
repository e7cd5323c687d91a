"""Published teachers and the manifest -> what each model is fitted to and what it says where.

A model is a teacher or a fusion of the teachers of one stage. Temperature and weights are fitted
on val only; what they are reported on is test rows, val rows of other folds, or gate rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.config import Calibrate
from stages.evaluation.blocks import Evidence
from stages.evaluation.calibration import (
    Calibration,
    WeightRule,
    assign_folds,
    crossfit,
    fit,
    fixed,
)
from stages.evaluation.fusion import search_weights
from stages.evaluation.metrics import Floats, softmax
from stages.evaluation.published import Manifest, Mask, PublishedTeacher
from stages.records.folder import MANIFEST_FILE
from stages.records.schema import targets_of
from stages.runtime.errors import UserError
from stages.runtime.seed import generator

# `calibrate.fusion` -> the name of the model.
FUSED_NAMES = {"fixed": "fused_fixed", "searched": "fused_searched"}


@dataclass(frozen=True)
class Model:
    """One or several teachers of a stage, and how their weights in the mixture are found."""

    stage: str
    name: str
    teachers: tuple[PublishedTeacher, ...]
    rule: WeightRule

    def members(self, rows: pd.DataFrame) -> list[Floats]:
        """Each teacher's raw probabilities (N, 7) of these rows."""
        return [softmax(teacher.logits_of(rows)) for teacher in self.teachers]

    def seen(self, rows: pd.DataFrame) -> Mask:
        """Which rows (N,) some teacher was trained on."""
        by_teacher = np.stack([teacher.seen(rows) for teacher in self.teachers])
        return np.asarray(by_teacher.any(axis=0))


@dataclass(frozen=True)
class Gate:
    """Evidence on the rows of a gate view that had no part in training or fitting."""

    evidence: Evidence
    seen: int
    in_val: int


@dataclass(frozen=True)
class Assessment:
    """A model, what was fitted on all val rows, and the evidence in domain and at each gate."""

    model: Model
    calibration: Calibration
    fitted_rows: int
    in_domain: Evidence
    gates: dict[str, Gate]


def single(teacher: PublishedTeacher) -> Model:
    """A teacher by itself."""
    return Model(teacher.stage, teacher.name, (teacher,), fixed(1.0))


def stage_models(
    teachers: Sequence[PublishedTeacher], *, weights: Mapping[str, float]
) -> list[Model]:
    """The teachers of one stage, then their fusions with the given and with searched weights."""
    stage, members = teachers[0].stage, tuple(teachers)
    given = fixed(*(weights[teacher.name] for teacher in teachers))
    return [
        *map(single, teachers),
        Model(stage, FUSED_NAMES["fixed"], members, given),
        Model(stage, FUSED_NAMES["searched"], members, search_weights),
    ]


def assess(model: Model, *, manifest: Manifest, settings: Calibrate, seed: int) -> Assessment:
    """Fit the model on val and gather what it says of the rows it is reported on.

    Raises:
        UserError: if the manifest lacks the rows, or a temperature touches a bound.
    """
    val = _rows(manifest, "val")
    name = f"models/{model.stage}: {model.name} on val"
    fitted = fit(model.members(val), targets_of(val), rule=model.rule, name=name)
    if settings.report == "val_crossfit":
        in_domain = _crossfitted(model, val, settings=settings, seed=seed, name=name)
    else:
        test = _rows(manifest, "test")
        in_domain = Evidence(test, fitted.apply(model.members(test)), "val", "test")
    gates = {
        gate: _at_gate(model, rows, fitted=fitted, name=gate)
        for gate, rows in manifest.gates.items()
    }
    return Assessment(model, fitted, len(val), in_domain, gates)


def _rows(manifest: Manifest, split: str) -> pd.DataFrame:
    rows = manifest.split(split)
    if rows.empty:
        remedy = "set calibrate.report: val_crossfit or " if split == "test" else ""
        raise UserError(
            f"params.yaml: calibrate.report: needs {split} rows, manifests/{MANIFEST_FILE} has "
            f"none; {remedy}give the manifest a {split} split (manifest.{split}_share)"
        )
    return rows


def _crossfitted(
    model: Model, val: pd.DataFrame, *, settings: Calibrate, seed: int, name: str
) -> Evidence:
    folds = settings.folds
    fold = assign_folds(
        val["group"].tolist(), folds=folds, random=generator(seed, "calibrate", "folds")
    )
    pair = crossfit(model.members(val), targets_of(val), fold=fold, rule=model.rule, name=name)
    return Evidence(val, pair, f"val, other {folds - 1} of {folds} folds", "val")


def _at_gate(model: Model, rows: pd.DataFrame, *, fitted: Calibration, name: str) -> Gate:
    seen = model.seen(rows)
    in_val = ~seen & (rows["split"] == "val").to_numpy()
    left = rows[~seen & ~in_val]
    # Without a row there is nothing to mix; the block says n = 0 and how many were left out.
    pair = fitted.apply(model.members(left))
    return Gate(Evidence(left, pair, "val", name), seen=int(seen.sum()), in_val=int(in_val.sum()))

"""Assessments -> the JSON of `models/calibrated/calibration.json` and `metrics/teachers.json`."""

import logging
from collections.abc import Sequence

from stages.config import Calibrate
from stages.evaluation.assessment import FUSED_NAMES, Assessment, Gate, Model
from stages.evaluation.blocks import Block, Evidence, block, rounded
from stages.evaluation.bootstrap import Resamples, resample
from stages.evaluation.comparison import compare, same_rows
from stages.evaluation.published import STAGES, Manifest
from stages.evaluation.temperature import HIGHEST, LOWEST
from stages.runtime.seed import generator
from stages.sources.labels import CLASSES

logger = logging.getLogger(__name__)


def calibration_json(
    assessments: Sequence[Assessment], *, manifest: Manifest, settings: Calibrate
) -> Block:
    """All that export needs: temperatures of teachers and fusions per stage, weights and hashes."""
    return {
        "stage": settings.stage,
        "fusion": settings.fusion,
        "classes": list(CLASSES),
        "manifest_sha256": manifest.sha256,
        "fitted_on": "val",
        "n": assessments[0].fitted_rows,
        "order": "fuse the raw probabilities, then scale",
        "temperature_range": [LOWEST, HIGHEST],
        "stages": {stage: _stage_calibration(assessments, stage=stage) for stage in STAGES},
    }


def teachers_json(
    assessments: Sequence[Assessment], *, manifest: Manifest, settings: Calibrate, seed: int
) -> Block:
    """Every number, `<stage>.<model>.<split>.<metric>`, and Stage B against Stage A."""
    found: Block = {stage: {} for stage in STAGES}
    for one in assessments:
        found[one.model.stage][one.model.name] = model_json(one, settings=settings, seed=seed)
    first, second = STAGES
    found[f"{second}_vs_{first}"] = stages_json(assessments, settings=settings, seed=seed)
    found["provenance"] = [
        {
            "manifest_sha256": manifest.sha256,
            "labels": "column `label` of the manifest",
            "intervals": "nominal 95 %, bootstrap by group",
            "bins": settings.bins,
            "bootstrap_samples": settings.bootstrap_samples,
        }
    ]
    rounded_metrics: Block = rounded(found)
    return rounded_metrics


def model_json(one: Assessment, *, settings: Calibrate, seed: int) -> Block:
    """One model: temperature, the block of its in-domain rows and one per gate, its weights."""
    return {
        "temperature": one.calibration.temperature,
        one.in_domain.reported_on: block(
            one.in_domain, resamples=_draws(one.in_domain, settings, seed), bins=settings.bins
        ),
        "gates": {
            name: _gate_json(gate, model=one.model, settings=settings, seed=seed)
            for name, gate in one.gates.items()
        },
        "members": _members(one),
    }


def stages_json(assessments: Sequence[Assessment], *, settings: Calibrate, seed: int) -> Block:
    """The second stage minus the first for each model, on the same rows."""
    by_name = {(one.model.stage, one.model.name): one for one in assessments}
    pairs = {
        one.model.name: (one, by_name[STAGES[1], one.model.name])
        for one in assessments
        if one.model.stage == STAGES[0]
    }
    return {
        name: _pair_json(first, second, settings=settings, seed=seed)
        for name, (first, second) in pairs.items()
    }


def _pair_json(first: Assessment, second: Assessment, *, settings: Calibrate, seed: int) -> Block:
    return {
        first.in_domain.reported_on: _compared(
            first.in_domain, second.in_domain, settings=settings, seed=seed
        ),
        "gates": {
            name: _compared(
                gate.evidence, second.gates[name].evidence, settings=settings, seed=seed
            )
            for name, gate in first.gates.items()
        },
    }


def _compared(first: Evidence, second: Evidence, *, settings: Calibrate, seed: int) -> Block:
    first, second = same_rows(first, second)
    if first.rows.empty:
        return {"n": 0}
    return compare(first, second, resamples=_draws(first, settings, seed), bins=settings.bins)


def _gate_json(gate: Gate, *, model: Model, settings: Calibrate, seed: int) -> Block:
    left_out = [
        {"reason": "the row or a copy of it was trained on", "rows": gate.seen},
        {"reason": "in val, where the temperature was fitted", "rows": gate.in_val},
    ]
    if gate.evidence.rows.empty:
        logger.warning(
            "gate %s: %s %s: no row is left to report on (%d trained on, %d in val)",
            gate.evidence.reported_on, model.stage, model.name, gate.seen, gate.in_val,
        )  # fmt: skip
        return {"n": 0, "left_out": left_out}
    draws = _draws(gate.evidence, settings, seed)
    return block(gate.evidence, resamples=draws, bins=settings.bins) | {"left_out": left_out}


def _draws(evidence: Evidence, settings: Calibrate, seed: int) -> Resamples:
    """The same rows always get the same draws: that is what pairs two models."""
    groups = evidence.rows["group"].tolist()
    random = generator(seed, "calibrate", "bootstrap")
    return resample(groups, samples=settings.bootstrap_samples, random=random)


def _members(one: Assessment) -> list[Block]:
    return [
        {"teacher": teacher.name, "weight": weight, "weights_sha256": teacher.weights_sha256}
        for teacher, weight in zip(one.model.teachers, one.calibration.weights, strict=True)
    ]


def _stage_calibration(assessments: Sequence[Assessment], *, stage: str) -> Block:
    own = {one.model.name: one for one in assessments if one.model.stage == stage}
    fused = {fusion: own.pop(name) for fusion, name in FUSED_NAMES.items()}
    return {
        "teachers": {
            name: {
                "temperature": one.calibration.temperature,
                "weights_sha256": one.model.teachers[0].weights_sha256,
            }
            for name, one in own.items()
        },
        "fused": {
            fusion: {
                "weights": {entry["teacher"]: entry["weight"] for entry in _members(one)},
                "temperature": one.calibration.temperature,
            }
            for fusion, one in fused.items()
        },
    }

"""A study -> the JSON of `models/calibrated/calibration.json` and `metrics/teachers.json`."""

import logging
from collections.abc import Sequence
from dataclasses import asdict

from stages.calibrating.assessment import Assessment
from stages.calibrating.blocks import Block, block, held_out_row, rounded, votes_block
from stages.calibrating.calibration_schema import check_calibration
from stages.calibrating.model import FUSED_NAMES
from stages.calibrating.protocol import Protocol
from stages.calibrating.published import STAGES
from stages.calibrating.schema import check_metrics
from stages.calibrating.study import Study
from stages.config import CLASSES, Calibrate
from stages.scoring.temperature import HIGHEST, LOWEST

logger = logging.getLogger(__name__)


def calibration_json(found: Study, *, settings: Calibrate) -> Block:
    """All that export needs: the stage that was taken, and what was fitted, with hashes."""
    taken = [one for one in found.assessments if one.model.stage == found.verdict.stage]
    calibration = {
        "stage": found.verdict.stage,
        "stage_asked": settings.stage,
        "verdict": found.verdict.says,
        "fusion": settings.fusion,
        "classes": list(CLASSES),
        "manifest_sha256": found.manifest.sha256,
        "fitted_on": "val",
        "n": len(taken[0].val.rows),
        "order": "fuse in `space`, then softmax(log(fused) / temperature + class_bias)",
        "temperature_range": [LOWEST, HIGHEST],
        "stages": {stage: _stage_calibration(found.assessments, stage=stage) for stage in STAGES},
    }
    check_calibration(calibration)
    return calibration


def metrics_json(found: Study, *, settings: Calibrate) -> Block:
    """Every number, `<stage>.<model>.<split>.<metric>`, Stage B against Stage A, the verdict."""
    first, second = STAGES
    metrics: Block = {stage: {} for stage in STAGES}
    _warn_of_gates(found)
    for one in found.assessments:
        added = found.contributions[one.model.stage, one.model.name]
        numbers = model_json(one, contributions=added, protocol=found.protocol)
        metrics[one.model.stage][one.model.name] = numbers
    metrics[f"{second}_vs_{first}"] = dict(found.compared)
    metrics["verdict"] = [
        {
            "stage": found.verdict.stage,
            "asked": settings.stage,
            "gain_is_real": found.verdict.gain_is_real,
            "model": found.fused,
            "says": found.verdict.says,
        }
    ]
    metrics["provenance"] = [
        {
            "manifest_sha256": found.manifest.sha256,
            "label_rules": {
                "majority": "column `label` of the manifest",
                "votes": "columns p_angry ... p_neutral of the manifest",
            },
            "intervals": "nominal 95 %, bootstrap by group",
            "bins": found.protocol.bins,
            "bootstrap_samples": found.protocol.bootstrap_samples,
        }
    ]
    result: Block = rounded(metrics)
    check_metrics(result, report="test" if found.protocol.report == "test" else "val")
    return result


def model_json(one: Assessment, *, contributions: Sequence[Block], protocol: Protocol) -> Block:
    """One model: temperature, the block of its in-domain rows and one per gate, its weights.

    What is reported on test has a short block of val by folds too: models are chosen by that.
    """
    votes = votes_block(one.in_domain, protocol=protocol)
    in_domain = {one.in_domain.reported_on: block(one.reported, protocol=protocol)}
    if protocol.report == "test":
        in_domain["val"] = held_out_row(one.by_folds, protocol=protocol)
    return {"temperature": one.calibration.temperature} | in_domain | {
        "votes": votes,
        "gates": {name: _gate_block(one, name, protocol=protocol) for name in one.gates},
        "fit": [fit_row(one)],
        "members": _members(one),
        "leave_one_out": list(contributions),
    }  # fmt: skip


def fit_row(one: Assessment) -> Block:
    """What was fitted on val, and on how many rows."""
    calibration, intervals = one.calibration, one.intervals
    return {
        "fitted_on": "val",
        "n": len(one.val.rows),
        "left_out": [{"reason": why, "rows": rows} for why, rows in one.val.left_out.items()],
        "temperature": calibration.temperature,
        "temperature_95": intervals.majority,
        "temperature_no_fit": calibration.temperature_no_fit,
        "votes_temperature": calibration.votes_temperature,
        "votes_temperature_95": intervals.votes,
        "votes_temperature_no_fit": calibration.votes_temperature_no_fit,
        "votes_n": one.votes_n,
        "class_bias": list(calibration.class_bias),
        "refinement": asdict(one.refinement),
    }


def _gate_block(one: Assessment, name: str, *, protocol: Protocol) -> Block:
    found = block(one.gates[name], protocol=protocol)
    return {"n": found.pop("n"), "in_domain": one.in_domain_at(name)} | found


def _warn_of_gates(found: Study) -> None:
    """Say which gates of the models that are drawn have no row, or rows that are no other data."""
    for one in found.shown:
        for name, gate in one.gates.items():
            n, in_domain = len(gate.evidence.rows), one.in_domain_at(name)
            place = f"gate {name}: {one.model.stage} {one.model.name}"
            if not n:
                left_out = ", ".join(f"{rows} {why}" for why, rows in gate.left_out.items())
                logger.warning("%s: no row is left to report on (%s)", place, left_out)
            elif in_domain:
                logger.warning(
                    "%s: the stage's filter admits %d of %d rows: they are no other data",
                    place, in_domain, n,
                )  # fmt: skip


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
            name: _fitted(one) | {"weights_sha256": one.model.teachers[0].weights_sha256}
            for name, one in own.items()
        },
        "fused": {fusion: _fused(one) for fusion, one in fused.items()},
    }


def _fused(one: Assessment) -> Block:
    weights = {entry["teacher"]: entry["weight"] for entry in _members(one)}
    return _fitted(one) | {"weights": weights, "space": one.calibration.space}


def _fitted(one: Assessment) -> Block:
    return {
        "temperature": one.calibration.temperature,
        "temperature_95": one.intervals.majority,
        "temperature_no_fit": one.calibration.temperature_no_fit,
        "class_bias": list(one.calibration.class_bias),
        "votes_temperature": one.calibration.votes_temperature,
        "votes_temperature_no_fit": one.calibration.votes_temperature_no_fit,
        "fitted_rows": len(one.val.rows),
    }

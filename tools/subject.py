"""A published teacher or an exported file, and rows of any manifest -> the JSON of its numbers."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.calibrating.assessment import Assessment, assess
from stages.calibrating.blocks import Block, Evidence, Reported, block, rounded, votes_block
from stages.calibrating.calibration import Calibration, no_fits
from stages.calibrating.model import TRAINED_ON, single
from stages.calibrating.past import find_past
from stages.calibrating.protocol import Protocol
from stages.calibrating.published import Manifest, read_teacher
from stages.calibrating.report import fit_row, model_json
from stages.calibrating.schema import check_numbers_of_rows, check_own_numbers
from stages.calibrating.study import lineage, rows_of
from stages.computing.device import choose_device, choose_dtype
from stages.config import Machine, Preprocess
from stages.loading.loader import EvalLoader, choose_workers
from stages.modeling.predict import predict
from stages.modeling.weights import load_teacher
from stages.scoring.metrics import softmax
from tools.onnx_model import predict_onnx, read_onnx
from tools.rows_file import faces_of, read_rows

IN_VAL = "the row or a copy of it is in val, which chose or calibrated the weights"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where the project's things are, on what machine, and how numbers are made.

    `init_from` names the stage whose weights each stage started from, if any.
    """

    manifest: Manifest
    models: Path
    standardized: Path
    machine: Machine
    protocol: Protocol
    init_from: Mapping[str, str | None]

    def faces(self, rows: pd.DataFrame, *, image_size: int, preprocess: Preprocess) -> EvalLoader:
        """The faces of the rows as a model wants them."""
        device = choose_device(self.machine.device)
        return faces_of(
            rows,
            standardized=self.standardized,
            image_size=image_size,
            preprocess=preprocess,
            workers=choose_workers(self.machine.workers, device=device),
            device=device,
        )


def own_numbers(folder: Path, *, place: Place) -> Block:
    """The numbers of a published teacher as calibrate writes them, from its saved logits."""
    one = _assessed(folder, place=place)
    teacher = one.model.teachers[0]
    found = model_json(one, contributions=(), protocol=place.protocol)
    numbers = _head(teacher.stage, teacher.name, place=place) | _rounded(found)
    check_own_numbers(numbers)
    return numbers


def teacher_numbers(folder: Path, rows_file: Path, *, place: Place) -> Block:
    """The numbers of a published teacher, calibrated on its own val, on the rows of a file."""
    one, rows = _assessed(folder, place=place), read_rows(rows_file)
    model, card = load_teacher(folder)
    preprocess = Preprocess.model_validate_json(json.dumps(card.preprocess))
    device = choose_device(place.machine.device)
    dtype = choose_dtype(place.machine.precision, device)
    batches = place.faces(rows, image_size=card.image_size, preprocess=preprocess)
    logits = predict(model.to(device), batches, finish=batches.finish, device=device, dtype=dtype)
    pair = one.calibration.apply(softmax(logits)[None])
    fitted_on = f"val{no_fits([one.calibration])}"
    evidence = Evidence(rows, pair, fitted_on, rows_file.stem, one.model.weights_sha256)
    found: Block = {"temperature": one.calibration.temperature, "fit": [fit_row(one)]}
    found |= _numbers(evidence, place=place)
    numbers = _head(card.stage, card.teacher, place=place) | _rounded(found)
    check_numbers_of_rows(numbers)
    return numbers


def onnx_numbers(path: Path, rows_file: Path, *, place: Place) -> Block:
    """The numbers of an exported file, with the calibration that it carries, on rows of a file."""
    model, rows = read_onnx(path), read_rows(rows_file)
    batches = place.faces(rows, image_size=model.image_size, preprocess=model.preprocess)
    finished = (batches.finish(batch)["image"].cpu().numpy() for batch in batches)
    pair = predict_onnx(model, ({"image": images} for images in finished))
    carried = Calibration(
        weights=tuple(model.metadata["weights"].values()),
        temperature=float(model.metadata["temperature"]),
        temperature_no_fit=model.metadata.get("temperature_no_fit"),
    )
    fitted_on = f"val ({path.name}){no_fits([carried])}"
    evidence = Evidence(rows, pair, fitted_on, rows_file.stem, model.weights_sha256)
    found: Block = {"temperature": carried.temperature, "fit": []}
    found |= _numbers(evidence, place=place)
    head = _head(model.metadata["stage"], path.stem, place=place) | {"file": [model.about()]}
    numbers = head | _rounded(found)
    check_numbers_of_rows(numbers)
    return numbers


def _assessed(folder: Path, *, place: Place) -> Assessment:
    teacher = read_teacher(folder, manifest=place.manifest)
    earlier = [
        [read_teacher(folder.parent.parent / stage / folder.name, manifest=place.manifest)]
        for stage in lineage(teacher.stage, init_from=place.init_from)
    ]
    rows = rows_of([teacher], manifest=place.manifest, earlier=earlier)
    return assess(single(teacher), rows=rows, protocol=place.protocol)


def _numbers(whole: Evidence, *, place: Place) -> Block:
    past = find_past(whole.weights_sha256, models=place.models, manifest=place.manifest)
    trained = past.trained.among(whole.rows)
    chosen_by = past.val.among(whole.rows) & ~trained
    evidence = whole.only(~trained & ~chosen_by)
    left_out = {TRAINED_ON: int(trained.sum()), IN_VAL: int(chosen_by.sum())}
    if past.unknown:
        left_out = {}
        logger.warning("%s: rows trained on: unknown: %s", whole.reported_on, past.unknown)
    return {
        "rows": block(Reported(evidence, whole, left_out), protocol=place.protocol),
        "votes": votes_block(evidence, protocol=place.protocol),
        "gates": {},
        "trained_on": [
            {
                "rows": len(trained),
                "trained_on": None if past.unknown else int(trained.sum()),
                "unknown": past.unknown,
            }
        ],
    }


def _head(stage: str, name: str, *, place: Place) -> Block:
    return {"stage": stage, "teacher": name, "manifest_sha256": place.manifest.sha256}


def _rounded(found: Block) -> Block:
    result: Block = rounded(found)
    return result

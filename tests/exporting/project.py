"""A project up to and including calibrate: two tiny teachers, 60 drawn faces, several a photo."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
import yaml
from small_faces import small_face, write_faces

from stages.config import CLASSES, Filter, Preprocess
from stages.faces.decode import decode, encode_png
from stages.faces.model_input import to_model_input
from stages.faces.shards import Face
from stages.records.schema import COLUMNS, SHARE_COLUMNS, write_manifest
from stages.runtime.files import sha256_file, write_json
from tests.exporting.tiny import (
    BACKBONES,
    SIZE,
    make_card,
    make_teacher,
    save_tiny_teacher,
    write_calibration,
)

ROOT = Path(__file__).parents[2]
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece")


def make_project(root: Path) -> None:
    """Everything that the export door reads; 37 of the 40 train rows are in the view."""
    write_params(root)
    faces = [draw_face(number) for number in reversed(range(60))]
    faces = [*relabelled(faces[:20]), *faces[20:]]
    write_faces(root / "standardized" / "expw_hq", faces)
    rows = manifest_of(faces)
    manifest_sha256 = write_manifests(root / "manifests", rows)
    cards = {
        name: save_tiny_teacher(root / "models", name, seed=seed, manifest_sha256=manifest_sha256)
        for seed, name in enumerate(BACKBONES)
    }
    for stage in ("stageA", "stageB"):
        for name in BACKBONES:
            write_training_report(root / "models" / stage / name, rows)
    write_calibration(root / "models", cards)
    weights = {name: card.weights_sha256 for name, card in cards.items()}
    write_json(root / "metrics" / "teachers.json", {"stageB": teachers_metrics(weights)})


def write_params(root: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    params["export"] |= {
        "parity_rows": 12,
        "parity_tolerance": 1e-4,
        "soft_labels_view": "hq_train",
        "max_accuracy_loss": 0.5,
    }
    params["machine"] = {"device": "cpu", "workers": 0}
    for stage in ("stageA", "stageB"):
        params[stage] |= {"learning_rate": 0.001, "min_lr": 0.00001}
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def draw_face(number: int) -> Face:
    """A face whose pattern goes with its class, and its size with nothing."""
    rng = np.random.default_rng(number)
    height, width = (int(n) for n in rng.integers(20, 60, 2))
    pixels = cv2.blur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (5, 5))
    pixels[:, number % 7 * width // 7 : (number % 7 + 1) * width // 7] //= 2
    photo = f"expw_hq/photo{number // 4:02d}"
    return small_face(
        f"{photo}#{number % 4}",
        image=encode_png(pixels),
        width=width,
        height=height,
        native_px=min(height, width),
        label=CLASSES[number % 7],
        photo=photo,
        crop="box",
    )


def relabelled(faces: list[Face]) -> list[Face]:
    """The faces with labels that RN18 is right about, so that a loss is no matter of chance."""
    how = Preprocess.model_validate_json(json.dumps(make_card().preprocess))
    batch = [to_model_input(decode(face.image), size=SIZE, preprocess=how) for face in faces]
    with torch.inference_mode():
        found = make_teacher("RN18", seed=0)(torch.from_numpy(np.stack(batch))).argmax(dim=1)
    return [replace(face, label=CLASSES[k]) for face, k in zip(faces, found.tolist(), strict=True)]


def manifest_of(faces: list[Face]) -> pd.DataFrame:
    """The first ten photos are train, the others test."""
    frame = pd.DataFrame([{column: getattr(f, column, None) for column in COLUMNS} for f in faces])
    frame = frame.sort_values("id", ignore_index=True)
    frame = frame.assign(source="expw_hq", group=lambda f: f["photo"], twin_splits="")
    frame["split"] = ["train"] * 40 + ["test"] * 20
    frame = frame.assign(official=frame["split"]).astype({"official": "str"})
    frame[[*SHARE_COLUMNS, "confidence"]] = np.nan
    return frame[list(COLUMNS)]


def write_manifests(folder: Path, rows: pd.DataFrame) -> str:
    """The manifest and the view of soft labels; the manifest's SHA-256."""
    files = {"classification_manifest.csv": rows, "hq_train.csv": rows.iloc[:37]}
    entries = {
        name: {"sha256": write_manifest(folder / name, part), "rows": len(part), "gate": False}
        for name, part in files.items()
    }
    write_json(folder / "index.json", {"source_groups": {}, "files": entries})
    return sha256_file(folder / "classification_manifest.csv")


def write_training_report(folder: Path, rows: pd.DataFrame) -> None:
    """What training leaves of its rows: which were trained on, and one test row by accident."""
    counts = {"before": {"rows": 40, "by_source": {"expw_hq": 40}}}
    counts["after"] = {"rows": 30, "by_source": {"expw_hq": 30}}
    chosen = Filter(max_per_class=1).model_dump(mode="json")
    write_json(folder / "alignmentreport.json", {"filter": chosen, "train": counts})
    scored = rows[rows["split"] == "test"]["id"]
    seen = scored == scored.iloc[0]
    pd.DataFrame({"id": scored, "seen": seen}).to_parquet(folder / "logits.parquet")


def teachers_metrics(weights: dict[str, str]) -> dict[str, Any]:
    """metrics/teachers.json of one stage, in the form that the calibrate door writes."""
    models = {name: [digest] for name, digest in weights.items()}
    models |= {"fused_fixed": list(weights.values()), "fused_fixed_logits": list(weights.values())}
    return {name: model_metrics(digests) for name, digests in models.items()}


def model_metrics(weights: list[str]) -> dict[str, Any]:
    about = {"weights_sha256": weights, "label_rule": "majority", "fitted_on": "val"}
    empty = {"n": 0, "about": [about | {"reported_on": "votes", "n": 0}], "left_out": []}
    fit = {
        "fitted_on": "val", "n": 30, "left_out": [], "temperature": 1.6,
        "temperature_95": [1.5, 1.7], "temperature_no_fit": None, "votes_temperature": None,
        "votes_temperature_95": None, "votes_temperature_no_fit": None, "votes_n": 0, "class_bias": [0.0] * 7,
        "refinement": {
            "adopted": False, "reason": "no gain", "n": 30,
            "nll_change": None, "nll_change_95": None, "accuracy_change": None,
            "accuracy_change_95": None, "macro_f1_change": None, "macro_f1_change_95": None,
        },
    }  # fmt: skip
    return {
        "temperature": 1.6,
        "test": block(about | {"reported_on": "test"}, n=290),
        "val": {"n": 0, "about": [about | {"reported_on": "val", "n": 0}], "left_out": []},
        "votes": empty,
        "gates": {
            "expw_lq_gate": block(about | {"reported_on": "expw_lq_gate"}, n=77) | {"in_domain": 0}
        },
        "fit": [fit],
        "members": [{"teacher": "RN18", "weight": 1.0, "weights_sha256": weights[0]}],
        "leave_one_out": [],
    }


def block(about: dict[str, Any], *, n: int) -> dict[str, Any]:
    row = score_row(n)
    return {
        "n": n, "classes": 7, "accuracy": 0.5, "macro_f1": 0.5, "nll": 0.5, "nll_raw": 0.5, "ece": 0.5,
        "ece_floor": 0.3, "about": [about | {"n": n}], "left_out": [],
        "scores": [{"probabilities": name} | row for name in ("raw", "scaled")],
        "per_class": [
            {"class": name, "n": 40 - k, "f1": 0.5, "f1_95": [0.4, 0.6]}
            for k, name in enumerate(CLASSES)
        ],
        "per_source": [{"source": "expw_hq", "classes": 7} | row],
        "per_native_px": [{"native_px": "below 48", "classes": 7} | row],
        "row_sets": [{"rows": "all", "classes": 7} | row],
    }  # fmt: skip


def score_row(n: int) -> dict[str, Any]:
    values: dict[str, Any] = {"n": n}
    for k, metric in enumerate(METRICS):
        value = 0.5 + k / 100
        values |= {metric: value, f"{metric}_95": [value - 0.125, value + 0.125]}
    return values | {"ece_floor": 0.3, "ece_floor_95": 0.4}


def set_params(root: Path, section: str, **changes: Any) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text("utf-8"))
    params[section] |= changes
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def assert_nothing_published(root: Path) -> None:
    """Only the older result that `copy_before_export` put there is in place."""
    assert [path.name for path in (root / "models" / "export").iterdir()] == ["old.txt"]
    assert sorted(path.name for path in (root / "models").iterdir()) == [
        "calibrated", "export", "stageA", "stageB",
    ]  # fmt: skip
    assert not (root / "metrics" / "export.json").exists()


def copy_before_export(project: Path, root: Path) -> None:
    """A copy of the project at `root`, with an older result in place."""
    shutil.copytree(project, root)
    old = root / "models" / "export" / "old.txt"
    old.parent.mkdir()
    old.write_text("old")

"""A finished run as the report finds it: a synthetic project that calibrate has run in.

What the manifest and export stages would say of it is written here by hand.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from small_faces import small_face, write_faces

from stages import calibrate
from stages.config import CLASSES
from stages.exporting.schema import check_export_metrics
from stages.faces.decode import encode_png
from stages.records.schema import read_manifest
from tests.calibrating.run_folder import build_run_folder

ROWS_PER_SPLIT = 80
WARNING = "fewer than 30 rows of a class: <Disgust> & 8"


def make_finished(root: Path, *, views: dict[str, Any] | None = None) -> Path:
    """Fill `root` with everything that the report door reads."""
    build_run_folder(root, per_split=ROWS_PER_SPLIT)
    if views is not None:
        _drop_gates(root)
        change_params(root, "manifest", views=views)
    change_params(root, "calibrate", bootstrap_samples=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert calibrate.main([]) == 0
    for folder in sorted((root / "models").glob("stage*/*")):
        _complete_teacher(folder)
    rows = read_manifest(root / "manifests" / "classification_manifest.csv")
    _write_json(root / "metrics" / "manifest.json", {"manifest": _data(root, rows)})
    warnings = pd.DataFrame({"code": ["few_rows"], "where": ["all test"], "message": [WARNING]})
    warnings.to_csv(root / "manifests" / "warnings.csv", index=False)
    _write_faces(root / "standardized" / "ferplus", rows)
    _write_export(root)
    return root


def change_params(root: Path, section: str, **values: Any) -> None:
    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params[section] |= values
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _drop_gates(root: Path) -> None:
    path = root / "manifests" / "index.json"
    index = read_json(path)
    del index["files"]["gate.csv"]
    _write_json(path, index)
    keep = read_manifest(root / "manifests" / "classification_manifest.csv").query(
        "split != 'train'"
    )
    for logits in root.glob("models/*/*/logits.parquet"):
        table = pd.read_parquet(logits)
        table[table["id"].isin(keep["id"])].to_parquet(logits, index=False)


def _complete_teacher(folder: Path) -> None:
    card = read_json(folder / "teacher.json") | {
        "backbone": "resnet18", "image_size": 48, "epoch": 5, "recipe_version": 1,
        "fingerprint": hashlib.sha256(folder.name.encode()).hexdigest(),
        "metric": {"split": "val", "n": 160},
    }  # fmt: skip
    _write_json(folder / "teacher.json", card)
    environment = {
        "python": "3.11.7", "system": "Linux", "machine": "x86_64", "device": "cpu",
        "dtype": "torch.float32", "commit": "a" * 40 + "-dirty",
        "packages": {"torch": "2.11.0", "opencv-python": None},
    }  # fmt: skip
    _write_json(folder / "environment.json", environment)


def _data(root: Path, rows: pd.DataFrame) -> dict[str, Any]:
    table = rows.groupby(["source", "split", "label"]).size()
    final: dict[str, Any] = {}
    for source, split in table.index.droplevel("label").unique():
        counts = {name: int(table.get((source, split, name), 0)) for name in CLASSES}
        final.setdefault(source, {})[split] = counts
    card = read_json(root / "models" / "stageA" / "RN18" / "teacher.json")
    groups = {"train_val_groups": 2, "train_test_groups": 3, "val_test_groups": 0}
    conflicts = {"label_conflicts": 1, "across_splits": 3}
    return {
        "final": final,
        "duplicates": {
            "exact": {"pictures": 5, "redundant_rows": 6} | conflicts,
            "near": {"pairs": 4, "mirrored": 1} | conflicts,
            "review": {"pairs": 33},
        },
        "leaks": {
            "found": groups,
            "excluded": {"twin_in_test": 4, "twin_in_val": 0},
            "left": dict.fromkeys(groups, 0),
        },
        "stages": {"stageA": {"train_rows": 160}, "stageB": {"train_rows": 80}},
        "standardized": {"ferplus": {"faces": 240, "rejects": {"no_majority": 25}}},
        "files": {"classification_manifest": {"sha256": card["manifest_sha256"]}},
    }


def _write_faces(folder: Path, rows: pd.DataFrame) -> None:
    random = np.random.default_rng(0)
    shown = [np.full((24, 24, 3), random.integers(0, 256, 3), np.uint8) for _ in range(4)]
    images = [encode_png(picture) for picture in shown]
    chosen = rows[rows["split"] != "train"]
    write_faces(
        folder,
        [
            small_face(row["id"], image=images[at % 4], label=row["label"])
            for at, row in enumerate(chosen.to_dict("records"))
        ],
    )


def _write_export(root: Path) -> None:
    verdict = read_json(root / "metrics" / "teachers.json")["verdict"][0]
    stage = verdict["stage"]
    cards = {
        name: read_json(root / f"models/{stage}/{name}/teacher.json") for name in ("RN18", "B3")
    }
    labels = {
        "n": 80, "label_agreement": 0.8, "mean_top_probability": 0.7, "nearly_one_hot": False,
        "distillation_temperature": 2.0, "mean_top_probability_distilled": 0.5,
        "by_seen": {"seen": {"n": 80, "mean_top_probability": 0.7}},
    }  # fmt: skip
    hashes = {
        "stage": stage,
        "manifest_sha256": cards["RN18"]["manifest_sha256"],
        "calibration_sha256": "c" * 64,
        "teachers": {n: {"weights_sha256": card["weights_sha256"]} for n, card in cards.items()},
        "soft_labels": {"view": "gate"} | labels,
    }
    _write_json(root / "models" / "export" / "hash_manifest.json", hashes)
    models = {name: _exported() for name in (*cards, "ensemble")}
    metrics = {"export": {stage: models | {"soft_labels": labels}}}
    check_export_metrics(metrics)
    _write_json(root / "metrics" / "export.json", metrics)


def _exported() -> dict[str, Any]:
    about = {"weights_sha256": ["a" * 64], "label_rule": "majority", "fitted_on": "val"}
    held = {
        "split": "test", "n": 160, "accuracy": 0.75, "accuracy_95": [0.68, 0.81],
        "mean_top_probability": 0.7, "about": [about | {"reported_on": "test", "n": 160}],
    }  # fmt: skip
    forms = [f"{form}_batch_{size}" for form in ("onnx", "int8", "torch") for size in (1, 32)]
    loss = {
        "bytes": 300_000, "n": 160, "accuracy_loss": 0.01, "accuracy_loss_95": [-0.01, 0.03],
        "nll_increase": 0.002, "max_abs_diff": 0.04, "top_class_changes": 2,
    }  # fmt: skip
    return {
        "n": 12, "max_abs_diff": 1e-6, "top_class_changes": 0, "reference_max_abs_diff": 1e-6,
        "bytes": 1_200_000, "held_out": held, "int8": loss,
        "latency_ms": {form: 2.0 * (1 + at) for at, form in enumerate(forms)},
        "images_per_s": {form: 1000.0 / (1 + at) for at, form in enumerate(forms)},
        "latency_setting": [{"threads": 2, "repeats_batch_1": 25, "repeats_batch_32": 7}],
    }  # fmt: skip

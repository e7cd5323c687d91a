"""A project up to and including calibrate: two tiny teachers, 60 drawn faces, several a photo."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
import yaml
from small_faces import small_face, write_faces

from stages.calibrating.calibration_file import CalibrationFile, write_calibration
from stages.calibrating.score_table import FLOORS, score_table, write_scores
from stages.config import CLASSES, Filter, Preprocess
from stages.faces.decode import decode, encode_png
from stages.faces.model_input import to_model_input
from stages.faces.shards import Face
from stages.modeling.card import StartedFrom, TeacherCard
from stages.records.schema import COLUMNS, SHARE_COLUMNS, write_manifest
from stages.runtime.files import read_json, sha256_file, write_json
from stages.scoring.bootstrap import METRICS
from tests.exporting.tiny import BACKBONES, SIZE, make_card, make_teacher, save_tiny_teacher

ROOT = Path(__file__).parents[2]
# The teachers' filter lets one row of each class through.
FILTER = Filter(max_per_class=1)
BIAS = [0.3, -0.2, 0.1, 0.0, -0.1, -0.2, 0.1]
CLASS_ROWS = (48, 46, 44, 42, 40, 36, 34)
FUSIONS: Mapping[str, dict[str, Any]] = {
    "fused_fixed": {"weights": (0.7, 0.3), "temperature": 1.6},
    "fused_searched": {"weights": (1.0, 0.0), "temperature": 1.9},
    "fused_fixed_logits": {
        "weights": (0.7, 0.3), "temperature": 1.2, "space": "logits", "class_bias": BIAS,
    },
}  # fmt: skip


def make_project(root: Path) -> None:
    """Everything that the export door reads; 37 of the 40 train rows are in the view."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    params["export"] |= {
        "parity_rows": 12,
        "parity_tolerance": 1e-4,
        "soft_labels_view": "hq_train",
        "max_accuracy_loss": 0.5,
    }
    params["machine"] |= {"device": "cpu", "workers": 0}
    for stage in ("stageA", "stageB"):
        params[stage] |= {"learning_rate": 0.001, "min_lr": 0.00001}
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    faces = [draw_face(number) for number in reversed(range(60))]
    faces = [*relabelled(faces[:20]), *faces[20:]]
    write_faces(root / "standardized" / "expw_hq", faces)
    rows = manifest_of(faces)
    manifest_sha256 = write_manifests(root / "manifests", rows)
    cards: dict[str, dict[str, TeacherCard]] = {"stageA": {}, "stageB": {}}
    for stage, earlier in (("stageA", {}), ("stageB", cards["stageA"])):
        for seed, name in enumerate(BACKBONES):
            start = (
                StartedFrom(stage="stageA", weights_sha256=earlier[name].weights_sha256)
                if earlier
                else None
            )
            cards[stage][name] = save_tiny_teacher(
                root / "models", name, seed=seed if earlier else seed + 10, stage=stage,
                manifest_sha256=manifest_sha256, filter=FILTER, started_from=start,
            )  # fmt: skip
            write_training_outs(root / "models" / stage / name, rows)
    write_calibrated(root / "models" / "calibrated", cards, manifest_sha256=manifest_sha256)


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
        labels = make_teacher("RN18", seed=0)(torch.from_numpy(np.stack(batch))).argmax(dim=1)
    return [replace(face, label=CLASSES[k]) for face, k in zip(faces, labels.tolist(), strict=True)]


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


def write_training_outs(folder: Path, rows: pd.DataFrame) -> None:
    """What training leaves of its rows: which were trained on, and one test row by accident."""
    counts = {"after": {"rows": 30, "by_source": {"expw_hq": 30}}}
    report = {"filter": FILTER.model_dump(mode="json"), "train": counts}
    write_json(folder / "alignmentreport.json", report)
    scored = rows[rows["split"] == "test"]["id"]
    pd.DataFrame({"id": scored, "seen": scored == scored.iloc[0]}).to_parquet(
        folder / "logits.parquet"
    )


def write_calibrated(
    folder: Path, cards: Mapping[str, Mapping[str, TeacherCard]], *, manifest_sha256: str
) -> None:
    """What calibrate leaves: calibration.json and scores.csv."""
    models = {stage: dict(calibrated_models(of_stage)) for stage, of_stage in cards.items()}
    calibration = {
        "stage": "stageB", "stage_asked": "auto", "fusion": "fixed", "fused_model": "fused_fixed",
        "verdict": {"says": "stageB: its gain is real", "gain_is_real": True}, "report": "test",
        "classes": CLASSES, "manifest_sha256": manifest_sha256, "fitted_on": "val", "order": "fuse",
        "temperature_range": (0.1, 10.0), "bins": 15, "bootstrap_samples": 1000,
        "stages": {stage: {"models": of_stage} for stage, of_stage in models.items()},
    }  # fmt: skip
    write_calibration(folder, CalibrationFile.model_validate(calibration))
    rows = [
        {"stage": stage, "model": name, "weights_sha256": hashes_of(model)} | row
        for stage, of_stage in models.items()
        for name, model in of_stage.items()
        for row in score_rows()
    ]
    write_scores(folder / "scores.csv", score_table(rows))


def calibrated_models(cards: Mapping[str, TeacherCard]) -> Iterator[tuple[str, dict[str, Any]]]:
    alone = {
        name: {"members": [name], "weights": (1.0,), "temperature": 1.3 + number}
        for number, name in enumerate(cards)
    }
    for model, values in (alone | FUSIONS).items():
        temperature = values["temperature"]
        names = values.get("members", list(cards))
        yield model, {
            "members": {
                name: {"weight": weight, "weights_sha256": cards[name].weights_sha256}
                for name, weight in zip(names, values["weights"], strict=True)
            },
            "space": values.get("space", "probabilities"), "temperature": temperature,
            "temperature_95": (temperature - 0.1, temperature + 0.1), "temperature_no_fit": None,
            "class_bias": values.get("class_bias", [0.0] * 7), "votes_temperature": None,
            "votes_temperature_95": None, "votes_temperature_no_fit": None, "votes_n": 0,
            "fitted_rows": 30, "left_out": {}, "folds_no_fit": "",
            "refinement": {"adopted": False, "reason": "no gain", "n": 30},
        }  # fmt: skip


def hashes_of(model: Mapping[str, Any]) -> str:
    return "+".join(member["weights_sha256"] for member in model["members"].values())


def score_rows() -> Iterator[dict[str, Any]]:
    """Scores of 290 test rows and of a gate of 77; accuracy is 0.5, its interval 0.25 wide."""
    whole = {metric: 0.5 + k / 100 for k, metric in enumerate(METRICS)}
    floors = dict(zip(FLOORS, (0.3, 0.4), strict=True))
    for rows, n, class_rows in (
        ("test", 290, CLASS_ROWS),
        ("gate:expw_lq_gate", 77, (11,) * 7),
    ):
        for by, part, probabilities in (
            ("all", "", "raw"), ("all", "", "calibrated"), ("source", "expw_hq", "calibrated"),
            ("native_px", "below 48", "calibrated"),
        ):  # fmt: skip
            values = whole | floors | ({} if probabilities == "raw" else {"classes": 7})
            if by == "all" and probabilities == "calibrated" and rows != "test":
                values["in_domain"] = 0
            place = {"rows": rows, "by": by, "part": part, "probabilities": probabilities, "n": n}
            yield from (score_row(metric, value, **place) for metric, value in values.items())
        for name, count in zip(CLASSES, class_rows, strict=True):
            place = {"rows": rows, "by": "class", "part": name, "probabilities": "calibrated"}
            yield score_row("f1", 0.5, **place, n=count)


def score_row(metric: str, value: float, **place: Any) -> dict[str, Any]:
    has_interval = metric in METRICS or metric == "f1"
    ends = {"low": value - 0.125, "high": value + 0.125} if has_interval else {}
    about = {"label_rule": "majority", "decision": "argmax", "fitted_on": "val"}
    return about | place | {"metric": metric, "value": value} | ends


def choose_fusion(models: Path, fusion: str) -> None:
    """Have calibration.json name another fusion."""
    path = models / "calibrated" / "calibration.json"
    write_json(path, read_json(path) | {"fusion": fusion, "fused_model": f"fused_{fusion}"})


def set_params(root: Path, section: str, **changes: Any) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text("utf-8"))
    params[section] |= changes
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def copy_before_export(project: Path, root: Path) -> None:
    """A copy of the project at `root`, with an older result in place."""
    shutil.copytree(project, root)
    old = root / "models" / "export" / "old.txt"
    old.parent.mkdir()
    old.write_text("old")


def assert_nothing_published(root: Path) -> None:
    """Only the older result that `copy_before_export` put there is in place."""
    assert [path.name for path in (root / "models" / "export").iterdir()] == ["old.txt"]
    models = sorted(path.name for path in (root / "models").iterdir())
    assert models == ["calibrated", "export", "stageA", "stageB"]
    assert not (root / "metrics" / "export.json").exists()

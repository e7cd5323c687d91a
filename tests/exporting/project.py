"""A project up to and including calibrate: two tiny teachers, 80 drawn faces, four a photo."""

from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from shipped import shipped
from small_faces import small_face, write_faces

from stages import calibrate
from stages.config import CLASSES, Filter, Preprocess
from stages.faces.decode import decode
from stages.faces.model_input import to_model_input
from stages.faces.shards import Face
from stages.modeling.card import StartedFrom
from stages.records.folder import LOGIT_COLUMNS
from stages.records.schema import COLUMNS, SHARE_COLUMNS, targets_of, write_manifest
from stages.runtime.files import read_json, write_json
from stages.scoring.metrics import softmax
from tests.exporting.tiny import BACKBONES, CLAHE, PRIORS, SIZE, make_teacher, save_tiny_teacher

ROOT = Path(__file__).parents[2]
# The teachers' filter lets one row of each class through.
FILTER = Filter(max_per_class=1)


def make_project(root: Path) -> None:
    """Everything that the export door reads; 37 of the 40 train rows are in the view."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    params["export"] |= {
        "parity_rows": 12,
        "parity_tolerance": 1e-4,
        "soft_labels_view": "hq_train",
        "max_accuracy_loss": 0.5,
    }
    params["calibrate"] |= {"stage": "stageB", "bootstrap_samples": 20}
    params["machine"] |= {"device": "cpu", "workers": 0}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    faces = draw_faces()
    write_faces(root / "standardized" / "expw_hq", faces)
    rows = manifest_of(faces)
    manifest_sha256 = write_manifests(root / "manifests", rows)
    for seed, name in enumerate(BACKBONES):
        start = None
        for stage in ("stageA", "stageB"):
            card = save_tiny_teacher(
                root / "models",
                name,
                seed=seed if stage == "stageB" else seed + 10,
                stage=stage,
                manifest_sha256=manifest_sha256,
                filter=FILTER,
                started_from=start,
            )
            write_training_outs(root / "models" / stage / name, rows, seed=seed)
            start = StartedFrom(stage="stageA", weights_sha256=card.weights_sha256)
    with chdir(root):
        assert calibrate.main([]) == 0


def draw_faces() -> list[Face]:
    """Four faces a photo, with labels of the test rows that RN18 of stage B is right about."""
    photos = [f"expw_hq/photo{number // 4:02d}" for number in range(80)]
    faces = [
        small_face(f"{photo}#{number % 4}", label=CLASSES[number % 7], photo=photo, crop="box")
        for number, photo in enumerate(photos)
    ]
    how = shipped(Preprocess, clahe=CLAHE)
    batch = [to_model_input(decode(face.image), size=SIZE, preprocess=how) for face in faces[40:60]]
    with torch.inference_mode():
        logits = make_teacher("RN18", seed=0)(torch.from_numpy(np.stack(batch)))
    labels = (logits + torch.tensor(PRIORS["RN18"])).argmax(dim=1)
    for number, label in enumerate(labels.tolist(), start=40):
        faces[number] = replace(faces[number], label=CLASSES[label])
    return faces[::-1]


def manifest_of(faces: list[Face]) -> pd.DataFrame:
    """The first ten photos are train, then five are test, and five val."""
    frame = pd.DataFrame([{column: getattr(f, column, None) for column in COLUMNS} for f in faces])
    frame = frame.sort_values("id", ignore_index=True)
    frame = frame.assign(source="expw_hq", group=lambda f: f["photo"], twin_splits="")
    frame["split"] = ["train"] * 40 + ["test"] * 20 + ["val"] * 20
    frame = frame.assign(official=frame["split"]).astype({"official": "str"})
    # Half of the train rows and all val rows have votes.
    votes = np.random.default_rng(5).multinomial(10, softmax(2 * np.eye(7)[targets_of(frame)])) / 10
    has_votes = (frame["split"] == "val") | (frame["split"] == "train") & (frame.index % 2 == 0)
    frame[[*SHARE_COLUMNS, "confidence"]] = np.nan
    frame.loc[has_votes, list(SHARE_COLUMNS)] = votes[has_votes]
    return frame[list(COLUMNS)]


def write_manifests(folder: Path, rows: pd.DataFrame) -> str:
    """The manifest, the view of soft labels and a gate in domain; the manifest's SHA-256."""
    parts = {"classification_manifest": rows, "hq_train": rows[:37], "gate": rows[50:60]}
    files = {
        f"{name}.csv": {
            "sha256": write_manifest(folder / f"{name}.csv", part),
            "rows": len(part),
            "gate": name == "gate",
        }
        for name, part in parts.items()
    }
    write_json(folder / "index.json", {"source_groups": {}, "files": files})
    return str(files["classification_manifest.csv"]["sha256"])


def write_training_outs(folder: Path, rows: pd.DataFrame, *, seed: int) -> None:
    """What training leaves of its rows: which were trained on, and one test row by accident."""
    counts = {"after": {"rows": 30, "by_source": {"expw_hq": 30}}}
    write_json(folder / "alignmentreport.json", {"train": counts})
    write_json(folder / "history.json", [])
    scored = rows[rows["split"] != "train"]
    noise = np.random.default_rng(seed).normal(scale=1.5, size=(len(scored), 7))
    logits = 2 * np.eye(7)[targets_of(scored)] + noise
    table = pd.DataFrame(logits.astype(np.float32), columns=LOGIT_COLUMNS)
    table = table.assign(id=scored["id"].tolist(), seen=table.index == 0)
    table.to_parquet(folder / "logits.parquet")


def change_fusion(root: Path, **values: Any) -> None:
    """Set keys of the exported fusion in calibration.json."""
    path = root / "models" / "calibrated" / "calibration.json"
    file = read_json(path)
    file["stages"]["stageB"]["models"]["fused_fixed"] |= values
    write_json(path, file)


def set_params(root: Path, section: str, **changes: Any) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text("utf-8"))
    params[section] |= changes
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

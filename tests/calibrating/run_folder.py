"""A synthetic project: params.yaml, manifests/ and models/ as calibrate finds them, no image at all.

The truth is known: labels and votes are drawn from `softmax(z)`, and RN18's saved logits are
`z * TRUE_T`. Stage A learns from ferplus and rafdb_basic, stage B from rafdb_basic; expw_lq is a gate.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from stages.config import CLASSES, Filter, read_yaml
from stages.modeling.card import TeacherCard
from stages.records.schema import COLUMNS, SHARE_COLUMNS, write_manifest
from stages.runtime.files import read_json
from stages.scoring.metrics import softmax

TRUE_T = {"stageA": 2.5, "stageB": 1.6}
LOGITS = [f"logit_{name.lower()}" for name in CLASSES]
SIZES = {"ferplus": 48, "rafdb_basic": 100, "expw_lq": 30}
SOURCES = {"stageA": ["ferplus", "rafdb_basic"], "stageB": ["rafdb_basic"]}
SEEN_AT_GATE = 10
VOTERS = 10
SPLITS = ("train", "val", "test")

PARAMS = read_yaml(Path(__file__).parents[2] / "params.yaml")
PARAMS["raw"] = "raw"
PARAMS["standardize"]["sources"] = {
    "ferplus": {"format": "ferplus", "path": "ferplus", "label_rule": "majority"}
}
PARAMS["manifest"] |= {
    "source_groups": {},
    "views": {"gate": {"include_sources": ["expw_lq"], "gate": True}},
}
PARAMS["calibrate"]["bootstrap_samples"] = 200
PARAMS["export"]["soft_labels_view"] = "gate"
for _stage in ("stageA", "stageB"):
    PARAMS[_stage] |= {"init_from": None, "filter": {}, "epochs": 6, "prior": {"kind": "none"}}


def build_run_folder(root: Path, *, per_split: int = 240, splits: tuple[str, ...] = SPLITS) -> Path:
    """Fill `root`; `per_split` rows of each source in each of `splits`."""
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False), encoding="utf-8")
    random = np.random.default_rng(3)
    frame, truth = _rows(random, per_split=per_split, splits=splits)
    sha256 = write_manifest_folder(root / "manifests", frame)
    for stage, temperature in TRUE_T.items():
        write_teacher(root, stage, "RN18", frame, truth * temperature, sha256=sha256)
        noisy = truth * 0.7 + random.normal(scale=0.6, size=truth.shape)
        write_teacher(root, stage, "B3", frame, noisy * temperature, sha256=sha256)
    return root


def start_from_stage_a(root: Path, name: str) -> None:
    """Say in the card of a teacher of stage B that it started from stage A's weights."""
    first, second = (root / "models" / stage / name / "teacher.json" for stage in TRUE_T)
    start = {"stage": "stageA", "weights_sha256": read_json(first)["weights_sha256"]}
    second.write_text(json.dumps(read_json(second) | {"started_from": start}))


def set_calibrate(root: Path, **values: Any) -> None:
    """Change keys of `calibrate` in params.yaml."""
    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    params["calibrate"] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def write_manifest_folder(folder: Path, frame: pd.DataFrame) -> str:
    gate = frame[frame["source"] == "expw_lq"]
    files = {}
    for name, rows in (("classification_manifest.csv", frame), ("gate.csv", gate)):
        sha256 = write_manifest(folder / name, rows)
        files[name] = {"sha256": sha256, "rows": len(rows), "gate": rows is gate}
    (folder / "index.json").write_text(json.dumps({"source_groups": {}, "files": files}))
    return str(files["classification_manifest.csv"]["sha256"])


def write_teacher(
    root: Path, stage: str, name: str, frame: pd.DataFrame, logits: np.ndarray, *, sha256: str
) -> None:
    folder = root / "models" / stage / name
    folder.mkdir(parents=True)
    weights = hashlib.sha256(f"{stage} {name}".encode()).hexdigest()
    card = TeacherCard(
        teacher=name,
        stage=stage,
        backbone="resnet18",
        embedding_size=8,
        dropout=0.0,
        scale=16.0,
        classes=CLASSES,
        image_size=48,
        preprocess={},
        targets="majority",
        filter=Filter(include_sources=tuple(SOURCES[stage])),
        started_from=None,
        prior_correction=(0.0,) * 7,
        epoch=5,
        metric={},
        fingerprint="f" * 64,
        manifest_sha256=sha256,
        training_version=1,
        weights_sha256=weights,
    )
    (folder / "teacher.json").write_text(card.model_dump_json())
    (folder / "history.json").write_text(json.dumps(_history(stage, name)))
    report = {"filter": {"include_sources": SOURCES[stage]}}
    (folder / "alignmentreport.json").write_text(json.dumps(report))
    table = pd.DataFrame(logits.astype(np.float32), columns=LOGITS)
    table.insert(0, "id", frame["id"].to_numpy())
    # Ten rows of the gate source have a copy among the rows that were trained on.
    gate, train = (frame["source"] == "expw_lq").to_numpy(), (frame["split"] == "train").to_numpy()
    table["seen"] = train & (~gate | (np.cumsum(gate & train) <= SEEN_AT_GATE))
    needed = gate | ~train
    table[needed].to_parquet(folder / "logits.parquet", index=False)


def _rows(
    random: np.random.Generator, *, per_split: int, splits: tuple[str, ...]
) -> tuple[pd.DataFrame, np.ndarray]:
    rows = [
        {"id": f"{source}/{split}{number:04d}", "source": source, "split": split, "native_px": px}
        | {"group": f"{source}/{split}{number // 2:04d}"}
        for source, px in SIZES.items()
        for split in splits
        for number in range(per_split)
    ]
    frame = pd.DataFrame(rows).sort_values("id", ignore_index=True)
    truth = random.normal(scale=1.5, size=(len(frame), len(CLASSES)))
    chosen = (truth + random.gumbel(size=truth.shape)).argmax(axis=1)
    frame["label"] = np.array(CLASSES)[chosen]
    frame["sha256"] = [hashlib.sha256(name.encode()).hexdigest() for name in frame["id"]]
    frame[["confidence", *SHARE_COLUMNS]] = np.nan
    voted = (frame["source"] == "ferplus").to_numpy()
    votes = random.multinomial(VOTERS, softmax(truth[voted])) / VOTERS
    frame.loc[voted, list(SHARE_COLUMNS)] = votes
    frame = frame.assign(photo=frame["id"], official=frame["split"], twin_splits="")
    texts = ["id", "source", "split", "official", "twin_splits", "group", "label", "photo"]
    return frame[list(COLUMNS)].astype(dict.fromkeys([*texts, "sha256"], "str")), truth


def _history(stage: str, name: str) -> list[dict[str, Any]]:
    start = (0.3 if name == "RN18" else 0.2) + (0.1 if stage == "stageB" else 0.0)
    f1 = [start + 0.5 * (1 - 0.5**epoch) for epoch in range(6)]
    return [
        {"epoch": epoch, "step": 40 * (epoch + 1), "learning_rate": 1e-3, "margin_rad": 0.1}
        | {"train_loss": 2.2 - f1, "rate_img_s": 100.0, "data_wait_share": 0.1}
        | {"seconds": 10.0 + epoch, "eval_seconds": 1.0}
        | {
            "val": {"n": 480, "accuracy": f1 + 0.02, "macro_f1": f1, "nll": 2 - f1}
            if epoch % 2
            else None
        }
        for epoch, f1 in enumerate(f1)
    ]

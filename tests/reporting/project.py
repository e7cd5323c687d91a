"""A finished run as the report finds it: a synthetic project that calibrate has run in.

What the manifest and export stages would say of it is written here by hand.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_faces import small_face, write_faces

from stages import calibrate
from stages.faces.decode import encode_png
from stages.records.schema import read_manifest
from stages.reporting.seeds import COLUMNS
from stages.runtime.files import read_json, sha256_file, write_json, write_text
from tests.calibrating.run_folder import build_run_folder, set_calibrate

WARNING = "fewer than 30 rows of a class: <Disgust> & 8"
# What the manifest stage writes into plots/data/manifest/, besides the rows.
TABLES = {
    "standardized": "source,faces,rejects\nferplus,240,25\n",
    "rejects": "source,reason,rows\nferplus,no_majority,25\n",
    "selections": "kind,name,rows\nstage,stageA,160\nstage,stageB,80\n",
    "counts": """\
subject,part,count,value
duplicates,exact,pictures,5
duplicates,exact,redundant_rows,6
duplicates,exact,label_conflicts,1
duplicates,exact,across_splits,3
duplicates,near,pairs,4
duplicates,near,mirrored,1
duplicates,near,label_conflicts,1
duplicates,near,across_splits,3
duplicates,review,pairs,33
leaks,found,train_val_groups,2
leaks,found,train_test_groups,3
leaks,found,val_test_groups,0
leaks,excluded,twin_in_test,4
leaks,excluded,twin_in_val,0
leaks,left,groups,0
""",
}


def make_finished(root: Path) -> Path:
    """Fill `root` with everything that the report door reads."""
    build_run_folder(root, per_split=80)
    set_calibrate(root, bootstrap_samples=30)
    for path in root.glob("models/stageA/*/history.json"):
        history = read_json(path)
        for scores in (epoch["val"] for epoch in history if epoch["val"]):
            scores |= {"ece": 0.1, "brier": 0.5, "temperature": None}
            scores |= {"scaled_nll": scores["nll"] - 0.1, "scaled_ece": 0.05}
        write_json(path, history)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert calibrate.main([]) == 0
    machine = {"system": "Linux", "machine": "x86_64", "device": "cpu", "dtype": "torch.float32"}
    packages = {"torch": "2.11.0", "opencv-python": None}
    code = {"python": "3.11.7", "commit": "a" * 40 + "-dirty", "packages": packages}
    for folder in (root / "models").glob("stage*/*"):
        write_json(folder / "environment.json", machine | code)
        card = read_json(folder / "teacher.json") | {"metric": {"split": "val", "n": 160}}
        write_json(folder / "teacher.json", card)
    rows = read_manifest(root / "manifests" / "classification_manifest.csv")
    _write_data(root, rows)
    image = encode_png(np.full((24, 24, 3), 99, np.uint8))
    faces = rows.loc[rows["split"] != "train", ["id", "label"]].itertuples(index=False)
    write_faces(
        root / "standardized/ferplus",
        [small_face(id_, image=image, label=label) for id_, label in faces],
    )
    _write_export(root)
    return root


def _write_data(root: Path, rows: pd.DataFrame) -> None:
    sha256 = read_json(root / "models/stageA/RN18/teacher.json")["manifest_sha256"]
    manifest = {"sha256": {"classification_manifest": sha256}}
    write_json(root / "metrics/manifest.json", {"manifest": manifest})
    counted = rows.groupby(["source", "split", "label"]).size().rename("rows").reset_index()
    for name, text in (TABLES | {"rows": counted.to_csv(index=False)}).items():
        write_text(root / f"plots/data/manifest/{name}.csv", text)
    write_text(root / "plots/seeds.csv", ",".join(COLUMNS) + "\n")
    write_text(root / "manifests/warnings.csv", f"code,where,message\nfew_rows,test,{WARNING}\n")


def _write_export(root: Path) -> None:
    calibration = root / "models/calibrated/calibration.json"
    folder = root / "models" / (stage := read_json(calibration)["stage"])
    cards = {name: read_json(folder / name / "teacher.json") for name in ("RN18", "B3")}
    names = (*cards, "ensemble")
    held = {"split": "test", "n": 160, "accuracy": 0.75, "accuracy_95": [0.68, 0.81]}
    loss = {"accuracy_loss": 0.01, "accuracy_loss_95": [-0.01, 0.03], "nll_increase": 0.002}
    changes = {"max_abs_diff": 0.04, "label_changes": 2}
    parity = {
        "parity": {"rows": 12, "reference_max_abs_diff": 1e-6, **changes},
        "held_out": held,
        "variants": {"int8": {"n": 160, **loss, **changes}},
    }
    forms = [f"{form}_batch_{size}" for form in ("onnx", "int8", "torch") for size in (1, 32)]
    times = {form: 2.0 * (1 + at) for at, form in enumerate(forms)}
    speed = {"threads": 2, "repeats": {"1": 25, "32": 7}}
    speed |= {"milliseconds": times, "images_per_s": times}
    soft_labels = {"view": "gate", "n": 80, "label_agreement": 0.8, "nearly_one_hot": False}
    soft_labels |= {"mean_top_probability": 0.7, "mean_top_probability_distilled": 0.5}
    hashes = {
        "stage": stage,
        "manifest_sha256": cards["RN18"]["manifest_sha256"],
        "calibration_sha256": sha256_file(calibration),
        "teachers": {n: {"weights_sha256": card["weights_sha256"]} for n, card in cards.items()},
        "soft_labels": soft_labels | {"distillation_temperature": 2.0},
        "bytes": {f"{name}{form}.onnx": 300_000 for name in names for form in ("", ".int8")},
    }
    export = root / "models/export"
    write_json(export / "hash_manifest.json", hashes)
    write_json(export / "parity.json", {"stage": stage, "models": dict.fromkeys(names, parity)})
    write_json(export / "latency.json", {"stage": stage, "models": dict.fromkeys(names, speed)})

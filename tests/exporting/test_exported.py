"""What the export of a project of two tiny teachers and 80 drawn faces holds."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from scipy.special import softmax

from stages import export
from stages.config import CLASSES, Preprocess
from stages.exporting.bundle import read_bundle
from stages.exporting.export_files import LatencyFile, ParityFile
from stages.faces.decode import decode
from stages.faces.model_input import to_model_input
from stages.modeling.card import read_card
from stages.records.views import select
from stages.runtime.files import read_json
from tests.exporting.project import FILTER, change_calibration, set_params

MODELS = ("B3", "RN18", "ensemble")
FORMS = ("", ".fp16", ".int8")
HASHED = sorted(
    [f"{name}{form}.onnx" for name in MODELS for form in FORMS]
    + [f"teachers/{n}/{f}" for n in MODELS[:2] for f in ("best.safetensors", "teacher.json")]
    + "classorder.json model_card.md parity.json reference.py".split()
    + "softlabels.npz softlabels_index.jsonl".split()
)


def inputs_of(root: Path) -> np.ndarray:
    """Model input (37, 3, 32, 32) of the view's rows, row by row and by the book."""
    block = json.dumps(read_bundle(root / "models").card.preprocess)
    view = pd.read_csv(root / "manifests" / "hq_train.csv")
    faces = pd.read_feather(root / "standardized" / "expw_hq" / "faces-00000.arrow")
    images = faces.set_index("id").loc[view["id"], "image"]
    how = Preprocess.model_validate_json(block)
    return np.stack([to_model_input(decode(i), size=32, preprocess=how) for i in images])


def expected_probabilities(root: Path) -> np.ndarray:
    """(37, 7): fused and scaled."""
    batch = torch.from_numpy(inputs_of(root))
    with torch.inference_mode():
        ensemble = read_bundle(root / "models").ensemble
        logits = [teacher(batch).double().numpy() for teacher in ensemble.teachers]
    fit = ensemble.calibration
    if fit.space == "logits":
        fused = 0.7 * logits[0] + 0.3 * logits[1]
    else:
        fused = np.log(0.7 * softmax(logits[0], axis=1) + 0.3 * softmax(logits[1], axis=1))
    return softmax(fused / fit.temperature + np.array(fit.class_bias), axis=1)


def test_hash_manifest_holds_for_every_file_but_the_times(exported):
    folder = exported / "models" / "export"
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert sorted(files) == sorted([*HASHED, "hash_manifest.json", "latency.json"])
    manifest = read_json(folder / "hash_manifest.json")
    assert manifest["files"] == {n: hashlib.sha256(files[n]).hexdigest() for n in HASHED}
    assert manifest["bytes"] == {name: len(files[name]) for name in HASHED}
    for name, teacher in manifest["teachers"].items():
        weights = exported / "models" / "stageB" / name / "best.safetensors"
        assert hashlib.sha256(weights.read_bytes()).hexdigest() == teacher["weights_sha256"]
    labels = manifest["soft_labels"]
    view = (exported / "manifests" / "hq_train.csv").read_bytes()
    assert labels["view_sha256"] == hashlib.sha256(view).hexdigest()
    expected = expected_probabilities(exported).max(axis=1).mean()
    assert labels["mean_top_probability"] == pytest.approx(expected, abs=1e-5)
    fitted = read_bundle(exported / "models").ensemble.calibration.temperature
    assert (labels["calibration_temperature"], labels["distillation_temperature"]) == (fitted, 2.0)
    assert (labels["n"], "temperature" in labels) == (37, False)
    assert str(exported).encode() not in files["hash_manifest.json"]


def test_the_same_project_exports_the_same_bytes(exported, fresh):
    assert export.main([]) == 0
    for name in (*HASHED, "hash_manifest.json", "../../metrics/export.json"):
        first, second = (root / "models" / "export" / name for root in (exported, fresh))
        assert first.read_bytes() == second.read_bytes(), name


def test_incident_X1_classes_calibration_and_shapes_are_stated(exported):
    cards = {name: read_card(exported / "models/stageB" / name) for name in ("RN18", "B3")}
    fit = read_bundle(exported / "models").ensemble.calibration
    for path in (exported / "models" / "export").glob("*.onnx"):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        texts = session.get_modelmeta().custom_metadata_map
        meta = {key: json.loads(text) for key, text in texts.items()}
        assert onnx.load(path).ir_version == 8
        name, *variant = path.stem.split(".")
        assert meta["precision"] == (variant[0] if variant else "fp32")
        assert meta["class_order"] == list(CLASSES)
        assert (meta["stage"], meta["opset"], meta["recipe_version"]) == ("stageB", 18, 1)
        inside = cards if name == "ensemble" else {name: cards[name]}
        assert meta["teachers"] == {n: card.backbone for n, card in inside.items()}
        assert meta["weights_sha256"] == {n: card.weights_sha256 for n, card in inside.items()}
        assert meta["prior_correction"] == {
            n: list(card.prior_correction) for n, card in inside.items()
        }
        assert meta["manifest_sha256"] == cards["RN18"].manifest_sha256
        assert meta["preprocess"]["face"]["crop_margin"] == 0.3
        assert meta["preprocess"]["face"]["faces_by_crop"] == {"none": 0, "box": 80, "aligned": 0}
        # Faces that were never levelled are not to be levelled.
        assert meta["preprocess"]["face"]["levelled"] is None
        assert meta["preprocess"]["clahe"]["clip_limit"] == 2.0
        assert meta["input"] == {"image": "float32 (N, 3, 32, 32), any N, preprocessed"}
        assert session.get_inputs()[0].shape == ["batch", 3, 32, 32]
        if path.stem == "ensemble":
            assert (meta["weights"], meta["temperature"]) == (
                {"RN18": 0.7, "B3": 0.3},
                fit.temperature,
            )
            actual = session.run(["probabilities"], {"image": inputs_of(exported)})[0]
            np.testing.assert_allclose(actual, expected_probabilities(exported), atol=1e-4)


def test_a_mixture_of_logits_and_a_bias_are_exported_as_they_were_fitted(fresh):
    path = fresh / "models" / "calibrated" / "calibration.json"
    stages = read_json(path)["stages"]
    bias = [0.3, -0.2, 0.1, 0.0, 0.0, -0.2, 0.0]
    stages["stageB"]["models"]["fused_fixed"] |= {"space": "logits", "class_bias": bias}
    change_calibration(fresh, stages=stages)
    set_params(fresh, "export", variants=[])
    assert export.main([]) == 0
    folder = fresh / "models" / "export"
    assert sorted(path.name for path in folder.glob("*.onnx")) == [f"{n}.onnx" for n in MODELS]
    labels = np.load(folder / "softlabels.npz")["logits"].astype(float)
    np.testing.assert_allclose(softmax(labels, axis=1), expected_probabilities(fresh), atol=1e-3)


def test_incident_X5_faces_of_one_photo_keep_their_own_rows(exported):
    folder = exported / "models" / "export"
    arrays = np.load(folder / "softlabels.npz")
    actual = softmax(arrays["logits"].astype(float), axis=1)
    np.testing.assert_allclose(actual, expected_probabilities(exported), atol=1e-3)
    view = pd.read_csv(exported / "manifests" / "hq_train.csv")
    index = pd.read_json(folder / "softlabels_index.jsonl", lines=True)
    assert index[["id", "split"]].to_dict() == view[["id", "split"]].to_dict()
    assert [CLASSES[y] for y in arrays["y"]] == view["label"].tolist()


def test_reported_index_of_soft_labels_says_split_and_seen_of_each_row(exported):
    folder = exported / "models" / "export"
    index = pd.read_json(folder / "softlabels_index.jsonl", lines=True)
    assert list(index) == ["i", "id", "source", "y", "split", "seen"]
    # The teachers' filter lets one row of each class through, and a group is learnt as a whole.
    rows = pd.read_csv(exported / "manifests" / "classification_manifest.csv")
    chosen = select(rows[rows["split"] == "train"], FILTER, key="k", source_groups={})
    view = pd.read_csv(exported / "manifests" / "hq_train.csv")
    expected = view["group"].isin(chosen["group"])
    assert 0 < expected.sum() < len(index)
    assert index["seen"].tolist() == expected.tolist()
    by_seen = read_json(folder / "hash_manifest.json")["soft_labels"]["by_seen"]
    assert by_seen["seen"]["n"] == expected.sum()


def test_parity_losses_and_speed_of_every_file_are_told(exported):
    folder = exported / "models" / "export"
    parity = ParityFile.model_validate_json((folder / "parity.json").read_text("utf-8"))
    latency = LatencyFile.model_validate_json((folder / "latency.json").read_text("utf-8"))
    assert parity.stage == latency.stage == "stageB"
    assert list(parity.models) == list(latency.models) == ["RN18", "B3", "ensemble"]
    forms = {f"{f}_batch_{n}" for f in ("onnx", "fp16", "int8", "torch") for n in (1, 32)}
    for name, checks in parity.models.items():
        # 20 test rows, of which one was trained on.
        held_out = checks.held_out
        assert (checks.parity.rows, held_out.split, held_out.n) == (12, "test", 19)
        assert list(checks.variants) == ["fp16", "int8"]
        assert set(latency.models[name].milliseconds) == forms
    checked = {"parity_rows": 12, "label_changes": 0}
    metrics = read_json(exported / "metrics" / "export.json")
    losses = {
        f"{variant}_accuracy_loss": round(loss.accuracy_loss, 6)
        for variant, loss in parity.models["ensemble"].variants.items()
    }
    models = {"RN18": checked, "B3": checked, "ensemble": checked | losses}
    assert metrics == {"stage": "stageB", "models": models}

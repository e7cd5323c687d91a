"""What the export of a project of two tiny teachers and 60 drawn faces holds."""

import hashlib
import json
from pathlib import Path
from typing import Any

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
from tests.exporting.project import BIAS, FILTER, choose_fusion, set_params

MODELS = ("B3", "RN18", "ensemble")
HASHED = sorted(
    [f"{name}{variant}.onnx" for name in MODELS for variant in ("", ".fp16", ".int8")]
    + [f"teachers/{name}/{file}" for name in MODELS[:2] for file in ("best.safetensors", "teacher.json")]
    + ["classorder.json", "model_card.md", "parity.json", "reference.py"]
    + ["softlabels.npz", "softlabels_index.jsonl"]
)  # fmt: skip


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def inputs_of(root: Path) -> np.ndarray:
    """Model input (37, 3, 32, 32) of the view's rows, row by row and by the book."""
    block = json.dumps(read_bundle(root / "models").card.preprocess)
    view = pd.read_csv(root / "manifests" / "hq_train.csv")
    faces = pd.read_feather(root / "standardized" / "expw_hq" / "faces-00000.arrow")
    images = faces.set_index("id").loc[view["id"], "image"]
    how = Preprocess.model_validate_json(block)
    return np.stack([to_model_input(decode(i), size=32, preprocess=how) for i in images])


def expected_probabilities(root: Path, *, mixes_logits: bool = False) -> np.ndarray:
    """(37, 7): fused and scaled."""
    batch = torch.from_numpy(inputs_of(root))
    with torch.inference_mode():
        bundle = read_bundle(root / "models")
        logits = [teacher(batch).double().numpy() for teacher in bundle.ensemble.teachers]
    if mixes_logits:
        return softmax((0.7 * logits[0] + 0.3 * logits[1]) / 1.2 + np.array(BIAS), axis=1)
    fused = 0.7 * softmax(logits[0], axis=1) + 0.3 * softmax(logits[1], axis=1)
    return softmax(np.log(fused) / 1.6, axis=1)


def test_hash_manifest_holds_for_every_file_but_the_times(exported: Path) -> None:
    folder = exported / "models" / "export"
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert sorted(files) == sorted([*HASHED, "hash_manifest.json", "latency.json"])
    manifest = read(folder / "hash_manifest.json")
    assert list(manifest["files"]) == list(manifest["bytes"]) == HASHED
    for name in HASHED:
        assert hashlib.sha256(files[name]).hexdigest() == manifest["files"][name]
        assert len(files[name]) == manifest["bytes"][name]
    for name, teacher in manifest["teachers"].items():
        weights = exported / "models" / "stageB" / name / "best.safetensors"
        assert hashlib.sha256(weights.read_bytes()).hexdigest() == teacher["weights_sha256"]
    labels = manifest["soft_labels"]
    view = (exported / "manifests" / "hq_train.csv").read_bytes()
    assert labels["view_sha256"] == hashlib.sha256(view).hexdigest()
    assert labels["n"] == 37
    expected = expected_probabilities(exported).max(axis=1).mean()
    assert labels["mean_top_probability"] == pytest.approx(expected, abs=1e-5)
    assert (labels["calibration_temperature"], labels["distillation_temperature"]) == (1.6, 2.0)
    assert "temperature" not in labels
    assert str(exported).encode() not in files["hash_manifest.json"]


def test_the_same_project_exports_the_same_bytes(exported: Path, fresh: Path) -> None:
    assert export.main([]) == 0
    for name in (*HASHED, "hash_manifest.json", "../../metrics/export.json"):
        first, second = (root / "models" / "export" / name for root in (exported, fresh))
        assert first.read_bytes() == second.read_bytes(), name


def test_every_file_says_what_it_is(exported: Path) -> None:
    for path in (exported / "models" / "export").glob("*.onnx"):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        texts = session.get_modelmeta().custom_metadata_map
        meta = {key: json.loads(text) for key, text in texts.items()}
        assert onnx.load(path).ir_version == 8
        name, *variant = path.stem.split(".")
        assert meta["precision"] == (variant[0] if variant else "fp32")
        assert meta["class_order"] == list(CLASSES)
        assert (meta["stage"], meta["opset"], meta["recipe_version"]) == ("stageB", 18, 1)
        cards = {n: read_card(exported / "models/stageB" / n) for n in ("RN18", "B3")}
        inside = cards if name == "ensemble" else {name: cards[name]}
        assert meta["teachers"] == {n: card.backbone for n, card in inside.items()}
        assert meta["weights_sha256"] == {n: card.weights_sha256 for n, card in inside.items()}
        assert meta["manifest_sha256"] == cards["RN18"].manifest_sha256
        assert meta["preprocess"]["face"]["crop_margin"] == 0.3
        assert meta["preprocess"]["face"]["faces_by_crop"] == {"none": 0, "box": 60, "aligned": 0}
        assert session.get_inputs()[0].shape == ["batch", 3, 32, 32]
        if path.stem == "ensemble":
            assert (meta["weights"], meta["temperature"]) == ({"RN18": 0.7, "B3": 0.3}, 1.6)
            actual = session.run(["probabilities"], {"image": inputs_of(exported)})[0]
            np.testing.assert_allclose(actual, expected_probabilities(exported), atol=1e-4)


def test_a_mixture_of_logits_is_exported_as_it_was_fitted(fresh: Path) -> None:
    choose_fusion(fresh / "models", "fixed_logits")
    set_params(fresh, "export", variants=[])
    assert export.main([]) == 0
    folder = fresh / "models" / "export"
    files = sorted(path.name for path in folder.glob("*.onnx"))
    assert files == ["B3.onnx", "RN18.onnx", "ensemble.onnx"]
    labels = np.load(folder / "softlabels.npz")["logits"].astype(float)
    expected = expected_probabilities(fresh, mixes_logits=True)
    np.testing.assert_allclose(softmax(labels, axis=1), expected, atol=1e-3)
    parity = ParityFile.model_validate_json((folder / "parity.json").read_text("utf-8"))
    assert parity.models["ensemble"].parity.max_abs_diff <= 1e-4


def test_soft_labels_are_the_ensembles_probabilities_of_every_row_of_the_view(
    exported: Path,
) -> None:
    folder = exported / "models" / "export"
    arrays = np.load(folder / "softlabels.npz")
    assert arrays["logits"].dtype == np.float16
    actual = softmax(arrays["logits"].astype(float), axis=1)
    np.testing.assert_allclose(actual, expected_probabilities(exported), atol=1e-3)
    view = pd.read_csv(exported / "manifests" / "hq_train.csv")
    index = pd.read_json(folder / "softlabels_index.jsonl", lines=True)
    assert index["id"].tolist() == view["id"].tolist()
    assert [CLASSES[y] for y in arrays["y"]] == view["label"].tolist()


def test_reported_index_of_soft_labels_says_split_and_seen_of_each_row(exported: Path) -> None:
    folder = exported / "models" / "export"
    index = pd.read_json(folder / "softlabels_index.jsonl", lines=True).set_index("id")
    manifest = pd.read_csv(exported / "manifests" / "classification_manifest.csv").set_index("id")
    assert index["split"].tolist() == manifest.loc[index.index, "split"].tolist()
    # The teachers' filter lets one row of each class through, and a group is learnt as a whole.
    train = manifest[manifest["split"] == "train"].reset_index()
    chosen = select(train, FILTER, key="k", source_groups={})
    expected = manifest.loc[index.index, "group"].isin(set(chosen["group"]))
    assert 0 < expected.sum() < len(index)
    assert index["seen"].tolist() == expected.tolist()
    by_seen = read(folder / "hash_manifest.json")["soft_labels"]["by_seen"]
    assert by_seen["seen"]["n"] == expected.sum()
    assert by_seen["unseen"]["n"] == len(index) - expected.sum()


def test_parity_losses_and_speed_of_every_file_are_told(exported: Path) -> None:
    folder = exported / "models" / "export"
    parity = ParityFile.model_validate_json((folder / "parity.json").read_text("utf-8"))
    latency = LatencyFile.model_validate_json((folder / "latency.json").read_text("utf-8"))
    assert parity.stage == latency.stage == "stageB"
    assert list(parity.models) == list(latency.models) == ["RN18", "B3", "ensemble"]
    sizes = read(folder / "hash_manifest.json")["bytes"]
    for name, checks in parity.models.items():
        assert checks.parity.rows == 12
        assert checks.parity.max_abs_diff <= 1e-4
        assert checks.parity.reference_max_abs_diff <= 1e-3
        # 20 test rows, of which one was trained on.
        assert (checks.held_out.split, checks.held_out.n) == ("test", 19)
        assert list(checks.variants) == ["fp16", "int8"]
        for variant, loss in checks.variants.items():
            assert sizes[f"{name}.{variant}.onnx"] < sizes[f"{name}.onnx"]
            assert loss.accuracy_loss_95[0] <= loss.accuracy_loss
        keys = {f"{f}_batch_{n}" for f in ("onnx", "fp16", "int8", "torch") for n in (1, 32)}
        times = latency.models[name]
        assert set(times.milliseconds) == set(times.images_per_s) == keys


def test_metrics_are_few_numbers_that_another_run_would_not_change(exported: Path) -> None:
    metrics = read(exported / "metrics" / "export.json")
    checked = {"parity_rows": 12, "label_changes": 0}
    losses = {"fp16_accuracy_loss": 0.0, "int8_accuracy_loss": 0.0}
    assert metrics == {
        "stage": "stageB",
        "models": {"RN18": checked, "B3": checked, "ensemble": checked | losses},
    }


def test_the_model_card_says_what_the_files_say(exported: Path) -> None:
    folder = exported / "models" / "export"
    text = (folder / "model_card.md").read_text("utf-8")
    assert "Why this stage: stageB: its gain is real" in text
    assert "| expw | expw | 30 | 30 | drawn by this project; shows nobody |" in text
    loss = read(folder / "parity.json")["models"]["RN18"]["variants"]["int8"]
    size = (folder / "RN18.int8.onnx").stat().st_size
    assert f"| `RN18.int8.onnx` | {size / 1e6:.1f} | {loss['accuracy_loss']:.3f} [" in text
    assert "soft labels are of rows that a teacher has learnt" in text

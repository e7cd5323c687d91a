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
from scipy.special import log_softmax, softmax
from torchvision.transforms.functional import hflip, resized_crop

from stages import export
from stages.config import CLASSES, Preprocess
from stages.exporting.bundle import read_bundle
from stages.exporting.export_files import ParityFile
from stages.faces.decode import decode
from stages.faces.model_input import to_model_input
from stages.modeling.card import read_card
from stages.records.schema import SHARE_COLUMNS
from stages.records.views import select
from stages.runtime.files import read_json
from tests.exporting.project import FILTER, change_fusion, set_params
from tests.exporting.tiny import BIAS, PRIORS, SHARES

MODELS = ("B3", "RN18", "ensemble")
FORMS = ("", ".fp16", ".int8")
HASHED = sorted(
    [f"{name}{form}.onnx" for name in MODELS for form in FORMS]
    + [f"teachers/{n}/{f}" for n in MODELS[:2] for f in ("best.safetensors", "teacher.json")]
    + "classorder.json model_card.md parity.json reference.py".split()
    + "softlabels.npz softlabels_index.jsonl".split()
)


def inputs_of(root: Path) -> torch.Tensor:
    """Model input (37, 3, 32, 32) of the view's rows, row by row and by the book."""
    block = json.dumps(read_bundle(root / "models").card.preprocess)
    view = pd.read_csv(root / "manifests" / "hq_train.csv")
    faces = pd.read_feather(root / "standardized" / "expw_hq" / "faces-00000.arrow")
    images = faces.set_index("id").loc[view["id"], "image"]
    how = Preprocess.model_validate_json(block)
    return torch.from_numpy(
        np.stack([to_model_input(decode(i), size=32, preprocess=how) for i in images])
    )


def expected_labels(root: Path, images: torch.Tensor, temperature: np.ndarray) -> np.ndarray:
    """(37, 7): each teacher's prior put back, fused, scaled by the temperature of each row."""
    ensemble = read_bundle(root / "models").ensemble
    with torch.inference_mode():
        logits = [teacher(images).double().numpy() for teacher in ensemble.teachers]
    first, second = (z + np.array(PRIORS[n]) for z, n in zip(logits, PRIORS, strict=True))
    fit = ensemble.calibration
    if fit.space == "logits":
        fused = 0.7 * log_softmax(first, axis=1) + 0.3 * log_softmax(second, axis=1)
    else:
        fused = np.log(0.7 * softmax(first, axis=1) + 0.3 * softmax(second, axis=1))
    return softmax(fused / temperature[:, None] + np.array(fit.class_bias), axis=1)


def soft_labels(root: Path) -> tuple[np.ndarray, pd.DataFrame, dict]:
    """Probabilities, index and facts as a student finds them."""
    folder = root / "models" / "export"
    logits = np.load(folder / "softlabels.npz")["logits"].astype(float)
    index = pd.read_json(folder / "softlabels_index.jsonl", lines=True)
    facts = read_json(folder / "hash_manifest.json")["soft_labels"]
    return softmax(logits, axis=1), index, facts


def assert_metadata_explain_outputs(path: Path, images: torch.Tensor) -> None:
    """By the metadata of a file alone: its logits -> its probabilities -> its labels."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    texts = session.get_modelmeta().custom_metadata_map
    meta = {key: json.loads(text) for key, text in texts.items()}
    logits, probabilities, label = session.run(None, {"image": images.numpy()})
    bias = np.array(meta["class_bias"])
    expected = softmax(logits.astype(float) / meta["temperature"] + bias, axis=1)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    decision = meta["decision"]
    weights = (np.array(decision["val_shares"]) ** -decision["exponent"]).astype(np.float32)
    np.testing.assert_array_equal(label, (probabilities * weights).argmax(axis=1))
    is_argmax = (label == probabilities.argmax(axis=1)).all()
    assert is_argmax == (decision["exponent"] == 0), path.name
    assert (label.dtype, label.shape) == (np.int64, (37,))


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
    view = (exported / "manifests" / "hq_train.csv").read_bytes()
    assert manifest["soft_labels"]["view_sha256"] == hashlib.sha256(view).hexdigest()
    assert str(exported).encode() not in files["hash_manifest.json"]


def test_the_same_project_exports_the_same_bytes(exported, fresh):
    assert export.main([]) == 0
    for name in (*HASHED, "hash_manifest.json", "../../metrics/export.json"):
        first, second = (root / "models" / "export" / name for root in (exported, fresh))
        assert first.read_bytes() == second.read_bytes(), name


def test_incident_X1_classes_calibration_and_shapes_are_stated(exported):
    cards = {name: read_card(exported / "models/stageB" / name) for name in ("RN18", "B3")}
    bundle, images = read_bundle(exported / "models"), inputs_of(exported)
    for path in (exported / "models" / "export").glob("*.onnx"):
        assert_metadata_explain_outputs(path, images)
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
        assert meta["prior_correction"]["teachers"] == {n: list(PRIORS[n]) for n in inside}
        assert meta["manifest_sha256"] == cards["RN18"].manifest_sha256
        fit = (bundle.ensemble if name == "ensemble" else bundle.teachers[name]).fit
        for key in ("temperature", "crowd_temperature", "crowd_temperature_no_fit"):
            assert meta[key] == getattr(fit, key)
        assert meta["refinement"] == fit.refinement.model_dump(mode="json")
        face = meta["preprocess"]["face"]
        assert face["crop_margin"] == 0.3
        assert face["faces_by_crop"] == {"none": 0, "box": 80, "aligned": 0}
        # Faces that were never levelled are not to be levelled.
        assert face["levelled"] is None
        assert meta["preprocess"]["clahe"]["clip_limit"] == 2.0
        assert meta["input"] == {"image": "float32 (N, 3, 32, 32), any N, preprocessed"}
        assert session.get_inputs()[0].shape == ["batch", 3, 32, 32]
        if path.stem == "ensemble":
            assert meta["weights"] == {"RN18": 0.7, "B3": 0.3}
            (actual,) = session.run(["probabilities"], {"image": images.numpy()})
            expected = expected_labels(exported, images, np.full(37, fit.temperature))
            np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_incident_X5_faces_of_one_photo_keep_their_own_rows_and_temperatures(exported):
    probabilities, index, facts = soft_labels(exported)
    fit = read_bundle(exported / "models").ensemble.fit
    view = pd.read_csv(exported / "manifests" / "hq_train.csv")
    has_votes = view[SHARE_COLUMNS[0]].notna()
    used = np.where(has_votes, fit.crowd_temperature, fit.temperature)
    assert len(set(used)) == 2
    images = inputs_of(exported)
    np.testing.assert_allclose(probabilities, expected_labels(exported, images, used), atol=1e-3)
    assert index[["id", "split"]].to_dict() == view[["id", "split"]].to_dict()
    assert [CLASSES[y] for y in index["y"]] == view["label"].tolist()
    assert index["temperature"].tolist() == np.where(has_votes, "crowd", "majority").tolist()
    assert facts["rows_by_temperature"] == {"majority": 18, "crowd": 19}
    assert facts["majority_temperature"] == fit.temperature
    assert facts["crowd_temperature"] == fit.crowd_temperature
    assert (facts["n"], facts["distillation_temperature"]) == (37, 2.0)
    assert (facts["face_views"], facts["crowd_lacks"]) == (["as it is"], None)
    assert facts["mean_top_probability"] == pytest.approx(probabilities.max(1).mean(), abs=1e-3)
    # Sharpness is of the majority's temperature on both sides.
    seen = index["seen"].to_numpy()
    top = expected_labels(exported, images, np.full(37, fit.temperature)).max(axis=1)
    learnt = facts["sharpness"]["learnt"]
    assert learnt == {"n": seen.sum(), "mean_top_probability": pytest.approx(top[seen].mean())}
    parity = read_json(exported / "models" / "export" / "parity.json")["models"]["ensemble"]
    held_out = {key: parity["held_out"][key] for key in ("n", "mean_top_probability")}
    assert facts["sharpness"]["held_out"] == held_out


def test_reported_index_of_soft_labels_says_split_and_seen_of_each_row(exported):
    _, index, _ = soft_labels(exported)
    assert list(index) == ["i", "id", "source", "y", "split", "seen", "temperature"]
    # The teachers' filter lets one row of each class through, and a group is learnt as a whole.
    rows = pd.read_csv(exported / "manifests" / "classification_manifest.csv")
    chosen = select(rows[rows["split"] == "train"], FILTER, key="k", source_groups={})
    view = pd.read_csv(exported / "manifests" / "hq_train.csv")
    expected = view["group"].isin(chosen["group"])
    assert 0 < expected.sum() < len(index)
    assert index["seen"].tolist() == expected.tolist()


def test_another_mixture_bias_and_rule_are_exported_and_labels_are_the_mean_over_views(
    fresh, caplog
):
    decision = {"exponent": 1.0, "f1_exponent": 0.7, "gain_is_real": True, "reason": "real"}
    no_crowd = {"crowd_temperature": None, "crowd_temperature_95": None, "crowd_n": 0}
    values = {"space": "logits", "class_bias": BIAS, "val_shares": SHARES, "decision": decision}
    change_fusion(fresh, **values, **no_crowd)
    views = {"soft_label_augmentations": ["mirror", "crops"], "float32_logits": True}
    set_params(fresh, "export", variants=["fp16"], **views)
    assert export.main([]) == 0
    folder, images = fresh / "models" / "export", inputs_of(fresh)
    names = [f"{name}{form}.onnx" for name in MODELS for form in (".fp16", "")]
    assert sorted(path.name for path in folder.glob("*.onnx")) == names
    for form in (".fp16", ""):
        assert_metadata_explain_outputs(folder / f"ensemble{form}.onnx", images)
    probabilities, index, facts = soft_labels(fresh)
    places = [(1, 1), (0, 0), (0, 3), (3, 0), (3, 3)]
    views = [images] + [resized_crop(images, *at, 29, 29, [32, 32]) for at in places]
    used = np.full(37, read_bundle(fresh / "models").ensemble.calibration.temperature)
    means = [expected_labels(fresh, seen, used) for view in views for seen in (view, hflip(view))]
    np.testing.assert_allclose(probabilities, np.mean(means, axis=0), atol=1e-5)
    assert len(facts["face_views"]) == 12
    # There is no temperature of the crowd: said in the log, here, and on the card.
    assert set(index["temperature"]) == {"majority"}
    words = "have the majority's temperature: too few val rows have votes to fit the crowd's"
    assert f"soft labels of 19 rows with votes {words}" in caplog.text
    assert f"Rows with votes {words}" in (folder / "model_card.md").read_text("utf-8")
    assert facts["crowd_lacks"] == words.partition(": ")[2]
    assert facts["rows_by_temperature"] == {"majority": 37, "crowd": 0}


def test_parity_losses_and_speed_of_every_file_are_told(exported):
    folder = exported / "models" / "export"
    parity = ParityFile.model_validate_json((folder / "parity.json").read_text("utf-8"))
    latency = read_json(folder / "latency.json")
    assert parity.stage == latency["stage"] == "stageB"
    assert list(parity.models) == list(latency["models"]) == ["RN18", "B3", "ensemble"]
    forms = {f"{f}_batch_{n}" for f in ("onnx", "fp16", "int8", "torch") for n in (1, 32)}
    for name, checks in parity.models.items():
        # 20 test rows, of which one was trained on.
        held_out = checks.held_out
        assert (checks.parity.rows, held_out.split, held_out.n) == (12, "test", 19)
        assert list(checks.variants) == ["fp16", "int8"]
        assert set(latency["models"][name]["milliseconds"]) == forms
    checked = {"parity_rows": 12, "label_changes": 0}
    metrics = read_json(exported / "metrics" / "export.json")
    losses = {
        f"{variant}_accuracy_loss": round(loss.accuracy_loss, 6)
        for variant, loss in parity.models["ensemble"].variants.items()
    }
    models = {"RN18": checked, "B3": checked, "ensemble": checked | losses}
    assert metrics == {"stage": "stageB", "models": models}

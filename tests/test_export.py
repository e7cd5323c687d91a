"""The export door on a project of two tiny teachers and 60 drawn faces."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from scipy.special import softmax
from shipped import shipped

from stages import export
from stages.calibrating.calibration_schema import FittedFusion, FittedTeacher
from stages.calibrating.schema import ModelNumbers
from stages.config import Clahe, Filter, Preprocess
from stages.exporting import latency
from stages.exporting.bundle import read_bundle
from stages.exporting.schema import check_export_metrics
from stages.faces.decode import decode
from stages.faces.labels import CLASSES
from stages.faces.model_input import to_model_input
from stages.modeling.weights import load_teacher
from stages.records.views import select
from tests.exporting.project import copy_before_export, make_project, set_params
from tests.exporting.tiny import choose_fusion

MODELS = ("B3", "RN18", "ensemble")
FILES = sorted(
    [f"{name}{variant}.onnx" for name in MODELS for variant in ("", ".fp16", ".int8")]
    + [f"teachers/{name}/{file}" for name in MODELS[:2] for file in ("best.safetensors", "teacher.json")]
    + ["classorder.json", "hash_manifest.json", "model_card.md", "reference.py"]
    + ["softlabels.npz", "softlabels_index.jsonl"]
)  # fmt: skip


@pytest.fixture(autouse=True)
def few_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_MIN_REPEATS", 1)
    monkeypatch.setattr(latency, "_MAX_REPEATS", 1)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    make_project(root)
    return root


@pytest.fixture(scope="module")
def exported(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The project after export."""
    root = tmp_path_factory.mktemp("exported") / "project"
    shutil.copytree(project, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "_MIN_REPEATS", 1)
        patch.setattr(latency, "_MAX_REPEATS", 1)
        patch.chdir(root)
        assert export.main([]) == 0
        yield root


@pytest.fixture
def fresh(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy_before_export(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def teacher_logits(root: Path) -> list[torch.Tensor]:
    """(37, 7) of each teacher, row by row and by the book."""
    bundle = read_bundle(root / "models")
    block = Preprocess.model_validate_json(json.dumps(bundle.cards[0].preprocess))
    view = pd.read_csv(root / "manifests" / "hq_train.csv")
    faces = pd.read_feather(root / "standardized" / "expw_hq" / "faces-00000.arrow")
    images = faces.set_index("id").loc[view["id"], "image"]
    batch = np.stack([to_model_input(decode(i), size=32, preprocess=block) for i in images])
    with torch.inference_mode():
        return [m.model(torch.from_numpy(batch)).double() for m in bundle.members.values()]


def expected_probabilities(root: Path) -> np.ndarray:
    """(37, 7): fused and scaled."""
    members = teacher_logits(root)
    fused = 0.7 * softmax(members[0], axis=1) + 0.3 * softmax(members[1], axis=1)
    return softmax(np.log(fused) / 1.6, axis=1)


def test_the_result_is_whole(exported: Path) -> None:
    folder = exported / "models" / "export"
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert sorted(found) == FILES


def test_the_stand_ins_have_the_form_that_calibrate_promises(project: Path) -> None:
    metrics = json.loads((project / "metrics" / "teachers.json").read_text("utf-8"))
    calibration = json.loads((project / "models/calibrated/calibration.json").read_text("utf-8"))
    for numbers in metrics["stageB"].values():
        ModelNumbers.model_validate(numbers)
    for entry in calibration["stages"]["stageB"]["teachers"].values():
        FittedTeacher.model_validate(entry)
    for entry in calibration["stages"]["stageB"]["fused"].values():
        FittedFusion.model_validate(entry)


def test_the_same_project_exports_the_same_bytes(exported: Path, fresh: Path) -> None:
    assert export.main([]) == 0
    first, second = (root / "models" / "export" for root in (exported, fresh))
    for name in FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_a_teacher_loads_back_with_one_call(exported: Path) -> None:
    for name in ("RN18", "B3"):
        model, card = load_teacher(exported / "models" / "export" / "teachers" / name)
        origin, known = load_teacher(exported / "models" / "stageB" / name)
        image = torch.randn(3, 3, 32, 32)
        assert torch.equal(model(image), origin(image))
        assert card == known
        assert not model.training


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
        assert set(meta["teachers"]) == ({"RN18", "B3"} if name == "ensemble" else {name})
        assert meta["preprocess"]["face"]["crop_margin"] == 0.3
        assert meta["preprocess"]["face"]["faces_by_crop"] == {"none": 0, "box": 60, "aligned": 0}
        assert session.get_inputs()[0].shape == ["batch", 3, 32, 32]


def test_a_mixture_of_logits_is_exported_as_it_was_fitted(fresh: Path) -> None:
    choose_fusion(fresh / "models", "fixed_logits")
    set_params(fresh, "export", variants=[])
    assert export.main([]) == 0
    files = [path.name for path in (fresh / "models" / "export").glob("*.onnx")]
    assert sorted(files) == ["B3.onnx", "RN18.onnx", "ensemble.onnx"]
    bias = np.array([0.3, -0.2, 0.1, 0.0, -0.1, -0.2, 0.1])
    members = [torch.log_softmax(each, dim=1).numpy() for each in teacher_logits(fresh)]
    expected = softmax((0.7 * members[0] + 0.3 * members[1]) / 1.2 + bias, axis=1)
    labels = np.load(fresh / "models" / "export" / "softlabels.npz")["logits"].astype(float)
    np.testing.assert_allclose(softmax(labels, axis=1), expected, atol=1e-3)
    metrics = json.loads((fresh / "metrics" / "export.json").read_text("utf-8"))
    assert metrics["export"]["stageB"]["ensemble"]["max_abs_diff"] <= 1e-4


def test_soft_labels_are_the_ensembles_probabilities_of_every_row_of_the_view(
    exported: Path,
) -> None:
    folder = exported / "models" / "export"
    arrays = np.load(folder / "softlabels.npz")
    assert arrays["logits"].dtype == np.float16
    found = softmax(arrays["logits"].astype(float), axis=1)
    np.testing.assert_allclose(found, expected_probabilities(exported), atol=1e-3)
    view = pd.read_csv(exported / "manifests" / "hq_train.csv")
    index = pd.read_json(folder / "softlabels_index.jsonl", lines=True)
    assert index["id"].tolist() == view["id"].tolist()
    assert [CLASSES[y] for y in arrays["y"]] == view["label"].tolist()


def test_reported_index_of_soft_labels_says_split_and_seen_of_each_row(exported: Path) -> None:
    index = pd.read_json(
        exported / "models" / "export" / "softlabels_index.jsonl", lines=True
    ).set_index("id")
    manifest = pd.read_csv(exported / "manifests" / "classification_manifest.csv").set_index("id")
    assert index["split"].tolist() == manifest.loc[index.index, "split"].tolist()
    # The teachers' filter lets one row of each class through, and a group is learnt as a whole.
    train = manifest[manifest["split"] == "train"].reset_index()
    rows = Filter(max_per_class=1)
    chosen = select(train, rows, key="k", source_groups={})
    expected = manifest.loc[index.index, "group"].isin(set(chosen["group"]))
    assert 0 < expected.sum() < len(index)
    assert index["seen"].tolist() == expected.tolist()
    metrics = json.loads((exported / "metrics" / "export.json").read_text("utf-8"))
    by_seen = metrics["export"]["stageB"]["soft_labels"]["by_seen"]
    assert by_seen["seen"]["n"] == expected.sum()
    assert by_seen["unseen"]["n"] == len(index) - expected.sum()


def test_the_ensemble_file_says_the_same_as_the_soft_labels(exported: Path) -> None:
    folder = exported / "models" / "export"
    session = onnxruntime.InferenceSession(
        folder / "ensemble.onnx", providers=["CPUExecutionProvider"]
    )
    meta = session.get_modelmeta().custom_metadata_map
    assert json.loads(meta["weights"]) == {"RN18": 0.7, "B3": 0.3}
    assert json.loads(meta["temperature"]) == 1.6
    faces = pd.read_feather(exported / "standardized" / "expw_hq" / "faces-00000.arrow")
    first = faces.set_index("id").loc["expw_hq/photo00#0", "image"]
    clahe = json.loads(meta["preprocess"])["clahe"]
    settings = Clahe(clip_limit=clahe["clip_limit"], tiles=clahe["tiles"][0])
    block = shipped(Preprocess, clahe=settings)
    image = to_model_input(decode(first), size=32, preprocess=block)[None]
    found = session.run(["probabilities"], {"image": image})[0][0]
    np.testing.assert_allclose(found, expected_probabilities(exported)[0], atol=1e-4)


def test_hash_manifest_holds_for_every_file(exported: Path) -> None:
    folder = exported / "models" / "export"
    text = (folder / "hash_manifest.json").read_text("utf-8")
    manifest = json.loads(text)
    assert list(manifest["files"]) == [name for name in FILES if name != "hash_manifest.json"]
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
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
    assert str(exported) not in text


def test_metrics_hold_parity_losses_and_speed_of_every_file(exported: Path) -> None:
    metrics = json.loads((exported / "metrics" / "export.json").read_text("utf-8"))
    report = metrics["export"]["stageB"]
    assert list(report) == ["RN18", "B3", "ensemble", "soft_labels"]
    for name in MODELS:
        found = report[name]
        assert found["n"] == 12
        assert 0 <= found["max_abs_diff"] <= 1e-4
        assert 0 <= found["reference_max_abs_diff"] <= 1e-3
        # 20 test rows, of which one was trained on.
        assert (found["held_out"]["split"], found["held_out"]["n"]) == ("test", 19)
        folder = exported / "models" / "export"
        for variant in ("fp16", "int8"):
            size = (folder / f"{name}.{variant}.onnx").stat().st_size
            assert found[variant]["bytes"] == size < found["bytes"]
            assert found[variant]["accuracy_loss_95"][0] <= found[variant]["accuracy_loss"]
        keys = {f"{f}_batch_{n}" for f in ("onnx", "fp16", "int8", "torch") for n in (1, 32)}
        assert set(found["latency_ms"]) == set(found["images_per_s"]) == keys


def test_metrics_that_lack_a_key_or_have_another_are_refused(exported: Path) -> None:
    text = (exported / "metrics" / "export.json").read_text("utf-8")
    check_export_metrics(json.loads(text))
    for key in ("soft_labels", "ensemble", "held_out", "accuracy_95", "about", "fp16_batch_1", "n"):
        with pytest.raises(ValidationError):
            check_export_metrics(json.loads(text.replace(f'"{key}"', '"misnamed"')))
    wrong = json.loads(text)
    del wrong["export"]["stageB"]["ensemble"]["fp16"]
    with pytest.raises(ValidationError, match="expected times of"):
        check_export_metrics(wrong)
    wrong = json.loads(text)
    wrong["export"]["stageB"]["soft_labels"]["n"] += 1
    with pytest.raises(ValidationError, match="every row in one part"):
        check_export_metrics(wrong)


def test_the_model_card_says_what_the_files_say(exported: Path) -> None:
    text = (exported / "models" / "export" / "model_card.md").read_text("utf-8")
    assert "Why this stage: stageB: its gain is real" in text
    assert "| expw | expw | 30 | 30 | drawn by this project; shows nobody |" in text
    assert "On 290 rows of test, by majority labels; calibrated on val." in text
    assert "| ensemble | scaled | 0.500 [0.375, 0.625] | 0.520 [0.395, 0.645] |" in text
    assert "| expw_lq_gate | 77 | 0 | 0.500 [0.375, 0.625] |" in text
    assert "Neutral has the fewest rows behind its numbers: 34." in text
    metrics = json.loads((exported / "metrics" / "export.json").read_text("utf-8"))
    loss = metrics["export"]["stageB"]["RN18"]["int8"]
    low, high = loss["accuracy_loss_95"]
    shown = f"{loss['accuracy_loss']:.3f} [{low:.3f}, {high:.3f}] | {loss['top_class_changes']} |"
    assert f"| `RN18.int8.onnx` | {loss['bytes'] / 1e6:.1f} | {shown}" in text
    assert "soft labels are of rows that a teacher has learnt" in text

"""Teachers of one stage that learnt from pictures of unlike sizes, means and standard deviations."""

import json
import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from shipped import shipped
from torchvision.transforms import functional as tv

from stages import export
from stages.calibrating.calibration import Calibration
from stages.config import CLASSES, Preprocess
from stages.exporting.bundle import read_bundle
from stages.exporting.checks import torch_answers
from stages.exporting.export_files import ParityFile
from stages.exporting.onnx_file import (
    CalibratedModel,
    open_session,
    run_session,
    to_onnx,
    write_onnx,
    write_variant,
)
from stages.exporting.reference import Expressions
from stages.exporting.teacher_inputs import ModelInput, adapt
from stages.faces.decode import decode
from stages.faces.model_input import to_model_input
from stages.records.folder import read_folder
from stages.runtime.files import read_json, write_json
from tests.exporting.project import set_params, write_manifests
from tests.exporting.tiny import PRIORS, SHARES, make_teacher

BRIGHT = {"mean": (0.6, 0.5, 0.4), "std": (0.3, 0.25, 0.2)}


@pytest.mark.parametrize("sizes", [(97, 129), (32, 32), (40, 33)])
def test_the_file_makes_each_teachers_picture_of_its_own_as_torch_does(tmp_path, sizes):
    inputs = [
        ModelInput(size, shipped(Preprocess, **changes))
        for size, changes in zip(sizes, ({}, BRIGHT), strict=True)
    ]
    given = max(inputs, key=lambda each: each.image_size)
    teachers = [make_teacher(name, seed=1) for name in ("RN18", "B3")]
    pixels = torch.rand(9, 3, given.image_size, given.image_size)

    def normalised(how: ModelInput) -> torch.Tensor:
        resized = tv.resize(pixels, [how.image_size] * 2, antialias=True)
        return tv.normalize(resized, how.preprocess.mean, how.preprocess.std)

    adapted, images = adapt(teachers, inputs, given=given), normalised(given)
    assert [each is teacher for each, teacher in zip(adapted, teachers, strict=True)] == [
        own is given for own in inputs
    ]
    with torch.inference_mode():
        for each, teacher, own in zip(adapted, teachers, inputs, strict=True):
            torch.testing.assert_close(each(images), teacher(normalised(own)), rtol=0, atol=1e-3)
    calibration = Calibration((0.7, 0.3), tuple(PRIORS.values()), 1.7, SHARES)
    model = CalibratedModel(adapted, calibration=calibration).eval()
    expected = torch_answers(model, images).probabilities
    proto = to_onnx(model, image_size=given.image_size, opset=18)
    write_onnx(full := tmp_path / "a.onnx", proto, metadata={})
    files = {full: 1e-4}
    files |= {
        write_variant(variant, proto, full=full, metadata={}): tolerance
        for variant, tolerance in (("fp16", 0.02), ("int8", 0.2))
    }
    for path, tolerance in files.items():
        actual = run_session(open_session(path, threads=1), images.numpy()).probabilities
        np.testing.assert_allclose(actual, expected, atol=tolerance, err_msg=path.name)


@pytest.fixture(scope="module")
def unlike(project, tmp_path_factory):
    """The project with a larger B3 of another mean and std; exported.

    Its logits.parquet are of no network: nothing that is measured here may come from them.
    """
    root = Path(shutil.copytree(project, tmp_path_factory.mktemp("unlike") / "project"))
    path = root / "models" / "stageB" / "B3" / "teacher.json"
    card = read_json(path)
    write_json(path, card | {"image_size": 41, "preprocess": card["preprocess"] | BRIGHT})
    set_params(root, "export", max_accuracy_loss=0.6, float32_logits=True)
    with chdir(root):
        assert export.main([]) == 0
    return root


def pictures_of(root, ids):
    faces = pd.read_feather(root / "standardized" / "expw_hq" / "faces-00000.arrow")
    return map(decode, faces.set_index("id").loc[ids, "image"])


def logits_of(root, ids, teachers):
    """Logits (M, N, 7) of faces by teachers, each with its own input, by the plain way."""
    logits = []
    for model in teachers.values():
        size, preprocess = model.input
        how = {"size": size, "preprocess": preprocess}
        batch = np.stack([to_model_input(face, **how) for face in pictures_of(root, ids)])
        with torch.inference_mode():
            logits.append(model.teachers[0](torch.from_numpy(batch)).double().numpy())
    return np.stack(logits)


def test_each_file_says_its_input_and_soft_labels_are_of_each_teachers_own(unlike):
    folder, bundle = unlike / "models" / "export", read_bundle(unlike / "models")
    own = {name: model.input.normalised() for name, model in bundle.teachers.items()}
    assert [each["size"] for each in own.values()] == [32, 41]
    for path in folder.glob("*.onnx"):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        texts = session.get_modelmeta().custom_metadata_map
        name = path.name.partition(".")[0]
        block, expected = json.loads(texts["preprocess"]), own["B3" if name == "ensemble" else name]
        assert {key: block[key] for key in expected} == expected
        size = expected["size"]
        assert session.get_inputs()[0].shape == ["batch", 3, size, size]
        assert ("teacher_inputs" in texts) == (name == "ensemble")
        assert name != "ensemble" or json.loads(texts["teacher_inputs"])["teachers"] == own
    labelled = pd.read_csv(unlike / "manifests" / "hq_train.csv")
    outputs = bundle.ensemble.calibration.apply(logits_of(unlike, labelled["id"], bundle.teachers))
    index = pd.read_json(folder / "softlabels_index.jsonl", lines=True)
    is_crowds = (index["temperature"] == "crowd").to_numpy()[:, None]
    actual = softmax(np.load(folder / "softlabels.npz")["logits"].astype(np.float64), axis=1)
    expected = np.where(is_crowds, outputs.crowd, outputs.calibrated)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    assert "Each teacher saw its own input" in (folder / "hash_manifest.json").read_text("utf-8")


def test_what_one_input_for_all_changes_is_measured_on_val_and_told(unlike):
    folder, bundle = unlike / "models" / "export", read_bundle(unlike / "models")
    models = ParityFile.model_validate_json((folder / "parity.json").read_bytes()).models
    assert models["RN18"].shared_input is models["B3"].shared_input is None
    loss = models["ensemble"].shared_input
    rows = pd.read_csv(unlike / "manifests" / "classification_manifest.csv")
    rows = rows[rows["split"] == "val"]
    own = bundle.ensemble.calibration.apply(logits_of(unlike, rows["id"], bundle.teachers))
    file = Expressions(folder / "ensemble.onnx")
    labels, probabilities = file.predict([*pictures_of(unlike, rows["id"])])
    differences = np.abs(probabilities - own.calibrated).max()
    own_labels = [CLASSES[k] for k in own.named]
    assert loss.n == len(rows) == 20
    assert loss.max_abs_diff == pytest.approx(differences, abs=1e-3)
    assert loss.max_abs_diff > 0.01
    assert loss.accuracy == np.mean(rows["label"] == labels)
    assert loss.own_accuracy == np.mean(rows["label"] == own_labels)
    assert loss.label_changes == np.sum(np.array(own_labels) != labels)
    metrics = read_json(unlike / "metrics" / "export.json")["models"]["ensemble"]
    assert metrics["shared_input_accuracy_loss"] == round(loss.accuracy_loss, 6)
    sentence = (
        "The teachers learnt from unlike inputs: RN18 32 px, B3 41 px; size, mean and std of each "
        "are in the metadata. The ensemble's files take one picture, of 41 px, and make each "
        "teacher's input of it. On all 20 val rows that changes a probability by at most "
        f"{loss.max_abs_diff:.3f}: accuracy {loss.accuracy:.3f}, and {loss.own_accuracy:.3f} where"
    )
    assert sentence in (folder / "model_card.md").read_text("utf-8")


def test_one_input_that_loses_too_much_fails_the_stage(unlike, tmp_path, monkeypatch, capsys):
    root = Path(shutil.copytree(unlike, tmp_path / "project"))
    monkeypatch.chdir(root)
    # Label val as the teachers do that see their own inputs.
    bundle, rows = read_bundle(Path("models")), read_folder(Path("manifests")).rows
    is_val = rows["split"] == "val"
    logits = logits_of(root, rows.loc[is_val, "id"], bundle.teachers)
    named = bundle.ensemble.calibration.apply(logits).named
    rows.loc[is_val, "label"] = np.array(CLASSES)[named]
    sha256 = write_manifests(Path("manifests"), rows)
    for path in Path("models").rglob("*.json"):
        text = path.read_text("utf-8").replace(bundle.card.manifest_sha256, sha256)
        path.write_text(text, "utf-8")
    set_params(root, "export", max_accuracy_loss=0.1, variants=[])
    assert export.main([]) == 2
    message = capsys.readouterr().err
    assert "ensemble.onnx: loses 1.0000 " in message
    assert (
        "on 20 rows; expected at most export.max_accuracy_loss = 0.1; raise it or give" in message
    )
    assert "differ less (RN18 32 px, B3 41 px): one input serves them all" in message

"""The export door on a project of two tiny teachers and 40 drawn faces."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
import yaml
from scipy.special import softmax
from small_faces import small_face

from stages import export
from stages.config import Preprocess
from stages.exporting import parity, release
from stages.exporting.bundle import read_bundle
from stages.preprocessing.decode import decode, encode_png
from stages.preprocessing.model_input import to_model_input
from stages.records.faces import Face, ShardWriter
from stages.records.schema import COLUMNS, SHARE_COLUMNS, write_manifest
from stages.sources.labels import CLASSES
from tests.exporting.tiny import BACKBONES, save_tiny_teacher, write_calibration

FILES = [
    "B3.onnx", "RN18.onnx", "classorder.json", "ensemble.onnx", "hash_manifest.json",
    "softlabels.npz", "softlabels_index.jsonl",
]  # fmt: skip


@pytest.fixture(autouse=True)
def few_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "_MAX_REPEATS", 5)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project up to and including calibrate; the faces are several of each photo."""
    root = tmp_path_factory.mktemp("project")
    params = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text("utf-8"))
    params["export"] |= {
        "parity_rows": 12,
        "parity_tolerance": 1e-4,
        "soft_labels_view": "hq_train",
    }
    params["machine"] = {"device": "cpu", "workers": 0}
    for stage in ("stageA", "stageB"):
        params[stage] |= {"learning_rate": 0.001, "min_lr": 0.00001}
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    rows = write_faces(root / "standardized" / "expw_hq")
    write_manifest(root / "manifests" / "hq_train.csv", rows)
    cards = {
        name: save_tiny_teacher(root / "models", name, seed=seed)
        for seed, name in enumerate(BACKBONES)
    }
    write_calibration(root / "models", cards)
    return root


def write_faces(folder: Path) -> pd.DataFrame:
    """Faces in the shards and, for all but the last three, in a view."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    rows = []
    with ShardWriter(folder, shard_mb=1) as writer:
        for number in reversed(range(40)):
            face = draw_face(f"expw_hq/photo{number // 4:02d}#{number % 4}", number, rng=rng)
            writer.add(face)
            rows.append({column: getattr(face, column, None) for column in COLUMNS})
    frame = pd.DataFrame(rows).assign(source="expw_hq", group=lambda f: f["photo"], split="train")
    frame = frame.assign(official=frame["split"], twin_splits="").astype({"official": "str"})
    frame[[*SHARE_COLUMNS, "confidence"]] = np.nan
    return frame.sort_values("id", ignore_index=True)[list(COLUMNS)].iloc[:-3]


def draw_face(id_: str, number: int, *, rng: np.random.Generator) -> Face:
    height, width = (int(n) for n in rng.integers(20, 60, 2))
    pixels = cv2.blur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (5, 5))
    return small_face(
        id_,
        image=encode_png(pixels),
        width=width,
        height=height,
        native_px=min(height, width),
        label=CLASSES[number % 7],
        photo=id_.split("#")[0],
    )


@pytest.fixture(scope="module")
def exported(project: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "_MAX_REPEATS", 5)
        patch.chdir(project)
        assert export.main([]) == 0
        yield project


@pytest.fixture
def fresh(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project before export, with an older result in place."""
    shutil.copytree(
        project, tmp_path / "project", ignore=shutil.ignore_patterns("export", "metrics")
    )
    old = tmp_path / "project" / "models" / "export" / "old.txt"
    old.parent.mkdir()
    old.write_text("old")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def set_params(root: Path, section: str, **changes: Any) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text("utf-8"))
    params[section] |= changes
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def assert_nothing_published(root: Path) -> None:
    assert [path.name for path in (root / "models" / "export").iterdir()] == ["old.txt"]
    assert sorted(path.name for path in (root / "models").iterdir()) == [
        "calibrated", "export", "stageB",
    ]  # fmt: skip
    assert not (root / "metrics").exists()


def expected_probabilities(root: Path) -> np.ndarray:
    """(37, 7): decode, prepare, run, fuse and scale, row by row and by the book."""
    bundle = read_bundle(root / "models", stage="stageB", fusion="fixed")
    block = Preprocess.model_validate_json(json.dumps(bundle.cards[0].preprocess))
    view = pd.read_csv(root / "manifests" / "hq_train.csv")
    faces = pd.read_feather(root / "standardized" / "expw_hq" / "faces-00000.arrow")
    images = faces.set_index("id").loc[view["id"], "image"]
    batch = np.stack([to_model_input(decode(i), size=32, preprocess=block) for i in images])
    with torch.inference_mode():
        members = [m.model(torch.from_numpy(batch)).double() for m in bundle.members.values()]
    fused = 0.7 * softmax(members[0], axis=1) + 0.3 * softmax(members[1], axis=1)
    return softmax(np.log(fused) / 1.6, axis=1)


def test_the_result_is_whole(exported: Path) -> None:
    assert sorted(path.name for path in (exported / "models" / "export").iterdir()) == FILES


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
    block = Preprocess.model_validate_json(
        json.dumps({"clahe": {"clip_limit": clahe["clip_limit"], "tiles": clahe["tiles"][0]}})
    )
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
    assert str(exported) not in text


def test_metrics_hold_parity_and_latency_of_every_file(exported: Path) -> None:
    metrics = json.loads((exported / "metrics" / "export.json").read_text("utf-8"))
    report = metrics["export"]["stageB"]
    assert list(report) == ["RN18", "B3", "ensemble", "soft_labels"]
    for name in ("RN18", "B3", "ensemble"):
        assert report[name]["n"] == 12
        assert 0 <= report[name]["max_abs_diff"] <= 1e-4
        assert sorted(report[name]["latency_ms"]) == [
            "onnx_batch_1", "onnx_batch_32", "torch_batch_1", "torch_batch_32",
        ]  # fmt: skip


def test_incident_X2_a_parity_that_fails_fails_the_stage(
    fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_params(fresh, "export", parity_tolerance=1e-15)
    assert export.main([]) == 2
    assert "RN18.onnx: probabilities of onnxruntime and torch differ by" in capsys.readouterr().err
    assert_nothing_published(fresh)


def test_incident_X2_an_exporter_that_fails_fails_the_stage(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise torch.onnx.OnnxExporterError("no ONNX function for aten::nothing")

    monkeypatch.setattr(release, "to_onnx", refuse)
    with pytest.raises(torch.onnx.OnnxExporterError):
        export.main([])
    assert_nothing_published(fresh)


def test_incident_X5_a_row_without_image_fails_the_stage(
    fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    view = fresh / "manifests" / "hq_train.csv"
    text = view.read_text("utf-8").replace("expw_hq/photo00#2,", "expw_hq/photo00#9,")
    view.write_text(text, encoding="utf-8")
    # Rows are kept in the order of their ids: 9 takes the last place of its photo.
    rows = text.splitlines()
    rows[3], rows[4] = rows[4], rows[3]
    view.write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert export.main([]) == 2
    assert "1 of 37 manifest rows have no image: expw_hq/photo00#9" in capsys.readouterr().err
    assert_nothing_published(fresh)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("models/calibrated/calibration.json", "models/calibrated/calibration.json: missing"),
        ("models/stageB/B3/teacher.json", "stageB/B3/teacher.json: missing"),
        ("manifests/hq_train.csv", "hq_train.csv: no such file in manifests/"),
        ("standardized/expw_hq/index.json", "standardized/: no source found"),
    ],
)
def test_what_is_missing_is_named(
    fresh: Path, capsys: pytest.CaptureFixture[str], path: str, message: str
) -> None:
    (fresh / path).unlink()
    assert export.main([]) == 2
    assert message in capsys.readouterr().err
    assert_nothing_published(fresh)


def test_a_view_without_rows_is_refused(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    view = fresh / "manifests" / "hq_train.csv"
    view.write_text(view.read_text("utf-8").splitlines()[0] + "\n", encoding="utf-8")
    assert export.main([]) == 2
    assert (
        "manifests/hq_train.csv: export.soft_labels_view: expected rows" in capsys.readouterr().err
    )
    assert_nothing_published(fresh)

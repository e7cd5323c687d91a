"""The export door refuses what is no result, and leaves the older one in place."""

import hashlib
import re
from pathlib import Path

import pytest
import torch

from stages import export
from stages.exporting import bundle, checks, onnx_file
from stages.runtime.files import read_json, write_json
from tests.exporting.project import set_params

Capture = pytest.CaptureFixture[str]
VIEW = "manifests/hq_train.csv"
MANIFEST = "manifests/classification_manifest.csv"


@pytest.fixture
def root(fresh):
    """The project with an older export."""
    (fresh / "models" / "export").mkdir()
    (fresh / "models" / "export" / "old.txt").write_text("old")
    return fresh


def assert_nothing_published(root: Path) -> None:
    assert [path.name for path in (root / "models" / "export").iterdir()] == ["old.txt"]
    models = sorted(path.name for path in (root / "models").iterdir())
    assert models == ["calibrated", "export", "stageA", "stageB"]
    assert not (root / "metrics" / "export.json").exists()


def assert_refused(root: Path, capsys: Capture, *messages: str) -> None:
    assert export.main([]) == 2
    error = capsys.readouterr().err
    for message in messages:
        assert message in error
    assert_nothing_published(root)


def test_incident_X2_a_variant_that_loses_too_much_fails_the_stage(root, monkeypatch, capsys):
    def loses_all(name, smaller, *, full, rows, allowed):
        wrong = checks.Answers(full.probabilities, (full.labels + 1) % 7)
        return checks.measure_loss(name, wrong, full=full, rows=rows, allowed=allowed)

    set_params(root, "export", max_accuracy_loss=0.99, variants=["int8"])
    monkeypatch.setattr(bundle, "measure_loss", loses_all)
    message = "RN18.int8.onnx: loses 1.0000 [1.0000, 1.0000] of the accuracy on 19 rows"
    assert_refused(root, capsys, message)


@pytest.mark.parametrize("variant", ["fp16", "int8"])
def test_incident_X6_a_variant_that_saves_nothing_fails_the_stage(
    root, monkeypatch, capsys, variant
):
    set_params(root, "export", variants=[variant])
    monkeypatch.setattr(onnx_file, "VARIANTS", {variant: lambda proto: proto})
    messages = ("are 1.00 of RN18.onnx", f"take {variant} out of export.variants")
    assert_refused(root, capsys, f"RN18.{variant}.onnx: 1.", *messages)


def test_incident_X2_a_parity_that_fails_fails_the_stage(root, capsys):
    set_params(root, "export", parity_tolerance=1e-15)
    message = "RN18.onnx: probabilities of onnxruntime and torch differ by"
    assert_refused(root, capsys, message)


def test_incident_X2_an_exporter_that_fails_fails_the_stage(root, monkeypatch):
    def refuse(*args: object, **options: object) -> None:
        raise torch.onnx.OnnxExporterError("no ONNX function for aten::nothing")

    monkeypatch.setattr(bundle, "to_onnx", refuse)
    with pytest.raises(torch.onnx.OnnxExporterError):
        export.main([])
    assert_nothing_published(root)


def other_weights(text: str) -> str:
    return re.sub(r"^(stageB,B3,.*),\w{64}$", rf"\1,{'e' * 64}", text, flags=re.MULTILINE)


def without_image(text: str) -> str:
    """Rows are kept in the order of their ids: 9 takes the last place of its photo."""
    rows = text.replace("expw_hq/photo00#2,", "expw_hq/photo00#9,").splitlines(keepends=True)
    return "".join([*rows[:3], rows[4], rows[3], *rows[5:]])


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        pytest.param(
            "models/calibrated/scores.csv",
            other_weights,
            "models/calibrated/scores.csv: stageB: B3: scores other weights",
            id="test_incident_N6_scores_of_other_weights_fail_the_stage",
        ),
        pytest.param(
            VIEW,
            without_image,
            "1 of 37 manifest rows have no image: expw_hq/photo00#9",
            id="test_incident_X5_a_row_without_image_fails_the_stage",
        ),
        (VIEW, lambda text: text.splitlines()[0] + "\n", f"{VIEW}: export.soft_labels_view: expec"),
        (
            MANIFEST,
            lambda text: "".join(text.splitlines(True)[:-1]),
            "expected the teachers' manifest",
        ),
    ],
)
def test_what_does_not_belong_together_fails_the_stage(root, capsys, path, change, message):
    text = (root / path).read_text("utf-8")
    (root / path).write_text(change(text), encoding="utf-8", newline="\n")
    index = read_json(root / "manifests" / "index.json")
    if path == MANIFEST:
        sha256 = hashlib.sha256((root / path).read_bytes()).hexdigest()
        index["files"]["classification_manifest.csv"]["sha256"] = sha256
        write_json(root / "manifests" / "index.json", index)
    assert_refused(root, capsys, message)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("models/calibrated/calibration.json", "models/calibrated/calibration.json: missing"),
        ("models/calibrated/scores.csv", "models/calibrated/scores.csv: no such file"),
        ("models/stageB/B3/teacher.json", "stageB/B3/teacher.json: missing"),
        ("models/stageA/RN18/alignmentreport.json", "stageA/RN18/alignmentreport.json: missing"),
        (VIEW, "hq_train.csv: no such file in manifests/"),
        ("standardized/expw_hq/index.json", "standardized/: no source found"),
    ],
)
def test_what_is_missing_is_named(root, capsys, path, message):
    (root / path).unlink()
    assert_refused(root, capsys, message)

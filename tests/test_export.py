"""The export door refuses what is no result, and leaves the older one in place."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch

from stages import export
from stages.exporting import bundle, variants
from tests.exporting.project import (
    assert_nothing_published,
    copy_before_export,
    make_project,
    set_params,
)

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    make_project(root)
    return root


@pytest.fixture
def fresh(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy_before_export(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def assert_refused(root: Path, capsys: Capture, *messages: str) -> None:
    assert export.main([]) == 2
    error = capsys.readouterr().err
    for message in messages:
        assert message in error
    assert_nothing_published(root)


def test_incident_X2_a_variant_that_loses_too_much_fails_the_stage(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def spoilt(proto: onnx.ModelProto) -> onnx.ModelProto:
        """Answers with the classes in another order."""
        changed = variants.to_int8(proto)
        (last,) = (node for node in changed.graph.node if "probabilities" in node.output)
        last.output[0] = "in_order"
        order = onnx.numpy_helper.from_array(np.roll(np.arange(7), 1), "order")
        changed.graph.initializer.append(order)
        turn = onnx.helper.make_node("Gather", ["in_order", "order"], ["probabilities"], axis=1)
        changed.graph.node.append(turn)
        return changed

    set_params(fresh, "export", max_accuracy_loss=0.99, variants=["int8"])
    monkeypatch.setattr(bundle, "VARIANTS", {"int8": spoilt})
    message = "RN18.int8.onnx: loses 1.0000 [1.0000, 1.0000] of the accuracy on 19 rows"
    assert_refused(fresh, capsys, message)


@pytest.mark.parametrize("variant", ["fp16", "int8"])
def test_incident_X6_a_variant_that_saves_nothing_fails_the_stage(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, variant: str
) -> None:
    set_params(fresh, "export", variants=[variant])
    monkeypatch.setattr(bundle, "VARIANTS", {variant: lambda proto: proto})
    assert_refused(
        fresh,
        capsys,
        f"RN18.{variant}.onnx: 1.",
        "are 1.00 of RN18.onnx",
        f"take {variant} out of export.variants",
    )


def test_incident_X2_a_parity_that_fails_fails_the_stage(fresh: Path, capsys: Capture) -> None:
    set_params(fresh, "export", parity_tolerance=1e-15)
    message = "RN18.onnx: probabilities of onnxruntime and torch differ by"
    assert_refused(fresh, capsys, message)


def test_incident_X2_an_exporter_that_fails_fails_the_stage(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise torch.onnx.OnnxExporterError("no ONNX function for aten::nothing")

    monkeypatch.setattr(bundle, "to_onnx", refuse)
    with pytest.raises(torch.onnx.OnnxExporterError):
        export.main([])
    assert_nothing_published(fresh)


def test_incident_N6_scores_of_other_weights_fail_the_stage(fresh: Path, capsys: Capture) -> None:
    path = fresh / "models" / "calibrated" / "scores.csv"
    scores = pd.read_csv(path, keep_default_na=False, dtype=str)
    is_b3 = (scores["stage"] == "stageB") & (scores["model"] == "B3")
    scores.loc[is_b3, "weights_sha256"] = "e" * 64
    scores.to_csv(path, index=False)
    assert_refused(fresh, capsys, "models/calibrated/scores.csv: stageB: B3: scores other weights")


def test_another_manifest_than_the_teachers_fails_the_stage(fresh: Path, capsys: Capture) -> None:
    folder = fresh / "manifests"
    lines = (folder / "classification_manifest.csv").read_text("utf-8").splitlines(keepends=True)
    (folder / "classification_manifest.csv").write_text("".join(lines[:-1]), encoding="utf-8")
    index = json.loads((folder / "index.json").read_text("utf-8"))
    digest = hashlib.sha256((folder / "classification_manifest.csv").read_bytes()).hexdigest()
    index["files"]["classification_manifest.csv"]["sha256"] = digest
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    assert_refused(fresh, capsys, "expected the teachers' manifest")


def test_incident_X5_a_row_without_image_fails_the_stage(fresh: Path, capsys: Capture) -> None:
    view = fresh / "manifests" / "hq_train.csv"
    text = view.read_text("utf-8").replace("expw_hq/photo00#2,", "expw_hq/photo00#9,")
    # Rows are kept in the order of their ids: 9 takes the last place of its photo.
    rows = text.splitlines()
    rows[3], rows[4] = rows[4], rows[3]
    view.write_text("\n".join(rows) + "\n", encoding="utf-8")
    message = "1 of 37 manifest rows have no image: expw_hq/photo00#9"
    assert_refused(fresh, capsys, message)


def test_a_view_without_rows_is_refused(fresh: Path, capsys: Capture) -> None:
    view = fresh / "manifests" / "hq_train.csv"
    view.write_text(view.read_text("utf-8").splitlines()[0] + "\n", encoding="utf-8")
    message = "manifests/hq_train.csv: export.soft_labels_view: expected rows"
    assert_refused(fresh, capsys, message)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("models/calibrated/calibration.json", "models/calibrated/calibration.json: missing"),
        ("models/calibrated/scores.csv", "models/calibrated/scores.csv: no such file"),
        ("models/stageB/B3/teacher.json", "stageB/B3/teacher.json: missing"),
        ("models/stageA/RN18/alignmentreport.json", "stageA/RN18/alignmentreport.json: missing"),
        ("manifests/hq_train.csv", "hq_train.csv: no such file in manifests/"),
        ("standardized/expw_hq/index.json", "standardized/: no source found"),
    ],
)
def test_what_is_missing_is_named(fresh: Path, capsys: Capture, path: str, message: str) -> None:
    (fresh / path).unlink()
    assert_refused(fresh, capsys, message)

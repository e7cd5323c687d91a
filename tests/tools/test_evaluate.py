import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
import yaml
from exporting.tiny import SIZE, make_card, make_teacher
from onnx import TensorProto, helper
from pydantic import ValidationError
from small_faces import small_face, write_faces

from stages import calibrate
from stages.calibrating.schema import check_numbers_of_rows, check_own_numbers
from stages.config import CLASSES, Preprocess
from stages.exporting import metadata
from stages.faces.decode import decode
from stages.faces.model_input import to_model_input
from stages.modeling.weights import save_teacher
from stages.records.schema import SHARE_COLUMNS, targets_of
from stages.scoring.metrics import score, softmax
from tests.calibrating.run_folder import build_run_folder
from tools import evaluate
from tools.onnx_model import METADATA_VERSION

GATE = "manifests/gate.csv"
PREPROCESS = {"clahe": None, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
TRAINED_ON = "the row or a copy of it was trained on"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A project with the faces of its gate, a real teacher and an exported file of it."""
    root = build_run_folder(tmp_path_factory.mktemp("run"), per_split=60)
    manifest = pd.read_csv(root / "manifests/classification_manifest.csv")
    gate = manifest[manifest["source"] == "expw_lq"]
    write_faces(root / "standardized/expw_lq", [small_face(id_) for id_ in gate["id"]])
    folder = root / "models/stageA/RN18"
    sha256 = json.loads((folder / "teacher.json").read_text())["manifest_sha256"]
    card = make_card(stage="stageA", manifest_sha256=sha256, preprocess=PREPROCESS)
    card = save_teacher(folder, make_teacher(seed=1), card)
    write_linear_onnx(root / "tiny.onnx", weights={"RN18": card.weights_sha256})
    return root


@pytest.fixture
def project(root, tmp_path, monkeypatch):
    shutil.copytree(root, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"


def write_linear_onnx(path, *, weights, classes=CLASSES, temperature=2.0, version=1, no_fit=None):
    """Logits are a linear function of the mean colour."""
    slope = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "slope"], ["logits"]),
        helper.make_node("Div", ["logits", "temperature"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["probabilities"], axis=1),
    ]
    constants = {"slope": slope, "temperature": np.float32(temperature)}
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 7]) for name in ("logits", "probabilities")],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    said = {
        "class_order": list(classes), "preprocess": PREPROCESS | {"size": SIZE},
        "temperature": temperature, "temperature_no_fit": no_fit, "weights": {"RN18": 1.0}, "weights_sha256": weights,
        "stage": "stageA", "metadata_version": version, "precision": "fp32",
    }  # fmt: skip
    texts = {name: json.dumps(value) for name, value in said.items()}
    helper.set_model_props(model, texts)
    onnx.save(model, path)


def images_of(rows):
    preprocess = Preprocess.model_validate_json(json.dumps(PREPROCESS))
    return np.stack(
        [
            to_model_input(decode(small_face(id_).image), size=SIZE, preprocess=preprocess)
            for id_ in rows["id"]
        ]
    )


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def rows_like(source, split, n):
    """The rows of the gate; the first n of them look like rows of the manifest."""
    manifest = pd.read_csv("manifests/classification_manifest.csv")
    known = manifest[(manifest["source"] == source) & (manifest["split"] == split)]
    rows = pd.read_csv(GATE)
    rows.loc[: n - 1, "sha256"] = known["sha256"].iloc[:n].to_numpy()
    rows.to_csv("foreign.csv", index=False)
    return "foreign.csv"


def run(*arguments):
    assert evaluate.main([*arguments, "--out", "found.json"]) == 0
    return json.loads(Path("found.json").read_text(encoding="utf-8"))


def test_incident_N6_same_numbers_as_calibrate(project, capsys):
    assert calibrate.main([]) == 0
    found = run("models/stageB/B3")
    card = json.loads((project / "models/stageB/B3/teacher.json").read_text())
    assert (found.pop("stage"), found.pop("teacher")) == ("stageB", "B3")
    assert found.pop("manifest_sha256") == card["manifest_sha256"]
    metrics = json.loads((project / "metrics/teachers.json").read_text())
    assert found == metrics["stageB"]["B3"]
    printed = capsys.readouterr().out
    assert printed.startswith(f"stageB B3, weights {card['weights_sha256'][:12]}\n")
    assert f"{found['test']['accuracy']:.3f} [" in printed


def test_stage_b_that_started_from_stage_a_says_so_as_calibrate_does(project, capsys):
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    params["stageB"]["init_from"] = "stageA"
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    assert calibrate.main([]) == 0
    found = run("models/stageB/B3")
    metrics = json.loads((project / "metrics/teachers.json").read_text())
    gate = metrics["stageB"]["B3"]["gates"]["gate"]
    assert found["gates"]["gate"] == gate
    assert "val of stageA, which chose the weights that stageB started from" in str(gate)
    (project / "models/stageA/B3/teacher.json").unlink()
    assert evaluate.main(["models/stageB/B3"]) == 2
    assert "models/stageA/B3/teacher.json: expected a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "check"),
    [
        (["models/stageA/RN18"], check_own_numbers),
        (["models/stageA/RN18", "--rows", GATE], check_numbers_of_rows),
        (["tiny.onnx", "--rows", GATE], check_numbers_of_rows),
    ],
)
def test_incident_N8_numbers_are_checked_to_the_last_key(project, arguments, check):
    found = run(*arguments)
    check(found)
    for key in found.keys() - {"file"}:
        with pytest.raises(ValidationError, match=key):
            check({name: value for name, value in found.items() if name != key})
    with pytest.raises(ValidationError, match="more"):
        check(found | {"more": 1})


def test_incident_N8_numbers_that_break_their_promise_are_not_written(project):
    write_linear_onnx(project / "tiny.onnx", weights={"RN18": "c" * 64}, temperature=-2.0)
    with pytest.raises(ValidationError, match="temperature"):
        run("tiny.onnx", "--rows", GATE)
    assert not Path("found.json").exists()


def test_unknown_teacher_is_the_users_problem(project, capsys):
    assert evaluate.main(["models/stageA/RN81"]) == 2
    assert "models/stageA/RN81/teacher.json: expected a file" in capsys.readouterr().err


def test_teacher_is_scored_on_rows_of_a_view_that_it_did_not_learn_from(project, capsys):
    found = run("models/stageA/RN18", "--rows", GATE)
    rows = pd.read_csv(GATE)
    logits = make_teacher(seed=1)(torch.from_numpy(images_of(rows))).detach().numpy()
    scaled = softmax(logits / found["temperature"])
    expected = score(scaled, targets_of(rows), bins=15)
    # The filter of stage A holds no row of the gate: none was trained on.
    assert found["trained_on"] == [{"rows": 180, "trained_on": 0, "unknown": ""}]
    for name in ("accuracy", "macro_f1", "nll", "ece"):
        assert found["rows"][name] == pytest.approx(expected[name], abs=1e-4), name
    assert found["rows"]["about"][0]["reported_on"] == "gate"
    assert "of 180 rows, trained on (they or copies of them): 0" in capsys.readouterr().out


def test_exported_file_is_scored_by_what_it_says_of_itself(project):
    found = run("tiny.onnx", "--rows", GATE)
    rows = pd.read_csv(GATE)
    session = onnxruntime.InferenceSession("tiny.onnx", providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"image": images_of(rows)})
    expected = score(probabilities.astype(np.float64), targets_of(rows), bins=15)
    assert found["rows"]["nll"] == pytest.approx(expected["nll"], abs=1e-4)
    assert found["temperature"] == 2.0
    assert found["rows"]["nll_raw"] != found["rows"]["nll"]
    assert found["rows"]["about"][0]["fitted_on"] == "val (tiny.onnx)"
    write_linear_onnx("tiny.onnx", weights={"RN18": "0" * 64}, no_fit="all are right")
    found = run("tiny.onnx", "--rows", GATE)
    assert found["rows"]["about"][0]["fitted_on"] == "val (tiny.onnx) (no fit: T = 1)"


def test_same_pictures_under_other_names_are_counted_and_left_out(project):
    manifest = pd.read_csv("manifests/classification_manifest.csv")
    learnt = manifest.query("source == 'ferplus' and split == 'train'").iloc[:25]
    chosen_by = manifest.query("source == 'ferplus' and split == 'val'").iloc[:15]
    rows = pd.read_csv(GATE)
    rows.loc[:24, "sha256"] = learnt["sha256"].to_numpy()
    rows.loc[25:39, "sha256"] = chosen_by["sha256"].to_numpy()
    rows.to_csv("foreign.csv", index=False)
    found = run("tiny.onnx", "--rows", "foreign.csv")
    assert found["trained_on"] == [{"rows": 180, "trained_on": 25, "unknown": ""}]
    assert [row["rows"] for row in found["rows"]["left_out"]] == [25, 15]
    assert found["rows"]["left_out"][0]["reason"] == TRAINED_ON
    assert found["rows"]["n"] == 140
    assert found["rows"]["row_sets"][0]["n"] == 180


def test_stage_b_has_seen_what_stage_a_learnt_from(project):
    card = json.loads((project / "models/stageB/RN18/teacher.json").read_text())
    write_linear_onnx(project / "tiny.onnx", weights={"RN18": card["weights_sha256"]})
    manifest = pd.read_csv("manifests/classification_manifest.csv")
    learnt = manifest.query("source == 'ferplus' and split == 'train'").iloc[:25]
    rows = pd.read_csv(GATE)
    rows.loc[:24, "sha256"] = learnt["sha256"].to_numpy()
    rows.to_csv("foreign.csv", index=False)
    assert run("tiny.onnx", "--rows", "foreign.csv")["trained_on"][0]["trained_on"] == 25


def test_stage_b_that_started_anew_has_not_seen_what_stage_a_learnt_from(project):
    card = json.loads((project / "models/stageB/RN18/teacher.json").read_text())
    write_linear_onnx(project / "tiny.onnx", weights={"RN18": card["weights_sha256"]})
    path = project / "models/stageA/RN18/logits.parquet"
    pd.read_parquet(path).assign(seen=True).to_parquet(path, index=False)
    rows = rows_like("ferplus", "train", 25)
    assert run("tiny.onnx", "--rows", rows)["trained_on"][0]["trained_on"] == 0


@pytest.mark.parametrize("wide", ["RN18", "B3"])
def test_weights_in_two_folders_have_the_past_of_both(project, wide):
    card = json.loads((project / "models/stageA/RN18/teacher.json").read_text())
    for name in ("RN18", "B3"):
        folder = project / "models/stageA" / name
        change(folder / "teacher.json", weights_sha256=card["weights_sha256"])
        sources = ["ferplus", "rafdb_basic"] if name == wide else ["rafdb_basic"]
        change(folder / "alignmentreport.json", filter={"include_sources": sources})
    rows = rows_like("ferplus", "train", 25)
    assert run("tiny.onnx", "--rows", rows)["trained_on"][0]["trained_on"] == 25


def test_val_rows_are_left_out_whole_where_training_was_thinned(project):
    thinned = {"include_sources": ["ferplus", "rafdb_basic"], "max_per_class": 1}
    change(project / "models/stageA/RN18/alignmentreport.json", filter=thinned)
    found = run("tiny.onnx", "--rows", rows_like("ferplus", "val", 40))
    assert [row["rows"] for row in found["rows"]["left_out"]] == [0, 40]


def test_file_is_named_by_its_own_bytes_and_precision(project):
    found = run("tiny.onnx", "--rows", GATE)["file"]
    sha256 = hashlib.sha256((project / "tiny.onnx").read_bytes()).hexdigest()
    assert found == [{"name": "tiny.onnx", "sha256": sha256, "precision": "fp32"}]


def test_file_of_another_form_of_metadata_is_refused(project, capsys):
    assert METADATA_VERSION == metadata.METADATA_VERSION
    write_linear_onnx(project / "tiny.onnx", weights={"RN18": "c" * 64}, version=2)
    assert evaluate.main(["tiny.onnx", "--rows", GATE]) == 2
    assert "tiny.onnx: metadata_version: expected 1, got 2" in capsys.readouterr().err


def test_weights_of_nobody_here_are_unknown_and_not_0(project, capsys):
    write_linear_onnx(project / "tiny.onnx", weights={"RN18": "c" * 64})
    found = run("tiny.onnx", "--rows", GATE)
    assert found["trained_on"][0]["trained_on"] is None
    assert found["rows"]["left_out"] == []
    assert "no teacher below models/ has the weights cccccccccccc" in capsys.readouterr().out


def test_incident_X1_manifest_of_another_class_order_is_refused(project, capsys):
    first, second = SHARE_COLUMNS[:2]
    rows = pd.read_csv(GATE)
    columns = [{first: second, second: first}.get(name, name) for name in rows.columns]
    rows[columns].to_csv("swapped.csv", index=False)
    for model in ("tiny.onnx", "models/stageA/RN18"):
        assert evaluate.main([model, "--rows", "swapped.csv"]) == 2
        assert "swapped.csv: class order: expected ['p_angry'" in capsys.readouterr().err


def test_incident_X1_file_of_another_class_order_is_refused(project, capsys):
    write_linear_onnx(project / "tiny.onnx", weights={"RN18": "c" * 64}, classes=CLASSES[::-1])
    assert evaluate.main(["tiny.onnx", "--rows", GATE]) == 2
    assert "tiny.onnx: class_order: expected ['Angry'" in capsys.readouterr().err


def test_exported_file_needs_rows_and_an_existing_one(project, capsys):
    assert evaluate.main(["tiny.onnx"]) == 2
    assert "--rows" in capsys.readouterr().err
    assert evaluate.main(["none.onnx", "--rows", GATE]) == 2
    assert "none.onnx: no such file" in capsys.readouterr().err

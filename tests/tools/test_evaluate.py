"""The door on a synthetic project with a real teacher, an exported file of it, and other files."""

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
from exporting.tiny import SIZE, make_card, make_teacher
from pydantic import ValidationError
from small_faces import small_face, write_faces
from small_project import draw

from stages import calibrate
from stages.calibrating.calibration_file import ModelCalibration, read_calibration
from stages.calibrating.predictions import TRAINED_ON
from stages.calibrating.published import mark_known
from stages.calibrating.score_table import pick, read_scores
from stages.config import CLASSES, Preprocess
from stages.exporting import metadata
from stages.faces.decode import decode
from stages.faces.model_input import to_model_input
from stages.modeling.card import read_card
from stages.modeling.teacher import save_teacher
from stages.records.schema import SHARE_COLUMNS, read_manifest, shares_of, targets_of
from stages.runtime.errors import UserError
from stages.runtime.files import read_json, write_json
from stages.scoring.metrics import row_kl, score, softmax
from tests.calibrating.run_folder import build_run_folder, start_from_stage_a
from tests.tools.linear_onnx import BIAS, PREPROCESS, SHARES, write_linear_onnx
from tools import evaluate
from tools.evaluation import IN_VAL, Evaluation
from tools.onnx_model import METADATA_VERSION, read_onnx

GATE = "manifests/gate.csv"
UNKNOWN = {"RN18": "c" * 64}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A project with the faces of its gate, a real teacher and an exported file of it."""
    root = build_run_folder(tmp_path_factory.mktemp("run"), per_split=60)
    write_faces(root / "standardized/expw_lq", map(small_face, pd.read_csv(root / GATE)["id"]))
    folder = root / "models/stageA/RN18"
    values = read_card(folder).model_dump(include={"manifest_sha256", "filter"})
    card = make_card(stage="stageA", preprocess=PREPROCESS, **values)
    card = save_teacher(folder, make_teacher(seed=1), card)
    write_linear_onnx(root / "tiny.onnx", weights={"RN18": card.weights_sha256})
    return root


@pytest.fixture
def project(root, tmp_path, monkeypatch):
    shutil.copytree(root, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"


def images_of(rows):
    preprocess = Preprocess.model_validate_json(json.dumps(PREPROCESS))
    images = [decode(small_face(id_).image) for id_ in rows["id"]]
    return np.stack([to_model_input(i, size=SIZE, preprocess=preprocess) for i in images])


def run(*arguments):
    assert evaluate.main([*arguments, "--out", "scores.json"]) == 0
    return json.loads(Path("scores.json").read_text(encoding="utf-8"))


def _number(result, metric, **columns):
    about = {"by": "all", "label_rule": "majority", "probabilities": "calibrated"} | columns
    about["metric"] = metric
    (row,) = [row for row in result["scores"] if about.items() <= row.items()]
    return row


def _left_out(result):
    return {row["part"]: row["value"] for row in result["scores"] if row["by"] == "left_out"}


def test_incident_N6_same_numbers_as_calibrate(project, capsys):
    for name in ("RN18", "B3"):
        start_from_stage_a(project, name)
    assert calibrate.main([]) == 0
    result = run("models/stageB/B3")
    card = read_card(project / "models/stageB/B3")
    assert (result["stage"], result["model"]) == ("stageB", "B3")
    assert result["manifest_sha256"] == card.manifest_sha256
    scores = pick(read_scores(Path("models/calibrated/scores.csv")), stage="stageB", model="B3")
    pd.testing.assert_frame_equal(
        pd.DataFrame(result["scores"]).astype(scores.dtypes), scores.reset_index(drop=True)
    )
    fit = read_calibration(Path("models/calibrated")).stages["stageB"].models["B3"]
    assert result["fit"] == fit.model_dump(mode="json")
    printed = capsys.readouterr().out
    assert printed.startswith(f"stageB B3, weights {card.weights_sha256[:12]}\n")
    for words in (
        f"{_number(result, 'accuracy', rows='test')['value']:.3f} [",
        f"refinement: no bias, {fit.refinement.reason}",
        f"best macro-F1 on val: exponent {fit.decision.f1_exponent:g}; {fit.decision.reason}",
        "crowd temperature: none, too few val rows have votes",
        "  T_bias ",
        "test: 60 rows; fitted on val",
        "gate gate: 10 rows left out: the row or a copy of it was trained on",
        "rafdb_basic, n 60",
    ):
        assert words in printed
    assert any("val of stageA, which chose the weights that" in part for part in _left_out(result))
    run("models/stageA/RN18")
    printed = capsys.readouterr().out
    assert "votes, crowd" in printed
    assert "crowd temperature 2." in printed


@pytest.mark.parametrize(
    "arguments",
    [
        ["models/stageA/RN18"],
        ["models/stageA/RN18", "--rows", GATE],
        ["tiny.onnx", "--rows", GATE],
    ],
)
def test_incident_N8_numbers_are_checked_to_the_last_key(project, arguments):
    result = run(*arguments)
    for key in result:
        with pytest.raises(ValidationError, match=key):
            Evaluation.model_validate({name: result[name] for name in result if name != key})
    with pytest.raises(ValidationError, match="more"):
        Evaluation.model_validate(result | {"more": 1})


def test_incident_N8_numbers_that_break_their_promise_are_not_written(project):
    write_linear_onnx(project / "tiny.onnx", weights=UNKNOWN, temperature=-2.0)
    with pytest.raises(ValidationError, match="temperature"):
        run("tiny.onnx", "--rows", GATE)
    assert not Path("scores.json").exists()


def test_teacher_is_scored_in_float32_on_rows_of_a_view_that_it_did_not_learn_from(project, capsys):
    params = Path("params.yaml")
    text = params.read_text("utf-8").replace("precision: auto", "precision: bf16")
    params.write_text(text, encoding="utf-8")
    result = run("models/stageA/RN18", "--rows", GATE)
    rows = pd.read_csv(GATE)
    logits = make_teacher(seed=1)(torch.from_numpy(images_of(rows))).detach().numpy()
    calibration = ModelCalibration.model_validate(result["fit"]).calibration
    outputs = calibration.apply(logits[None].astype(np.float64))
    expected = score(outputs.calibrated, targets_of(rows), bins=15)
    expected["accuracy"] = (outputs.named == targets_of(rows)).mean()
    # The filter of stage A holds no row of the gate: none was trained on.
    assert result["known"] == {"rows": 180, "trained_on": 0, "unknown": ""}
    for name in ("accuracy", "macro_f1", "nll", "ece"):
        row = _number(result, name)
        assert row["value"] == pytest.approx(expected[name], abs=1e-4), name
        assert row["rows"] == "file:gate"
    assert "of 180 rows, trained on (they or copies of them): 0" in capsys.readouterr().out


@pytest.mark.parametrize(("fingerprint", "is_taken"), [("f" * 64, True), ("e" * 64, False)])
def test_a_calibration_is_taken_for_the_run_only_that_it_was_fitted_to(
    project, fingerprint, is_taken
):
    assert calibrate.main([]) == 0
    path = Path("models/calibrated/calibration.json")
    file = read_json(path)
    file["stages"]["stageA"]["models"]["RN18"]["temperature"] = 9.0
    write_json(path, file)
    card = Path("models/stageA/RN18/teacher.json")
    write_json(card, read_json(card) | {"fingerprint": fingerprint})
    fit = run("models/stageA/RN18", "--rows", GATE)["fit"]
    assert (fit["temperature"] == 9.0) == is_taken


@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_exported_file_is_scored_by_what_it_says_of_itself(project, capsys, exponent):
    weights = read_onnx(project / "tiny.onnx").metadata["weights_sha256"]
    write_linear_onnx(project / "tiny.onnx", weights=weights, exponent=exponent)
    rows = read_manifest(Path(GATE))
    rows[list(SHARE_COLUMNS)] = np.random.default_rng(0).dirichlet(np.ones(7), len(rows)).round(6)
    rows.to_csv("voted.csv", index=False)
    result = run("tiny.onnx", "--rows", "voted.csv")
    session = onnxruntime.InferenceSession("tiny.onnx", providers=["CPUExecutionProvider"])
    logits, probabilities, label = session.run(None, {"image": images_of(rows)})
    expected = score(probabilities.astype(np.float64), targets_of(rows), bins=15)
    calibrated = _number(result, "nll")["value"]
    assert calibrated == pytest.approx(expected["nll"], abs=1e-4)
    assert _number(result, "nll", probabilities="raw")["value"] != calibrated
    assert (label == probabilities.argmax(axis=1)).all() == (exponent == 0)
    # The class is the file's label, and the other one that of the exponent for macro-F1.
    targets = targets_of(rows)
    for named, by in ((label, {}), (probabilities.argmax(1), {"by": "decision", "part": "argmax"})):
        value = _number(result, "accuracy", **by)["value"]
        assert value == pytest.approx((named == targets).mean(), abs=1e-6)
    for_f1 = (probabilities / np.array(SHARES) ** 0.7).argmax(1)
    value = _number(result, "accuracy", by="decision", part="prior")["value"]
    assert value == pytest.approx((for_f1 == targets).mean(), abs=1e-6)
    assert _number(result, "accuracy")["decision"] == ("prior" if exponent else "argmax")
    crowd = row_kl(softmax(logits / 3 + np.array(BIAS)), shares_of(rows)).mean()
    votes = {"label_rule": "votes", "probabilities": "crowd"}
    assert _number(result, "kl", **votes)["value"] == pytest.approx(crowd, abs=1e-4)
    sha256 = hashlib.sha256((project / "tiny.onnx").read_bytes()).hexdigest()
    file = result["file"]
    assert (file["name"], file["sha256"], file["precision"]) == ("tiny.onnx", sha256, "fp32")
    assert (file["temperature"], file["crowd_temperature"], result["fit"]) == (2.0, 3.0, None)
    printed = capsys.readouterr().out
    named = "argmax of probabilities / val shares ** 0.5" if exponent else "the most probable one"
    for line in (
        "temperature 2.0000, as the file says",
        "crowd temperature 3.0000, as the file says",
        "refinement: a bias for each class, asked",
        f"class: {named}",
        "best macro-F1 on val: exponent 0.7",
    ):
        assert f"\n{line}\n" in printed


def test_weights_of_nobody_here_are_unknown_and_not_0(project, capsys):
    write_linear_onnx(project / "tiny.onnx", weights=UNKNOWN, temperature_no_fit="all are right")
    result = run("tiny.onnx", "--rows", GATE)
    assert result["known"]["trained_on"] is None
    assert _left_out(result) == {}
    printed = capsys.readouterr().out
    assert "no teacher below models/ has the weights cccccccccccc" in printed
    assert "\ntemperature 2: no fit, all are right\n" in printed


def test_same_pictures_under_other_names_are_counted_and_left_out(project):
    manifest = pd.read_csv("manifests/classification_manifest.csv").query("source == 'ferplus'")
    rows = pd.read_csv(GATE)
    for split, (first, last) in {"train": (0, 24), "val": (25, 39)}.items():
        known = manifest.loc[manifest["split"] == split, "sha256"]
        rows.loc[first:last, "sha256"] = known.iloc[: last - first + 1].to_numpy()
    rows.to_csv("foreign.csv", index=False)
    result = run("tiny.onnx", "--rows", "foreign.csv")
    assert result["known"] == {"rows": 180, "trained_on": 25, "unknown": ""}
    assert _left_out(result) == {TRAINED_ON: 25, IN_VAL: 15}
    assert _number(result, "nll")["n"] == 140
    assert _number(result, "nll", by="row_set", part="all")["n"] == 180


def test_a_name_that_is_also_in_the_manifest_is_no_copy():
    known = pd.DataFrame({"id": ["rafdb/1"], "sha256": ["a"]})
    rows = pd.DataFrame({"id": ["rafdb/1", "rafdb/2"], "sha256": ["b", "a"]})
    assert mark_known(rows, known).tolist() == [False, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metadata_version": 1}, "metadata_version: expected 2, got 1"),
        pytest.param(
            {"class_order": CLASSES[::-1]}, "class_order: expected ['Angry'", id="test_incident_X1"
        ),
    ],
)
def test_file_of_another_form_or_class_order_is_refused(project, capsys, changes, message):
    assert METADATA_VERSION == metadata.METADATA_VERSION
    write_linear_onnx(project / "tiny.onnx", weights=UNKNOWN, **changes)
    assert evaluate.main(["tiny.onnx", "--rows", GATE]) == 2
    assert f"tiny.onnx: {message}" in capsys.readouterr().err


def test_incident_X1_manifest_of_another_class_order_is_refused(project, capsys):
    first, second = SHARE_COLUMNS[:2]
    rows = pd.read_csv(GATE)
    columns = [{first: second, second: first}.get(name, name) for name in rows.columns]
    rows[columns].to_csv("swapped.csv", index=False)
    for model in ("tiny.onnx", "models/stageA/RN18"):
        assert evaluate.main([model, "--rows", "swapped.csv"]) == 2
        assert "swapped.csv: columns: expected ['id'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models/stageA/RN81"], "models/stageA/RN81/teacher.json: expected a file"),
        (["tiny.onnx"], "--rows"),
        (["none.onnx", "--rows", GATE], "none.onnx: no such file"),
        # Such as a spreadsheet.
        pytest.param(
            ["tiny.onnx", "--rows", "tiny.onnx"],
            "tiny.onnx: ",
            id="test_reported_rows_that_are_no_text_are_refused_in_words",
        ),
    ],
)
def test_what_is_not_there_or_no_such_thing_is_the_users_problem(
    root, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(root)
    assert evaluate.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


STRANGERS = ["--raw", "stranger", "--format", "folder7"]


@pytest.mark.parametrize("model", ["tiny.onnx", "models/stageA/RN18"])
def test_a_strangers_dataset_is_scored_on_its_test_rows_whatever_manifest_lies_there(
    project, model, caplog
):
    for name in ("RN18", "B3"):
        start_from_stage_a(project, name)
    assert calibrate.main([]) == 0
    draw(project / "stranger", images={"train": 1, "test": 3})
    # The one class that the layout knows by a number.
    (project / "stranger/test/Happy").rename(project / "stranger/test/3")
    (project / "stranger/test/3/broken.png").touch()
    # One broken row of 29 is below the limit, and said.
    caplog.set_level("INFO")
    result = run(model, *STRANGERS, "--class-folder", "3=Happy")
    assert "28 faces; rejects: " in caplog.text
    assert (_number(result, "accuracy")["n"], result["known"]["trained_on"]) == (21, 0)
    assert [row["n"] for row in result["scores"] if row["by"] == "class"] == [3] * 7
    assert {row["rows"] for row in result["scores"]} == {"file:stranger"}
    # The same model, faces and scores without the project's own manifest.
    shutil.rmtree(project / "manifests")
    alone = run(model, *STRANGERS, "--class-folder", "3=Happy")
    assert alone["known"]["unknown"] == "there is no manifest here"
    for metric in ("accuracy", "nll"):
        assert _number(alone, metric) == _number(result, metric)
    assert not list(project.glob("standardized/folder7"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--raw", "stranger"], "--raw and --format go together; known formats: affectnet, "),
        ([*STRANGERS, "--rows", GATE], "--rows and --raw exclude each other"),
        (
            ["--raw", "stranger", "--format", "rafdb"],
            "--format: 'rafdb' is no layout; did you mean",
        ),
        (["--raw", "none", "--format", "folder7"], "error: --raw: expected a folder, a .zip or"),
        (STRANGERS, "--raw: stranger: expected test rows, got none: train 7, val 0, test 0"),
        ([*STRANGERS, "--class-folder", "0=Glad"], "--class-folder: expected one of Angry, "),
        (["--raw", "stranger", "--format", "expw", "--class-folder", "0=Sad"], "only folder7 has"),
        ([*STRANGERS, "--class-folder", "0"], "--class-folder: expected FOLDER=CLASS, got '0'"),
        (["--rows", GATE, "--class-folder", "0=Sad"], "--class-folder: is for --raw with --format"),
        ([*STRANGERS, "--standardized", "x"], "--standardized and --raw exclude each other"),
    ],
)
def test_a_strangers_dataset_that_cannot_be_scored_is_refused_in_words(
    project, capsys, arguments, message
):
    draw(project / "stranger", images={"train": 1})
    assert evaluate.main(["tiny.onnx", *arguments]) == 2
    assert message in capsys.readouterr().err


def _unknown_operator():
    values = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    node = onnx.helper.make_node("NoSuchThing", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    return onnx.helper.make_model(graph).SerializeToString()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-LFS pointer in place of the file"),
        (b"<!doctype html>", "a web page"),
        (_unknown_operator(), "an ONNX file"),
        (_unknown_operator()[:-5], "an ONNX file"),
    ],
)
def test_reported_an_onnx_file_that_is_none_is_called_what_it_is(tmp_path, data, kind):
    path = tmp_path / "ensemble.onnx"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_onnx(path)
    message = str(caught.value)
    assert message.startswith(f"ensemble.onnx: expected an ONNX file, got {kind}")
    assert "that onnxruntime cannot load: " in message
    assert str(tmp_path) not in message

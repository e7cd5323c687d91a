import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from exporting.tiny import SIZE, make_card, make_teacher
from pydantic import ValidationError
from small_faces import small_face, write_faces

from stages import calibrate
from stages.calibrating.calibration_file import read_calibration
from stages.calibrating.predictions import TRAINED_ON
from stages.calibrating.score_table import pick, read_scores
from stages.config import CLASSES, Preprocess
from stages.exporting import metadata
from stages.faces.decode import decode
from stages.faces.model_input import to_model_input
from stages.modeling.card import read_card
from stages.modeling.teacher import save_teacher
from stages.records.schema import SHARE_COLUMNS, targets_of
from stages.scoring.metrics import score, softmax
from tests.calibrating.run_folder import build_run_folder, start_from_stage_a
from tests.tools.linear_onnx import PREPROCESS, write_linear_onnx
from tools import evaluate
from tools.evaluation import IN_VAL, Evaluation
from tools.onnx_model import METADATA_VERSION

GATE = "manifests/gate.csv"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A project with the faces of its gate, a real teacher and an exported file of it."""
    root = build_run_folder(tmp_path_factory.mktemp("run"), per_split=60)
    manifest = pd.read_csv(root / "manifests/classification_manifest.csv")
    gate = manifest[manifest["source"] == "expw_lq"]
    write_faces(root / "standardized/expw_lq", [small_face(id_) for id_ in gate["id"]])
    folder = root / "models/stageA/RN18"
    said = read_card(folder)
    card = make_card(
        stage="stageA",
        manifest_sha256=said.manifest_sha256,
        filter=said.filter,
        preprocess=PREPROCESS,
    )
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
    return np.stack(
        [
            to_model_input(decode(small_face(id_).image), size=SIZE, preprocess=preprocess)
            for id_ in rows["id"]
        ]
    )


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_filter(folder, **values):
    card = json.loads((folder / "teacher.json").read_text())
    change(folder / "teacher.json", filter=card["filter"] | values)


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


def _number(found, metric, **columns):
    about = {"by": "all", "label_rule": "majority", "probabilities": "calibrated"} | columns
    (row,) = [
        row
        for row in found["scores"]
        if row["metric"] == metric and all(row[key] == value for key, value in about.items())
    ]
    return row


def _left_out(found):
    return {row["part"]: row["value"] for row in found["scores"] if row["by"] == "left_out"}


def test_incident_N6_same_numbers_as_calibrate(project, capsys):
    assert calibrate.main([]) == 0
    found = run("models/stageB/B3")
    card = json.loads((project / "models/stageB/B3/teacher.json").read_text())
    assert (found["stage"], found["model"]) == ("stageB", "B3")
    assert found["manifest_sha256"] == card["manifest_sha256"]
    scores = pick(read_scores(Path("models/calibrated/scores.csv")), stage="stageB", model="B3")
    pd.testing.assert_frame_equal(
        pd.DataFrame(found["scores"]).astype(scores.dtypes), scores.reset_index(drop=True)
    )
    fit = read_calibration(Path("models/calibrated")).stages["stageB"].models["B3"]
    assert found["fit"] == fit.model_dump(mode="json")
    printed = capsys.readouterr().out
    assert printed.startswith(f"stageB B3, weights {card['weights_sha256'][:12]}\n")
    assert f"{_number(found, 'accuracy', rows='test')['value']:.3f} [" in printed
    assert "test: 60 rows; fitted on val" in printed
    assert "gate gate: 10 rows left out: the row or a copy of it was trained on" in printed
    assert "rafdb_basic, n 60" in printed
    run("models/stageA/RN18")
    assert "votes, crowd" in capsys.readouterr().out


def test_stage_b_that_started_from_stage_a_says_so_as_calibrate_does(project, capsys):
    for name in ("RN18", "B3"):
        start_from_stage_a(project, name)
    assert calibrate.main([]) == 0
    found = run("models/stageB/B3")
    scores = pick(read_scores(Path("models/calibrated/scores.csv")), stage="stageB", model="B3")
    left_out = pick(scores, by="left_out", rows="gate:gate").set_index("part")["value"]
    assert _left_out(found).items() >= left_out.to_dict().items()
    assert any(
        "val of stageA, which chose the weights that stageB started from" in reason
        for reason in left_out.index
    )
    (project / "models/stageA/B3/teacher.json").unlink()
    assert evaluate.main(["models/stageB/B3"]) == 2
    assert "models/stageA/B3/teacher.json: expected a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["models/stageA/RN18"],
        ["models/stageA/RN18", "--rows", GATE],
        ["tiny.onnx", "--rows", GATE],
    ],
)
def test_incident_N8_numbers_are_checked_to_the_last_key(project, arguments):
    found = run(*arguments)
    for key in found:
        with pytest.raises(ValidationError, match=key):
            Evaluation.model_validate({name: found[name] for name in found if name != key})
    with pytest.raises(ValidationError, match="more"):
        Evaluation.model_validate(found | {"more": 1})


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
    assert found["known"] == {"rows": 180, "trained_on": 0, "unknown": ""}
    for name in ("accuracy", "macro_f1", "nll", "ece"):
        row = _number(found, name)
        assert row["value"] == pytest.approx(expected[name], abs=1e-4), name
        assert row["rows"] == "file:gate"
    assert "of 180 rows, trained on (they or copies of them): 0" in capsys.readouterr().out


def test_exported_file_is_scored_by_what_it_says_of_itself(project, capsys):
    found = run("tiny.onnx", "--rows", GATE)
    rows = pd.read_csv(GATE)
    session = onnxruntime.InferenceSession("tiny.onnx", providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"image": images_of(rows)})
    expected = score(probabilities.astype(np.float64), targets_of(rows), bins=15)
    calibrated = _number(found, "nll")["value"]
    assert calibrated == pytest.approx(expected["nll"], abs=1e-4)
    assert (found["temperature"], found["fit"]) == (2.0, None)
    assert _number(found, "nll", probabilities="raw")["value"] != calibrated
    assert "temperature 2.0000, as the file says\n" in capsys.readouterr().out
    write_linear_onnx("tiny.onnx", weights={"RN18": "0" * 64}, no_fit="all are right")
    run("tiny.onnx", "--rows", GATE)
    assert "as the file says: no fit, all are right\n" in capsys.readouterr().out


def test_same_pictures_under_other_names_are_counted_and_left_out(project):
    manifest = pd.read_csv("manifests/classification_manifest.csv")
    learnt = manifest.query("source == 'ferplus' and split == 'train'").iloc[:25]
    chosen_by = manifest.query("source == 'ferplus' and split == 'val'").iloc[:15]
    rows = pd.read_csv(GATE)
    rows.loc[:24, "sha256"] = learnt["sha256"].to_numpy()
    rows.loc[25:39, "sha256"] = chosen_by["sha256"].to_numpy()
    rows.to_csv("foreign.csv", index=False)
    found = run("tiny.onnx", "--rows", "foreign.csv")
    assert found["known"] == {"rows": 180, "trained_on": 25, "unknown": ""}
    assert _left_out(found) == {TRAINED_ON: 25, IN_VAL: 15}
    assert _number(found, "nll")["n"] == 140
    assert _number(found, "nll", by="row_set", part="all")["n"] == 180


@pytest.mark.parametrize(("started", "trained_on"), [(True, 25), (False, 0)])
def test_stage_b_has_seen_what_stage_a_learnt_from_if_it_started_from_it(
    project, started, trained_on
):
    if started:
        start_from_stage_a(project, "RN18")
    card = read_card(project / "models/stageB/RN18")
    write_linear_onnx(project / "tiny.onnx", weights={"RN18": card.weights_sha256})
    rows = rows_like("ferplus", "train", 25)
    assert run("tiny.onnx", "--rows", rows)["known"]["trained_on"] == trained_on


@pytest.mark.parametrize("wide", ["RN18", "B3"])
def test_weights_in_two_folders_have_the_past_of_both(project, wide):
    card = json.loads((project / "models/stageA/RN18/teacher.json").read_text())
    for name in ("RN18", "B3"):
        folder = project / "models/stageA" / name
        change(folder / "teacher.json", weights_sha256=card["weights_sha256"])
        sources = ["ferplus", "rafdb_basic"] if name == wide else ["rafdb_basic"]
        change_filter(folder, include_sources=sources)
    rows = rows_like("ferplus", "train", 25)
    assert run("tiny.onnx", "--rows", rows)["known"]["trained_on"] == 25


def test_val_rows_are_left_out_whole_where_training_was_thinned(project):
    change_filter(project / "models/stageA/RN18", max_per_class=1)
    found = run("tiny.onnx", "--rows", rows_like("ferplus", "val", 40))
    assert list(_left_out(found).values()) == [0, 40]


def test_file_is_named_by_its_own_bytes_and_precision(project):
    found = run("tiny.onnx", "--rows", GATE)["file"]
    sha256 = hashlib.sha256((project / "tiny.onnx").read_bytes()).hexdigest()
    assert found == {"name": "tiny.onnx", "sha256": sha256, "precision": "fp32"}


def test_file_of_another_form_of_metadata_is_refused(project, capsys):
    assert METADATA_VERSION == metadata.METADATA_VERSION
    write_linear_onnx(project / "tiny.onnx", weights={"RN18": "c" * 64}, version=2)
    assert evaluate.main(["tiny.onnx", "--rows", GATE]) == 2
    assert "tiny.onnx: metadata_version: expected 1, got 2" in capsys.readouterr().err


def test_weights_of_nobody_here_are_unknown_and_not_0(project, capsys):
    write_linear_onnx(project / "tiny.onnx", weights={"RN18": "c" * 64})
    found = run("tiny.onnx", "--rows", GATE)
    assert found["known"]["trained_on"] is None
    assert _left_out(found) == {}
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

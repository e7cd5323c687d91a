import dataclasses

import pandas as pd
import pytest

from stages.calibrating.report import metrics_json, model_json
from stages.calibrating.tables import TRAINING_COLUMNS, source_rows, write_plot_data
from stages.scoring.metrics import expected_calibration_error
from tools.readable import readable


@pytest.fixture(scope="module")
def assessment(studied):
    return studied.assessments[0]


@pytest.fixture(scope="module")
def metrics(studied, settings):
    return metrics_json(studied, settings=settings)


@pytest.fixture
def folder(assessment, metrics, tmp_path):
    teacher = assessment.model.teachers[0]
    silent = dataclasses.replace(teacher, stage="stageB", history=[])
    write_plot_data(
        tmp_path, assessments=[assessment], teachers=[teacher, silent], metrics=metrics, bins=15
    )
    return tmp_path


@pytest.fixture(scope="module")
def numbers(assessment, studied):
    found = model_json(assessment, contributions=(), protocol=studied.protocol)
    return {"stage": "stageA", "teacher": "RN18"} | found


def test_one_file_a_model_and_none_for_a_teacher_without_epochs(folder):
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.csv"))
    kinds = ("confusion", "mistakes", "reliability", "risk_coverage", "training")
    one_each = [f"{kind}/stageA_RN18.csv" for kind in kinds]
    assert files == sorted([*one_each, "sources/stageA.csv", "sources/stageB.csv"])


def test_reliability_rows_have_counts_and_intervals_and_no_empty_bin(folder, assessment):
    table = pd.read_csv(folder / "reliability/stageA_RN18.csv")
    n = len(assessment.in_domain.rows)
    assert table.groupby("probabilities")["count"].sum().to_dict() == {"raw": n, "scaled": n}
    assert (table["count"] > 0).all()
    assert (table["accuracy_low"] <= table["accuracy"]).all()
    assert (table["accuracy"] <= table["accuracy_high"]).all()
    assert ((table["low"] <= table["confidence"]) & (table["confidence"] <= table["high"])).all()
    scaled = table[table["probabilities"] == "scaled"]
    gap = ((scaled["accuracy"] - scaled["confidence"]).abs() * scaled["count"]).sum() / n
    probabilities = assessment.in_domain.pair.scaled
    ece = expected_calibration_error(probabilities, assessment.in_domain.targets, bins=15)
    assert gap == pytest.approx(ece, abs=1e-5)


def test_mistakes_are_the_misread_faces_and_the_most_confident_come_first(folder, assessment):
    table = pd.read_csv(folder / "mistakes/stageA_RN18.csv")
    rows = assessment.in_domain.rows.set_index("id")
    faces = pd.read_csv(folder / "confusion/stageA_RN18.csv")
    assert len(table) == (faces["actual"] != faces["predicted"]).sum() > 0
    assert table["actual"].tolist() == rows.loc[table["id"], "label"].tolist()
    assert (table["actual"] != table["predicted"]).all()
    assert table["confidence"].is_monotonic_decreasing


def test_sources_and_gates_stand_with_the_intervals_of_the_metrics(folder, metrics):
    table = pd.read_csv(folder / "sources/stageA.csv")
    assert set(table["source"]) == {"ferplus", "rafdb_basic", "gate gate"}
    mine = table[(table["model"] == "B3") & (table["metric"] == "macro_f1")].set_index("source")
    for row in metrics["stageA"]["B3"]["test"]["per_source"]:
        found = mine.loc[row["source"], ["n", "classes", "value", "low", "high"]].tolist()
        assert found == [row["n"], row["classes"], row["macro_f1"], *row["macro_f1_95"]]
    gate = metrics["stageA"]["B3"]["gates"]["gate"]
    assert mine.loc["gate gate", ["n", "classes"]].tolist() == [gate["n"], gate["classes"]]


def test_a_gate_without_rows_is_not_drawn(metrics):
    models = {"B3": metrics["stageA"]["B3"] | {"gates": {"gate": {"n": 0}}}}
    assert set(source_rows(models)["source"]) == {"ferplus", "rafdb_basic"}


def test_confusion_rows_are_the_faces(folder, assessment, numbers):
    table = pd.read_csv(folder / "confusion/stageA_RN18.csv")
    assert table["actual"].tolist() == assessment.in_domain.rows["label"].tolist()
    accuracy = (table["actual"] == table["predicted"]).mean()
    assert accuracy == pytest.approx(numbers["test"]["accuracy"])


def test_training_curve_has_a_row_an_epoch(folder):
    table = pd.read_csv(folder / "training/stageA_RN18.csv")
    assert tuple(table.columns) == TRAINING_COLUMNS
    assert table["epoch"].tolist() == list(range(6))
    # Vega reads an empty cell as the number 0.
    assert ",," not in (folder / "training/stageA_RN18.csv").read_text()
    assert table["val_macro_f1"].notna().tolist() == [False, True, False, True, False, True]


def test_readable_table_names_model_rows_and_protocol(numbers, assessment):
    text = readable(numbers)
    sha256 = assessment.model.weights_sha256[0]
    assert text.startswith(f"stageA RN18, weights {sha256[:12]}\ntemperature ")
    assert "test: 240 rows; fitted on val" in text
    assert "gate gate: 10 rows left out: the row or a copy of it was trained on" in text
    assert "ferplus, n 120" in text
    assert "votes of test: 120 rows" in text
    assert f"  all, n {numbers['test']['row_sets'][0]['n']} " in text

import pandas as pd
import pytest

from stages.config import Calibrate
from stages.evaluation.assessment import assess, single
from stages.evaluation.published import PublishedTeacher, read_manifest_folder, read_teacher
from stages.evaluation.report import model_json
from stages.evaluation.tables import TRAINING_COLUMNS, readable, write_plot_data
from tests.evaluation.run_folder import build_run_folder

SETTINGS = Calibrate(weights={"RN18": 1.0}, bootstrap_samples=50)


@pytest.fixture(scope="module")
def assessment(tmp_path_factory):
    root = build_run_folder(tmp_path_factory.mktemp("run"), per_split=60)
    manifest = read_manifest_folder(root / "manifests")
    teacher = read_teacher(root / "models/stageA/RN18", manifest=manifest)
    return assess(single(teacher), manifest=manifest, settings=SETTINGS, seed=7)


@pytest.fixture
def folder(assessment, tmp_path):
    teacher = assessment.model.teachers[0]
    silent = PublishedTeacher("stageB", "RN18", "", teacher.logits, [])
    write_plot_data(tmp_path, assessments=[assessment], teachers=[teacher, silent], bins=15)
    return tmp_path


def test_one_file_a_model_and_none_for_a_teacher_without_epochs(folder):
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.csv"))
    assert files == [f"{kind}/stageA_RN18.csv" for kind in ("confusion", "reliability", "training")]


def test_reliability_curve_carries_its_diagonal_and_draws_no_empty_bin(folder, assessment):
    path = folder / "reliability/stageA_RN18.csv"
    table = pd.read_csv(path)
    assert (table["diagonal"] == table["confidence"]).all()
    assert len(table) == 15
    assert table["count_scaled"].sum() == len(assessment.in_domain.rows)
    assert table.loc[table["count_scaled"] == 0, "scaled"].isna().all()
    # Vega reads an empty cell as the number 0.
    assert ",," not in path.read_text()
    assert "nan" in path.read_text()


def test_confusion_rows_are_the_faces(folder, assessment):
    table = pd.read_csv(folder / "confusion/stageA_RN18.csv")
    assert table["actual"].tolist() == assessment.in_domain.rows["label"].tolist()
    accuracy = (table["actual"] == table["predicted"]).mean()
    assert accuracy == pytest.approx(
        model_json(assessment, settings=SETTINGS, seed=7)["test"]["accuracy"]
    )


def test_training_curve_has_a_row_an_epoch(folder):
    table = pd.read_csv(folder / "training/stageA_RN18.csv")
    assert tuple(table.columns) == TRAINING_COLUMNS
    assert table["epoch"].tolist() == list(range(6))
    assert table["val_macro_f1"].notna().tolist() == [False, True, False, True, False, True]


def test_readable_table_names_rows_and_protocol(assessment):
    text = readable(model_json(assessment, settings=SETTINGS, seed=7))
    assert "test: 180 rows; fitted on val" in text
    assert "gate gate: 10 rows left out: the row or a copy of it was trained on" in text
    assert "ferplus, n 60" in text

import dataclasses

import pandas as pd
import pytest

from stages.calibrating.plot_data import TRAINING_COLUMNS, source_rows, write_plot_data
from stages.calibrating.score_table import number
from stages.scoring.metrics import expected_calibration_error

MODEL = ("stageA", "RN18")


@pytest.fixture(scope="module")
def folder(studied, read, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots")
    teacher = read[1]["stageA"][0]
    silent = dataclasses.replace(teacher, stage="stageB", history=[])
    write_plot_data(
        folder,
        reported={MODEL: studied.reported[MODEL]},
        teachers=[teacher, silent],
        scores=studied.scores,
        bins=15,
    )
    return folder


@pytest.fixture
def headline(studied):
    return studied.reported[MODEL]["test"].unseen


def test_one_file_a_model_and_none_for_a_teacher_without_epochs(folder):
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.csv"))
    kinds = ("confusion", "mistakes", "reliability", "risk_coverage", "training")
    expected = [f"{kind}/stageA_RN18.csv" for kind in kinds]
    assert files == sorted([*expected, "sources/stageA.csv", "sources/stageB.csv"])


def test_reliability_rows_have_counts_and_intervals_and_no_empty_bin(folder, headline):
    table = pd.read_csv(folder / "reliability/stageA_RN18.csv")
    n = len(headline.rows)
    assert table.groupby("probabilities")["count"].sum().to_dict() == {"raw": n, "scaled": n}
    assert (table["count"] > 0).all()
    assert (table["accuracy_low"] <= table["accuracy"]).all()
    assert (table["accuracy"] <= table["accuracy_high"]).all()
    assert ((table["low"] <= table["confidence"]) & (table["confidence"] <= table["high"])).all()
    scaled = table[table["probabilities"] == "scaled"]
    gap = ((scaled["accuracy"] - scaled["confidence"]).abs() * scaled["count"]).sum() / n
    probabilities = headline.probabilities.calibrated
    ece = expected_calibration_error(probabilities, headline.targets, bins=15)
    assert gap == pytest.approx(ece, abs=1e-5)


def test_mistakes_are_the_misread_faces_and_the_most_confident_come_first(folder, headline):
    table = pd.read_csv(folder / "mistakes/stageA_RN18.csv")
    faces = pd.read_csv(folder / "confusion/stageA_RN18.csv")
    assert faces["actual"].tolist() == headline.rows["label"].tolist()
    assert len(table) == (faces["actual"] != faces["predicted"]).sum() > 0
    rows = headline.rows.set_index("id")
    assert table["actual"].tolist() == rows.loc[table["id"], "label"].tolist()
    assert (table["actual"] != table["predicted"]).all()
    assert table["confidence"].is_monotonic_decreasing


def test_sources_and_gates_stand_with_the_intervals_of_the_scores(studied, folder):
    scores = studied.scores[(studied.scores["stage"] == "stageA")]
    scores = scores[scores["model"] == "RN18"]
    table = pd.read_csv(folder / "sources/stageA.csv").set_index(["source", "metric"])
    assert set(table.index.unique("source")) == {"ferplus", "rafdb_basic", "gate gate"}
    places = {name: {"rows": "test", "by": "source", "part": name} for name in SOURCES}
    places["gate gate"] = {"rows": "gate:gate", "by": "all", "probabilities": "calibrated"}
    for source, place in places.items():
        for metric in ("accuracy", "macro_f1"):
            expected = number(scores, metric, **place)
            row = table.loc[(source, metric), ["value", "low", "high", "n"]]
            assert row.tolist() == pytest.approx(list(expected), abs=1e-6)
    assert set(table["classes"]) == {7}


SOURCES = ("ferplus", "rafdb_basic")


def test_a_gate_without_rows_is_not_drawn(studied):
    scores = studied.scores[studied.scores["model"] == "B3"]
    gate = scores["rows"].str.startswith("gate:")
    empty = scores[~gate | ((scores["metric"] == "classes") & (scores["by"] == "all"))]
    assert set(source_rows(empty[empty["stage"] == "stageA"])["source"]) == set(SOURCES)


def test_training_curve_has_a_row_an_epoch(folder):
    table = pd.read_csv(folder / "training/stageA_RN18.csv")
    assert tuple(table.columns) == TRAINING_COLUMNS
    assert table["epoch"].tolist() == list(range(6))
    # Vega reads an empty cell as the number 0.
    assert ",," not in (folder / "training/stageA_RN18.csv").read_text()
    assert table["val_macro_f1"].notna().tolist() == [False, True, False, True, False, True]

import dataclasses

import pandas as pd
import pytest

from stages.calibrating.plot_data import source_rows, write_plot_data
from stages.calibrating.score_table import number
from stages.scoring.metrics import expected_calibration_error

MODEL = ("stageA", "RN18")


@pytest.fixture(scope="module")
def plots(studied, read, tmp_path_factory):
    """Tables of one model, read again by kind, beside a teacher that has no epochs."""
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
    assert (
        "nan" in (folder / "training/stageA_RN18.csv").read_text()
    )  # Vega draws an empty cell as 0
    assert not (folder / "training/stageB_RN18.csv").exists()
    return {path.parent.name: pd.read_csv(path) for path in folder.rglob("stageA*.csv")}


@pytest.fixture
def headline(studied):
    return studied.reported[MODEL]["test"].unseen


def test_reliability_rows_have_counts_and_intervals_and_no_empty_bin(plots, headline):
    table, n = plots["reliability"], len(headline.rows)
    assert table.groupby("probabilities")["count"].sum().to_dict() == {"raw": n, "scaled": n}
    assert (table["count"] > 0).all()
    for low, value, high in (
        ("accuracy_low", "accuracy", "accuracy_high"),
        ("low", "confidence", "high"),
    ):
        assert ((table[low] <= table[value]) & (table[value] <= table[high])).all()
    scaled = table[table["probabilities"] == "scaled"]
    gap = ((scaled["accuracy"] - scaled["confidence"]).abs() * scaled["count"]).sum() / n
    probabilities = headline.outputs.calibrated
    ece = expected_calibration_error(probabilities, headline.targets, bins=15)
    assert gap == pytest.approx(ece, abs=1e-5)


def test_mistakes_are_the_misread_faces_and_the_most_confident_come_first(plots, headline):
    faces, table = plots["confusion"], plots["mistakes"]
    assert faces["actual"].tolist() == headline.rows["label"].tolist()
    wrong = headline.rows["id"][(faces["actual"] != faces["predicted"]).to_numpy()]
    assert set(table["id"]) == set(wrong)
    assert table["confidence"].is_monotonic_decreasing


def test_sources_and_gates_stand_with_the_intervals_of_the_scores(plots, studied):
    scores = studied.scores.query("stage == 'stageA' and model == 'RN18'")
    table = plots["sources"].set_index(["source", "metric"])
    places = {"gate gate": {"rows": "gate:gate", "by": "all", "probabilities": "calibrated"}}
    for name in ("ferplus", "rafdb_basic"):
        places[name] = {"rows": "test", "by": "source", "part": name}
    assert set(table.index.unique("source")) == set(places)
    for source, place in places.items():
        for metric in ("accuracy", "macro_f1"):
            row = table.loc[(source, metric), ["value", "low", "high", "n"]]
            assert row.tolist() == pytest.approx([*number(scores, metric, **place)], abs=1e-6)
    assert set(table["classes"]) == {7}
    is_gate = scores["rows"].str.startswith("gate:")
    empty = scores[~is_gate | (scores["metric"] == "classes") & (scores["by"] == "all")]
    assert set(source_rows(empty)["source"]) == {"ferplus", "rafdb_basic"}


def test_training_curve_has_a_row_an_epoch(plots):
    assert plots["training"]["epoch"].tolist() == list(range(6))
    assert plots["training"]["val_macro_f1"].notna().tolist() == [False, True] * 3

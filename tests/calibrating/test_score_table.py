import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from stages.calibrating.calibration import Outputs
from stages.calibrating.predictions import Predictions
from stages.calibrating.score_table import (
    number,
    pick,
    read_paired,
    read_scores,
    score_table,
    write_scores,
)
from stages.calibrating.tables import held_out_rows, score_rows
from stages.config import CLASSES
from stages.records.schema import SHARE_COLUMNS
from stages.runtime.errors import UserError
from stages.scoring.bootstrap import METRICS
from stages.scoring.metrics import row_kl, score, softmax
from tests.calibrating.conftest import RESAMPLING

ABOUT = {"stage": "stageA", "model": "RN18", "weights_sha256": "ab" * 32}
UNKNOWN, ORDER = np.zeros(200, dtype=bool), np.arange(200)


@pytest.fixture
def predictions(draw):
    logits, targets = draw(200)
    rows = pd.DataFrame(
        {
            "id": [f"a/{n:03d}" for n in ORDER],
            "source": np.where(ORDER < 80, "a", "b"),
            "label": np.array(CLASSES)[targets],
            "split": "test",
            "official": np.where(ORDER < 150, "test", "train"),
            "twin_splits": np.where(ORDER % 10 == 0, "train", ""),
            "group": [f"g{n}" for n in ORDER],
            "native_px": np.array([47, 48, 95, 192])[ORDER // 50],
        }
    )
    shares = np.random.default_rng(1).multinomial(10, softmax(logits)) / 10
    shares[100:] = np.nan
    rows[list(SHARE_COLUMNS)] = shares
    return Predictions("test", "val", rows, _outputs(logits), "argmax", UNKNOWN)


def _outputs(logits, *, by_prior=None):
    """Outputs that name the most probable class, but `by_prior` for the sake of macro-F1."""
    named = logits.argmax(axis=1)
    other = named if by_prior is None else by_prior
    return Outputs(softmax(logits * 3), softmax(logits), softmax(logits * 0.9), named, other)


def _table(predictions, **options):
    rows = score_rows(predictions, resampling=RESAMPLING, **options)
    return score_table(ABOUT | row for row in rows)


def _calibrated(table, metric, *, by="all", part="", probabilities="calibrated"):
    about = {"label_rule": "majority", "probabilities": probabilities}
    return number(table, metric, by=by, part=part, **about)


def test_incident_N6_every_block_names_model_rows_label_rule_and_protocol(predictions):
    table = _table(predictions)
    columns = ["stage", "model", "weights_sha256", "rows", "decision", "fitted_on"]
    expected = ["stageA", "RN18", "ab" * 32, "test", "argmax", "val"]
    in_force = table[table["by"] != "decision"]
    assert in_force[columns].drop_duplicates().to_numpy().tolist() == [expected]
    counts = table[table["by"] == "all"].groupby("label_rule")["n"].unique()
    assert {rule: n.tolist() for rule, n in counts.items()} == {"majority": [200], "votes": [100]}


def test_incident_N8_every_row_of_scores_has_every_metric_with_its_interval(predictions):
    table = _table(predictions)
    scores = table[table["metric"].isin(METRICS) & (table["by"] != "decision")]
    assert (scores["low"] <= scores["high"]).all()
    assert np.isfinite(scores[["value", "low", "high"]]).all(axis=None)
    parts = scores.groupby(["by", "part", "probabilities"])["metric"].agg(set)
    assert len(parts) == 2 + 2 + 3 + 4
    assert all(metrics == set(METRICS) for metrics in parts)
    for by, part, probabilities in parts.index:
        about = {"by": by, "part": part, "probabilities": probabilities}
        mean, high = (_calibrated(table, f"ece_floor{p}", **about).value for p in ("", "_95"))
        assert 0 < mean < high


def test_incident_N8_any_number_that_is_missing_is_an_error(studied):
    """Drop a row of each kind from a model's scores in turn."""
    scores = studied.scores.query("stage == 'stageA' and model == 'fused_fixed'")
    # How many rows were left out, and votes that are not there, cannot be told apart.
    promised = scores.query("by != 'left_out' and label_rule == 'majority'")
    kind = ["by", "probabilities", "decision", "metric", "rows"]
    promised = promised.drop_duplicates(kind)
    assert len(promised) > 100
    for row in promised.index:
        with pytest.raises(ValueError, match="scores: stageA fused_fixed"):
            score_table(scores.drop(index=row).to_dict("records"))
    score_table(scores.to_dict("records"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"value": float("nan")}, "no value"),
        ({"value": float("inf")}, "value"),
        ({"low": 0.9, "high": 0.1}, "low end above high end"),
        ({"high": float("nan")}, "low end above high end"),
        ({"metric": "acuracy"}, "metric"),
        ({"rows": "train"}, "rows"),
        ({"weights_sha256": "ab"}, "weights_sha256"),
        ({"n": -1}, "n"),
        ({"metric": "nll"}, "unique"),
    ],
)
def test_cell_that_breaks_its_promise_is_an_error(predictions, changes, expected):
    first, *rows = score_rows(predictions, resampling=RESAMPLING)
    with pytest.raises(Exception, match=expected):
        score_table(ABOUT | row for row in (first | changes, *rows))


@pytest.mark.parametrize("copies", [1, 2])
def test_reported_ece_interval_reaches_0_exactly_where_its_floor_says_noise(
    draw, predictions, copies
):
    """Of samples with logits 1.35 times too large some lie above the floor, and some below."""
    reaches, is_below = [], []
    for seed in range(40):
        logits, targets = (np.repeat(array, copies, axis=0) for array in draw(100, seed=seed))
        n = len(targets)
        groups = [f"g{number // copies}" for number in range(n)]
        rows = predictions.rows[:n].assign(label=np.array(CLASSES)[targets], group=groups)
        outputs = _outputs(logits * 1.35)
        table = _table(Predictions("test", "val", rows, outputs, "argmax", UNKNOWN[:n]))
        ece, floor = (_calibrated(table, metric) for metric in ("ece", "ece_floor_95"))
        reaches.append(ece.low == 0)
        is_below.append(ece.value <= floor.value)
    assert reaches == is_below
    assert 0 < sum(reaches) < 40


def test_parts_are_the_scores_of_their_rows(predictions):
    table = _table(predictions)
    calibrated, targets = predictions.outputs.calibrated, predictions.targets
    official, free = ORDER < 150, ORDER % 10 != 0
    for by, part, mask in (
        ("all", "", ~UNKNOWN),
        ("source", "b", ORDER >= 80),
        ("native_px", "below 48", ORDER < 50),
        ("native_px", "48 to 95", (ORDER >= 50) & (ORDER < 150)),
        ("native_px", "192 and more", ORDER >= 150),
        ("row_set", "all", ~UNKNOWN),
        ("row_set", "duplicate_free", free),
        ("row_set", "official", official),
        ("row_set", "official_duplicate_free", official & free),
    ):
        expected = score(calibrated[mask], targets[mask], bins=15)
        for metric in METRICS:
            value, *_, n = _calibrated(table, metric, by=by, part=part)
            assert (value, n) == (pytest.approx(expected[metric]), mask.sum())
    raw = score(predictions.outputs.raw, targets, bins=15)
    assert _calibrated(table, "ece", probabilities="raw").value == pytest.approx(raw["ece"])
    classes = pick(table, by="class").set_index("part")["value"].to_dict()
    assert classes == pytest.approx(score(calibrated, targets, bins=15)["f1"])
    unofficial = dataclasses.replace(predictions, rows=predictions.rows.assign(official=np.nan))
    assert set(pick(_table(unofficial), by="row_set")["part"]) == {"all", "duplicate_free"}


def test_class_that_is_named_by_the_prior_is_judged_apart_from_probabilities(predictions):
    """Accuracy and F1 are of the decision in force; NLL and ECE are of probabilities."""
    targets, outputs = predictions.targets, predictions.outputs
    by_prior = np.where(ORDER < 40, 1, outputs.named)
    before, tables = _table(predictions), []
    for decision, named in (("argmax", outputs.named), ("prior", by_prior)):
        changed = dataclasses.replace(outputs, named=named, named_for_f1=by_prior)
        tables.append(_table(dataclasses.replace(predictions, outputs=changed, decision=decision)))
    alike, taken = tables
    accuracy = (by_prior == targets).mean()
    for table in tables:
        both = pick(table, by="decision", metric="accuracy").set_index("part")["value"]
        assert both.to_dict() == pytest.approx(
            {"argmax": (outputs.named == targets).mean(), "prior": accuracy}
        )
    for metric in METRICS:
        first, second, third = (_calibrated(table, metric) for table in (before, alike, taken))
        is_named = metric in ("accuracy", "balanced_accuracy", "macro_f1")
        assert (first == second, first == third) == (True, not is_named)
    assert _calibrated(taken, "accuracy").value == pytest.approx(accuracy)
    decisions = pick(taken, by="all", probabilities="calibrated").set_index("metric")["decision"]
    assert set(decisions[["accuracy", "macro_f1"]]) == {"prior"}
    assert set(decisions[["nll", "ece"]]) == {"argmax"}
    f1 = pick(taken, by="class").set_index("part")["value"].to_dict()
    assert f1 == pytest.approx(score(np.eye(7)[by_prior], targets, bins=15)["f1"])


def test_absent_class_has_no_f1_and_the_classes_that_are_there_are_counted(predictions):
    table = _table(predictions.only(predictions.targets != 1))
    f1 = pick(table, by="class").set_index("part")
    assert f1.index[f1["value"].isna()].tolist() == ["Disgust"]
    assert (f1.loc["Disgust", "n"], _calibrated(table, "classes").value) == (0, 6)


@pytest.mark.parametrize("is_right", [True, False])
def test_few_rows_that_are_all_right_or_all_wrong_are_not_certain(predictions, is_right):
    right = predictions.outputs.calibrated.argmax(axis=1) == predictions.targets
    six = predictions.only(np.isin(ORDER, np.flatnonzero(right == is_right)[:6]))
    expected = binomtest(6 * is_right, 6).proportion_ci(method="wilson")
    _, low, high, _ = _calibrated(_table(six), "accuracy")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_rows_trained_on_are_out_of_the_headline_and_in_the_set_of_all(predictions):
    left_out = {"trained": 30}
    table = _table(dataclasses.replace(predictions, known=ORDER < 30, left_out=left_out))
    assert _calibrated(table, "nll").n == 170
    assert _calibrated(table, "nll", by="row_set", part="all").n == 200
    value, *_, n = _calibrated(table, "rows", by="left_out", part="trained")
    assert (value, n) == (30, 170)


def test_place_without_rows_says_so_and_has_no_numbers(predictions):
    nothing = dataclasses.replace(predictions, known=~UNKNOWN, left_out={"trained": 200})
    table = _table(dataclasses.replace(nothing, place="gate:g"), in_domain=0)
    assert table["metric"].tolist() == ["classes", "in_domain", "rows"]
    assert table["n"].tolist() == [0, 0, 0]
    rows = held_out_rows(nothing.unseen, resampling=RESAMPLING)
    assert [row["metric"] for row in rows] == ["classes", "rows"]


def test_votes_are_compared_on_the_rows_that_have_them(predictions):
    table = pick(_table(predictions), label_rule="votes")
    shares = predictions.rows[list(SHARE_COLUMNS)].to_numpy()[:100]
    for name in ("raw", "calibrated", "crowd"):
        probabilities = getattr(predictions.outputs, name)
        value, *_, n = number(table, "kl", probabilities=name)
        assert (value, n) == (pytest.approx(row_kl(probabilities[:100], shares).mean()), 100)
    unvoted = _table(predictions.only(ORDER >= 100))
    assert pick(unvoted, label_rule="votes").empty


def test_table_is_read_as_it_was_written_but_for_six_digits(studied, tmp_path):
    for table, read in ((studied.scores, read_scores), (studied.paired, read_paired)):
        write_scores(tmp_path / "table.csv", table)
        pd.testing.assert_frame_equal(read(tmp_path / "table.csv"), table.round(6))


def test_unknown_column_value_and_number_are_told(predictions):
    table = _table(predictions)
    with pytest.raises(KeyError, match="no column 'split'"):
        pick(table, split="test")
    for column, value in (("metric", "acuracy"), ("part", "nowhere")):
        with pytest.raises(ValueError, match=f"no {column} '{value}'"):
            pick(table, **{column: value})
    with pytest.raises(KeyError, match=r"expected one row of nll .*, got 11"):
        number(table, "nll")


@pytest.mark.parametrize("text", ["", "stage,model\nstageA,RN18\n", "\ufeffversion https://git"])
def test_file_that_is_no_table_is_called_so(tmp_path, text):
    path = tmp_path / "models/calibrated/scores.csv"
    with pytest.raises(UserError, match=r"models/calibrated/scores\.csv: no such file; `dvc repro"):
        read_scores(path)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UserError, match=r"models/calibrated/scores\.csv: not the table"):
        read_scores(path)

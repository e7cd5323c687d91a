import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from stages.calibrating.calibration import Probabilities, Resampling
from stages.calibrating.predictions import Predictions
from stages.calibrating.score_rows import (
    held_out_rows,
    native_px_masks,
    row_set_masks,
    score_rows,
)
from stages.calibrating.score_table import (
    number,
    pick,
    read_paired,
    read_scores,
    score_table,
    write_scores,
)
from stages.config import CLASSES
from stages.records.schema import SHARE_COLUMNS
from stages.runtime.errors import UserError
from stages.scoring.bootstrap import METRICS
from stages.scoring.metrics import row_kl, score, softmax

RESAMPLING = Resampling("test", bins=15, folds=5, bootstrap_samples=50, seed=7)
ABOUT = {"stage": "stageA", "model": "RN18", "weights_sha256": "ab" * 32}
UNKNOWN = np.zeros(200, dtype=bool)


@pytest.fixture
def predictions(draw):
    logits, targets = draw(200)
    rows = pd.DataFrame(
        {
            "id": [f"a/{n:03d}" for n in range(200)],
            "source": np.where(np.arange(200) < 80, "a", "b"),
            "label": np.array(CLASSES)[targets],
            "split": "test",
            "official": np.where(np.arange(200) < 150, "test", "train"),
            "twin_splits": np.where(np.arange(200) % 10 == 0, "train", ""),
            "group": [f"g{n}" for n in range(200)],
            "native_px": np.where(np.arange(200) < 50, 20, 100),
        }
    )
    shares = np.random.default_rng(1).multinomial(10, softmax(logits)) / 10
    shares[100:] = np.nan
    rows = rows.assign(**dict(zip(SHARE_COLUMNS, shares.T, strict=True)))
    probabilities = Probabilities(softmax(logits * 3), softmax(logits), softmax(logits * 0.9))
    return Predictions("test", "val", rows, probabilities, UNKNOWN)


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
    assert table[columns].drop_duplicates().to_numpy().tolist() == [expected]
    counts = table[table["by"] == "all"].groupby("label_rule")["n"].unique()
    assert {rule: n.tolist() for rule, n in counts.items()} == {"majority": [200], "votes": [100]}


def test_incident_N8_every_row_of_scores_has_every_metric_with_its_interval(predictions):
    table = _table(predictions)
    scores = table[table["metric"].isin(METRICS)]
    assert (scores["low"] <= scores["high"]).all()
    assert np.isfinite(scores[["value", "low", "high"]]).all(axis=None)
    parts = scores.groupby(["by", "part", "probabilities"])["metric"].agg(set)
    assert len(parts) == 2 + 2 + 2 + 4
    assert all(metrics == set(METRICS) for metrics in parts)
    for by, part, probabilities in parts.index:
        mean, high = (
            _calibrated(table, name, by=by, part=part, probabilities=probabilities).value
            for name in ("ece_floor", "ece_floor_95")
        )
        assert 0 < mean < high


def test_incident_N8_any_number_that_is_missing_is_an_error(studied):
    """Drop each row of a model's scores in turn."""
    scores = studied.scores
    scores = scores[(scores["stage"] == "stageA") & (scores["model"] == "fused_fixed")]
    # How many rows were left out, and sets of rows that are not there, cannot be told apart.
    promised = scores[~scores["by"].isin(["left_out"]) & (scores["label_rule"] == "majority")]
    assert len(promised) > 150
    for row in promised.index:
        with pytest.raises(ValueError, match="scores: stageA fused_fixed"):
            score_table(scores.drop(index=row).to_dict("records"))
    score_table(scores.to_dict("records"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"value": float("nan")}, "no value"),
        ({"value": float("inf")}, "value"),
        ({"low": 0.9, "high": 0.1}, "low end above high end"),
        ({"high": float("nan")}, "low end above high end"),
        ({"metric": "acuracy"}, "metric"),
        ({"rows": "train"}, "rows"),
        ({"weights_sha256": "ab"}, "weights_sha256"),
        ({"n": -1}, "n"),
    ],
)
def test_cell_that_breaks_its_promise_is_an_error(predictions, changes, named):
    rows = [ABOUT | row for row in score_rows(predictions, resampling=RESAMPLING)]
    rows[0] |= changes
    with pytest.raises(Exception, match=named):
        score_table(rows)
    with pytest.raises(Exception, match="unique"):
        score_table([*rows[1:], rows[1]])


@pytest.mark.parametrize("copies", [1, 2])
def test_reported_ece_interval_reaches_0_exactly_where_its_floor_says_noise(
    draw, predictions, copies
):
    """Of samples with logits 1.35 times too large some lie above the floor, and some below."""
    reaches, is_below = [], []
    for seed in range(40):
        logits, targets = (np.repeat(array, copies, axis=0) for array in draw(100, seed=seed))
        n = len(targets)
        rows = predictions.rows[:n].assign(
            label=np.array(CLASSES)[targets], group=[f"g{number // copies}" for number in range(n)]
        )
        probabilities = Probabilities(*[softmax(logits * 1.35)] * 3)
        sample = Predictions("test", "val", rows, probabilities, UNKNOWN[:n])
        table = _table(sample)
        ece = _calibrated(table, "ece")
        reaches.append(ece.low == 0)
        is_below.append(ece.value <= _calibrated(table, "ece_floor_95").value)
    assert reaches == is_below
    assert 0 < sum(reaches) < 40


def test_parts_are_the_scores_of_their_rows(predictions):
    table = _table(predictions)
    probabilities, targets = predictions.probabilities, predictions.targets
    free = (np.arange(200) < 150) & (np.arange(200) % 10 != 0)
    for by, part, values, mask in (
        ("all", "", probabilities.calibrated, ~UNKNOWN),
        ("source", "b", probabilities.calibrated, np.arange(200) >= 80),
        ("native_px", "below 48", probabilities.calibrated, np.arange(200) < 50),
        ("row_set", "official_duplicate_free", probabilities.calibrated, free),
    ):
        expected = score(values[mask], targets[mask], bins=15)
        for metric in METRICS:
            found = _calibrated(table, metric, by=by, part=part)
            assert found.value == pytest.approx(expected[metric])
            assert found.n == mask.sum()
    raw = score(probabilities.raw, targets, bins=15)
    assert _calibrated(table, "ece", probabilities="raw").value == pytest.approx(raw["ece"])
    classes = pick(table, by="class").set_index("part")
    expected_f1 = score(probabilities.calibrated, targets, bins=15)["f1"]
    assert classes["value"].to_dict() == pytest.approx(expected_f1)
    sizes = pick(table, by="row_set", metric="nll").set_index("part")["n"].to_dict()
    assert sizes == {
        "all": 200, "duplicate_free": 180, "official": 150, "official_duplicate_free": 135,
    }  # fmt: skip


def test_missing_official_split_is_not_official(predictions):
    rows = predictions.rows.assign(official=np.nan)
    assert set(row_set_masks(rows)) == {"all", "duplicate_free"}


def test_copies_that_share_a_group_do_not_narrow_the_interval_of_a_part(predictions):
    def widths(sample):
        rows = pick(_table(sample), by="source", metric="accuracy")
        return (rows["high"] - rows["low"]).to_numpy()

    both = dataclasses.astuple(predictions.probabilities)
    tenfold = dataclasses.replace(
        predictions,
        rows=pd.concat([predictions.rows] * 10, ignore_index=True),
        probabilities=Probabilities(*(np.tile(values, (10, 1)) for values in both)),
        known=np.tile(UNKNOWN, 10),
    )
    assert widths(tenfold) == pytest.approx(widths(predictions))


def test_absent_class_has_no_f1_and_the_classes_that_are_there_are_counted(predictions):
    table = _table(predictions.only(predictions.targets != 1))
    f1 = pick(table, by="class").set_index("part")
    assert f1.loc["Disgust", "n"] == 0
    assert f1.loc["Disgust", ["value", "low", "high"]].isna().all()
    assert f1["value"].drop("Disgust").notna().all()
    assert _calibrated(table, "classes").value == 6


@pytest.mark.parametrize("is_right", [True, False])
def test_few_rows_that_are_all_right_or_all_wrong_are_not_certain(predictions, is_right):
    right = predictions.probabilities.calibrated.argmax(axis=1) == predictions.targets
    six = predictions.only(np.isin(np.arange(200), np.flatnonzero(right == is_right)[:6]))
    found = _calibrated(_table(six), "accuracy")
    expected = binomtest(6 * is_right, 6).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_rows_trained_on_are_out_of_the_headline_and_in_the_set_of_all(predictions):
    left_out = {"trained": 30}
    learnt = dataclasses.replace(predictions, known=np.arange(200) < 30, left_out=left_out)
    table = _table(learnt)
    assert _calibrated(table, "nll").n == 170
    assert _calibrated(table, "nll", by="row_set", part="all").n == 200
    found = _calibrated(table, "rows", by="left_out", part="trained")
    assert (found.value, found.n) == (30, 170)


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
    kl = {name: number(table, "kl", probabilities=name) for name in ("raw", "calibrated", "crowd")}
    assert all(found.n == 100 for found in kl.values())
    expected = row_kl(predictions.probabilities.crowd[:100], shares).mean()
    assert kl["crowd"].value == pytest.approx(expected)
    assert kl["crowd"].value < kl["raw"].value
    unvoted = _table(predictions.only(np.arange(200) >= 100))
    assert pick(unvoted, label_rule="votes").empty


def test_size_at_an_edge_belongs_to_the_bucket_that_it_begins():
    masks = native_px_masks(pd.DataFrame({"native_px": [47, 48, 95, 96, 192, 500]}))
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {
        "below 48": 1, "48 to 95": 2, "96 to 191": 1, "192 and more": 2,
    }  # fmt: skip


def test_table_is_read_as_it_was_written_but_for_six_digits(studied, tmp_path):
    for name, table, read in (
        ("scores.csv", studied.scores, read_scores),
        ("paired.csv", studied.paired, read_paired),
    ):
        write_scores(tmp_path / name, table)
        pd.testing.assert_frame_equal(read(tmp_path / name), table.round(6))


def test_unknown_column_value_and_number_are_named(predictions):
    table = _table(predictions)
    with pytest.raises(KeyError, match="no column 'split'"):
        pick(table, split="test")
    for column, value in (("metric", "acuracy"), ("part", "nowhere")):
        with pytest.raises(ValueError, match=f"no {column} '{value}'"):
            pick(table, **{column: value})
    with pytest.raises(KeyError, match=r"expected one row of nll .*, got 10"):
        number(table, "nll")


@pytest.mark.parametrize("text", ["", "stage,model\nstageA,RN18\n", "\ufeffversion https://git"])
def test_file_that_is_no_table_is_called_so(tmp_path, text):
    folder = tmp_path / "models/calibrated"
    with pytest.raises(UserError, match=r"models/calibrated/scores\.csv: no such file; `dvc repro"):
        read_scores(folder / "scores.csv")
    folder.mkdir(parents=True)
    (folder / "scores.csv").write_text(text)
    with pytest.raises(UserError, match=r"models/calibrated/scores\.csv: not the table"):
        read_scores(folder / "scores.csv")

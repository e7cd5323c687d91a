import dataclasses

import numpy as np
import pandas as pd
import pytest

from stages.calibrating.calibration import Probabilities, Resampling
from stages.calibrating.predictions import Predictions, fit_model, fusion, report_model, single
from stages.calibrating.score_table import number, paired_table, pick
from stages.calibrating.stage_rows import stage_rows
from stages.calibrating.verdict import (
    _difference_rows,
    decide,
    is_real,
    same_rows,
    teacher_gain_rows,
)
from stages.config import CLASSES, Filter
from stages.records.folder import LOGIT_COLUMNS
from stages.records.schema import targets_of
from stages.scoring.metrics import row_nll, score, softmax

RESAMPLING = Resampling("test", bins=15, folds=5, bootstrap_samples=200, seed=7)
GOOD, BAD, OPEN = (0.01, 0.05), (-0.05, -0.01), (-0.1, 0.1)


def _compared(**places):
    """Differences of macro-F1 and NLL by place: two intervals, and n; None for no rows."""
    rows = []
    for place, entry in places.items():
        gain, change, n = entry or (None, None, 0)
        for metric, ends in (("macro_f1", gain), ("nll", change)):
            values = (
                {} if ends is None else {"value": np.mean(ends), "low": ends[0], "high": ends[1]}
            )
            rows.append(
                {"what": "stageB-stageA", "stage": "", "model": "fused_fixed", "teacher": ""}
                | {"rows": place.replace("gate_", "gate:"), "by": "all", "part": "", "n": n}
                | {"metric": metric, "fitted_on": "val", "weights_sha256": "ab" * 32}
                | values
            )
        if place.startswith("gate_"):
            rows.append(rows[-1] | {"metric": "in_domain", "value": 0, "low": None, "high": None})
    return paired_table(rows)


def _decide(asked="auto", **places):
    return decide(_compared(**places), asked=asked, model="fused_fixed")


@pytest.mark.parametrize(
    ("gain", "change", "real"),
    [
        ((0.01, 0.05), (-0.2, -0.1), True),
        ((0.01, 0.05), (-0.1, 0.1), True),
        ((-0.01, 0.05), (-0.2, -0.1), False),
        ((0.0, 0.05), (-0.2, -0.1), False),
        ((0.01, 0.05), (0.02, 0.1), False),
    ],
)
def test_gain_is_real_beyond_its_interval_and_if_nll_does_not_really_rise(gain, change, real):
    assert is_real(_compared(val=(gain, change, 300))) is real
    assert _decide(val=(gain, change, 300)).stage == ("stageB" if real else "stageA")


def test_nothing_in_common_is_no_gain():
    verdict = _decide(val=None)
    assert (verdict.stage, verdict.gain_is_real) == ("stageA", False)
    assert "val: no rows." in verdict.says


def test_incident_N3_stage_is_chosen_by_val_whatever_test_says():
    assert _decide(val=(BAD, OPEN, 300), test=(GOOD, (-0.2, -0.1), 300)).stage == "stageA"


def test_verdict_says_in_words_what_it_rests_on_and_nothing_of_the_clock():
    test, gate = ((-0.01, 0.03), (0, 0), 290), ((-0.05, -0.01), (0, 0.1), 14)
    says = _decide(val=(GOOD, OPEN, 300), test=test, gate_lq=gate).says
    assert says.startswith("stageB is taken: the gain of stageB is real on val.")
    assert "test (n = 290): macro-F1 +0.010 [-0.010, +0.030]" in says
    assert "gate lq (n = 14): macro-F1 -0.030" in says
    assert "second" not in says


def test_stage_that_is_asked_for_is_taken_and_judged_all_the_same():
    verdict = _decide("stageB", val=((-0.04, 0.02), OPEN, 300))
    assert (verdict.stage, verdict.gain_is_real) == ("stageB", False)
    assert verdict.says.startswith(
        "stageB is taken: calibrate.stage says so; the gain of stageB is not real."
    )


def _predictions(logits, targets):
    n = len(targets)
    rows = pd.DataFrame(
        {
            "id": [f"a/{number:04d}" for number in range(n)],
            "source": np.where(np.arange(n) % 2, "b", "a"),
            "label": np.array(CLASSES)[targets],
            "group": [f"g{number}" for number in range(n)],
        }
    )
    probabilities = Probabilities(*[softmax(logits)] * 3)
    return Predictions("test", "val", rows, probabilities, np.zeros(n, dtype=bool))


def _differences(first, second):
    pair = same_rows(first, second)
    rows = _difference_rows(*pair, resampling=RESAMPLING, by_source=True)
    table = pd.DataFrame([{"value": np.nan, "low": np.nan, "high": np.nan} | row for row in rows])
    return {metric: number(table, metric, by="all") for metric in ("macro_f1", "nll")}, table


def test_incident_N1_only_shared_rows_are_compared(draw):
    """A was scored on easy rows, B on easy and hard ones: B looked worse though it is better."""
    logits, targets = draw(1000)
    hard = np.arange(1000) >= 500
    noise = np.random.default_rng(1).normal(size=logits.shape)
    of_a = _predictions(logits + noise, targets).only(~hard)
    of_b = _predictions(np.where(hard[:, None], noise, logits), targets)
    first, second = same_rows(of_a, of_b)
    assert list(first.rows["id"]) == list(second.rows["id"]) == list(of_a.rows["id"])
    found, table = _differences(of_a, of_b)
    assert found["nll"].n == 500
    assert found["macro_f1"].low > 0 > found["nll"].high
    assert table["part"].unique().tolist() == ["", "a", "b"]


def test_incident_N1_different_rows_are_refused_and_none_in_common_is_said(draw):
    predictions = _predictions(*draw(20))
    mask = np.arange(20) < 10
    pair = predictions.only(mask), predictions.only(~mask)
    with pytest.raises(AssertionError, match="same rows"):
        list(_difference_rows(*pair, resampling=RESAMPLING))
    found, _ = _differences(*pair)
    assert {value.n for value in found.values()} == {0}


def test_difference_is_that_of_the_scores_and_0_against_itself(draw):
    logits, targets = draw(300)
    first, second = _predictions(logits * 3, targets), _predictions(logits, targets)
    before, after = (
        score(side.probabilities.calibrated, targets, bins=15) for side in (first, second)
    )
    for metric, found in _differences(first, second)[0].items():
        assert found.value == pytest.approx(after[metric] - before[metric])
    for found in _differences(first, first)[0].values():
        assert (found.value, found.low, found.high) == (0, 0, 0)


def test_pairs_narrow_the_interval(draw):
    logits, targets = draw(600)
    slightly = logits + np.random.default_rng(2).normal(scale=0.1, size=logits.shape)
    found, _ = _differences(_predictions(logits, targets), _predictions(slightly, targets))
    alone = np.std(np.log(softmax(logits)[np.arange(600), targets])) / np.sqrt(600)
    assert found["nll"].high - found["nll"].low < alone


@pytest.fixture(scope="module")
def gains(read):
    """What RN18, a copy of it, and a teacher that knows little add to their fusion."""
    manifest, teachers = read
    good = teachers["stageA"][0]
    random = np.random.default_rng(0)
    noise = good.logits.assign(
        **{
            name: 0.3 * good.logits[name] + random.normal(scale=3, size=len(good.logits))
            for name in LOGIT_COLUMNS
        }
    )
    copy = dataclasses.replace(good, name="copy")
    trio = [good, copy, dataclasses.replace(good, name="noise", logits=noise)]
    rows = stage_rows(manifest, rows=good.filter, stage="stageA", started_from={})

    def build(model):
        fitted = fit_model(model, val=rows.val, resampling=RESAMPLING)
        test = report_model(fitted, rows=rows, resampling=RESAMPLING)["test"]
        return paired_table(teacher_gain_rows(fitted, test, rows=rows, resampling=RESAMPLING))

    return lambda kind, weights: build(fusion(trio, kind=kind, weights=weights)), build


def test_copy_of_a_teacher_adds_nothing_to_searched_weights(gains):
    table = gains[0]("searched", ())
    assert table["teacher"].unique().tolist() == ["RN18", "copy", "noise"]
    for name in ("RN18", "copy"):
        assert number(table, "nll", teacher=name).value == pytest.approx(0, abs=1e-3)
    assert number(table, "nll", teacher="noise", rows="test").n == 240


def test_teacher_that_knows_little_harms_and_one_that_knows_all_helps(gains):
    table = gains[0]("fixed_logits", (0.1, 0.1, 0.8))
    assert number(table, "nll", teacher="noise").low > 0
    assert number(table, "macro_f1", teacher="noise").high < 0
    table = gains[0]("fixed", (0.5, 0.0, 0.5))
    assert number(table, "nll", teacher="RN18").high < 0
    assert number(table, "nll", teacher="copy").value == pytest.approx(0, abs=1e-6)


def test_single_teacher_has_nothing_to_leave_out(gains, read):
    assert gains[1](single(read[1]["stageA"][0])).empty


def test_incident_N1_stages_are_compared_on_rows_that_both_admit(studied):
    table = pick(studied.paired, what="stageB-stageA", model="RN18")
    for place, fitted_on in (
        ("val", "val by folds of both stages"),
        ("test", "val of both stages"),
    ):
        rows = pick(table, rows=place)
        assert rows["n"].unique().tolist() == [120]
        assert rows["part"].unique().tolist() == ["", "rafdb_basic"]
        assert rows["fitted_on"].unique().tolist() == [fitted_on]
    assert number(table, "nll", rows="gate:gate", by="all").n == 350
    # Both stages' logits are the same but for their scale.
    assert number(table, "macro_f1", rows="test", by="all").value == pytest.approx(0, abs=0.02)


def test_incident_N3_val_that_the_stages_are_chosen_by_is_not_fitted_on_itself(read, studied):
    """B3's noise differs by stage, so fits on all of val would show another difference."""
    manifest, teachers = read
    nll = []
    for stage in ("stageA", "stageB"):
        teacher = teachers[stage][1]
        admitted = teachers["stageB"][0].filter
        rows = stage_rows(manifest, rows=admitted, stage=stage, started_from={})
        fitted = fit_model(single(teacher), val=rows.val, resampling=RESAMPLING)
        in_sample = fitted.calibration.apply(fitted.model.predict(rows.val)).calibrated
        targets = targets_of(rows.val.frame)
        held_out = fitted.held_out.probabilities.calibrated
        nll.append([row_nll(p, targets).mean() for p in (in_sample, held_out)])
        assert nll[-1][0] < nll[-1][1]
    gain = pick(studied.paired, what="stageB-stageA", model="B3", by="all", rows="val")
    by_folds, in_sample = nll[1][1] - nll[0][1], nll[1][0] - nll[0][0]
    assert number(gain, "nll").value == pytest.approx(by_folds)
    assert number(gain, "nll").value != pytest.approx(in_sample, abs=1e-4)


def test_really_better_second_stage_is_taken(read, run_study):
    _, teachers = read
    truth = teachers["stageB"][0].logits
    random = np.random.default_rng(0)
    noise = random.normal(scale=3, size=(len(truth), len(LOGIT_COLUMNS)))
    worse = truth.copy()
    worse[list(LOGIT_COLUMNS)] += noise
    first = [dataclasses.replace(teacher, logits=worse) for teacher in teachers["stageA"]]
    calibration = run_study({"stageA": first}).calibration
    assert (calibration.stage, calibration.verdict.gain_is_real) == ("stageB", True)


def test_equal_logits_and_a_narrower_filter_of_the_second_stage_are_no_gain(read, run_study):
    """Each source's logits are off in its own way, so a bias of one source's val fits it best."""
    _, teachers = read
    saved = teachers["stageA"][0].logits
    off = np.where(saved.index.str.startswith("ferplus"), -8.0, 8.0)
    same = saved.assign(logit_happy=saved["logit_happy"] + off)
    study = run_study(
        {
            stage: [dataclasses.replace(teacher, logits=same) for teacher in of_stage]
            for stage, of_stage in teachers.items()
        }
    )
    first, second = (study.calibration.stages[s].models["RN18"] for s in ("stageA", "stageB"))
    assert first.class_bias != second.class_bias
    assert not study.calibration.verdict.gain_is_real
    table = pick(study.paired, what="stageB-stageA", by="all")
    table = table[table["metric"] != "in_domain"]
    assert set(table["rows"]) == {"val", "test", "gate:gate"}
    assert (table["n"] > 0).all()
    assert (table[["value", "low", "high"]] == 0).all(axis=None)


def test_stages_that_share_too_few_val_rows_are_not_compared(read, run_study):
    _, teachers = read
    other = Filter(include_sources=("ferplus",))
    apart = [dataclasses.replace(teacher, filter=other) for teacher in teachers["stageA"]]
    study = run_study({"stageA": apart})
    assert (study.calibration.stage, study.calibration.verdict.gain_is_real) == ("stageA", False)
    table = pick(study.paired, what="stageB-stageA", metric="nll")
    assert set(table.loc[table["rows"].isin(["val", "test"]), "n"]) == {0}

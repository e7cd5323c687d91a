import dataclasses

import numpy as np
import pandas as pd
import pytest

from stages.calibrating.calibration import Outputs
from stages.calibrating.fusion import Mixing
from stages.calibrating.predictions import Model, Predictions, fit_model, report_model, single
from stages.calibrating.published import stage_rows
from stages.calibrating.score_table import number, paired_table, pick
from stages.calibrating.verdict import decide, difference_rows, same_rows, teacher_gain_rows
from stages.config import CLASSES, Filter
from stages.records.folder import LOGIT_COLUMNS
from stages.records.schema import targets_of
from stages.scoring.metrics import row_nll, score, softmax
from tests.calibrating.conftest import RESAMPLING

GOOD, BAD, OPEN, NOWHERE = (0.01, 0.05), (-0.05, -0.01), (-0.1, 0.1), (np.nan, np.nan)


def _decide(asked="auto", **places):
    """Decide by differences of macro-F1 and NLL by place: two intervals, and n."""
    rows = []
    for place, (gain, change, n) in places.items():
        about = {
            "what": "stageB-stageA",
            "model": "fused_fixed",
            "stage": "",
            "teacher": "",
            "n": n,
        }
        about |= {"rows": place.replace("gate_", "gate:"), "by": "all", "part": ""}
        about |= {"fitted_on": "val", "weights_sha256": "ab" * 32}
        for metric, (low, high) in (("macro_f1", gain), ("nll", change)):
            ends = {"value": (low + high) / 2, "low": low, "high": high}
            rows.append(about | {"metric": metric} | ends)
        if place.startswith("gate_"):
            rows.append(about | {"metric": "in_domain", "value": 0})
    return decide(paired_table(rows), asked=asked, model="fused_fixed")


@pytest.mark.parametrize(
    ("gain", "change", "n", "stage"),
    [
        (GOOD, (-0.2, -0.1), 300, "stageB"),
        (GOOD, OPEN, 300, "stageB"),
        (OPEN, (-0.2, -0.1), 300, "stageB"),
        ((0.0, 0.05), (-0.1, 0.0), 300, "stageA"),
        (OPEN, OPEN, 300, "stageA"),
        (GOOD, (0.02, 0.1), 300, "stageA"),
        (GOOD, (0.0, 0.05), 300, "stageB"),
        (BAD, (-0.2, -0.1), 300, "stageA"),
        (NOWHERE, NOWHERE, 0, "stageA"),
    ],
)
def test_incident_N3_stage_is_chosen_by_val_whatever_test_says(gain, change, n, stage):
    """A gain is real if macro-F1 or NLL is better beyond its interval, and neither is worse."""
    taken, choice = _decide(val=(gain, change, n), test=(GOOD, BAD, 300))
    assert (taken, choice.gain_is_real) == (stage, stage == "stageB")
    assert ("val: no rows." in choice.says) == (n == 0)


def test_verdict_says_in_words_what_it_rests_on_and_nothing_of_the_clock():
    test, gate = ((-0.01, 0.03), (0, 0), 290), ((-0.05, -0.01), (0, 0.1), 14)
    says = _decide(val=(GOOD, OPEN, 300), test=test, gate_lq=gate)[1].says
    assert says.startswith("stageB is taken: the gain of stageB in macro-F1 is real on val.")
    assert "test (n = 290): macro-F1 +0.010 [-0.010, +0.030]" in says
    assert "gate lq (n = 14): macro-F1 -0.030" in says
    assert "second" not in says


@pytest.mark.parametrize(
    ("gain", "change", "words"),
    [
        (OPEN, BAD, "the gain of stageB in NLL is real"),
        (GOOD, BAD, "the gain of stageB in macro-F1 and NLL is real"),
        (OPEN, OPEN, "the gain of stageB is not real"),
    ],
)
def test_verdict_says_in_which_number_the_gain_is_real(gain, change, words):
    assert f": {words} on val." in _decide(val=(gain, change, 300))[1].says


def test_stage_that_is_asked_for_is_taken_and_judged_all_the_same():
    stage, choice = _decide("stageB", val=((-0.04, 0.02), OPEN, 300))
    assert (stage, choice.gain_is_real) == ("stageB", False)
    start = "stageB is taken: calibrate.stage says so; the gain of stageB is not real."
    assert choice.says.startswith(start)


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
    named = logits.argmax(axis=1)
    outputs = Outputs(*[softmax(logits)] * 3, named, named)
    return Predictions("test", "val", rows, outputs, "argmax", np.zeros(n, dtype=bool))


def _differences(first, second):
    rows = difference_rows(*same_rows(first, second), resampling=RESAMPLING, by_source=True)
    table = pd.DataFrame([{"value": np.nan, "low": np.nan, "high": np.nan} | row for row in rows])
    return {metric: number(table, metric, by="all") for metric in ("macro_f1", "nll")}, table


def test_incident_N1_only_shared_rows_are_compared(draw):
    """A was scored on easy rows, B on easy and hard ones: B looked worse though it is better."""
    logits, targets = draw(1000)
    hard = np.arange(1000) >= 500
    noise = np.random.default_rng(1).normal(size=logits.shape)
    of_a = _predictions(logits + noise, targets).only(~hard)
    of_b = _predictions(np.where(hard[:, None], noise, logits), targets)
    gains, table = _differences(of_a, of_b)
    assert gains["nll"].n == 500
    assert gains["macro_f1"].low > 0 > gains["nll"].high
    assert table["part"].unique().tolist() == ["", "a", "b"]
    with pytest.raises(AssertionError, match="same rows"):
        list(difference_rows(of_a, of_b, resampling=RESAMPLING))
    apart, _ = _differences(of_a, of_b.only(hard))
    assert {gain.n for gain in apart.values()} == {0}


def test_difference_is_that_of_the_scores_and_0_against_itself(draw):
    logits, targets = draw(300)
    first, second = _predictions(logits * 3, targets), _predictions(logits, targets)
    before, after = (score(softmax(z), targets, bins=15) for z in (logits * 3, logits))
    for metric, gain in _differences(first, second)[0].items():
        assert gain.value == pytest.approx(after[metric] - before[metric])
    for gain in _differences(first, first)[0].values():
        assert gain[:3] == (0, 0, 0)


@pytest.fixture(scope="module")
def gain_of(read):
    """What RN18, a copy of it, and a teacher that knows little add to their fusion."""
    manifest, teachers = read
    good = teachers["stageA"][0]
    noise = np.random.default_rng(0).normal(scale=3, size=(len(good.logits), 7))
    noisy = good.logits.copy()
    noisy[list(LOGIT_COLUMNS)] = 0.3 * noisy[list(LOGIT_COLUMNS)] + noise
    others = {"copy": good.logits, "noise": noisy}
    trio = [good, *(dataclasses.replace(good, name=n, logits=z) for n, z in others.items())]
    rows = stage_rows(manifest, rows=good.filter, stage="stageA", started_from={})

    def build(weights, space="probabilities", *, teachers=trio):
        mixing = Mixing(weights, ((0.0,) * 7,) * len(teachers), space)
        model = Model("stageA", "fused", tuple(teachers), mixing)
        fitted = fit_model(model, val=rows.val, resampling=RESAMPLING)
        test = report_model(fitted, rows=rows, resampling=RESAMPLING)["test"]
        table = paired_table(teacher_gain_rows(fitted, test, rows=rows, resampling=RESAMPLING))
        return lambda metric, teacher: number(table, metric, teacher=teacher, rows="test")

    return build


def test_gain_of_a_teacher_is_that_over_the_fusion_without_it(gain_of, read):
    searched = gain_of(None)
    for name in ("RN18", "copy"):
        assert searched("nll", name).value == pytest.approx(0, abs=1e-3)
    assert searched("nll", "noise").n == 240
    harmed = gain_of((0.1, 0.1, 0.8), "logits")
    assert harmed("nll", "noise").low > 0 > harmed("macro_f1", "noise").high
    helped = gain_of((0.5, 0.0, 0.5))
    assert helped("nll", "RN18").high < 0
    assert helped("nll", "copy").value == pytest.approx(0, abs=1e-6)
    alone = gain_of((1.0,), teachers=read[1]["stageA"][:1])
    with pytest.raises(ValueError, match="no teacher 'RN18'"):
        alone("nll", "RN18")


def test_incident_N1_stages_are_compared_on_rows_that_both_admit(studied):
    table = pick(studied.paired, what="stageB-stageA")
    assert table["model"].unique().tolist() == ["RN18", "B3", "fused_fixed"]
    table = pick(table, model="RN18")
    by_folds = pick(table, rows="val")
    test = pick(table, rows="test")
    for rows, fitted_on in ((by_folds, "val by folds"), (test, "val")):
        assert set(rows["n"]) == {120}
        assert rows["part"].unique().tolist() == ["", "rafdb_basic"]
        assert set(rows["fitted_on"]) == {f"{fitted_on} of both stages"}
    assert number(table, "nll", rows="gate:gate", by="all").n == 350
    # Both stages' logits are the same but for their scale.
    assert number(test, "macro_f1", by="all").value == pytest.approx(0, abs=0.02)


def test_incident_N3_val_that_the_stages_are_chosen_by_is_not_fitted_on_itself(read, studied):
    """B3's noise differs by stage, so fits on all of val would show another difference."""
    manifest, teachers = read
    nll = []
    for stage in ("stageA", "stageB"):
        admitted = teachers["stageB"][0].filter
        rows = stage_rows(manifest, rows=admitted, stage=stage, started_from={})
        fitted = fit_model(single(teachers[stage][1]), val=rows.val, resampling=RESAMPLING)
        in_sample = fitted.fit.calibration.apply(fitted.model.logits(rows.val)).calibrated
        both = (in_sample, fitted.held_out.outputs.calibrated)
        nll.append([row_nll(p, targets_of(rows.val.frame)).mean() for p in both])
        assert nll[-1][0] < nll[-1][1]
    about = {"what": "stageB-stageA", "model": "B3", "by": "all", "rows": "val"}
    in_sample, by_folds = np.subtract(nll[1], nll[0])
    assert number(studied.paired, "nll", **about).value == pytest.approx(by_folds)
    assert by_folds != pytest.approx(in_sample, abs=1e-4)


def test_really_better_second_stage_is_taken(read, run_study):
    _, teachers = read
    worse = teachers["stageB"][0].logits.copy()
    worse[list(LOGIT_COLUMNS)] += np.random.default_rng(0).normal(scale=3, size=(len(worse), 7))
    first = [dataclasses.replace(teacher, logits=worse) for teacher in teachers["stageA"]]
    calibration = run_study({"stageA": first}).calibration
    assert (calibration.stage, calibration.verdict.gain_is_real) == ("stageB", True)


def test_equal_logits_and_a_narrower_filter_of_the_second_stage_are_no_gain(read, run_study):
    """Each source's logits are off in its own way, so a bias of one source's val fits it best."""
    _, teachers = read
    saved = teachers["stageA"][0].logits
    off = np.where(saved.index.str.startswith("ferplus"), -8.0, 8.0)
    same = saved.assign(logit_happy=saved["logit_happy"] + off)
    equal = {
        stage: [dataclasses.replace(teacher, logits=same) for teacher in of_stage]
        for stage, of_stage in teachers.items()
    }
    study = run_study(equal)
    first, second = (study.calibration.stages[s].models["RN18"] for s in ("stageA", "stageB"))
    assert first.class_bias != second.class_bias
    bias = pick(study.paired, what="T_bias-T", stage="stageB", model="RN18").set_index("metric")
    assert second.refinement.taken == "bias"
    assert bias.index.tolist() == ["nll", "accuracy", "balanced_accuracy", "macro_f1"]
    assert bias.loc["nll", "high"] < 0 < bias.loc["macro_f1", "low"]
    assert not study.calibration.verdict.gain_is_real
    table = pick(study.paired, what="stageB-stageA", by="all").query("metric != 'in_domain'")
    assert set(table["rows"]) == {"val", "test", "gate:gate"}
    assert (table["n"] > 0).all()
    assert (table[["value", "low", "high"]] == 0).all(axis=None)


def test_stages_that_share_too_few_val_rows_are_not_compared(read, run_study):
    other = Filter(include_sources=("ferplus",))
    apart = [dataclasses.replace(teacher, filter=other) for teacher in read[1]["stageA"]]
    study = run_study({"stageA": apart})
    assert (study.calibration.stage, study.calibration.verdict.gain_is_real) == ("stageA", False)
    table = pick(study.paired, what="stageB-stageA", metric="nll")
    assert set(table.loc[table["rows"].isin(["val", "test"]), "n"]) == {0}

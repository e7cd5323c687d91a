import dataclasses

import numpy as np
import pytest

from stages.calibrating.study import study
from stages.calibrating.verdict import cost, decide, is_real
from stages.config import Filter
from stages.records.schema import targets_of
from stages.scoring.metrics import row_nll
from tests.calibrating.conftest import INIT_FROM


def _difference(gain, change, n=300):
    return {
        "n": n, "macro_f1_gain": np.mean(gain), "macro_f1_gain_95": gain,
        "nll_change": np.mean(change), "nll_change_95": change,
    }  # fmt: skip


def _compared(gain, change=(-0.1, 0.1), **blocks):
    cost_ = {"stage": "stageB", "teacher": "RN18", "epochs": 3, "seconds_per_epoch": 7.0}
    val = {"val": _difference(gain, change)}
    return val | blocks | {"gates": blocks.get("gates", {}), "cost": [cost_]}


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
    assert is_real(_difference(gain, change)) is real
    stage = decide(_compared(gain, change), asked="auto", model="fused_fixed").stage
    assert stage == ("stageB" if real else "stageA")


def test_nothing_in_common_is_no_gain():
    assert not is_real({"n": 0})
    nothing = _compared((0, 0)) | {"val": {"n": 0}}
    found = decide(nothing, asked="auto", model="fused_fixed")
    assert found.stage == "stageA"
    assert "val: no rows." in found.says


def test_incident_N3_stage_is_chosen_by_val_whatever_test_says():
    good, bad = (0.01, 0.05), (-0.05, -0.01)
    test = {"test": _difference(good, (-0.2, -0.1))}
    found = decide(_compared(bad) | test, asked="auto", model="fused_fixed")
    assert found.stage == "stageA"


def test_verdict_says_in_words_what_it_rests_on_and_nothing_of_the_clock():
    gates = {"gates": {"lq": _difference((-0.05, -0.01), (0, 0.1), n=14)}}
    compared = _compared((0.02, 0.04), **gates, test=_difference((-0.01, 0.03), (0, 0), n=290))
    found = decide(compared, asked="auto", model="fused_fixed")
    assert found.says.startswith("stageB is taken: the gain of stageB is real on val.")
    assert "test (n = 290): macro-F1 +0.010 [-0.010, +0.030]" in found.says
    assert "gate lq (n = 14): macro-F1 -0.030" in found.says
    assert "7 s" not in found.says


def test_stage_that_is_asked_for_is_taken_and_judged_all_the_same():
    found = decide(_compared((-0.04, 0.02)), asked="stageB", model="fused_fixed")
    assert (found.stage, found.gain_is_real) == ("stageB", False)
    assert found.says.startswith(
        "stageB is taken: calibrate.stage says so; the gain of stageB is not real."
    )


def test_cost_is_the_middle_epoch_with_its_evaluation(read):
    _, teachers = read
    found = cost(teachers["stageA"][0])
    assert found == {
        "stage": "stageA", "teacher": "RN18", "epochs": 6, "seconds_per_epoch": 13.5,
        "seconds": 81.0,
    }  # fmt: skip
    assert cost(dataclasses.replace(teachers["stageB"][0], history=[]))["epochs"] == 0


def test_incident_N1_stages_are_compared_on_rows_that_both_admit(studied):
    found = studied.compared["RN18"]
    for name in ("val", "test"):
        assert found[name]["n"] == 120
        assert [row["source"] for row in found[name]["per_source"]] == ["rafdb_basic"]
    assert found["val"]["about"][0]["fitted_on"] == "val rows of both stages, other 4 of 5 folds"
    assert found["test"]["about"][0]["fitted_on"] == "val rows of both stages"
    assert found["gates"]["gate"]["n"] == 350
    # Both stages' logits are the same but for their scale.
    assert found["test"]["macro_f1_gain"] == pytest.approx(0, abs=0.02)


def test_incident_N3_val_that_the_stages_are_chosen_by_is_not_fitted_on_itself(studied):
    by_name = {(one.model.stage, one.model.name): one for one in studied.assessments}
    second = by_name["stageB", "RN18"]
    in_sample = second.calibration.apply(second.model.members(second.val)).scaled
    found = studied.compared["RN18"]["val"]["scores"][1]
    assert found["n"] == len(second.val.rows)
    assert found["nll"] > row_nll(in_sample, targets_of(second.val.rows)).mean()


def test_really_better_second_stage_is_taken(read, settings):
    manifest, teachers = read
    truth = teachers["stageB"][0].logits
    random = np.random.default_rng(0)
    logits = [f for f in truth.columns if f.startswith("logit_")]
    noise = random.normal(scale=3, size=(len(truth), len(logits)))
    worse = truth.assign(**dict(zip(logits, (truth[logits].to_numpy() + noise).T, strict=True)))
    first = [dataclasses.replace(one, logits=worse) for one in teachers["stageA"]]
    found = study(
        teachers | {"stageA": first},
        manifest=manifest,
        settings=settings,
        seed=7,
        init_from=INIT_FROM,
    ).verdict
    assert (found.stage, found.gain_is_real) == ("stageB", True)


def test_equal_logits_and_a_narrower_filter_of_the_second_stage_are_no_gain(read, settings):
    """Each source's logits are off in its own way, so a bias of one source's val fits it best."""
    manifest, teachers = read
    saved = teachers["stageA"][0].logits
    off = np.where(saved.index.str.startswith("ferplus"), -8.0, 8.0)
    same = saved.assign(logit_happy=saved["logit_happy"] + off)
    pair = {
        stage: [dataclasses.replace(one, logits=same) for one in of_stage]
        for stage, of_stage in teachers.items()
    }
    found = study(pair, manifest=manifest, settings=settings, seed=7, init_from=INIT_FROM)
    biases = [one.calibration.class_bias for one in found.assessments if one.model.name == "RN18"]
    assert biases[0] != biases[1]
    assert not found.verdict.gain_is_real
    for compared in found.compared.values():
        for block in (compared["val"], compared["test"], compared["gates"]["gate"]):
            assert block["n"]
            assert block["macro_f1_gain_95"] == block["nll_change_95"] == [0, 0]


def test_stages_that_share_too_few_val_rows_are_not_compared(read, settings):
    manifest, teachers = read
    other = Filter(include_sources=("ferplus",))
    apart = [dataclasses.replace(one, filter=other) for one in teachers["stageA"]]
    found = study(
        teachers | {"stageA": apart},
        manifest=manifest,
        settings=settings,
        seed=7,
        init_from=INIT_FROM,
    )
    assert (found.verdict.stage, found.verdict.gain_is_real) == ("stageA", False)
    assert {found.compared["RN18"][name]["n"] for name in ("val", "test")} == {0}

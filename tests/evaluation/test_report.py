import copy
import dataclasses

import pytest
from pydantic import ValidationError

from stages.evaluation.report import calibration_json, metrics_json, model_json
from stages.evaluation.schema import check_calibration, check_metrics
from stages.evaluation.study import study
from stages.runtime.errors import UserError


@pytest.fixture(scope="module")
def metrics(studied, settings):
    return metrics_json(studied, settings=settings)


@pytest.fixture(scope="module")
def calibration(studied, settings):
    return calibration_json(studied, settings=settings)


def _leaves(value, path=()):
    """Every key of nested dicts; of a list its first row stands for all."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield (*path, key)
            yield from _leaves(entry, (*path, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from _leaves(value[0], (*path, 0))


def _without(value, path):
    changed = copy.deepcopy(value)
    *parents, last = path
    place = changed
    for step in parents:
        place = place[step]
    del place[last]
    return changed


def test_incident_N8_any_number_that_is_missing_is_an_error(metrics):
    check_metrics(metrics, report="test")
    model = ("stageB", "fused_searched_logits")
    paths = list(_leaves(metrics["stageB"]["fused_searched_logits"]))
    promised = [path for path in paths if path[0] != "gates" or len(path) > 2]
    assert len(promised) > 150
    for path in promised:
        with pytest.raises((ValidationError, ValueError)):
            check_metrics(_without(metrics, (*model, *path)), report="test")


def test_incident_N8_missing_parts_of_the_verdict_and_of_the_comparison_are_errors(metrics):
    for key in ("verdict", "provenance", "stageB_vs_stageA", "stageA"):
        with pytest.raises(ValidationError, match=key):
            check_metrics(_without(metrics, (key,)), report="test")
    pair = ("stageB_vs_stageA", "RN18")
    for path in _leaves(metrics["stageB_vs_stageA"]["RN18"]):
        if path not in (("test",), ("gates", "gate")):
            with pytest.raises(ValidationError):
                check_metrics(_without(metrics, (*pair, *path)), report="test")


def test_number_that_is_not_finite_and_key_that_nobody_promised_are_errors(metrics):
    changed = copy.deepcopy(metrics)
    changed["stageA"]["RN18"]["test"]["scores"][0]["brier"] = float("nan")
    with pytest.raises(ValidationError, match="brier"):
        check_metrics(changed, report="test")
    changed = copy.deepcopy(metrics)
    changed["stageA"]["RN18"]["test"]["acuracy"] = 0.5
    with pytest.raises(ValidationError, match="acuracy"):
        check_metrics(changed, report="test")


def test_every_key_of_the_calibration_is_promised(calibration):
    for path in _leaves(calibration):
        if path[-1] not in ("RN18", "B3") and path[-2:-1] != ("fused",):
            with pytest.raises(ValidationError):
                check_calibration(_without(calibration, path))


def test_calibration_names_what_was_chosen_and_all_that_was_fitted(calibration, studied):
    assert (calibration["stage"], calibration["stage_asked"]) == (studied.verdict.stage, "auto")
    assert calibration["verdict"] == studied.verdict.says
    stage = calibration["stages"]["stageA"]
    assert list(stage["teachers"]) == ["RN18", "B3"]
    spaces = {fusion: entry["space"] for fusion, entry in stage["fused"].items()}
    assert spaces == {
        "fixed": "probabilities", "searched": "probabilities",
        "fixed_logits": "logits", "searched_logits": "logits",
    }  # fmt: skip
    by_name = {(one.model.stage, one.model.name): one for one in studied.assessments}
    fitted = by_name["stageA", "fused_searched"].calibration
    assert stage["fused"]["searched"]["class_bias"] == list(fitted.class_bias)
    assert stage["fused"]["searched"]["temperature"] == fitted.temperature


def test_incident_N6_headline_keys_are_the_same_for_every_model_and_block(metrics):
    blocks = [
        block
        for stage in ("stageA", "stageB")
        for model in metrics[stage].values()
        for block in (model["test"], model["gates"]["gate"])
    ]
    plain = {tuple(k for k, v in one.items() if not isinstance(v, list)) for one in blocks}
    keys = ("n", "accuracy", "macro_f1", "nll", "nll_raw", "ece", "ece_raw", "classes")
    assert plain == {keys}


def test_gate_without_an_unseen_row_has_no_numbers_and_a_warning(read, settings, caplog):
    manifest, teachers = read
    logits = teachers["stageA"][0].logits
    seen = logits["seen"] | logits.index.str.startswith("expw_lq/")
    learnt = [dataclasses.replace(teachers["stageA"][0], logits=logits.assign(seen=seen))]
    pair = {"stageA": learnt, "stageB": teachers["stageB"][:1]}
    alone = settings.model_copy(update={"weights": {"RN18": 1.0}})
    found = study(pair, manifest=manifest, settings=alone, seed=7)
    metrics = metrics_json(found, settings=alone)
    gate = metrics["stageA"]["RN18"]["gates"]["gate"]
    assert (gate["n"], gate["left_out"][1]["rows"]) == (0, 360)
    assert "gate gate: stageA RN18: no row is left" in caplog.text
    assert metrics["stageB_vs_stageA"]["RN18"]["gates"]["gate"]["n"] == 0


def test_members_carry_the_hash_of_their_weights(studied):
    one = studied.assessments[0]
    found = model_json(one, contributions=(), protocol=studied.protocol)["members"]
    sha256 = one.model.teachers[0].weights_sha256
    assert found == [{"teacher": "RN18", "weight": 1.0, "weights_sha256": sha256}]


def test_teachers_of_one_stage_with_unlike_filters_are_refused(read, settings):
    manifest, teachers = read
    mixed = teachers | {"stageA": [teachers["stageA"][0], teachers["stageB"][1]]}
    with pytest.raises(UserError, match=r"models/stageA: .*RN18 and B3 were trained on other rows"):
        study(mixed, manifest=manifest, settings=settings, seed=7)

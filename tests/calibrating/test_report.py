import copy
import dataclasses

import pytest
from pydantic import ValidationError

from stages.calibrating.assessment import held_out_val
from stages.calibrating.calibration_schema import check_calibration
from stages.calibrating.report import calibration_json, metrics_json, model_json
from stages.calibrating.schema import check_metrics
from stages.calibrating.study import rows_of, study
from stages.runtime.errors import UserError
from stages.scoring.metrics import score
from tests.calibrating.conftest import INIT_FROM


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
    keys = ("accuracy", "macro_f1", "nll", "nll_raw", "ece", "ece_floor", "classes")
    assert plain == {("n", *keys), ("n", "in_domain", *keys)}


def test_incident_N4_gate_counts_its_rows_that_the_filter_of_the_stage_admits(
    read, settings, caplog
):
    manifest, teachers = read
    is_gate = (manifest.rows["split"] == "test") & (manifest.rows["source"] != "rafdb_basic")
    mixed = dataclasses.replace(manifest, gates={"gate": manifest.rows[is_gate]})
    found = study(teachers, manifest=mixed, settings=settings, seed=7, init_from=INIT_FROM)
    metrics = metrics_json(found, settings=settings)
    # Stage A's filter admits ferplus, stage B's neither of the two sources.
    counts = {
        stage: (model["n"], model["in_domain"])
        for stage in ("stageA", "stageB")
        for model in [metrics[stage]["fused_fixed"]["gates"]["gate"]]
    }
    assert counts == {"stageA": (240, 120), "stageB": (240, 0)}
    compared = metrics["stageB_vs_stageA"]["fused_fixed"]["gates"]["gate"]
    assert (compared["n"], compared["in_domain"]) == (240, 120)
    assert "gate gate (n = 240, 120 of them in domain)" in metrics["verdict"][0]["says"]
    assert "gate gate: stageA fused_fixed: the stage's filter admits 120 of 240" in caplog.text
    assert "stageB fused_fixed: the stage's filter" not in caplog.text


def test_incident_N3_every_model_has_the_val_scores_that_fusion_is_chosen_by(
    metrics, studied, read
):
    manifest, teachers = read
    rows = rows_of(teachers["stageA"], manifest=manifest, earlier=[])
    by_name = {one.model.name: one for one in studied.assessments if one.model.stage == "stageA"}
    for name, numbers in metrics["stageA"].items():
        val = numbers["val"]
        held = held_out_val(by_name[name].model, rows=rows, protocol=studied.protocol)
        expected = score(held.pair.scaled, held.targets, bins=15)
        for metric in ("accuracy", "macro_f1", "nll"):
            low, high = val[f"{metric}_95"]
            assert low <= val[metric] <= high
            assert val[metric] == pytest.approx(expected[metric], abs=1e-6)
        (about,) = val["about"]
        assert (about["fitted_on"], about["reported_on"]) == ("val, other 4 of 5 folds", "val")
        in_sample = _in_sample(by_name[name])
        assert val["nll"] != pytest.approx(score(in_sample, held.targets, bins=15)["nll"], abs=1e-9)


def _in_sample(one):
    return one.calibration.apply(one.model.members(one.val)).scaled


def test_crossfitted_report_has_no_second_val(read, settings):
    manifest, teachers = read
    by_folds = settings.model_copy(update={"report": "val_crossfit"})
    found = study(teachers, manifest=manifest, settings=by_folds, seed=7, init_from=INIT_FROM)
    numbers = metrics_json(found, settings=by_folds)["stageA"]["RN18"]
    assert "test" not in numbers
    assert "scores" in numbers["val"]


def test_val_of_fewer_groups_than_folds_has_no_scores_by_folds(read, settings):
    manifest, teachers = read
    rows = manifest.rows
    one_group = rows.assign(group=rows["group"].mask(rows["split"] == "val", "g"))
    few = dataclasses.replace(manifest, rows=one_group)
    found = study(teachers, manifest=few, settings=settings, seed=7, init_from=INIT_FROM)
    assert metrics_json(found, settings=settings)["stageB"]["B3"]["val"]["n"] == 0


def test_temperature_for_votes_says_how_many_rows_it_was_fitted_on(metrics, studied):
    (fit,) = metrics["stageA"]["RN18"]["fit"]
    assert (fit["n"], fit["votes_n"]) == (240, 120)
    (fit,) = metrics["stageB"]["RN18"]["fit"]
    assert (fit["n"], fit["votes_n"], fit["votes_temperature"]) == (120, 0, None)


def test_gate_without_an_unseen_row_has_no_numbers_and_a_warning(read, settings, caplog):
    manifest, teachers = read
    logits = teachers["stageA"][0].logits
    seen = logits["seen"] | logits.index.str.startswith("expw_lq/")
    learnt = [dataclasses.replace(teachers["stageA"][0], logits=logits.assign(seen=seen))]
    pair = {"stageA": learnt, "stageB": teachers["stageB"][:1]}
    alone = settings.model_copy(update={"weights": {"RN18": 1.0}})
    found = study(pair, manifest=manifest, settings=alone, seed=7, init_from=INIT_FROM)
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
        study(mixed, manifest=manifest, settings=settings, seed=7, init_from=INIT_FROM)

import dataclasses

import pytest

from stages.calibrating.calibration_file import (
    FILE,
    CalibrationFile,
    read_calibration,
    write_calibration,
)
from stages.calibrating.score_table import number, pick
from stages.calibrating.study import headline_metrics
from stages.runtime.errors import UserError


def _leaves(value, path=()):
    for key, entry in value.items():
        yield (*path, key), entry
        if isinstance(entry, dict):
            yield from _leaves(entry, (*path, key))


def _without(value, path):
    key, *rest = path
    kept = {name: entry for name, entry in value.items() if rest or name != key}
    return kept | {key: _without(value[key], rest)} if rest else kept


def test_incident_N8_missing_parts_of_the_verdict_and_of_the_comparison_are_errors(studied):
    whole = studied.calibration.model_dump(mode="json")
    # A member, a reason or a model may be there or not; but the exported fusion must.
    free = ("members", "left_out", "models")
    paths = [path for path, _ in _leaves(whole) if not {*path[-2:-1]} & {*free}]
    assert len(paths) > 150
    for path in (*paths, ("stages", "stageB", "models", "fused_fixed")):
        with pytest.raises(ValueError, match=path[-1]):
            CalibrationFile.model_validate(_without(whole, path))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature_95": (2.0, 1.0)}, "low end"),
        ({"temperature_95": None}, "expected a temperature_95"),
        ({"crowd_n": 0}, "crowd_n"),
        ({"temprature": 1.0}, "temprature"),
    ],
)
def test_fit_that_breaks_its_promise_is_an_error(studied, changes, expected):
    model = studied.calibration.stages["stageA"].models["RN18"]
    with pytest.raises(ValueError, match=expected):
        type(model).model_validate(model.model_dump() | changes)


def test_calibration_is_read_as_it_was_written(studied, tmp_path):
    folder = tmp_path / "calibrated"
    with pytest.raises(UserError, match=r"models/calibrated/calibration\.json: missing; run"):
        read_calibration(folder)
    write_calibration(folder, studied.calibration)
    calibration = read_calibration(folder)
    assert calibration == studied.calibration
    assert calibration.shown == ("RN18", "B3", "fused_fixed")
    fused = calibration.taken["fused_fixed"]
    singles = [calibration.taken[name].weights_sha256 for name in ("RN18", "B3")]
    assert (fused.calibration.weights, fused.weights_sha256) == ((0.7, 0.3), "+".join(singles))
    (folder / FILE).write_text("{}")
    with pytest.raises(UserError, match=r"calibration\.json: stage: .* run `dvc repro calibrate`"):
        read_calibration(folder)


def test_incident_N6_headline_keys_are_the_same_for_every_model_and_block(studied):
    metrics = headline_metrics(studied)
    for stage in ("stageA", "stageB"):
        assert list(metrics[stage]) == ["RN18", "B3", "fused_fixed"]
        for name, values in metrics[stage].items():
            scores = pick(studied.scores, stage=stage, model=name, by="all", rows="test")
            scores = pick(scores, label_rule="majority", probabilities="calibrated")
            keys = ("accuracy", "macro_f1", "nll", "ece", "ece_floor")
            assert [*values][:7] == ["n", *keys, "temperature"]
            for key in keys:
                assert values[key] == round(number(scores, key).value, 6)
    assert sum(isinstance(value, (int, float)) for _, value in _leaves(metrics)) <= 50


def test_incident_N4_gate_counts_its_rows_that_the_filter_of_the_stage_admits(
    read, run_study, caplog
):
    rows = read[0].rows
    is_gate = (rows["split"] == "test") & (rows["source"] != "rafdb_basic")
    study = run_study(manifest=dataclasses.replace(read[0], gates={"gate": rows[is_gate]}))
    about = {"model": "fused_fixed", "rows": "gate:gate", "by": "all"}
    # Stage A's filter admits ferplus, stage B's neither of the two sources.
    for table, kind, in_domain in (
        (study.scores, {"stage": "stageA"}, 120),
        (study.scores, {"stage": "stageB"}, 0),
        (study.paired, {"what": "stageB-stageA"}, 120),
    ):
        value, *_, n = number(table, "in_domain", **kind, **about)
        assert (n, value) == (240, in_domain)
    assert "gate gate (n = 240, 120 of them in domain)" in study.calibration.verdict.says
    assert "gate gate: stageA fused_fixed: the stage's filter admits 120 of 240" in caplog.text
    assert "stageB fused_fixed: the stage's filter" not in caplog.text


def test_gate_without_an_unseen_row_has_no_numbers_and_a_warning(read, run_study, caplog):
    _, teachers = read
    logits = teachers["stageA"][0].logits
    seen = logits["seen"] | logits.index.str.startswith("expw_lq/")
    learnt = dataclasses.replace(teachers["stageA"][0], logits=logits.assign(seen=seen))
    alone = {"stageA": [learnt], "stageB": teachers["stageB"][:1]}
    study = run_study(alone, weights={"RN18": 1.0})
    gate = pick(study.scores, stage="stageA", model="RN18", rows="gate:gate")
    assert gate[gate["by"] == "all"]["metric"].tolist() == ["classes", "in_domain"]
    assert set(gate["n"]) == {0}
    assert pick(gate, by="left_out")["value"].tolist() == [0, 360]
    assert "gate gate: stageA RN18: no row is left" in caplog.text
    compared = pick(study.paired, what="stageB-stageA", model="RN18", rows="gate:gate")
    assert set(compared["n"]) == {0}
    assert headline_metrics(study)["stageA"]["fused_fixed"]["gates"] == {}

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
        yield (*path, key)
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
    paths = [p for p in _leaves(whole) if p[-2:-1] not in [(name,) for name in free]]
    assert len(paths) > 150
    for path in paths:
        with pytest.raises(ValueError, match=path[-1]):
            CalibrationFile.model_validate(_without(whole, path))
    with pytest.raises(ValueError, match="fused_fixed: missing"):
        CalibrationFile.model_validate(
            _without(whole, ("stages", "stageB", "models", "fused_fixed"))
        )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature_95": (2.0, 1.0)}, "low end"),
        ({"temperature_95": None}, "expected a temperature_95"),
        ({"votes_n": 0}, "votes_n"),
        ({"temprature": 1.0}, "temprature"),
    ],
)
def test_fit_that_breaks_its_promise_is_an_error(studied, changes, named):
    model = studied.calibration.stages["stageA"].models["RN18"]
    with pytest.raises(ValueError, match=named):
        type(model).model_validate(model.model_dump() | changes)


def test_calibration_is_read_as_it_was_written(studied, tmp_path):
    folder = tmp_path / "calibrated"
    with pytest.raises(UserError, match=r"models/calibrated/calibration\.json: missing; run"):
        read_calibration(folder)
    write_calibration(folder, studied.calibration)
    found = read_calibration(folder)
    assert found == studied.calibration
    fused = found.taken["fused_searched"]
    assert fused.calibration.weights == tuple(m.weight for m in fused.members.values())
    assert found.shown == ("RN18", "B3", "fused_fixed")
    assert fused.weights_sha256 == "+".join(
        found.taken[name].members[name].weights_sha256 for name in ("RN18", "B3")
    )
    (folder / FILE).write_text("{}")
    with pytest.raises(UserError, match=r"calibration\.json: stage: .* run `dvc repro calibrate`"):
        read_calibration(folder)


def test_incident_N6_headline_keys_are_the_same_for_every_model_and_block(studied):
    metrics = headline_metrics(studied)
    keys = {
        tuple(key for key in model if key != "gates")
        for stage in ("stageA", "stageB")
        for model in metrics[stage].values()
    }
    assert keys == {("n", "accuracy", "macro_f1", "nll", "ece", "ece_floor", "temperature")}
    scores = pick(studied.scores, stage="stageB", model="B3", by="all", rows="test")
    scores = pick(scores, label_rule="majority", probabilities="calibrated")
    for name in ("accuracy", "macro_f1", "nll", "ece", "ece_floor"):
        assert metrics["stageB"]["B3"][name] == round(number(scores, name).value, 6)
    numbers = [p for p in _leaves(metrics) if isinstance(_at(metrics, p), (int, float))]
    assert len(numbers) <= 50


def _at(value, path):
    for key in path:
        value = value[key]
    return value


def test_incident_N4_gate_counts_its_rows_that_the_filter_of_the_stage_admits(
    read, run_study, caplog
):
    manifest, _ = read
    is_gate = (manifest.rows["split"] == "test") & (manifest.rows["source"] != "rafdb_basic")
    mixed = dataclasses.replace(manifest, gates={"gate": manifest.rows[is_gate]})
    study = run_study(manifest=mixed)
    about = {"model": "fused_fixed", "rows": "gate:gate", "by": "all"}
    # Stage A's filter admits ferplus, stage B's neither of the two sources.
    for stage, in_domain in (("stageA", 120), ("stageB", 0)):
        found = number(study.scores, "in_domain", stage=stage, **about)
        assert (found.n, found.value) == (240, in_domain)
    found = number(study.paired, "in_domain", what="stageB-stageA", **about)
    assert (found.n, found.value) == (240, 120)
    says = study.calibration.verdict.says
    assert "gate gate (n = 240, 120 of them in domain)" in says
    assert "gate gate: stageA fused_fixed: the stage's filter admits 120 of 240" in caplog.text
    assert "stageB fused_fixed: the stage's filter" not in caplog.text


def test_crossfitted_report_has_no_test_and_full_scores_of_val(run_study, settings):
    by_folds = settings.model_copy(update={"report": "val_crossfit"})
    study = run_study(settings=by_folds)
    assert set(study.scores["rows"]) == {"val", "gate:gate"}
    val = pick(study.scores, stage="stageA", model="RN18", rows="val", by="all")
    assert {"ece", "brier"} <= set(val["metric"])
    assert study.calibration.headline_rows == "val"
    assert list(headline_metrics(study)["stageB_vs_stageA"]["fused_fixed"]) == ["val"]


def test_gate_without_an_unseen_row_has_no_numbers_and_a_warning(read, run_study, settings, caplog):
    _, teachers = read
    logits = teachers["stageA"][0].logits
    seen = logits["seen"] | logits.index.str.startswith("expw_lq/")
    learnt = dataclasses.replace(teachers["stageA"][0], logits=logits.assign(seen=seen))
    alone = settings.model_copy(update={"weights": {"RN18": 1.0}})
    study = run_study({"stageA": [learnt], "stageB": teachers["stageB"][:1]}, settings=alone)
    gate = pick(study.scores, stage="stageA", model="RN18", rows="gate:gate")
    assert gate[gate["by"] == "all"]["metric"].tolist() == ["classes", "in_domain"]
    assert set(gate["n"]) == {0}
    assert pick(gate, by="left_out")["value"].tolist() == [0, 360]
    assert "gate gate: stageA RN18: no row is left" in caplog.text
    compared = pick(study.paired, what="stageB-stageA", model="RN18", rows="gate:gate")
    assert set(compared["n"]) == {0}

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from shipped import shipped

from stages.config import ExpwSource, Folder7Source
from stages.exporting.bundle import read_bundle
from stages.exporting.model_card import Facts, write_model_card
from stages.exporting.scores import Scores, read_scores
from stages.exporting.training_rows import rows_by_source
from stages.runtime.errors import UserError
from stages.runtime.files import write_json
from tests.exporting.project import teachers_metrics

LOSS = {
    "bytes": 2_000_000,
    "accuracy_loss": 0.01,
    "accuracy_loss_95": [0.0, 0.02],
    "top_class_changes": 3,
}
HELD = {
    "split": "test", "n": 290, "accuracy": 0.8, "accuracy_95": [0.7, 0.9],
    "mean_top_probability": 0.75,
}  # fmt: skip
REPORT = {"bytes": 8_000_000, "held_out": HELD, "int8": LOSS}
LABELS = {
    "n": 900, "mean_top_probability": 0.85, "distillation_temperature": 2.0,
    "nearly_one_hot": False, "by_seen": {"seen": {"n": 800, "mean_top_probability": 0.9}},
}  # fmt: skip


@pytest.fixture
def facts(tmp_path: Path, models: Path) -> Facts:
    bundle = read_bundle(models)
    weights = {card.teacher: card.weights_sha256 for card in bundle.cards}
    write_json(tmp_path / "metrics" / "teachers.json", {"stageB": teachers_metrics(weights)})
    return Facts(
        bundle=bundle,
        opset=18,
        sources={
            "expw": shipped(ExpwSource, format="expw", path="expw", licence="research | only"),
            "mine": Folder7Source(format="folder7", path="mine"),
        },
        rows={"stageA": {"expw_hq": 1200, "expw_lq": 34, "mine": 5}, "stageB": {"expw_hq": 1200}},
        scores=read_scores(tmp_path / "metrics" / "teachers.json", bundle),
        report=dict.fromkeys(("RN18", "B3", "ensemble"), REPORT),
        labels=LABELS,
    )


def card_of(folder: Path, facts: Facts) -> str:
    write_model_card(folder, facts)
    return (folder / "model_card.md").read_text("utf-8")


def test_reported_a_licence_of_several_lines_with_html_leaves_the_table_whole(
    tmp_path: Path, facts: Facts
) -> None:
    licence = "for\n\nresearch\\|\r\n<script>alert('x & y')</script> [a](javascript:b) `c`\u2028d"
    mine = Folder7Source(format="folder7", path="mine", licence=licence)
    text = card_of(tmp_path, replace(facts, sources=dict(facts.sources) | {"mine": mine}))
    (line,) = [line for line in text.splitlines() if line.startswith("| mine ")]
    assert line.endswith(
        "| for research&#92;&#124; &#60;script&#62;alert('x &#38; y')&#60;/script&#62; "
        "&#91;a&#93;(javascript:b) &#96;c&#96; d |"
    )
    assert line.count("|") == 6


def test_data_are_named_with_rows_of_each_stage_and_licence(tmp_path: Path, facts: Facts) -> None:
    text = card_of(tmp_path, facts)
    assert "| expw | expw | 1,234 | 1,200 | research &#124; only |" in text
    assert "| mine | folder7 | 5 | 0 | **not declared** |" in text


def test_numbers_carry_intervals_rows_and_what_they_were_fitted_on(
    tmp_path: Path, facts: Facts
) -> None:
    text = card_of(tmp_path, facts)
    assert "On 290 rows of test, by majority labels; calibrated on val." in text
    assert text.count("0.500 [0.375, 0.625]") == 3 * 2 + 1
    assert text.count("| 0.300 (0.400) |") == 3 * 2 + 1
    assert "no fit" not in text
    assert "| expw_lq_gate | 77 | 0 | 0.500 [0.375, 0.625] |" in text
    assert "| `B3.int8.onnx` | 2.0 | 0.010 [0.000, 0.020] | 3 |" in text


def test_reported_temperature_that_is_no_fit_is_said(tmp_path: Path, facts: Facts) -> None:
    no_fit = {"temperature": 1.0, "temperature_no_fit": "the logits are right on each of 9 rows"}
    calibration = replace(facts.bundle.calibration, **no_fit)
    bundle = replace(facts.bundle, calibration=calibration)
    text = card_of(tmp_path, replace(facts, bundle=bundle))
    assert "(temperature 1, no fit, mixture of probabilities" in text
    assert "**The probabilities are not calibrated**: no temperature could be fitted, the" in text
    assert "Probabilities are calibrated for" not in text


def test_a_gate_without_rows_and_no_gate_at_all_are_said(tmp_path: Path, facts: Facts) -> None:
    block = facts.scores["ensemble"].in_domain
    empty = {"ensemble": Scores(block, {"lost": {"n": 0, "in_domain": 0}})}
    assert "| lost | 0 | 0 |  |  |  |  |  |" in card_of(tmp_path, replace(facts, scores=empty))
    none = {"ensemble": Scores(block, {})}
    assert "Not measured: the recipe has no gate view." in card_of(
        tmp_path, replace(facts, scores=none)
    )


def test_incident_N4_gate_with_rows_in_domain_is_said_to_have_them(
    tmp_path: Path, facts: Facts
) -> None:
    assert "in domain**" not in card_of(tmp_path, facts)
    scores = facts.scores["ensemble"]
    gate = scores.gates["expw_lq_gate"] | {"in_domain": 12}
    changed = {"ensemble": Scores(scores.in_domain, {"expw_lq_gate": gate})}
    text = card_of(tmp_path, replace(facts, scores=changed))
    assert "| expw_lq_gate | 77 | 12 | 0.500" in text
    assert "**12 of the 77 rows of expw_lq_gate are in domain**" in text


def test_incident_N7_nearly_one_hot_labels_are_said_to_be_so(tmp_path: Path, facts: Facts) -> None:
    assert "Nearly one-hot" not in card_of(tmp_path, facts)
    sharp = replace(facts, labels=LABELS | {"nearly_one_hot": True})
    assert "Nearly one-hot" in card_of(tmp_path, sharp)


@pytest.mark.parametrize("model", ["fused_fixed", "RN18"])
def test_incident_N6_scores_of_other_weights_are_refused(
    tmp_path: Path, models: Path, model: str
) -> None:
    bundle = read_bundle(models)
    metrics: dict[str, Any] = teachers_metrics({c.teacher: c.weights_sha256 for c in bundle.cards})
    metrics[model] = teachers_metrics({"RN18": "e" * 64})["RN18"]
    write_json(tmp_path / "metrics" / "teachers.json", {"stageB": metrics})
    with pytest.raises(UserError, match=r"metrics/teachers\.json: stageB: .* scores other weights"):
        read_scores(tmp_path / "metrics" / "teachers.json", bundle)


def test_scores_that_are_missing_name_the_stage_that_makes_them(
    tmp_path: Path, models: Path
) -> None:
    path = tmp_path / "metrics" / "teachers.json"
    with pytest.raises(UserError, match=r"metrics/teachers\.json: missing; run `dvc repro calib"):
        read_scores(path, read_bundle(models))
    write_json(path, {"stageB": {}})
    with pytest.raises(UserError, match=r"stageB: 'fused_fixed' is missing; run"):
        read_scores(path, read_bundle(models))


def test_reported_the_card_says_what_the_files_and_the_script_need(
    tmp_path: Path, facts: Facts
) -> None:
    text = card_of(tmp_path, facts)
    assert "It needs Python 3.8 or later." in text
    assert "Opset 18, IR version 8, any batch size, for onnxruntime 1.14 or later; fp16" in text
    other = card_of(tmp_path, replace(facts, opset=20))
    assert "Opset 20, IR version 9, any batch size. Losses" in other


def test_reported_soft_labels_of_learnt_rows_are_called_over_confident(
    tmp_path: Path, facts: Facts
) -> None:
    text = card_of(tmp_path, facts)
    assert "- 800 soft labels are of rows that a teacher has learnt (`seen` in their index)" in text
    assert "over-confident. Their mean top probability is 0.900." in text
    unseen = {"by_seen": {"unseen": {"n": 900, "mean_top_probability": 0.8}}}
    assert "learnt" not in card_of(tmp_path, replace(facts, labels=LABELS | unseen))[-900:]


def test_rows_are_those_of_the_stage_and_of_all_before_it(tmp_path: Path) -> None:
    for stage, rows in (("stageA", 7), ("stageB", 3)):
        report = {
            "train": {"before": {"by_source": {"a": 99}}, "after": {"by_source": {"a": rows}}}
        }
        write_json(tmp_path / stage / "RN18" / "alignmentreport.json", report)
    assert rows_by_source(tmp_path, "stageA", teacher="RN18") == {"stageA": {"a": 7}}
    both = rows_by_source(tmp_path, "stageB", teacher="RN18")
    assert both == {"stageA": {"a": 7}, "stageB": {"a": 3}}
    with pytest.raises(UserError, match=r"models/stageA/B3/alignmentreport\.json: missing; `dvc"):
        rows_by_source(tmp_path, "stageA", teacher="B3")

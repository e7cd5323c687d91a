import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.calibrating.score_table import read_scores
from stages.config import ExpwSource, Folder7Source
from stages.exporting.bundle import read_bundle
from stages.exporting.export_files import ParityFile, SoftLabels
from stages.exporting.model_card import scores_of, training_rows, write_model_card
from stages.runtime.errors import UserError
from tests.exporting.tiny import make_card

CHECKS = {
    "parity": {"rows": 12, "label_changes": 0, "max_abs_diff": 0.0, "reference_max_abs_diff": 0.0},
    "held_out": {
        "split": "test", "n": 290, "accuracy": 0.8, "accuracy_95": (0.7, 0.9),
        "mean_top_probability": 0.75, "label_rule": "majority", "fitted_on": "val",
        "weights_sha256": {},
    },
    "variants": {
        "int8": {
            "n": 290, "accuracy_loss": 0.01, "accuracy_loss_95": (0.0, 0.02), "nll_increase": 0.0,
            "max_abs_diff": 0.1, "label_changes": 3,
        },
    },
}  # fmt: skip
LABELS = {
    "n": 900, "label_agreement": 0.8, "mean_top_probability": 0.85, "nearly_one_hot": False,
    "distillation_temperature": 2.0, "mean_top_probability_distilled": 0.6,
    "by_seen": {"seen": {"n": 800, "mean_top_probability": 0.9}},
}  # fmt: skip
GATE = "gate:expw_lq_gate"

Card = Callable[..., str]


@pytest.fixture(scope="module")
def facts(project: Path) -> dict[str, Any]:
    models = project / "models"
    bundle = read_bundle(models)
    return {
        "bundle": bundle,
        "scores": scores_of(read_scores(models / "calibrated" / "scores.csv"), bundle),
        "opset": 18,
        "sources": {
            "expw": ExpwSource(format="expw", path="expw", licence="research | only"),
            "mine": Folder7Source(format="folder7", path="mine"),
        },
        "rows": {
            "stageA": {"expw_hq": 1200, "expw_lq": 34, "mine": 5},
            "stageB": {"expw_hq": 1200},
        },
        "parity": ParityFile.model_validate(
            {"stage": "stageB", "models": dict.fromkeys(("RN18", "B3", "ensemble"), CHECKS)}
        ),
        "labels": SoftLabels.model_validate(LABELS),
    }


@pytest.fixture
def card(tmp_path: Path, facts: dict[str, Any]) -> Card:
    """A function that writes the card, with some facts changed, and reads it."""
    for name in ("RN18", "B3", "ensemble"):
        (tmp_path / f"{name}.onnx").write_bytes(bytes(8_000_000))
        (tmp_path / f"{name}.int8.onnx").write_bytes(bytes(2_000_000))

    def write(**changes: Any) -> str:
        values = facts | changes
        bundle, scores = values.pop("bundle"), values.pop("scores")
        write_model_card(tmp_path, bundle, scores, **values)
        return (tmp_path / "model_card.md").read_text("utf-8")

    return write


def with_value(scores: pd.DataFrame, metric: str, value: float) -> pd.DataFrame:
    changed = scores.copy()
    changed.loc[(changed["rows"] == GATE) & (changed["metric"] == metric), "value"] = value
    return changed


def test_reported_a_licence_of_several_lines_with_html_leaves_the_table_whole(card: Card) -> None:
    licence = "for\n\nresearch\\|\r\n<script>alert('x & y')</script> [a](javascript:b) `c`\u2028d"
    mine = Folder7Source(format="folder7", path="mine", licence=licence)
    text = card(sources={"mine": mine})
    (line,) = [line for line in text.splitlines() if line.startswith("| mine ")]
    assert line.endswith(
        "| for research&#92;&#124; &#60;script&#62;alert('x &#38; y')&#60;/script&#62; "
        "&#91;a&#93;(javascript:b) &#96;c&#96; d |"
    )
    assert line.count("|") == 6


def test_data_are_named_with_rows_of_each_stage_and_licence(card: Card) -> None:
    text = card()
    assert "| dataset | format | stageA, rows | stageB, rows | licence |" in text
    assert "| expw | expw | 1,234 | 1,200 | research &#124; only |" in text
    assert "| mine | folder7 | 5 | 0 | **not declared** |" in text
    assert "stageB started from stageA's weights." in text
    assert "started from" not in card(rows={"stageA": {}}).partition("## Numbers")[0]


def test_numbers_carry_intervals_rows_and_what_they_were_fitted_on(card: Card) -> None:
    text = card()
    assert "On 290 rows of test, by majority labels; calibrated on val." in text
    assert text.count("0.500 [0.375, 0.625] | 0.520 [0.395, 0.645]") == 3 * 2 + 1
    assert text.count("| 0.300 (0.400) |") == 3 * 2 + 1
    assert "no fit" not in text
    assert "| expw_lq_gate | 77 | 0 | 0.500 [0.375, 0.625] |" in text
    assert "| `B3.onnx` | 8.0 | accuracy 0.800 [0.700, 0.900] |  |" in text
    assert "| `B3.int8.onnx` | 2.0 | 0.010 [0.000, 0.020] | 3 |" in text
    assert "Neutral has the fewest rows behind its numbers: 34." in text


def test_reported_temperature_that_is_no_fit_is_said(card: Card, facts: dict[str, Any]) -> None:
    no_fit = {"temperature": 1.0, "temperature_no_fit": "the logits are right on each of 9 rows"}
    bundle = facts["bundle"]
    calibration = replace(bundle.ensemble.calibration, **no_fit)
    text = card(bundle=replace(bundle, ensemble=replace(bundle.ensemble, calibration=calibration)))
    assert "(temperature 1, no fit, mixture of probabilities" in text
    assert "**The probabilities are not calibrated**: no temperature could be fitted, the" in text
    assert "Probabilities are calibrated for" not in text


def test_a_gate_without_rows_and_no_gate_at_all_are_said(card: Card, facts: dict[str, Any]) -> None:
    scores = facts["scores"]
    in_domain = scores[scores["rows"] == "test"]
    is_gate = (scores["rows"] == GATE) & scores["metric"].isin(["classes", "in_domain"])
    lost = scores[is_gate & (scores["by"] == "all")].assign(rows="gate:lost", n=0, value=0.0)
    assert "| lost | 0 | 0 |  |  |  |  |  |" in card(scores=pd.concat([in_domain, lost]))
    assert "Not measured: the recipe has no gate view." in card(scores=in_domain)


def test_incident_N4_gate_with_rows_in_domain_is_said_to_have_them(
    card: Card, facts: dict[str, Any]
) -> None:
    assert "in domain**" not in card()
    text = card(scores=with_value(facts["scores"], "in_domain", 12))
    assert "| expw_lq_gate | 77 | 12 | 0.500" in text
    assert "**12 of the 77 rows of expw_lq_gate are in domain**" in text


def test_incident_N7_nearly_one_hot_labels_are_said_to_be_so(card: Card) -> None:
    assert "Nearly one-hot" not in card()
    assert "Nearly one-hot" in card(labels=SoftLabels(**LABELS | {"nearly_one_hot": True}))


def test_reported_the_card_says_what_the_files_and_the_script_need(card: Card) -> None:
    text = card()
    assert "It needs Python 3.8 or later." in text
    assert "Opset 18, IR version 8, any batch size, for onnxruntime 1.14 or later; fp16" in text
    assert "Opset 20, IR version 9, any batch size. Losses" in card(opset=20)


def test_reported_soft_labels_of_learnt_rows_are_called_over_confident(card: Card) -> None:
    text = card()
    assert "- 800 soft labels are of rows that a teacher has learnt (`seen` in their index)" in text
    assert "over-confident. Their mean top probability is 0.900." in text
    unseen = {"by_seen": {"unseen": {"n": 900, "mean_top_probability": 0.8}}}
    assert "learnt" not in card(labels=SoftLabels(**LABELS | unseen))[-900:]


@pytest.mark.parametrize("model", ["fused_fixed", "RN18"])
def test_incident_N6_scores_of_other_weights_are_refused(
    project: Path, facts: dict[str, Any], model: str
) -> None:
    scores = read_scores(project / "models" / "calibrated" / "scores.csv")
    changed = scores.copy()
    changed.loc[changed["model"] == model, "weights_sha256"] = "e" * 64
    with pytest.raises(UserError, match=r"calibrated/scores\.csv: stageB: .* scores other weights"):
        scores_of(changed, facts["bundle"])
    with pytest.raises(UserError, match=r"scores\.csv: stageB: .* is missing, .* run `dvc repro"):
        scores_of(scores[scores["model"] != model], facts["bundle"])


def test_rows_are_those_of_the_stage_and_of_the_one_before_it(
    project: Path, tmp_path: Path, facts: dict[str, Any]
) -> None:
    models = Path(shutil.copytree(project / "models", tmp_path / "models"))
    path = models / "stageA" / "RN18" / "alignmentreport.json"
    train = {"before": {"by_source": {"a": 99}}, "after": {"by_source": {"a": 7}}}
    path.write_text(json.dumps({"train": train}))
    card = facts["bundle"].card
    assert training_rows(models, card) == {"stageA": {"a": 7}, "stageB": {"expw_hq": 30}}
    assert training_rows(models, make_card(stage="stageA")) == {"stageA": {"a": 7}}
    path.unlink()
    with pytest.raises(UserError, match=r"models/stageA/RN18/alignmentreport\.json: missing; `dvc"):
        training_rows(models, card)

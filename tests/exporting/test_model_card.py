import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from shipped import shipped

from stages.calibrating.calibration_file import RefinementChoice
from stages.calibrating.score_table import number, pick, read_scores
from stages.config import ExpwSource, Folder7Source
from stages.exporting.bundle import read_bundle
from stages.exporting.export_files import ParityFile, SoftLabels
from stages.exporting.model_card import scores_of, training_rows, write_model_card
from stages.runtime.errors import UserError
from stages.runtime.files import read_json, write_json
from tests.exporting.tiny import BIAS, PRIORS, make_card

LABELS = {
    "n": 800,
    "face_views": ["as it is", "as it is, mirrored"],
    "rows_by_temperature": {"majority": 790, "crowd": 10},
    "crowd_lacks": None,
    "label_agreement": 0.8,
    "mean_top_probability": 0.85,
    "nearly_one_hot": False,
    "distillation_temperature": 2.0,
    "mean_top_probability_distilled": 0.6,
    "sharpness": {"learnt": {"n": 800, "mean_top_probability": 0.9}},
    "sharpness_means": "labels of learnt rows are sharper",
}
GATE = "gate:gate"

Card = Callable[..., str]


@pytest.fixture(scope="module")
def facts(exported):
    models = exported / "models"
    bundle = read_bundle(models)
    return {
        "bundle": bundle,
        "scores": scores_of(read_scores(models / "calibrated" / "scores.csv"), bundle),
        "opset": 18,
        "sources": {
            "expw": shipped(ExpwSource, format="expw", path="expw", licence="research | only"),
            "mine": Folder7Source(format="folder7", path="mine"),
        },
        "rows": {
            "stageA": {"expw_hq": 1200, "expw_lq": 34, "mine": 5},
            "stageB": {"expw_hq": 1200},
        },
        "parity": ParityFile.model_validate_json((models / "export/parity.json").read_bytes()),
        "labels": SoftLabels.model_validate(LABELS),
    }


@pytest.fixture
def card(exported, tmp_path, facts):
    """A function that writes the card, with some facts changed, and reads it."""
    folder = Path(shutil.copytree(exported / "models" / "export", tmp_path / "export"))

    def write(**changes: Any) -> str:
        values = facts | changes
        write_model_card(folder, values.pop("bundle"), values.pop("scores"), **values)
        return (folder / "model_card.md").read_text("utf-8")

    return write


def test_reported_a_licence_of_several_lines_with_html_leaves_the_table_whole(card):
    licence = "for\n\nresearch\\|\r\n<script>alert('x & y')</script> [a](javascript:b) `c`\u2028d"
    mine = Folder7Source(format="folder7", path="mine", licence=licence)
    (line,) = [line for line in card(sources={"mine": mine}).splitlines() if "| mine " in line]
    assert line.endswith(
        "| for research&#92;&#124; &#60;script&#62;alert('x &#38; y')&#60;/script&#62; "
        "&#91;a&#93;(javascript:b) &#96;c&#96; d |"
    )
    assert line.count("|") == 6


def test_reported_the_card_says_what_the_files_and_the_script_need(exported, card, facts):
    text = card()
    ensemble = pick(facts["scores"], model="fused_fixed", rows="test", probabilities="calibrated")
    ensemble = pick(ensemble, label_rule="majority")
    accuracy, floor, floor_95 = (
        number(ensemble, name, by="all") for name in ("accuracy", "ece_floor", "ece_floor_95")
    )
    f1 = pick(ensemble, by="class", metric="f1")
    checks = facts["parity"].models["B3"]
    loss, held_out = checks.variants["int8"], checks.held_out
    sizes = read_json(exported / "models/export/hash_manifest.json")["bytes"]
    full, small = (sizes[f"B3{form}.onnx"] / 1e6 for form in ("", ".int8"))

    def interval(value: float, low: float, high: float) -> str:
        return f"{value:.3f} [{low:.3f}, {high:.3f}]"

    for line in (
        f"Why this stage: {facts['bundle'].fitted.verdict.says}",
        "| dataset | format | stageA, rows | stageB, rows | licence |",
        "| expw | expw | 1,234 | 1,200 | research &#124; only |",
        "| mine | folder7 | 5 | 0 | **not declared** |",
        "stageB started from stageA's weights.",
        f"On {accuracy.n} rows of test, by majority labels; calibrated on val.",
        f"| ensemble | calibrated | {interval(*accuracy[:3])} | ",
        f" | {floor.value:.3f} ({floor_95.value:.3f}) |\n",
        f"| `B3.onnx` | {full:.1f} | accuracy {interval(held_out.accuracy, *held_out.accuracy_95)} |",
        f"| `B3.int8.onnx` | {small:.1f} | {interval(loss.accuracy_loss, *loss.accuracy_loss_95)} |",
        "It needs Python 3.8 or later.",
        "Opset 18, IR version 8, any batch size, for onnxruntime 1.14 or later; fp16",
        f" has the fewest rows behind its numbers: {f1['n'].min()}.",
        "Probabilities are calibrated for",
    ):
        assert line in text
    assert "Opset 20, IR version 9, any batch size. Losses" in card(opset=20)
    assert "started from" not in card(rows={"stageA": {}}).partition("## Numbers")[0]


def test_reported_what_was_fitted_and_how_a_class_is_named_is_said(card, facts):
    bundle = facts["bundle"]

    def said(**changes: Any) -> str:
        fit = bundle.ensemble.fit.model_copy(update=changes)
        return card(bundle=replace(bundle, ensemble=replace(bundle.ensemble, fit=fit)))

    text = said(temperature=1.0, temperature_no_fit="the logits are right on each of 9 rows")
    assert "(temperature 1, no fit, mixture of probabilities" in text
    assert "**The probabilities are not calibrated**: no temperature could be fitted, the" in text
    assert "Probabilities are calibrated for" not in text
    text, fit = card(), bundle.ensemble.fit
    assert "no fit" not in text
    assert f"with temperature {fit.temperature:.3f} and no bias: {fit.refinement.reason}." in text
    assert f"The crowd's votes ask for temperature {fit.crowd_temperature:.3f} in its" in text
    assert "`label` is the most probable class, as `calibrate.decide_by: accuracy` asks." in text
    assert f"best macro-F1; {fit.decision.reason}." in text
    for name, prior in PRIORS.items():
        assert f"- {name}: {', '.join(map(str, prior))}\n" in text
    prior = RefinementChoice(
        taken="prior", reason="asked", prior_exponent=0.5, prior_exponent_95=None
    )
    decision = fit.decision.model_copy(update={"exponent": 0.4})
    text = said(refinement=prior, decision=decision, crowd_temperature=None)
    assert "the bias s log(class shares of val), s = 0.500: asked." in text
    assert "No temperature for the crowd's votes: too few val rows have votes." in text
    assert "`label` is the argmax of probabilities / (class shares of val) ** 0.4, as" in text
    bias = prior.model_copy(update={"taken": "bias"})
    assert "a bias for each class, 0.5, -0.5, 0.25" in said(refinement=bias, class_bias=BIAS)


def test_incident_N4_gate_with_rows_in_domain_is_said_to_have_them(card, facts):
    assert "| gate | 10 | 10 | 0." in card()
    assert "**10 of the 10 rows of gate are in domain**" in card()
    scores = facts["scores"]
    is_gate = (scores["rows"] == GATE) & (scores["metric"] == "in_domain")
    elsewhere = scores.assign(value=scores["value"].mask(is_gate, 0))
    assert "in domain**" not in card(scores=elsewhere)
    test, lost = scores[scores["rows"] == "test"], elsewhere[is_gate].assign(rows="gate:lost", n=0)
    assert "| lost | 0 | 0 |  |  |  |  |  |" in card(scores=pd.concat([test, lost]))
    assert "Not measured: the recipe has no gate view." in card(scores=test)


def test_incident_N7_nearly_one_hot_labels_are_said_to_be_so(card):
    assert "Nearly one-hot" not in card()
    assert "Nearly one-hot" in card(labels=SoftLabels(**LABELS | {"nearly_one_hot": True}))


def test_reported_soft_labels_of_learnt_rows_are_called_over_confident(card):
    text = card()
    assert "the mean over 2 views of each face: as it is; as it is, mirrored. The" in text
    assert "the crowd's to 10 rows with votes, the majority's to 790 rows; `dist" in text
    assert "a mean over views is softer, on rows that no teacher has learnt as well.\n" in text
    assert "are over-confident**, for the temperature was fitted on other rows. Faces as" in text
    assert "as they are, labels of learnt rows are sharper.\n" in text
    assert "over-confident" not in card(labels=SoftLabels(**LABELS | {"sharpness": {}}))


@pytest.mark.parametrize("model", ["fused_fixed", "RN18"])
def test_incident_N6_scores_of_other_weights_are_refused(facts, model):
    scores = facts["scores"]
    other = scores["weights_sha256"].mask(scores["model"] == model, "e" * 64)
    with pytest.raises(UserError, match=r"calibrated/scores\.csv: stageB: .* scores other weights"):
        scores_of(scores.assign(weights_sha256=other), facts["bundle"])
    with pytest.raises(UserError, match=r"scores\.csv: stageB: .* is missing, .* run `dvc repro"):
        scores_of(scores[scores["model"] != model], facts["bundle"])


def test_rows_are_those_of_the_stage_and_of_the_one_before_it(project, tmp_path, facts):
    models = Path(shutil.copytree(project / "models", tmp_path / "models"))
    train = {"before": {"by_source": {"a": 99}}, "after": {"by_source": {"a": 7}}}
    write_json(models / "stageA" / "RN18" / "alignmentreport.json", {"train": train})
    card = facts["bundle"].card
    assert training_rows(models, card) == {"stageA": {"a": 7}, "stageB": {"expw_hq": 30}}
    assert training_rows(models, make_card(stage="stageA")) == {"stageA": {"a": 7}}

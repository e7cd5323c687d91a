import dataclasses
import re
from itertools import product

import pandas as pd
import pytest

from stages.calibrating.score_table import Score
from stages.calibrating.verdict import NOT_COVERED
from stages.reporting import wording
from stages.reporting.page import render_page
from stages.reporting.pictures import draw_pictures
from stages.reporting.seeds import COLUMNS

ANCHORS = "answers stages scores gates mistakes calibration decision teachers training export data"
ANCHORS = f"{ANCHORS} provenance limits".split()
KINDS = {"stage_gain", "reliability", "confusion", "risk_coverage", "training", "mistakes"}
KINDS |= {"mistake", "sources_accuracy", "sources_macro_f1"}
# Tables that hold no scores.
COUNTS = re.compile(
    "What training took|Teachers in|Speed on|Rows of the manifest|Datasets|Files|Warnings|Weights"
    "|Code and machine|Left out"
)
MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def render(run, recipe):
    """Render the page of a run in which some values are replaced, without pictures."""

    def render(**values):
        return render_page(dataclasses.replace(run, **values), pictures=[], recipe=recipe)

    return render


def _part(page, anchor):
    return page.split(f'<section id="{anchor}"')[1].split("</section>")[0]


def _text(page, anchor):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", _part(page, anchor)))


def _with(table, value, **columns):
    """Copy a table of scores with another value in the rows that the columns name."""
    named = (table[list(columns)] == pd.Series(columns)).all(axis=1)
    assert named.any()
    return table.assign(value=table["value"].mask(named, value))


def test_answers_are_first_and_open_all_else_is_folded_and_nothing_lies_outside(page):
    assert re.findall(r'<section id="(\w+)"', page) == ANCHORS
    assert re.findall(r'href="#(\w+)"', page) == ANCHORS
    assert page.count('<details class="part">') == len(ANCHORS) - 1
    assert page.index('id="answers"') < page.index("<details")
    sources = re.findall(r'\b(?:src|href)="([^"]*)"', page)
    assert len(sources) > 20
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert not re.search(r"<(script|link|iframe|object|embed)\b|@import|url\(|srcset", page)


def test_answers_say_model_numbers_and_stage_in_words(page, run):
    text = _text(page, "answers")
    accuracy, macro_f1 = run.score("accuracy"), run.score("macro_f1")
    right, low, high = (round(160 * it) for it in (accuracy.value, accuracy.low, accuracy.high))
    assert f"names the right expression in {right} of 160 faces it has not seen" in text
    assert f"(95 % interval {low} to {high})" in text
    said = f"{macro_f1.value:.3f} [{macro_f1.low:.3f}, {macro_f1.high:.3f}]"
    assert f"Macro-F1 {said} ECE, calibrated" in text
    assert f"chance: up to {run.score('ece_floor_95').value:.3f}" in text
    tiles = text.split("Accuracy")[1].split("Is it calibrated?")[0]
    assert tiles.count("n = 160 rows of test; fitted on val; majority labels") == 1
    assert "Is Stage B worth it? Stage A is taken" in text
    assert "most probable" not in text
    seen = re.sub(r'<(pre|style).*?</\1>|="(data:|#)[^"]*"|id="[^"]*"', "", page, flags=re.S)
    assert not re.search(r"stage[AB]\b|fused_", seen)


def test_worst_mistakes_of_all_classes_are_shown_with_label_and_source(run, pictures):
    table = run.plotted("teachers", f"mistakes/{run.stage}_{run.model}")
    shown = [picture.caption for picture in pictures if picture.kind == "mistake"]
    assert len(shown) == 8 < len(table)
    ranked = table.sort_values("confidence", ascending=False, kind="stable")
    for caption, face in zip(shown, ranked.itertuples(), strict=False):
        named = f"{face.predicted}, {face.confidence:.2f}"
        lines = caption.replace("\N{ZERO WIDTH SPACE}", "").split("\n")
        assert lines == [named, f"labelled {face.actual}", face.source]


def test_every_table_of_scores_says_n_split_rule_and_the_floor_of_an_ece(page):
    tables = re.findall(
        r"<figcaption><strong>(.*?)</strong>(.*?)</figcaption>.*?<thead>(.*?)</thead>", page, re.S
    )
    scores = [table for table in tables if not COUNTS.match(table[0])]
    assert len(scores) >= 13
    for title, note, head in scores:
        columns = re.findall(r"<th[^>]*>(.*?)</th>", head)
        assert "n" in columns, title
        assert "fitted on" in columns or "val" in title + note, title
        assert re.search("majority|votes", (title + note).lower()), title
        if "ECE" in columns:
            assert "floor" in columns[columns.index("ECE") + 1], title


def test_every_picture_has_an_alt_text_and_says_its_rows(pictures, page):
    assert page.count("<img ") == len(pictures)
    assert {picture.kind for picture in pictures} == KINDS
    for picture in pictures:
        assert len(picture.alt) > 40
        if picture.kind != "mistake":
            assert re.search(r"\d+ rows|fitted on val", picture.caption), picture.caption


def test_incident_N4_rows_of_a_gate_that_are_in_domain_are_counted_and_told(run, page, render):
    place = {"rows": "gate:gate", "metric": "in_domain", "model": run.model}
    after = render(
        scores=_with(run.scores, 37, stage=run.stage, **place),
        paired=_with(run.paired, 41, **place),
    )
    assert "37 of the" in _text(after, "limits")
    assert "are in domain:" not in _text(page, "limits")
    gates = _text(after, "gates")
    assert gates.index("Ensemble test") < gates.index("Ensemble gate gate")
    assert "the row or a copy of it was trained on" in gates
    assert " 37 " in gates
    assert "41 in domain" in _text(after, "stages")
    assert "in domain" not in _text(page, "stages")


def test_incident_N3_all_models_stand_beside_each_other_on_val(run, page, render):
    text = _text(page, "scores")
    assert "calibrate.fusion and recipes are to be chosen by these, never by test." in text
    on_val = text.split("Models of Stage A on val.")[1].split("By class.")[0]
    for model in run.calibration.taken:
        assert wording.number(run.score("nll", model=model, rows="val").value) in on_val
    # Where val by folds is the headline, nothing is told twice.
    scores = run.scores[run.scores["rows"] != "val"].replace({"rows": {"test": "val"}})
    calibration = run.calibration.model_copy(update={"report": "val_crossfit"})
    text = _text(render(scores=scores, calibration=calibration), "scores")
    assert "calibrate.fusion is to be chosen by them. By class" in text


def test_what_each_refinement_does_to_balanced_accuracy_is_shown(run, page):
    part = _part(page, "calibration")
    for model, kind in product(run.shown, ("T_prior", "T_bias")):
        place = {"model": model, "rows": "val", "probabilities": kind}
        assert wording.estimate(run.score("balanced_accuracy", **place)) in part
        place = {"model": model, "stage": run.stage, "what": f"{kind}-T"}
        assert wording.difference(run.change("balanced_accuracy", **place)) in part


@pytest.mark.parametrize(
    ("query", "anchor", "words"),
    [
        ("~rows.str.startswith('gate:')", "gates", "The recipe has no gate view"),
        ("~rows.str.startswith('gate:')", "limits", "No gate: all numbers are in domain."),
        ("probabilities != 'T_bias'", "calibration", "T and a bias per class 0 not fitted"),
    ],
)
def test_numbers_that_a_run_cannot_have_are_said_to_be_missing(run, render, query, anchor, words):
    assert words in _text(render(scores=run.scores.query(query)), anchor)


NO_FIT = "no fit, the logits are right on each of 160 rows"
UNFITTED = {"temperature_no_fit": NO_FIT[8:], "temperature": 1.0, "temperature_95": None}
CROWDLESS = {"crowd_temperature": None}
PRIOR = {"taken": "prior", "prior_exponent": 0.9, "prior_exponent_95": (0.8, 1.25)}
CHOSEN = {"f1_exponent": 0.6, "reason": "its gain is so"}
BEST, TAKEN = CHOSEN | {"f1_exponent": 0.0}, CHOSEN | {"exponent": 0.6, "gain_is_real": True}
PRIOR, BEST, CHOSEN = {"refinement": PRIOR}, {"decision": BEST}, {"decision": CHOSEN}
BY_F1, TAKEN = ({"decide_by": "macro_f1"} | it for it in (CHOSEN, {"decision": TAKEN}))
TRADE = r"change the ensemble's macro-F1 by .0\.030 \[.*?\] and its accuracy by .0\.050 \[.*?\] on"


@pytest.mark.parametrize(
    ("values", "anchor", "words"),
    [
        (UNFITTED, "answers", f" 1: {NO_FIT} .* Its probabilities are not calibrated."),
        (UNFITTED, "calibration", f" 1: {NO_FIT} "),
        (UNFITTED, "limits", f"no temperature could be fitted, {NO_FIT[8:]}."),
        (CROWDLESS, "calibration", "none: no or too few rows of val have votes"),
        (PRIOR, "calibration", r"it is T and the prior, s = 0.900 \[0.800, 1.250\] : "),
        (CHOSEN, "decision", f"with the exponent 0.6, would {TRADE} 160 rows of val by"),
        (CHOSEN, "decision", "is accuracy, so the most probable class is named"),
        (BEST, "decision", r"Here both are the same \(its gain is so\)"),
        (BY_F1, "decision", "is macro_f1 but its gain is so, so the most probable class is named"),
        (TAKEN, "decision", "is macro_f1 and its gain is so, so the class by the prior is named"),
        (TAKEN, "answers", "The class that it names is not the most probable one"),
    ],
)
def test_reported_no_fit_and_each_choice_are_told_in_words(run, render, values, anchor, words):
    paired, fit = run.paired, run.fit()
    for metric, change in (("macro_f1", 0.03), ("accuracy", -0.05)):
        paired = _with(paired, change, what="prior-argmax", metric=metric, model=run.model)
    scores = run.scores.assign(decision="prior" if values is TAKEN else "argmax")
    decide_by = {"decide_by": values.get("decide_by", "accuracy")}
    calibration = run.calibration.model_copy(deep=True, update=decide_by)
    for name, value in values.items():
        value = getattr(fit, name).model_copy(update=value) if isinstance(value, dict) else value
        fit = fit.model_copy(update={name: value})
    calibration.taken[run.model] = fit
    text = _text(render(calibration=calibration, scores=scores, paired=paired), anchor)
    assert re.search(words, text)


def test_what_one_input_for_all_costs_stands_among_the_files(run, page, render):
    models = run.parity["models"]
    loss = {"n": 80, "accuracy": 0.7, "accuracy_loss": 0.0125, "accuracy_loss_95": [-0.025, 0.05]}
    loss |= {"nll_increase": 0.25, "max_abs_diff": 0.3, "label_changes": 3, "own_accuracy": 0.7125}
    models = models | {"ensemble": models["ensemble"] | {"shared_input": loss}}
    text = _text(render(parity=run.parity | {"models": models}), "export")
    numbers = f"0.3 0.700 0.013 [{MINUS}0.025, 0.050] +0.250 3.0e-01 80 3"
    assert f"ensemble.onnx: one input for all, val {numbers}" in text
    assert "One input for all: what the file loses, on all val rows," in text
    assert "ne input for all" not in _text(page, "export")


def test_the_verdict_says_what_it_leaves_out_and_seeds_cover_it(run, recipe, page, render):
    assert wording.stages_spelt(NOT_COVERED) in _text(page, "stages")
    assert "No seeds were run" in _text(page, "stages")
    nll = wording.signed(run.change("nll", rows="val").value)
    assert f"NLL on val, where below 0 speaks for Stage B: {nll} [" in page
    own = {f"stageA.{run.model}.ece_floor": 0.5, f"stageB_vs_stageA.{run.model}.val.nll": -0.25}
    rows = [
        (recipe_, metric, seed, value + shift, 2, value, value - 0.125, value + 0.125, 0.25)
        for recipe_, shift in (("other", 0.01), ("this", 0.0))
        for metric, value in own.items()
        for seed in (recipe["seed"], 99)
    ]
    seeds, metrics = pd.DataFrame(rows, columns=list(COLUMNS)), pd.Series(own)
    text = _text(render(seeds=seeds, metrics=metrics), "stages")
    assert text.count("Stage A test ECE floor 2 0.500 0.500 [0.375, 0.625] 0.250") == 1
    ends = f"[{MINUS}0.375, {MINUS}0.125]"
    assert f"Stage B minus Stage A val NLL 2 {MINUS}0.250 {MINUS}0.250 {ends} 0.250" in text
    assert "is of other runs" in _text(render(seeds=seeds[:4], metrics=metrics), "stages")


def test_reported_a_licence_of_two_lines_with_a_script_is_escaped(run, recipe):
    source = {"format": "folder7", "path": "x", "licence": "research\n<script>alert('x')</script>"}
    sources = dict.fromkeys(recipe["standardize"]["sources"], source)
    page = render_page(run, pictures=[], recipe=recipe | {"standardize": {"sources": sources}})
    assert "<script" not in page
    assert "<Disgust>" not in page
    data = _part(page, "data")
    assert "&lt;script&gt;alert(" in data
    assert "&lt;Disgust&gt; &amp; 8" in data  # of a warning


def test_limits_and_data_are_those_of_this_run(page):
    limits, data = (_text(page, anchor) for anchor in ("limits", "data"))
    assert "No licence is declared for ferplus." in limits
    dirty = "Stage A B3, Stage A RN18, Stage B B3, Stage B RN18."
    assert f"uncommitted changes): {dirty}" in limits
    assert "5 pictures with 6 redundant rows" in data
    assert "3 of train and test, 2 of train and val, 0 of val and test were found; 0 are" in data
    assert "(excluded.csv): twin_in_test 4." in data


def test_what_no_history_holds_has_no_curve_and_the_caption_says_so(run, root, pictures):
    """Stage B's histories are old; then it is passed through and has no epoch at all."""
    captions = {p.part: p.caption for p in pictures if p.kind == "training"}
    assert "pale: raw" in captions["val_nll"]
    assert [part for part, said in captions.items() if "Not recorded" in said] == ["val_ece"]
    histories = {key: [] if key[0] == "stageB" else value for key, value in run.histories.items()}
    changed = dataclasses.replace(run, histories=histories)
    drawn = draw_pictures(changed, standardized=root / "standardized")
    captions = [picture.caption for picture in drawn if picture.kind == "training"]
    assert len(captions) == 4
    assert all("Not recorded, so no curve: Stage B RN18, Stage B B3" in said for said in captions)


def test_numbers_carry_their_interval_in_one_form(run):
    score = Score(-0.0123, -0.05, 0.02, 9)
    ends = f'<span class="interval">[{MINUS}0.050, +0.020]</span>'
    assert wording.difference(score) == f"{MINUS}0.012 {ends}"
    assert wording.estimate(score) == f"{MINUS}0.012 {ends.replace('+', '')}"
    fit = run.fit().model_copy(update={"temperature": 0.4, "temperature_95": (0.05, 1.25)})
    assert wording.temperature(fit) == '0.400 <span class="interval">[open, 1.250]</span>'

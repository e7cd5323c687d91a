import dataclasses
import re

import pandas as pd
import pytest

from stages.calibrating.score_table import Score
from stages.reporting import wording
from stages.reporting.page import render_page
from stages.reporting.pictures import draw_pictures

ANCHORS = "answers stages scores gates mistakes calibration teachers training export data"
ANCHORS = f"{ANCHORS} provenance limits".split()
KINDS = {"stage_gain", "reliability", "confusion", "risk_coverage", "training", "mistakes"}
KINDS |= {"sources_accuracy", "sources_macro_f1"}
# Tables that hold no scores.
COUNTS = re.compile(
    "What training took|Teachers in|Speed on|Rows of the manifest|Datasets|Files|Warnings|Weights"
    "|Code and machine|Left out"
)
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def pictures(run, root):
    return draw_pictures(run, standardized=root / "standardized")


@pytest.fixture(scope="module")
def page(run, pictures, recipe):
    return render_page(run, pictures=pictures, recipe=recipe)


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


def test_answers_are_first_and_open_and_all_else_is_folded(page):
    assert re.findall(r'<section id="(\w+)"', page) == ANCHORS
    assert re.findall(r'href="#(\w+)"', page) == ANCHORS
    assert page.count('<details class="part">') == len(ANCHORS) - 1
    assert page.index('id="answers"') < page.index("<details")
    assert (page.count("<h1>"), page.count("<title>")) == (1, 1)


def test_the_page_refers_to_nothing_outside_itself(page):
    sources = re.findall(r'\b(?:src|href)="([^"]*)"', page)
    assert len(sources) > 20
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert not re.search(r"<(script|link|iframe|object|embed)\b|@import|url\(|srcset", page)


def test_answers_say_model_numbers_and_stage_in_words(page, run):
    text = _text(page, "answers")
    accuracy, macro_f1 = run.score("accuracy"), run.score("macro_f1")
    assert f"The ensemble of RN18 and B3 from Stage A names {100 * accuracy.value:.1f} %" in text
    note = "n = 160 rows of test; fitted on val; majority labels"
    said = f"{macro_f1.value:.3f} [{macro_f1.low:.3f}, {macro_f1.high:.3f}]"
    assert f"Macro-F1 {said} {note}" in text
    assert "Stage A is taken" in text
    assert "On 80 rows of val, Stage B changes the macro-F1 of the ensemble by" in text
    assert not re.search(r"stage[AB]|fused", text)


def test_every_table_of_scores_says_n_split_rule_and_the_floor_of_an_ece(page):
    tables = re.findall(
        r"<figcaption><strong>(.*?)</strong>(.*?)</figcaption>.*?<thead>(.*?)</thead>", page, re.S
    )
    scores = [table for table in tables if not COUNTS.match(table[0])]
    assert len(scores) >= 10
    for title, note, head in scores:
        columns = re.findall(r"<th[^>]*>(.*?)</th>", head)
        assert "n" in columns, title
        assert "fitted on" in columns or "val" in title + note, title
        assert re.search("majority|votes", (title + note).lower()), title
        if "ECE" in columns:
            assert "floor (95 %)" in columns[columns.index("ECE") + 1], title


def test_every_picture_has_an_alt_text_and_says_its_rows(pictures, page):
    assert page.count("<img ") == len(pictures)
    assert {picture.kind for picture in pictures} == KINDS
    for picture in pictures:
        assert len(picture.alt) > 40
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
    assert gates.index("test, in domain") < gates.index("gate gate")
    assert "the row or a copy of it was trained on" in gates
    assert " 37 " in gates
    assert "41 in domain" in _text(after, "stages")
    assert "in domain" not in _text(page, "stages")


def test_incident_N4_a_run_without_gates_says_so(run, render):
    scores = run.scores[~run.scores["rows"].str.startswith("gate:")]
    page = render(scores=scores)
    assert "The recipe has no gate view" in _part(page, "gates")
    assert "No gate: all numbers are in domain." in _part(page, "limits")


def test_incident_N3_all_models_stand_beside_each_other_on_val(run, page):
    text = _text(page, "scores")
    assert "calibrate.fusion and recipes are to be chosen by these, never by test." in text
    on_val = text.split("Models of Stage A on val.")[1].split("By class.")[0]
    for model in run.calibration.taken:
        assert wording.number(run.score("nll", model=model, rows="val").value) in on_val


def test_numbers_of_val_by_folds_are_not_told_twice(run, render):
    scores = run.scores[run.scores["rows"] != "val"].replace({"rows": {"test": "val"}})
    calibration = run.calibration.model_copy(update={"report": "val_crossfit"})
    text = _text(render(scores=scores, calibration=calibration), "scores")
    assert "on val." not in text.split("By class")[0]
    assert "calibrate.fusion is to be chosen by them." in text


def test_reported_no_fit_is_said_wherever_the_temperature_stands(run, render):
    reason = "the logits are right on each of 160 rows"
    values = {"temperature": 1.0, "temperature_95": None, "temperature_no_fit": reason}
    calibration = run.calibration.model_copy(deep=True)
    calibration.taken[run.model] = run.fit().model_copy(update=values)
    page = render(calibration=calibration)
    for anchor in ("answers", "calibration"):
        assert f"1: no fit, {reason}" in _text(page, anchor)
    assert f"not calibrated: no temperature could be fitted, {reason}." in _part(page, "limits")
    assert "Its probabilities are not calibrated." in _text(page, "answers")


def test_reported_a_licence_of_two_lines_with_a_script_is_escaped(run, recipe):
    source = {"format": "folder7", "path": "x", "licence": "research\n<script>alert('x')</script>"}
    sources = dict.fromkeys(recipe["standardize"]["sources"], source)
    page = render_page(run, pictures=[], recipe={"standardize": {"sources": sources}})
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


def test_passed_through_teacher_has_no_curve_and_the_caption_says_so(run, root):
    histories = {key: [] if key[0] == "stageB" else value for key, value in run.histories.items()}
    changed = dataclasses.replace(run, histories=histories)
    drawn = draw_pictures(changed, standardized=root / "standardized")
    captions = [picture.caption for picture in drawn if picture.kind == "training"]
    assert len(captions) == 3
    assert all("No epochs, so no curve: Stage B RN18, Stage B B3" in said for said in captions)


def test_numbers_carry_their_interval_in_one_form(run):
    score = Score(-0.0123, -0.05, 0.02, 9)
    ends = f'<span class="interval">[{MINUS}0.050, +0.020]</span>'
    assert wording.difference(score) == f"{MINUS}0.012 {ends}"
    assert wording.estimate(score) == f"{MINUS}0.012 {ends.replace('+', '')}"
    values = {"temperature": 0.4, "temperature_95": (0.05, 1.25), "temperature_no_fit": None}
    fit = run.fit().model_copy(update=values)
    assert wording.temperature(fit) == '0.400 <span class="interval">[open, 1.250]</span>'

import copy
import dataclasses
import re

import pytest

from stages.reporting.finished import in_domain, read_finished
from stages.reporting.page import render_page
from stages.reporting.pictures import Picture, draw_pictures, write_pictures
from stages.reporting.wording import number, signed
from stages.runtime.errors import UserError
from tests.reporting.project import WARNING, make_finished

ANCHORS = [
    "verdict", "gates", "tables", "pictures", "calibration", "teachers", "export", "data",
    "provenance", "limits",
]  # fmt: skip


@pytest.fixture(scope="module")
def pictures(run, root):
    return draw_pictures(run, standardized=root / "standardized")


@pytest.fixture(scope="module")
def page(run, pictures, recipe):
    return render_page(run, pictures=pictures, recipe=recipe)


def _part(page, anchor):
    return page.split(f'<section id="{anchor}">')[1].split("</section>")[0]


def _text(markup):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", markup))


def test_verdict_is_first_and_limits_are_last(page):
    assert re.findall(r'<section id="(\w+)">', page) == ANCHORS
    assert re.findall(r'href="#(\w+)"', page) == ANCHORS


def test_equal_inputs_give_an_equal_page(run, root, page, recipe):
    again = draw_pictures(run, standardized=root / "standardized")
    assert render_page(run, pictures=again, recipe=recipe) == page


def test_the_page_refers_to_nothing_outside_itself(page):
    sources = re.findall(r'\b(?:src|href)="([^"]*)"', page)
    assert len(sources) > 20
    assert not [one for one in sources if not one.startswith(("data:image/png;base64,", "#"))]
    assert not re.search(r"<(script|link|iframe|object|embed)\b|@import|url\(|srcset", page)


def test_verdict_says_the_stage_the_reason_and_the_numbers_of_the_exported_model(page, run):
    text = _text(_part(page, "verdict"))
    says, _, _ = run.verdict["says"].partition(". ")
    scaled = in_domain(run.best)["scores"][1]
    low, high = scaled["macro_f1_95"]
    assert text.startswith(f" Verdict {says}. On 80 rows of val, stageB changes the macro-F1")
    note = "n = 160 rows of test; fitted on val; majority labels"
    assert f"Macro-F1 {scaled['macro_f1']:.3f} [{low:.3f}, {high:.3f}] {note}" in text


def test_every_table_has_n_or_counts_and_says_split_and_rule(page):
    tables = re.findall(
        r"<figcaption><strong>(.*?)</strong>(.*?)</figcaption>.*?<thead>(.*?)</thead>", page
    )
    assert len(tables) >= 15
    not_scores = {
        "What training took.", "Who is in", "Speed on the CPU.", "Rows of the manifest.",
        "Datasets.", "Files.", "Warnings of the manifest stage.", "Weights.", "Code and machine.", "Left out.",
    }  # fmt: skip
    for title, note, head in tables:
        if not any(title.startswith(known) for known in not_scores):
            assert ">n<" in head, title
            assert "val" in title + note + head or "fitted on" in head, title
            assert "majority" in title + note or "votes" in title + note, title


def test_every_picture_has_an_alt_text_and_says_its_rows(pictures, page):
    assert page.count("<img ") == len(pictures)
    for one in pictures:
        assert len(one.alt) > 40
        assert re.search(r"\d+ rows|fitted on val", one.caption), one.caption
    kinds = {one.kind for one in pictures}
    assert kinds == {
        "reliability", "confusion", "risk_coverage", "sources_accuracy", "sources_macro_f1",
        "training", "mistakes",
    }  # fmt: skip


def test_gates_stand_under_the_in_domain_rows(page):
    text = _text(_part(page, "gates"))
    assert text.index("test, in domain") < text.index("gate gate")
    assert "the row or a copy of it was trained on" in text


def test_incident_N4_rows_of_a_gate_that_are_in_domain_are_counted_and_told(run, recipe):
    numbers = copy.deepcopy(dict(run.numbers))
    taken = run.verdict["stage"]
    numbers[taken]["fused_fixed"]["gates"]["gate"]["in_domain"] = 37
    numbers["stageB_vs_stageA"]["fused_fixed"]["gates"]["gate"]["in_domain"] = 41
    before = render_page(run, pictures=[], recipe=recipe)
    after = render_page(
        dataclasses.replace(run, numbers=numbers), pictures=[], recipe=recipe
    )  # fmt: skip
    assert "37 of the" in _text(_part(after, "limits"))
    assert "in domain:" not in _text(_part(before, "limits"))
    assert "37" in _text(_part(after, "gates"))
    assert "41 in domain" in _text(_part(after, "verdict"))
    assert "in domain" not in _text(_part(before, "verdict"))


def test_incident_N3_all_models_stand_beside_each_other_on_val(run, page):
    text = _text(_part(page, "tables"))
    assert "calibrate.fusion and recipes are to be chosen by these, never by test." in text
    val = run.models["fused_searched_logits"]["val"]
    assert number(val["nll"]) in text.split("Models of stageA on val.")[1]


def test_numbers_of_val_by_folds_are_not_told_twice(run, recipe):
    numbers = copy.deepcopy(dict(run.numbers))
    for model in numbers[run.verdict["stage"]].values():
        model["val"] = model.pop("test")
    changed = dataclasses.replace(run, numbers=numbers)
    text = _text(_part(render_page(changed, pictures=[], recipe=recipe), "tables"))
    assert "on val." not in text.split("By class")[0]
    assert "calibrate.fusion is to be chosen by them." in text


def test_what_a_bias_changes_is_told_with_the_rows_that_the_votes_fit_has(run, page):
    text = _text(_part(page, "calibration"))
    assert "macro-F1 by a bias" in text
    (fit,) = run.best["fit"]
    assert fit["votes_n"] == 80
    assert signed(fit["refinement"]["accuracy_change"]) in text


def test_reported_floor_stands_beside_every_ece(run, page, pictures):
    block = in_domain(run.best)
    raw, scaled = (f"{one['ece_floor']:.3f} ({one['ece_floor_95']:.3f})" for one in block["scores"])
    before, after = (
        f"a calibrated model would have {one['ece_floor']:.3f} on average, above "
        f"{one['ece_floor_95']:.3f} in one of 20"
        for one in block["scores"]
    )
    text = _text(_part(page, "verdict"))
    assert f"{before}; before calibration; n = 160 rows" in text
    assert f"{after}; n = 160 rows" in text
    for anchor in ("gates", "tables"):
        text = _text(_part(page, anchor))
        assert text.count("ECE floor (95 %)") >= 1
        assert scaled in text
    assert "its floor (95 %)" in _part(page, "calibration")
    assert raw in _part(page, "calibration")
    drawn = [one for one in pictures if one.kind == "reliability"]
    (best,) = [one for one in drawn if one.part == f"{run.verdict['stage']}_{run.verdict['model']}"]
    for said in (best.alt, best.caption):
        assert f"before calibration (grey), where {before}; " in said
        assert f"after, where {after}." in said
    # Each column of an ECE has its floor.
    for head in re.findall(r"<thead>(.*?)</thead>", page):
        names = re.findall(r"<th[^>]*>(.*?)</th>", head)
        floors = sum("floor" in name for name in names)
        assert sum("ECE" in name and "floor" not in name for name in names) == floors, names


def test_reported_no_fit_is_said_wherever_the_temperature_stands(run, recipe):
    numbers = copy.deepcopy(dict(run.numbers))
    reason = "the logits are right on each of 160 rows"
    (fit,) = numbers[run.verdict["stage"]]["fused_fixed"]["fit"]
    fit |= {"temperature": 1.0, "temperature_95": None, "temperature_no_fit": reason}
    changed = dataclasses.replace(run, numbers=numbers)
    page = render_page(changed, pictures=[], recipe=recipe)
    for anchor in ("verdict", "calibration"):
        assert f"1: no fit, {reason}" in _text(_part(page, anchor))
    assert f"not calibrated: no temperature could be fitted, {reason}." in _part(page, "limits")


def test_incident_N4_a_run_without_gates_says_so(tmp_path, recipe):
    root = make_finished(tmp_path, views={"gate": {"include_sources": ["expw_lq"]}})
    run = read_finished(root)
    page = render_page(run, pictures=[], recipe=recipe)
    assert "The recipe has no gate view" in _part(page, "gates")
    assert "No gate: all numbers are in domain." in _part(page, "limits")


def test_text_of_the_data_is_escaped(page):
    assert WARNING not in page
    assert "&lt;Disgust&gt; &amp; 8" in _part(page, "data")


def test_reported_a_licence_of_two_lines_with_a_script_is_escaped(run, recipe):
    source = {"format": "folder7", "path": "x", "licence": "research\n<script>alert('x')</script>"}
    sources = dict.fromkeys(recipe["standardize"]["sources"], source)
    page = render_page(run, pictures=[], recipe={"standardize": {"sources": sources}})
    assert "<script" not in page
    assert "&lt;script&gt;alert(" in _part(page, "data")


def test_limits_are_those_of_this_run(page):
    text = _text(_part(page, "limits"))
    assert "No licence is declared for ferplus." in text
    assert "uncommitted changes): stageA B3, stageA RN18, stageB B3, stageB RN18." in text


def test_passed_through_teacher_has_no_curve_and_the_caption_says_so(run, root):
    for model in run.numbers["stageB_vs_stageA"].values():
        for row in model["cost"]:
            assert row["epochs"] == 6
    changed = read_finished(root)
    cost = changed.numbers["stageB_vs_stageA"][changed.verdict["model"]]["cost"]
    cost[2]["epochs"] = cost[3]["epochs"] = 0
    drawn = draw_pictures(changed, standardized=root / "standardized")
    captions = [one.caption for one in drawn if one.kind == "training"]
    assert all("No epochs, so no curve: stageB RN18, stageB B3" in one for one in captions)


def test_missing_images_are_an_error_and_no_empty_sheet(run, tmp_path):
    with pytest.raises(UserError):
        draw_pictures(run, standardized=tmp_path)


def test_pictures_are_named_after_what_they_show(tmp_path):
    write_pictures(
        tmp_path, [Picture("training", "nll", b"1", "", ""), Picture("mistakes", "", b"2", "", "")]
    )
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        "training_nll.png": b"1", "mistakes.png": b"2",
    }  # fmt: skip

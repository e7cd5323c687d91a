from stages.reporting.wording import (
    about,
    counted,
    difference,
    fitted_on,
    left_out,
    number,
    scored,
    short,
    temperature,
    with_interval,
)


def test_numbers_carry_their_interval_in_one_form():
    row = {"ece": 0.0328, "ece_95": [0.0, 0.0334], "gain": -0.0123, "gain_95": [-0.05, 0.02]}
    assert with_interval(row, "ece") == '0.033 <span class="interval">[0.000, 0.033]</span>'
    assert (
        difference(row, "gain")
        == '\N{MINUS SIGN}0.012 <span class="interval">[\N{MINUS SIGN}0.050, +0.020]</span>'
    )
    assert (number(-1.5), counted(12345)) == ("\N{MINUS SIGN}1.500", "12,345")


def test_temperature_has_its_interval_open_at_a_bound_or_is_no_fit():
    fit = {"temperature": 0.4, "temperature_95": [0.05, 1.25], "temperature_no_fit": None}
    assert temperature(fit) == '0.400 <span class="interval">[open, 1.250]</span>'
    lacking = {"votes_temperature": 1.0, "votes_temperature_no_fit": "all right"}
    expected = '<span class="wrap">1: no fit, all right</span>'
    assert temperature(lacking, "votes_temperature") == expected


def test_all_that_models_were_fitted_on_is_told_once():
    blocks = [{"about": [{"fitted_on": one}]} for one in ("val", "val (no fit: T = 1)", "val")]
    assert fitted_on(blocks) == "val or val (no fit: T = 1)"


def test_about_names_rows_protocol_and_label_rule():
    line = {"n": 1282, "reported_on": "test", "fitted_on": "val", "label_rule": "votes"}
    assert about({"about": [line]}) == "n = 1,282 rows of test; fitted on val; votes labels"


def test_rows_left_out_are_told_with_their_reason():
    rows = [{"reason": "in a gate", "rows": 0}, {"reason": "trained on", "rows": 1200}]
    assert left_out(rows) == "1,200: trained on"
    assert left_out(rows[:1]) == "none"


def test_scores_are_found_by_what_they_are_of_and_hashes_are_short():
    block = {"scores": [{"probabilities": "scaled", "n": 2}, {"probabilities": "raw", "n": 1}]}
    assert scored(block, "raw")["n"] == 1
    assert short("ab" * 32) == f'<code title="{"ab" * 32}">abababababab</code>'

"""An evaluation -> a table for people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stages.calibrating.calibration_file import Ends
from stages.calibrating.score_table import FLOORS
from stages.scoring.confidence import floor_cell
from tools.evaluation import Evaluation

_TITLES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}
_TITLES |= {"macro_f1": "macro-F1", "nll": "NLL", "brier": "Brier", "ece": "ECE"}
_WIDTH, _TITLE_WIDTH = 20, 34

ScoreRow = Mapping[str, Any]


def readable(evaluation: Evaluation) -> str:
    """Show what was fitted, then each place, raw and calibrated, with intervals."""
    lines = list(_head_lines(evaluation))
    for place in dict.fromkeys(row["rows"] for row in evaluation.scores):
        title = place.replace("gate:", "gate ").replace("file:", "rows of ")
        rows = [row for row in evaluation.scores if row["rows"] == place]
        lines += ["", *_place_lines(title, rows)]
    return "\n".join(lines)


def _head_lines(evaluation: Evaluation) -> Iterator[str]:
    weights = ", ".join(sha256[:12] for sha256 in evaluation.weights_sha256.split("+"))
    yield f"{evaluation.stage} {evaluation.model}, weights {weights}"
    if file := evaluation.file:
        yield f"file {file.name}, {file.precision}, SHA-256 {file.sha256[:12]}"
    if known := evaluation.known:
        count = f"unknown: {known.unknown}" if known.unknown else known.trained_on
        yield f"of {known.rows} rows, trained on (they or copies of them): {count}"
    fit, said = evaluation.fit, evaluation.fit or evaluation.file
    assert said is not None, "a model is a teacher or a file"
    about = f"fitted on {fit.fitted_rows} val rows" if fit else "as the file says"
    ends, no_fit = fit.temperature_95 if fit else None, said.temperature_no_fit
    yield f"temperature {_temperature(said.temperature, ends, no_fit, about)}"
    if said.crowd_temperature is None:
        yield "crowd temperature: none, too few val rows have votes"
    else:
        about = f"fitted on {fit.crowd_n} rows with votes" if fit else about
        ends, no_fit = fit.crowd_temperature_95 if fit else None, said.crowd_temperature_no_fit
        yield f"crowd temperature {_temperature(said.crowd_temperature, ends, no_fit, about)}"
    if fit and fit.folds_no_fit:
        yield f"val by folds: {fit.folds_no_fit}"
    refinement, decision = said.refinement, said.decision
    bias = {"none": "no bias", "bias": "a bias for each class"}.get(refinement.taken)
    bias = bias or f"a bias of {refinement.prior_exponent:.3f} log val shares"
    yield f"refinement: {bias}, {refinement.reason}"
    named = f"argmax of probabilities / val shares ** {decision.exponent:g}"
    yield f"class: {named if decision.exponent else 'the most probable one'}"
    reason = f"; {fit.decision.reason}" if fit else ""
    yield f"best macro-F1 on val: exponent {decision.f1_exponent:g}{reason}"
    if fit is None:
        yield "raw: the softmax of the file's logits, with the class prior"


def _temperature(value: float, ends: Ends | None, no_fit: str | None, about: str) -> str:
    if no_fit is not None:
        return f"{value:g}: no fit, {no_fit}"
    interval = f" [{ends[0]:.3f} {ends[1]:.3f}]" if ends else ""
    return f"{value:.4f}{interval}, {about}"


def _place_lines(title: str, rows: Sequence[ScoreRow]) -> Iterator[str]:
    parts: dict[tuple[str, ...], dict[str, ScoreRow]] = {}
    for row in rows:
        key = (row["by"], row["part"], row["label_rule"], row["probabilities"])
        parts.setdefault(key, {})[row["metric"]] = row
        if row["by"] == "left_out" and row["value"]:
            yield f"{title}: {row['value']:.0f} rows left out: {row['part']}"
    whole = parts["all", "", "majority", "calibrated"]
    n, fitted_on = whole["classes"]["n"], whole["classes"]["fitted_on"]
    if not n:
        yield f"{title}: no rows"
        return
    yield f"{title}: {n} rows; fitted on {fitted_on}"
    if "in_domain" in whole and (in_domain := whole["in_domain"]["value"]):
        yield f"{title}: {in_domain:.0f} rows are in domain: they are no other data"
    yield f"  {'':<{_TITLE_WIDTH}}{_columns(_TITLES)}ECE floor (95 %)"
    for (by, part, rule, probabilities), scores in parts.items():
        if rule == "votes":
            kl = scores["kl"]
            yield f"  votes, {probabilities:<{_TITLE_WIDTH - 7}}KL {_interval(kl)}, n {kl['n']}"
        elif "accuracy" in scores:
            name = {"native_px": f"{part} px", "decision": f"class by {part}"}.get(by, part)
            name = f"{name}, n {scores['accuracy']['n']}"
            name = probabilities if by == "all" else name
            values = _columns({key: _interval(scores[key]) for key in _TITLES if key in scores})
            floor = {key: scores[key]["value"] for key in FLOORS if key in scores}
            yield f"  {name:<{_TITLE_WIDTH}}{values}{floor_cell(floor) if floor else ''}".rstrip()
    f1 = ((row, f"{row['value']:.3f}" if row["n"] else "no rows") for row in rows)
    if words := [f"{row['part']} {word}" for row, word in f1 if row["by"] == "class"]:
        yield f"  F1: {', '.join(words)}"


def _columns(cells: Mapping[str, str]) -> str:
    return "".join(f"{cells.get(name, ''):<{_WIDTH}}" for name in _TITLES)


def _interval(row: ScoreRow) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f} {row['high']:.3f}]"

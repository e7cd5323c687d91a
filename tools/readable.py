"""An evaluation -> a table for people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stages.calibrating.calibration_file import Ends
from stages.calibrating.score_table import CHOOSING, FLOORS
from stages.scoring.confidence import floor_cell
from tools.evaluation import Evaluation

_TITLES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "nll": "NLL"}
_TITLES |= {"brier": "Brier", "ece": "ECE"}
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
    fit, no_fit = evaluation.fit, evaluation.temperature_no_fit
    if fit is None:
        reason = f": no fit, {no_fit}" if no_fit else ""
        yield f"temperature {evaluation.temperature:.4f}, as the file says{reason}"
        return
    about = f"fitted on {fit.fitted_rows} val rows"
    yield f"temperature {_temperature(fit.temperature, fit.temperature_95, no_fit, about)}"
    if (votes := fit.votes_temperature) is not None:
        ends, no_fit = fit.votes_temperature_95, fit.votes_temperature_no_fit
        about = f"fitted on {fit.votes_n} rows with votes"
        yield f"temperature for votes {_temperature(votes, ends, no_fit, about)}"
    if fit.folds_no_fit:
        yield f"val by folds: {fit.folds_no_fit}"
    word = "adopted" if fit.refinement.adopted else "not adopted"
    yield f"bias per class: {word}, {fit.refinement.reason}"


def _temperature(value: float, ends: Ends | None, no_fit: str | None, about: str) -> str:
    if no_fit is not None or ends is None:
        return f"{value:g}: no fit, {no_fit}"
    return f"{value:.4f} [{ends[0]:.3f} {ends[1]:.3f}], {about}"


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
    if "ece" not in whole:
        cells = ", ".join(f"{_TITLES[name]} {_interval(whole[name])}" for name in CHOOSING)
        yield f"{title}, by folds: {n} rows: {cells}"
        return
    yield f"{title}: {n} rows; fitted on {fitted_on}"
    if "in_domain" in whole and (in_domain := whole["in_domain"]["value"]):
        yield f"{title}: {in_domain:.0f} rows are in domain: they are no other data"
    yield f"  {'':<{_TITLE_WIDTH}}{_columns(_TITLES)}ECE floor (95 %)"
    for (by, part, rule, probabilities), scores in parts.items():
        if "ece" in scores:
            name = f"{part}{' px' if by == 'native_px' else ''}, n {scores['ece']['n']}"
            name = probabilities if by == "all" else name
            floor = {key: scores[key]["value"] for key in FLOORS}
            values = _columns({key: _interval(scores[key]) for key in _TITLES})
            yield f"  {name:<{_TITLE_WIDTH}}{values}{floor_cell(floor)}"
        elif rule == "votes":
            kl = scores["kl"]
            yield f"  votes, {probabilities:<{_TITLE_WIDTH - 7}}KL {_interval(kl)}, n {kl['n']}"
    f1 = ((row, f"{row['value']:.3f}" if row["n"] else "no rows") for row in rows)
    yield "  F1: " + ", ".join(f"{row['part']} {word}" for row, word in f1 if row["by"] == "class")


def _columns(cells: Mapping[str, str]) -> str:
    return "".join(f"{cells[name]:<{_WIDTH}}" for name in _TITLES)


def _interval(row: ScoreRow) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f} {row['high']:.3f}]"

"""An evaluation -> a table for people."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from stages.calibrating.calibration_file import Ends
from stages.calibrating.score_table import CHOOSING
from stages.scoring.confidence import floor_cell
from tools.evaluation import Evaluation

_TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
}
_WIDTH, _TITLE_WIDTH = 20, 34


def readable(evaluation: Evaluation) -> str:
    """Show what was fitted, then each place, raw and calibrated, with intervals."""
    lines = list(_head_lines(evaluation))
    for place, rows in pd.DataFrame(evaluation.scores).groupby("rows", sort=False):
        title = str(place).replace("gate:", "gate ").replace("file:", "rows of ")
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
    fit = evaluation.fit
    if fit is None:
        no_fit = evaluation.temperature_no_fit
        yield f"temperature {evaluation.temperature:.4f}, as the file says" + (
            f": no fit, {no_fit}" if no_fit else ""
        )
        return
    about = f"fitted on {fit.fitted_rows} val rows"
    words = _temperature(fit.temperature, fit.temperature_95, fit.temperature_no_fit, about)
    yield f"temperature {words}"
    if (votes := fit.votes_temperature) is not None:
        about = f"fitted on {fit.votes_n} rows with votes"
        words = _temperature(votes, fit.votes_temperature_95, fit.votes_temperature_no_fit, about)
        yield f"temperature for votes {words}"
    if fit.folds_no_fit:
        yield f"val by folds: {fit.folds_no_fit}"
    word = "adopted" if fit.refinement.adopted else "not adopted"
    yield f"bias per class: {word}, {fit.refinement.reason}"


def _temperature(value: float, ends: Ends | None, no_fit: str | None, about: str) -> str:
    if no_fit is not None or ends is None:
        return f"{value:g}: no fit, {no_fit}"
    return f"{value:.4f} [{ends[0]:.3f} {ends[1]:.3f}], {about}"


def _place_lines(title: str, rows: pd.DataFrame) -> Iterator[str]:
    for row in rows[rows["by"] == "left_out"].itertuples():
        if row.value:
            yield f"{title}: {row.value:.0f} rows left out: {row.part}"
    whole = rows[rows["metric"] == "classes"].iloc[0]
    if not whole["n"]:
        yield f"{title}: no rows"
        return
    parts = {
        key: {row["metric"]: row for row in part.to_dict("records")}
        for key, part in rows.groupby(["by", "part", "label_rule", "probabilities"], sort=False)
    }
    if (rows["metric"] == "ece").sum() == 0:
        cells = parts["all", "", "majority", "calibrated"]
        told = ", ".join(f"{_TITLES[name]} {_interval(cells[name])}" for name in CHOOSING)
        yield f"{title}, by folds: {whole['n']} rows: {told}"
        return
    yield f"{title}: {whole['n']} rows; fitted on {whole['fitted_on']}"
    yield f"  {'':<{_TITLE_WIDTH}}{_columns(_TITLES)}ECE floor (95 %)"
    for (by, part, rule, probabilities), cells in parts.items():
        if "in_domain" in cells and (in_domain := cells["in_domain"]["value"]):
            yield f"{title}: {in_domain:.0f} rows are in domain: they are no other data"
        if "ece" in cells:
            n = cells["ece"]["n"]
            name = f"{part}{' px' if by == 'native_px' else ''}, n {n}"
            name = {"all": probabilities, "row_set": part}.get(by, name)
            floor = {key: cells[key]["value"] for key in ("ece_floor", "ece_floor_95")}
            values = {key: _interval(cells[key]) for key in _TITLES}
            yield f"  {name:<{_TITLE_WIDTH}}{_columns(values)}{floor_cell(floor)}"
        elif rule == "votes":
            kl = cells["kl"]
            yield f"  votes, {probabilities:<{_TITLE_WIDTH - 7}}KL {_interval(kl)}, n {kl['n']}"
    classes = rows[rows["by"] == "class"].itertuples()
    yield "  F1: " + ", ".join(
        f"{row.part} {row.value:.3f}" if row.n else f"{row.part} no rows" for row in classes
    )


def _columns(cells: Mapping[str, str]) -> str:
    return "".join(f"{cells[name]:<{_WIDTH}}" for name in _TITLES)


def _interval(row: Mapping[str, Any]) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f} {row['high']:.3f}]"

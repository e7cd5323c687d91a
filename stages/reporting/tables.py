"""A finished run's scores -> the rows of the page's tables, in the order that a reader wants.

`choices` are columns of scores.csv, each with one value or with several that make rows; a column
that is not chosen has the value of the headline.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from statistics import median

from stages.calibrating.score_table import BIAS_GAIN, STAGE_GAIN, TEACHER_GAIN, pick
from stages.reporting.finished import Finished
from stages.reporting.wording import (
    STAGE_WORDS,
    counted,
    difference,
    estimate,
    number,
    place_words,
    short,
    stages_spelt,
    temperature,
    wrapped,
)
from stages.scoring.confidence import floor_cell, floor_words

MAIN = ("accuracy", "macro_f1", "nll", "ece", "ece_floor")
FULL = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece", "ece_floor")
CHOOSING = ("accuracy", "macro_f1", "nll")

_WORDS = {
    "crowd": "scaled to votes",
    "duplicate_free": "duplicate-free",
    "official_duplicate_free": "official, duplicate-free",
}

Rows = Iterator[Sequence[object]]


def scores(run: Finished, metrics: Sequence[str], **choices: str | Sequence[str]) -> Rows:
    """Yield a row for each place: its words, n, and the metrics with their intervals."""
    varied = [column for column, values in choices.items() if not isinstance(values, str)]
    lists = [[values] if isinstance(values, str) else values for values in choices.values()]
    for values in product(*lists):
        columns = dict(zip(choices, values, strict=True))
        n = run.num_rows(**columns)
        cells = (_cell(run, metric, **columns) if n else "no rows" for metric in metrics)
        yield (*(_words(run, column, columns[column]) for column in varied), counted(n), *cells)


def about(run: Finished, **columns: str) -> str:
    """Tell what the numbers at a place are of: n, rows, what was fitted on what, label rule."""
    place = run.place(**columns)
    return (
        f"n = {counted(run.num_rows(**columns))} rows of {place_words(place['rows'])}; fitted on "
        f"{fitted_on(run, **columns)}; {place['label_rule']} labels"
    )


def fitted_on(run: Finished, **columns: str) -> str:
    """Tell what the models of a table were fitted on: all that is said of any of them."""
    columns = {"rows": run.rows, "by": "all", "label_rule": "majority"} | columns
    return " or ".join(pick(run.scores, **columns)["fitted_on"].unique())


def floor(run: Finished, **columns: str) -> str:
    """Tell in a sentence which ECE a calibrated model would have at a place."""
    return floor_words(_floor(run, **columns))


def left_out(run: Finished) -> Rows:
    """Yield the rows that do not count, with their reason."""
    for model, rows in product(run.shown, run.places):
        for reason, count in run.left_out(model=model, rows=rows).items():
            place = (run.called(model), _words(run, "rows", rows))
            yield (*place, stages_spelt(reason), counted(count))


def stage_gains(run: Finished) -> Rows:
    """Yield what stage B changes for each model at each place."""
    for model, rows in product(run.shown, run.paired_places):
        columns = {"what": STAGE_GAIN, "model": model, "rows": rows}
        (n, *changes), domain = _changes(run, **columns), ""
        if rows.startswith("gate:") and (count := run.change("in_domain", **columns).value):
            domain = f", {counted(count)} in domain"
        fitted = " or ".join(pick(run.paired, **columns)["fitted_on"].unique())
        yield (run.called(model), place_words(rows), fitted, f"{n}{domain}", *changes)


def additions(run: Finished) -> Rows:
    """Yield the exported model minus itself without a teacher."""
    columns = {"what": TEACHER_GAIN, "stage": run.stage, "model": run.model}
    table = pick(run.paired, metric="macro_f1", by="all", **columns)
    for teacher, rows, fitted in table[["teacher", "rows", "fitted_on"]].itertuples(index=False):
        changes = _changes(run, teacher=teacher, rows=rows, **columns)
        yield (teacher, place_words(rows), fitted, *changes)


def members(run: Finished) -> Rows:
    """Yield the teachers in the exported model."""
    for teacher, member in run.fit().members.items():
        weights = (short(member.weights_sha256), number(member.weight))
        yield (teacher, *weights, temperature(run.fit(teacher)))


def fits(run: Finished) -> Rows:
    """Yield what was fitted for each model of both stages."""
    for stage, model in product(run.stages, run.shown):
        fit = run.fit(model, stage=stage)
        votes: object = "no such fit"
        if fit.votes_temperature is not None:
            votes = temperature(fit, "votes_")
        columns = {"what": BIAS_GAIN, "stage": stage, "model": model}
        changes: list[object] = ["not tried", "not tried"]
        if not pick(run.paired, **columns).empty:
            metrics = ("accuracy", "macro_f1")
            changes = [difference(run.change(metric, **columns)) for metric in metrics]
        adopted = "adopted" if fit.refinement.adopted else "not adopted"
        yield (
            STAGE_WORDS[stage],
            run.called(model),
            counted(fit.fitted_rows),
            temperature(fit),
            counted(fit.votes_n),
            votes,
            *changes,
            wrapped(f"{adopted}: {fit.refinement.reason}"),
        )


def costs(run: Finished) -> Rows:
    """Yield the time that each teacher took, evaluations included."""
    for (stage, teacher), history in run.histories.items():
        seconds = [epoch["seconds"] + epoch["eval_seconds"] for epoch in history]
        times = (f"{median(seconds or [0.0]):.1f}", f"{sum(seconds) / 60:.1f}")
        yield (STAGE_WORDS[stage], teacher, counted(len(seconds)), *times)


def _words(run: Finished, column: str, value: str) -> str:
    if column == "stage":
        return STAGE_WORDS[value]
    if column == "model":
        return run.called(value)
    if column == "rows":
        return f"{value}, in domain" if value == run.rows else place_words(value)
    return _WORDS.get(value, value)


def _cell(run: Finished, metric: str, **columns: str) -> object:
    if metric == "in_domain" and run.place(**columns)["rows"] == run.rows:
        return counted(run.num_rows(**columns))
    score = run.score(metric, **columns)
    if metric == "classes":
        return f"{score.value:.0f} of {len(run.calibration.classes)}"
    if metric == "ece_floor":
        return floor_cell(_floor(run, **columns))
    return counted(score.value) if metric == "in_domain" else estimate(score)


def _floor(run: Finished, **columns: str) -> dict[str, float]:
    names = ("ece_floor", "ece_floor_95")
    return {name: run.score(name, **columns).value for name in names}


def _changes(run: Finished, **columns: str) -> tuple[object, ...]:
    """Write n and the differences in macro-F1 and NLL."""
    macro_f1, nll = (run.change(metric, **columns) for metric in ("macro_f1", "nll"))
    changes = (difference(macro_f1), difference(nll)) if macro_f1.n else ("no rows", "no rows")
    return (counted(macro_f1.n), *changes)

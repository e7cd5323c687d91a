"""A finished run's scores -> the rows of the page's tables, in the order that a reader wants."""

from collections.abc import Iterator, Sequence

from stages.calibrating.score_table import BIAS_GAIN, STAGE_GAIN, TEACHER_GAIN, Score, pick
from stages.reporting.finished import Finished
from stages.reporting.wording import (
    STAGE_WORDS,
    counted,
    difference,
    estimate,
    number,
    place_words,
    reasons,
    short,
    temperature,
    wrapped,
)

MAIN_METRICS = ("accuracy", "macro_f1", "nll", "ece")
ALL_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece")

_CHOOSING_METRICS = ("accuracy", "macro_f1", "nll")
_ROW_SETS = {
    "all": "all",
    "duplicate_free": "duplicate-free",
    "official": "official",
    "official_duplicate_free": "official, duplicate-free",
}
_VOTES = {
    "raw": "raw",
    "crowd": "scaled to votes",
    "calibrated": "scaled to majority labels",
}

Rows = Iterator[Sequence[object]]


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


def floor_words(run: Finished, **columns: str) -> str:
    """Tell in a sentence which ECE a calibrated model would have."""
    mean, high = (run.score(name, **columns).value for name in ("ece_floor", "ece_floor_95"))
    return (
        f"a calibrated model would have {number(mean)} on average, above {number(high)} in one of "
        "20"
    )


def models(run: Finished) -> Rows:
    """Yield raw and calibrated scores of each model, of the stage that is taken."""
    for model in run.shown:
        for probabilities in ("raw", "calibrated"):
            columns = {"model": model, "probabilities": probabilities}
            n = counted(run.num_rows(**columns))
            yield (run.called(model), probabilities, n, *_scores(run, ALL_METRICS, **columns))


def on_val(run: Finished) -> Rows:
    """Yield held-out scores on val of every model, which a fusion is chosen by."""
    for model in run.calibration.stages[run.stage].models:
        columns = {"model": model, "rows": "val"}
        if n := run.num_rows(**columns):
            scores = (run.score(metric, **columns) for metric in _CHOOSING_METRICS)
            yield (_coded(run, model), counted(n), *map(estimate, scores))


def by_class(run: Finished) -> Rows:
    """Yield the F1 of each class of the exported model."""
    for part in run.parts("class"):
        f1 = run.score("f1", by="class", part=part)
        yield (part, counted(f1.n), estimate(f1) if f1.n else "no rows")


def by_part(run: Finished, by: str) -> Rows:
    """Yield scores of the exported model by source, native size or row set."""
    for part in run.parts(by):
        classes = run.score("classes", by=by, part=part)
        yield (
            _ROW_SETS[part] if by == "row_set" else part,
            f"{classes.value:.0f} of {len(run.calibration.classes)}",
            counted(classes.n),
            *_scores(run, MAIN_METRICS, by=by, part=part),
        )


def gates(run: Finished) -> Rows:
    """Yield each model's scores in domain, and under them those at each gate."""
    for model in run.shown:
        for rows in run.places:
            columns = {"model": model, "rows": rows}
            n = run.num_rows(**columns)
            # All of the in-domain rows are in domain; those of a gate are counted.
            in_domain = n if rows == run.rows else run.score("in_domain", **columns).value
            cells = _scores(run, MAIN_METRICS, **columns)
            yield (run.called(model), _domain(run, rows), counted(n), counted(in_domain), *cells)


def left_out(run: Finished) -> Rows:
    """Yield the rows that do not count, with their reason."""
    for model in run.shown:
        for rows in run.places:
            for reason, count in run.left_out(model=model, rows=rows).items():
                yield (run.called(model), _domain(run, rows), wrapped(reason), counted(count))


def left_out_words(run: Finished) -> str:
    """List the in-domain rows of the exported model that do not count, with the reason."""
    return reasons(run.left_out()) or "none"


def stage_gains(run: Finished) -> Rows:
    """Yield what stage B changes for each model at each place."""
    for model in run.shown:
        for rows in run.paired_places:
            columns = {"model": model, "rows": rows}
            macro_f1, n = run.change("macro_f1", **columns), ""
            if rows.startswith("gate:") and macro_f1.n:
                in_domain = run.change("in_domain", **columns).value
                n = f", {counted(in_domain)} in domain" if in_domain else ""
            fitted = pick(run.paired, what=STAGE_GAIN, **columns)["fitted_on"].unique()
            yield (
                run.called(model),
                place_words(rows),
                f"{counted(macro_f1.n)}{n}",
                " or ".join(fitted),
                *_changes(macro_f1, run.change("nll", **columns)),
            )


def costs(run: Finished) -> Rows:
    """Yield the time that each teacher took, evaluations included."""
    for (stage, teacher), history in run.histories.items():
        seconds = [epoch["seconds"] + epoch["eval_seconds"] for epoch in history]
        middle = sorted(seconds)[len(seconds) // 2] if seconds else 0.0
        total = f"{sum(seconds) / 60:.1f}"
        yield (STAGE_WORDS[stage], teacher, counted(len(seconds)), f"{middle:.1f}", total)


def fits(run: Finished) -> Rows:
    """Yield what was fitted for each model of both stages."""
    for stage, model in _of_both_stages(run):
        fit = run.fit(model, stage=stage)
        votes: object = "no such fit"
        if fit.votes_temperature is not None:
            votes = temperature(fit, "votes_")
        changes: list[object] = ["not tried", "not tried"]
        if fit.refinement.n:
            columns = {"what": BIAS_GAIN, "stage": stage, "model": model}
            pair = (run.change(metric, **columns) for metric in ("accuracy", "macro_f1"))
            changes = list(map(difference, pair))
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


def hard_labels(run: Finished) -> Rows:
    """Yield ECE, its floor and NLL of each model, before and after calibration."""
    for stage, model in _of_both_stages(run):
        columns = {"stage": stage, "model": model}
        errors, losses = [], []
        for probabilities in ("raw", "calibrated"):
            error = _scores(run, ("nll", "ece"), probabilities=probabilities, **columns)
            losses.append(error[0])
            errors += error[1:]
        n = counted(run.num_rows(**columns))
        yield (STAGE_WORDS[stage], run.called(model), n, *errors, *losses)


def crowd(run: Finished) -> Rows:
    """Yield the distance of each model's probabilities from the crowd's votes."""
    for stage, model in _of_both_stages(run):
        columns = {"stage": stage, "model": model, "rows": run.rows, "label_rule": "votes"}
        for probabilities in pick(run.scores, metric="kl", by="all", **columns)["probabilities"]:
            kl = run.score("kl", probabilities=probabilities, **columns)
            cells = (_VOTES[probabilities], counted(kl.n), estimate(kl))
            yield (STAGE_WORDS[stage], run.called(model), *cells)


def members(run: Finished) -> Rows:
    """Yield the teachers in the exported model."""
    for teacher, member in run.fit().members.items():
        weights = (short(member.weights_sha256), number(member.weight))
        yield (teacher, *weights, temperature(run.fit(teacher)))


def additions(run: Finished) -> Rows:
    """Yield each fusion minus itself without a teacher."""
    columns = {"what": TEACHER_GAIN, "stage": run.stage}
    table = pick(run.paired, metric="macro_f1", by="all", **columns)
    for model, teacher, rows in table[["model", "teacher", "rows"]].itertuples(index=False):
        place = columns | {"model": model, "teacher": teacher, "rows": rows}
        macro_f1 = run.change("macro_f1", **place)
        cells = _changes(macro_f1, run.change("nll", **place))
        yield (_coded(run, model), teacher, counted(macro_f1.n), place_words(rows), *cells)


def _of_both_stages(run: Finished) -> Iterator[tuple[str, str]]:
    return ((stage, model) for stage in run.stages for model in run.shown)


def _coded(run: Finished, model: str) -> str:
    """Name a model in words, a fusion with the code that files name it by."""
    called = run.called(model)
    return called if called == model else f"{called} ({model})"


def _domain(run: Finished, rows: str) -> str:
    return f"{rows}, in domain" if rows == run.rows else place_words(rows)


def _scores(run: Finished, metrics: Sequence[str], **columns: str) -> list[object]:
    """Write metrics with their intervals, then the floor of the ECE with its 95th percentile."""
    if not run.num_rows(**columns):
        return ["no rows"] * (len(metrics) + 1)
    cells: list[object] = [estimate(run.score(metric, **columns)) for metric in metrics]
    mean, high = (run.score(name, **columns).value for name in ("ece_floor", "ece_floor_95"))
    return [*cells, f"{number(mean)} ({number(high)})"]


def _changes(macro_f1: Score, nll: Score) -> list[object]:
    return [difference(macro_f1), difference(nll)] if macro_f1.n else ["no rows", "no rows"]

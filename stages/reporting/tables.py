"""A finished run and its recipe -> the rows of the page's tables, in the order a reader wants."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from statistics import median
from typing import Any

from markupsafe import Markup

from stages.calibrating.score_table import REFINED, REFINEMENT_GAINS, STAGE_GAIN, Score, pick
from stages.calibrating.verdict import DIFFERENCES, LABELLED
from stages.records.schema import SPLITS
from stages.reporting.finished import Finished
from stages.reporting.wording import (
    REFINEMENT_WORDS,
    STAGE_WORDS,
    counted,
    difference,
    estimate,
    number,
    place_words,
    reasons,
    refinement,
    short,
    signed,
    stages_spelt,
    temperature,
)
from stages.scoring.confidence import floor_cell, floor_words

MAIN = ("accuracy", "macro_f1", "nll", "ece", "ece_floor")
FULL = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece", "ece_floor")
CHOOSING = ("accuracy", "macro_f1", "nll")
TRIED = ("raw", *REFINED.values(), "calibrated")
DECIDED, GAINS = LABELLED, DIFFERENCES

_WORDS = {REFINED[name]: words for name, words in REFINEMENT_WORDS.items()}
_WORDS |= {what: REFINEMENT_WORDS[name] for name, what in REFINEMENT_GAINS.items()}
_WORDS |= {
    "argmax": "the most probable class",
    "prior": "the class by the prior",
    "crowd": "scaled to votes",
    "duplicate_free": "duplicate-free",
    "official_duplicate_free": "official, duplicate-free",
}
# What a difference of paired.csv is of, besides its metric.
_PAIR = ("what", "stage", "model", "teacher", "rows")
_FORMS = {"torch": "torch", "onnx": "onnx, fp32", "fp16": "fp16", "int8": "int8"}
# What decides over numbers; environment.json of each run names all packages.
_PACKAGES = (
    *("Python", "torch", "torchvision", "timm", "numpy", "pandas", "pyarrow"),
    *("opencv-python", "opencv-python-headless", "simplejpeg", "scikit-learn", "scipy"),
    *("onnx", "onnxruntime", "dvc"),
)
_COMPUTING = {"cuda": "CUDA", "cudnn": "cuDNN", "driver": "driver"}

Rows = Iterator[Sequence[object]]
Recipe = Mapping[str, Any]


def scores(run: Finished, metrics: Sequence[str], **choices: str | Sequence[str]) -> Rows:
    """Yield a row for each place: its words, n, and the metrics with their intervals.

    Args:
        choices: columns of scores.csv, each with one value or with several that make rows; a
            column that is not chosen has the value of the headline.
    """
    varied = [column for column, values in choices.items() if not isinstance(values, str)]
    lists = [[values] if isinstance(values, str) else values for values in choices.values()]
    for values in product(*lists):
        columns = dict(zip(choices, values, strict=True))
        n = run.num_rows(**columns)
        missing = "not fitted" if columns.get("probabilities") in REFINED.values() else "no rows"
        cells = (_cell(run, metric, **columns) if n else missing for metric in metrics)
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


def changes(
    run: Finished, words: Sequence[str], metrics: Sequence[str], *what: str, **columns: str
) -> Rows:
    """Yield a row for each difference `what` of each shown model.

    Args:
        words: columns of paired.csv that come first; then what was fitted on, n, and the metrics.
        columns: columns of paired.csv with the value that they must have.
    """
    table = pick(run.paired, by="all", **columns).drop_duplicates(list(_PAIR))
    table = table[table["what"].isin(what)]
    for model in run.shown:
        for row in table[table["model"] == model].to_dict("records"):
            place, domain = {column: row[column] for column in _PAIR}, ""
            found = [run.change(metric, **place) for metric in metrics]
            if row["what"] == STAGE_GAIN and row["rows"].startswith("gate:"):
                count = run.change("in_domain", **place).value
                domain = f", {counted(count)} in domain" if count else ""
            n = found[0].n
            cells = [difference(change) if n else "no rows" for change in found]
            called = (_words(run, column, row[column]) for column in words)
            yield (*called, row["fitted_on"], f"{counted(n)}{domain}", *cells)


def members(run: Finished) -> Rows:
    """Yield the teachers in the exported model."""
    for teacher, member in run.fit().members.items():
        weight = number(member.weight)
        yield (teacher, short(member.weights_sha256), weight, temperature(run.fit(teacher)))


def fits(run: Finished) -> Rows:
    """Yield what was fitted for each model of both stages."""
    for stage, model in product(run.stages, run.shown):
        fit = run.fit(model, stage=stage)
        taken = Markup("{}: {}").format(refinement(fit), fit.refinement.reason)
        crowd = (counted(fit.crowd_n), temperature(fit, "crowd_"))
        fitted = (counted(fit.fitted_rows), temperature(fit), *crowd)
        yield (STAGE_WORDS[stage], run.called(model), taken, *fitted)


def costs(run: Finished) -> Rows:
    """Yield the time that each teacher took, evaluations included."""
    for (stage, teacher), history in run.histories.items():
        seconds = [epoch["seconds"] + epoch["eval_seconds"] for epoch in history]
        times = (f"{median(seconds or [0.0]):.1f}", f"{sum(seconds) / 60:.1f}")
        yield (STAGE_WORDS[stage], teacher, counted(len(seconds)), *times)


def manifest_rows(run: Finished) -> Rows:
    """Yield the rows of the manifest by source and split: all, then each class."""
    table = run.plotted("manifest", "rows").pivot_table(
        index=["source", "split"], columns="label", values="rows", aggfunc="sum", fill_value=0
    )
    for source in table.index.unique("source"):
        for split in (name for name in SPLITS if (source, name) in table.index):
            counts = table.loc[(source, split)].reindex(list(run.calibration.classes), fill_value=0)
            yield (source, split, counted(counts.sum()), *map(counted, counts))


def manifest_counts(run: Finished) -> dict[str, dict[str, dict[str, int]]]:
    """Return the counts of duplicates and leaks, by subject, part and name."""
    counts: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    table = run.plotted("manifest", "counts")[["subject", "part", "count", "value"]]
    for subject, part, name, value in table.itertuples(index=False):
        counts[subject][part][name] = int(value)
    return counts


def datasets(run: Finished, recipe: Recipe) -> Rows:
    """Yield each dataset with its licence, faces and rejects."""
    rejects = run.plotted("manifest", "rejects")
    for row in run.plotted("manifest", "standardized").to_dict("records"):
        name, source = row["source"], recipe["standardize"]["sources"][row["source"]]
        why = reasons(rejects[rejects["source"] == name].set_index("reason")["rows"]) or "none"
        counts = (counted(row["faces"]), counted(row["rejects"]))
        yield (name, source["format"], source["licence"] or "not declared", why, *counts)


def files(run: Finished) -> Rows:
    """Yield each exported file with its size and accuracy, and what a variant loses.

    Another row says what one input for teachers of unlike inputs loses.
    """
    for model, checks in run.parity["models"].items():
        file, held, parity = f"{model}.onnx", checks["held_out"], checks["parity"]
        rows: list[tuple[str, str, str, dict[str, Any]]] = [
            (file, "", _with_ends(held, "accuracy"), parity | {"n": parity["rows"]})
        ]
        for form, check in checks["variants"].items():
            accuracy = number(held["accuracy"] - check["accuracy_loss"])
            rows.append((f"{model}.{form}.onnx", "", accuracy, check))
        if shared := checks.get("shared_input"):
            rows.append((file, ": one input for all, val", number(shared["accuracy"]), shared))
        for file, words, accuracy, check in rows:
            losses: list[object] = ["", ""]
            if "accuracy_loss" in check:
                losses = [_with_ends(check, "accuracy_loss"), signed(check["nll_increase"])]
            size, labels = run.hashes["bytes"][file] / 1e6, counted(check["label_changes"])
            changes = (f"{check['max_abs_diff']:.1e}", counted(check["n"]), labels)
            yield (file + words, f"{size:.1f}", accuracy, *losses, *changes)


def speeds(run: Finished) -> Rows:
    """Yield milliseconds and images a second of each form of each model, beside torch's."""
    for model, speed in run.latency["models"].items():
        times, rates = speed["milliseconds"], speed["images_per_s"]
        for form, called in _FORMS.items():
            if f"{form}_batch_1" not in times:
                continue
            cells = []
            for batch in ("batch_1", "batch_32"):
                time = times[f"{form}_{batch}"]
                cells += [f"{time:.2f}", f"{time / times[f'torch_{batch}']:.2f}"]
            cells += [f"{rates[f'{form}_{batch}']:,.0f}" for batch in ("batch_1", "batch_32")]
            yield (model, called, *cells)


def weights(run: Finished) -> Rows:
    """Yield what names the weights of each teacher."""
    for (stage, teacher), card in run.cards.items():
        hashes = (short(card.weights_sha256), short(card.fingerprint))
        how = (card.epoch, f"{card.image_size} px", card.training_version)
        yield (STAGE_WORDS[stage], teacher, card.backbone, *hashes, *how)


def machines(run: Finished) -> Rows:
    """Yield code, machine and packages of each training run."""
    for (stage, teacher), environment in run.environments.items():
        system = f"{environment['system']} {environment['machine']}"
        place = [system, environment["device"], environment["dtype"]]
        if environment["device"] != "cpu":
            place += [f"{w} {environment[k]}" for k, w in _COMPUTING.items() if environment.get(k)]
        versions = {"Python": environment["python"]} | environment["packages"]
        packages = [f"{name} {versions[name]}" for name in _PACKAGES if versions.get(name)]
        commit = environment["commit"] or "not known"
        yield (STAGE_WORDS[stage], teacher, commit, ", ".join(place), ", ".join(packages))


def scarce_classes(run: Finished, *, few: int) -> dict[str, int]:
    """Return the classes with fewer than `few` in-domain rows behind their numbers."""
    n = {name: run.score("f1", by="class", part=name).n for name in run.parts("class")}
    return {name: count for name, count in n.items() if count < few}


def uncommitted(run: Finished) -> list[str]:
    """Return the teachers that were trained with code that no commit holds."""
    return sorted(
        f"{STAGE_WORDS[stage]} {teacher}"
        for (stage, teacher), environment in run.environments.items()
        if not environment["commit"] or environment["commit"].endswith("-dirty")
    )


def _words(run: Finished, column: str, value: str) -> str:
    if column == "stage":
        return STAGE_WORDS[value]
    if column == "model":
        return run.called(value)
    if column == "rows":
        return place_words(value)
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


def _with_ends(check: Mapping[str, Any], name: str) -> Markup:
    low, high = check[f"{name}_95"]
    return estimate(Score(check[name], low, high, check["n"]))

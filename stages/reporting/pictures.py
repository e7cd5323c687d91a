"""A finished run -> every picture of it, drawn once: for plots/figures/ and for the page."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.calibrating.published import STAGES
from stages.calibrating.tables import SOURCE_METRICS
from stages.reporting.figures import (
    confusion_figure,
    model_colours,
    reliability_figure,
    risk_coverage_figure,
    sources_figure,
    training_figure,
)
from stages.reporting.finished import Finished, in_domain
from stages.reporting.mistakes import A_CLASS, mistakes_sheet
from stages.reporting.wording import about, counted, number, scored
from stages.runtime.files import write_bytes
from stages.scoring.confidence import floor_words

# Column of a training curve, and what it is called.
_CURVES = (
    ("train_loss", "Training loss"),
    ("val_nll", "NLL on val, raw"),
    ("val_macro_f1", "Macro-F1 on val"),
)
_NAMES = {"accuracy": "Accuracy", "macro_f1": "Macro-F1"}


@dataclass(frozen=True)
class Picture:
    """A PNG; `alt` says what is in it to who cannot see it, `caption` what it is a picture of.

    `part` is the stage, model or measure, if there are several pictures of the kind.
    """

    kind: str
    part: str
    png: bytes
    alt: str
    caption: str


def write_pictures(folder: Path, pictures: list[Picture]) -> None:
    """Write `<kind>_<part>.png` each."""
    for one in pictures:
        name = "_".join(filter(None, (one.kind, one.part)))
        write_bytes(folder / f"{name}.png", one.png)


def draw_pictures(run: Finished, *, standardized: Path) -> list[Picture]:
    """Every picture of a run, the stage that is taken first."""
    taken = run.verdict["stage"]
    found: list[Picture] = []
    for stage in sorted(STAGES, key=lambda one: one != taken):
        for model in run.shown:
            found += _of_model(run, stage, model)
        found += _of_stage(run, stage)
    return [*found, *_training(run), _mistakes(run, standardized=standardized)]


def _of_model(run: Finished, stage: str, model: str) -> Iterator[Picture]:
    name, block = f"{stage}_{model}", in_domain(run.numbers[stage][model])
    colour = model_colours(run.teachers, fused=run.verdict["model"])[model]
    raw, scaled = scored(block, "raw"), scored(block, "scaled")
    errors = (
        f"ECE {number(raw['ece'])} before calibration (grey), where {floor_words(raw)}; "
        f"{number(scaled['ece'])} after, where {floor_words(scaled)}"
    )
    table = run.table("reliability", name)
    yield Picture(
        "reliability", name, reliability_figure(table, colour=colour),
        f"Reliability diagram of {model}, {stage}: {errors}.",
        f"{stage} {model}: {errors}. {about(block)}. Bars: 95 % by Wilson's "
        "formula, rows taken as independent.",
    )  # fmt: skip
    yield Picture(
        "confusion", name, confusion_figure(run.table("confusion", name)),
        f"Confusion matrix of {model}, {stage}. {_worst(run.table('confusion', name))}",
        f"{stage} {model}: per cent of each actual class; accuracy {number(scaled['accuracy'])}. "
        f"{about(block)}.",
    )  # fmt: skip


def _of_stage(run: Finished, stage: str) -> Iterator[Picture]:
    block = in_domain(run.numbers[stage][run.verdict["model"]])
    colours = model_colours(run.teachers, fused=run.verdict["model"])
    curves = {model: run.table("risk_coverage", f"{stage}_{model}") for model in run.shown}
    fused = curves[run.verdict["model"]]
    at = int((fused["coverage"] - 0.5).abs().argmin())
    coverage, risk = (float(fused[name].iloc[at]) for name in ("coverage", "risk"))
    yield Picture(
        "risk_coverage", stage, risk_coverage_figure(curves, colours=colours),
        f"Risk over coverage, {stage}: on the {100 * coverage:.0f} % of rows that "
        f"{run.verdict['model']} is most confident of, its error is {number(risk)}.",
        f"{stage}: error among the most confident rows, calibrated. {about(block)}. Band: 95 % of "
        f"{run.verdict['model']} by Wilson's formula.",
    )  # fmt: skip
    table = run.table("sources", stage)
    _, protocol = about(block).split("; ", 1)
    for metric in SOURCE_METRICS:
        yield Picture(
            f"sources_{metric}", stage, sources_figure(table, metric=metric, colours=colours),
            f"{_NAMES[metric]} of {', '.join(run.shown)} by source and gate, {stage}. "
            f"{_by_source(table, run.verdict['model'], metric)}",
            f"{stage}: {_NAMES[metric]} by source and gate, calibrated; {protocol}. Lines: 95 % by "
            "bootstrap over duplicate groups.",
        )  # fmt: skip


def _training(run: Finished) -> Iterator[Picture]:
    cost = run.numbers["stageB_vs_stageA"][run.verdict["model"]]["cost"]
    curves = {
        (row["stage"], row["teacher"]): run.table("training", f"{row['stage']}_{row['teacher']}")
        for row in cost
        if row["epochs"]
    }
    colours = model_colours(run.teachers, fused=run.verdict["model"])
    passed = [f"{row['stage']} {row['teacher']}" for row in cost if not row["epochs"]]
    note = f" No epochs, so no curve: {', '.join(passed)}." if passed else ""
    for column, label in _CURVES if curves else ():
        last = "; ".join(
            f"{stage} {teacher} ends at {number(table[column].dropna().iloc[-1])}"
            for (stage, teacher), table in curves.items()
        )
        yield Picture(
            "training", column,
            training_figure(curves, column=column, ylabel=label, colours=colours),
            f"{label} over the epochs: {last}.",
            f"{label}, {_learnt_on(run) if column == 'train_loss' else _chosen_on(run)}.{note}",
        )  # fmt: skip


def _learnt_on(run: Finished) -> str:
    rows = {stage: run.data["stages"][stage]["train_rows"] for stage in STAGES}
    told = ", ".join(f"{stage} {counted(n)} rows" for stage, n in rows.items())
    return f"with margin and augmentation, on train: {told}; labels as the recipe has them"


def _chosen_on(run: Finished) -> str:
    told = ", ".join(
        f"{stage} {teacher} {counted(card['metric']['n'])} rows"
        for (stage, teacher), card in run.cards.items()
    )
    return f"on which epochs are chosen: {told}; majority labels"


def _mistakes(run: Finished, *, standardized: Path) -> Picture:
    stage, model = run.verdict["stage"], run.verdict["model"]
    block = in_domain(run.best)
    table = run.table("mistakes", f"{stage}_{model}")
    rows = {one["class"]: one["n"] for one in block["per_class"]}
    return Picture(
        "mistakes", "",
        mistakes_sheet(table, rows=rows, standardized=standardized),
        f"Faces that {model} misread: for each class the {A_CLASS} mistakes that it was most "
        f"confident of, of {len(table):,} in all.",
        f"{stage} {model}: a line for each actual class; below each face what it was called, with "
        f"what confidence, and its source. {about(block)}.",
    )  # fmt: skip


def _by_source(table: pd.DataFrame, model: str, metric: str) -> str:
    """The numbers of one model, in words."""
    mine = table[(table["model"] == model) & (table["metric"] == metric)]
    told = (f"{row['source']} {number(row['value'])}" for row in mine.to_dict("records"))
    return f"{model}: {', '.join(told)}."


def _worst(table: pd.DataFrame) -> str:
    """The most frequent mistake, in words."""
    wrong = table[table["actual"] != table["predicted"]]
    if wrong.empty:
        return "No row is misread."
    pairs = Counter(zip(wrong["actual"], wrong["predicted"], strict=True))
    ((actual, predicted), count), *_ = pairs.most_common(1)
    return f"The most frequent mistake is {actual} called {predicted}, {count:,} times."

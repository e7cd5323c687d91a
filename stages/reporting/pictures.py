"""A finished run -> every picture of it, drawn once: for plots/figures/ and for the page."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.calibrating.score_table import STAGE_GAIN, pick
from stages.faces.sheet import captioned_sheet
from stages.faces.store import FaceStore
from stages.reporting.figures import (
    bars_figure,
    confusion_figure,
    model_colours,
    reliability_figure,
    risk_coverage_figure,
    training_figure,
)
from stages.reporting.finished import Finished
from stages.reporting.tables import about, floor
from stages.reporting.wording import STAGE_WORDS, counted, number, place_words, signed
from stages.runtime.files import write_bytes

MISTAKES_PER_CLASS = 8

_TILE_PX = 112
# Column of a training curve, and what it is called.
_CURVES = {
    "train_loss": "Training loss",
    "val_nll": "NLL on val, raw",
    "val_macro_f1": "Macro-F1 on val",
}
_SOURCE_METRICS = {"accuracy": "Accuracy", "macro_f1": "Macro-F1"}


@dataclass(frozen=True)
class Picture:
    """A PNG; `alt` tells its content to a reader who cannot see it, `caption` its rows.

    `part` is the stage, model or measure, if there are several pictures of the kind.
    """

    kind: str
    part: str
    png: bytes
    alt: str
    caption: str


def write_pictures(folder: Path, pictures: list[Picture]) -> None:
    """Write `<kind>_<part>.png` each."""
    for picture in pictures:
        name = "_".join(filter(None, (picture.kind, picture.part)))
        write_bytes(folder / f"{name}.png", picture.png)


def draw_pictures(run: Finished, *, standardized: Path) -> list[Picture]:
    """Draw every picture of a run, the stage that is taken first."""
    pictures = list(_gains(run))
    for stage in run.stages:
        for model in run.shown:
            pictures += _of_model(run, stage, model)
        pictures += _of_stage(run, stage)
    return [*pictures, *_training(run), _mistakes(run, standardized=standardized)]


def mistakes_sheet(table: pd.DataFrame, *, rows: Mapping[str, int], standardized: Path) -> bytes:
    """Draw a line for each actual class: the mistakes that the model was most confident of.

    Only the images that are drawn are read.

    Args:
        table: `id, source, actual, predicted, confidence`, the most confident first.
        rows: the number of rows of each class; the lines come in this order.
        standardized: where the images are.
    """
    drawn = table.groupby("actual", sort=False).head(MISTAKES_PER_CLASS)
    images = FaceStore(standardized).decode(drawn["id"])
    lines = {}
    for name, num_rows in rows.items():
        wrong = int((table["actual"] == name).sum())
        lines[f"{name}\n{wrong:,} of {num_rows:,} wrong"] = [
            (images[id_], f"{predicted} {confidence:.2f}, {source}")
            for id_, source, _, predicted, confidence in drawn[drawn["actual"] == name].to_numpy()
        ]
    return captioned_sheet(lines, columns=MISTAKES_PER_CLASS, tile_px=_TILE_PX)


def _colours(run: Finished) -> Mapping[str, str]:
    return model_colours(run.teachers, fused=run.called(run.model))


def _gains(run: Finished) -> Iterator[Picture]:
    table = pick(run.paired, what=STAGE_GAIN, metric="macro_f1", by="all")
    table = table[(table["n"] > 0) & table["model"].isin(run.shown)]
    if table.empty:
        return
    table = table.assign(model=table["model"].map(run.called), place=table["rows"].map(place_words))
    reach = 1.15 * table[["value", "low", "high"]].abs().to_numpy().max()
    told = "; ".join(
        f"{row['place']} {signed(row['value'])}"
        for row in table[table["model"] == run.called(run.model)].to_dict("records")
    )
    label = "Stage B minus Stage A, macro-F1"
    yield Picture(
        "stage_gain",
        "",
        bars_figure(table, colours=_colours(run), limits=(-reach, reach), xlabel=label),
        f"What Stage B changes in macro-F1, with 95 % intervals. The ensemble: {told}.",
        "Stage B minus Stage A in macro-F1, paired, on the rows that both stages admit, "
        "calibrated; fitted on val; majority labels. Right of 0 speaks for Stage B; an interval "
        "that holds 0 says nothing.",
    )


def _of_model(run: Finished, stage: str, model: str) -> Iterator[Picture]:
    name, place = f"{stage}_{model}", {"stage": stage, "model": model}
    called = f"{STAGE_WORDS[stage]}, {run.called(model)}"
    raw, scaled = (
        f"{number(run.score('ece', probabilities=kind, **place).value)} {when}, where "
        f"{floor(run, probabilities=kind, **place)}"
        for kind, when in (("raw", "before calibration (grey)"), ("calibrated", "after"))
    )
    yield Picture(
        "reliability",
        name,
        reliability_figure(
            run.plotted("teachers", f"reliability/{name}"), colour=_colours(run)[run.called(model)]
        ),
        f"Reliability diagram of {called}: ECE {raw}; {scaled}.",
        f"{called}: ECE {raw}; {scaled}. {about(run, **place)}. Bars: 95 % by Wilson's formula, "
        "rows taken as independent.",
    )
    table = run.plotted("teachers", f"confusion/{name}")
    accuracy = run.score("accuracy", **place).value
    yield Picture(
        "confusion",
        name,
        confusion_figure(table, classes=run.calibration.classes),
        f"Confusion matrix of {called}. {most_frequent_mistake(table)}",
        f"{called}: per cent of each actual class; accuracy {number(accuracy)}. "
        f"{about(run, **place)}.",
    )


def _of_stage(run: Finished, stage: str) -> Iterator[Picture]:
    said, word = about(run, stage=stage), STAGE_WORDS[stage]
    curves = {
        run.called(model): run.plotted("teachers", f"risk_coverage/{stage}_{model}")
        for model in (*run.teachers, run.model)
    }
    fused = curves[run.called(run.model)]
    middle = fused.iloc[int((fused["coverage"] - 0.5).abs().argmin())]
    yield Picture(
        "risk_coverage",
        stage,
        risk_coverage_figure(curves, colours=_colours(run)),
        f"Risk over coverage, {word}: on the {100 * middle['coverage']:.0f} % of rows that the "
        f"ensemble is most confident of, its error is {number(middle['risk'])}.",
        f"{word}: error among the most confident rows, calibrated. {said}. Band: 95 % of the "
        "ensemble by Wilson's formula.",
    )
    table = run.plotted("teachers", f"sources/{stage}").rename(columns={"source": "place"})
    table = table.assign(model=table["model"].map(run.called))
    for metric, label in _SOURCE_METRICS.items():
        bars = table[table["metric"] == metric]
        told = ", ".join(
            f"{row['place']} {number(row['value'])}"
            for row in bars[bars["model"] == run.called(run.model)].to_dict("records")
        )
        yield Picture(
            f"sources_{metric}",
            stage,
            bars_figure(bars, colours=_colours(run), limits=(0, 1), xlabel=label),
            f"{label} by source and gate, {word}. Ensemble: {told}.",
            f"{word}: {label} by source and gate, calibrated; {said.split('; ', 1)[1]}. Lines: "
            "95 % by bootstrap over duplicate groups.",
        )


def _training(run: Finished) -> Iterator[Picture]:
    curves = {
        (STAGE_WORDS[stage], teacher): run.plotted("teachers", f"training/{stage}_{teacher}")
        for (stage, teacher), history in run.histories.items()
        if history
    }
    passed = [f"{STAGE_WORDS[s]} {t}" for (s, t), history in run.histories.items() if not history]
    note = f" No epochs, so no curve: {', '.join(passed)}." if passed else ""
    chosen = ", ".join(
        f"{STAGE_WORDS[stage]} {teacher} {counted(card.metric['n'])} rows"
        for (stage, teacher), card in run.cards.items()
    )
    selections = run.plotted("manifest", "selections").groupby(["kind", "name"])["rows"].sum()
    learnt = ", ".join(
        f"{word} {counted(selections['stage', stage])} rows" for stage, word in STAGE_WORDS.items()
    )
    for column, label in _CURVES.items() if curves else ():
        last = "; ".join(
            f"{stage} {teacher} ends at {number(table[column].dropna().iloc[-1])}"
            for (stage, teacher), table in curves.items()
        )
        rows = (
            f"with margin and augmentation, on train: {learnt}; labels as the recipe has them"
            if column == "train_loss"
            else f"on which epochs are chosen: {chosen}; majority labels"
        )
        yield Picture(
            "training",
            column,
            training_figure(curves, column=column, ylabel=label, colours=_colours(run)),
            f"{label} over the epochs: {last}.",
            f"{label}, {rows}.{note}",
        )


def _mistakes(run: Finished, *, standardized: Path) -> Picture:
    table = run.plotted("teachers", f"mistakes/{run.stage}_{run.model}")
    rows = {name: run.score("f1", by="class", part=name).n for name in run.parts("class")}
    return Picture(
        "mistakes",
        "",
        mistakes_sheet(table, rows=rows, standardized=standardized),
        f"Faces that the ensemble misread: for each class the {MISTAKES_PER_CLASS} mistakes that "
        f"it was most confident of, of {len(table):,} in all.",
        f"{STAGE_WORDS[run.stage]}, Ensemble: a line for each actual class; below each face what "
        f"it was called, with what confidence, and its source. {about(run)}.",
    )


def most_frequent_mistake(table: pd.DataFrame) -> str:
    """Tell which class is most often called which other one."""
    wrong = table[table["actual"] != table["predicted"]]
    if wrong.empty:
        return "No row is misread."
    pairs = Counter(zip(wrong["actual"], wrong["predicted"], strict=True))
    ((actual, predicted), count), *_ = pairs.most_common(1)
    return f"The most frequent mistake is {actual} called {predicted}, {count:,} times."

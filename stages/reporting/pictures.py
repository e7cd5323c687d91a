"""A finished run -> every picture of it, drawn once: for plots/figures/ and for the page."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.calibrating.score_table import STAGE_GAIN, pick
from stages.faces.decode import encode_png
from stages.faces.sheet import captioned_sheet, fit
from stages.faces.store import FaceStore
from stages.reporting.figures import (
    Colours,
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
from stages.runtime.workers import with_progress

MISTAKES_PER_CLASS = 8

_NUM_WORST = 8
_TILE_PX, _FACE_PX = 112, 192
_BLANK = np.full((1, 1, 3), 255, np.uint8)
_GAIN = "Stage B minus Stage A"
# Columns of a picture, raw and scaled, and what they are called.
_CURVES = {
    ("train_loss",): "Training loss",
    ("val_nll", "val_scaled_nll"): "NLL on val",
    ("val_ece", "val_scaled_ece"): "ECE on val",
    ("val_macro_f1",): "Macro-F1 on val",
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

    @property
    def file_name(self) -> str:
        """Its name in plots/figures/."""
        return "_".join(filter(None, (self.kind, self.part))) + ".png"


def draw_pictures(run: Finished, *, standardized: Path) -> list[Picture]:
    """Draw every picture of a run, the stage that is taken first."""
    pictures = _pictures(run, standardized=standardized)
    return list(with_progress(pictures, name="drawing", unit="pictures"))


def _pictures(run: Finished, *, standardized: Path) -> Iterator[Picture]:
    colours = model_colours(run.teachers, fused=run.called(run.model))
    yield from _gains(run, colours)
    for stage in run.stages:
        for model in run.shown:
            yield from _of_model(run, stage, model, colour=colours[run.called(model)])
        yield from _of_stage(run, stage, colours)
    yield from _training(run, colours)
    yield from _mistakes(run, standardized=standardized)


def most_frequent_mistake(table: pd.DataFrame) -> str:
    """Tell which class is most often called which other one."""
    wrong = table[table["actual"] != table["predicted"]]
    if wrong.empty:
        return "No row is misread."
    pairs = Counter(zip(wrong["actual"], wrong["predicted"], strict=True))
    ((actual, predicted), count), *_ = pairs.most_common(1)
    return f"The most frequent mistake is {actual} called {predicted}, {count:,} times."


def mistakes_sheet(table: pd.DataFrame, *, rows: Mapping[str, int], standardized: Path) -> bytes:
    """Draw a line for each class of `rows`, with its mistakes that were most confident.

    Only the images that are drawn are read.

    Args:
        table: `id, source, actual, predicted, confidence`, the most confident first.
        rows: the number of rows of each class.
        standardized: where the images are.
    """
    drawn = table.groupby("actual", sort=False).head(MISTAKES_PER_CLASS)
    images = FaceStore(standardized).decode(drawn["id"])
    lines = {}
    for name, num_rows in rows.items():
        wrong = int((table["actual"] == name).sum())
        tiles = [
            (images[id_], f"{predicted} {confidence:.2f}, {source}")
            for id_, source, _, predicted, confidence in drawn[drawn["actual"] == name].to_numpy()
        ]
        # Blank, not grey: a place without a mistake is no face.
        tiles += [(_BLANK, "")] * (MISTAKES_PER_CLASS - len(tiles))
        lines[f"{name}\n{wrong:,} of {num_rows:,} wrong"] = tiles
    return captioned_sheet(lines, columns=MISTAKES_PER_CLASS, tile_px=_TILE_PX)


def _gains(run: Finished, colours: Colours) -> Iterator[Picture]:
    table = pick(run.paired, what=STAGE_GAIN, metric="macro_f1", by="all")
    table = table[(table["n"] > 0) & table["model"].isin(run.shown)]
    if table.empty:
        return
    table = table.assign(model=table["model"].map(run.called), place=table["rows"].map(place_words))
    reach = 1.15 * table[["value", "low", "high"]].abs().to_numpy().max()
    label, limits = f"{_GAIN}, macro-F1", (-reach, reach)
    values = _values(table, run, write=signed, between="; ")
    nll, nll_words = run.change("nll", rows="val"), ""
    if nll.n:
        change = f"{signed(nll.value)} [{signed(nll.low)}, {signed(nll.high)}]"
        nll_words = f" The ensemble's NLL on val, where below 0 speaks for Stage B: {change}."
    yield Picture(
        "stage_gain",
        "",
        bars_figure(table, colours=colours, limits=limits, xlabel=label),
        f"What Stage B changes in macro-F1, with 95 % intervals. The ensemble: {values}.",
        f"{_GAIN} in macro-F1, paired, on the rows that both stages admit, calibrated; fitted on "
        "val; majority labels. Right of 0 speaks for Stage B; an interval that holds 0 says "
        f"nothing.{nll_words}",
    )


def _of_model(run: Finished, stage: str, model: str, *, colour: str) -> Iterator[Picture]:
    name, place = f"{stage}_{model}", {"stage": stage, "model": model}
    called, rows = f"{run.called(model)}, {STAGE_WORDS[stage]}", about(run, **place)
    raw, scaled = (
        f"{number(run.score('ece', probabilities=kind, **place).value)} {when}, where "
        f"{floor(run, probabilities=kind, **place)}"
        for kind, when in (("raw", "before calibration (grey)"), ("calibrated", "after"))
    )
    bins = run.plotted("teachers", f"reliability/{name}")
    yield Picture(
        "reliability",
        name,
        reliability_figure(bins, colour=colour),
        f"Reliability diagram. {called}: ECE {raw}; {scaled}.",
        f"{called}: ECE {raw}; {scaled}. {rows}. Bars: 95 % by Wilson's formula, rows taken as "
        "independent.",
    )
    table = run.plotted("teachers", f"confusion/{name}")
    accuracy = number(run.score("accuracy", **place).value)
    yield Picture(
        "confusion",
        name,
        confusion_figure(table, classes=run.calibration.classes),
        f"Confusion matrix. {called}: {most_frequent_mistake(table)}",
        f"{called}: per cent of each actual class; accuracy {accuracy}. {rows}.",
    )


def _of_stage(run: Finished, stage: str, colours: Colours) -> Iterator[Picture]:
    rows, word = about(run, stage=stage), STAGE_WORDS[stage]
    curves = {
        run.called(model): run.plotted("teachers", f"risk_coverage/{stage}_{model}")
        for model in (*run.teachers, run.model)
    }
    fused = curves[run.called(run.model)]
    middle = fused.iloc[int((fused["coverage"] - 0.5).abs().argmin())]
    yield Picture(
        "risk_coverage",
        stage,
        risk_coverage_figure(curves, colours=colours),
        f"Risk over coverage, {word}: on the {100 * middle['coverage']:.0f} % of rows that the "
        f"ensemble is most confident of, its error is {number(middle['risk'])}.",
        f"{word}: error among the most confident rows, calibrated. {rows}. Band: 95 % of the "
        "ensemble by Wilson's formula.",
    )
    table = run.plotted("teachers", f"sources/{stage}").rename(columns={"source": "place"})
    table = table.assign(model=table["model"].map(run.called))
    for metric, label in _SOURCE_METRICS.items():
        bars = table[table["metric"] == metric]
        values = _values(bars, run, write=number, between=", ")
        yield Picture(
            f"sources_{metric}",
            stage,
            bars_figure(bars, colours=colours, limits=(0, 1), xlabel=label),
            f"{label} by source and gate, {word}. Ensemble: {values}.",
            f"{word}: {label} by source and gate, calibrated; {rows.split('; ', 1)[1]}. Lines: "
            "95 % by bootstrap over duplicate groups.",
        )


def _training(run: Finished, colours: Colours) -> Iterator[Picture]:
    named = {(STAGE_WORDS[stage], teacher): (stage, teacher) for stage, teacher in run.histories}
    tables = {
        name: run.plotted("teachers", f"training/{'_'.join(key)}")
        for name, key in named.items()
        if run.histories[key]
    }
    sizes = {name: run.cards[key].metric["n"] for name, key in named.items()}
    chosen = ", ".join(f"{' '.join(name)} {counted(n)} rows" for name, n in sizes.items())
    selections = run.plotted("manifest", "selections").groupby(["kind", "name"])["rows"].sum()
    learnt = ", ".join(
        f"{word} {counted(selections['stage', stage])} rows" for stage, word in STAGE_WORDS.items()
    )
    for (raw, *scaled), label in _CURVES.items():
        curves = {name: table for name, table in tables.items() if table[raw].notna().any()}
        if not curves:
            continue
        columns, pale = [raw], ""
        rows = f"on which epochs are chosen: {chosen}; majority labels"
        if any(table[scaled].notna().any(axis=None) for table in curves.values()):
            columns, pale = [raw, *scaled], " (pale: raw)"
            rows += "; pale: raw, full: at the temperature that fits these rows best"
        if raw == "train_loss":
            rows = (
                f"with margin and augmentation, on train: {learnt}; labels as the recipe has them"
            )
        lacking = ", ".join(" ".join(name) for name in named if name not in curves)
        note = f" Not recorded, so no curve: {lacking}." if lacking else ""
        ends = "; ".join(
            f"{' '.join(name)} ends at {', scaled '.join(map(number, last))}"
            for name, table in curves.items()
            for last in [table[columns].ffill().iloc[-1].dropna()]
        )
        yield Picture(
            "training",
            raw,
            training_figure(curves, columns=columns, ylabel=label + pale, colours=colours),
            f"{label} over the epochs: {ends}.",
            f"{label}, {rows}.{note}",
        )


def _mistakes(run: Finished, *, standardized: Path) -> Iterator[Picture]:
    table = run.plotted("teachers", f"mistakes/{run.stage}_{run.model}")
    worst = table.head(_NUM_WORST)
    images = FaceStore(standardized).decode(worst["id"])
    for place, (id_, source, actual, predicted, confidence) in enumerate(worst.to_numpy(), 1):
        yield Picture(
            "mistake",
            str(place),
            encode_png(fit(images[id_], _FACE_PX)),
            f"Face {place} of the most confident mistakes: labelled {actual}, called {predicted}.",
            # A long name may break after each of its words.
            f"{predicted}, {confidence:.2f}\nlabelled {actual}\n"
            + source.replace("_", "_\N{ZERO WIDTH SPACE}"),
        )
    rows = {name: run.score("f1", by="class", part=name).n for name in run.parts("class")}
    yield Picture(
        "mistakes",
        "",
        mistakes_sheet(table, rows=rows, standardized=standardized),
        f"Faces that the ensemble misread: for each class the {MISTAKES_PER_CLASS} mistakes that "
        f"it was most confident of, of {len(table):,} in all.",
        f"Ensemble, {STAGE_WORDS[run.stage]}: a line for each actual class; below each face what "
        f"it was called, with what confidence, and its source. {about(run)}.",
    )


def _values(
    table: pd.DataFrame, run: Finished, *, write: Callable[[float], str], between: str
) -> str:
    """Write the ensemble's value at each place."""
    ensemble = table[table["model"] == run.called(run.model)]
    return between.join(map("{} {}".format, ensemble["place"], ensemble["value"].map(write)))

"""The tables of plots/data/teachers -> PNGs, drawn without a display: the same bytes every time.

Each picture is one panel, as wide as a phone shows it legibly; the page puts them side by side.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's colours, which colour-blind readers tell apart; each teacher keeps its own.
_TEACHER_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_FUSED_COLOUR = "#333333"
_RAW_COLOUR = "#999999"

_WIDTH, _HEIGHT = 5.0, 4.2
_LINE_INCHES = 0.32
_DARK_SHARE = 55

Colours = Mapping[str, str]


def model_colours(teachers: Sequence[str], *, fused: str) -> Colours:
    """Give each teacher a colour, in the order in which they come, and the fused model its own."""
    return dict(zip(teachers, cycle(_TEACHER_COLOURS), strict=False)) | {fused: _FUSED_COLOUR}


def reliability_figure(table: pd.DataFrame, *, colour: str) -> bytes:
    """Draw accuracy over confidence before and after calibration; below it the rows per bin."""
    figure = Figure(figsize=(_WIDTH, _HEIGHT + 1.0), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(3.4, 1), sharex=True)
    before: dict[str, Any] = {"color": _RAW_COLOUR, "mfc": "white", "linewidth": 1.0}
    after: dict[str, Any] = {"color": colour, "linewidth": 1.6}
    for name, label, style in (("raw", "before", before), ("scaled", "after", after)):
        bins = table[table["probabilities"] == name]
        means, accuracy = bins["confidence"], bins["accuracy"]
        ends = np.abs([accuracy - bins["accuracy_low"], bins["accuracy_high"] - accuracy])
        style |= {"marker": "o", "markersize": 5, "elinewidth": 1.0, "capsize": 2.5}
        above.errorbar(means, accuracy, yerr=ends, label=label, **style)
        # Bars that touch; bins without rows are not in the table.
        width, edge = bins["high"] - bins["low"], style["color"]
        below.bar(bins["low"], bins["count"], width, align="edge", fill=False, edgecolor=edge)
        if name == "scaled":
            below.bar(bins["low"], bins["count"], width, align="edge", color=edge, alpha=0.5)
    above.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":", zorder=1)
    above.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="accuracy")
    above.legend(loc="upper left", frameon=False)
    below.set(xlabel="confidence", ylabel="rows")
    below.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    _plain(above, below)
    return _png(figure)


def confusion_figure(table: pd.DataFrame, *, classes: Sequence[str]) -> bytes:
    """Draw which share of each actual class got which name, in per cent, with its rows."""
    count = pd.crosstab(table["actual"], table["predicted"]).reindex(
        index=list(classes), columns=list(classes), fill_value=0
    )
    rows = count.sum(axis=1)
    share = 100 * count.to_numpy() / np.maximum(rows.to_numpy()[:, None], 1)
    figure = Figure(figsize=(_WIDTH, _HEIGHT + 0.6), layout="constrained")
    axis = figure.subplots()
    axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(share):
        if count.iat[row, column]:
            ink = "white" if value > _DARK_SHARE else "black"
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", color=ink)
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(classes)), [f"{name} ({rows[name]:,})" for name in classes])
    axis.set(xlabel="predicted", ylabel="actual (rows)")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return _png(figure)


def risk_coverage_figure(curves: Mapping[str, pd.DataFrame], *, colours: Colours) -> bytes:
    """Draw the error among the most confident rows over their share; a band for the last model."""
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axis = figure.subplots()
    for model, table in curves.items():
        axis.plot(table["coverage"], table["risk"], color=colours[model], label=model)
    model, table = list(curves.items())[-1]
    edges = (table["coverage"], table["risk_low"], table["risk_high"])
    axis.fill_between(*edges, color=colours[model], alpha=0.12, linewidth=0)
    highest = max(float(table["risk"].max()) for table in curves.values())
    axis.set(xlim=(0, 1), ylim=(0, max(0.05, 1.5 * highest)))
    axis.set(xlabel="share of rows, most confident first", ylabel="error")
    axis.legend(loc="upper left", frameon=False)
    _plain(axis)
    return _png(figure)


def bars_figure(
    table: pd.DataFrame, *, colours: Colours, limits: tuple[float, float], xlabel: str
) -> bytes:
    """Draw a bar for each model at each place, with its interval; n beside the place's name.

    `table` has `model, place, n, value, low, high`; the bars come in the order of `colours`.
    """
    places = list(dict.fromkeys(table["place"]))
    models = [name for name in colours if name in set(table["model"])]
    thick = 1 / (len(models) + 0.8)
    height = 0.9 + _LINE_INCHES * len(places) / thick
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axis = figure.subplots()
    for number, model in enumerate(models):
        bars = table[table["model"] == model].set_index("place").reindex(places)
        middles = np.arange(len(places)) + (number - (len(models) - 1) / 2) * thick
        colour = colours[model]
        axis.barh(middles, bars["value"], thick * 0.86, color=colour, alpha=0.85, label=model)
        # A white edge shows the line on a dark bar.
        for line, width in (("white", 3.0), ("black", 1.2)):
            axis.hlines(middles, bars["low"], bars["high"], color=line, linewidth=width)
    axis.axvline(0, color="black", linewidth=0.8)
    n = table.groupby("place")["n"].agg(["min", "max"])
    labels = []
    for place in places:
        # Models' n differ where they were trained on different rows.
        ends = dict.fromkeys(f"{end:,}" for end in n.loc[place])
        labels.append(f"{_folded(place)}\nn = {' to '.join(ends)}")
    axis.set_yticks(range(len(places)), labels)
    axis.set(xlim=limits, ylim=(len(places) - 0.5, -0.5), xlabel=xlabel)
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    _plain(axis)
    axis.grid(visible=False, axis="y")
    return _png(figure)


def training_figure(
    curves: Mapping[tuple[str, str], pd.DataFrame],
    *,
    columns: Sequence[str],
    ylabel: str,
    colours: Colours,
) -> bytes:
    """Draw columns of `curves`, by stage and teacher; dashed for the stage that comes first.

    Of several columns all but the last are thin and pale. An epoch without a value is left out.
    """
    first = next(iter(curves))[0]
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axis = figure.subplots()
    for (stage, teacher), table in curves.items():
        style: dict[str, Any] = {"color": colours[teacher], "marker": "o", "markersize": 3}
        style |= {"linestyle": "--" if stage == first else "-", "label": f"{stage} {teacher}"}
        recorded = [column for column in columns if table[column].notna().any()]
        for column in recorded:
            points = table[table[column].notna()]
            pale = (
                {"alpha": 0.45, "linewidth": 0.9, "label": None} if column != recorded[-1] else {}
            )
            axis.plot(points["epoch"], points[column], **style | pale)
    axis.set(xlabel="epoch", ylabel=ylabel)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False)
    _plain(axis)
    return _png(figure)


def _folded(place: str) -> str:
    """Break a long name into two lines."""
    if place.startswith("gate "):
        return place.replace(" ", "\n", 1)
    if len(place) <= 16:
        return place
    middle = len(place) // 2
    breaks = [at for at, letter in enumerate(place) if letter == "_"] or [middle]
    at = min(breaks, key=lambda position: abs(position - middle))
    return f"{place[: at + 1].rstrip()}\n{place[at + 1 :]}"


def _plain(*axes: Axes) -> None:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(visible=True, color="#e6e6e6", linewidth=0.8)
        axis.set_axisbelow(True)


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    # Without the name of the software the same numbers give the same bytes across versions.
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()

"""The tables of plots/data/teachers -> PNGs, drawn without a display: the same bytes every time.

Each is one panel, as wide as a phone shows it legibly; the page puts them side by side.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.config import CLASSES

# Okabe and Ito's colours, which colour-blind readers tell apart; each teacher keeps its own.
TEACHER_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
FUSED_COLOUR = "#333333"
RAW_COLOUR = "#999999"
STAGE_STYLES = {"stageA": "--", "stageB": "-"}

_WIDTH, _HEIGHT = 5.0, 4.2
_LINE_INCHES = 0.32
_DARK = 0.55

Curves = Mapping[tuple[str, str], pd.DataFrame]  # by stage and model
Colours = Mapping[str, str]


def model_colours(teachers: Sequence[str], *, fused: str) -> Colours:
    """A colour for each teacher, in the order in which they come, and one for what is fused."""
    colours = {name: TEACHER_COLOURS[at % len(TEACHER_COLOURS)] for at, name in enumerate(teachers)}
    return colours | {fused: FUSED_COLOUR}


def reliability_figure(table: pd.DataFrame, *, colour: str) -> bytes:
    """Accuracy over confidence before and after calibration with intervals; rows per bin below."""
    figure = Figure(figsize=(_WIDTH, _HEIGHT + 1.0), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(3.4, 1), sharex=True)
    looks: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("raw", "before", {"color": RAW_COLOUR, "mfc": "white", "markersize": 5, "linewidth": 1.0}),
        ("scaled", "after", {"color": colour, "markersize": 5.5, "linewidth": 1.6}),
    )
    for name, label, look in looks:
        bins = table[table["probabilities"] == name]
        arms = [bins["accuracy"] - bins["accuracy_low"], bins["accuracy_high"] - bins["accuracy"]]
        above.errorbar(
            bins["confidence"], bins["accuracy"], yerr=np.abs(arms), label=label, marker="o",
            elinewidth=1.0, capsize=2.5, **look,
        )  # fmt: skip
        _steps(below, bins, color=look["color"], fill=name == "scaled")
    above.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":", zorder=1)
    above.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="accuracy")
    above.legend(loc="upper left", frameon=False)
    below.set(xlabel="confidence", ylabel="rows")
    below.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    _plain(above, below)
    return _png(figure)


def confusion_figure(table: pd.DataFrame) -> bytes:
    """The share of each actual class that is called what, in per cent, with its rows."""
    count = pd.crosstab(table["actual"], table["predicted"]).reindex(
        index=CLASSES, columns=CLASSES, fill_value=0
    )
    rows = count.sum(axis=1)
    share = 100 * count.to_numpy() / np.maximum(rows.to_numpy()[:, None], 1)
    figure = Figure(figsize=(_WIDTH, _HEIGHT + 0.6), layout="constrained")
    axis = figure.subplots()
    axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(share):
        if count.iat[row, column]:
            ink = "white" if value > 100 * _DARK else "black"
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", color=ink)
    axis.set_xticks(range(len(CLASSES)), CLASSES, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(CLASSES)), [f"{name} ({rows[name]:,})" for name in CLASSES])
    axis.set(xlabel="predicted", ylabel="actual (rows)")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return _png(figure)


def risk_coverage_figure(curves: Mapping[str, pd.DataFrame], *, colours: Colours) -> bytes:
    """The error among the most confident rows over their share; a band around the last model."""
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axis = figure.subplots()
    for model, table in curves.items():
        axis.plot(table["coverage"], table["risk"], color=colours[model], label=model)
    model, table = list(curves.items())[-1]
    axis.fill_between(
        table["coverage"], table["risk_low"], table["risk_high"], color=colours[model], alpha=0.12,
        linewidth=0,
    )  # fmt: skip
    highest = max(float(table["risk"].max()) for table in curves.values())
    axis.set(xlim=(0, 1), ylim=(0, max(0.05, 1.5 * highest)))
    axis.set(xlabel="share of rows, most confident first", ylabel="error")
    axis.legend(loc="upper left", frameon=False)
    _plain(axis)
    return _png(figure)


def sources_figure(table: pd.DataFrame, *, metric: str, colours: Colours) -> bytes:
    """A bar for each model on each source and gate, with its interval; n beside the name."""
    chosen = table[(table["metric"] == metric) & table["model"].isin(list(colours))]
    sources = list(dict.fromkeys(chosen["source"]))
    models = [name for name in colours if name in set(chosen["model"])]
    height = 0.9 + _LINE_INCHES * len(sources) * (len(models) + 0.8)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axis = figure.subplots()
    thick = 1 / (len(models) + 0.8)
    for at, model in enumerate(models):
        own = chosen[chosen["model"] == model].set_index("source").reindex(sources)
        places = np.arange(len(sources)) + (at - (len(models) - 1) / 2) * thick
        axis.barh(places, own["value"], thick * 0.86, color=colours[model], alpha=0.85, label=model)
        axis.hlines(places, own["low"], own["high"], color="black", linewidth=1.1)
    names = [f"{_folded(one)}\n{_num_rows(chosen, one)}" for one in sources]
    axis.set_yticks(range(len(sources)), names)
    axis.set(xlim=(0, 1), ylim=(len(sources) - 0.5, -0.5))
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    _plain(axis)
    axis.grid(visible=False, axis="y")
    return _png(figure)


def training_figure(curves: Curves, *, column: str, ylabel: str, colours: Colours) -> bytes:
    """A measure over the epochs of every teacher; dashed for the first stage."""
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axis = figure.subplots()
    for (stage, teacher), table in curves.items():
        points = table[table[column].notna()]
        axis.plot(
            points["epoch"], points[column], color=colours[teacher],
            linestyle=STAGE_STYLES[stage], marker="o", markersize=3, label=f"{stage} {teacher}",
        )  # fmt: skip
    axis.set(xlabel="epoch", ylabel=ylabel)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False)
    _plain(axis)
    return _png(figure)


def _steps(axis: Axes, bins: pd.DataFrame, *, color: str, fill: bool) -> None:
    """Rows per bin as bars that touch; bins without rows are not in the table."""
    axis.bar(
        bins["low"], bins["count"], bins["high"] - bins["low"], align="edge",
        color=color if fill else "none", alpha=0.5 if fill else 1.0, edgecolor=color, linewidth=1.0,
    )  # fmt: skip


def _num_rows(table: pd.DataFrame, source: str) -> str:
    """The models' n, which differs where they were trained on different rows."""
    n = table["n"][table["source"] == source]
    return f"n = {n.min():,}" + (f" to {n.max():,}" if n.min() < n.max() else "")


def _folded(source: str) -> str:
    """A long name in two lines."""
    if source.startswith("gate "):
        return source.replace(" ", "\n", 1)
    if len(source) <= 16:
        return source
    middle = len(source) // 2
    breaks = [at for at, letter in enumerate(source) if letter == "_"] or [middle]
    at = min(breaks, key=lambda place: abs(place - middle))
    return f"{source[: at + 1].rstrip()}\n{source[at + 1 :]}"


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

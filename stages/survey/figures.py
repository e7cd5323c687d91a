"""The survey -> PNGs: rows by class, native sizes, duplicates between sources."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from stages.config import CLASSES
from stages.records.views import BUCKETS, size_table
from stages.runtime.files import write_bytes
from stages.survey.counts import row_counts
from stages.survey.relations import KINDS, matrix
from stages.survey.survey import Survey

# Okabe and Ito's colours, which colour-blind readers tell apart, and a grey for Neutral.
CLASS_COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#E69F00", "#BBBBBB")
_BAR_COLOUR = "#56B4E9"
_LINE_INCHES = 0.26
_CELL_INCHES = 0.72
_CHARACTER_INCHES = 0.085
_DARK = 0.6

Numbers = npt.NDArray[np.float64]


def write_figures(folder: Path, survey: Survey) -> None:
    """Write `rows.png`, `native_px.png` and `duplicates.png`."""
    rows = survey.frozen.rows
    stages = {name: size_table(train) for name, train in survey.stages.items()}
    sources = sorted(survey.frozen.drawn["source"].unique())
    figures = {
        "rows": rows_figure(row_counts(rows), carved=carved_splits(rows)),
        "native_px": native_px_figure(size_table(rows), stages=stages),
        "duplicates": duplicates_figure(matrix(survey.related), sources=sources),
    }
    for name, figure in figures.items():
        buffer = BytesIO()
        # Without the name of the software the same numbers give the same bytes across versions.
        figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
        write_bytes(folder / f"{name}.png", buffer.getvalue())


def carved_splits(rows: pd.DataFrame) -> set[tuple[str, str]]:
    """The (source, split) pairs of which no row is in the dataset's own split."""
    own = (rows["split"] == rows["official"]).groupby([rows["source"], rows["split"]]).any()
    return {(str(source), str(split)) for source, split in own.index[~own]}


def rows_figure(counts: pd.DataFrame, *, carved: set[tuple[str, str]]) -> Figure:
    """Draw a bar for each split of each source: shares of the classes, and rows on a log scale.

    Args:
        counts: `source`, `split`, `label`, `rows` (see `counts.row_counts`).
        carved: pairs of source and split to call carved.
    """
    table = counts.pivot(index=["source", "split"], columns="label", values="rows")
    table = table.loc[list(dict.fromkeys(zip(counts["source"], counts["split"], strict=True)))]
    rows = table[list(CLASSES)].to_numpy(np.float64)
    totals = rows.sum(axis=1)
    # Each source has a line for its name above the bars of its splits.
    headings = table.index.get_level_values("source").to_series().factorize()[0]
    places = np.arange(len(table)) + headings + 1
    lines = places[-1] + 1
    figure = Figure(figsize=(11.0, _LINE_INCHES * lines + 1.3), layout="constrained")
    shares, sizes = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    percent = 100 * rows / totals[:, None]
    left = np.cumsum(percent, axis=1) - percent
    line = {"height": 0.8, "edgecolor": "white", "linewidth": 0.6}
    for column, colour in enumerate(CLASS_COLOURS):
        shares.barh(places, percent[:, column], left=left[:, column], color=colour, **line)
    shares.set(xlim=(0, 100), xlabel="% of the rows")
    sizes.barh(places, totals, color=_BAR_COLOUR, height=0.8)
    sizes.set_xscale("log")
    # Room for the number behind the longest bar.
    sizes.set(xlim=(0.8, totals.max() * 12), xlabel="rows (log scale)")
    for place, number in zip(places, totals, strict=True):
        sizes.text(number * 1.15, place, f"{number:,.0f}", va="center", fontsize=9)
    for axis in (shares, sizes):
        axis.tick_params(axis="y", length=0)
        axis.spines[["top", "right", "left"]].set_visible(False)
    is_carved = [place in carved and place[1] != "train" for place in table.index]
    names = [split + ", carved" * c for (_, split), c in zip(table.index, is_carved, strict=True)]
    shares.set_yticks(places, names)
    for source in table.index.unique(level="source"):
        above = places[table.index.get_loc(source)][0] - 1
        shares.text(0, above, str(source), va="center", fontweight="bold", fontsize=10)
    shares.set_ylim(lines - 0.4, -0.6)
    handles = [Patch(color=c, label=n) for n, c in zip(CLASSES, CLASS_COLOURS, strict=True)]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(CLASSES), frameon=False)
    return figure


def native_px_figure(sources: pd.DataFrame, *, stages: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw where the rows of each source lie by native size, then the train rows of each stage.

    Args:
        sources: rows of the manifest by source and bucket (see `size_table`).
        stages: train rows by source and bucket, for each stage.
    """
    whole = sources.sum(axis=1).to_numpy(np.float64)[:, None]
    panels = {"every row, % of its source": (sources, 100 * sources.to_numpy() / whole)}
    for name, table in stages.items():
        table = pd.concat([table, table.sum().rename("all sources").to_frame().T])
        percent = 100 * table.to_numpy() / table.loc["all sources"].sum()
        panels[f"train rows of {name}, % of the stage"] = (table, percent)
    heights = [len(table) + 2.6 for table, _ in panels.values()]
    longest = max(len(str(name)) for table, _ in panels.values() for name in table.index)
    # Room for the names and the numbers beside them.
    width = _CELL_INCHES * len(BUCKETS) + _CHARACTER_INCHES * (longest + 12)
    figure = Figure(figsize=(width, 0.36 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    buckets = [b.replace("lt", "< ").replace("ge", "≥ ").replace("_", " to ") for b in BUCKETS]
    for axis, (title, (table, percent)) in zip(axes, panels.items(), strict=True):
        _draw_heat(axis, percent, top=100.0)
        for place, value in np.ndenumerate(percent):
            text = "" if value == 0 else f"{value:.0f}" if value >= 0.5 else "< 1"
            _draw_cell(axis, place, text, dark=bool(value > 100 * _DARK))
        totals = table.sum(axis=1)
        axis.set_yticks(range(len(table)), [f"{name}  {totals[name]:,}" for name in table.index])
        axis.set_xticks(range(len(BUCKETS)), buckets)
        axis.set_title(title, fontsize=11, loc="left", pad=10)
    axes[-1].set_xlabel("native size, px")
    return figure


def duplicates_figure(cells: pd.DataFrame, *, sources: list[str]) -> Figure:
    """Draw exact and near duplicates within and between sources, as `relations.matrix` counts."""
    side = _CELL_INCHES * len(sources) + 0.4
    names = _CHARACTER_INCHES * max(len(source) for source in sources)
    size = (max(2 * side + names, 6.5), max(side + 0.7 * names, 2.4) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    titles = {
        "exact": "exact: pictures that both hold\n(on the diagonal: that one holds twice)",
        "near": "near: pairs of pictures\n(on the diagonal: within one)",
    }
    lower = np.tri(len(sources), dtype=bool)
    for axis, kind in zip(figure.subplots(1, len(KINDS), sharey=True), KINDS, strict=True):
        counts, chosen = np.zeros(lower.shape), cells[cells["kind"] == kind]
        low, high = (
            pd.Index(sources).get_indexer(pd.Index(chosen[f"source_{end}"])) for end in "ab"
        )
        counts[high, low] = chosen["pairs"]
        # By magnitude: a source that is one large copy would leave all others white.
        strength = np.log10(np.maximum(counts, 1)) + (counts > 0)
        top = max(float(strength.max()), 1.0)
        _draw_heat(axis, np.where(lower, strength, np.nan), top=top)
        for place in np.argwhere(counts > 0):
            n = counts[tuple(place)]
            text = f"{n:,.0f}" if n < 10_000 else f"{n / 1000:,.0f}k"
            _draw_cell(axis, tuple(place), text, dark=bool(strength[tuple(place)] > _DARK * top))
        axis.set_xticks(
            range(len(sources)), sources, rotation=45, ha="right", rotation_mode="anchor"
        )
        axis.set_yticks(range(len(sources)), sources)
        axis.set_title(titles[kind], fontsize=10)
    return figure


def _draw_heat(axis: Axes, values: Numbers, *, top: float) -> None:
    axis.imshow(values, cmap="Blues", vmin=0, vmax=top, aspect="auto")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    rows, columns = values.shape
    axis.set_xticks(np.arange(1, columns) - 0.5, minor=True)
    axis.set_yticks(np.arange(1, rows) - 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=1.5)
    axis.tick_params(which="minor", length=0)


def _draw_cell(axis: Axes, place: tuple[int, ...], text: str, *, dark: bool) -> None:
    row, column = place
    ink = "white" if dark else "black"
    axis.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)

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
from stages.records.native_sizes import BUCKETS, size_table
from stages.runtime.files import write_bytes
from stages.survey.plot_data import row_counts
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
    figures = {
        "rows": rows_figure(row_counts(rows), carved=carved_splits(rows)),
        "native_px": native_px_figure(
            size_table(rows), stages={name: size_table(one) for name, one in survey.stages.items()}
        ),
        "duplicates": duplicates_figure(
            matrix(survey.related), sources=sorted(survey.frozen.drawn["source"].unique())
        ),
    }
    for name, png in figures.items():
        write_bytes(folder / f"{name}.png", png)


def carved_splits(rows: pd.DataFrame) -> set[tuple[str, str]]:
    """The (source, split) pairs of which no row is in the dataset's own split."""
    own = (rows["split"] == rows["official"]).groupby([rows["source"], rows["split"]]).any()
    return {(str(source), str(split)) for source, split in own.index[~own]}


def rows_figure(counts: pd.DataFrame, *, carved: set[tuple[str, str]]) -> bytes:
    """A bar for each split of each source: shares of the classes; beside it, rows on a log scale.

    Args:
        counts: `source`, `split`, `label`, `rows` (see `plot_data.row_counts`).
        carved: pairs of source and split to call carved.
    """
    table = counts.pivot(index=["source", "split"], columns="label", values="rows")
    table = table.loc[list(dict.fromkeys(zip(counts["source"], counts["split"], strict=True)))]
    table = table[list(CLASSES)]
    # Each source has a line for its name above the bars of its splits.
    headings = table.index.get_level_values("source").to_series().factorize()[0]
    places = np.arange(len(table)) + headings + 1
    lines = places[-1] + 1
    figure = Figure(figsize=(11.0, _LINE_INCHES * lines + 1.3), layout="constrained")
    shares, sizes = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    _share_bars(shares, table, places)
    _size_bars(sizes, table.sum(axis=1).to_numpy(), places)
    shares.set_yticks(places, [_split_name(place, carved) for place in table.index])
    for source in table.index.unique(level="source"):
        above = places[table.index.get_loc(source)][0] - 1
        shares.text(0, above, str(source), va="center", fontweight="bold", fontsize=10)
    shares.set_ylim(lines - 0.4, -0.6)
    handles = [Patch(color=c, label=n) for n, c in zip(CLASSES, CLASS_COLOURS, strict=True)]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(CLASSES), frameon=False)
    return _png(figure)


def native_px_figure(sources: pd.DataFrame, *, stages: Mapping[str, pd.DataFrame]) -> bytes:
    """Where the rows of each source lie by native size, then the train rows of each stage.

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
    names = [str(name) for table, _ in panels.values() for name in table.index]
    width = _CELL_INCHES * len(BUCKETS) + _names_inches(names, suffix=12)
    figure = Figure(figsize=(width, 0.36 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, (title, (table, percent)) in zip(axes, panels.items(), strict=True):
        _heat(axis, percent, top=100.0)
        for place, value in np.ndenumerate(percent):
            _cell(axis, place, _percent(float(value)), dark=value > 100 * _DARK)
        totals = table.sum(axis=1)
        axis.set_yticks(range(len(table)), [f"{name}  {totals[name]:,}" for name in table.index])
        axis.set_xticks(range(len(BUCKETS)), [_bucket_name(name) for name in BUCKETS])
        axis.set_title(title, fontsize=11, loc="left", pad=10)
    axes[-1].set_xlabel("native size, px")
    return _png(figure)


def duplicates_figure(cells: pd.DataFrame, *, sources: list[str]) -> bytes:
    """Exact and near duplicates within and between sources, counted as `relations.matrix` does."""
    side = _CELL_INCHES * len(sources) + 0.4
    names = _names_inches(sources, suffix=0)
    figure = Figure(
        figsize=(max(2 * side + names, 6.5), max(side + 0.7 * names, 2.4) + 0.7),
        layout="constrained",
    )
    axes = figure.subplots(1, len(KINDS), sharey=True)
    titles = {
        "exact": "exact: pictures that both hold\n(on the diagonal: that one holds twice)",
        "near": "near: pairs of pictures\n(on the diagonal: within one)",
    }
    for axis, kind in zip(axes, KINDS, strict=True):
        counts = _square(cells[cells["kind"] == kind], sources)
        _duplicates_panel(axis, counts, sources)
        axis.set_title(titles[kind], fontsize=10)
    return _png(figure)


def _share_bars(axis: Axes, table: pd.DataFrame, places: npt.NDArray[np.int64]) -> None:
    counts = table.to_numpy(np.float64)
    percent = 100 * counts / counts.sum(axis=1, keepdims=True)
    left = np.cumsum(percent, axis=1) - percent
    for column, colour in enumerate(CLASS_COLOURS):
        axis.barh(places, percent[:, column], left=left[:, column], color=colour, height=0.8,
                  edgecolor="white", linewidth=0.6)  # fmt: skip
    axis.set(xlim=(0, 100), xlabel="% of the rows")
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _size_bars(axis: Axes, rows: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> None:
    axis.barh(places, rows, color=_BAR_COLOUR, height=0.8)
    axis.set_xscale("log")
    # Room for the number behind the longest bar.
    axis.set(xlim=(0.8, rows.max() * 12), xlabel="rows (log scale)")
    for place, number in zip(places, rows, strict=True):
        axis.text(number * 1.15, place, f"{number:,}", va="center", fontsize=9)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _duplicates_panel(axis: Axes, counts: Numbers, sources: list[str]) -> None:
    # By magnitude: a source that is one large copy would leave all others white.
    strength = np.log10(np.maximum(counts, 1)) + (counts > 0)
    top = max(float(strength.max()), 1.0)
    lower = np.tri(len(sources), dtype=bool)
    _heat(axis, np.where(lower, strength, np.nan), top=top)
    for place, value in np.ndenumerate(counts):
        if lower[place]:
            _cell(axis, place, _short(int(value)), dark=float(strength[place]) > _DARK * top)
    axis.set_xticks(range(len(sources)), sources, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(sources)), sources)


def _square(cells: pd.DataFrame, sources: list[str]) -> Numbers:
    """Counts as the lower triangle of a matrix, (S, S)."""
    counts = np.zeros((len(sources), len(sources)))
    places = pd.Index(sources)
    low, high = (places.get_indexer(pd.Index(cells[f"source_{side}"])) for side in "ab")
    counts[high, low] = cells["pairs"]
    return counts


def _heat(axis: Axes, values: Numbers, *, top: float) -> None:
    axis.imshow(values, cmap="Blues", vmin=0, vmax=top, aspect="auto")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    rows, columns = values.shape
    axis.set_xticks(np.arange(1, columns) - 0.5, minor=True)
    axis.set_yticks(np.arange(1, rows) - 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=1.5)
    axis.tick_params(which="minor", length=0)


def _cell(axis: Axes, place: tuple[int, ...], text: str, *, dark: bool) -> None:
    row, column = place
    ink = "white" if dark else "black"
    axis.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)


def _names_inches(names: list[str], *, suffix: int) -> float:
    """Room for names beside a panel, with `suffix` more characters each."""
    return _CHARACTER_INCHES * (max(len(name) for name in names) + suffix)


def _split_name(place: tuple[str, str], carved: set[tuple[str, str]]) -> str:
    return f"{place[1]}, carved" if place in carved and place[1] != "train" else place[1]


def _bucket_name(bucket: str) -> str:
    return bucket.replace("lt", "< ").replace("ge", "≥ ").replace("_", " to ")


def _percent(value: float) -> str:
    if value == 0:
        return ""
    return f"{value:.0f}" if value >= 0.5 else "< 1"


def _short(number: int) -> str:
    if number == 0:
        return ""
    return f"{number:,}" if number < 10_000 else f"{number / 1000:,.0f}k"


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    # Without the name of the software the same numbers give the same bytes across versions.
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()

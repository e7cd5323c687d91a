"""The survey -> PNGs: rows by class, native sizes, duplicates between sources, and pairs of them.

By the contact sheets of pairs a person judges the search for duplicates. Of a group only one pair
is drawn, so that one picture of many copies does not fill a sheet.
"""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from stages.config import CLASSES
from stages.faces.sheet import pair_sheet
from stages.faces.store import FaceStore
from stages.records.views import BUCKETS, size_table
from stages.runtime.files import write_bytes
from stages.runtime.seed import derive_seed
from stages.splitting.frozen import FrozenManifest
from stages.survey.counts import class_table
from stages.survey.relations import KINDS, matrix
from stages.survey.survey import Survey

DUPLICATES, REVIEW = "duplicate_pairs.png", "review_pairs.png"
# Okabe and Ito's colours, which colour-blind readers tell apart, and a grey for Neutral.
CLASS_COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#E69F00", "#BBBBBB")
_BAR_COLOUR = "#56B4E9"
_LINE_INCHES, _CELL_INCHES, _CHARACTER_INCHES = 0.26, 0.72, 0.085
_PAIRS = 8


def write_figures(folder: Path, survey: Survey) -> None:
    """Write `rows.png`, `native_px.png` and `duplicates.png`."""
    frozen = survey.frozen
    sources = sorted(frozen.drawn["source"].unique())
    figures = {
        "rows": rows_figure(frozen.rows),
        "native_px": native_px_figure(frozen.rows, stages=survey.stages),
        "duplicates": duplicates_figure(matrix(survey.related), sources=sources),
    }
    for name, figure in figures.items():
        buffer = BytesIO()
        # Without the name of the software the same numbers give the same bytes across versions.
        figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
        write_bytes(folder / f"{name}.png", buffer.getvalue())


def rows_figure(rows: pd.DataFrame) -> Figure:
    """Draw a bar for each split of each source: shares of the classes, and rows on a log scale."""
    table = class_table(rows, "source", "split")
    totals = table.sum(axis=1).to_numpy(np.float64)
    # Each source has a line for its name above the bars of its splits.
    headings = table.index.get_level_values("source").to_series().factorize()[0]
    places = np.arange(len(table)) + headings + 1
    lines = places[-1] + 1
    figure = Figure(figsize=(11.0, _LINE_INCHES * lines + 1.3), layout="constrained")
    shares, sizes = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    percent = 100 * table.to_numpy() / totals[:, None]
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
    # Carved: no row is in the dataset's own split.
    is_own = (rows["split"] == rows["official"]).groupby([rows["source"], rows["split"]]).any()
    carved = {place for place in table.index if not is_own[place] and place[1] != "train"}
    shares.set_yticks(places, [place[1] + ", carved" * (place in carved) for place in table.index])
    for source in table.index.unique(level="source"):
        above = places[table.index.get_loc(source)][0] - 1
        shares.text(0, above, str(source), va="center", fontweight="bold", fontsize=10)
    shares.set_ylim(lines - 0.4, -0.6)
    handles = [Patch(color=c, label=n) for n, c in zip(CLASSES, CLASS_COLOURS, strict=True)]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(CLASSES), frameon=False)
    return figure


def native_px_figure(rows: pd.DataFrame, *, stages: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw where the rows of each source lie by native size, then the train rows of each stage."""
    table = size_table(rows)
    percent = 100 * table.to_numpy() / table.sum(axis=1).to_numpy()[:, None]
    panels = {"every row, % of its source": (table, percent)}
    for name, train in stages.items():
        table = size_table(train)
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
        shown = [(place, value) for place, value in np.ndenumerate(percent) if value]
        texts = {place: f"{value:.0f}" if value >= 0.5 else "< 1" for place, value in shown}
        _draw_heat(axis, percent, texts, top=100.0)
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
        table = cells[cells["kind"] == kind].pivot(
            index="source_b", columns="source_a", values="pairs"
        )
        counts = table.reindex(sources, columns=sources).fillna(0).to_numpy(np.float64)
        # By magnitude: a source that is one large copy would leave all others white.
        strength = np.log10(np.maximum(counts, 1)) + (counts > 0)
        top = max(float(strength.max()), 1.0)
        texts = {
            place: f"{n:,.0f}" if n < 10_000 else f"{n / 1000:,.0f}k"
            for place, n in np.ndenumerate(counts)
            if n
        }
        _draw_heat(axis, np.where(lower, strength, np.nan), texts, top=top)
        turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axis.set_xticks(range(len(sources)), sources, **turned)
        axis.set_yticks(range(len(sources)), sources)
        axis.set_title(titles[kind], fontsize=10)
    return figure


def _draw_heat(
    axis: Axes, values: NDArray[np.float64], texts: Mapping[tuple[int, ...], str], *, top: float
) -> None:
    axis.imshow(values, cmap="Blues", vmin=0, vmax=top, aspect="auto")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    rows, columns = values.shape
    axis.set_xticks(np.arange(1, columns) - 0.5, minor=True)
    axis.set_yticks(np.arange(1, rows) - 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=1.5)
    axis.tick_params(which="minor", length=0)
    for (row, column), text in texts.items():
        ink = "white" if values[row, column] > 0.6 * top else "black"
        axis.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)


def write_pair_sheets(folder: Path, frozen: FrozenManifest, *, standardized: Path) -> None:
    """Write `duplicate_pairs.png` and `review_pairs.png`; only the drawn images are read."""
    sheets = {DUPLICATES: duplicate_rows(frozen.duplicates), REVIEW: review_rows(frozen.review)}
    drawn = pd.concat([pairs for rows in sheets.values() for pairs in rows.values()])
    images = FaceStore(standardized).decode({*drawn["id_a"], *drawn["id_b"]})
    labels = frozen.drawn.set_index("id")["label"].to_dict()
    for name, rows in sheets.items():
        tiles = {
            title: [
                (images[pair["id_a"]], images[pair["id_b"]], caption(pair, labels))
                for pair in pairs.to_dict("records")
            ]
            for title, pairs in rows.items()
        }
        write_bytes(folder / name, pair_sheet(tiles))


def duplicate_rows(pairs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Choose the rows of the sheet of duplicates: title with the number of pairs, those to draw."""
    near = pairs["kind"] == "near"
    kinds = {
        "exact, across splits": ~near & (pairs["split_a"] != pairs["split_b"]),
        "near, from the lowest": near,
        "near, mirrored": near & (pairs["mirrored"] == "true"),
        "labels disagree": pairs["same_label"] == "false",
    }
    return {
        _title(name, chosen): (lowest if chosen is near else fair_draw)(pairs, chosen)
        for name, chosen in kinds.items()
    }


def review_rows(pairs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Choose the rows of the sheet for review, a hundredth of correlation each, downwards."""
    hundredth = np.floor(pairs["correlation"] * 100 + 1e-6).astype("int64")
    bands = {
        f"{number / 100:.2f} to {(number + 1) / 100:.2f}": hundredth == number
        for number in sorted(hundredth.unique(), reverse=True)
    } or {"for review": hundredth < 0}
    return {_title(name, band): fair_draw(pairs, band) for name, band in bands.items()}


def fair_draw(pairs: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """Draw a pair of each of a few groups by a hash of its ids: the same pairs on every machine."""
    few = pairs[chosen].drop_duplicates("group")
    ids = zip(few["id_a"], few["id_b"], strict=True)
    keys = np.array([derive_seed(0, "pairs", *both) for both in ids], np.int64)
    return few.iloc[np.argsort(keys)[:_PAIRS]]


def lowest(pairs: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """Choose the pairs of the lowest correlation, one of each of a few groups."""
    upwards = pairs[chosen].sort_values("correlation", kind="stable")
    return upwards.drop_duplicates("group").head(_PAIRS)


def caption(pair: Mapping[Any, Any], labels: Mapping[Any, str]) -> str:
    """Say `0.9412 mirrored, Happy / Sad, train / test`; what both share stands once."""
    alike = "exact" if pair["kind"] == "exact" else f"{pair['correlation']:.4f}"
    mirrored = " mirrored" if pair["mirrored"] == "true" else ""
    both = [(labels[pair["id_a"]], labels[pair["id_b"]]), (pair["split_a"], pair["split_b"])]
    words = [first if first == second else f"{first} / {second}" for first, second in both]
    return ", ".join([alike + mirrored, *words])


def _title(name: str, chosen: pd.Series) -> str:
    number = int(chosen.sum())
    return f"{name}\n{number:,} {'pair' if number == 1 else 'pairs'}"

"""Assessments -> PNGs: reliability, confusion and training curves. Drawn without a display."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.evaluation.assessment import FUSED_NAMES, Assessment
from stages.evaluation.blocks import Evidence
from stages.evaluation.metrics import Floats
from stages.evaluation.published import STAGES, PublishedTeacher
from stages.evaluation.reliability import expected_calibration_error, reliability_table
from stages.runtime.files import write_bytes
from stages.sources.labels import CLASSES

# Okabe and Ito's colours, which colour-blind readers tell apart; each teacher keeps its own.
TEACHER_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
FUSED_COLOUR = "#333333"
RAW_COLOUR = "#999999"
# The curve leaves out bins with fewer rows: their accuracy is noise. The counts show them.
LEAST_ROWS = 10
STAGE_STYLES = dict(zip(STAGES, ("--", "-"), strict=True))

Panel = tuple[str, str]  # key in the history, title


def write_figures(
    folder: Path,
    *,
    assessments: Sequence[Assessment],
    teachers: Sequence[PublishedTeacher],
    bins: int,
) -> None:
    """Write `reliability_<stage>.png` and `confusion_<stage>.png` per stage, and `training.png`."""
    for stage in STAGES:
        own = [one for one in assessments if one.model.stage == stage]
        write_bytes(folder / f"reliability_{stage}.png", reliability_figure(own, bins=bins))
        write_bytes(folder / f"confusion_{stage}.png", confusion_figure(own))
    write_bytes(folder / "training.png", training_figure(teachers))


def reliability_figure(assessments: Sequence[Assessment], *, bins: int) -> bytes:
    """A column per model of one stage: accuracy over confidence, and rows per bin below."""
    columns = len(assessments)
    figure = Figure(figsize=(3.5 * columns + 0.5, 5.2), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False, height_ratios=(3, 1), sharex=True)
    colours = model_colours(assessments)
    for column, one in enumerate(assessments):
        _reliability_panel(axes[0, column], one, bins=bins, colour=colours[one.model.name])
        _count_panel(axes[1, column], one.in_domain, bins=bins, colour=colours[one.model.name])
    axes[0, 0].set_ylabel("accuracy")
    axes[1, 0].set_ylabel("rows")
    figure.suptitle(_protocol(assessments[0]))
    return _png(figure)


def confusion_figure(assessments: Sequence[Assessment]) -> bytes:
    """A panel per model of one stage, two a line: share of each actual class called what."""
    lines = -(-len(assessments) // 2)
    figure = Figure(figsize=(11.0, 5.0 * lines + 0.5), layout="constrained")
    axes = figure.subplots(lines, 2, squeeze=False).flat
    for axis, one in zip(axes, assessments, strict=False):
        _confusion_panel(axis, one)
    for axis in list(axes)[len(assessments) :]:
        axis.set_axis_off()
    evidence = assessments[0].in_domain
    stage = assessments[0].model.stage
    figure.suptitle(
        f"{stage}: % of each actual class, {evidence.reported_on} rows, n = {len(evidence.rows)}"
    )
    return _png(figure)


def training_figure(teachers: Sequence[PublishedTeacher]) -> bytes:
    """Loss, validation NLL and validation macro-F1 over the epochs; dashed for the first stage."""
    panels: list[Panel] = [
        ("train_loss", "training loss"),
        ("nll", "validation NLL, raw"),
        ("macro_f1", "validation macro-F1"),
    ]
    figure = Figure(figsize=(12.5, 4.0), layout="constrained")
    axes = figure.subplots(1, len(panels))
    colours = teacher_colours([teacher.name for teacher in teachers])
    for axis, (key, title) in zip(axes, panels, strict=True):
        for teacher in teachers:
            _training_line(axis, teacher, key=key, colour=colours[teacher.name])
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        _plain(axis)
    axes[-1].set_ylim(0, 1)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return _png(figure)


def teacher_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each teacher, in the order in which the teachers come."""
    order = list(dict.fromkeys(names))
    return {name: TEACHER_COLOURS[at % len(TEACHER_COLOURS)] for at, name in enumerate(order)}


def model_colours(assessments: Sequence[Assessment]) -> dict[str, str]:
    """Teachers' colours, and one for what is fused."""
    names = [one.model.name for one in assessments]
    fused = dict.fromkeys(FUSED_NAMES.values(), FUSED_COLOUR)
    return teacher_colours([name for name in names if name not in fused]) | fused


def _title(one: Assessment) -> str:
    if len(one.calibration.weights) == 1:
        return one.model.name
    return f"{one.model.name} {'/'.join(f'{weight:g}' for weight in one.calibration.weights)}"


def _protocol(one: Assessment) -> str:
    evidence = one.in_domain
    return (
        f"{one.model.stage}: accuracy at each confidence, {evidence.reported_on} rows, "
        f"n = {len(evidence.rows)}; T fitted on {evidence.fitted_on}; "
        f"bins of {LEAST_ROWS} rows and more"
    )


def _reliability_panel(axis: Axes, one: Assessment, *, bins: int, colour: str) -> None:
    evidence = one.in_domain
    for name, probabilities, style in _before_after(evidence, colour):
        table = reliability_table(probabilities, evidence.targets, bins=bins)
        ece = expected_calibration_error(probabilities, evidence.targets, bins=bins)
        table = table[table["count"] >= LEAST_ROWS]
        axis.plot(table["confidence"], table["accuracy"], label=f"{name}: ECE {ece:.3f}", **style)
    axis.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":", zorder=1)
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.set_title(f"{_title(one)}, T = {one.calibration.temperature:.2f}", fontsize=11)
    axis.legend(loc="upper left", frameon=False, fontsize=9)
    _plain(axis)


def _count_panel(axis: Axes, evidence: Evidence, *, bins: int, colour: str) -> None:
    edges = np.linspace(0, 1, bins + 1)
    for name, probabilities, style in _before_after(evidence, colour):
        count = reliability_table(probabilities, evidence.targets, bins=bins)["count"]
        axis.stairs(count, edges, fill=name == "after", alpha=0.45 if name == "after" else 1.0,
                    color=style["color"], linewidth=1.3)  # fmt: skip
    axis.set_xlabel("confidence")
    _plain(axis)


def _before_after(evidence: Evidence, colour: str) -> list[tuple[str, Floats, dict[str, Any]]]:
    before = {"color": RAW_COLOUR, "marker": "o", "markersize": 4, "linewidth": 1.2, "mfc": "white"}
    after = {"color": colour, "marker": "o", "markersize": 5, "linewidth": 2.0}
    return [("before", evidence.pair.raw, before), ("after", evidence.pair.scaled, after)]


def _confusion_panel(axis: Axes, one: Assessment) -> None:
    evidence = one.in_domain
    size = len(CLASSES)
    rows = np.bincount(evidence.targets, minlength=size)
    cells = evidence.targets * size + evidence.pair.scaled.argmax(axis=1)
    count = np.bincount(cells, minlength=size * size).reshape(size, size)
    share = 100 * count / np.maximum(rows[:, None], 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(share):
        ink = "white" if value > 55 else "black"
        text = f"{value:.0f}" if count[row, column] else ""
        axis.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
    axis.set_xticks(range(size), CLASSES, rotation=45, ha="right")
    labels = [f"{name} ({n})" for name, n in zip(CLASSES, rows, strict=True)]
    axis.set_yticks(range(size), labels)
    axis.set(xlabel="predicted", ylabel="actual (rows)")
    correct = float(np.trace(count) / count.sum())
    axis.set_title(f"{_title(one)}, accuracy {correct:.3f}", fontsize=11)


def _training_line(axis: Axes, teacher: PublishedTeacher, *, key: str, colour: str) -> None:
    if key == "train_loss":
        points = [(entry["epoch"], entry[key]) for entry in teacher.history]
    else:
        points = [(entry["epoch"], entry["val"][key]) for entry in teacher.history if entry["val"]]
    axis.plot(
        [epoch for epoch, _ in points],
        [value for _, value in points],
        color=colour,
        linestyle=STAGE_STYLES[teacher.stage],
        marker="o",
        markersize=3,
        label=f"{teacher.stage} {teacher.name}",
    )


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    # Without the name of the software the same numbers give the same bytes across versions.
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()

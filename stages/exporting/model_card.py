"""What is exported -> model_card.md: data, licences, numbers with intervals, limits and use.

Every number is taken from a file that a stage wrote; none of them is of this machine, so that equal
exports have equal cards.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.calibrating.calibration import Calibration
from stages.config import ExpwSource, Source
from stages.exporting.bundle import ENSEMBLE, Bundle
from stages.exporting.onnx_file import lowest_ir_version
from stages.exporting.scores import Block, Scores
from stages.runtime.files import write_text
from stages.scoring.confidence import FLOOR_MEANS, floor_cell

CARD_FILE = "model_card.md"

# The oldest onnxruntime in which files of this opset gave the same probabilities. Layer
# normalisation of half floats came with 1.17.
_TRIED_OPSET = 18
_RUNTIMES = ", for onnxruntime 1.14 or later; fp16 files for 1.17 or later"
_MARKS = re.compile(r"[\\`\[\]<>|&]")
_METRICS = ("accuracy", "macro_f1", "nll", "ece")
_COLUMNS = (*_METRICS, "ece floor (95 %)")


@dataclass(frozen=True)
class Facts:
    """All that a card says: `rows` by stage and source, `report` and `labels` as exported."""

    bundle: Bundle
    opset: int
    sources: Mapping[str, Source]
    rows: Mapping[str, Mapping[str, int]]
    scores: Mapping[str, Scores]
    report: Mapping[str, Any]
    labels: Mapping[str, Any]


def write_model_card(folder: Path, facts: Facts) -> None:
    """Write the card of what `folder` holds."""
    parts = (_models, _use, _data, _numbers, _gates, _variants, _labels, _limits)
    text = "\n".join("\n".join(part(facts)) + "\n" for part in parts)
    write_text(folder / CARD_FILE, text)


def _models(facts: Facts) -> Iterator[str]:
    bundle, card = facts.bundle, facts.bundle.cards[0]
    yield "# Facial-expression teachers"
    yield ""
    yield f"Input: one face, {card.image_size} px. Classes, in order: {', '.join(card.classes)}."
    yield (
        f"From {bundle.stage}, training version {card.training_version}, manifest "
        f"`{card.manifest_sha256[:12]}`, calibration `{bundle.calibration_sha256[:12]}` "
        f"(temperature {_temperature(bundle.calibration)}, mixture of "
        f"{bundle.calibration.space}, fusion `{bundle.fusion}`)."
    )
    yield f"Why this stage: {bundle.verdict}"
    if reason := bundle.calibration.temperature_no_fit:
        yield ""
        yield f"**The probabilities are not calibrated**: no temperature could be fitted, {reason}."
    yield ""
    yield from _table(
        ("teacher", "backbone", "weight in the ensemble", "temperature alone", "weights SHA-256"),
        (
            (
                name, member.card.backbone, f"{bundle.weights[name]:g}",
                _temperature(member.calibration), f"`{member.card.weights_sha256[:12]}`",
            )
            for name, member in bundle.members.items()
        ),
    )  # fmt: skip


def _use(_facts: Facts) -> Iterator[str]:
    yield "## Intended use"
    yield ""
    yield "Teaching smaller models, and research on and demonstrations of expression recognition."
    yield "`reference.py` beside this card uses a file as its metadata say, from photo and box on."
    yield "It needs Python 3.8 or later."
    yield ""
    yield "Not for decisions about people. The models name the expression that annotators saw in a"
    yield "picture; what a person feels is not in it."


def _data(facts: Facts) -> Iterator[str]:
    yield "## Data"
    yield ""
    yield "Rows that the teachers learnt from, and the licences as the recipe declares them:"
    yield ""
    stages = list(facts.rows)
    yield from _table(
        ("dataset", "format", *(f"{stage}, rows" for stage in stages), "licence"),
        (
            (name, source.format, *counts, _plain(source.licence) or "**not declared**")
            for name, source, counts in (
                (name, source, [f"{_rows_of(name, source, facts.rows[s]):,}" for s in stages])
                for name, source in facts.sources.items()
            )
        ),
    )
    if len(stages) > 1:
        yield ""
        yield f"{stages[1]} starts from {stages[0]}'s weights unless its `init_from` is null."


def _rows_of(name: str, source: Source, rows: Mapping[str, int]) -> int:
    names = (f"{name}_hq", f"{name}_lq") if isinstance(source, ExpwSource) else (name,)
    return sum(rows.get(each, 0) for each in names)


def _numbers(facts: Facts) -> Iterator[str]:
    about = facts.scores[ENSEMBLE].in_domain["about"][0]
    yield "## Numbers"
    yield ""
    yield (
        f"On {about['n']:,} rows of {about['reported_on']}, by {about['label_rule']} labels; "
        f"calibrated on {about['fitted_on']}. In brackets 95 % bootstrap intervals by duplicate "
        "group. "
        f"{FLOOR_MEANS}"
    )
    yield ""
    rows = (
        (name, one["probabilities"], *_values(one))
        for name, scores in facts.scores.items()
        for one in scores.in_domain["scores"]
    )
    yield from _table(("model", "probabilities", *_COLUMNS), rows)
    yield ""
    yield f"The {ENSEMBLE} by class:"
    yield ""
    classes = facts.scores[ENSEMBLE].in_domain["per_class"]
    yield from _table(
        ("class", "n", "f1"),
        (
            (one["class"], one["n"], _with_interval(one, "f1") if one["n"] else "no rows")
            for one in classes
        ),
    )


def _gates(facts: Facts) -> Iterator[str]:
    yield "## On other data"
    yield ""
    gates = facts.scores[ENSEMBLE].gates
    if not gates:
        yield "Not measured: the recipe has no gate view."
        return
    yield (
        f"The {ENSEMBLE}, calibrated. Left out are rows that the teachers were trained on, chosen "
        "by or calibrated on, in their stage or the one that they started from, and copies of them."
    )
    yield ""
    yield from _table(
        ("gate", "n", "in domain", *_COLUMNS), (_gate(*gate) for gate in gates.items())
    )
    for name, block in gates.items():
        if block["in_domain"]:
            yield ""
            yield (
                f"**{block['in_domain']:,} of the {block['n']:,} rows of {name} are in domain**: "
                "the filter of the stage admits them, so they say nothing about other data."
            )


def _gate(name: str, block: Block) -> Sequence[object]:
    if not block["n"]:
        return (name, 0, 0, *("" for _ in _COLUMNS))
    scaled = next(one for one in block["scores"] if one["probabilities"] == "scaled")
    return (name, block["n"], block["in_domain"], *_values(scaled))


def _variants(facts: Facts) -> Iterator[str]:
    held = facts.report[ENSEMBLE]["held_out"]
    yield "## Files"
    yield ""
    yield (
        f"Opset {facts.opset}, IR version {lowest_ir_version(facts.opset)}, any batch size"
        f"{_RUNTIMES if facts.opset == _TRIED_OPSET else ''}. Losses are against the fp32 file, on "
        f"{held['n']:,} {held['split']} rows of all sources (below 0 is a gain); speeds are in "
        "`metrics/export.json`."
    )
    yield ""
    rows = []
    for name, one in facts.report.items():
        accuracy = f"accuracy {_with_interval(one['held_out'], 'accuracy')}"
        rows.append((f"`{name}.onnx`", _megabytes(one), accuracy, ""))
        for variant in (key for key in ("fp16", "int8") if key in one):
            loss = one[variant]
            rows.append((
                f"`{name}.{variant}.onnx`", _megabytes(loss), _with_interval(loss, "accuracy_loss"),
                loss["top_class_changes"],
            ))  # fmt: skip
    yield from _table(("file", "MB", "loss of accuracy", "changed top classes"), rows)


def _labels(facts: Facts) -> Iterator[str]:
    labels, held = facts.labels, facts.report[ENSEMBLE]["held_out"]
    yield "## Soft labels"
    yield ""
    yield (
        f"{labels['n']:,} rows; mean top probability {labels['mean_top_probability']:.3f}, on rows "
        f"of {held['split']} {held['mean_top_probability']:.3f}. The calibration temperature is "
        f"applied already; `distillation_temperature` {labels['distillation_temperature']:g} is "
        "not."
    )
    if labels["nearly_one_hot"]:
        yield "**Nearly one-hot: a student learns little more from them than from the labels.**"


def _limits(facts: Facts) -> Iterator[str]:
    scarce = min(facts.scores[ENSEMBLE].in_domain["per_class"], key=lambda one: one["n"])
    yield "## Limits"
    yield ""
    yield "- Seven classes and nothing else: an expression that is none of them gets one of them."
    yield f"- {scarce['class']} has the fewest rows behind its numbers: {scarce['n']:,}."
    yield "- Labels are what annotators chose, and datasets disagree on them."
    yield "- Not measured: differences by age, sex, skin colour or culture, video, occlusion."
    if not facts.bundle.calibration.temperature_no_fit:
        yield "- Probabilities are calibrated for faces like those above, cut as the metadata says."
    if seen := facts.labels["by_seen"].get("seen"):
        yield (
            f"- {seen['n']:,} soft labels are of rows that a teacher has learnt (`seen` in their "
            "index). The temperature was fitted on other rows: labels of learnt rows are "
            f"over-confident. Their mean top probability is {seen['mean_top_probability']:.3f}."
        )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield _line(head)
    yield _line(["---"] * len(head))
    for row in rows:
        yield _line(row)


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _plain(text: str | None) -> str:
    """Text from elsewhere as a table's cell: in one line; no cell, link or HTML begins in it."""
    return _MARKS.sub(lambda mark: f"&#{ord(mark[0])};", " ".join((text or "").split()))


def _temperature(calibration: Calibration) -> str:
    if calibration.temperature_no_fit:
        return f"{calibration.temperature:g}, no fit"
    return f"{calibration.temperature:.3f}"


def _values(row: Mapping[str, Any]) -> list[str]:
    """The cells of `_COLUMNS`."""
    return [*(_with_interval(row, metric) for metric in _METRICS), floor_cell(row)]


def _with_interval(row: Mapping[str, Any], metric: str) -> str:
    low, high = row[f"{metric}_95"]
    return f"{row[metric]:.3f} [{low:.3f}, {high:.3f}]"


def _megabytes(one: Mapping[str, Any]) -> str:
    return f"{one['bytes'] / 1e6:.1f}"

"""What is exported -> model_card.md: data, licences, numbers with intervals, limits and use.

Every number is taken from a file that a stage wrote; none of them is of this machine, so that equal
exports have equal cards. The text is in model_card.md.j2.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import jinja2
import pandas as pd

from stages.calibrating.score_table import FLOORS, Score, number, pick
from stages.config import CLASSES, ExpwSource, Source
from stages.exporting.bundle import Bundle
from stages.exporting.export_files import ENSEMBLE, ParityFile, SoftLabels
from stages.exporting.onnx_file import lowest_ir_version
from stages.modeling.card import TeacherCard
from stages.runtime.errors import UserError
from stages.runtime.files import read_json, write_text
from stages.scoring.confidence import FLOOR_MEANS

CARD_FILE = "model_card.md"

_MARKS = re.compile(r"[\\`\[\]<>|&]")
_METRICS = ("accuracy", "macro_f1", "nll", "ece", *FLOORS)


def write_model_card(
    folder: Path,
    bundle: Bundle,
    scores: pd.DataFrame,
    *,
    opset: int,
    sources: Mapping[str, Source],
    rows: Mapping[str, Mapping[str, int]],
    parity: ParityFile,
    labels: SoftLabels,
) -> None:
    """Write the card of what `folder` holds.

    `scores` are those of the bundle; `rows` are the training rows by stage and source.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        # No HTML: `plain` escapes text from elsewhere for a Markdown table.
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    headline = bundle.fitted.headline_rows
    ensemble = pick(scores, model=bundle.fitted.fused_model, label_rule="majority")
    reported = pick(ensemble, rows=headline, probabilities="calibrated")
    whole = pick(ensemble, by="all", probabilities="calibrated")
    text = environment.get_template(f"{CARD_FILE}.j2").render(
        bundle=bundle,
        sources=sources,
        counts={name: _row_counts(name, source, rows) for name, source in sources.items()},
        stages=list(rows),
        headline=headline,
        num_rows=number(reported, "classes", by="all").n,
        fitted_on=reported["fitted_on"].iloc[0],
        floor_means=FLOOR_MEANS,
        numbers=[
            (name, probabilities, _metrics(pick(scores, model=model), headline, probabilities))
            for name, model in exported_names(bundle).items()
            for probabilities in ("raw", "calibrated")
        ],
        classes={name: number(reported, "f1", by="class", part=name) for name in CLASSES},
        gates={
            place.removeprefix("gate:"): (
                in_domain := number(whole, "in_domain", rows=place),
                in_domain.n and _metrics(ensemble, place, "calibrated"),
            )
            for place in whole["rows"].unique()
            if place.startswith("gate:")
        },
        opset=opset,
        ir_version=lowest_ir_version(opset),
        parity=parity.models,
        ensemble=ENSEMBLE,
        megabytes=lambda file: f"{(folder / file).stat().st_size / 1e6:.1f}",
        labels=labels,
        plain=_plain,
    )
    write_text(folder / CARD_FILE, text)


def exported_names(bundle: Bundle) -> dict[str, str]:
    """Map the names of exported models to those in the score table, the ensemble first."""
    return {ENSEMBLE: bundle.fitted.fused_model} | {name: name for name in bundle.teachers}


def scores_of(scores: pd.DataFrame, bundle: Bundle) -> pd.DataFrame:
    """Keep the scores of the exported stage.

    Raises:
        UserError: if a model is missing, or was scored with other weights (incident N6).
    """
    stage = scores[scores["stage"] == bundle.fitted.stage]
    for name, model in exported_names(bundle).items():
        scored = stage.loc[stage["model"] == model, "weights_sha256"].unique().tolist()
        if scored != [bundle.fitted.taken[model].weights_sha256]:
            problem = "scores other weights than those in" if scored else "is missing, but is in"
            raise UserError(
                f"models/calibrated/scores.csv: {bundle.fitted.stage}: {name}: {problem} "
                f"models/{bundle.fitted.stage}; run `dvc repro calibrate`"
            )
    return stage


def training_rows(models: Path, card: TeacherCard) -> dict[str, dict[str, int]]:
    """Read on how many rows of which source a teacher learnt, in its stage and the one before.

    Raises:
        UserError: if a report is missing.
    """
    earlier = [] if card.started_from is None else [card.started_from.stage]
    rows = {}
    for stage in (*earlier, card.stage):
        path = models / stage / card.teacher / "alignmentreport.json"
        if not path.is_file():
            shown = "/".join(path.parts[-3:])
            raise UserError(f"models/{shown}: missing; `dvc repro {stage}@{card.teacher}` makes it")
        rows[stage] = read_json(path)["train"]["after"]["by_source"]
    return rows


def _row_counts(name: str, source: Source, rows: Mapping[str, Mapping[str, int]]) -> list[int]:
    parts = (f"{name}_hq", f"{name}_lq") if isinstance(source, ExpwSource) else (name,)
    return [sum(by_source.get(part, 0) for part in parts) for by_source in rows.values()]


def _metrics(scores: pd.DataFrame, rows: str, probabilities: str) -> dict[str, Score]:
    """Select what the card shows of some rows; without rows there are no numbers."""
    chosen = pick(scores, rows=rows, by="all", label_rule="majority", probabilities=probabilities)
    return {metric: number(chosen, metric) for metric in _METRICS}


def _plain(text: str | None) -> str:
    """Make text from elsewhere a table's cell: one line in which no cell, link or HTML begins."""
    return _MARKS.sub(lambda mark: f"&#{ord(mark[0])};", " ".join((text or "").split()))

"""Gates beside the in-domain rows, and the tables of the stage that is taken."""

from collections.abc import Iterable, Iterator, Sequence

from stages.reporting.elements import paragraph, section, table, wrapped
from stages.reporting.finished import Block, Finished, in_domain
from stages.reporting.markup import Content, Markup
from stages.reporting.wording import (
    about,
    counted,
    fitted_on,
    left_out,
    scored,
    with_interval,
)
from stages.scoring.confidence import FLOOR_MEANS, floor_cell

_MAIN = (("accuracy", "accuracy"), ("macro_f1", "macro-F1"), ("nll", "NLL"), ("ece", "ECE"))
_CHOOSING = (("accuracy", "accuracy"), ("macro_f1", "macro-F1"), ("nll", "NLL"))
_SCORES = (
    ("accuracy", "accuracy"), ("balanced_accuracy", "balanced accuracy"), ("macro_f1", "macro-F1"),
    ("nll", "NLL"), ("brier", "Brier"), ("ece", "ECE"),
)  # fmt: skip
_FLOOR = "ECE floor (95 %)"
_ROW_SETS = {
    "all": "all",
    "duplicate_free": "duplicate-free",
    "official": "official",
    "official_duplicate_free": "official, duplicate-free",
}


def gates_section(run: Finished) -> Markup:
    """The in-domain rows and each gate under each other; or that there is no gate."""
    text = (
        "A gate is a view of the recipe, scored beside the in-domain rows. It speaks of other data "
        "only as far as its sources are not among those that the stage trains on. "
        "Rows that the model was trained or chosen on do not count; neither do those of the stage "
        "that it started from. In domain are the rows that the stage's own filter admits."
    )
    if not run.best["gates"]:
        text = "The recipe has no gate view, so nothing here says how the models do on other data."
    return section(
        "gates", "In domain and at the gates", paragraph(text), _gate_table(run), _left_out(run)
    )


def tables_section(run: Finished) -> Markup:
    """All metrics of all models of the stage; then the exported one by class, source and size."""
    block = in_domain(run.best)
    model = f"{run.verdict['model']} of {run.verdict['stage']}, calibrated."
    note = f"{about(block)}. Left out: {left_out(block['left_out'])}."
    names = [*(name for _, name in _MAIN), _FLOOR]
    return section(
        "tables",
        "Tables",
        _models(run),
        _by_folds(run),
        table(
            "By class.", f"{model} {note}", ("class", "n", "F1"),
            [
                (r["class"], counted(r["n"]), with_interval(r, "f1") if r["n"] else "no rows")
                for r in block["per_class"]
            ],
        ),
        table(
            "By source.", f"{model} {note}", ("source", "classes", "n", *names),
            _parts(block["per_source"], "source"),
        ),
        table(
            "By native size.", f"{model} Shorter side of the face in its photograph, px. {note}",
            ("native px", "classes", "n", *names), _parts(block["per_native_px"], "native_px"),
        ),
        table(
            "Official and duplicate-free rows.",
            f"{model} Official rows are in the dataset's own split; duplicate-free rows had no "
            "copy in another split. Rows that were trained on are in these sets. Of "
            f"{block['about'][0]['reported_on']}; fitted on {block['about'][0]['fitted_on']}; "
            "majority labels.",
            ("rows", "classes", "n", *names),
            _parts([r | {"rows": _ROW_SETS[r["rows"]]} for r in block["row_sets"]], "rows"),
        ),
    )  # fmt: skip


def _gate_table(run: Finished) -> Markup:
    return table(
        "Gates beside in-domain.",
        f"{run.verdict['stage']}, calibrated on {fitted_on(block for *_, block in _places(run))}; "
        f"majority labels. {FLOOR_MEANS}",
        ("model", "rows of", "n", "in domain", *(name for _, name in _MAIN), _FLOOR),
        [_row(*place) for place in _places(run)],
        words=2,
    )


def _left_out(run: Finished) -> Markup:
    rows = [
        (model, place, wrapped(one["reason"]), counted(one["rows"]))
        for model, place, block in _places(run)
        for one in block["left_out"]
        if one["rows"]
    ]
    if not rows:
        return paragraph("No row was left out of these numbers.")
    headers = ("model", "rows of", "reason", "rows")
    return table("Left out.", "Rows that do not count above.", headers, rows, words=3)


def _places(run: Finished) -> Iterator[tuple[str, str, Block]]:
    """Model, place and block: in domain, then the gates."""
    for model in (run.verdict["model"], *run.teachers):
        block = in_domain(run.models[model])
        yield model, f"{block['about'][0]['reported_on']}, in domain", block
        for name, gate in run.models[model]["gates"].items():
            yield model, f"gate {name}", gate


def _row(model: str, place: str, block: Block) -> Sequence[Content]:
    if not block["n"]:
        return (model, place, 0, 0, *("no rows" for _ in (*_MAIN, _FLOOR)))
    scaled = scored(block, "scaled")
    values = (with_interval(scaled, metric) for metric, _ in _MAIN)
    # All of the rows in domain are; a gate's are counted.
    counts = (counted(block["n"]), counted(block.get("in_domain", block["n"])))
    return (model, place, *counts, *values, floor_cell(scaled))


def _models(run: Finished) -> Markup:
    block = in_domain(run.best)
    rows = [
        (
            name,
            one["probabilities"],
            counted(one["n"]),
            *(with_interval(one, metric) for metric, _ in _SCORES),
            floor_cell(one),
        )
        for name, numbers in run.models.items()
        for one in in_domain(numbers)["scores"]
    ]
    return table(
        f"Scores of all models of {run.verdict['stage']}.",
        f"Raw, and calibrated (scaled). Rows of {block['about'][0]['reported_on']}; fitted on "
        f"{fitted_on(in_domain(one) for one in run.models.values())}; majority labels.",
        ("model", "probabilities", "n", *(name for _, name in _SCORES), _FLOOR),
        rows,
        words=2,
    )


def _by_folds(run: Finished) -> Markup:
    """What models are chosen by, where the tables above are of test."""
    if not run.best.get("test"):
        return paragraph("These rows are val by folds: calibrate.fusion is to be chosen by them.")
    rows = [
        (name, counted(one["val"]["n"]), *(with_interval(one["val"], m) for m, _ in _CHOOSING))
        for name, one in run.models.items()
        if one["val"]["n"]
    ]
    if not rows:
        return paragraph("Val has fewer groups than folds: no model can be chosen by it.")
    return table(
        f"Models of {run.verdict['stage']} on val.",
        "calibrate.fusion and recipes are to be chosen by these, never by test. Calibrated; fitted "
        f"on {fitted_on(one['val'] for one in run.models.values())}; majority labels.",
        ("model", "n", *(name for _, name in _CHOOSING)),
        rows,
    )


def _parts(rows: Iterable[Block], key: str) -> Iterator[Sequence[Content]]:
    for row in rows:
        values = (with_interval(row, metric) for metric, _ in _MAIN)
        yield (row[key], f"{row['classes']} of 7", counted(row["n"]), *values, floor_cell(row))

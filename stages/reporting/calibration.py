"""Temperatures, and how far probabilities are from hard labels and from the crowd's votes."""

from collections.abc import Callable, Iterator, Sequence

from stages.calibrating.published import STAGES
from stages.reporting.elements import paragraph, section, table, wrapped
from stages.reporting.finished import Block, Finished, in_domain
from stages.reporting.markup import Content, Markup
from stages.reporting.wording import (
    counted,
    difference,
    fitted_on,
    scored,
    temperature,
    with_interval,
)
from stages.scoring.confidence import FLOOR_MEANS, floor_cell

Rows = Callable[[Block], Iterator[Sequence[Content]]]

_VOTES = {
    "raw": "raw",
    "scaled": "scaled to votes",
    "scaled_to_majority": "scaled to majority labels",
}


def calibration_section(run: Finished) -> Markup:
    """What was fitted for every model of both stages, and its calibration before and after."""
    return section(
        "calibration",
        "Calibration: hard labels and crowd",
        paragraph(
            "A perfect predictor of the crowd's votes looks under-confident against majority "
            "labels, so the two are fitted and reported apart. The temperature for students of "
            "soft labels is a third one and not fitted."
        ),
        table(
            "What was fitted.",
            "On rows of val that no teacher was trained on, by majority labels and by votes. A "
            "class bias is adopted, and fitted together with the temperature, only if it lowers "
            "cross-validated NLL; what it changes is of val rows by folds. Rows that fit no "
            "temperature leave it at 1, without a bias. The other fusions stand in "
            "metrics/teachers.json.",
            (
                "stage", "model", "n", "temperature (majority)", "n with votes",
                "temperature (votes)", "accuracy by a bias", "macro-F1 by a bias", "class bias",
            ),
            _everyone(run, _fit),
            words=2,
        ),
        table(
            "Against majority labels.",
            f"Fitted on {fitted_on(in_domain(one) for one in _models(run))}, reported on "
            f"{in_domain(run.best)['about'][0]['reported_on']}; majority labels. "
            f"{FLOOR_MEANS}",
            (
                "stage", "model", "n", "ECE, raw", "its floor (95 %)", "ECE, scaled",
                "its floor (95 %)", "NLL, raw", "NLL, scaled",
            ),
            _everyone(run, _hard),
            words=2,
        ),
        _votes(run),
    )  # fmt: skip


def _votes(run: Finished) -> Markup:
    if not any(one["votes"]["n"] for one in _models(run)):
        return paragraph("No row that is reported on has votes: crowd calibration does not apply.")
    (line,) = run.best["votes"]["about"]
    return table(
        "Against the crowd's votes.",
        f"Rows with votes; fitted on {fitted_on(one['votes'] for one in _models(run))}, reported "
        f"on {line['reported_on']}. KL of "
        "the votes to the probabilities in nats.",
        ("stage", "model", "probabilities", "n", "KL"),
        _everyone(run, _crowd),
        words=3,
    )


def _models(run: Finished) -> Iterator[Block]:
    """All that are shown, of both stages."""
    return (run.numbers[stage][name] for stage in STAGES for name in run.shown)


def _everyone(run: Finished, rows_of: Rows) -> Iterator[Sequence[Content]]:
    for stage in sorted(STAGES, key=lambda one: one != run.verdict["stage"]):
        for name in run.shown:
            for row in rows_of(run.numbers[stage][name]):
                yield (stage, name, *row)


def _fit(model: Block) -> Iterator[Sequence[Content]]:
    (fit,) = model["fit"]
    refinement = fit["refinement"]
    votes: Content = "no such fit"
    if fit["votes_temperature"] is not None:
        votes = temperature(fit, "votes_temperature")
    changes: list[Content] = ["not tried"] * 2
    if refinement["accuracy_change"] is not None:
        changes = [difference(refinement, f"{one}_change") for one in ("accuracy", "macro_f1")]
    yield (
        counted(fit["n"]),
        temperature(fit),
        counted(fit["votes_n"]),
        votes,
        *changes,
        wrapped(f"{'adopted' if refinement['adopted'] else 'not adopted'}: {refinement['reason']}"),
    )


def _hard(model: Block) -> Iterator[Sequence[Content]]:
    block = in_domain(model)
    raw, scaled = scored(block, "raw"), scored(block, "scaled")
    rows = (raw, scaled)
    errors = [cell for row in rows for cell in (with_interval(row, "ece"), floor_cell(row))]
    losses = [with_interval(row, "nll") for row in rows]
    yield (counted(block["n"]), *errors, *losses)


def _crowd(model: Block) -> Iterator[Sequence[Content]]:
    if not model["votes"]["n"]:
        yield ("", 0, "no rows")
        return
    for row in model["votes"]["scores"]:
        kl = with_interval(row, "kl")
        yield (_VOTES[row["probabilities"]], counted(row["n"]), kl)

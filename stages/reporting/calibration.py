"""Temperatures, and how far probabilities are from hard labels and from the crowd's votes."""

from collections.abc import Callable, Iterator, Sequence

from stages.evaluation.published import STAGES
from stages.reporting.elements import paragraph, section, table, wrapped
from stages.reporting.finished import Block, Finished, in_domain
from stages.reporting.markup import Content, Markup
from stages.reporting.wording import counted, difference, estimate, number, scored, with_interval

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
            "cross-validated NLL; what it changes is of val rows by folds. The other fusions stand "
            "in metrics/teachers.json.",
            (
                "stage", "model", "n", "temperature (majority)", "n with votes",
                "temperature (votes)", "accuracy by a bias", "macro-F1 by a bias",
                "debiased ECE by a bias", "class bias",
            ),
            _everyone(run, _fit),
            words=2,
        ),
        table(
            "Against majority labels.",
            f"Fitted on {in_domain(run.best)['about'][0]['fitted_on']}, reported on "
            f"{in_domain(run.best)['about'][0]['reported_on']}; majority labels.",
            ("stage", "model", "n", "ECE, raw", "ECE, scaled", "NLL, raw", "NLL, scaled"),
            _everyone(run, _hard),
            words=2,
        ),
        _votes(run),
    )  # fmt: skip


def _votes(run: Finished) -> Markup:
    if not any(one["votes"]["n"] for stage in STAGES for one in run.numbers[stage].values()):
        return paragraph("No row that is reported on has votes: crowd calibration does not apply.")
    (line,) = run.best["votes"]["about"]
    return table(
        "Against the crowd's votes.",
        f"Rows with votes; fitted on {line['fitted_on']}, reported on {line['reported_on']}. KL of "
        "the votes to the probabilities in nats; the soft ECE takes the share of votes for the "
        "predicted class as its truth.",
        ("stage", "model", "probabilities", "n", "KL", "soft ECE"),
        _everyone(run, _crowd),
        words=3,
    )


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
        votes = estimate(fit["votes_temperature"], fit["votes_temperature_95"])
    changes: list[Content] = ["not tried"] * 3
    if refinement["accuracy_change"] is not None:
        without, refined = (refinement[f"ece_debiased_{one}"] for one in ("without", "with"))
        changes = [
            difference(refinement, "accuracy_change"),
            difference(refinement, "macro_f1_change"),
            f"{number(without)} to {number(refined)}",
        ]
    yield (
        counted(fit["n"]),
        estimate(fit["temperature"], fit["temperature_95"]),
        counted(fit["votes_n"]),
        votes,
        *changes,
        wrapped(f"{'adopted' if refinement['adopted'] else 'not adopted'}: {refinement['reason']}"),
    )


def _hard(model: Block) -> Iterator[Sequence[Content]]:
    block = in_domain(model)
    raw, scaled = scored(block, "raw"), scored(block, "scaled")
    cells = [with_interval(row, metric) for metric in ("ece", "nll") for row in (raw, scaled)]
    yield (counted(block["n"]), *cells)


def _crowd(model: Block) -> Iterator[Sequence[Content]]:
    if not model["votes"]["n"]:
        yield ("", 0, "no rows", "no rows")
        return
    for row in model["votes"]["scores"]:
        cells = (with_interval(row, metric) for metric in ("kl", "soft_ece"))
        yield (_VOTES[row["probabilities"]], counted(row["n"]), *cells)

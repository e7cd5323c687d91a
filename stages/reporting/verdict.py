"""What a reader must know first: which stage is taken and why, and how good the model is."""

from collections.abc import Iterator

from stages.calibrating.published import STAGES
from stages.reporting.elements import paragraph, section, table, tiles
from stages.reporting.finished import Block, Finished, in_domain
from stages.reporting.markup import Content, Markup, tag
from stages.reporting.wording import (
    about,
    counted,
    difference,
    fitted_on,
    number,
    scored,
    temperature,
    with_interval,
)
from stages.scoring.confidence import floor_words


def verdict_section(run: Finished) -> Markup:
    """The verdict in words, the headline of the model that is exported, the stages compared."""
    verdict = run.verdict
    says, _, _ = verdict["says"].partition(". ")
    return section(
        "verdict",
        "Verdict",
        tag("p", tag("strong", f"{says}."), class_="lead"),
        paragraph(*_why(run)),
        paragraph(
            "A gain is real if on val the macro-F1 rises beyond its 95 % interval and NLL does not "
            "rise beyond its own. Test and gates report it and have no part in the choice "
            f"(calibrate.stage: {verdict['asked']}).",
        ),
        tag("h3", f"The exported model: {verdict['model']} of {verdict['stage']}"),
        tiles(_headline(run)),
        _compared(run),
        _cost(run),
    )


def _why(run: Finished) -> Iterator[Content]:
    """The differences that the choice hangs on, and the same on test, as sentences."""
    first, second = STAGES
    model = run.verdict["model"]
    for name, block in _places(run.numbers[f"{second}_vs_{first}"][model]):
        if not block["n"]:
            yield f"On {name} there are too few rows that both stages admit. "
            continue
        yield f"On {counted(block['n'])} rows of {name}, {second} changes the macro-F1 of "
        yield f"{model} by "
        yield difference(block, "macro_f1_gain")
        yield " and its NLL by "
        yield difference(block, "nll_change")
        yield ". "


def _headline(run: Finished) -> Iterator[tuple[str, Content, str]]:
    block = in_domain(run.best)
    raw, scaled, note = scored(block, "raw"), scored(block, "scaled"), about(block)
    yield "Accuracy", with_interval(scaled, "accuracy"), note
    yield "Macro-F1", with_interval(scaled, "macro_f1"), note
    yield "ECE, calibrated", with_interval(scaled, "ece"), f"{floor_words(scaled)}; {note}"
    before = f"{floor_words(raw)}; before calibration; {_raw(note)}"
    yield "ECE, raw", with_interval(raw, "ece"), before
    yield "NLL, calibrated", with_interval(scaled, "nll"), f"raw {number(raw['nll'])}; {note}"
    (fit,) = run.best["fit"]
    done = "fitted" if fit["temperature_no_fit"] is None else "tried"
    yield (
        "Temperature",
        temperature(fit),
        f"{done} on {counted(fit['n'])} rows of {fit['fitted_on']}; majority labels",
    )


def _raw(note: str) -> str:
    """The same rows and rule, without what was fitted."""
    rows, _, rule = note.split("; ")
    return f"{rows}; {rule}"


def _compared(run: Finished) -> Markup:
    first, second = STAGES
    compared = run.numbers[f"{second}_vs_{first}"]
    return table(
        f"{second} minus {first}.",
        "Paired, on the rows that both stages admit, calibrated; majority labels. A macro-F1 "
        "gain above 0 and an NLL change below 0 speak for the second stage; an interval that holds "
        "0 says nothing.",
        ("model", "rows of", "n", "fitted on", "macro-F1 gain", "NLL change"),
        [
            _difference(model, name, block)
            for model in (run.verdict["model"], *run.teachers)
            for name, block in _places(compared[model])
        ],
        words=2,
    )


def _places(compared: Block) -> Iterator[tuple[str, Block]]:
    yield "val", compared["val"]
    if compared.get("test"):
        yield "test", compared["test"]
    for name, gate in compared["gates"].items():
        yield f"gate {name}", gate


def _difference(model: str, name: str, block: Block) -> tuple[Content, ...]:
    fitted = fitted_on([block])
    if not block["n"]:
        return (model, name, 0, fitted, "no rows", "no rows")
    gains = (difference(block, "macro_f1_gain"), difference(block, "nll_change"))
    n = counted(block["n"])
    if block.get("in_domain"):
        n += f", {counted(block['in_domain'])} in domain"
    return (model, name, n, fitted, *gains)


def _cost(run: Finished) -> Markup:
    first, second = STAGES
    rows = run.numbers[f"{second}_vs_{first}"][run.verdict["model"]]["cost"]
    return table(
        "What training took.",
        "Of every teacher, evaluations included; the time of an epoch is that of the middle one.",
        ("stage", "teacher", "epochs", "seconds an epoch", "minutes in all"),
        [
            (
                row["stage"], row["teacher"], counted(row["epochs"]),
                f"{row['seconds_per_epoch']:.1f}", f"{row['seconds'] / 60:.1f}",
            )
            for row in rows
        ],
        words=2,
    )  # fmt: skip

"""What the numbers of a run do not say."""

from collections.abc import Iterator, Mapping
from typing import Any

from stages.reporting.elements import bullets, section
from stages.reporting.finished import Finished, in_domain
from stages.reporting.markup import Markup
from stages.reporting.wording import counted

_FEW = 30


def limits_section(run: Finished, *, recipe: Mapping[str, Any]) -> Markup:
    """The limits that hold for every run, and those of this one."""
    return section("limits", "Limits", bullets([*_of_this_run(run, recipe=recipe), *_GENERAL]))


_GENERAL = (
    "Labels are what annotators chose; datasets disagree on them. What a person feels is not in "
    "a picture, and nothing here is fit for decisions about people.",
    "Seven classes and nothing else: an expression that is none of them gets one of them.",
    "Calibration holds for faces like those it was fitted on, cut in the same way.",
    "Not measured: differences by age, sex, skin colour or culture; video; occlusion.",
    "Intervals are of the rows alone: one training run with one seed, so how much a second run "
    "would differ is not in them.",
    "Checkpoints are chosen on val rows too, so differences on val are a little kind to the stage "
    "with more epochs to choose from.",
)


def _of_this_run(run: Finished, *, recipe: Mapping[str, Any]) -> Iterator[str]:
    block = in_domain(run.best)
    scarce = {one["class"]: one["n"] for one in block["per_class"] if one["n"] < _FEW}
    if scarce:
        told = ", ".join(f"{name} {counted(n)}" for name, n in scarce.items())
        place = block["about"][0]["reported_on"]
        yield f"Classes with fewer than {_FEW} rows of {place} behind their numbers: {told}."
    (fit,) = run.best["fit"]
    if (reason := fit["temperature_no_fit"]) is not None:
        yield f"The probabilities are not calibrated: no temperature could be fitted, {reason}."
    if not run.best["gates"]:
        yield "No gate: all numbers are in domain."
    for name, gate in run.best["gates"].items():
        if gate["in_domain"]:
            yield (
                f"{counted(gate['in_domain'])} of the {counted(gate['n'])} rows of gate {name} are "
                "in domain: of them it says nothing about other data."
            )
        if gate["n"] < 10 * _FEW:
            yield f"Gate {name} rests on {counted(gate['n'])} rows."
    unknown = [n for n, one in recipe["standardize"]["sources"].items() if not one["licence"]]
    if unknown:
        yield f"No licence is declared for {', '.join(unknown)}."
    dirty = {
        f"{stage} {teacher}"
        for (stage, teacher), one in run.environments.items()
        if not one["commit"] or one["commit"].endswith("-dirty")
    }
    if dirty:
        told = ", ".join(sorted(dirty))
        yield f"Trained with code that no commit holds (uncommitted changes): {told}."

"""What each teacher adds to the model that is exported, and to the other fusions."""

from stages.reporting.elements import paragraph, section, table
from stages.reporting.finished import Finished
from stages.reporting.markup import Markup
from stages.reporting.wording import counted, difference, fitted_on, number, short, temperature


def additions_section(run: Finished) -> Markup:
    """The weights of the teachers, and each fusion minus itself without a teacher."""
    title = "What each teacher adds"
    rows = [
        (model, row["teacher"], counted(row["n"]), row["reported_on"],
         difference(row, "macro_f1_gain"), difference(row, "nll_change"))
        for model, numbers in run.models.items()
        for row in numbers["leave_one_out"]
    ]  # fmt: skip
    if not rows:
        return section("teachers", title, paragraph("One teacher: there is nothing to leave out."))
    return section(
        "teachers",
        title,
        table(
            f"Who is in {run.verdict['model']} of {run.verdict['stage']}.",
            "The weights are by the recipe, or searched on val.",
            ("teacher", "weights", "weight", "temperature alone"),
            [
                (m["teacher"], short(m["weights_sha256"]), number(m["weight"]),
                 temperature(*run.models[m["teacher"]]["fit"]))
                for m in run.best["members"]
            ],
            words=2,
        ),
        table(
            "With a teacher minus without it.",
            "What is left is fitted anew. A macro-F1 gain above 0 and an NLL change below 0 speak "
            f"for the teacher. Fitted on {_fitted_on(run)}; majority labels.",
            ("fusion", "teacher", "n", "rows of", "macro-F1 gain", "NLL change"),
            rows,
            words=2,
        ),
    )  # fmt: skip


def _fitted_on(run: Finished) -> str:
    return fitted_on(row for numbers in run.models.values() for row in numbers["leave_one_out"])

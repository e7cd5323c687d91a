from io import BytesIO

import matplotlib.image
import pandas as pd
import pytest

from stages.reporting.figures import (
    confusion_figure,
    model_colours,
    reliability_figure,
    risk_coverage_figure,
    sources_figure,
    training_figure,
)

COLOURS = model_colours(["RN18", "B3"], fused="fused_fixed")


@pytest.fixture(scope="module")
def drawings(run):
    """Each figure as a function of a change to its table."""

    def changed(kind, name, change):
        return change(run.table(kind, name).copy())

    def reliability(change=lambda t: t):
        return reliability_figure(changed("reliability", "stageA_RN18", change), colour="#0072B2")

    def confusion(change=lambda t: t):
        return confusion_figure(changed("confusion", "stageA_RN18", change))

    def risk_coverage(change=lambda t: t):
        table = changed("risk_coverage", "stageA_RN18", change)
        return risk_coverage_figure({"RN18": table}, colours=COLOURS)

    def sources(change=lambda t: t):
        table = changed("sources", "stageA", change)
        return sources_figure(table, metric="macro_f1", colours=COLOURS)

    def training(change=lambda t: t):
        table = changed("training", "stageA_RN18", change)
        curves = {("stageA", "RN18"): table}
        return training_figure(curves, column="val_nll", ylabel="NLL", colours=COLOURS)

    return {"reliability": reliability, "confusion": confusion, "risk_coverage": risk_coverage,
            "sources": sources, "training": training}  # fmt: skip


KINDS = ["reliability", "confusion", "risk_coverage", "sources", "training"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_is_a_png_and_the_same_bytes_again(drawings, kind):
    png = drawings[kind]()
    height, width, _ = matplotlib.image.imread(BytesIO(png)).shape
    assert min(height, width) > 400
    assert drawings[kind]() == png


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        ("reliability", "accuracy_low"), ("reliability", "count"), ("risk_coverage", "risk_high"),
        ("sources", "low"), ("sources", "n"), ("training", "val_nll"),
    ],
)  # fmt: skip
def test_counts_and_intervals_are_drawn(drawings, kind, column):
    changed = drawings[kind](lambda table: table.assign(**{column: table[column] * 0.5}))
    assert changed != drawings[kind]()


def test_confusion_shows_where_the_mistakes_went(drawings):
    def swap(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(predicted=table["predicted"].replace({"Fear": "Sad", "Sad": "Fear"}))

    assert drawings["confusion"](swap) != drawings["confusion"]()


def test_an_epoch_without_evaluation_is_left_out_and_not_drawn_as_zero(drawings, run):
    table = run.table("training", "stageA_RN18")
    assert table["val_nll"].isna().any()
    assert drawings["training"](lambda t: t.dropna()) == drawings["training"]()


def test_a_teacher_has_its_own_colour_and_what_is_fused_another():
    assert len(set(COLOURS.values())) == 3
    assert model_colours(["RN18"], fused="x")["RN18"] == COLOURS["RN18"]

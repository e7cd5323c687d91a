from io import BytesIO

import matplotlib.image
import pandas as pd
import pytest

from stages.faces.decode import decode
from stages.faces.store import FaceStore
from stages.reporting.figures import (
    bars_figure,
    confusion_figure,
    model_colours,
    reliability_figure,
    risk_coverage_figure,
    training_figure,
)
from stages.reporting.pictures import MISTAKES_PER_CLASS, mistakes_sheet
from stages.runtime.errors import UserError

COLOURS = model_colours(["RN18", "B3"], fused="fused_fixed")


@pytest.fixture(scope="module")
def draw(run):
    """Draw a table of plots/data/teachers after a change to it."""
    coloured = {"colours": COLOURS}
    named = coloured | {"column": "val_nll", "ylabel": "NLL"}
    figures = {
        "reliability/stageA_RN18": lambda t: reliability_figure(t, colour="#0072B2"),
        "confusion/stageA_RN18": lambda t: confusion_figure(t, classes=run.calibration.classes),
        "risk_coverage/stageA_RN18": lambda t: risk_coverage_figure({"RN18": t}, **coloured),
        "sources/stageA": lambda t: bars_figure(t[::2], limits=(0, 1), xlabel="F1", **coloured),
        "training/stageA_RN18": lambda t: training_figure({("A", "RN18"): t}, **named),
    }

    def draw(name, change=lambda table: table):
        table = run.plotted("teachers", name).rename(columns={"source": "place"})
        return figures[name](change(table))

    return draw


def _swapped(classes):
    return classes.replace({"Fear": "Sad", "Sad": "Fear"})


@pytest.mark.parametrize(
    ("name", "column", "change"),
    [
        ("reliability/stageA_RN18", "accuracy_low", lambda values: values / 2),
        ("reliability/stageA_RN18", "count", lambda values: values * 2),
        ("confusion/stageA_RN18", "predicted", _swapped),
        ("risk_coverage/stageA_RN18", "risk_high", lambda values: values / 2),
        ("sources/stageA", "low", lambda values: values / 2),
        ("sources/stageA", "n", lambda values: values * 2),
        ("training/stageA_RN18", "val_nll", lambda values: values * values),
    ],
)
def test_what_a_table_holds_is_drawn_the_same_each_time(draw, name, column, change):
    png = draw(name)
    height, width, _ = matplotlib.image.imread(BytesIO(png)).shape
    assert min(height, width) > 400
    assert draw(name) == png
    assert draw(name, lambda table: table.assign(**{column: change(table[column])})) != png


def test_an_epoch_without_evaluation_is_left_out_and_not_drawn_as_zero(draw, run):
    name = "training/stageA_RN18"
    assert run.plotted("teachers", name)["val_nll"].isna().any()
    assert draw(name, lambda table: table.dropna()) == draw(name)


def test_a_teacher_has_its_own_colour_and_the_fused_model_another():
    assert len(set(COLOURS.values())) == 3
    assert model_colours(["RN18"], fused="x")["RN18"] == COLOURS["RN18"]


def test_the_most_confident_mistakes_of_each_class_are_read_and_no_other_face(
    root, run, monkeypatch
):
    table = run.plotted("teachers", "mistakes/stageA_fused_fixed")
    asked, read = [], FaceStore.decode
    monkeypatch.setattr(FaceStore, "decode", lambda s, ids: asked.append(set(ids)) or read(s, ids))
    rows = dict.fromkeys(run.calibration.classes, 20)
    sheet = decode(mistakes_sheet(table, rows=rows, standardized=root / "standardized"))
    ranked = table.sort_values("confidence", ascending=False)
    expected = set(ranked.groupby("actual").head(MISTAKES_PER_CLASS)["id"])
    assert asked == [expected]
    assert len(expected) < len(table)
    without = decode(mistakes_sheet(table[:0], rows=rows, standardized=root / "standardized"))
    assert without.shape[0] == sheet.shape[0] > 7 * 112


def test_mistake_without_an_image_is_an_error_and_no_empty_sheet(root):
    columns = ["id", "source", "actual", "predicted", "confidence"]
    lost = pd.DataFrame([("ferplus/lost", "ferplus", "Sad", "Fear", 0.9)], columns=columns)
    with pytest.raises(UserError, match="ferplus/lost"):
        mistakes_sheet(lost, rows={"Sad": 1}, standardized=root / "standardized")

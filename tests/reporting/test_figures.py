from io import BytesIO

import matplotlib.image
import pandas as pd
import pytest

from stages.faces.decode import decode
from stages.reporting import pictures
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
def drawings(run):
    """Return each figure as a function of a change to its table."""

    def drawing(name, draw):
        table = run.plotted("teachers", name).rename(columns={"source": "place"})
        return lambda change=lambda table: table: draw(change(table.copy()))

    classes = run.calibration.classes
    axis = {"limits": (0, 1), "xlabel": "macro-F1"}
    named = {"column": "val_nll", "ylabel": "NLL"}
    return {
        "reliability": drawing(
            "reliability/stageA_RN18", lambda t: reliability_figure(t, colour="#0072B2")
        ),
        "confusion": drawing(
            "confusion/stageA_RN18", lambda t: confusion_figure(t, classes=classes)
        ),
        "risk_coverage": drawing(
            "risk_coverage/stageA_RN18",
            lambda t: risk_coverage_figure({"RN18": t}, colours=COLOURS),
        ),
        "sources": drawing(
            "sources/stageA", lambda t: bars_figure(t[::2], colours=COLOURS, **axis)
        ),
        "training": drawing(
            "training/stageA_RN18",
            lambda t: training_figure({("A", "RN18"): t}, colours=COLOURS, **named),
        ),
    }


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("reliability", ["accuracy_low", "count"]),
        ("risk_coverage", ["risk_high"]),
        ("sources", ["low", "n"]),
        ("training", ["val_nll"]),
    ],
)
def test_counts_and_intervals_are_drawn_and_equal_tables_give_equal_bytes(drawings, kind, columns):
    png = drawings[kind]()
    height, width, _ = matplotlib.image.imread(BytesIO(png)).shape
    assert min(height, width) > 400
    assert drawings[kind]() == png
    for column in columns:
        assert drawings[kind](lambda t, c=column: t.assign(**{c: t[c] * 2})) != png


def test_confusion_shows_where_the_mistakes_went(drawings):
    swap = {"Fear": "Sad", "Sad": "Fear"}
    swapped = drawings["confusion"](lambda t: t.assign(predicted=t["predicted"].replace(swap)))
    assert swapped != drawings["confusion"]()


def test_an_epoch_without_evaluation_is_left_out_and_not_drawn_as_zero(drawings, run):
    assert run.plotted("teachers", "training/stageA_RN18")["val_nll"].isna().any()
    assert drawings["training"](lambda table: table.dropna()) == drawings["training"]()


def test_a_teacher_has_its_own_colour_and_the_fused_model_another():
    assert len(set(COLOURS.values())) == 3
    assert model_colours(["RN18"], fused="x")["RN18"] == COLOURS["RN18"]


def test_the_most_confident_mistakes_of_each_class_are_read_and_no_other_face(
    root, run, monkeypatch
):
    table = run.plotted("teachers", "mistakes/stageA_fused_fixed")
    asked, read = [], pictures.read_images
    monkeypatch.setattr(pictures, "read_images", lambda f, ids: asked.append(ids) or read(f, ids))
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

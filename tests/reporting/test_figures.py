from io import BytesIO

import matplotlib.image
import pytest

from stages.faces.decode import decode
from stages.faces.store import FaceStore
from stages.reporting import figures
from stages.reporting.pictures import MISTAKES_PER_CLASS, mistakes_sheet
from stages.runtime.errors import UserError

COLOURS = figures.model_colours(["RN18", "B3"], fused="fused_fixed")


@pytest.fixture(scope="module")
def draw(run):
    """Draw a table of plots/data/teachers after a change to it."""
    classes, named = run.calibration.classes, {"colours": COLOURS}
    epochs = named | {"columns": ["val_nll", "val_scaled_nll"], "ylabel": "NLL"}
    drawings = {
        "reliability": lambda t: figures.reliability_figure(t, colour="#0072B2"),
        "confusion": lambda t: figures.confusion_figure(t, classes=classes),
        "risk_coverage": lambda t: figures.risk_coverage_figure({"RN18": t}, **named),
        "sources": lambda t: figures.bars_figure(t[::2], limits=(0, 1), xlabel="F1", **named),
        "training": lambda t: figures.training_figure({("A", "RN18"): t}, **epochs),
    }

    def draw(kind, change=lambda table: table):
        name = "sources/stageA" if kind == "sources" else f"{kind}/stageA_RN18"
        table = run.plotted("teachers", name).rename(columns={"source": "place"})
        return drawings[kind](change(table))

    return draw


@pytest.mark.parametrize(
    ("kind", "column", "change"),
    [
        ("reliability", "accuracy_low", lambda values: values / 2),
        ("reliability", "count", lambda values: values * 2),
        ("confusion", "predicted", lambda names: names.replace({"Fear": "Sad", "Sad": "Fear"})),
        ("risk_coverage", "risk_high", lambda values: values / 2),
        ("sources", "low", lambda values: values / 2),
        ("sources", "n", lambda values: values * 2),
        ("training", "val_nll", lambda values: values * values),
        ("training", "val_scaled_nll", lambda values: values * values),
    ],
)
def test_what_a_table_holds_is_drawn_the_same_each_time(draw, kind, column, change):
    png = draw(kind)
    height, width, _ = matplotlib.image.imread(BytesIO(png)).shape
    assert min(height, width) > 400
    assert draw(kind) == png
    assert draw(kind, lambda table: table.assign(**{column: change(table[column])})) != png


def test_an_epoch_without_evaluation_is_left_out_and_not_drawn_as_zero(draw, run):
    assert run.plotted("teachers", "training/stageA_RN18")["val_nll"].isna().any()
    assert draw("training", lambda t: t.dropna(subset="val_nll")) == draw("training")


def test_the_most_confident_mistakes_of_each_class_are_read_and_no_other_face(
    root, run, monkeypatch
):
    table = run.plotted("teachers", "mistakes/stageA_fused_fixed")
    asked, read = [], FaceStore.decode
    monkeypatch.setattr(FaceStore, "decode", lambda s, ids: asked.append(set(ids)) or read(s, ids))
    given = {"rows": dict.fromkeys(run.calibration.classes, 20)}
    given["standardized"] = root / "standardized"
    sheet = decode(mistakes_sheet(table, **given))
    ranked = table.sort_values("confidence", ascending=False)
    expected = set(ranked.groupby("actual").head(MISTAKES_PER_CLASS)["id"])
    assert asked == [expected]
    assert len(expected) < len(table)
    assert decode(mistakes_sheet(table[:0], **given)).shape[0] == sheet.shape[0] > 7 * 112
    lost = table[:1].assign(id="ferplus/lost")
    with pytest.raises(UserError, match="ferplus/lost"):
        mistakes_sheet(lost, **given)

import pandas as pd
import pytest

from stages.config import CLASSES
from stages.faces.decode import decode
from stages.faces.store import FaceStore
from stages.reporting.mistakes import A_CLASS, mistakes_sheet
from stages.runtime.errors import UserError


@pytest.fixture
def table(run):
    return run.table("mistakes", "stageA_fused_fixed")


def test_the_most_confident_mistakes_of_each_class_are_read_and_no_other_face(
    root, table, monkeypatch
):
    asked = []
    read = FaceStore.decode
    monkeypatch.setattr(
        FaceStore, "decode", lambda store, ids: asked.append(set(ids)) or read(store, ids)
    )
    mistakes_sheet(table, rows=dict.fromkeys(CLASSES, 20), standardized=root / "standardized")
    expected = set()
    for name in CLASSES:
        mine = table[table["actual"] == name].sort_values("confidence", ascending=False)
        expected |= set(mine["id"][:A_CLASS])
    assert asked == [expected]
    assert len(expected) < len(table)


def test_sheet_has_a_line_for_a_class_without_mistakes(root, table):
    few = table[table["actual"] == "Fear"]
    rows = dict.fromkeys(CLASSES, 20)
    sheet = decode(mistakes_sheet(few, rows=rows, standardized=root / "standardized"))
    assert sheet.shape[0] > 7 * 112
    none = decode(mistakes_sheet(few[:0], rows=rows, standardized=root / "standardized"))
    assert none.shape[0] == sheet.shape[0]


def test_mistake_without_an_image_is_an_error(root):
    lost = pd.DataFrame(
        {"id": ["ferplus/lost"], "source": ["ferplus"], "actual": ["Sad"], "predicted": ["Fear"],
         "confidence": [0.9]}
    )  # fmt: skip
    with pytest.raises(UserError, match="ferplus/lost"):
        mistakes_sheet(lost, rows=dict.fromkeys(CLASSES, 1), standardized=root / "standardized")

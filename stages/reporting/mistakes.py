"""The most confident mistakes of a model -> a contact sheet. Only the drawn images are read."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stages.config import CLASSES
from stages.faces.sheet import captioned_sheet
from stages.faces.store import FaceStore

A_CLASS = 8

_TILE_PX = 112


def mistakes_sheet(table: pd.DataFrame, *, rows: Mapping[str, int], standardized: Path) -> bytes:
    """A line for each actual class: the mistakes that the model was most confident of.

    Args:
        table: `id, source, actual, predicted, confidence`, the most confident first.
        rows: of each class.
        standardized: where the images are.
    """
    drawn = table.groupby("actual", sort=False).head(A_CLASS)
    images = FaceStore(standardized).decode(drawn["id"])
    lines = {}
    for name in CLASSES:
        mine = drawn[drawn["actual"] == name].to_dict("records")
        wrong = int((table["actual"] == name).sum())
        title = f"{name}\n{wrong:,} of {rows[name]:,} wrong"
        lines[title] = [(images[row["id"]], _caption(row)) for row in mine]
    return captioned_sheet(lines, columns=A_CLASS, tile_px=_TILE_PX)


def _caption(row: Mapping[Hashable, Any]) -> str:
    return f"{row['predicted']} {row['confidence']:.2f}, {row['source']}"

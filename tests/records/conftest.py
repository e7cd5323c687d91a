"""Builders of small frames; session-wide, so that hypothesis may use them."""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.config import CLASSES
from stages.records.schema import COLUMNS, SHARE_COLUMNS
from stages.splitting.frozen import FACE_COLUMNS

Build = Callable[[Iterable[dict[str, Any]]], pd.DataFrame]
TEXT = ("id", "source", "label", "split", "official", "twin_splits", "group", "photo", "sha256")


def pixels(name: object) -> str:
    """A stand-in for the hash of a picture's pixels."""
    return hashlib.sha256(str(name).encode()).hexdigest()


@pytest.fixture(scope="session")
def faces() -> Build:
    """Faces as `read_faces` gives them; what a spec leaves out is unlike every other face's."""

    def build(specs: Iterable[dict[str, Any]]) -> pd.DataFrame:
        rows = []
        for spec in specs:
            row = {"label": "Happy", "native_px": 48, "photo": spec["id"]}
            row |= {"sha256": pixels(spec["id"])} | spec
            random = np.random.default_rng(int(pixels(row["sha256"])[:15], 16))
            rows.append({"thumbnail": random.integers(0, 256, 576, np.uint8).tobytes()} | row)
        frame = pd.DataFrame(rows, columns=list(FACE_COLUMNS))
        frame = frame.where(frame.notna(), None)
        kinds = dict.fromkeys(("id", "label", "split", "photo", "sha256"), "str")
        objects = dict.fromkeys(("votes", "thumbnail"), object)
        return frame.astype({**kinds, **objects, "native_px": "int32", "confidence": "float32"})

    return build


@pytest.fixture(scope="session")
def one_of_each_class() -> list[dict[str, Any]]:
    """Unlike faces of a source with official splits: a train row of each class, a val, a test row."""
    train = [{"id": f"zz/{name}", "label": name, "split": "train"} for name in CLASSES]
    return [*train, {"id": "zz/val", "split": "val"}, {"id": "zz/test", "split": "test"}]


@pytest.fixture(scope="session")
def rows() -> Build:
    """Rows of the manifest, in the order of their ids, with every column."""

    def build(specs: Iterable[dict[str, Any]]) -> pd.DataFrame:
        built = []
        for spec in specs:
            row = {"label": "Happy", "split": "train", "group": spec["id"], "photo": spec["id"]}
            row |= {"source": spec["id"].split("/")[0], "native_px": 48, "confidence": np.nan}
            row |= {"sha256": pixels(spec["id"]), "official": None, "twin_splits": ""}
            built.append(row | dict.fromkeys(SHARE_COLUMNS, np.nan) | spec)
        frame = pd.DataFrame(built, columns=list(COLUMNS)).astype(dict.fromkeys(TEXT, "str"))
        return frame.sort_values("id", ignore_index=True)

    return build

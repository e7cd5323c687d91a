"""Builders of small frames; session-wide, so that hypothesis may use them."""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.records.schema import COLUMNS, SHARE_COLUMNS
from stages.splitting.frozen import FACE_COLUMNS

CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")
Build = Callable[[Iterable[dict[str, Any]]], pd.DataFrame]


def pixels(name: object) -> str:
    """A stand-in for the hash of a picture's pixels."""
    return hashlib.sha256(str(name).encode()).hexdigest()


def thumbnail(name: object) -> bytes:
    """A stand-in for a picture's thumbnail: those of other names are unlike it."""
    seed = int(pixels(name)[:15], 16)
    return np.random.default_rng(seed).integers(0, 256, 576, np.uint8).tobytes()


@pytest.fixture(scope="session")
def faces() -> Build:
    """Faces as `read_faces` gives them; what a spec leaves out is unlike every other face's."""

    def build(specs: Iterable[dict[str, Any]]) -> pd.DataFrame:
        rows = []
        for spec in specs:
            row = {
                "label": "Happy",
                "votes": None,
                "split": None,
                "native_px": 48,
                "confidence": None,
            }
            row |= {"photo": spec["id"], "sha256": pixels(spec["id"])} | spec
            rows.append({"thumbnail": thumbnail(row["sha256"])} | row)
        frame = pd.DataFrame(rows, columns=list(FACE_COLUMNS))
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
            row |= dict.fromkeys(SHARE_COLUMNS, np.nan)
            built.append(row | spec)
        frame = pd.DataFrame(built, columns=list(COLUMNS))
        text = ("id", "source", "label", "split", "official", "twin_splits", "group", "photo")
        kinds = dict.fromkeys((*text, "sha256"), "str")
        return frame.astype(kinds).sort_values("id", ignore_index=True)

    return build

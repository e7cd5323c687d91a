"""Folders and files named to harm who looks at them: every table that a person opens is inert."""

import csv
import re
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages import manifest, standardize
from stages.records.schema import read_manifest

NAMES = ("=1+1", "@cmd", "+x", "-x", "=cmd|' _C calc'!A0", "<script>alert(1)<", "a;b|c`$x$")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
NUMBER = re.compile(r"-[\d.]+(e[+-]\d+)?")


def picture(path: Path, *, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


@pytest.mark.skipif(sys.platform == "win32", reason="permits no such names")
def test_reported_tables_of_strange_names_are_inert(project: Callable[..., Path]) -> None:
    root = project(standardize__max_reject_share=1.0)
    toy = root / "raw" / "toy"
    for number, name in enumerate(NAMES):
        # As a class that nobody knows, as one that is known not to be a class, and as a face's name.
        picture(toy / "train" / name / "x.png", seed=number)
        picture(toy / "train" / f"{name[0]}contempt" / f"{number}.png", seed=100 + number)
        picture(toy / "train" / "Happy" / f"{name}.png", seed=200 + number)
    picture(toy / "test" / "Happy" / "=copy.png", seed=200)
    assert standardize.main([]) == 0
    assert manifest.main([]) == 0
    folders = ("standardized", "manifests", "plots")
    tables = [path for name in folders for path in root.glob(f"{name}/**/*.csv")]
    assert len(tables) > 10
    for path in tables:
        with path.open(encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row if cell.startswith(FORMULA)]
        assert not [cell for cell in cells if not NUMBER.fullmatch(cell)], path
    # The reason stands there, in an apostrophe; what rows are joined by is as it was.
    rejects = pd.read_csv(root / "standardized" / "toy" / "rejects.csv")
    assert "'=contempt" in set(rejects["detail"])
    rows = read_manifest(root / "manifests" / "classification_manifest.csv")
    assert "toy/train/Happy/@cmd.png" in set(rows["id"])
    excluded = pd.read_csv(root / "manifests" / "excluded.csv")
    pair = ["toy/train/Happy/=1+1.png", "toy/test/Happy/=copy.png"]
    assert excluded[["id", "detail"]].to_numpy().tolist() == [pair]

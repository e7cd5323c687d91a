"""Four small raw sources, and params that standardize them."""

import hashlib
import os
import random
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from stages.faces.decode import encode_png

ROOT = Path(__file__).parents[1]
SOURCES = {
    "affect": {"format": "folder7", "path": "affect"},
    "expw": {"format": "expw", "path": "expw.zip", "hq_confidence": 60},
    "ferplus": {"format": "ferplus", "path": "ferplus", "label_rule": "majority"},
    "rafdb_basic": {"format": "rafdb_basic", "path": "rafdb"},
}


def picture(seed: int, side: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def as_bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content


def write(root: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(content))
    return root


def write_raw(raw: Path) -> None:
    happy = '"(0, 0, 48, 48)",1,9,0,0,0,0,0,0,0,0'
    write(
        raw,
        {
            "affect/train/sad/1.png": picture(1, 64),
            "affect/train/sad/broken.png": b"",
            "affect/train/contempt/1.png": picture(2, 64),
            "ferplus/FER2013Train/fer0000000.png": picture(3, 48),
            "ferplus/FER2013Train/label.csv": f"fer0000000.png,{happy}\n",
            "rafdb/EmoLabel/list_patition_label.txt": "train_1.jpg 6\ntest_1.jpg 7\n",
            "rafdb/Image/aligned/train_1_aligned.jpg": picture(4, 100),
            "rafdb/Image/aligned/test_1_aligned.jpg": picture(5, 100),
        },
    )
    lines = [
        "p.jpg 0 20 10 50 40 90.0 3",
        "p.jpg 1 60 60 90 85 12.5 0",
        "p.jpg 2 900 900 950 950 50 1",
    ]
    with zipfile.ZipFile(raw / "expw.zip", "w") as archive:
        archive.writestr("origin/p.jpg", picture(6, 100))
        archive.writestr("label.lst", "\n".join(lines))


def write_params(
    folder: Path, *, raw: str = "raw", workers: int | str = "auto", **changes: Any
) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["raw"], params["machine"]["workers"] = raw, workers
    section = {"sources": SOURCES, "crop_margin": 0.5, "max_reject_share": 0.5, "shard_mb": 512}
    params["standardize"] |= section | changes
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def shuffle_listings(monkeypatch: pytest.MonkeyPatch, *, seed: int) -> None:
    walk, rng = os.walk, random.Random(seed)

    def shuffled(*args: Any, **options: Any) -> Iterator[tuple[str, list[str], list[str]]]:
        for folder, subfolders, names in walk(*args, **options):
            rng.shuffle(subfolders)
            rng.shuffle(names)
            yield folder, subfolders, names

    monkeypatch.setattr(os, "walk", shuffled)


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }

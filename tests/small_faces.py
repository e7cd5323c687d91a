"""A face for tests that write shards, unlike all others in whatever is left out."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from stages.config import CLASSES
from stages.faces.decode import encode_png
from stages.faces.shards import Face, ShardWriter


def small_face(id_: str, **values: Any) -> Face:
    """A 48 px face of a photo of its own; equal `sha256` gives equal thumbnails."""
    sha256 = values.pop("sha256", hashlib.sha256(id_.encode()).hexdigest())
    noise = np.random.default_rng(int(sha256[:15], 16)).integers(0, 256, 576, np.uint8)
    known: dict[str, Any] = {
        "image": encode_png(noise.reshape(24, 24).repeat(2, axis=0).repeat(2, axis=1)), "width": 48, "height": 48, "native_px": 48,
        "label": CLASSES[hashlib.sha256(id_.encode()).digest()[0] % 7], "votes": None,
        "split": None, "photo": id_, "confidence": None, "dhash": 0,
        "thumbnail": noise.tobytes(), "crop": "none", "raw": id_,
    }  # fmt: skip
    return Face(id=id_, sha256=sha256, **(known | values))


def write_faces(folder: Path, faces: Iterable[Face], **facts: Any) -> None:
    """A source folder as standardize leaves it; `facts` replace what index.json counts."""
    folder.mkdir(parents=True)
    crops: Counter[str] = Counter({"none": 0, "box": 0, "aligned": 0})
    with ShardWriter(folder, shard_mb=1) as writer:
        for each in faces:
            writer.add(each)
            crops[each.crop] += 1
        counted = {"rows": crops.total(), "rejects": {}, "crops": dict(crops)}
        writer.note(
            counted
            | {"boxes_partly_outside": 0, "boxes_in_turned_photos": {}, "face_detector": None}
            | facts
        )

from pathlib import Path

import cv2
import numpy as np
import pytest
from small_faces import small_face

from stages.config import CLASSES
from stages.faces.decode import encode_png
from stages.faces.shards import Face, ShardWriter

NUM_FACES = {"beta": 30, "alpha": 40}


@pytest.fixture(scope="session")
def standardized(tmp_path_factory) -> Path:
    """Two sources of noise faces of 30 to 60 px; `alpha` in several shards' worth of batches."""
    folder = tmp_path_factory.mktemp("data") / "standardized"
    rng = np.random.default_rng(7)
    for source, num_faces in NUM_FACES.items():
        (folder / source).mkdir(parents=True)
        with ShardWriter(folder / source, shard_mb=1) as writer:
            for number in range(num_faces):
                writer.add(draw_face(f"{source}/{number:03d}", rng=rng))
    return folder


def draw_face(id_: str, *, rng: np.random.Generator) -> Face:
    height, width = (int(n) for n in rng.integers(30, 60, 2))
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return small_face(
        id_,
        image=encode_png(cv2.blur(noise, (5, 5))),
        width=width,
        height=height,
        native_px=min(width, height),
        label=CLASSES[int(rng.integers(7))],
        split="train",
    )

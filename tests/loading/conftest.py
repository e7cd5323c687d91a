"""Two sources of noise faces, as shards and as datasets."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from shipped import shipped
from small_faces import small_face, write_faces

from stages.config import CLASSES, Augmentation, Preprocess
from stages.faces.decode import encode_png
from stages.faces.shards import Face, read_faces
from stages.faces.store import FaceStore
from stages.loading.dataset import Batch, FaceDataset

NUM_FACES = {"beta": 30, "alpha": 40}


@pytest.fixture(scope="session")
def standardized(tmp_path_factory) -> Path:
    """Two sources of noise faces of 30 to 60 px."""
    folder = tmp_path_factory.mktemp("data") / "standardized"
    rng = np.random.default_rng(7)
    for source, num_faces in NUM_FACES.items():
        write_faces(
            folder / source, [draw_face(f"{source}/{n:03d}", rng) for n in range(num_faces)]
        )
    return folder


def draw_face(id_: str, rng: np.random.Generator) -> Face:
    height, width = (int(n) for n in rng.integers(30, 60, 2))
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return small_face(
        id_,
        image=encode_png(cv2.blur(noise, (5, 5))),
        width=width,
        height=height,
        label=CLASSES[int(rng.integers(7))],
    )


def build_dataset(
    standardized: Path, kind: type[FaceDataset] = FaceDataset, **changes: object
) -> FaceDataset:
    """All faces of the folder; a function, so that other processes can call it."""
    faces = read_faces(standardized, ["id", "label"])
    store = FaceStore(standardized)
    options = {
        "positions": store.locate(faces["id"].tolist()),
        "targets": faces["label"].map(CLASSES.index).to_numpy(np.int64),
        "image_size": 32,
        "preprocess": shipped(Preprocess),
        "augmentation": shipped(Augmentation),
        "seed": 1,
    }
    return kind(store, **options | changes)


@pytest.fixture
def make_dataset(standardized: Path) -> Callable[..., FaceDataset]:
    return lambda **changes: build_dataset(standardized, **changes)


@pytest.fixture(scope="module")
def dataset(standardized: Path) -> FaceDataset:
    return build_dataset(standardized)


def assert_same(batches: list[Batch], expected: list[Batch]) -> None:
    assert len(batches) == len(expected) > 0
    for batch, other in zip(batches, expected, strict=True):
        assert batch.keys() == other.keys()
        assert all(torch.equal(batch[name], other[name]) for name in batch)

"""Two sources of noise faces, as shards, as datasets and as loaders."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from shipped import shipped
from small_faces import small_face, write_faces

from stages.computing.team import ALONE, Team
from stages.config import CLASSES, Augmentation, Preprocess
from stages.faces.decode import encode_png
from stages.faces.shards import read_faces
from stages.faces.store import FaceStore
from stages.loading.dataset import Batch, FaceDataset
from stages.loading.loader import EvalLoader
from stages.loading.sampler import RowOrder

CPU = torch.device("cpu")
# Every augmentation that is off as shipped.
STRONG = {"rotation_deg": 30.0, "shift": 0.2, "zoom_out": 0.4, "gamma": 0.5} | dict.fromkeys(
    ("low_resolution", "blur", "jpeg", "grey", "erasing"), 1.0
)


@pytest.fixture(scope="session")
def standardized(tmp_path_factory) -> Path:
    """Two sources of noise faces of 30 to 60 px."""
    folder, rng = tmp_path_factory.mktemp("data") / "standardized", np.random.default_rng(7)
    for source, num_faces in {"beta": 30, "alpha": 40}.items():
        faces = []
        for n in range(num_faces):
            noise = rng.integers(0, 256, (*rng.integers(30, 60, 2), 3), dtype=np.uint8)
            height, width = noise.shape[:2]
            image = encode_png(cv2.blur(noise, (5, 5)))
            faces.append(small_face(f"{source}/{n:03d}", image=image, width=width, height=height))
        write_faces(folder / source, faces)
    return folder


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
    return partial(build_dataset, standardized)


@pytest.fixture(scope="module")
def dataset(standardized: Path) -> FaceDataset:
    return build_dataset(standardized)


def in_rows(
    dataset: FaceDataset, *, workers: int = 0, device: torch.device = CPU, team: Team = ALONE
) -> EvalLoader:
    """Every row once, 16 in a batch."""
    order = RowOrder(len(dataset), batch_size=16, team=team)
    return EvalLoader(dataset, order, workers=workers, device=device)


def assert_same(batches: list[Batch], expected: list[Batch]) -> None:
    assert len(batches) == len(expected) > 0
    for batch, other in zip(batches, expected, strict=True):
        assert batch.keys() == other.keys()
        assert all(torch.equal(batch[name], other[name]) for name in batch)

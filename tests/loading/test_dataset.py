from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_faces import small_face

from stages import config
from stages.config import CLASSES
from stages.faces.decode import decode
from stages.faces.model_input import to_model_input
from stages.faces.shards import ShardWriter, read_faces
from stages.faces.store import FaceStore
from stages.loading.augmentation import NO_AUGMENTATION
from stages.loading.dataset import FaceDataset
from stages.loading.sampler import Draw
from stages.runtime.errors import UserError

PREPROCESS = config.Preprocess()
WITH_CLAHE = config.Preprocess(clahe=config.Clahe(clip_limit=3.0, tiles=4))


def test_a_batch_has_images_targets_and_rows(make_dataset) -> None:
    dataset = make_dataset()
    rows = [5, 2, 9, 0, 30]
    batch = dataset[[Draw(0, position, row) for position, row in enumerate(rows)]]
    assert batch["image"].shape == (5, 3, 32, 32)
    assert batch["image"].dtype == torch.float32
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["index"].tolist() == rows
    assert batch["target"].tolist() == [dataset.targets[row] for row in rows]
    assert batch["target"].dtype == batch["index"].dtype == torch.int64


@pytest.mark.parametrize("preprocess", [PREPROCESS, WITH_CLAHE])
def test_without_augmentation_it_is_the_one_model_input(make_dataset, standardized, preprocess):
    dataset = make_dataset(augmentation=NO_AUGMENTATION, preprocess=preprocess)
    images = read_faces(standardized, ["image"])["image"]
    batch = dataset[[Draw(9, 4, row) for row in range(len(dataset))]]
    for row, image in enumerate(images):
        expected = to_model_input(decode(image), size=32, preprocess=preprocess)
        assert np.array_equal(batch["image"][row].numpy(), expected)


def test_a_face_depends_on_its_draw_and_not_on_its_batch(make_dataset) -> None:
    dataset = make_dataset()
    together = dataset[[Draw(1, 7, 3), Draw(1, 8, 3), Draw(1, 9, 4)]]["image"]
    alone = make_dataset()[[Draw(1, 8, 3)]]["image"]
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("other", [Draw(2, 7, 3), Draw(1, 8, 3)])
def test_epoch_and_position_vary_a_face(make_dataset, other) -> None:
    images = make_dataset()[[Draw(1, 7, 3), other]]["image"]
    assert not torch.equal(images[0], images[1])


def test_the_seed_varies_a_face(make_dataset) -> None:
    draws = [Draw(1, 7, 3)]
    assert not torch.equal(
        make_dataset(seed=1)[draws]["image"], make_dataset(seed=2)[draws]["image"]
    )


def test_clahe_comes_after_colour(make_dataset) -> None:
    """Equalising undoes most of a change of brightness, if it comes later."""
    dark = config.Augmentation(crop_scale=(1, 1), flip=0, brightness=0.9, contrast=0, saturation=0)
    draws = [Draw(0, position, 3) for position in range(20)]

    def spread(preprocess: config.Preprocess) -> float:
        images = make_dataset(augmentation=dark, preprocess=preprocess)[draws]["image"]
        return float(images.mean(dim=(1, 2, 3)).std())

    strong = config.Preprocess(clahe=config.Clahe(clip_limit=40.0, tiles=1))
    assert spread(strong) < 0.75 * spread(PREPROCESS)


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "standardized" / "s"
    folder.mkdir(parents=True)
    with ShardWriter(folder, shard_mb=1) as writer:
        writer.add(small_face("s/7", image=b"none"))
    dataset = FaceDataset(
        FaceStore(tmp_path / "standardized"),
        positions=np.array([0]),
        targets=np.array([4]),
        image_size=32,
        preprocess=PREPROCESS,
        augmentation=NO_AUGMENTATION,
        seed=1,
    )
    with pytest.raises(
        UserError,
        match=r"^s/faces-00000\.arrow: damaged at s/7: image_unreadable.*; run the standardize stage",
    ):
        dataset[[Draw(0, 0, 0)]]


@pytest.fixture
def make_dataset(standardized: Path) -> Callable[..., FaceDataset]:
    faces = read_faces(standardized, ["id", "label"])
    store = FaceStore(standardized)
    defaults = {
        "positions": store.locate(faces["id"].tolist()),
        "targets": faces["label"].map(CLASSES.index).to_numpy(np.int64),
        "image_size": 32,
        "preprocess": PREPROCESS,
        "augmentation": config.Augmentation(),
        "seed": 1,
    }
    return lambda **changes: FaceDataset(store, **(defaults | changes))

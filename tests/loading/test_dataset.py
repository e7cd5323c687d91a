"""A batch is made of its draws alone, as the one model input wants it."""

import gc
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from shipped import shipped
from small_faces import small_face, write_faces

from stages import config
from stages.faces.decode import decode
from stages.faces.model_input import to_model_input
from stages.faces.shards import read_faces
from stages.loading.augmentation import NO_AUGMENTATION
from stages.loading.dataset import BatchMemory
from stages.loading.sampler import Draw
from stages.runtime.errors import UserError
from tests.loading.conftest import build_dataset

PREPROCESS = shipped(config.Preprocess)
WITH_CLAHE = shipped(config.Preprocess, clahe=config.Clahe(clip_limit=3.0, tiles=4))


@pytest.mark.parametrize("preprocess", [PREPROCESS, WITH_CLAHE])
def test_without_augmentation_it_is_the_one_model_input(make_dataset, standardized, preprocess):
    dataset = make_dataset(augmentation=NO_AUGMENTATION, preprocess=preprocess)
    images = read_faces(standardized, ["image"])["image"]
    batch = dataset[[Draw(9, 4, row) for row in range(len(dataset))]]
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["index"].tolist() == list(range(len(dataset)))
    assert batch["target"].tolist() == dataset.targets.tolist()
    for row, image in enumerate(images):
        expected = to_model_input(decode(image), size=32, preprocess=preprocess)
        assert np.array_equal(batch["image"][row].numpy(), expected)


def test_a_face_depends_on_its_draw_and_not_on_its_batch(make_dataset) -> None:
    dataset = make_dataset()
    together = dataset[[Draw(1, 7, 3), Draw(1, 8, 3), Draw(1, 9, 4)]]["image"]
    alone = make_dataset()[[Draw(1, 8, 3)]]["image"]
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(make_dataset()[[Draw(2, 8, 3)]]["image"], alone), "the epoch varies it"
    assert not torch.equal(make_dataset(seed=2)[[Draw(1, 8, 3)]]["image"], alone)


def test_clahe_comes_after_colour(make_dataset) -> None:
    """Equalising undoes most of a change of brightness, if it comes later."""
    dark = config.Augmentation(crop_scale=(1, 1), flip=0, brightness=0.9, contrast=0, saturation=0)
    draws = [Draw(0, position, 3) for position in range(20)]

    def spread(preprocess: config.Preprocess) -> float:
        images = make_dataset(augmentation=dark, preprocess=preprocess)[draws]["image"]
        return float(images.mean(dim=(1, 2, 3)).std())

    strong = shipped(config.Preprocess, clahe=config.Clahe(clip_limit=40.0, tiles=1))
    assert spread(strong) < 0.75 * spread(PREPROCESS)


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    write_faces(tmp_path / "s", [small_face("s/7", image=b"none")])
    expected = r"^s/faces-00000\.arrow: damaged at s/7: image_unreadable.*; run the standardize st"
    with pytest.raises(UserError, match=expected):
        build_dataset(tmp_path)[[Draw(0, 0, 0)]]


def test_memory_is_given_again_when_nobody_holds_it_and_not_before() -> None:
    memory = BatchMemory()
    first, second = memory.take(4, 5, dtype=np.uint8), memory.take(4, 5, dtype=np.uint8)
    assert not np.shares_memory(first, second)
    place = first.ctypes.data
    held = torch.from_numpy(first).permute(1, 0)[1:]
    del first
    gc.collect()
    assert memory.take(4, 5, dtype=np.uint8).ctypes.data != place
    del held
    assert memory.take(3, 2, dtype=np.uint8).ctypes.data == place
    large = memory.take(5, 5, dtype=np.float32)
    large[:] = 7
    assert (large.shape, large.dtype) == ((5, 5), np.float32)
    assert pickle.loads(pickle.dumps(BatchMemory())).take(1, dtype=np.uint8).shape == (1,)

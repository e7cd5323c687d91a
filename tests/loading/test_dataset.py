"""A batch is made of its draws alone, as the one model input wants it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from shipped import shipped
from small_faces import small_face, write_faces

from stages.config import Clahe, Preprocess
from stages.faces.decode import decode
from stages.faces.model_input import to_model_input
from stages.faces.shards import read_faces
from stages.loading.augmentation import NO_AUGMENTATION
from stages.loading.sampler import Draw
from stages.runtime.errors import UserError
from tests.loading.conftest import build_dataset, in_rows


@pytest.mark.parametrize("clahe", [None, Clahe(clip_limit=3.0, tiles=4)])
def test_without_augmentation_it_is_the_one_model_input(make_dataset, standardized, clahe):
    preprocess = shipped(Preprocess, clahe=clahe)
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
    together = make_dataset()[[Draw(1, 7, 3), Draw(1, 8, 3), Draw(1, 9, 4)]]["image"]
    alone = make_dataset()[[Draw(1, 8, 3)]]["image"]
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(make_dataset()[[Draw(2, 8, 3)]]["image"], alone), "the epoch varies it"
    assert not torch.equal(make_dataset(seed=2)[[Draw(1, 8, 3)]]["image"], alone)


@pytest.mark.parametrize("workers", [0, 1])
def test_reported_a_damaged_image_is_named_and_without_a_traceback(
    tmp_path: Path, workers: int
) -> None:
    write_faces(tmp_path / "s", [small_face("s/7", image=b"none")])
    with pytest.raises(UserError) as said:
        list(in_rows(build_dataset(tmp_path), workers=workers))
    named = "s/faces-00000.arrow: damaged at s/7: image_unreadable: "
    assert str(said.value).startswith(named)
    assert "; run the standardize stage" in str(said.value)
    assert "\n" not in str(said.value)

"""What a device makes of unfinished batches has the pixels of the host and of OpenCV."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from shipped import shipped

from stages.config import Clahe, Preprocess
from stages.faces.decode import decode
from stages.faces.model_input import equalize, to_model_input
from stages.faces.shards import read_faces
from stages.loading import finishing
from stages.loading.augmentation import NO_AUGMENTATION, Variation, vary_colour
from stages.loading.dataset import FaceDataset
from stages.loading.finishing import Finish, equalize_batch, vary_colour_batch
from stages.loading.loader import EvalLoader, TrainLoader
from stages.loading.sampler import Draw, EpochSampler
from tests.loading.conftest import assert_same

PLAIN = shipped(Preprocess)
WITH_CLAHE = shipped(Preprocess, clahe=Clahe(clip_limit=3.0, tiles=4), mean=(0.4, 0.5, 0.6))
CPU = torch.device("cpu")
# Tensors without values: whoever wants to read one fails.
META = torch.device("meta")
devices = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
        ),
    ],
)
MakeDataset = Callable[..., FaceDataset]
DRAWS = [Draw(1, position, position % 70) for position in range(0, 100, 7)]


@devices
@pytest.mark.parametrize("preprocess", [PLAIN, WITH_CLAHE])
def test_evaluation_is_the_one_model_input_on_any_device(
    make_dataset, standardized, preprocess, device
) -> None:
    dataset = make_dataset(augmentation=NO_AUGMENTATION, preprocess=preprocess)
    finish = Finish(preprocess, device=torch.device(device))
    images = read_faces(standardized, ["image"])["image"]
    found = finish(dataset.unfinished([Draw(9, 4, row) for row in range(len(dataset))]))["image"]
    for row, image in enumerate(images):
        expected = to_model_input(decode(image), size=32, preprocess=preprocess)
        assert np.array_equal(found[row].cpu().numpy(), expected)


@devices
@pytest.mark.parametrize("preprocess", [PLAIN, WITH_CLAHE])
def test_the_device_finishes_training_faces_as_the_host_does(
    make_dataset, preprocess, device
) -> None:
    dataset = make_dataset(preprocess=preprocess)
    host = dataset[DRAWS]
    found = Finish(preprocess, device=torch.device(device))(dataset.unfinished(DRAWS))
    assert found["image"].is_contiguous(memory_format=torch.channels_last)
    assert found["image"].device.type == found["target"].device.type == device
    assert torch.equal(found["target"].cpu(), host["target"])
    assert torch.equal(found["index"], host["index"])
    std = torch.tensor(preprocess.std)[:, None, None]
    levels = (found["image"].cpu() - host["image"]).abs() * std * 255
    assert levels.mean() < 0.01


@devices
def test_colour_has_the_pixels_of_the_host(device) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (40, 37, 37, 3), dtype=np.uint8)
    images = np.stack([cv2.blur(image, (3, 3)) for image in noise])
    factors = rng.uniform(0.5, 1.5, (40, 3))
    factors[:2] = [[1, 1, 1], [0, 2, 0]]
    plain = Variation(1.0, 1.0, 0.0, 0.0, False, 1.0, 1.0, 1.0)
    expected = [
        vary_colour(image, plain._replace(brightness=b, contrast=c, saturation=s))
        for image, (b, c, s) in zip(images, factors.tolist(), strict=True)
    ]
    found = vary_colour_batch(
        torch.from_numpy(images).to(device), torch.from_numpy(factors).to(device)
    )
    differences = np.abs(found.cpu().numpy().astype(int) - np.stack(expected))
    # Where OpenCV has no vector instructions, it rounds single pixels otherwise.
    assert differences.max() <= 1
    assert differences.mean() < 0.1
    assert np.array_equal(found[0].cpu().numpy(), images[0])


def test_parts_of_a_batch_make_the_same_input(make_dataset, monkeypatch) -> None:
    batch = make_dataset(preprocess=WITH_CLAHE).unfinished(DRAWS)
    whole = Finish(WITH_CLAHE, device=CPU)(batch)["image"]
    monkeypatch.setattr(finishing, "_PIXELS_AT_ONCE", 4 * 32 * 32)
    assert torch.equal(Finish(WITH_CLAHE, device=CPU)(batch)["image"], whole)


def test_a_host_finished_batch_only_moves(make_dataset: MakeDataset) -> None:
    batch = make_dataset()[DRAWS]
    found = Finish(PLAIN, device=CPU)(batch)
    assert found.keys() == batch.keys()
    assert all(found[name] is batch[name] for name in batch)


def test_finishing_never_waits_for_what_the_device_has_found(make_dataset: MakeDataset) -> None:
    batch = make_dataset(preprocess=WITH_CLAHE).unfinished(DRAWS)
    found = Finish(WITH_CLAHE, device=META)(batch)
    assert found["image"].shape == (len(DRAWS), 3, 32, 32)
    assert found["image"].is_meta


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_finishing_never_synchronises_with_a_gpu(make_dataset: MakeDataset) -> None:
    batch = make_dataset(preprocess=WITH_CLAHE).unfinished(DRAWS)
    pinned = {name: part.pin_memory() for name, part in batch.items()}
    finish = Finish(WITH_CLAHE, device=torch.device("cuda"))
    finish(pinned)
    torch.cuda.set_sync_debug_mode("error")
    try:
        finish(pinned)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_loaders_leave_batches_unfinished_for_every_device_but_the_cpu(
    make_dataset: MakeDataset,
) -> None:
    dataset = make_dataset()
    sampler = EpochSampler(dataset.targets, batch_size=16, seed=5)
    finished, unfinished = (
        list(TrainLoader(dataset, sampler, workers=0, device=device).epoch(1))
        for device in (CPU, META)
    )
    for one, other in zip(finished, unfinished, strict=True):
        assert "colour" not in one
        assert other.keys() == {"image", "colour", "target", "index"}
        assert torch.equal(one["index"], other["index"])
    alone, spawned = (
        list(EvalLoader(dataset, batch_size=16, workers=workers, device=META)) for workers in (0, 1)
    )
    assert_same(spawned, alone)


@pytest.mark.parametrize("size", [32, 48, 61, 100])
@pytest.mark.parametrize("tiles", [1, 3, 8])
@pytest.mark.parametrize("clip_limit", [0.01, 2.0, 3.3, 40.0])
def test_pixels_are_those_of_opencv(size, tiles, clip_limit) -> None:
    images = _pictures(size)
    found = equalize_batch(torch.from_numpy(images), clip_limit=clip_limit, tiles=tiles)
    expected = [equalize(image, clip_limit=clip_limit, tiles=tiles) for image in images]
    _assert_same_pixels(found, np.stack(expected))


def test_a_grid_finer_than_the_picture_mirrors_it_again_and_again() -> None:
    images = _pictures(32)
    found = equalize_batch(torch.from_numpy(images), clip_limit=2.0, tiles=33)
    expected = [equalize(image, clip_limit=2.0, tiles=33) for image in images]
    _assert_same_pixels(found, np.stack(expected))


def test_every_colour_goes_to_luma_and_chroma_and_back_as_in_opencv(monkeypatch) -> None:
    monkeypatch.setattr("stages.loading.finishing._equalized", lambda luma, **_: luma)
    levels = np.arange(0, 256, 3, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 86, 86, 3)
    found = equalize_batch(torch.from_numpy(colours), clip_limit=2.0, tiles=8)
    flat = colours.reshape(-1, 86, 3)
    expected = cv2.cvtColor(cv2.cvtColor(flat, cv2.COLOR_RGB2YCrCb), cv2.COLOR_YCrCb2RGB)
    assert np.array_equal(found.numpy(), expected.reshape(colours.shape))


def test_a_face_does_not_depend_on_its_batch() -> None:
    images = torch.from_numpy(_pictures(48))
    together = equalize_batch(images, clip_limit=2.0, tiles=8)
    alone = [equalize_batch(image[None], clip_limit=2.0, tiles=8)[0] for image in images]
    assert torch.equal(together, torch.stack(alone))


def _pictures(size: int) -> np.ndarray:
    """Smooth, noisy, flat, black, white and half black pictures, uint8 (N, size, size, 3)."""
    rng = np.random.default_rng(size)
    noise = rng.integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    smooth = [cv2.blur(image, (5, 5)) for image in noise[:2]]
    flat = [np.full((size, size, 3), level, np.uint8) for level in (77, 0, 255)]
    half = np.zeros((size, size, 3), np.uint8)
    half[: size // 2] = 200
    return np.stack([*smooth, noise[2], *flat, half])


def _assert_same_pixels(found: torch.Tensor, expected: np.ndarray) -> None:
    """Equal but for single pixels of another rounding, which another OpenCV might bring."""
    differences = np.abs(found.numpy().astype(int) - expected)
    assert found.dtype == torch.uint8
    assert differences.max() <= 1
    assert differences.mean() < 1e-3

"""What a device makes of unfinished batches has the pixels of the host and of OpenCV."""

import cv2
import numpy as np
import pytest
import torch
from shipped import shipped

from stages.config import Augmentation, Clahe, Preprocess
from stages.faces.model_input import equalize
from stages.loading import finishing
from stages.loading.augmentation import NO_AUGMENTATION, Variation, vary_colour
from stages.loading.dataset import Unfinished
from stages.loading.finishing import Finish, equalize_batch, vary_colour_batch
from stages.loading.sampler import Draw
from tests.loading.conftest import STRONG, assert_same, in_rows

PLAIN = shipped(Preprocess)
WITH_CLAHE = shipped(Preprocess, clahe=Clahe(clip_limit=3.0, tiles=4), mean=(0.4, 0.5, 0.6))
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CUDA = pytest.param("cuda", marks=NEEDS_GPU)
devices = pytest.mark.parametrize("device", ["cpu", CUDA])
DRAWS = [Draw(1, position, position % 70) for position in range(0, 100, 7)]


@devices
@pytest.mark.parametrize("preprocess", [PLAIN, WITH_CLAHE])
def test_evaluation_is_the_one_model_input_and_training_that_of_the_host_on_any_device(
    make_dataset, monkeypatch, preprocess, device
) -> None:
    # In parts, the last of which is shorter.
    monkeypatch.setattr(finishing, "_PIXELS_AT_ONCE", 4 * 32 * 32)
    finish = Finish(preprocess, device=torch.device(device))
    strong = shipped(Augmentation, **STRONG)
    for augmentation, difference in (
        (NO_AUGMENTATION, 0.0),
        (shipped(Augmentation), 0.01),
        (strong, 0.01),
    ):
        dataset = make_dataset(augmentation=augmentation, preprocess=preprocess)
        host, finished = dataset[DRAWS], finish(Unfinished(dataset)[DRAWS])
        assert finished["image"].is_contiguous(memory_format=torch.channels_last)
        assert finished["image"].device.type == finished["target"].device.type == device
        assert torch.equal(finished["target"].cpu(), host["target"])
        assert torch.equal(finished["index"], host["index"])
        std = torch.tensor(preprocess.std)[:, None, None]
        levels = (finished["image"].cpu() - host["image"]).abs() * std * 255
        assert levels.mean() <= difference


@devices
def test_colour_has_the_pixels_of_the_host(device) -> None:
    images = _pictures(37).repeat(6, axis=0)
    factors = np.random.default_rng(0).uniform(0.5, 1.5, (len(images), 3))
    factors[:2] = [[1, 1, 1], [0, 2, 0]]
    expected = [
        vary_colour(image, Variation(1.0, 1.0, 0.0, 0.0, False, tuple(colour)))
        for image, colour in zip(images, factors.tolist(), strict=True)
    ]
    found = vary_colour_batch(*(torch.from_numpy(n).to(device) for n in (images, factors)))
    differences = np.abs(found.cpu().numpy().astype(int) - np.stack(expected))
    # Where OpenCV has no vector instructions, it rounds single pixels otherwise.
    assert differences.max() <= 1
    assert differences.mean() < 0.1
    assert np.array_equal(found[0].cpu().numpy(), images[0])


@pytest.mark.parametrize("device", ["meta", CUDA])
def test_finishing_never_waits_for_what_the_device_has_found(make_dataset, device, request) -> None:
    """Tensors on meta have no values: an operation that wants to read one fails."""
    batch = Unfinished(make_dataset(preprocess=WITH_CLAHE))[DRAWS]
    finish = Finish(WITH_CLAHE, device=torch.device(device))
    if device == "cuda":
        batch = {name: part.pin_memory() for name, part in batch.items()}
        finish(batch)
        request.addfinalizer(lambda: torch.cuda.set_sync_debug_mode("default"))
        torch.cuda.set_sync_debug_mode("error")
    assert finish(batch)["image"].shape == (len(DRAWS), 3, 32, 32)


def test_loaders_leave_batches_unfinished_for_every_device_but_the_cpu(dataset) -> None:
    meta = torch.device("meta")
    assert all("colour" not in batch for batch in in_rows(dataset))
    alone = list(in_rows(dataset, device=meta))
    assert alone[0].keys() == {"image", "colour", "target", "index"}
    assert_same(list(in_rows(dataset, workers=1, device=meta)), alone)


@pytest.mark.parametrize(
    ("size", "tiles", "clip_limit"),
    # A grid finer than the picture mirrors it again and again.
    [(32, 1, 2.0), (48, 3, 0.01), (61, 8, 3.3), (100, 3, 2.0), (100, 8, 40.0), (32, 33, 2.0)],
)
def test_pixels_are_those_of_opencv_whatever_the_batch(size, tiles, clip_limit) -> None:
    images = _pictures(size)
    options = {"clip_limit": clip_limit, "tiles": tiles}
    equalized = equalize_batch(torch.from_numpy(images), **options)
    differences = np.abs(
        equalized.numpy().astype(int) - np.stack([equalize(image, **options) for image in images])
    )
    # Equal but for single pixels of another rounding, which another OpenCV might bring.
    assert equalized.dtype == torch.uint8
    assert differences.max() <= 1
    assert differences.mean() < 1e-3
    alone = [equalize_batch(torch.from_numpy(image[None]), **options)[0] for image in images]
    assert torch.equal(equalized, torch.stack(alone))


def test_every_colour_goes_to_luma_and_chroma_and_back_as_in_opencv(monkeypatch) -> None:
    monkeypatch.setattr("stages.loading.finishing._equalized", lambda luma, **_: luma)
    levels = np.arange(0, 256, 3, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 86, 86, 3)
    found = equalize_batch(torch.from_numpy(colours), clip_limit=2.0, tiles=8)
    flat = colours.reshape(-1, 86, 3)
    expected = cv2.cvtColor(cv2.cvtColor(flat, cv2.COLOR_RGB2YCrCb), cv2.COLOR_YCrCb2RGB)
    assert np.array_equal(found.numpy(), expected.reshape(colours.shape))


def _pictures(size: int) -> np.ndarray:
    """Smooth, noisy, flat, black, white and half black pictures, uint8 (N, size, size, 3)."""
    rng = np.random.default_rng(size)
    noise = rng.integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    smooth = [cv2.blur(image, (5, 5)) for image in noise[:2]]
    flat = [np.full((size, size, 3), level, np.uint8) for level in (77, 0, 255)]
    half = np.zeros((size, size, 3), np.uint8)
    half[: size // 2] = 200
    return np.stack([*smooth, noise[2], *flat, half])

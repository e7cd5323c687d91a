"""Draws -> batches of model input, from the store of faces."""

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stages import config
from stages.faces.decode import Image, UnusableImageError, decode
from stages.faces.model_input import equalize, normalize
from stages.faces.shards import REMEDY
from stages.faces.store import FaceStore
from stages.loading.augmentation import (
    Variation,
    draw_variation,
    vary_colour,
    vary_geometry,
    vary_quality,
)
from stages.loading.sampler import Draw
from stages.runtime.errors import UserError
from stages.runtime.seed import generator

# `image` float32 (N, 3, S, S), channels last in memory; `target` int64 (N,), or shares of the
# classes, float32 (N, 7); `index` (the row) int64 (N,).
# Left to the device: `image` uint8 (N, S, S, 3) and `colour` float64 (N, 3), what `Finish` takes.
Batch = dict[str, Tensor]

# Faces of up to 512 x 512 px are decoded in the same memory, since the system clears new memory
# first, which takes up to half as long as decoding.
_BUFFER_BYTES = 512 * 512 * 3


class FaceDataset(Dataset[Batch]):
    """The faces of some manifest rows; an item is a whole batch.

    A face looks the same for the same (seed, epoch, position, row), whichever process makes it.
    With `NO_AUGMENTATION` it is exactly `faces.model_input.to_model_input`.
    """

    def __init__(
        self,
        store: FaceStore,
        *,
        positions: npt.NDArray[np.int64],
        targets: npt.NDArray[np.int64 | np.float32],
        image_size: int,
        preprocess: config.Preprocess,
        augmentation: config.Augmentation,
        seed: int,
    ) -> None:
        """Rows are numbered 0 .. n - 1; `positions` (n,) are theirs in the store."""
        assert len(positions) == len(targets)
        self.targets = targets
        self.preprocess = preprocess
        self._store = store
        self._positions = positions
        self.size = image_size
        self._augmentation = augmentation
        self._seed = seed
        # Each grey level normalised in each channel, (256, 1, 3).
        levels = np.arange(256, dtype=np.uint8).reshape(256, 1, 1).repeat(3, axis=2)
        normalized = normalize(levels, mean=preprocess.mean, std=preprocess.std)
        self._levels = np.ascontiguousarray(normalized.transpose(1, 2, 0))

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, draws: list[Draw]) -> Batch:
        pixels = np.empty((len(draws), self.size, self.size, 3), np.float32)
        square = np.empty((self.size, self.size, 3), np.uint8)
        for slot, (face, variation) in enumerate(self.faces(draws)):
            vary_geometry(face, variation, out=square)
            vary_quality(square, variation)
            image = vary_colour(square, variation)
            if (clahe := self.preprocess.clahe) is not None:
                image = equalize(image, clip_limit=clahe.clip_limit, tiles=clahe.tiles)
            cv2.LUT(image, self._levels, dst=pixels[slot])
        # The channels stay last in memory.
        return self.named(draws, image=torch.from_numpy(pixels).permute(0, 3, 1, 2))

    def faces(self, draws: list[Draw]) -> Iterator[tuple[Image, Variation]]:
        """Yield decoded faces and their variations; a face is valid only until the next.

        Raises:
            UserError: naming the face, if its image cannot be decoded.
        """
        # All before the first face: in between, this code would leave the processor's cache.
        rngs = (generator(self._seed, "augmentation", d.epoch, d.position) for d in draws)
        variations = [draw_variation(self._augmentation, rng=rng) for rng in rngs]
        positions = self._positions[[draw.row for draw in draws]]
        images = self._store.images(positions)
        buffer = np.empty(_BUFFER_BYTES, np.uint8)
        faces = zip(positions.tolist(), images, variations, strict=True)
        for position, image, variation in faces:
            try:
                yield decode(image, buffer=buffer), variation
            except UnusableImageError as error:
                shard, id_ = self._store.shard(position), self._store.id(position)
                raise UserError(f"{shard}: damaged at {id_}: {error}; {REMEDY}") from None

    def named(self, draws: list[Draw], *, image: Tensor) -> Batch:
        """Return the batch of images, with the targets and the rows of their draws."""
        rows = np.array([draw.row for draw in draws], np.int64)
        return {
            "image": image,
            "target": torch.from_numpy(self.targets[rows]),
            "index": torch.from_numpy(rows),
        }


class Unfinished(Dataset[Batch]):
    """The same faces as `Finish` takes them: decoded and varied in all but colour."""

    def __init__(self, faces: FaceDataset) -> None:
        self._faces = faces

    def __getitem__(self, draws: list[Draw]) -> Batch:
        images = np.empty((len(draws), self._faces.size, self._faces.size, 3), np.uint8)
        colours = []
        for image, (face, variation) in zip(images, self._faces.faces(draws), strict=True):
            vary_geometry(face, variation, out=image)
            vary_quality(image, variation)
            colours.append(variation.colour)
        colour = torch.tensor(colours, dtype=torch.float64).reshape(-1, 3)
        return self._faces.named(draws, image=torch.from_numpy(images)) | {"colour": colour}

"""Draws -> batches of model input, from the store of faces."""

import math
import weakref
from collections.abc import Iterator
from typing import TypeVar

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
from stages.loading.augmentation import Variation, draw_variation, vary_colour, vary_geometry
from stages.loading.sampler import Draw
from stages.runtime.errors import UserError
from stages.runtime.seed import generator

# `image` float32 (N, 3, S, S), channels last in memory; `target` and `index` (the row) int64 (N,).
# Left to the device: `image` uint8 (N, S, S, 3) and `colour` float64 (N, 3), what `Finish` takes.
Batch = dict[str, Tensor]

# Faces of up to 512 x 512 px are decoded one after the other in the same memory: the system clears
# new memory first, which takes up to half as long as decoding.
_BUFFER_BYTES = 512 * 512 * 3

Number = TypeVar("Number", np.uint8, np.float32)


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
        targets: npt.NDArray[np.int64],
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
        self._levels = _normalized_levels(preprocess)
        self._memory = BatchMemory()

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def image_bytes(self) -> int:
        """Bytes of an image of a batch."""
        return 3 * self.size**2 * np.dtype(np.float32).itemsize

    def __getitem__(self, draws: list[Draw]) -> Batch:
        """Make the batch of these draws.

        Raises:
            UserError: naming the face, if its image cannot be decoded.
        """
        pixels = self._memory.take(len(draws), self.size, self.size, 3, dtype=np.float32)
        square = np.empty((self.size, self.size, 3), np.uint8)
        for slot, (face, variation) in enumerate(self._faces(draws)):
            vary_geometry(face, variation, out=square)
            image = vary_colour(square, variation)
            if (clahe := self.preprocess.clahe) is not None:
                image = equalize(image, clip_limit=clahe.clip_limit, tiles=clahe.tiles)
            cv2.LUT(image, self._levels, dst=pixels[slot])
        # The channels stay last in memory.
        return self._named(draws, image=torch.from_numpy(pixels).permute(0, 3, 1, 2))

    def unfinished(self, draws: list[Draw]) -> Batch:
        """Make the batch as `Finish` takes it: decoded, cropped, resized and mirrored.

        Raises:
            UserError: naming the face, if its image cannot be decoded.
        """
        images = self._memory.take(len(draws), self.size, self.size, 3, dtype=np.uint8)
        colours = []
        for slot, (face, variation) in enumerate(self._faces(draws)):
            vary_geometry(face, variation, out=images[slot])
            colours.append(variation.colour)
        colour = torch.tensor(colours, dtype=torch.float64).reshape(-1, 3)
        return self._named(draws, image=torch.from_numpy(images)) | {"colour": colour}

    def _faces(self, draws: list[Draw]) -> Iterator[tuple[Image, Variation]]:
        """Yield decoded faces and their variations; a face is valid only until the next."""
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

    def _named(self, draws: list[Draw], *, image: Tensor) -> Batch:
        rows = np.array([draw.row for draw in draws], np.int64)
        return {
            "image": image,
            "target": torch.from_numpy(self.targets[rows]),
            "index": torch.from_numpy(rows),
        }


class Unfinished(Dataset[Batch]):
    """The same faces for a GPU: each item is what `FaceDataset.unfinished` makes of its draws."""

    def __init__(self, faces: FaceDataset) -> None:
        self._faces = faces

    def __len__(self) -> int:
        return len(self._faces)

    @property
    def image_bytes(self) -> int:
        """Bytes of an image of a batch."""
        return 3 * self._faces.size**2

    def __getitem__(self, draws: list[Draw]) -> Batch:
        return self._faces.unfinished(draws)


class BatchMemory:
    """Buffers of finished batches, reused once no array holds them.

    The system clears new memory, which for a large batch takes as long as filling it.
    """

    def __init__(self) -> None:
        # Threads may share it: `pop` and `append` are atomic.
        self._free: list[npt.NDArray[np.uint8]] = []

    def take(self, *shape: int, dtype: type[Number]) -> npt.NDArray[Number]:
        """Return an array of any content; its memory is free again once this object is gone.

        A tensor made of it by `torch.from_numpy` keeps the object alive.
        """
        number = math.prod(shape) * np.dtype(dtype).itemsize
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(number, np.uint8)
        if len(memory) < number:
            memory = np.empty(number, np.uint8)
        taken = memory[:number].view(dtype).reshape(shape)
        weakref.finalize(taken, self._free.append, memory).atexit = False
        return taken


def _normalized_levels(preprocess: config.Preprocess) -> npt.NDArray[np.float32]:
    """Normalise each grey level in each channel, (256, 1, 3)."""
    levels = np.arange(256, dtype=np.uint8).reshape(256, 1, 1).repeat(3, axis=2)
    normalized = normalize(levels, mean=preprocess.mean, std=preprocess.std)
    return np.ascontiguousarray(normalized.transpose(1, 2, 0))

"""Draws -> batches of model input, from the store of faces."""

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stages import config
from stages.loading.augmentation import draw_variation, vary_colour, vary_geometry
from stages.loading.sampler import Draw
from stages.loading.shards import REMEDY, FaceStore
from stages.preprocessing.clahe import equalize
from stages.preprocessing.decode import Image, decode
from stages.preprocessing.errors import UnusableImageError
from stages.preprocessing.model_input import normalize
from stages.runtime.errors import UserError
from stages.runtime.seed import generator

# `image` float32 (N, 3, S, S), channels last in memory; `target` and `index` (the row) int64 (N,).
Batch = dict[str, Tensor]


class FaceDataset(Dataset[Batch]):
    """The faces of some manifest rows; an item is a whole batch.

    A face looks the same for the same (seed, epoch, position, row), whichever process makes it.
    With `NO_AUGMENTATION` it is exactly `preprocessing.model_input.to_model_input`.
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
        self._store = store
        self._positions = positions
        self._size = image_size
        self._clahe = preprocess.clahe
        self._augmentation = augmentation
        self._seed = seed
        self._levels = _normalized_levels(preprocess)

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, draws: list[Draw]) -> Batch:
        """The batch of these draws.

        Raises:
            UserError: naming the face, if its image cannot be decoded.
        """
        images = np.empty((len(draws), self._size, self._size, 3), np.uint8)
        for slot, draw in enumerate(draws):
            images[slot] = self._face(draw)
        rows = np.array([draw.row for draw in draws], np.int64)
        return {
            "image": self._as_input(images),
            "target": torch.from_numpy(self.targets[rows]),
            "index": torch.from_numpy(rows),
        }

    def _face(self, draw: Draw) -> Image:
        rng = generator(self._seed, "augmentation", draw.epoch, draw.position)
        variation = draw_variation(self._augmentation, rng=rng)
        square = vary_geometry(self._decoded(draw.row), variation, size=self._size)
        coloured = vary_colour(square, variation)
        if self._clahe is None:
            return coloured
        return equalize(coloured, clip_limit=self._clahe.clip_limit, tiles=self._clahe.tiles)

    def _decoded(self, row: int) -> Image:
        position = int(self._positions[row])
        try:
            return decode(self._store.image(position))
        except UnusableImageError as error:
            shard, id_ = self._store.shard(position), self._store.id(position)
            raise UserError(f"{shard}: damaged at {id_}: {error}; {REMEDY}") from None

    def _as_input(self, images: Image) -> Tensor:
        """uint8 (N, S, S, 3) -> float32 (N, 3, S, S) without moving the channels in memory."""
        pixels = cv2.LUT(images.reshape(-1, self._size, 3), self._levels)
        return torch.from_numpy(pixels.reshape(images.shape)).permute(0, 3, 1, 2)


def _normalized_levels(preprocess: config.Preprocess) -> npt.NDArray[np.float32]:
    """What normalising makes of each grey level in each channel, (256, 1, 3)."""
    levels = np.arange(256, dtype=np.uint8).reshape(256, 1, 1).repeat(3, axis=2)
    normalized = normalize(levels, mean=preprocess.mean, std=preprocess.std)
    return np.ascontiguousarray(normalized.transpose(1, 2, 0))

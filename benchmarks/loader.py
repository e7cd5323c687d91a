"""`python -m benchmarks.loader`: how much faster the loader is than the classic chain, on one core.

Synthetic faces in JPEG (quality 90), as large as the output, are there as files and in shards. The
classic chain is Pillow, torchvision's RandomResizedCrop, RandomHorizontalFlip and ColorJitter,
CLAHE of Lab's L by OpenCV, ToTensor and Normalize in a DataLoader over the files. Against it stand
batches of training faces from the shards: `gpu` as the loader's processes leave them for a GPU,
`cpu` finished; `decode` alone is the limit. All take turns in one run, in one thread of one
process, each at its pace after a first batch. Times are the processor's: what else runs on its core
is not counted.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.command import Figures, run_benchmark
from benchmarks.shards import synthetic_face
from benchmarks.synthetic import draw_noise, draw_picture, draw_thumbnails, encode_jpeg
from stages.computing.device import keep_freed_memory
from stages.config import CLASSES, Clahe, Preprocess
from stages.faces.decode import decode
from stages.faces.shards import ShardWriter
from stages.faces.store import FaceStore
from stages.loading.augmentation import MAX_ASPECT, NO_AUGMENTATION
from stages.loading.dataset import FaceDataset, Unfinished
from stages.loading.sampler import BatchOrder, EpochSampler

ROUNDS = 7
# A turn is so long: the fast ones go through the faces several times.
ENOUGH_SECONDS = 0.5
SIZES_PX = (224, 384)
BATCH = 64
AUGMENTATION = NO_AUGMENTATION.model_copy(
    update={"crop_scale": (0.7, 1.0), "flip": 0.5}
    | dict.fromkeys(("brightness", "contrast", "saturation"), 0.2)
)
WITHOUT_CLAHE = Preprocess(clahe=None, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
WITH_CLAHE = WITHOUT_CLAHE.model_copy(update={"clahe": Clahe(clip_limit=2.0, tiles=8)})

Contender = Callable[[], Iterable[Any]]


class LabClahe:
    """The usual CLAHE of a Pillow picture: L of Lab."""

    def __init__(self, clahe: Clahe) -> None:
        self._settings = {"clipLimit": clahe.clip_limit, "tileGridSize": (clahe.tiles, clahe.tiles)}

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Return the picture equalised."""
        planes = cv2.cvtColor(np.array(picture), cv2.COLOR_RGB2LAB)
        planes[..., 0] = cv2.createCLAHE(**self._settings).apply(planes[..., 0])
        return Image.fromarray(cv2.cvtColor(planes, cv2.COLOR_LAB2RGB))


class PictureFiles(Dataset[tuple[Tensor, int]]):
    """Picture files, transformed one by one."""

    def __init__(self, files: Sequence[Path], transform: Callable[[Image.Image], Tensor]) -> None:
        self._files = files
        self._transform = transform

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        with Image.open(self._files[number]) as picture:
            return self._transform(picture.convert("RGB")), number % len(CLASSES)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print, return the exit code."""
    about = "Time the loader on one core against the classic chain on the same pictures."
    return run_benchmark(argv, name="loader", about=about, faces=256, measure=measure)


def measure(faces: int) -> Figures:
    """For each size of the output: ratios to the classic chain, their spread, and rates."""
    keep_freed_memory()
    with _one_thread():
        return {str(size): _compare(faces, size=size) for size in SIZES_PX}


def write_faces(folder: Path, number: int, *, size: int) -> list[Path]:
    """Write faces as `files/*.jpg` and as shards in `standardized/`; returns the files."""
    source = folder / "standardized" / "faces"
    source.mkdir(parents=True)
    (folder / "files").mkdir()
    files = [folder / "files" / f"{n:06d}.jpg" for n in range(number)]
    noise = draw_noise(width=size, height=size)
    with ShardWriter(source, shard_mb=512) as writer:
        for path, thumbnail in zip(files, draw_thumbnails(number), strict=True):
            picture = draw_picture(thumbnail, width=size, height=size, noise=noise)
            path.write_bytes(encode_jpeg(picture))
            label, id_ = CLASSES[int(path.stem) % len(CLASSES)], f"faces/{path.stem}"
            face = synthetic_face(id_, path.read_bytes(), thumbnail, label=label, side_px=size)
            writer.add(replace(face, split="train"))
        facts = {"rows": number, "rejects": {}, "crops": {"none": number, "box": 0, "aligned": 0}}
        writer.note(facts | {"boxes_partly_outside": 0, "boxes_in_turned_photos": {}})
    return files


def classic_chain(files: Sequence[Path], *, size: int, preprocess: Preprocess) -> DataLoader[Any]:
    """Batches of the files as most trainers make them."""
    ratio = (1 / MAX_ASPECT, MAX_ASPECT)
    jitter = (AUGMENTATION.brightness, AUGMENTATION.contrast, AUGMENTATION.saturation)
    steps = [
        transforms.RandomResizedCrop(size, scale=AUGMENTATION.crop_scale, ratio=ratio),
        transforms.RandomHorizontalFlip(AUGMENTATION.flip),
        transforms.ColorJitter(*jitter),
        *([LabClahe(preprocess.clahe)] if preprocess.clahe else []),
        transforms.ToTensor(),
        transforms.Normalize(preprocess.mean, preprocess.std),
    ]
    return DataLoader(PictureFiles(files, transforms.Compose(steps)), batch_size=BATCH)


def _compare(number: int, *, size: int) -> Figures:
    with tempfile.TemporaryDirectory() as name:
        files = write_faces(Path(name), number, size=size)
        bytes_per_face = round(statistics.mean(path.stat().st_size for path in files))
        contenders = _contenders(Path(name) / "standardized", files, size=size)
        turns = [{name: _seconds(make) for name, make in contenders.items()} for _ in range(ROUNDS)]
    seconds = {name: [turn[name] for turn in turns] for name in contenders}
    pairs = {
        "gpu": ("classic", "gpu"),
        "cpu": ("classic", "cpu"),
        "gpu_without_clahe": ("classic_without_clahe", "gpu"),
        "cpu_without_clahe": ("classic_without_clahe", "cpu_without_clahe"),
    }
    ratios = {name: np.divide(seconds[slow], seconds[fast]) for name, (slow, fast) in pairs.items()}
    return {
        **{name: round(statistics.median(values), 2) for name, values in ratios.items()},
        "spread": {name: f"{r.min():.2f} to {r.max():.2f}" for name, r in ratios.items()},
        "faces_per_s": {
            name: round(number / statistics.median(taken)) for name, taken in seconds.items()
        },
        "bytes_per_face": bytes_per_face,
    }


def _contenders(standardized: Path, files: Sequence[Path], *, size: int) -> dict[str, Contender]:
    store = FaceStore(standardized)
    targets = np.arange(len(files)) % len(CLASSES)
    order = BatchOrder(EpochSampler(targets, batch_size=BATCH, seed=0))

    def faces(preprocess: Preprocess) -> FaceDataset:
        return FaceDataset(
            store,
            positions=np.arange(len(files)),
            targets=targets,
            image_size=size,
            preprocess=preprocess,
            augmentation=AUGMENTATION,
            seed=0,
        )

    finished, plain = faces(WITH_CLAHE), faces(WITHOUT_CLAHE)
    unfinished = Unfinished(finished)
    images = list(store.images(np.arange(len(files))))
    return {
        "classic": lambda: classic_chain(files, size=size, preprocess=WITH_CLAHE),
        "gpu": lambda: map(unfinished.__getitem__, order),
        "cpu": lambda: map(finished.__getitem__, order),
        "classic_without_clahe": lambda: classic_chain(files, size=size, preprocess=WITHOUT_CLAHE),
        "cpu_without_clahe": lambda: map(plain.__getitem__, order),
        "decode": lambda: map(decode, images),
    }


def _seconds(make: Contender) -> float:
    """Of one pass over the faces; after a first batch, which finds the caches full of others'."""
    next(iter(make()))
    passes, start = 0, time.process_time()
    while (taken := time.process_time() - start) < ENOUGH_SECONDS:
        for _batch in make():
            pass
        passes += 1
    return taken / passes


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])


if __name__ == "__main__":
    raise SystemExit(main())

"""`standardized/` full of synthetic faces, in the mixture of sources of recipes/two_stage.yaml."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.synthetic import Pictures, draw_thumbnails, encode_jpeg, plant_copies
from stages.config import CLASSES
from stages.faces.fingerprint import THUMBNAIL_SIDE
from stages.faces.shards import Face, ShardWriter

# A copy has another label once in so many times.
_DISAGREES_EVERY = 10
_PHOTO_SIZES = (1, 1, 2)
_HQ_SHARE = 0.36


@dataclass(frozen=True)
class _Source:
    """`share` of all faces, and the shares of train, val and test in its own split."""

    name: str
    share: float
    native_px: int
    splits: tuple[float, float, float]


_SOURCES = (
    _Source("ferplus", 0.08, 48, (0.8, 0.1, 0.1)),
    _Source("rafdb_basic", 0.04, 100, (0.8, 0.0, 0.2)),
    _Source("affectnet_full_balanced", 0.62, 224, (0.9, 0.05, 0.05)),
)
# What the others leave; faces of photos, without a split of their own.
_PHOTOS = "expw"


def write_standardized(folder: Path, number: int) -> None:
    """Write the shards of all sources; the same number gives the same files."""
    thumbnails = draw_thumbnails(number)
    labels = _labels(plant_copies(thumbnails))
    ends = np.cumsum([int(source.share * number) for source in _SOURCES])
    parts = zip(np.split(thumbnails, ends), np.split(labels, ends), strict=True)
    for source, (pictures, names) in zip(_SOURCES, parts, strict=False):
        _write(folder / source.name, _faces(source, pictures, names))
    _write(folder / _PHOTOS, _photo_faces(thumbnails[ends[-1] :], labels[ends[-1] :]))


def _labels(origin: NDArray[np.int64]) -> NDArray[np.str_]:
    """A class for each face; copies have mostly that of their original."""
    labels = np.random.default_rng(1).choice(CLASSES, len(origin))
    copies = np.flatnonzero(origin != np.arange(len(origin)))
    agree = np.arange(len(copies)) % _DISAGREES_EVERY > 0
    labels[copies[agree]] = labels[origin[copies[agree]]]
    return labels


def _faces(source: _Source, thumbnails: Pictures, labels: NDArray[np.str_]) -> Iterator[Face]:
    splits = np.random.default_rng(2).choice(["train", "val", "test"], len(labels), p=source.splits)
    for number, (thumbnail, label) in enumerate(zip(thumbnails, labels, strict=True)):
        id_ = f"{source.name}/{number:07d}"
        face = _face(id_, thumbnail, label=str(label), native_px=source.native_px)
        yield replace(face, split=str(splits[number]))


def _photo_faces(thumbnails: Pictures, labels: NDArray[np.str_]) -> Iterator[Face]:
    """Faces of photos with one or two of them, of 20 to 200 px, above and below a confidence."""
    rng = np.random.default_rng(3)
    photos = np.repeat(np.arange(len(labels)), rng.choice(_PHOTO_SIZES, len(labels)))
    sizes, is_hq = rng.integers(20, 200, len(labels)), rng.random(len(labels)) < _HQ_SHARE
    for number, (thumbnail, label) in enumerate(zip(thumbnails, labels, strict=True)):
        quality, photo = "hq" if is_hq[number] else "lq", f"photo{photos[number]:07d}"
        face = _face(
            f"{_PHOTOS}_{quality}/{photo}#{number}",
            thumbnail,
            label=str(label),
            native_px=int(sizes[number]),
        )
        confidence = 80.0 if is_hq[number] else 40.0
        yield replace(face, photo=f"{_PHOTOS}/{photo}", confidence=confidence, crop="box")


def synthetic_face(
    id_: str, image: bytes, thumbnail: Pictures, *, label: str, side_px: int
) -> Face:
    """A square face of a photo of its own, with neither votes nor a split."""
    return Face(
        id=id_,
        image=image,
        width=side_px,
        height=side_px,
        native_px=side_px,
        label=label,
        votes=None,
        split=None,
        photo=id_,
        confidence=None,
        sha256=hashlib.sha256(thumbnail.tobytes()).hexdigest(),
        dhash=0,
        thumbnail=thumbnail.tobytes(),
        crop="none",
        raw=id_,
    )


def _face(id_: str, thumbnail: Pictures, *, label: str, native_px: int) -> Face:
    image = encode_jpeg(thumbnail.reshape(THUMBNAIL_SIDE, THUMBNAIL_SIDE), quality=50)
    face = synthetic_face(id_, image, thumbnail, label=label, side_px=THUMBNAIL_SIDE)
    return replace(face, native_px=native_px)


def _write(folder: Path, faces: Iterator[Face]) -> None:
    folder.mkdir(parents=True)
    crops = Counter(none=0, box=0, aligned=0)
    with ShardWriter(folder, shard_mb=512) as writer:
        for face in faces:
            writer.add(face)
            crops[face.crop] += 1
        facts = {"rows": crops.total(), "rejects": {}, "crops": dict(crops)}
        writer.note(
            facts | {"boxes_partly_outside": 0, "boxes_in_turned_photos": {}, "face_detector": None}
        )

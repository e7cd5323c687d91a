"""Synthetic raw datasets as zips, each in the form, sizes and encoding of one that people have."""

import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.synthetic import (
    Pictures,
    draw_noise,
    draw_picture,
    draw_thumbnails,
    encode_jpeg,
)
from stages.config import CLASSES
from stages.faces.decode import encode_png

_FERPLUS_PX, _RAFDB_PX, _AFFECTNET_PX, _PHOTO_PX = 48, 100, (224, 512), (640, 480)
# In turn; 2.5 on average.
_FACES_OF_PHOTO = (1, 2, 3, 4)
_BOX_PX = (40, 150)
# Drawing takes longer than decoding; so many different pictures come again and again.
_NUM_DRAWN = 500
_Members = Iterator[tuple[str, bytes]]


@dataclass(frozen=True)
class RawKind:
    """A dataset's format in params.yaml, and what its zip holds for a number of pictures.

    `share` is that of the faces asked for; large pictures are slow.
    """

    format: str
    share: float
    members: Callable[[int], _Members]

    def params(self, path: str) -> dict[str, Any]:
        """Its section below `standardize.sources`."""
        return {"format": self.format, "path": path}

    def write(self, path: Path, number: int) -> None:
        """Write a zip of so many pictures, packed as datasets come."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in self.members(number):
                archive.writestr(name, data)


def _ferplus(number: int) -> _Members:
    """Grey PNGs of 48 px beside a table of votes."""
    sides = [_FERPLUS_PX] * _NUM_DRAWN
    drawn = [encode_png(np.ascontiguousarray(image[:, :, 1])) for image in _squares(number, sides)]
    lines = []
    for n in range(number):
        votes = ",".join("10" if column == n % 7 else "0" for column in range(10))
        lines.append(f'fer{n:07d}.png,"(0, 0, {_FERPLUS_PX}, {_FERPLUS_PX})",{votes}')
        yield f"FER2013Train/fer{n:07d}.png", drawn[n % len(drawn)]
    yield "FER2013Train/label.csv", _text(lines)


def _rafdb(number: int) -> _Members:
    """Aligned JPEGs of 100 px and a list of labels."""
    drawn = [encode_jpeg(image) for image in _squares(number, [_RAFDB_PX] * _NUM_DRAWN)]
    for n in range(number):
        yield f"Image/aligned/train_{n:05d}_aligned.jpg", drawn[n % len(drawn)]
    lines = [f"train_{n:05d}.jpg {1 + n % 7}" for n in range(number)]
    yield "EmoLabel/list_patition_label.txt", _text(lines)


def _affectnet(number: int) -> _Members:
    """JPEGs of 224 to 512 px in class folders."""
    sides = np.random.default_rng(0).integers(*_AFFECTNET_PX, _NUM_DRAWN, endpoint=True).tolist()
    drawn = [encode_jpeg(image) for image in _squares(number, sides)]
    for n in range(number):
        yield f"train/{CLASSES[n % 7]}/{n:06d}.jpg", drawn[n % len(drawn)]


def _expw(number: int) -> _Members:
    """Photos of 640 x 480 px with one to four faces each, and the list of their boxes."""
    width, height = _PHOTO_PX
    noise, rng = draw_noise(width=width, height=height), np.random.default_rng(0)
    drawn = [
        encode_jpeg(draw_picture(thumbnail, width=width, height=height, noise=noise))
        for thumbnail in draw_thumbnails(min(number, _NUM_DRAWN))
    ]
    lines = []
    for n in range(number):
        yield f"origin/{n:06d}.jpg", drawn[n % len(drawn)]
        for face in range(_FACES_OF_PHOTO[n % len(_FACES_OF_PHOTO)]):
            side, left, top = int(rng.integers(*_BOX_PX)), 10 + face * width // 4, 150
            box = f"{top} {left} {left + side} {top + side}"
            lines.append(f"{n:06d}.jpg {face} {box} {rng.integers(20, 99)} {n % 7}")
    yield "label/label.lst", _text(lines)


def _squares(number: int, sides: Sequence[int]) -> Iterator[Pictures]:
    """Unlike pictures of these sides, px, as many as there are sides but at most `number`."""
    noise = draw_noise(width=max(sides), height=max(sides))
    for thumbnail, side in zip(draw_thumbnails(len(sides))[:number], sides, strict=False):
        yield draw_picture(thumbnail, width=side, height=side, noise=noise)


def _text(lines: Iterable[str]) -> bytes:
    return "\n".join(lines).encode()


# In the order of their pictures' sizes.
RAW_KINDS = {
    "ferplus_48_png": RawKind("ferplus", 1.0, _ferplus),
    "rafdb_100_jpeg": RawKind("rafdb_basic", 0.5, _rafdb),
    "affectnet_224_512_jpeg": RawKind("folder7", 0.1, _affectnet),
    "expw_640x480_photos": RawKind("expw", 0.05, _expw),
}

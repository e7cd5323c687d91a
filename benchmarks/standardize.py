"""`python -m benchmarks.standardize`: standardize on one core, beside plain decoding.

For each kind of raw dataset, as a zip: plain decoding reads every picture out of the zip and
decodes it once; standardize does all that the stage does with that zip in one process, from the
raw bytes' hash to shards, rejects and contact sheets. Both take turns in one run.

`share_of_decoding` is the rate of the one divided by that of the other, in pictures for a second of
processor time: the median over the rounds, and the least and most of them. `highest_share` is what
it would be if standardize did, in its own ways, only what its files' definition demands: read and
decode every picture, make an uncompressed PNG of every crop, and take the SHA-256 of the zip, of
every stored picture's pixels, and of the shards (whose writing is not counted).
"""

import hashlib
import shutil
import statistics
import tempfile
import time
import zipfile
from collections.abc import Sequence
from contextlib import chdir
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.command import Figures, run_benchmark, seconds_of
from benchmarks.raw_zips import RAW_KINDS
from benchmarks.scratch import ROOT
from stages.config import Standardize, load_params
from stages.faces.decode import decode, encode_png
from stages.faces.shards import read_faces, shard_paths
from stages.intake.reuse import finished_source, read_framing
from stages.runtime.files import sha256_file
from stages.runtime.workers import one_opencv_thread
from stages.sources.pictures import PICTURE_SUFFIXES, suffix
from stages.sources.tree import open_tree

ROUNDS = 5
_Pictures = list[NDArray[np.uint8]]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print, return the exit code."""
    about = "Time standardize on one core against plain decoding of the same pictures."
    return run_benchmark(argv, name="standardize", about=about, faces=20_000, measure=measure)


def measure(faces: int) -> Figures:
    """Figures of one run for each kind of dataset."""
    figures = {}
    shipped = load_params(ROOT / "recipes" / "two_stage.yaml").standardize
    with tempfile.TemporaryDirectory() as folder, chdir(folder), one_opencv_thread():
        for name, kind in RAW_KINDS.items():
            path = Path(f"{name}.zip")
            kind.write(path, max(1, int(faces * kind.share)))
            sources = {name: kind.params(path.name)}
            settings = Standardize.model_validate({**dict(shipped), "sources": sources})
            figures[name] = _compare(name, path, settings)
            path.unlink()
    return figures


def _compare(name: str, path: Path, settings: Standardize) -> Figures:
    # Processor time: other jobs do not stretch it, and waiting for the disk is no part of it.
    cpu_seconds = partial(seconds_of, clock=time.process_time)
    framing = read_framing(settings, raw=Path())
    standardize = partial(
        finished_source, name, raw=Path(), settings=settings, framing=framing, workers=0
    )
    decoding, whole, least = [], [], []
    for _ in range(ROUNDS):
        decoding.append(cpu_seconds(lambda: _decode(path)))
        whole.append(cpu_seconds(standardize))
        finished = Path(".work", "standardize", name)
        stored, crops = _stored_pictures(finished)
        files = [path, *shard_paths(finished)]
        least.append(cpu_seconds(partial(_do_the_least, path, stored, crops, files)))
        shutil.rmtree(".work")
    num_pictures = _decode(path)
    shares = [decode_s / whole_s for decode_s, whole_s in zip(decoding, whole, strict=True)]
    limits = [decode_s / least_s for decode_s, least_s in zip(decoding, least, strict=True)]
    return {
        "pictures": num_pictures,
        "faces": len(stored),
        "decode_per_s": round(num_pictures / statistics.median(decoding), 1),
        "standardize_per_s": round(num_pictures / statistics.median(whole), 1),
        "share_of_decoding": round(statistics.median(shares), 3),
        "lowest": round(min(shares), 3),
        "highest": round(max(shares), 3),
        "highest_share": round(statistics.median(limits), 3),
    }


def _decode(path: Path) -> int:
    """Decode every picture of a zip; how many there are."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if suffix(name) in PICTURE_SUFFIXES]
        for name in names:
            cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_COLOR_RGB)
    return len(names)


def _stored_pictures(finished: Path) -> tuple[_Pictures, _Pictures]:
    """All stored pictures, and those among them that were cut out of photos."""
    faces = read_faces(finished, ["image", "crop"])
    pictures = [decode(image) for image in faces["image"]]
    return pictures, [pictures[row] for row in np.flatnonzero(faces["crop"] != "none")]


def _do_the_least(path: Path, pictures: _Pictures, crops: _Pictures, files: Sequence[Path]) -> None:
    with open_tree(path, key="path") as tree:
        for member in tree.members:
            if suffix(member) in PICTURE_SUFFIXES:
                decode(tree.read(member))
    for picture in pictures:
        hashlib.sha256(picture.data).hexdigest()
    for crop in crops:
        encode_png(crop, compressed=False)
    for file in files:
        sha256_file(file)


if __name__ == "__main__":
    raise SystemExit(main())

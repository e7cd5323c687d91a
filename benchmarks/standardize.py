"""`python -m benchmarks.standardize`: rows a second of one core, beside plain decoding.

Two synthetic sources: faces that are read as they are (JPEG, 100 to 224 px, in class folders) and
faces with boxes on photos of 640 x 480 px (as ExpW has them). The real intake, without worker
threads, and `cv2.imdecode` on the same bytes in one thread take turns in one run.
"""

import shutil
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import chdir
from pathlib import Path

import cv2
import numpy as np

from benchmarks.command import Figures, run_benchmark
from benchmarks.synthetic import draw_noise, draw_picture, draw_thumbnails, encode_jpeg
from stages.config import Standardize
from stages.intake.reuse import finished_source, read_framing
from stages.sources.labels import CLASSES

ROUNDS = 3
SIDES_PX = (100, 224)
PHOTO_PX = (640, 480)
FACES_PER_PHOTO = 2
# Photos are slow to draw and to read: a quarter of the faces is enough.
PHOTO_FACES_SHARE = 0.25
SETTINGS = {
    "sources": {
        "faces": {"format": "folder7", "path": "faces.zip"},
        "photos": {"format": "expw", "path": "photos.zip"},
    }
}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print, return the exit code."""
    about = "Time standardize on one core against plain decoding of the same pictures."
    return run_benchmark(argv, name="standardize", about=about, faces=4_000, measure=measure)


def measure(faces: int) -> Figures:
    """Figures of one run for each kind of source; the medians of several rounds."""
    settings = Standardize.model_validate(SETTINGS)
    num_photos = max(1, int(faces * PHOTO_FACES_SHARE / FACES_PER_PHOTO))
    rows = {"faces": faces, "photos": num_photos * FACES_PER_PHOTO}
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            write_faces(Path("faces.zip"), faces)
            write_photos(Path("photos.zip"), num_photos)
            return {name: _compare(name, rows[name], settings=settings) for name in rows}
    finally:
        cv2.setNumThreads(threads)


def write_faces(path: Path, number: int) -> None:
    """A zip `train/<class>/<n>.jpg` of square faces."""
    noise = draw_noise(width=SIDES_PX[1], height=SIDES_PX[1])
    sides = np.random.default_rng(0).integers(*SIDES_PX, number, endpoint=True)
    with zipfile.ZipFile(path, "w") as archive:
        for n, (thumbnail, side) in enumerate(zip(draw_thumbnails(number), sides, strict=True)):
            image = draw_picture(thumbnail, width=int(side), height=int(side), noise=noise)
            archive.writestr(f"train/{CLASSES[n % 7]}/{n:06d}.jpg", encode_jpeg(image))


def write_photos(path: Path, number: int) -> None:
    """A zip `origin/<n>.jpg` and `label.lst`; each photo has its faces side by side."""
    width, height = PHOTO_PX
    noise, rng = draw_noise(width=width, height=height), np.random.default_rng(0)
    lines = []
    with zipfile.ZipFile(path, "w") as archive:
        for n, thumbnail in enumerate(draw_thumbnails(number)):
            image = draw_picture(thumbnail, width=width, height=height, noise=noise)
            archive.writestr(f"origin/{n:06d}.jpg", encode_jpeg(image))
            for face in range(FACES_PER_PHOTO):
                side, left, top = int(rng.integers(40, 200)), 40 + face * width // 2, 100
                box = f"{top} {left} {left + side} {top + side}"
                lines.append(f"{n:06d}.jpg {face} {box} {rng.integers(20, 99)} {n % 7}")
        archive.writestr("label.lst", "\n".join(lines))


def _compare(name: str, rows: int, *, settings: Standardize) -> Figures:
    seconds: dict[str, list[float]] = {"standardize": [], "decode": []}
    with zipfile.ZipFile(f"{name}.zip") as archive:
        images = [archive.read(n) for n in archive.namelist() if n.endswith(".jpg")]
    for _ in range(ROUNDS):
        seconds["decode"].append(_seconds(lambda: _decode(images)))
        seconds["standardize"].append(_seconds(lambda: _standardize(name, settings)))
        shutil.rmtree(".work")
    standardize_s, decode_s = (statistics.median(seconds[part]) for part in seconds)
    return {
        "rows": rows,
        "pictures": len(images),
        "standardize_rows_per_s": round(rows / standardize_s, 1),
        "decode_pictures_per_s": round(len(images) / decode_s, 1),
        "time_ratio": round(standardize_s / decode_s, 2),
    }


def _standardize(name: str, settings: Standardize) -> None:
    raw = Path()
    framing = read_framing(settings, raw=raw)
    finished_source(name, raw=raw, settings=settings, framing=framing, workers=0)


def _decode(images: Sequence[bytes]) -> None:
    for data in images:
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    raise SystemExit(main())

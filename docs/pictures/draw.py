"""`python docs/pictures/draw.py YUNET`: the pictures of README.md, from a finished sample run.

In: YuNet's ONNX file, which finds the faces of a photo; a contact sheet below standardized/; the
page of the run; Chromium. Out: faces.png, page.png and photo.png beside this file, small enough to
be committed.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
SHEET = ROOT / "standardized/affectnet_full_balanced/sheet.png"
PAGE = ROOT / "plots/report.html"
PHOTO = ROOT / "raw/sample/expw/origin/photo_0012.jpg"
BROWSER = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
    "--window-size=1400,900",
)


def main(detector: str) -> None:
    """Show eight faces of each class, the page's first screen, and a photo with its answers."""
    save("faces.png", scale(read(SHEET)[:, :907], width=640))
    with tempfile.TemporaryDirectory() as name:
        screen, out = Path(name, "page.png"), Path(name, "out")
        subprocess.run([*BROWSER, f"--screenshot={screen}", PAGE.as_uri()], check=True)
        save("page.png", scale(read(screen), width=1000))
        predict = [sys.executable, "-m", "tools.predict", str(PHOTO), "--detector", detector]
        subprocess.run([*predict, "--out", str(out)], check=True, cwd=ROOT)
        save("photo.png", read(next((out / "annotated").iterdir())))


def read(path: Path) -> np.ndarray:
    """Read a picture, (H, W, 3)."""
    image = cv2.imread(str(path))
    if image is None:
        raise SystemExit(f"{path}: expected a picture; run `dvc repro` with the sample recipe")
    return image


def scale(image: np.ndarray, *, width: int) -> np.ndarray:
    """Scale to a width, keeping the proportions."""
    height = round(len(image) * width / image.shape[1])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def save(name: str, image: np.ndarray) -> None:
    """Write a PNG of 128 colours beside this file."""
    picture = Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).quantize(128)
    picture.save(Path(__file__).with_name(name), optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

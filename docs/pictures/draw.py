"""`python docs/pictures/draw.py`: the two pictures of README.md, from a finished sample run.

In: a contact sheet below standardized/ and figures below plots/figures/. Out: faces.png and
numbers.png beside this file, small enough to be committed.
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
SHEET = "standardized/affectnet_full_balanced/sheet.png"
FIGURES = ("confusion_stageA_fused_fixed.png", "reliability_stageA_fused_fixed.png")


def main() -> None:
    """Show eight faces of each class, and put the figures side by side."""
    save("faces.png", scale(read(SHEET)[:, :907], width=640))
    figures = [read(f"plots/figures/{name}") for name in FIGURES]
    height = min(len(figure) for figure in figures)
    same = [scale(f, width=round(f.shape[1] * height / len(f))) for f in figures]
    save("numbers.png", scale(np.hstack(same), width=900))


def read(path: str) -> np.ndarray:
    """Read a picture of the run, (H, W, 3)."""
    image = cv2.imread(str(ROOT / path))
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
    main()

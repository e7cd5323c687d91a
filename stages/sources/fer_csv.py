"""The csv of FER2013, which FERPlus has too: a picture a row, as 48 x 48 grey values in words."""

import cv2
import numpy as np

from stages.sources.labels import Split
from stages.sources.tree import RawTree

SIDE_PX = 48
USAGES: dict[str, Split] = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
TABLES = ("fer2013.csv", "icml_face_data.csv")


def find_pixels(tree: RawTree) -> str | None:
    """The table of pixels, by either of its names.

    Raises:
        UserError: if there are several of one name.
    """
    return tree.find(TABLES[0]) or tree.find(TABLES[1])


def row_name(number: int) -> str:
    """What ids call the picture of the `number`-th row, counted from 0: `row0000123`.

    FERPlus calls pictures `fer0000123`, by a count of its own that soon falls behind the rows.
    """
    return f"row{number:07d}"


def as_png(pixels: str) -> bytes | None:
    """Pixel values in words as a PNG; None if they are not the 48 x 48 grey values expected."""
    words = pixels.split()
    digits = "".join(words)
    if len(words) != SIDE_PX**2 or not (digits.isascii() and digits.isdigit()):
        return None
    try:
        values = np.frombuffer(bytes(map(int, words)), np.uint8)
    except ValueError:  # above 255
        return None
    done, data = cv2.imencode(".png", values.reshape(SIDE_PX, SIDE_PX))
    assert done
    return bytes(data)

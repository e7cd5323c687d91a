"""Encoded pictures <-> RGB arrays; the one place where channel order is decided."""

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.preprocessing.errors import UnusableImageError

Image = NDArray[np.uint8]


def decode(data: bytes | memoryview) -> Image:
    """Decode a picture to RGB, (H, W, 3); grey becomes three equal channels, alpha is dropped.

    An EXIF orientation is applied.

    Raises:
        UnusableImageError: `image_unreadable` for anything but a whole picture; OpenCV 5 refuses
            files that stop early.
    """
    if not len(data):
        raise UnusableImageError("image_unreadable", "0 bytes")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise UnusableImageError("image_unreadable", f"{len(data)} bytes: {error.err}") from None
    if image is None:
        raise UnusableImageError("image_unreadable", f"{len(data)} bytes, not a picture")
    return np.asarray(image, np.uint8)


def encode_png(image: Image) -> bytes:
    """Encode an RGB picture (H, W, 3), or a grey one (H, W), without loss.

    The same OpenCV gives the same bytes for the same pixels, on every machine.
    """
    bgr = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".png", bgr)
    assert done
    return bytes(data)

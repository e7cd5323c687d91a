"""Encoded pictures <-> RGB arrays as they are seen, and the boxes of faces turned with them.

The one place where channel order is decided.
"""

import io
import math
import struct
import warnings
from dataclasses import KW_ONLY, dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import DecompressionBombError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

Image = NDArray[np.uint8]

MAX_PIXELS = 100_000_000  # they take 300 MB
MAX_ANGLE = 45.0  # degrees: a face is turned upright by no more
# Which pixels a box counts: as the file stores them, or turned by its EXIF orientation, as seen.
Pixels = Literal["stored", "turned"]

# How each format starts; a file's name does not decide.
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_READERS: dict[bytes, type[ImageFile]] = {
    _JPEG: JpegImageFile,
    b"RIFF": WebPImageFile,
    b"BM": BmpImageFile,
    b"GIF8": GifImageFile,
    b"II": TiffImageFile,
    b"MM": TiffImageFile,
    b"P": PpmImageFile,
}
_EXIF = b"Exif\0\0"
_ORIENTATION = 0x0112
_NO_FILTER = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)
_UNCOMPRESSED = [cv2.IMWRITE_PNG_COMPRESSION, 0, *_NO_FILTER]
# What Pillow raises for broken files: it has no class of its own for that.
_BROKEN = (SyntaxError, OSError, ValueError, LookupError, EOFError, TypeError, struct.error)

# Both libraries would write lines of their own about broken files, which get a row in rejects.csv.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnusableImageError(ValueError):
    """A picture from which no face can be made; `reason` is one of `sources.rows.FAULTS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class BoxPx(NamedTuple):
    """A face in its photo as seen, px: left and top inclusive, right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Box:
    """A face in its photo as a dataset states it: whole px, or shares of width and height."""

    left: float
    top: float
    right: float
    bottom: float
    _: KW_ONLY
    unit: Literal["px", "share"]
    pixels: Pixels

    def __str__(self) -> str:
        corners = f"({self.left:g}, {self.top:g})-({self.right:g}, {self.bottom:g})"
        return f"box {corners} {self.unit} of the {self.pixels} picture"

    def as_seen(self, *, orientation: int, width: int, height: int) -> BoxPx:
        """Turn the box by the photo's EXIF orientation; shares are rounded to the nearest pixel.

        An empty box stays empty. `width` and `height` are those of the photo as seen.

        Raises:
            UnusableImageError: `box_outside` if a share is no finite number.
        """
        turn = orientation if self.pixels == "stored" else 1
        left, top, right, bottom = self.left, self.top, self.right, self.bottom
        if turn >= 5:  # rows become columns
            left, top, right, bottom = top, left, bottom, right
        whole = (width, height) if self.unit == "px" else (1, 1)
        if turn in (2, 3, 6, 7):
            left, right = whole[0] - right, whole[0] - left
        if turn in (3, 4, 7, 8):
            top, bottom = whole[1] - bottom, whole[1] - top
        edges = (left, top, right, bottom)
        if self.unit == "px":
            return BoxPx(*map(round, edges))
        scaled = [edge * side for edge, side in zip(edges, (width, height) * 2, strict=True)]
        if not all(map(math.isfinite, scaled)):
            raise UnusableImageError("box_outside", f"box {edges} is not finite")
        return BoxPx(*map(round, scaled))


def decode(data: bytes | memoryview, *, buffer: Image | None = None) -> Image:
    """Decode a picture to RGB, (H, W, 3); grey becomes three equal channels, alpha is dropped.

    BMP, GIF, JPEG, PNG, PNM, TIFF and WebP. An EXIF orientation is applied, 16 bits become 8.
    `buffer` (n,) saves new memory: the picture may then be a part of it.

    Raises:
        UnusableImageError: `image_unreadable` for anything but a whole picture; `image_too_large`
            above `MAX_PIXELS`, `image_animated` for several frames or pages, both by the header.
    """
    if not len(data):
        raise UnusableImageError("image_unreadable", "0 bytes")
    # As bytes: a memoryview of a shard's signed ones is equal to nothing.
    start = bytes(data[:8])
    if start == _PNG:
        _check_png(data)
    elif start.startswith(_JPEG) and (image := _decode_jpeg(data, buffer=buffer)) is not None:
        return image
    else:
        header = _checked_header(data)
        if isinstance(header, TiffImageFile) and header.mode == "RGBA":
            # OpenCV 5.0 multiplies 8-bit colours with their alpha here: hidden ones turn black.
            # Pillow applies a TIFF's orientation by itself.
            try:
                return np.asarray(header.convert("RGB"), np.uint8)
            except _BROKEN as error:
                raise UnusableImageError("image_unreadable", f"TIFF: {error}") from None
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        detail = f"{len(data)} bytes: {' '.join(error.err.split())}"
        raise UnusableImageError("image_unreadable", detail) from None
    if decoded is None:
        raise UnusableImageError("image_unreadable", f"{len(data)} bytes, not a whole picture")
    return np.asarray(decoded, np.uint8)


def orientation(data: bytes, *, image: Image) -> int:
    """Find the EXIF orientation, 1 (none) to 8, by which `decode` turned the pixels to `image`."""
    if data.startswith(_JPEG) and _EXIF not in data:
        return 1
    if data.startswith((b"II", b"MM")):  # OpenCV knows no other way than to turn a TIFF
        tag = _checked_header(data).getexif().get(_ORIENTATION, 1)
        return int(tag) if tag in range(1, 9) else 1
    # Pixels are compared, since no two readers of EXIF agree on what is broken.
    as_stored = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    stored = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), as_stored), np.uint8)
    fitting = [number for number in range(1, 9) if np.array_equal(_turned(stored, number), image)]
    assert fitting, "no orientation makes the picture of the stored pixels"
    return fitting[0]


def encode_png(image: Image, *, compressed: bool = True) -> bytes:
    """Encode an RGB picture (H, W, 3), or a grey one (H, W), without loss.

    The same OpenCV gives the same bytes on every machine. Uncompressed, a photo takes twice the
    space and is written in a tenth and read in an eighth of the time.
    """
    bgr = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".png", bgr, [] if compressed else _UNCOMPRESSED)
    assert done
    return bytes(data)


def _turned(image: Image, orientation: int) -> Image:
    if orientation in (2, 3, 7, 8):
        image = image[:, ::-1]
    if orientation in (3, 4, 6, 7):
        image = image[::-1]
    return image.transpose(1, 0, 2) if orientation >= 5 else image


def _check_png(data: bytes | memoryview) -> None:
    """Refuse a PNG by its chunks; OpenCV would set aside the gigabytes that a broken one claims."""
    place, kind = len(_PNG), b""
    while kind != b"IEND":
        if len(data) < place + 8:
            raise UnusableImageError("image_unreadable", f"{len(data)} bytes, a PNG without end")
        length, kind = struct.unpack_from(">I4s", data, place)
        body = data[place + 8 : place + 8 + length]
        if len(body) < length or (kind in (b"IHDR", b"acTL") and length < 8):
            detail = f"{len(data)} bytes, a PNG's chunk at {place} claims {length}"
            raise UnusableImageError("image_unreadable", detail)
        if kind == b"IHDR":
            _check_size(*struct.unpack_from(">II", body))
        if kind == b"acTL" and struct.unpack_from(">I", body)[0] > 1:
            raise UnusableImageError("image_animated", "PNG of several pictures")
        place += 12 + length


def _decode_jpeg(data: bytes | memoryview, *, buffer: Image | None) -> Image | None:
    """Decode a JPEG without faults by libjpeg-turbo itself: OpenCV's pixels in less time.

    None means that Pillow and OpenCV must look. An orientation is OpenCV's to apply.
    """
    if _EXIF in bytes(data):
        return None
    array = np.frombuffer(data, np.uint8)
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(array)
        _check_size(width, height)
        if buffer is not None and len(buffer) < 3 * width * height:
            buffer = None
        return np.asarray(simplejpeg.decode_jpeg(array, buffer=buffer), np.uint8)
    except ValueError:
        return None


def _checked_header(data: bytes | memoryview) -> ImageFile:
    """Read the header of a picture, and refuse a picture that is too large or animated."""
    readers = (_READERS[magic] for magic in _READERS if bytes(data[:8]).startswith(magic))
    reader = next(readers, None)
    if reader is None:
        raise UnusableImageError("image_unreadable", f"{len(data)} bytes, not a picture")
    try:
        header = reader(io.BytesIO(data))
        # Not every format has the attribute, and GIF reads on to answer.
        animated = getattr(header, "is_animated", False)
    except DecompressionBombError as error:
        raise UnusableImageError("image_too_large", str(error)) from None
    except _BROKEN as error:
        raise UnusableImageError("image_unreadable", f"{len(data)} bytes: {error}") from None
    _check_size(header.width, header.height)
    if animated:
        raise UnusableImageError("image_animated", f"{header.format} of several pictures")
    return header


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnusableImageError("image_too_large", f"{width} x {height} px")

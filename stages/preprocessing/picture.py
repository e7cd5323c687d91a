"""Raw picture, with or without a face box -> the picture to store, and what is known of it."""

from dataclasses import dataclass

from stages.preprocessing.crop import BoxPx, crop_square, visible_px
from stages.preprocessing.decode import decode, encode_png
from stages.preprocessing.fingerprint import difference_hash, pixel_sha256


@dataclass(frozen=True)
class Picture:
    """A face's picture as stored, with its size, detail and fingerprints."""

    image: bytes
    width: int
    height: int
    native_px: int
    sha256: str
    dhash: int


def read_picture(data: bytes, *, box: BoxPx | None, margin: float) -> Picture:
    """Decode, crop if there is a box, and fingerprint.

    Without a box the picture keeps its bytes. A crop becomes a PNG: it is cut once and should lose
    nothing, and a JPEG's bytes would hang on the encoder's version.

    Raises:
        UnusableImageError: if there is no face to be had.
    """
    image = decode(data)
    native_px = min(image.shape[:2])
    if box is not None:
        native_px = visible_px(image, box=box)
        image = crop_square(image, box=box, margin=margin)
        data = encode_png(image)
    return Picture(
        image=data,
        width=image.shape[1],
        height=image.shape[0],
        native_px=native_px,
        sha256=pixel_sha256(image),
        dhash=difference_hash(image),
    )

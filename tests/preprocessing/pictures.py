"""A photo's bytes -> the face of it that standardize stores."""

from stages.preprocessing.crop import BoxPx, BoxShare
from stages.preprocessing.decode import decode
from stages.preprocessing.picture import Framing, Picture, frame


def read_picture(data: bytes, *, box: BoxPx | BoxShare | None, framing: Framing) -> Picture:
    """What becomes of a photo with one face."""
    return frame(decode(data), encoded=data, box=box, framing=framing)

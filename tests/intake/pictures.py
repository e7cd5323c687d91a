"""A photo's bytes -> the face of it that standardize stores."""

from stages.faces.boxes import BoxPx, BoxShare
from stages.faces.decode import decode
from stages.intake.picture import Framing, Picture, frame


def read_picture(data: bytes, *, box: BoxPx | BoxShare | None, framing: Framing) -> Picture:
    """What becomes of a photo with one face."""
    return frame(decode(data), encoded=data, box=box, framing=framing)

"""Raw datasets while they are being drawn: files and the lines of their lists, in memory.

In: pictures and lines. Out: `Raw.contents`, every path below the sample folder with its bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2

from tools.sample.pen import Image

JPEG_QUALITY = 82


@dataclass(frozen=True)
class Raw:
    """Files by path, and text files by path as lists of lines, filled as drawing goes on."""

    files: dict[str, bytes] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)

    def add(self, path: str, data: bytes) -> None:
        """Add a file; no path is used twice."""
        assert path not in self.files, path
        self.files[path] = data

    def add_line(self, path: str, line: str) -> None:
        """Add a line at the end of a text file."""
        self.lines.setdefault(path, []).append(line)

    def contents(self) -> Mapping[str, bytes]:
        """Every file's bytes, sorted by path; text ends its lines with a line feed everywhere."""
        texts = {path: ("\n".join(rows) + "\n").encode() for path, rows in self.lines.items()}
        return dict(sorted((self.files | texts).items()))


def encode_png(grey: Image, *, level: int = 9) -> bytes:
    """A grey picture (H, W) as PNG; another level gives other bytes of the same pixels."""
    done, data = cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, level])
    assert done
    return bytes(data)


def encode_jpeg(image: Image) -> bytes:
    """An RGB picture as JPEG."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    done, data = cv2.imencode(".jpg", image[..., ::-1], options)
    assert done
    return bytes(data)

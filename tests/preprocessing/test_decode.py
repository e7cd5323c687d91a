import struct
import zlib

import cv2
import numpy as np
import pytest

from stages.preprocessing.decode import decode, encode_png
from stages.preprocessing.errors import UnusableImageError

NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)


def encoded(image, extension: str) -> bytes:
    done, data = cv2.imencode(extension, image)
    assert done
    return bytes(data)


def test_png_there_and_back_keeps_every_pixel_and_the_channel_order():
    assert np.array_equal(decode(encode_png(NOISE)), NOISE)
    blue_green_red = cv2.imdecode(np.frombuffer(encode_png(NOISE), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(blue_green_red[:, :, ::-1], NOISE)


def test_grey_becomes_three_equal_channels():
    image = decode(encoded(NOISE[:, :, 0], ".png"))
    assert image.shape == (40, 30, 3)
    assert all(np.array_equal(image[:, :, channel], NOISE[:, :, 0]) for channel in range(3))


def test_alpha_is_dropped_and_16_bits_become_8():
    with_alpha = np.dstack([NOISE, np.zeros((40, 30), np.uint8)])
    assert np.array_equal(decode(encoded(with_alpha, ".png"))[:, :, ::-1], NOISE)
    deep = decode(encoded(NOISE[:, :, 0].astype(np.uint16) * 257, ".png"))
    assert deep.dtype == np.uint8
    assert np.array_equal(deep[:, :, 1], NOISE[:, :, 0])


@pytest.mark.parametrize("data", [b"", b"x", b"GIF89a", b"<html>not found</html>", bytes(1000)])
def test_what_is_no_picture_is_unreadable(data: bytes):
    with pytest.raises(UnusableImageError) as caught:
        decode(data)
    assert caught.value.reason == "image_unreadable"
    assert f"{len(data)} bytes" in caught.value.detail


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_that_stops_early_is_unreadable(extension: str, share: float):
    data = encoded(NOISE, extension)
    assert decode(data).shape == NOISE.shape
    with pytest.raises(UnusableImageError):
        decode(data[: int(len(data) * share)])


def test_a_header_that_promises_gigabytes_is_unreadable():
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(UnusableImageError, match="image_unreadable"):
        decode(data)

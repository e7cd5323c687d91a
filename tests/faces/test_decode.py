import io
import random
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest
from PIL.ImageOps import exif_transpose

from stages.faces.decode import UnusableImageError, decode, encode_png

NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)


def encoded(image, extension: str) -> bytes:
    done, data = cv2.imencode(extension, image)
    assert done
    return bytes(data)


def test_png_there_and_back_keeps_every_pixel_and_the_channel_order():
    assert np.array_equal(decode(encode_png(NOISE)), NOISE)
    blue_green_red = cv2.imdecode(np.frombuffer(encode_png(NOISE), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(blue_green_red[:, :, ::-1], NOISE)


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


# --- headers ---------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width: int, height: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def jpeg_bomb(width: int, height: int) -> bytes:
    data = bytearray(saved(FLAT, "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def gif_bomb(width: int, height: int) -> bytes:
    data = bytearray(saved(FLAT, "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def bmp_bomb(width: int, height: int) -> bytes:
    data = bytearray(saved(FLAT, "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def webp_bomb(width: int, height: int) -> bytes:
    sizes = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sizes
    return b"RIFF" + struct.pack("<I", len(body)) + body


def ppm_bomb(width: int, height: int) -> bytes:
    return f"P6 {width} {height} 255\n".encode() + bytes(100)


@pytest.mark.parametrize(
    "bomb", [png_bomb, jpeg_bomb, gif_bomb, bmp_bomb, webp_bomb, ppm_bomb], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("size", [(60_000, 60_000), (20_000, 10_000)])
def test_a_huge_picture_is_refused_by_its_header(bomb, size):
    with pytest.raises(UnusableImageError) as caught:
        decode(bomb(*size))
    assert caught.value.reason == "image_too_large"


def test_the_limit_is_100_megapixels():
    with pytest.raises(UnusableImageError, match="image_too_large: 10001 x 10000 px"):
        decode(png_bomb(10_001, 10_000))
    with pytest.raises(UnusableImageError, match="image_unreadable"):
        decode(png_bomb(10_000, 10_000))


def test_a_bomb_is_refused_without_its_memory():
    tracemalloc.start()
    with pytest.raises(UnusableImageError, match="image_too_large: 60000 x 60000 px"):
        decode(png_bomb(60_000, 60_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_chunk_that_claims_gigabytes_is_unreadable():
    data = bytearray(saved(FLAT, "PNG"))
    start = data.index(b"IDAT")
    data[start - 4 : start] = struct.pack(">I", 0x7FFFFFFF)
    with pytest.raises(UnusableImageError, match="chunk at 33 claims 2147483647"):
        decode(bytes(data))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_several_frames_or_pages_are_refused(form):
    frames = [PIL.Image.fromarray(NOISE), PIL.Image.fromarray(NOISE[::-1])]
    data = saved(frames[0], form, save_all=True, append_images=frames[1:])
    with pytest.raises(UnusableImageError) as caught:
        decode(data)
    assert (caught.value.reason, caught.value.detail) == (
        "image_animated",
        f"{form} of several pictures",
    )
    assert decode(saved(frames[0], form, save_all=True)).shape == NOISE.shape


# --- colours ---------------------------------------------------------------------------------------

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40))
# Blocks of 16 x 16 px, so that no codec mixes neighbours in the middle of one.
FLAT = PIL.Image.fromarray(np.repeat(np.repeat(np.uint8([COLOURS[:3], COLOURS[3:]]), 16, 0), 16, 1))


def saved(image: PIL.Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def with_alpha(mode: str) -> PIL.Image.Image:
    image = FLAT.convert(mode[:-1])
    alpha = np.tile(np.linspace(0, 255, 48).astype(np.uint8), (32, 1))
    image.putalpha(PIL.Image.fromarray(alpha))
    return image


def deep(image: PIL.Image.Image) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


def palette() -> PIL.Image.Image:
    return FLAT.convert("P", palette=PIL.Image.Palette.ADAPTIVE, colors=6)


GREY = FLAT.convert("L").convert("RGB")
BLACK_WHITE = FLAT.convert("1", dither=PIL.Image.Dither.NONE)
KINDS = {
    **{form: (saved(FLAT, form), FLAT) for form in ("PNG", "TIFF", "BMP", "PPM")},
    "JPEG": (saved(FLAT, "JPEG", quality=98, subsampling=0), FLAT),
    "WEBP": (saved(FLAT, "WEBP", lossless=True), FLAT),
    "RGBA PNG": (saved(with_alpha("RGBA"), "PNG"), FLAT),
    "RGBA TIFF": (saved(with_alpha("RGBA"), "TIFF"), FLAT),
    "RGBA WEBP": (saved(with_alpha("RGBA"), "WEBP", lossless=True, exact=True), FLAT),
    "grey and alpha PNG": (saved(with_alpha("LA"), "PNG"), GREY),
    "grey and alpha TIFF": (saved(with_alpha("LA"), "TIFF"), GREY),
    **{f"grey {form}": (saved(GREY.convert("L"), form), GREY) for form in ("PNG", "GIF", "TIFF")},
    **{f"palette {form}": (saved(palette(), form), FLAT) for form in ("PNG", "GIF", "BMP", "TIFF")},
    "palette and alpha PNG": (
        saved(palette(), "PNG", transparency=bytes([0, 60, 120, 180, 255, 9])),
        FLAT,
    ),
    **{
        f"1 bit {form}": (saved(BLACK_WHITE, form), BLACK_WHITE.convert("RGB"))
        for form in ("PNG", "GIF", "BMP", "TIFF", "PPM")
    },
    "16 bit PNG": (saved(deep(FLAT), "PNG"), GREY),
    "16 bit TIFF": (saved(deep(FLAT), "TIFF"), GREY),
    "16 bit RGB PNG": (encoded(np.asarray(FLAT)[:, :, ::-1].astype(np.uint16) * 257, ".png"), FLAT),
    "16 bit RGB TIFF": (
        encoded(np.asarray(FLAT)[:, :, ::-1].astype(np.uint16) * 257, ".tiff"),
        FLAT,
    ),
    # Pillow writes CMYK as Adobe does, inverted.
    "CMYK JPEG": (saved(FLAT.convert("CMYK"), "JPEG", quality=98), FLAT),
    "CMYK TIFF": (saved(FLAT.convert("CMYK"), "TIFF"), FLAT),
    "YCbCr TIFF": (saved(FLAT.convert("YCbCr"), "TIFF"), FLAT),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_has_its_colours(kind):
    data, expected = KINDS[kind]
    image = decode(data)
    assert image.dtype == np.uint8
    assert image.shape == (32, 48, 3)
    middles = image[8::16, 8::16].astype(int)
    assert np.abs(middles - np.asarray(expected)[8::16, 8::16]).max() <= 4


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_orientation_is_applied(form, orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = saved(FLAT, form, exif=exif)
    expected = exif_transpose(PIL.Image.open(io.BytesIO(data))).convert("RGB")
    image = decode(data)
    assert image.shape == np.asarray(expected).shape
    difference = image[8::16, 8::16].astype(int) - np.asarray(expected)[8::16, 8::16]
    assert np.abs(difference).max() <= 4


def test_a_kind_without_8_bit_meaning_is_unreadable_and_nothing_is_printed(capfd):
    floats = PIL.Image.fromarray(np.asarray(FLAT.convert("L")).astype(np.float32))
    with pytest.raises(UnusableImageError, match="image_unreadable"):
        decode(saved(floats, "TIFF"))
    assert capfd.readouterr() == ("", "")


# --- broken bytes ----------------------------------------------------------------------------------


def mutated(data: bytes, rng: random.Random) -> bytes:
    broken = bytearray(data)
    if rng.random() < 0.3:
        del broken[rng.randrange(len(broken)) :]
    for _ in range(rng.choice([1, 1, 3, 10])):
        # Half of the changes lie in the header.
        end = min(len(broken), 80) if rng.random() < 0.5 else len(broken)
        place = rng.randrange(end + 1)
        change = rng.choice(["set", "cut", "insert"])
        if change == "set":
            broken[place : place + 1] = bytes(
                [rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])]
            )
        elif change == "cut":
            del broken[place : place + rng.randrange(1, 9)]
        else:
            broken[place:place] = rng.randbytes(rng.randrange(1, 5))
    return bytes(broken)


@pytest.mark.filterwarnings("ignore")  # pytest takes back the filters that `decode` has set
@pytest.mark.parametrize("kind", [*KINDS, "animated GIF", "animated WEBP", "animated PNG"])
def test_broken_bytes_give_a_picture_or_a_reason(kind):
    if kind.startswith("animated"):
        data = saved(FLAT, kind.split()[1], save_all=True, append_images=[GREY, FLAT])
    else:
        data = KINDS[kind][0]
    rng = random.Random(kind)
    reasons, details = set(), set()
    for _ in range(150):
        try:
            image = decode(mutated(data, rng))
        except UnusableImageError as error:
            reasons.add(error.reason)
            details.add(error.detail)
            continue
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
    assert "image_unreadable" in reasons
    assert reasons <= {"image_unreadable", "image_too_large", "image_animated"}
    # What stands in rejects.csv is the same in every run, and a line.
    assert not [detail for detail in details if " at 0x" in detail or "\n" in detail]

"""Pictures of every kind become RGB as a viewer shows them, or there is one reason."""

import io
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import PIL.Image
import pytest
from PIL.ImageOps import exif_transpose

from stages.faces.decode import UnusableImageError, decode, encode_png, orientation

NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40))
# Blocks of 16 x 16 px, so that no codec mixes neighbours in the middle of one.
FLAT = PIL.Image.fromarray(np.repeat(np.repeat(np.uint8([COLOURS[:3], COLOURS[3:]]), 16, 0), 16, 1))


def encoded(image: np.ndarray, extension: str, options: list[int] | None = None) -> bytes:
    done, data = cv2.imencode(extension, image, options or [])
    assert done
    return bytes(data)


def saved(image: PIL.Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def outcome(data: bytes | memoryview) -> tuple[object, ...]:
    """The picture's shape and pixels, or the reason why there is none."""
    try:
        image = decode(data)
    except UnusableImageError as error:
        return error.reason, error.detail
    return image.shape, image.tobytes()


def test_png_there_and_back_keeps_every_pixel_and_the_channel_order():
    data = encode_png(NOISE)
    # A shard hands out memory of signed bytes, which compares with no other.
    assert np.array_equal(decode(memoryview(data).cast("b")), NOISE)
    blue_green_red = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(blue_green_red[:, :, ::-1], NOISE)


@pytest.mark.parametrize("data", [b"", b"x", b"GIF89a", b"<html>not found</html>", bytes(1000)])
def test_what_is_no_picture_is_unreadable(data: bytes):
    reason, detail = outcome(data)
    assert reason == "image_unreadable"
    assert f"{len(data)} bytes" in detail


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_that_stops_early_is_unreadable(extension: str, share: float):
    data = encoded(NOISE, extension)
    assert decode(data).shape == NOISE.shape
    assert outcome(data[: int(len(data) * share)])[0] == "image_unreadable"


# --- headers ---------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width: int, height: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def jpeg_bomb(width: int, height: int) -> bytes:
    data = saved(FLAT, "JPEG")
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + struct.pack(">HH", height, width) + data[start + 4 :]


BOMBS: dict[str, Callable[[int, int], bytes]] = {
    "PNG": png_bomb,
    "JPEG": jpeg_bomb,
    "PPM": lambda width, height: f"P6 {width} {height} 255\n".encode() + bytes(100),
}


@pytest.mark.parametrize("form", BOMBS)
def test_a_huge_picture_is_refused_by_its_header_without_its_memory(form: str):
    for size in ((60_000, 60_000), (10_001, 10_000)):
        data = BOMBS[form](*size)
        tracemalloc.start()
        assert outcome(data)[0] == "image_too_large"
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20


def test_a_chunk_that_claims_gigabytes_is_unreadable():
    data = bytearray(saved(FLAT, "PNG"))
    start = data.index(b"IDAT")
    data[start - 4 : start] = struct.pack(">I", 0x7FFFFFFF)
    with pytest.raises(UnusableImageError, match="chunk at 33 claims 2147483647"):
        decode(bytes(data))
    # No larger than the limit.
    assert outcome(png_bomb(10_000, 10_000))[0] == "image_unreadable"


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_several_frames_or_pages_are_refused(form: str):
    frames = [PIL.Image.fromarray(NOISE), PIL.Image.fromarray(NOISE[::-1])]
    data = saved(frames[0], form, save_all=True, append_images=frames[1:])
    assert outcome(data) == ("image_animated", f"{form} of several pictures")
    assert decode(saved(frames[0], form, save_all=True)).shape == NOISE.shape


# --- colours ---------------------------------------------------------------------------------------


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


PHOTO = PIL.Image.fromarray(NOISE[:3, :5].repeat(8, axis=0).repeat(8, axis=1))


def with_tag(form: str, tag: int | None, *, mode: str = "RGB") -> bytes:
    """A photo with an EXIF orientation."""
    exif = PIL.Image.Exif()
    exif[0x0112] = tag
    return saved(PHOTO.convert(mode), form, **({} if tag is None else {"exif": exif}))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_exif_orientation_is_applied_and_found_again(form: str, mode: str):
    for tag in (None, *range(10), 4000):
        data = with_tag(form, tag, mode=mode if form != "JPEG" or mode != "RGBA" else "RGB")
        image = decode(data)
        assert orientation(data, image=image) == (tag if tag in range(1, 9) else 1)
        expected = np.asarray(exif_transpose(PIL.Image.open(io.BytesIO(data))).convert("RGB"))
        assert image.shape == expected.shape
        # A lossy picture is smeared, but a wrong turn is far off.
        assert np.abs(image.astype(int) - expected).mean() < (30 if form in {"JPEG", "WEBP"} else 1)


def test_exif_that_only_one_reader_understands_counts_as_it_was_applied():
    data = with_tag("JPEG", 6)
    # The tag as a LONG of big-endian EXIF: Pillow reads 6, OpenCV 0.
    at = data.index(b"\x01\x12\x00\x03")
    data = data[:at] + b"\x01\x12\x00\x04\x00\x00\x00\x01\x00\x00\x00\x06" + data[at + 12 :]
    image = decode(data)
    is_turned = image.shape[0] > image.shape[1]
    assert orientation(data, image=image) == (6 if is_turned else 1)


def test_a_kind_without_8_bit_meaning_is_unreadable_and_nothing_is_printed(capfd):
    floats = PIL.Image.fromarray(np.asarray(FLAT.convert("L")).astype(np.float32))
    assert outcome(saved(floats, "TIFF"))[0] == "image_unreadable"
    assert capfd.readouterr() == ("", "")


# --- broken bytes ----------------------------------------------------------------------------------


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Cut off, replace, remove or insert a few bytes; half of the changes lie in the header."""
    broken = bytearray(data)
    if rng.random() < 0.3:
        del broken[rng.randrange(len(broken)) :]
    for _ in range(rng.choice([1, 1, 3, 10])):
        end = min(len(broken), 80) if rng.random() < 0.5 else len(broken)
        place = rng.randrange(end + 1)
        removed, inserted = rng.choice([(1, 1), (rng.randrange(1, 9), 0), (0, rng.randrange(1, 5))])
        extreme = bytes([rng.choice([0, 1, 127, 128, 255])])
        broken[place : place + removed] = rng.choice([rng.randbytes(inserted), extreme[:inserted]])
    return bytes(broken)


@pytest.mark.filterwarnings("ignore")  # pytest takes back the filters that `decode` has set
@pytest.mark.parametrize("kind", [*KINDS, "animated GIF", "animated WEBP", "animated PNG"])
def test_broken_bytes_give_a_picture_or_a_reason(kind: str):
    if kind.startswith("animated"):
        data = saved(FLAT, kind.split()[1], save_all=True, append_images=[GREY, FLAT])
    else:
        data = KINDS[kind][0]
    rng = random.Random(kind)
    outcomes = [outcome(mutated(data, rng)) for _ in range(150)]
    reasons = {reason: detail for reason, detail in outcomes if isinstance(reason, str)}
    assert "image_unreadable" in reasons
    assert reasons.keys() <= {"image_unreadable", "image_too_large", "image_animated"}
    assert all(shape[2] == 3 for shape, _ in outcomes if isinstance(shape, tuple))
    # What stands in rejects.csv is the same in every run, and a line.
    details = [detail for reason, detail in outcomes if isinstance(reason, str)]
    assert not [detail for detail in details if " at 0x" in detail or "\n" in detail]

import io

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.faces.boxes import BoxPx, BoxShare
from stages.faces.decode import decode, encode_png, orientation
from stages.intake.crop import turned_box

IMAGE = np.random.default_rng(3).integers(0, 256, (3, 5, 3), np.uint8)
IMAGE = IMAGE.repeat(8, axis=0).repeat(8, axis=1)
HEIGHT, WIDTH = IMAGE.shape[:2]


def saved(form: str, tag: int | None, mode: str = "RGB") -> bytes:
    file, exif = io.BytesIO(), PIL.Image.Exif()
    if tag is not None:
        exif[0x0112] = tag
    options = {} if tag is None else {"exif": exif}
    PIL.Image.fromarray(IMAGE).convert(mode).save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("tag", [None, *range(1, 9)])
def test_the_orientation_is_the_one_that_decoding_applied(form, tag, mode) -> None:
    data = saved(form, tag, mode if form != "JPEG" or mode != "RGBA" else "RGB")
    assert orientation(data, image=decode(data)) == (tag or 1)


@pytest.mark.parametrize("form", ["BMP", "GIF", "PPM"])
def test_formats_without_exif_have_none(form) -> None:
    data = saved(form, None)
    assert orientation(data, image=decode(data)) == 1


@pytest.mark.parametrize("tag", [0, 9, 4000])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_tag_that_means_nothing_turns_nothing(form, tag) -> None:
    data = saved(form, tag)
    assert orientation(data, image=decode(data)) == 1


def test_exif_that_only_one_reader_understands_counts_as_it_was_applied() -> None:
    data = saved("JPEG", 6)
    # The tag as a LONG of big-endian EXIF: Pillow reads 6, OpenCV 0.
    at = data.index(b"\x01\x12\x00\x03")
    data = data[:at] + b"\x01\x12\x00\x04\x00\x00\x00\x01\x00\x00\x00\x06" + data[at + 12 :]
    image = decode(data)
    turned = image.shape == (WIDTH, HEIGHT, 3)
    assert orientation(data, image=image) == (6 if turned else 1)


@given(
    st.integers(1, 8),
    st.tuples(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1)),
    st.tuples(st.integers(1, WIDTH), st.integers(1, HEIGHT)),
)
def test_a_turned_box_holds_the_same_pixels(tag, corner, size) -> None:
    left, top = corner
    box = BoxPx(left, top, min(left + size[0], WIDTH), min(top + size[1], HEIGHT))
    marked = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    marked[box.top : box.bottom, box.left : box.right] = 255
    file, exif = io.BytesIO(), PIL.Image.Exif()
    exif[0x0112] = tag
    PIL.Image.fromarray(marked).save(file, "PNG", exif=exif)
    rows, columns = np.nonzero(decode(file.getvalue())[:, :, 0])
    expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert turned_box(box, orientation=tag, width=WIDTH, height=HEIGHT) == expected


@given(st.integers(1, 8), st.tuples(*[st.integers(-50, 50)] * 4))
def test_an_empty_box_stays_one_and_shares_go_with_pixels(tag, edges) -> None:
    box = turned_box(BoxPx(*edges), orientation=tag, width=WIDTH, height=HEIGHT)
    was_empty = edges[2] <= edges[0] or edges[3] <= edges[1]
    assert (box.right <= box.left or box.bottom <= box.top) == was_empty
    shares = BoxShare(*(edge / 64 for edge in edges))
    of_unit = turned_box(shares, orientation=tag, width=1, height=1)
    in_px = turned_box(BoxPx(*edges), orientation=tag, width=64, height=64)
    assert of_unit == BoxShare(*(edge / 64 for edge in in_px))


def test_a_plain_jpeg_is_not_decoded_again(monkeypatch) -> None:
    data = saved("JPEG", None)
    image = decode(data)
    monkeypatch.setattr(cv2, "imdecode", None)
    assert orientation(data, image=image) == 1


def test_a_picture_that_is_the_same_all_around_has_no_orientation() -> None:
    data = encode_png(np.zeros((8, 8, 3), np.uint8))
    assert orientation(data, image=decode(data)) == 1

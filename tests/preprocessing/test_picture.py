import numpy as np
import pytest

from stages.preprocessing.crop import crop_square
from stages.preprocessing.decode import decode, encode_png
from stages.preprocessing.errors import UnusableImageError
from stages.preprocessing.fingerprint import pixel_sha256
from stages.preprocessing.picture import read_picture

IMAGE = np.random.default_rng(5).integers(0, 256, (60, 80, 3), np.uint8)
DATA = encode_png(IMAGE)


def test_without_a_box_the_bytes_stay():
    picture = read_picture(DATA, box=None, margin=0.3)
    assert picture.image is DATA
    assert (picture.width, picture.height, picture.native_px) == (80, 60, 60)
    assert picture.sha256 == pixel_sha256(IMAGE)


def test_a_crop_is_stored_without_loss_and_native_px_is_the_box_own():
    picture = read_picture(DATA, box=(20, 10, 40, 34), margin=0.5)
    crop = crop_square(IMAGE, box=(20, 10, 40, 34), margin=0.5)
    assert np.array_equal(decode(picture.image), crop)
    assert (picture.width, picture.height, picture.native_px) == (48, 48, 20)
    assert picture.sha256 == pixel_sha256(crop)


def test_native_px_counts_only_what_the_photo_holds():
    assert read_picture(DATA, box=(-8, 10, 22, 40), margin=0).native_px == 22


def test_a_broken_picture_has_a_reason():
    with pytest.raises(UnusableImageError, match="image_unreadable: 0 bytes"):
        read_picture(b"", box=(0, 0, 1, 1), margin=0)

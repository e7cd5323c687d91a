import io

import cv2
import numpy as np
import PIL.Image
import pytest

from stages.faces.boxes import BoxPx, BoxShare
from stages.faces.decode import UnusableImageError, decode, encode_png
from stages.faces.fingerprint import fingerprint
from stages.intake.align import EyeDetector, crop_upright
from stages.intake.crop import crop_square
from stages.intake.picture import Framing
from tests.intake.pictures import read_picture

IMAGE = np.random.default_rng(5).integers(0, 256, (60, 80, 3), np.uint8)
DATA = encode_png(IMAGE)


def framing(*, margin: float = 0.3, max_side_px: int = 512, detector: EyeDetector | None = None):
    return Framing(margin=margin, max_side_px=max_side_px, detector=detector)


class FixedEyes(EyeDetector):
    """A detector that has made up its mind: the rules around it are what is tested."""

    def __init__(self, angle: float | None) -> None:
        self.angle = angle

    def eye_angle(self, *_, **__):
        return self.angle


def check_fingerprints(picture) -> None:
    stored = decode(picture.image)
    assert stored.shape == (picture.height, picture.width, 3)
    assert picture.sha256 == fingerprint(stored).sha256
    assert picture.dhash == fingerprint(stored).dhash
    assert picture.thumbnail == fingerprint(stored).thumbnail


def test_without_a_box_the_bytes_stay():
    picture = read_picture(DATA, box=None, framing=framing(max_side_px=80))
    assert picture.image is DATA
    assert (picture.width, picture.height, picture.native_px) == (80, 60, 60)
    assert (picture.crop, picture.box_inside) == ("none", None)
    assert picture.sha256 == fingerprint(IMAGE).sha256
    check_fingerprints(picture)


def test_a_picture_that_is_too_long_is_shrunk_by_areas():
    picture = read_picture(DATA, box=None, framing=framing(max_side_px=48))
    assert (picture.width, picture.height, picture.native_px) == (48, 36, 60)
    assert picture.image.startswith(b"\x89PNG")
    expected = cv2.resize(IMAGE, (48, 36), interpolation=cv2.INTER_AREA)
    assert np.array_equal(decode(picture.image), expected)
    assert picture.crop == "none"
    check_fingerprints(picture)


def test_a_crop_is_stored_without_loss_and_native_px_is_the_box_own():
    picture = read_picture(DATA, box=BoxPx(20, 10, 40, 34), framing=framing(margin=0.5))
    crop = crop_square(IMAGE, box=BoxPx(20, 10, 40, 34), margin=0.5)
    assert np.array_equal(decode(picture.image), crop)
    assert (picture.width, picture.height, picture.native_px) == (48, 48, 20)
    assert (picture.crop, picture.box_inside) == ("box", True)
    check_fingerprints(picture)


def test_a_crop_that_is_too_long_is_shrunk_and_native_px_is_from_before():
    box = BoxPx(10, 0, 70, 60)
    picture = read_picture(DATA, box=box, framing=framing(max_side_px=48))
    crop = crop_square(IMAGE, box=box, margin=0.3)
    expected = cv2.resize(crop, (48, 48), interpolation=cv2.INTER_AREA)
    assert np.array_equal(decode(picture.image), expected)
    assert (picture.width, picture.height, picture.native_px) == (48, 48, 60)
    check_fingerprints(picture)


def test_a_box_in_shares_is_the_box_in_pixels():
    in_px = read_picture(DATA, box=BoxPx(20, 15, 40, 45), framing=framing())
    assert read_picture(DATA, box=BoxShare(0.25, 0.25, 0.5, 0.75), framing=framing()) == in_px


def test_native_px_counts_only_what_the_photo_holds():
    picture = read_picture(DATA, box=BoxPx(-8, 10, 22, 40), framing=framing(margin=0))
    assert (picture.native_px, picture.box_inside) == (22, False)


def test_found_eyes_turn_the_crop_and_the_picture_says_so():
    box = BoxPx(20, 10, 50, 40)
    picture = read_picture(DATA, box=box, framing=framing(detector=FixedEyes(12.0)))
    expected = crop_upright(IMAGE, box=box, margin=0.3, angle=12.0)
    assert np.array_equal(decode(picture.image), expected)
    assert (picture.crop, picture.native_px, picture.box_inside) == ("aligned", 30, True)
    check_fingerprints(picture)


def test_without_eyes_the_box_is_the_fallback_and_the_picture_says_so():
    box = BoxPx(20, 10, 50, 40)
    found = read_picture(DATA, box=box, framing=framing(detector=FixedEyes(None)))
    assert found == read_picture(DATA, box=box, framing=framing())
    assert found.crop == "box"


def test_what_comes_without_a_box_is_never_detected_again():
    picture = read_picture(DATA, box=None, framing=framing(detector=FixedEyes(12.0)))
    assert (picture.image, picture.crop) == (DATA, "none")


@pytest.mark.parametrize(("height", "width"), [(1, 5000), (5000, 1), (1, 1), (3, 700)])
def test_very_thin_and_very_small_pictures(height, width):
    image = np.random.default_rng(6).integers(0, 256, (height, width, 3), np.uint8)
    picture = read_picture(encode_png(image), box=None, framing=framing(max_side_px=512))
    assert max(picture.height, picture.width) == min(512, max(height, width))
    assert picture.native_px == min(height, width)
    check_fingerprints(picture)


def test_a_turned_photo_is_cut_as_it_is_seen():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    PIL.Image.fromarray(IMAGE).save(file, "PNG", exif=exif)
    upright = np.rot90(IMAGE, -1)
    picture = read_picture(file.getvalue(), box=BoxPx(10, 20, 40, 50), framing=framing(margin=0))
    assert np.array_equal(decode(picture.image), upright[20:50, 10:40])


def test_a_broken_picture_has_a_reason():
    with pytest.raises(UnusableImageError, match="image_unreadable: 0 bytes"):
        read_picture(b"", box=BoxPx(0, 0, 1, 1), framing=framing())


@pytest.mark.parametrize("detector", [None, FixedEyes(5.0)])
@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (BoxPx(9, 9, 9, 20), "box_empty"),
        (BoxShare(0.5, 0.5, 0.2, 0.9), "box_empty"),
        (BoxPx(70, 50, 110, 90), "box_outside"),
        (BoxShare(float("nan"), 0, 1, 1), "box_outside"),
    ],
)
def test_an_unusable_box_has_a_reason(box, reason, detector):
    with pytest.raises(UnusableImageError) as caught:
        read_picture(DATA, box=box, framing=framing(detector=detector))
    assert caught.value.reason == reason

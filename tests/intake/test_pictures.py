"""Rows and their photos -> what is stored, or a reason."""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.faces.decode import Box, BoxPx, decode, encode_png
from stages.faces.fingerprint import fingerprint
from stages.intake import pictures
from stages.intake.align import EyeDetector
from stages.intake.crop import crop_square, crop_upright
from stages.intake.pictures import (
    Framing,
    PlacedRow,
    RefusedRow,
    RowReader,
    StoredPicture,
    batches,
    frame,
)
from stages.sources.rows import Candidate, Reject
from stages.sources.tree import open_tree
from tests.sources.conftest import write_zip

IMAGE = np.random.default_rng(5).integers(0, 256, (60, 80, 3), np.uint8)
DATA = encode_png(IMAGE)
PHOTOS = {
    f"{name}.png": encode_png(np.random.default_rng(n).integers(0, 256, (60, 60, 3), np.uint8))
    for n, name in enumerate("abc")
}


class FixedEyes(EyeDetector):
    """A detector that has made up its mind: the rules around it are what is tested."""

    def __init__(self, angle: float | None) -> None:
        self.angle = angle

    def eye_angle(self, *_, **__):
        return self.angle


def framing(*, margin=0.3, max_side_px=512, detector=None) -> Framing:
    return Framing(margin=margin, max_side_px=max_side_px, detector=detector)


def read_picture(data: bytes, *, box: BoxPx | None, framing: Framing) -> StoredPicture:
    picture = frame(decode(data), encoded=data, box=box, framing=framing)
    stored = decode(picture.image)
    assert stored.shape == (picture.height, picture.width, 3)
    assert (picture.sha256, picture.dhash, picture.thumbnail) == fingerprint(stored)
    return picture


def test_without_a_box_the_bytes_stay_and_nothing_is_detected():
    eyes = FixedEyes(12.0)
    picture = read_picture(DATA, box=None, framing=framing(max_side_px=80, detector=eyes))
    assert picture.image is DATA
    assert (picture.width, picture.height, picture.native_px) == (80, 60, 60)
    assert (picture.crop, picture.box_inside) == ("none", None)


@pytest.mark.parametrize("box", [None, BoxPx(10, 0, 70, 60)])
def test_a_picture_that_is_too_long_is_shrunk_by_areas_and_native_px_is_from_before(box):
    picture = read_picture(DATA, box=box, framing=framing(max_side_px=48))
    image = IMAGE if box is None else crop_square(IMAGE, box=box, margin=0.3)
    size = (48, 36) if box is None else (48, 48)
    assert picture.image.startswith(b"\x89PNG")
    expected = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    assert np.array_equal(decode(picture.image), expected)
    assert picture.native_px == 60


@pytest.mark.parametrize(
    ("edges", "native_px", "inside"), [((20, 10, 40, 34), 20, True), ((-8, 10, 22, 40), 22, False)]
)
def test_a_crop_is_stored_without_loss_and_native_px_is_what_the_photo_shows(
    edges, native_px, inside
):
    picture = read_picture(DATA, box=BoxPx(*edges), framing=framing(margin=0.5))
    crop = crop_square(IMAGE, box=BoxPx(*edges), margin=0.5)
    assert np.array_equal(decode(picture.image), crop)
    assert (picture.crop, picture.native_px, picture.box_inside) == ("box", native_px, inside)


def test_found_eyes_turn_the_crop_and_without_eyes_the_box_is_the_fallback():
    box = BoxPx(20, 10, 50, 40)
    picture = read_picture(DATA, box=box, framing=framing(detector=FixedEyes(12.0)))
    expected = crop_upright(IMAGE, box=box, margin=0.3, angle=12.0)
    assert np.array_equal(decode(picture.image), expected)
    assert (picture.crop, picture.native_px, picture.box_inside) == ("aligned", 30, True)
    blind = read_picture(DATA, box=box, framing=framing(detector=FixedEyes(None)))
    assert blind == read_picture(DATA, box=box, framing=framing())
    assert blind.crop == "box"


def test_a_very_thin_picture_keeps_a_pixel():
    strip = encode_png(np.zeros((1, 5000, 3), np.uint8))
    picture = read_picture(strip, box=None, framing=framing(max_side_px=512))
    assert (picture.height, picture.width, picture.native_px) == (1, 512, 1)


def face(member: str, number: int) -> Candidate:
    box = Box(number, number, number + 20, number + 20, unit="px", pixels="stored")
    key = f"{member}#{number}"
    return Candidate(f"list:{key}", key, member, "Happy", None, photo=member, box=box)


def test_a_photo_is_decoded_once_for_all_its_faces_wherever_their_rows_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    decoded = []
    monkeypatch.setattr(pictures, "decode", lambda data: decoded.append(data) or decode(data))
    with open_tree(write_zip(tmp_path / "x.zip", PHOTOS), key="k") as tree:
        read = RowReader(tree.reader, framing(max_side_px=64))
        faces = [face(f"{name}.png", n) for n in range(4) for name in "cab"]
        rows: list[PlacedRow] = [(row, tree.place(row.member)) for row in faces]
        rows.insert(5, (Reject("list:9", "row_malformed"), None))
        results = read(rows)
        assert len(decoded) == 3
        assert results == [read([row])[0] for row in rows]
        assert len(decoded) == 3 + 12
    assert results[5] == RefusedRow(Reject("list:9", "row_malformed"))
    assert len({result.sha256 for result in results if isinstance(result, StoredPicture)}) == 12


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40), st.integers(1, 9))
def test_batches_are_the_rows_in_order_and_never_part_neighbours_of_one_photo(drawn, at_least):
    rows = [
        (face(name, n) if is_face else Reject(f"r{n}", "image_missing"), None)
        for n, (name, is_face) in enumerate(drawn)
    ]
    made = list(batches(rows, at_least=at_least))
    assert [row for batch in made for row in batch] == rows
    assert all(len(batch) >= at_least for batch in made[:-1])
    assert all(made)
    for batch, following in pairwise(made):
        members = batch[-1][0].member, following[0][0].member
        assert members[0] is None or members[0] != members[1]

"""Contact sheets show whole pictures in equal tiles, titles and captions beside them, and boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.faces.decode import BoxPx, decode
from stages.faces.sheet import TILE_PX, captioned_sheet, contact_sheet, draw_box, pair_sheet

RED = np.full((10, 30, 3), (255, 0, 0), np.uint8)
BLUE = np.full((300, 300, 3), (0, 0, 255), np.uint8)
GREY = np.full((60, 80, 3), 128, np.uint8)
MARK = (255, 0, 200)
TILE = TILE_PX**2


def places_of(sheet, colour):
    """Rows and columns (N, 2) of the pixels of about a colour."""
    return np.argwhere(np.abs(sheet.astype(int) - colour).max(axis=2) < 40)


def test_a_row_for_each_title_and_whole_pictures_in_equal_tiles():
    sheet = decode(contact_sheet({"Fear 0": [], "Happy 1": [RED], "Sad 2": [BLUE, BLUE]}))
    red, blue = (places_of(sheet, colour) for colour in ((255, 0, 0), (0, 0, 255)))
    assert len(blue) == 2 * TILE
    assert len(red) == TILE / 3  # its proportions are kept
    assert TILE_PX < red[:, 0].min() < red[:, 0].max() < blue[:, 0].min()


@pytest.mark.parametrize("num_lines", [1, 2, 20])
def test_a_title_of_many_lines_stands_free_beside_its_tiles(num_lines):
    title = "\n".join(["a very long title 1,234,567"] * num_lines)
    sheet = decode(contact_sheet({title: [BLUE], "next": [BLUE]}))
    assert len(places_of(sheet, (0, 0, 255))) == 2 * TILE
    rows = np.nonzero((sheet.max(axis=2) < 100).any(axis=1))[0]
    assert (np.diff(rows) > 1).sum() == num_lines  # the second title too
    assert 8 <= rows.min() < rows.max() < sheet.shape[0] - 8


def test_pairs_touch_and_are_as_many_lines_as_they_need():
    few, many, none = (
        decode(pair_sheet({"near": [(RED, BLUE, "0.931")] * number})) for number in (4, 5, 0)
    )
    assert len(places_of(many, (0, 0, 255))) == 5 * TILE
    assert many.shape[0] > few.shape[0] + TILE_PX
    assert many.shape[1] == few.shape[1] == none.shape[1]
    assert none.shape[0] > TILE_PX
    row, column = places_of(few, (255, 0, 0))[-1]
    assert (few[row, column + 1] == (0, 0, 255)).all()


CAPTIONS = ["exact", "0.9412 mirrored, Happy / Surprise, train / test", "x" * 90]


@pytest.mark.parametrize("caption", CAPTIONS)
@pytest.mark.parametrize("width", [TILE_PX, 2 * TILE_PX])
def test_a_caption_stays_whole_below_its_own_pictures(width, caption):
    def drawn(text):
        if width > TILE_PX:
            return decode(pair_sheet({"t": [(BLUE, BLUE, text), (BLUE, BLUE, "")]}))
        return decode(captioned_sheet({"t": [(BLUE, text), (BLUE, "")]}, columns=2))

    sheet, plain = drawn(caption), drawn("")
    assert not np.array_equal(sheet, drawn(caption[:-1]))
    blue, changed = places_of(plain, (0, 0, 255)), np.argwhere((sheet != plain).any(axis=2))
    assert np.array_equal(places_of(sheet, (0, 0, 255)), blue)
    assert blue[:, 0].max() < changed[:, 0].min() < changed[:, 0].max() <= blue[:, 0].max() + 30
    assert blue[:, 1].min() <= changed[:, 1].min()
    assert changed[:, 1].max() < blue[:, 1].min() + width - 1


def test_the_visible_part_of_a_box_is_outlined_on_a_copy():
    drawn = draw_box(GREY, BoxPx(20, 10, 50, 40))
    assert (GREY == 128).all()
    marks = places_of(drawn, MARK)
    assert (*marks.min(axis=0), *marks.max(axis=0)) == (10, 20, 39, 49)
    assert (drawn[15:35, 25:45] == 128).all()
    assert np.array_equal(draw_box(GREY, BoxPx(50, 40, 20, 10)), drawn)
    marks = places_of(draw_box(GREY, BoxPx(-50, 30, 40, 10**9)), MARK)
    assert (*marks.min(axis=0), *marks.max(axis=0)) == (30, 0, 59, 39)


@pytest.mark.parametrize(
    ("box", "edges"),
    [
        (BoxPx(-60, 10, -20, 40), {"left"}),
        (BoxPx(10, -60, 40, -20), {"top"}),
        (BoxPx(200, 80, 300, 10**12), {"right", "bottom"}),
    ],
)
def test_of_a_box_outside_the_edges_towards_it_are_marked(box, edges):
    mask = (draw_box(GREY, box) == MARK).all(axis=2)
    sides = {"left": mask[:, 0], "right": mask[:, -1], "top": mask[0], "bottom": mask[-1]}
    assert {side for side, pixels in sides.items() if pixels.all()} == edges
    assert mask[20:40, 25:55].any()  # the arrow


@given(st.tuples(*[st.integers(-(10**12), 10**12) | st.integers(-90, 90)] * 4))
def test_any_box_can_be_drawn_on_any_picture(edges):
    for image in (GREY, GREY[:1], GREY[:1, :1]):
        assert draw_box(image, BoxPx(*edges)).shape == image.shape

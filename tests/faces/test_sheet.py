import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.faces.boxes import BoxPx
from stages.faces.decode import decode
from stages.faces.sheet import captioned_sheet, contact_sheet, draw_box, fit, pair_sheet

RED = np.full((10, 30, 3), (255, 0, 0), np.uint8)
BLUE = np.full((300, 300, 3), (0, 0, 255), np.uint8)
GREEN = np.full((48, 48, 3), (0, 200, 0), np.uint8)
GREY = np.full((60, 80, 3), 128, np.uint8)
MARK = (255, 0, 200)


def share_of(sheet, colour):
    return float((np.abs(sheet.astype(int) - colour).max(axis=2) < 40).sum())


def marked(image):
    return (image == MARK).all(axis=2)


def test_a_row_for_each_title_and_whole_pictures_in_equal_tiles():
    sheet = decode(contact_sheet({"Happy 1": [RED], "Sad 2": [BLUE, BLUE]}, tile_px=60))
    assert share_of(sheet, (0, 0, 255)) == 2 * 60 * 60
    assert share_of(sheet, (255, 0, 0)) == 60 * 20  # its proportions are kept
    rows_of_red = np.nonzero((sheet[:, :, 2] < 40) & (sheet[:, :, 0] > 200))[0]
    rows_of_blue = np.nonzero((sheet[:, :, 0] < 40) & (sheet[:, :, 2] > 200))[0]
    assert rows_of_red.max() < rows_of_blue.min()


def test_titles_are_drawn_and_never_under_a_tile():
    long = decode(contact_sheet({"a very long title 1,234,567": [BLUE]}, tile_px=60))
    short = decode(contact_sheet({"a": [BLUE]}, tile_px=60))
    assert long.shape[1] > short.shape[1]
    assert share_of(long, (0, 0, 255)) == 60 * 60
    assert share_of(long, (40, 40, 40)) > share_of(short, (40, 40, 40)) > 0


def test_a_class_without_faces_is_an_empty_row_and_the_bytes_are_stable():
    images = {"Fear 0": [], "Happy 1": [RED]}
    assert contact_sheet(images) == contact_sheet(images)
    assert decode(contact_sheet({"Fear 0": []})).shape[0] > 96


@pytest.mark.parametrize("num_lines", [2, 5, 20])
def test_a_title_of_many_lines_makes_its_row_high_enough(num_lines):
    def ink_rows(title):
        sheet = decode(contact_sheet({title: [BLUE], "next": [BLUE]}, tile_px=60))
        assert share_of(sheet, (0, 0, 255)) == 2 * 60 * 60
        return np.nonzero((sheet.max(axis=2) < 100).any(axis=1))[0], sheet.shape[0]

    rows, height = ink_rows("\n".join(["title"] * num_lines))
    gaps = np.diff(rows)
    assert (gaps > 1).sum() == num_lines  # each line stands free, the second title too
    assert rows.min() >= 8
    assert rows.max() < height - 8


def test_pairs_touch_and_are_as_many_lines_as_they_need():
    pairs = {"near 6": [(RED, BLUE, "0.931")] * 6, "exact 1": [(GREEN, BLUE, "exact")]}
    sheet = decode(pair_sheet(pairs, tile_px=60))
    assert share_of(sheet, (0, 0, 255)) == 7 * 60 * 60
    assert share_of(sheet, (0, 200, 0)) == 60 * 60
    green = np.argwhere((sheet == (0, 200, 0)).all(axis=2))
    row, column = green.max(axis=0)
    assert (sheet[row, column + 1] == (0, 0, 255)).all()
    one_line = decode(pair_sheet({"near 4": pairs["near 6"][:4]}, tile_px=60))
    two_lines = decode(pair_sheet({"near 5": pairs["near 6"][:5]}, tile_px=60))
    assert two_lines.shape[0] > one_line.shape[0] + 60
    assert two_lines.shape[1] == one_line.shape[1]


def test_captioned_faces_have_their_caption_below_and_lines_of_equal_length():
    faces = {"Fear 3": [(BLUE, "Sad 0.93"), (BLUE, ""), (RED, "")], "Sad 0": []}
    sheet = decode(captioned_sheet(faces, columns=2, tile_px=60))
    assert share_of(sheet, (0, 0, 255)) == 2 * 60 * 60
    assert share_of(sheet, (255, 0, 0)) == 60 * 20
    plain = {title: [(image, "") for image, _ in images] for title, images in faces.items()}
    changed = np.argwhere(
        (sheet != decode(captioned_sheet(plain, columns=2, tile_px=60))).any(axis=2)
    )
    blue = np.argwhere((sheet == (0, 0, 255)).all(axis=2))
    assert len(changed)
    assert blue[:, 0].max() < changed[:, 0].min() < changed[:, 0].max() <= blue[:, 0].max() + 30
    assert blue[:, 1].min() <= changed[:, 1].min() < changed[:, 1].max() < blue[:, 1].min() + 60


@pytest.mark.parametrize(
    "caption", ["", "exact", "0.9412 mirrored, Happy / Surprise, train / test", "x" * 90]
)
def test_a_caption_stays_below_its_own_pair(caption):
    plain = decode(pair_sheet({"t": [(BLUE, BLUE, ""), (BLUE, BLUE, "")]}, tile_px=60))
    sheet = decode(pair_sheet({"t": [(BLUE, BLUE, caption), (BLUE, BLUE, "")]}, tile_px=60))
    assert sheet.shape == plain.shape
    changed = np.argwhere((sheet != plain).any(axis=2))
    assert bool(len(changed)) == bool(caption)
    if caption:
        columns_of_blue = np.nonzero((plain == (0, 0, 255)).all(axis=2).any(axis=0))[0]
        assert changed[:, 0].min() >= 16 + 60
        assert columns_of_blue.min() <= changed[:, 1].min()
        assert changed[:, 1].max() < columns_of_blue.min() + 2 * 60 - 1


def test_the_end_of_a_long_caption_is_still_to_be_seen():
    ends = {pair_sheet({"t": [(RED, BLUE, "word " * 9 + end)]}, tile_px=60) for end in "abc"}
    assert len(ends) == 3


def test_no_pairs_are_a_sheet_too():
    assert decode(pair_sheet({"for review 0": []})).shape[0] > 96


def test_fit_shows_the_whole_picture_in_a_square():
    tile = fit(RED, 60)
    assert tile.shape == (60, 60, 3)
    assert share_of(tile[20:40], (255, 0, 0)) == 60 * 20


def test_a_box_is_outlined_on_a_copy():
    before = GREY.copy()
    drawn = draw_box(GREY, BoxPx(20, 10, 50, 40))
    assert np.array_equal(GREY, before)
    rows, columns = np.nonzero(marked(drawn))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 39, 20, 49)
    assert not marked(drawn)[15:35, 25:45].any()
    assert np.array_equal(draw_box(GREY, BoxPx(50, 40, 20, 10)), drawn)


def test_of_a_box_over_the_edge_the_visible_part_is_outlined():
    rows, columns = np.nonzero(marked(draw_box(GREY, BoxPx(-50, 30, 40, 10**9))))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (30, 59, 0, 39)


@pytest.mark.parametrize(
    ("box", "edges"),
    [
        (BoxPx(-60, 10, -20, 40), {"left"}),
        (BoxPx(100, 10, 10**9, 40), {"right"}),
        (BoxPx(10, -60, 40, -20), {"top"}),
        (BoxPx(10, 80, 40, 10**12), {"bottom"}),
        (BoxPx(200, 200, 300, 300), {"right", "bottom"}),
    ],
)
def test_of_a_box_outside_the_edges_towards_it_are_marked(box, edges):
    mask = marked(draw_box(GREY, box))
    sides = {"left": mask[:, 0], "right": mask[:, -1], "top": mask[0], "bottom": mask[-1]}
    assert {side for side, pixels in sides.items() if pixels.all()} == edges
    assert mask[20:40, 25:55].any()  # the arrow


@given(st.tuples(*[st.integers(-(10**12), 10**12) | st.integers(-90, 90)] * 4))
def test_any_box_can_be_drawn_on_any_picture(edges):
    for image in (GREY, GREY[:1], GREY[:1, :1]):
        drawn = draw_box(image, BoxPx(*edges))
        assert drawn.shape == image.shape

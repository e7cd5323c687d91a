import numpy as np

from stages.preprocessing.decode import decode
from stages.preprocessing.sheet import contact_sheet

RED = np.full((10, 30, 3), (255, 0, 0), np.uint8)
BLUE = np.full((300, 300, 3), (0, 0, 255), np.uint8)


def share_of(sheet, colour):
    return float((np.abs(sheet.astype(int) - colour).max(axis=2) < 40).sum())


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

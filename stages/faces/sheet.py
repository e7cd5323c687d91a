"""Contact sheets: faces, pairs and boxes in rows, for a person to look at."""

import math
import textwrap

import cv2
import numpy as np

from stages.faces.decode import BoxPx, Image, encode_png

_GAP_PX = 4
_PAIR_GAP_PX = 12
_BORDER_PX = 16
_LINE_PX = 18
_CAPTION_PX = 15
_PAIRS_A_LINE = 4
_PAPER = (255, 255, 255)
_EMPTY = (240, 240, 240)
_INK = (40, 40, 40)
_MARK = (255, 0, 200)
_FONT, _FONT_SCALE, _CAPTION_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5, 0.4


def contact_sheet(images_by_title: dict[str, list[Image]], *, tile_px: int = 96) -> bytes:
    """Draw a row for each title, its images (RGB, any size) in equal tiles; returns a PNG."""
    tiles = {
        title: [fit(image, tile_px) for image in images]
        for title, images in images_by_title.items()
    }
    columns = max(1, *(len(images) for images in images_by_title.values()))
    return _sheet(tiles, empty=_paper(tile_px, tile_px, _EMPTY), columns=columns, gap_px=_GAP_PX)


def captioned_sheet(
    images_by_title: dict[str, list[tuple[Image, str]]], *, columns: int, tile_px: int = 96
) -> bytes:
    """Draw the images of each title, with a caption below each; returns a PNG."""
    cells = {
        title: [_captioned(fit(image, tile_px), caption) for image, caption in images]
        for title, images in images_by_title.items()
    }
    empty = _captioned(_paper(tile_px, tile_px, _EMPTY), "")
    return _sheet(cells, empty=empty, columns=columns, gap_px=_GAP_PX)


def pair_sheet(
    pairs_by_title: dict[str, list[tuple[Image, Image, str]]], *, tile_px: int = 96
) -> bytes:
    """Draw the pairs of each title, two touching images with a caption below; returns a PNG."""
    cells = {
        title: [
            _captioned(np.hstack([fit(left, tile_px), fit(right, tile_px)]), caption)
            for left, right, caption in pairs
        ]
        for title, pairs in pairs_by_title.items()
    }
    empty = _captioned(_paper(tile_px, 2 * tile_px, _EMPTY), "")
    return _sheet(cells, empty=empty, columns=_PAIRS_A_LINE, gap_px=_PAIR_GAP_PX)


def draw_box(image: Image, box: BoxPx) -> Image:
    """Copy an RGB picture and outline the visible part of the box.

    If the box lies wholly outside, mark the edges beyond which it lies, and draw an arrow towards
    it. The edges of a reversed box are swapped.
    """
    drawn = image.copy()
    left, right = sorted((box.left, box.right))
    top, bottom = sorted((box.top, box.bottom))
    height, width = image.shape[:2]
    if right < 0 or bottom < 0 or left >= width or top >= height:
        _point_at(drawn, x=(left + right) // 2, y=(top + bottom) // 2)
        return drawn
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    line_px = _line_px(image)
    drawn[top : top + line_px, left:right] = _MARK
    drawn[bottom - line_px : bottom, left:right] = _MARK
    drawn[top:bottom, left : left + line_px] = _MARK
    drawn[top:bottom, right - line_px : right] = _MARK
    return drawn


def fit(image: Image, tile_px: int) -> Image:
    """Scale the whole picture into a square tile, centred, with its proportions."""
    scale = tile_px / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    tile = _paper(tile_px, tile_px, _EMPTY)
    top, left = (tile_px - height) // 2, (tile_px - width) // 2
    tile[top : top + height, left : left + width] = cv2.resize(
        image, (width, height), interpolation=method
    )
    return tile


def _captioned(picture: Image, caption: str) -> Image:
    """Set a caption of two lines below a picture, in smaller letters where it is too long."""
    width = picture.shape[1]
    strip = _paper(2 * _CAPTION_PX, width, _PAPER)
    text_px = max(1, _text_px(caption, scale=_CAPTION_SCALE))
    lines = textwrap.wrap(caption, max(len(caption) * width // text_px, len(caption) * 5 // 8, 1))
    for number, line in enumerate(lines):
        line_px = max(1, _text_px(line, scale=_CAPTION_SCALE))
        scale = _CAPTION_SCALE * min(1, (width - _GAP_PX) / line_px)
        left = (width - _text_px(line, scale=scale)) // 2
        middle = _CAPTION_PX * number + _CAPTION_PX // 2 + 1
        _write(strip, line, left=max(left, 0), middle=middle, scale=scale)
    return np.vstack([picture, strip])


def _sheet(
    cells_by_title: dict[str, list[Image]], *, empty: Image, columns: int, gap_px: int
) -> bytes:
    """Set equal cells beside their titles, in lines; `empty` fills up the last line."""
    rows = [
        _row(title, cells, empty=empty, columns=columns, gap_px=gap_px)
        for title, cells in cells_by_title.items()
    ]
    title_px = _BORDER_PX + max(
        _text_px(line) for title in cells_by_title for line in title.split("\n")
    )
    height = sum(row.shape[0] + gap_px for row in rows) - gap_px
    sheet = _paper(height + 2 * _BORDER_PX, rows[0].shape[1] + title_px + 2 * _BORDER_PX, _PAPER)
    top = _BORDER_PX
    for title, row in zip(cells_by_title, rows, strict=True):
        sheet[top : top + row.shape[0], _BORDER_PX + title_px : -_BORDER_PX] = row
        lines = title.split("\n")
        first = top + row.shape[0] // 2 - (len(lines) - 1) * _LINE_PX // 2
        for number, line in enumerate(lines):
            _write(sheet, line, left=_BORDER_PX, middle=first + number * _LINE_PX)
        top += row.shape[0] + gap_px
    return encode_png(sheet)


def _row(title: str, cells: list[Image], *, empty: Image, columns: int, gap_px: int) -> Image:
    """Set the cells of a title in lines, on paper that is high enough for the title too."""
    height, width = (side + gap_px for side in empty.shape[:2])
    num_lines = max(1, math.ceil(len(cells) / columns))
    needed = max(num_lines * height - gap_px, len(title.split("\n")) * _LINE_PX)
    row = _paper(needed, columns * width - gap_px, _PAPER)
    for place in range(num_lines * columns):
        top, left = place // columns * height, place % columns * width
        cell = cells[place] if place < len(cells) else empty
        row[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return row


def _point_at(image: Image, *, x: int, y: int) -> None:
    """Mark the edges beyond which a point lies, and draw an arrow towards it."""
    height, width = image.shape[:2]
    line_px = _line_px(image)
    if not 0 <= x < width:
        left = 0 if x < 0 else width - 2 * line_px
        image[:, left : left + 2 * line_px] = _MARK
    if not 0 <= y < height:
        top = 0 if y < 0 else height - 2 * line_px
        image[top : top + 2 * line_px] = _MARK
    # From the centre to four fifths of the way to the edge.
    centre = (width // 2, height // 2)
    tip = tuple(
        round(half + 0.8 * (min(max(place, 0), 2 * half) - half))
        for half, place in zip(centre, (x, y), strict=True)
    )
    cv2.arrowedLine(image, centre, tip, _MARK, line_px, cv2.LINE_AA, tipLength=0.4)


def _line_px(image: Image) -> int:
    """Choose a line that is still visible in a small tile."""
    longer: int = max(image.shape[:2])
    return max(1, round(longer / 48))


def _paper(height: int, width: int, colour: tuple[int, int, int]) -> Image:
    return np.full((height, width, 3), colour, np.uint8)


def _text_px(text: str, *, scale: float = _FONT_SCALE) -> int:
    (width_px, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    return width_px


def _write(sheet: Image, text: str, *, left: int, middle: int, scale: float = _FONT_SCALE) -> None:
    place = (left, middle + round(10 * scale))
    cv2.putText(sheet, text, place, _FONT, scale, _INK, 1, cv2.LINE_AA)

"""Contact sheets: faces, pairs and boxes in rows, for a person to look at."""

import math
import textwrap

import cv2
import numpy as np

from stages.faces.decode import BoxPx, Image, encode_png

TILE_PX = 96
_GAP_PX = 4
_PAIR_GAP_PX = 12
_BORDER_PX = 16
_LINE_PX = 18
_CAPTION_PX = 15
_PAIRS_A_LINE = 4
_PAPER, _EMPTY, _INK, _MARK = (255, 255, 255), (240, 240, 240), (40, 40, 40), (255, 0, 200)
_FONT, _FONT_SCALE, _CAPTION_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5, 0.4


def contact_sheet(images_by_title: dict[str, list[Image]]) -> bytes:
    """Draw a row for each title, its images (RGB, any size) in equal tiles; returns a PNG."""
    tiles = {title: [fit(image) for image in images] for title, images in images_by_title.items()}
    columns = max(1, *map(len, tiles.values()))
    return _sheet(tiles, empty=_paper(TILE_PX, TILE_PX, _EMPTY), columns=columns, gap_px=_GAP_PX)


def captioned_sheet(
    images_by_title: dict[str, list[tuple[Image, str]]], *, columns: int, tile_px: int = TILE_PX
) -> bytes:
    """Draw the images of each title, with a caption below each; returns a PNG."""
    cells = {
        title: [_captioned(fit(image, tile_px), caption) for image, caption in images]
        for title, images in images_by_title.items()
    }
    empty = _captioned(_paper(tile_px, tile_px, _EMPTY), "")
    return _sheet(cells, empty=empty, columns=columns, gap_px=_GAP_PX)


def pair_sheet(pairs_by_title: dict[str, list[tuple[Image, Image, str]]]) -> bytes:
    """Draw the pairs of each title, two touching images with a caption below; returns a PNG."""
    cells = {
        title: [_captioned(np.hstack([fit(a), fit(b)]), caption) for a, b, caption in pairs]
        for title, pairs in pairs_by_title.items()
    }
    empty = _captioned(_paper(TILE_PX, 2 * TILE_PX, _EMPTY), "")
    return _sheet(cells, empty=empty, columns=_PAIRS_A_LINE, gap_px=_PAIR_GAP_PX)


def draw_box(image: Image, box: BoxPx) -> Image:
    """Copy an RGB picture and outline the visible part of the box, reversed or not.

    If the box lies wholly outside, mark the edges beyond which it lies, and point an arrow there.
    """
    drawn = image.copy()
    (left, right), (top, bottom) = sorted((box.left, box.right)), sorted((box.top, box.bottom))
    height, width = image.shape[:2]
    # A line that is still visible in a small tile.
    line_px = max(1, round(max(height, width) / 48))
    if right < 0 or bottom < 0 or left >= width or top >= height:
        x, y = (left + right) // 2, (top + bottom) // 2
        if not 0 <= x < width:
            drawn[:, slice(2 * line_px) if x < 0 else slice(-2 * line_px, None)] = _MARK
        if not 0 <= y < height:
            drawn[slice(2 * line_px) if y < 0 else slice(-2 * line_px, None)] = _MARK
        # From the centre to four fifths of the way to the edge.
        centre = (width // 2, height // 2)
        ends = [min(max(place, 0), 2 * half) for half, place in zip(centre, (x, y), strict=True)]
        tip = [round(half + 0.8 * (end - half)) for half, end in zip(centre, ends, strict=True)]
        cv2.arrowedLine(drawn, centre, tip, _MARK, line_px, cv2.LINE_AA, tipLength=0.4)
        return drawn
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    drawn[top : top + line_px, left:right] = _MARK
    drawn[bottom - line_px : bottom, left:right] = _MARK
    drawn[top:bottom, left : left + line_px] = _MARK
    drawn[top:bottom, right - line_px : right] = _MARK
    return drawn


def fit(image: Image, tile_px: int = TILE_PX) -> Image:
    """Scale the whole picture into a square tile, centred, with its proportions."""
    scale = tile_px / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    tile = _paper(tile_px, tile_px, _EMPTY)
    top, left = (tile_px - height) // 2, (tile_px - width) // 2
    scaled = cv2.resize(image, (width, height), interpolation=method)
    tile[top : top + height, left : left + width] = scaled
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
        left = max((width - _text_px(line, scale=scale)) // 2, 0)
        middle = _CAPTION_PX * number + _CAPTION_PX // 2 + 1
        _write(strip, line, left=left, middle=middle, scale=scale)
    return np.vstack([picture, strip])


def _sheet(
    cells_by_title: dict[str, list[Image]], *, empty: Image, columns: int, gap_px: int
) -> bytes:
    """Set equal cells in lines beside their titles; `empty` fills up the last line."""
    height, width = (side + gap_px for side in empty.shape[:2])
    title_px = max(_text_px(line) for title in cells_by_title for line in title.split("\n"))
    left = title_px + 2 * _BORDER_PX
    strips = []
    for title, cells in cells_by_title.items():
        lines = title.split("\n")
        num_rows = max(1, math.ceil(len(cells) / columns))
        # High enough for the title too.
        strip_px = max(num_rows * height - gap_px, len(lines) * _LINE_PX)
        strip = _paper(strip_px + gap_px, left + columns * width - gap_px + _BORDER_PX, _PAPER)
        for place, cell in enumerate([*cells, *[empty] * (num_rows * columns - len(cells))]):
            y, x = place // columns * height, left + place % columns * width
            strip[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
        first = strip_px // 2 - (len(lines) - 1) * _LINE_PX // 2
        for number, line in enumerate(lines):
            _write(strip, line, left=_BORDER_PX, middle=first + number * _LINE_PX)
        strips.append(strip)
    border = _paper(_BORDER_PX, strips[0].shape[1], _PAPER)
    return encode_png(np.vstack([border, *strips, border[gap_px:]]))


def _paper(height: int, width: int, colour: tuple[int, int, int]) -> Image:
    return np.full((height, width, 3), colour, np.uint8)


def _text_px(text: str, *, scale: float = _FONT_SCALE) -> int:
    (width_px, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    return width_px


def _write(sheet: Image, text: str, *, left: int, middle: int, scale: float = _FONT_SCALE) -> None:
    place = (left, middle + round(10 * scale))
    cv2.putText(sheet, text, place, _FONT, scale, _INK, 1, cv2.LINE_AA)

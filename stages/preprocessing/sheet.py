"""Contact sheets: faces in rows, for a person to look at."""

import cv2
import numpy as np

from stages.preprocessing.decode import Image, encode_png

_GAP_PX = 4
_BORDER_PX = 16
_PAPER = (255, 255, 255)
_EMPTY = (240, 240, 240)
_INK = (40, 40, 40)
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5


def contact_sheet(images_by_title: dict[str, list[Image]], *, tile_px: int = 96) -> bytes:
    """Draw a row for each title, its images (RGB, any size) in equal tiles; returns a PNG."""
    columns = max(1, *(len(images) for images in images_by_title.values()))
    title_px = _BORDER_PX + max(_text_px(title) for title in images_by_title)
    step = tile_px + _GAP_PX
    height = len(images_by_title) * step - _GAP_PX + 2 * _BORDER_PX
    width = 2 * _BORDER_PX + title_px + columns * step - _GAP_PX
    sheet = np.full((height, width, 3), _PAPER, np.uint8)
    for row, (title, images) in enumerate(images_by_title.items()):
        top = _BORDER_PX + row * step
        _write(sheet, title, left=_BORDER_PX, middle=top + tile_px // 2)
        for column in range(columns):
            left = _BORDER_PX + title_px + column * step
            tile = sheet[top : top + tile_px, left : left + tile_px]
            tile[:] = _fit(images[column], tile_px) if column < len(images) else _EMPTY
    return encode_png(sheet)


def _fit(image: Image, tile_px: int) -> Image:
    """The whole picture in a square tile, centred, its proportions kept."""
    scale = tile_px / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    tile = np.full((tile_px, tile_px, 3), _EMPTY, np.uint8)
    top, left = (tile_px - height) // 2, (tile_px - width) // 2
    tile[top : top + height, left : left + width] = cv2.resize(
        image, (width, height), interpolation=method
    )
    return tile


def _text_px(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)[0][0])


def _write(sheet: Image, text: str, *, left: int, middle: int) -> None:
    place = (left, middle + 5)
    cv2.putText(sheet, text, place, _FONT, _FONT_SCALE, _INK, 1, cv2.LINE_AA)

"""Photos that an EXIF orientation turns, and boxes in them."""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from small_project import small_params, write_params

from stages import standardize
from stages.faces.decode import Image, decode
from stages.faces.shards import read_index
from stages.intake.intake import read_rejects

WIDTH, HEIGHT = 90, 60
# A face in the stored pixels: white, its upper left quarter black.
LEFT, TOP, SIDE = 10, 20, 24
AFFECTNET = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"


def upright() -> Image:
    face = np.full((SIDE, SIDE, 3), 255, np.uint8)
    face[: SIDE // 2, : SIDE // 2] = 0
    return face


def seen_as(image: Image, orientation: int) -> Image:
    """The same stored pixels as a viewer shows them."""
    turn = {
        1: image,
        2: image[:, ::-1],
        3: np.rot90(image, 2),
        4: image[::-1],
        5: image.transpose(1, 0, 2),
        6: np.rot90(image, -1),
        7: np.rot90(image, 2).transpose(1, 0, 2),
        8: np.rot90(image),
    }
    return turn[orientation]


def photo(orientation: int, form: str = "PNG") -> bytes:
    image = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    image[TOP : TOP + SIDE, LEFT : LEFT + SIDE] = upright()
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, form, exif=exif)
    return file.getvalue()


def affectnet(picture: bytes, box: tuple[int, int, int, int] = (LEFT, TOP, SIDE, SIDE)) -> dict:
    row = f"1/p.jpg,{','.join(map(str, box))},,1,0,0"
    return {"a/training.csv": f"{AFFECTNET}\n{row}\n".encode(), "a/1/p.jpg": picture}


def expw(picture: bytes) -> dict[str, bytes]:
    row = f"p.jpg 0 {TOP} {LEFT} {LEFT + SIDE} {TOP + SIDE} 70 3\n"
    return {"a/label.lst": row.encode(), "a/origin/p.jpg": picture}


def yolo(picture: bytes) -> dict[str, bytes]:
    """With the box of the face as a viewer shows it."""
    image = decode(picture)
    rows, columns = np.nonzero(np.abs(image[:, :, 0].astype(int) - 100) > 50)
    height, width = image.shape[:2]
    x, y = (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
    row = f"0 {x / width} {y / height} {SIDE / width} {SIDE / height}\n"
    files = {"data.yaml": b"names: [happy]\n", "train/labels/p.txt": row.encode()}
    return {f"a/{name}": data for name, data in files.items()} | {"a/train/images/p.jpg": picture}


FORMATS = {"affectnet": affectnet, "expw": expw, "affectnet_yolo": yolo}
COUNTED = {
    "affectnet": {"stored": 1, "turned": 0},
    "expw": {"stored": 1, "turned": 0},
    "affectnet_yolo": {"stored": 0, "turned": 1},
}


KEYS = {"expw": {"hq_confidence": 60}, "ferplus": {"label_rule": "majority"}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(folder: Path, form: str, files: dict[str, bytes]) -> Path:
    """The source folder that standardize makes of raw files."""
    for name, data in files.items():
        (folder / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "raw" / name).write_bytes(data)
    params: dict[str, Any] = small_params(standardize__crop_margin=0.0)
    params["standardize"] |= {"sources": {"s": {"format": form, "path": "a"} | KEYS.get(form, {})}}
    params["standardize"]["max_reject_share"] = 1.0
    params["manifest"]["views"] = {"toy_train": {"splits": ["train"]}}
    write_params(folder, params)
    standardize.main([])
    finished = folder / "standardized" / "s"
    return finished if finished.exists() else next((folder / ".work/standardize/s").iterdir())


def face_of(source: Path) -> Image:
    (image,) = pd.read_feather(source / "faces-00000.arrow")["image"]
    return decode(image)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_incident_D12_the_face_is_cut_whole_and_upright(
    folder: Path, form: str, orientation: int
) -> None:
    source = make(folder, form, FORMATS[form](photo(orientation)))
    assert np.array_equal(face_of(source), seen_as(upright(), orientation))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("picture", ["JPEG", "TIFF", "WEBP"])
def test_reported_a_box_is_of_the_pixels_that_its_format_declares(
    folder: Path, form: str, picture: str
) -> None:
    face = face_of(make(folder, form, FORMATS[form](photo(6, picture))))
    assert face.shape == (SIDE, SIDE, 3)
    # A lossy picture smears a little over the edges.
    assert np.abs(face[2:-2, 2:-2].astype(int) - seen_as(upright(), 6)[2:-2, 2:-2]).mean() < 12


@pytest.mark.parametrize("form", FORMATS)
def test_reported_boxes_in_turned_photos_are_counted_shown_and_warned_about(
    folder: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        source = make(folder, form, FORMATS[form](photo(6)))
    assert read_index(source)["boxes_in_turned_photos"] == COUNTED[form]
    (pixels,) = [name for name, count in COUNTED[form].items() if count]
    assert f"s: EXIF turns the photos of 1 boxes, which are taken for boxes of the {pixels} pixels" in (
        caplog.text
    )  # fmt: skip
    with_turned = PIL.Image.open(source / "sheet.png").height
    caplog.clear()
    again = make(folder, form, FORMATS[form](photo(1)))
    assert read_index(again)["boxes_in_turned_photos"] == {"stored": 0, "turned": 0}
    assert not caplog.text
    assert with_turned > PIL.Image.open(again / "sheet.png").height


def test_reported_a_refused_box_in_a_turned_photo_is_counted_and_named_as_the_table_has_it(
    folder: Path,
) -> None:
    # Inside the turned photo of 60 x 90, outside the stored one of 90 x 60.
    source = make(folder, "affectnet", affectnet(photo(6), (20, 62, 20, 20)))
    assert read_index(source)["boxes_in_turned_photos"] == {"stored": 1, "turned": 0}
    (reject,) = read_rejects(source)
    assert reject["reason"] == "box_outside"
    assert "in a photo of 60 x 90 px; EXIF turns the photo, the row has " in reject["detail"]
    assert "box (20, 62)-(40, 82) px of the stored picture" in reject["detail"]

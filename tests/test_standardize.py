"""The standardize door on four small sources: what it writes, and what it reads again."""

import io
import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from raw_sources import (
    SOURCES,
    contents,
    picture,
    shuffle_listings,
    write,
    write_params,
    write_raw,
)

from stages import standardize
from stages.faces.decode import decode
from stages.faces.shards import read_index
from stages.intake.intake import read_rejects
from stages.runtime.lock import run_lock
from tests.sources.conftest import AFFECTNET

SHARD = "faces-00000.arrow"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_raw(tmp_path / "raw")
    write_params(tmp_path)
    return tmp_path


def run() -> int:
    return standardize.main([])


def faces_of(project: Path, source: str) -> pd.DataFrame:
    return pd.read_feather(project / "standardized" / source / SHARD).set_index("id")


def test_every_source_becomes_a_whole_folder(project: Path) -> None:
    assert run() == 0
    names = {SHARD, "index.json", "rejects.csv", "rejects.png", "sheet.png"}
    expected = {f"{source}/{name}" for source in SOURCES for name in names}
    assert set(contents(project / "standardized")) == expected

    face = faces_of(project, "ferplus").loc["ferplus/fer0000000"]
    assert face["image"] == (project / "raw/ferplus/FER2013Train/fer0000000.png").read_bytes()
    assert face[["width", "height", "native_px"]].tolist() == [48, 48, 48]
    assert face[["label", "split", "photo"]].tolist() == ["Happy", "train", "ferplus/fer0000000"]
    assert face["votes"].tolist() == [0, 0, 0, 9, 0, 0, 1]
    assert face["raw"] == "ferplus/FER2013Train/fer0000000.png"

    columns = ["photo", "width", "height", "native_px", "confidence", "raw"]
    faces = faces_of(project, "expw")[columns]
    assert faces.reset_index().to_numpy().tolist() == [
        ["expw_hq/p#0", "expw/p", 80, 80, 20, 90.0, "expw.zip/origin/p.jpg"],
        ["expw_lq/p#1", "expw/p", 60, 60, 25, 12.5, "expw.zip/origin/p.jpg"],
    ]

    # Of three rows two are no faces; a row that is left out by rule does not count as broken.
    assert [list(row.values()) for row in read_rejects(project / "standardized/affect")] == [
        ["affect", "train/contempt/1.png", "not_a_class", "contempt"],
        ["affect", "train/sad/broken.png", "image_unreadable", "train/sad/broken.png: 0 bytes"],
    ]


def test_incident_D1_D6_D9_neither_a_rerun_nor_an_order_nor_a_place_changes_a_byte(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert run() == 0
    first = contents(project / "standardized")
    for path in (project / "standardized").rglob("*"):
        assert path.is_dir() or str(project).encode() not in path.read_bytes()
    with caplog.at_level(logging.INFO):
        assert run() == 0
    assert contents(project / "standardized") == first
    assert caplog.text.count("unchanged, reused") == len(SOURCES)
    # On another disk, listed in another order, and read anew.
    elsewhere = shutil.move(project / "raw", project / "other disk")
    write_params(project, raw=str(elsewhere), workers=0)
    shutil.rmtree(project / ".work")
    shuffle_listings(monkeypatch, seed=1)
    assert run() == 0
    assert contents(project / "standardized") == first


def test_incident_D2_a_box_of_another_picture_is_a_reject_with_its_numbers(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # All photos but one were cut to their faces; label.lst still holds the boxes in the photos.
    lines = [f"{n}.jpg 0 {300 + n} 400 520 {500 + n} 80.0 3" for n in range(20)]
    files = {f"origin/{n}.jpg": picture(n, 120 if n else 600) for n in range(20)}
    write(project / "raw/cut", {**files, "label.lst": "\n".join(lines)})
    write_params(project, sources={"cut": SOURCES["expw"] | {"path": "cut"}}, max_reject_share=0.05)
    assert run() == 2
    error = capsys.readouterr().err
    assert "source cut: 95.0% of its rows are broken" in error
    assert "box (400, 302, 520, 502) in a photo of 120 x 120 px" in error
    assert not (project / "standardized").exists()
    (finished,) = (project / ".work/standardize/cut").iterdir()
    assert f"look at rejects.csv and rejects.png in {finished.relative_to(project)}" in error
    faces = pd.read_feather(finished / SHARD)
    assert faces[["width", "height", "native_px"]].to_numpy().tolist() == [[400, 400, 120]]


def test_incident_D12_boxes_in_a_photo_that_exif_turns_are_of_what_the_format_declares(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    face, photo = np.full((24, 24, 3), 255, np.uint8), np.full((60, 90, 3), 100, np.uint8)
    face[:12, :12] = 0
    photo[20:44, 10:34] = face
    exif, file = PIL.Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # a quarter turn to the right
    PIL.Image.fromarray(photo).save(file, "PNG", exif=exif)
    # The second box lies in the turned photo of 60 x 90, and outside the stored one.
    boxes = {"1/p.jpg": "10,20", "1/q.jpg": "20,62"}
    rows = [f"{name},{box},24,24,,1,0,0" for name, box in boxes.items()]
    photos = dict.fromkeys(boxes, file.getvalue())
    write(project / "raw/phone", photos | {"training.csv": "\n".join([AFFECTNET, *rows])})
    phone = {"format": "affectnet", "path": "phone"}
    write_params(project, sources={"s": phone, "f": SOURCES["ferplus"]}, crop_margin=0.0)
    assert run() == 0
    (image,) = faces_of(project, "s")["image"]
    assert np.array_equal(decode(image), np.rot90(face, -1))
    # The photos are counted, warned about, and shown in a row of their own.
    folder = project / "standardized/s"
    assert read_index(folder)["boxes_in_turned_photos"] == {"stored": 2, "turned": 0}
    (warning,) = [line for line in caplog.messages if "EXIF turns the photos" in line]
    assert warning.startswith(
        "s: EXIF turns the photos of 2 boxes, which are taken for boxes of the"
    )
    heights = [PIL.Image.open(project / f"standardized/{s}/sheet.png").height for s in "sf"]
    assert heights[0] > heights[1]
    # What is refused is named as the table has it.
    (reject,) = read_rejects(folder)
    assert reject["reason"] == "box_outside"
    assert "in a photo of 60 x 90 px; EXIF turns the photo, the row has " in reject["detail"]
    assert "box (20, 62)-(44, 86) px of the stored picture" in reject["detail"]


def test_a_changed_source_or_param_alone_is_read_again(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run()
    before = contents(project / "standardized")
    write(project / "raw/affect/train/sad", {"2.png": picture(9, 64)})
    with caplog.at_level(logging.INFO):
        run()
    after = contents(project / "standardized")
    assert {path.split("/")[0] for path in after if after[path] != before[path]} == {"affect"}
    assert caplog.text.count("unchanged, reused") == len(SOURCES) - 1
    # The old copy goes.
    assert len(list((project / ".work/standardize/affect").iterdir())) == 1
    for changes, widths in (({"crop_margin": 0.0}, [40, 30]), ({"max_side_px": 60}, [60, 60])):
        write_params(project, **changes)
        run()
        assert faces_of(project, "expw")["width"].tolist() == widths
        assert faces_of(project, "expw")["native_px"].tolist() == [20, 25]
    # A source that left params leaves standardized/.
    write_params(project, sources={"ferplus": SOURCES["ferplus"]})
    assert run() == 0
    assert [path.name for path in (project / "standardized").iterdir()] == ["ferplus"]


def test_a_copy_in_work_that_is_damaged_is_made_again(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run()
    first = contents(project / "standardized")
    (folder,) = (project / ".work/standardize/expw").iterdir()
    shard = (folder / SHARD).read_bytes()
    another_byte = shard[:-1000] + bytes([shard[-1000] ^ 1]) + shard[-999:]
    lost = [(SHARD, None), ("index.json", None), ("sheet.png", None)]
    for name, damaged in [*lost, (SHARD, another_byte), ("index.json", bytes(99))]:
        (folder / name).unlink()
        if damaged is not None:
            (folder / name).write_bytes(damaged)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert run() == 0
        assert contents(project / "standardized") == first
        assert caplog.text.count("unchanged, reused") == len(SOURCES) - 1
        is_said = f"{SHARD}: damaged; the source is read again" in caplog.text
        assert is_said == (damaged == another_byte)


def test_held_lock_is_exit_code_3(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run_lock(project / ".work/standardize"):
        assert run() == 3
    assert "holds the lock" in capsys.readouterr().err

"""Standardize by its door: what is written, what is made again, and what is refused."""

import hashlib
import logging
import os
import random
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from small_project import ROOT

from stages import standardize
from stages.faces.decode import encode_png
from stages.faces.shards import read_index
from stages.intake import reuse
from stages.runtime.lock import run_lock

SOURCES = {
    "affect": {"format": "folder7", "path": "affect"},
    "expw": {"format": "expw", "path": "expw.zip", "hq_confidence": 60},
    "ferplus": {"format": "ferplus", "path": "ferplus", "label_rule": "majority"},
    "rafdb_basic": {"format": "rafdb_basic", "path": "rafdb"},
}
BOXES = "p.jpg 0 20 10 50 40 90.0 3\np.jpg 1 60 60 90 85 12.5 0\np.jpg 2 900 900 950 950 50 1"


def picture(seed: int, side: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def write_raw(raw: Path) -> None:
    files = {
        "affect/train/sad/1.png": picture(1, 64),
        "affect/train/sad/broken.png": b"",
        "affect/train/contempt/1.png": picture(2, 64),
        "ferplus/FER2013Train/fer0000000.png": picture(3, 48),
        "ferplus/FER2013Train/label.csv": b'fer0000000.png,"(0, 0, 48, 48)",1,9,0,0,0,0,0,0,0,0\n',
        "rafdb/EmoLabel/list_patition_label.txt": b"train_1.jpg 6\ntest_1.jpg 7\n",
        "rafdb/Image/aligned/train_1_aligned.jpg": picture(4, 100),
        "rafdb/Image/aligned/test_1_aligned.jpg": picture(5, 100),
    }
    write(raw, files)
    with zipfile.ZipFile(raw / "expw.zip", "w") as archive:
        archive.writestr("origin/p.jpg", picture(6, 100))
        archive.writestr("label.lst", BOXES)


def write_params(folder: Path, *, raw: str = "raw", workers: Any = "auto", **changes: Any) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["raw"], params["machine"]["workers"] = raw, workers
    section = {"sources": SOURCES, "crop_margin": 0.5, "max_reject_share": 0.5, "shard_mb": 512}
    params["standardize"] |= section | changes
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    write_raw(folder / "raw")
    write_params(folder)
    with chdir(folder):
        assert standardize.main([]) == 0
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> Path:
    """A copy of the finished project, in which the test runs."""
    caplog.set_level(logging.INFO)
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run(project: Path) -> dict[str, str]:
    """Run the door and hash what it published."""
    assert standardize.main([]) == 0
    return contents(project / "standardized")


def faces_of(project: Path, source: str) -> pd.DataFrame:
    return pd.read_feather(project / "standardized" / source / "faces-00000.arrow").set_index("id")


def rejects_of(project: Path, source: str) -> list[list[str]]:
    return pd.read_csv(project / "standardized" / source / "rejects.csv").to_numpy().tolist()


def test_every_source_becomes_a_whole_folder_of_faces(project: Path):
    names = {"faces-00000.arrow", "index.json", "rejects.csv", "rejects.png", "sheet.png"}
    published = {f"{source}/{name}" for source in SOURCES for name in names}
    assert set(contents(project / "standardized")) == published
    face = faces_of(project, "ferplus").loc["ferplus/fer0000000"]
    assert face["image"] == picture(3, 48)
    assert face[["width", "height", "native_px"]].tolist() == [48, 48, 48]
    assert face[["label", "split", "photo"]].tolist() == ["Happy", "train", "ferplus/fer0000000"]
    assert face["votes"].tolist() == [0, 0, 0, 9, 0, 0, 1]
    assert face["raw"] == "ferplus/FER2013Train/fer0000000.png"
    assert faces_of(project, "rafdb_basic")["native_px"].tolist() == [100, 100]
    faces = faces_of(project, "expw")
    assert faces.index.tolist() == ["expw_hq/p#0", "expw_lq/p#1"]
    assert faces["photo"].tolist() == ["expw/p", "expw/p"]
    assert faces["width"].tolist() == faces["height"].tolist() == [80, 60]
    assert faces["native_px"].tolist() == [20, 25]
    assert faces["confidence"].tolist() == [90.0, 12.5]
    assert faces["raw"].tolist() == ["expw.zip/origin/p.jpg"] * 2


def test_rejects_name_row_and_reason(project: Path):
    assert rejects_of(project, "affect") == [
        ["affect", "train/contempt/1.png", "not_a_class", "contempt"],
        ["affect", "train/sad/broken.png", "image_unreadable", "train/sad/broken.png: 0 bytes"],
    ]
    assert rejects_of(project, "expw")[0][1:3] == ["label.lst:3", "box_outside"]


def test_incident_D1_running_again_changes_no_byte(project: Path, caplog):
    first = contents(project / "standardized")
    write_params(project, workers=0)
    assert run(project) == first
    assert caplog.text.count("unchanged, reused") == len(SOURCES)
    shutil.rmtree(project / ".work")
    assert run(project) == first


def test_incident_D1_files_that_were_linked_again_are_faces_with_equal_hashes(project: Path):
    for number in range(10, 15):
        write(project / "raw/affect", {f"train/happy/{number}.png": picture(number, 64)})
    for path in sorted((project / "raw/affect").rglob("*.png")):
        hashed = hashlib.sha256(str(path).encode()).hexdigest()[:8]
        path.with_name(f"{hashed}_{path.name}").hardlink_to(path)
    run(project)
    faces = faces_of(project, "affect")
    # Twice all faces, and twice the broken picture and the one that is not a class.
    assert len(faces) == 2 * 6
    assert [row[2] for row in rejects_of(project, "affect")].count("not_a_class") == 2
    assert read_index(project / "standardized/affect")["rows"] == 2 * 8
    twins = faces.groupby("sha256")
    assert twins.size().tolist() == [2] * 6
    assert twins[["thumbnail", "dhash"]].nunique().eq(1).all(axis=None)


def test_incident_D2_a_box_of_another_picture_is_a_reject_with_its_numbers(project: Path, capsys):
    # The photos were cut to their faces, but label.lst still holds the boxes in the photos.
    lines = [f"{n}.jpg 0 {300 + n} 400 520 {500 + n} 80.0 3" for n in range(20)]
    files = {f"origin/{n}.jpg": picture(n, 120) for n in range(20)}
    # One photo that nobody cut, and one crop that its box still reaches by a corner.
    files |= {"origin/0.jpg": picture(30, 600), "origin/1.jpg": picture(31, 410)}
    write(project / "raw/cut", {**files, "label.lst": "\n".join(lines).encode()})
    write_params(project, sources={"cut": SOURCES["expw"] | {"path": "cut"}}, max_reject_share=0.05)
    assert standardize.main([]) == 2
    error = capsys.readouterr().err
    assert "source cut: 95.0% of its rows are broken" in error
    assert "box (400, 301, 520, 501) in a photo of 410 x 410 px" in error
    assert "box (400, 302, 520, 502) in a photo of 120 x 120 px" in error
    assert "'box_outside': 19" in error
    (work,) = (project / ".work/standardize/cut").iterdir()
    assert f"look at rejects.csv and rejects.png in {work.relative_to(project)}" in error
    faces = pd.read_feather(work / "faces-00000.arrow")
    assert faces[["width", "height", "native_px"]].to_numpy().tolist() == [[400, 400, 120]]


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_incident_D6_workers_place_and_listing_order_change_no_byte(
    project: Path, monkeypatch: pytest.MonkeyPatch, workers: int
):
    first = contents(project / "standardized")
    elsewhere = project / "elsewhere" / "and deeper"
    write_raw(elsewhere / "raw")
    write_params(elsewhere, workers=workers)
    monkeypatch.chdir(elsewhere)
    walk, rng = os.walk, random.Random(workers)

    def shuffled(*args: Any, **options: Any) -> Iterator[tuple[str, list[str], list[str]]]:
        for folder, subfolders, names in walk(*args, **options):
            rng.shuffle(subfolders)
            rng.shuffle(names)
            yield folder, subfolders, names

    monkeypatch.setattr(os, "walk", shuffled)
    assert run(elsewhere) == first


def test_incident_D9_no_path_of_this_machine_is_written(project: Path, finished: Path):
    for path in (project / "standardized").rglob("*"):
        assert path.is_dir() or str(finished).encode() not in path.read_bytes()
    # Raw data elsewhere, named absolutely: the same bytes.
    shutil.move(project / "raw", project / "other disk")
    write_params(project, raw=str(project / "other disk"))
    assert run(project) == contents(finished / "standardized")


def test_a_changed_source_alone_is_read_again_and_its_old_copy_goes(project: Path, caplog):
    before = contents(project / "standardized")
    (project / "raw/affect/train/sad/2.png").write_bytes(picture(9, 64))
    after = run(project)
    assert {path.split("/")[0] for path in after if after[path] != before[path]} == {"affect"}
    assert caplog.text.count("unchanged, reused") == len(SOURCES) - 1
    assert len(list((project / ".work/standardize/affect").iterdir())) == 1


@pytest.mark.parametrize(
    ("changes", "widths"), [({"crop_margin": 0.0}, [40, 30]), ({"max_side_px": 60}, [60, 60])]
)
def test_settings_of_the_crop_read_again(project: Path, changes: dict, widths: list[int]):
    write_params(project, **changes)
    run(project)
    faces = faces_of(project, "expw")
    assert faces["width"].tolist() == widths
    assert faces["native_px"].tolist() == [20, 25]


def test_a_source_that_left_params_leaves_standardized(project: Path):
    write_params(project, sources={"ferplus": SOURCES["ferplus"]})
    run(project)
    assert [path.name for path in (project / "standardized").iterdir()] == ["ferplus"]


def flip_a_byte(data: bytes) -> bytes:
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, None) for name in ("faces-00000.arrow", "index.json", "rejects.csv", "sheet.png")),
        *((name, lambda data: bytes(len(data))) for name in ("faces-00000.arrow", "index.json")),
        *((name, lambda data: data[:200]) for name in ("faces-00000.arrow", "index.json")),
        ("faces-00000.arrow", flip_a_byte),
    ],
)
def test_a_copy_in_work_with_a_lost_or_damaged_file_is_made_again(
    project: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Any
):
    first = contents(project / "standardized")
    (file,) = (project / ".work/standardize/expw").rglob(name)
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    assert run(project) == first
    assert caplog.text.count("unchanged, reused") == len(SOURCES) - 1
    if damage and name == "faces-00000.arrow":
        assert "faces-00000.arrow: damaged; the source is read again" in caplog.text


def test_changed_code_reads_every_source_again(project: Path, monkeypatch, caplog):
    package = project / "stages"
    shutil.copytree(ROOT / "stages", package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(reuse, "_PACKAGE", package)
    with (package / "sources/expw.py").open("a", encoding="utf-8") as file:
        file.write("# The top is the first number.\n")
    run(project)
    assert "unchanged, reused" not in caplog.text


def test_a_row_left_out_by_rule_is_not_broken(project: Path):
    (project / "raw/affect/train/sad/broken.png").unlink()
    write_params(project, sources={"affect": SOURCES["affect"]}, max_reject_share=0.0)
    run(project)
    assert [row[2] for row in rejects_of(project, "affect")] == ["not_a_class"]


def test_held_lock_is_exit_code_3(project: Path, capsys):
    with run_lock(project / ".work/standardize"):
        assert standardize.main([]) == 3
    assert "holds the lock" in capsys.readouterr().err

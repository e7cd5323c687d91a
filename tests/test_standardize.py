import csv
import hashlib
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import standardize
from stages.faces.decode import decode, encode_png
from stages.intake import reuse
from stages.runtime.lock import run_lock

ROOT = Path(__file__).parents[1]
SOURCES = {
    "affect": {"format": "folder7", "path": "affect"},
    "expw": {"format": "expw", "path": "expw.zip", "hq_confidence": 60},
    "ferplus": {"format": "ferplus", "path": "ferplus", "label_rule": "majority"},
    "rafdb_basic": {"format": "rafdb_basic", "path": "rafdb"},
}


def picture(seed: int, side: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def write(root: Path, files: dict[str, bytes | str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def write_raw(raw: Path) -> None:
    happy = '"(0, 0, 48, 48)",1,9,0,0,0,0,0,0,0,0'
    write(
        raw,
        {
            "affect/train/sad/1.png": picture(1, 64),
            "affect/train/sad/broken.png": b"",
            "affect/train/contempt/1.png": picture(2, 64),
            "ferplus/FER2013Train/fer0000000.png": picture(3, 48),
            "ferplus/FER2013Train/label.csv": f"fer0000000.png,{happy}\n",
            "rafdb/EmoLabel/list_patition_label.txt": "train_1.jpg 6\ntest_1.jpg 7\n",
            "rafdb/Image/aligned/train_1_aligned.jpg": picture(4, 100),
            "rafdb/Image/aligned/test_1_aligned.jpg": picture(5, 100),
        },
    )
    lines = [
        "p.jpg 0 20 10 50 40 90.0 3",
        "p.jpg 1 60 60 90 85 12.5 0",
        "p.jpg 2 900 900 950 950 50 1",
    ]
    with zipfile.ZipFile(raw / "expw.zip", "w") as archive:
        archive.writestr("origin/p.jpg", picture(6, 100))
        archive.writestr("label.lst", "\n".join(lines))


def write_params(
    folder: Path, *, raw: str = "raw", workers: int | str = "auto", **changes: Any
) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["raw"], params["machine"]["workers"] = raw, workers
    section = {"sources": SOURCES, "crop_margin": 0.5, "max_reject_share": 0.5, "shard_mb": 512}
    params["standardize"] |= section | changes
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_raw(tmp_path / "raw")
    write_params(tmp_path)
    return tmp_path


def shuffle_listings(monkeypatch: pytest.MonkeyPatch, *, seed: int) -> None:
    walk, rng = os.walk, random.Random(seed)

    def shuffled(*args: Any, **options: Any) -> Iterator[tuple[str, list[str], list[str]]]:
        for folder, subfolders, names in walk(*args, **options):
            rng.shuffle(subfolders)
            rng.shuffle(names)
            yield folder, subfolders, names

    monkeypatch.setattr(os, "walk", shuffled)


def run() -> int:
    return standardize.main([])


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def faces_of(project: Path, source: str) -> pd.DataFrame:
    return pd.read_feather(project / "standardized" / source / "faces-00000.arrow").set_index("id")


def rejects_of(project: Path, source: str) -> list[dict[str, str]]:
    path = project / "standardized" / source / "rejects.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def index_of(project: Path, source: str) -> dict[str, Any]:
    path = project / "standardized" / source / "index.json"
    index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return index


def test_every_source_becomes_a_whole_folder(project: Path):
    assert run() == 0
    names = {"faces-00000.arrow", "index.json", "rejects.csv", "rejects.png", "sheet.png"}
    assert {path.name for path in (project / "standardized").iterdir()} == set(SOURCES)
    for source in SOURCES:
        assert {path.name for path in (project / "standardized" / source).iterdir()} == names


def test_columns_of_faces_that_keep_their_bytes(project: Path):
    run()
    face = faces_of(project, "ferplus").loc["ferplus/fer0000000"]
    assert face["image"] == (project / "raw/ferplus/FER2013Train/fer0000000.png").read_bytes()
    assert face[["width", "height", "native_px"]].tolist() == [48, 48, 48]
    assert face[["label", "split", "photo"]].tolist() == ["Happy", "train", "ferplus/fer0000000"]
    assert face["votes"].tolist() == [0, 0, 0, 9, 0, 0, 1]
    assert face["raw"] == "ferplus/FER2013Train/fer0000000.png"
    assert faces_of(project, "rafdb_basic")["native_px"].tolist() == [100, 100]


def test_columns_of_faces_that_are_cropped(project: Path):
    run()
    faces = faces_of(project, "expw")
    assert faces.index.tolist() == ["expw_hq/p#0", "expw_lq/p#1"]
    assert faces["photo"].tolist() == ["expw/p", "expw/p"]
    assert faces["width"].tolist() == faces["height"].tolist() == [80, 60]
    assert faces["native_px"].tolist() == [20, 25]
    assert faces["confidence"].tolist() == [90.0, 12.5]
    assert faces["raw"].tolist() == ["expw.zip/origin/p.jpg"] * 2


def test_rejects_name_row_and_reason(project: Path):
    run()
    assert rejects_of(project, "affect") == [
        {
            "source": "affect",
            "row": "train/contempt/1.png",
            "reason": "not_a_class",
            "detail": "contempt",
        },
        {
            "source": "affect",
            "row": "train/sad/broken.png",
            "reason": "image_unreadable",
            "detail": "train/sad/broken.png: 0 bytes",
        },
    ]
    (outside,) = rejects_of(project, "expw")
    assert (outside["row"], outside["reason"]) == ("label.lst:3", "box_outside")
    assert "(900, 900, 950, 950) in a photo of 100 x 100 px" in outside["detail"]


def test_incident_D1_running_again_changes_no_byte(project: Path, caplog):
    run()
    first = contents(project / "standardized")
    with caplog.at_level(logging.INFO):
        assert run() == 0
    assert contents(project / "standardized") == first
    assert caplog.text.count("unchanged, reused") == len(SOURCES)
    shutil.rmtree(project / ".work")
    assert run() == 0
    assert contents(project / "standardized") == first


def test_incident_D1_files_that_were_linked_again_are_faces_with_equal_hashes(project: Path):
    for number in range(10, 15):
        write(project / "raw/affect", {f"train/happy/{number}.png": picture(number, 64)})
    for path in sorted((project / "raw/affect").rglob("*.png")):
        hashed = hashlib.sha256(str(path).encode()).hexdigest()[:8]
        path.with_name(f"{hashed}_{path.name}").hardlink_to(path)
    assert run() == 0
    faces = faces_of(project, "affect")
    # Twice all faces, and twice the broken picture and the one that is not a class.
    assert len(faces) == 2 * 6
    assert [row["reason"] for row in rejects_of(project, "affect")].count("not_a_class") == 2
    assert index_of(project, "affect")["rows"] == 2 * 8
    twins = faces.groupby("sha256").groups
    assert sorted(len(ids) for ids in twins.values()) == [2] * 6
    assert faces.groupby("sha256")[["thumbnail", "dhash"]].nunique().eq(1).all(axis=None)


def test_incident_D2_a_box_of_another_picture_is_a_reject_with_its_numbers(project: Path, capsys):
    # The photos were cut to their faces, but label.lst still holds the boxes in the photos.
    numbers = range(20)
    lines = [f"{n}.jpg 0 {300 + n} 400 520 {500 + n} 80.0 3" for n in numbers]
    files: dict[str, bytes | str] = {f"origin/{n}.jpg": picture(n, 120) for n in numbers}
    write(project / "raw/cut", {**files, "label.lst": "\n".join(lines)})
    # One photo that nobody cut, and one crop that its box still reaches by a corner.
    write(project / "raw/cut/origin", {"0.jpg": picture(30, 600), "1.jpg": picture(31, 410)})
    write_params(project, sources={"cut": SOURCES["expw"] | {"path": "cut"}}, max_reject_share=0.05)
    assert run() == 2
    error = capsys.readouterr().err
    assert "source cut: 95.0% of its rows are broken" in error
    assert "box (400, 301, 520, 501) in a photo of 410 x 410 px" in error
    assert "box (400, 302, 520, 502) in a photo of 120 x 120 px" in error
    assert "'box_outside': 19" in error
    assert not (project / "standardized").exists()
    (finished,) = (project / ".work/standardize/cut").iterdir()
    assert f"look at rejects.csv and rejects.png in {finished.relative_to(project)}" in error
    faces = pd.read_feather(finished / "faces-00000.arrow")
    assert faces[["width", "height", "native_px"]].to_numpy().tolist() == [[400, 400, 120]]
    marked = (decode((finished / "rejects.png").read_bytes()) == (255, 0, 200)).all(axis=2)
    # Twelve tiles, each with its mark.
    assert len(np.flatnonzero(np.diff(marked.any(axis=0).astype(int)) == 1)) >= 12


def test_incident_D6_another_listing_order_changes_no_byte(project: Path, monkeypatch):
    run()
    first = contents(project / "standardized")
    shutil.rmtree(project / ".work")
    shuffle_listings(monkeypatch, seed=1)
    assert run() == 0
    assert contents(project / "standardized") == first


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_workers_folder_and_listing_order_change_no_byte(tmp_path: Path, monkeypatch, workers: int):
    monkeypatch.chdir(tmp_path)
    folders = [tmp_path / "here", tmp_path / "elsewhere" / "and deeper"]
    for folder in folders:
        write_raw(folder / "raw")
    write_params(folders[0], workers="auto", max_side_px=60)
    write_params(folders[1], workers=workers, max_side_px=60)
    found = []
    for seed, folder in enumerate(folders):
        monkeypatch.chdir(folder)
        shuffle_listings(monkeypatch, seed=seed)
        assert run() == 0
        found.append(contents(folder / "standardized"))
    assert found[0] == found[1]
    assert len(found[0]) == 5 * len(SOURCES)


def test_incident_D8_a_misspelt_split_folder_is_an_error_and_not_train(project: Path, capsys):
    run()
    (project / "raw/affect/train").rename(project / "raw/affect/trian")
    write(project / "raw/affect", {"test/sad/1.png": picture(8, 64)})
    expect_error(project, capsys, "source affect: trian/", "expected a folder train, val")


def test_incident_D9_no_path_of_this_machine_is_written(project: Path):
    run()
    first = contents(project / "standardized")
    for path in (project / "standardized").rglob("*"):
        assert path.is_dir() or str(project).encode() not in path.read_bytes()
    # Raw data elsewhere, named absolutely: the same bytes.
    elsewhere = project / "other disk"
    shutil.move(project / "raw", elsewhere)
    write_params(project, raw=str(elsewhere))
    assert run() == 0
    assert contents(project / "standardized") == first


def test_a_changed_source_alone_is_read_again_and_its_old_copy_goes(project: Path, caplog):
    run()
    before = contents(project / "standardized")
    (project / "raw/affect/train/sad/2.png").write_bytes(picture(9, 64))
    with caplog.at_level(logging.INFO):
        run()
    after = contents(project / "standardized")
    assert {path.split("/")[0] for path in after if after[path] != before[path]} == {"affect"}
    assert caplog.text.count("unchanged, reused") == len(SOURCES) - 1
    assert len(list((project / ".work/standardize/affect").iterdir())) == 1


def test_crop_margin_reads_again(project: Path):
    run()
    write_params(project, crop_margin=0.0)
    run()
    assert faces_of(project, "expw")["width"].tolist() == [40, 30]


def test_the_longest_side_reads_again(project: Path):
    run()
    write_params(project, max_side_px=60)
    run()
    faces = faces_of(project, "expw")
    assert faces["width"].tolist() == [60, 60]
    assert faces["native_px"].tolist() == [20, 25]


def test_the_number_of_workers_reads_nothing_again(project: Path, caplog):
    run()
    write_params(project, workers=0)
    with caplog.at_level(logging.INFO):
        assert run() == 0
    assert caplog.text.count("unchanged, reused") == len(SOURCES)


def test_a_source_that_left_params_leaves_standardized(project: Path):
    run()
    write_params(project, sources={"ferplus": SOURCES["ferplus"]})
    assert run() == 0
    assert [path.name for path in (project / "standardized").iterdir()] == ["ferplus"]


@pytest.mark.parametrize("lost", ["faces-*.arrow", "index.json", "rejects.csv", "sheet.png"])
def test_a_copy_in_work_that_lost_a_file_is_made_again(project: Path, lost: str):
    run()
    first = contents(project / "standardized")
    for file in (project / ".work/standardize").rglob(lost):
        file.unlink()
    assert run() == 0
    assert contents(project / "standardized") == first


def test_changed_code_reads_every_source_again(project: Path, monkeypatch, caplog):
    run()
    package = project / "stages"
    shutil.copytree(ROOT / "stages", package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(reuse, "_PACKAGE", package)
    with caplog.at_level(logging.INFO):
        run()
    assert caplog.text.count("unchanged, reused") == len(SOURCES)
    with (package / "sources/expw.py").open("a", encoding="utf-8") as file:
        file.write("# The top is the first number.\n")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        run()
    assert "unchanged, reused" not in caplog.text


def in_zeros(data: bytes) -> bytes:
    return bytes(len(data))


def in_half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def with_another_byte(data: bytes) -> bytes:
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("damage", [in_zeros, in_half, with_another_byte])
def test_a_copy_in_work_with_a_damaged_shard_is_made_again(project: Path, caplog, damage):
    run()
    first = contents(project / "standardized")
    (shard,) = (project / ".work/standardize/expw").glob("*/faces-00000.arrow")
    shard.write_bytes(damage(shard.read_bytes()))
    with caplog.at_level(logging.INFO):
        assert run() == 0
    assert contents(project / "standardized") == first
    assert "faces-00000.arrow: damaged; the source is read again" in caplog.text
    assert caplog.text.count("unchanged, reused") == len(SOURCES) - 1


@pytest.mark.parametrize("damage", [in_zeros, in_half])
def test_a_copy_in_work_with_a_damaged_index_is_made_again(project: Path, damage):
    run()
    first = contents(project / "standardized")
    (index,) = (project / ".work/standardize/expw").glob("*/index.json")
    index.write_bytes(damage(index.read_bytes()))
    assert run() == 0
    assert contents(project / "standardized") == first


# --- bad input: exit code 2, one message, what existed stays ---------------------------------------


def expect_error(project: Path, capsys, *parts: str) -> None:
    before = contents(project / "standardized")
    capsys.readouterr()
    assert run() == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    for part in parts:
        assert part in error
    assert contents(project / "standardized") == before
    assert [path.name for path in project.glob(".standardized*")] == []


def test_missing_raw_path(project: Path, capsys):
    run()
    shutil.rmtree(project / "raw/rafdb")
    expect_error(
        project, capsys, "params.yaml: standardize.sources.rafdb_basic.path: expected a folder"
    )


@pytest.mark.parametrize("path", ["../elsewhere", "/data/ferplus", "C:/data", "a\\b"])
def test_incident_D9_a_path_that_is_not_below_raw(project: Path, capsys, path: str):
    run()
    write_params(project, sources={"ferplus": SOURCES["ferplus"] | {"path": path}})
    expect_error(project, capsys, "standardize.sources.ferplus.path: expected a path below `raw`")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../yunet.onnx", "standardize.face_detector: expected a path below `raw`"),
        ("/models/yunet.onnx", "standardize.face_detector: expected a path below `raw`"),
        ("yunet.onnx", "standardize.face_detector: expected an ONNX file, found none"),
        ("expw.zip", "standardize.face_detector: expected YuNet's ONNX file"),
    ],
)
def test_a_face_detector_that_is_none(project: Path, capsys, path: str, message: str):
    run()
    write_params(project, face_detector=path)
    expect_error(project, capsys, f"params.yaml: {message}")


def test_too_many_broken_rows(project: Path, capsys):
    run()
    write_params(project, max_reject_share=0.05)
    expect_error(
        project,
        capsys,
        "source affect: 33.3% of its rows are broken, standardize.max_reject_share allows 5.0%",
        "'not_a_class': 1",
        "train/sad/broken.png: image_unreadable",
    )


def test_left_out_by_rule_is_not_broken(project: Path):
    (project / "raw/affect/train/sad/broken.png").unlink()
    sources = {"affect": SOURCES["affect"]}
    write_params(project, sources=sources, max_reject_share=0.0)
    assert run() == 0
    assert [row["reason"] for row in rejects_of(project, "affect")] == ["not_a_class"]


def test_a_source_without_faces(project: Path, capsys):
    run()
    (project / "raw/affect/train/sad/1.png").write_bytes(b"not a picture")
    expect_error(project, capsys, "source affect: expected faces, got none; rejects: {")


def test_two_pictures_with_one_id_are_a_face_and_a_reject(project: Path):
    (project / "raw/affect/train/sad/2.jpg").write_bytes(picture(7, 64))
    (project / "raw/affect/train/sad/2").write_bytes(picture(8, 64))
    assert run() == 0
    (repeated,) = [r for r in rejects_of(project, "affect") if r["reason"] == "row_repeated"]
    assert repeated["row"] == "train/sad/2.jpg"
    assert "train/sad/2 has the same id, affect/train/sad/2" in repeated["detail"]


def test_held_lock_is_exit_code_3(project: Path, capsys):
    run()
    before = contents(project / "standardized")
    with run_lock(project / ".work/standardize"):
        assert run() == 3
    assert "holds the lock" in capsys.readouterr().err
    assert contents(project / "standardized") == before


def test_help_needs_no_params(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "stages.standardize", "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0
    assert "python -m stages.standardize" in done.stdout

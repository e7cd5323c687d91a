import hashlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
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


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_raw(tmp_path / "raw")
    write_params(tmp_path)
    return tmp_path


def run() -> int:
    return standardize.main([])


def faces_of(project: Path, source: str) -> pd.DataFrame:
    return pd.read_feather(project / "standardized" / source / "faces-00000.arrow").set_index("id")


def test_every_source_becomes_a_whole_folder(project: Path):
    assert run() == 0
    names = {"faces-00000.arrow", "index.json", "rejects.csv", "rejects.png", "sheet.png"}
    assert {path.name for path in (project / "standardized").iterdir()} == set(SOURCES)
    for source in SOURCES:
        assert {path.name for path in (project / "standardized" / source).iterdir()} == names

    face = faces_of(project, "ferplus").loc["ferplus/fer0000000"]
    assert face["image"] == (project / "raw/ferplus/FER2013Train/fer0000000.png").read_bytes()
    assert face[["width", "height", "native_px"]].tolist() == [48, 48, 48]
    assert face[["label", "split", "photo"]].tolist() == ["Happy", "train", "ferplus/fer0000000"]
    assert face["votes"].tolist() == [0, 0, 0, 9, 0, 0, 1]
    assert face["raw"] == "ferplus/FER2013Train/fer0000000.png"

    faces = faces_of(project, "expw")
    assert faces.index.tolist() == ["expw_hq/p#0", "expw_lq/p#1"]
    assert faces["photo"].tolist() == ["expw/p", "expw/p"]
    assert faces["width"].tolist() == faces["height"].tolist() == [80, 60]
    assert faces["native_px"].tolist() == [20, 25]
    assert faces["confidence"].tolist() == [90.0, 12.5]
    assert faces["raw"].tolist() == ["expw.zip/origin/p.jpg"] * 2

    assert [list(row.values()) for row in read_rejects(project / "standardized/affect")] == [
        ["affect", "train/contempt/1.png", "not_a_class", "contempt"],
        ["affect", "train/sad/broken.png", "image_unreadable", "train/sad/broken.png: 0 bytes"],
    ]
    (outside,) = read_rejects(project / "standardized/expw")
    assert (outside["row"], outside["reason"]) == ("label.lst:3", "box_outside")
    assert "(900, 900, 950, 950) in a photo of 100 x 100 px" in outside["detail"]


def test_incident_D1_running_again_changes_no_byte(project: Path, caplog):
    run()
    first = contents(project / "standardized")
    write_params(project, workers=0)
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
    assert [row["reason"] for row in read_rejects(project / "standardized/affect")].count(
        "not_a_class"
    ) == 2
    assert read_index(project / "standardized/affect")["rows"] == 2 * 8
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


@pytest.mark.parametrize("workers", [0, 2])
def test_incident_D6_another_listing_order_changes_no_byte(
    tmp_path: Path, monkeypatch, workers: int
):
    """Nor do another folder and another number of workers."""
    monkeypatch.chdir(tmp_path)
    folders = [tmp_path / "here", tmp_path / "elsewhere" / "and deeper"]
    for folder in folders:
        write_raw(folder / "raw")
    write_params(folders[0], workers="auto", max_side_px=60)
    write_params(folders[1], workers=workers, max_side_px=60)
    written = []
    for seed, folder in enumerate(folders):
        monkeypatch.chdir(folder)
        shuffle_listings(monkeypatch, seed=seed)
        assert run() == 0
        written.append(contents(folder / "standardized"))
    assert written[0] == written[1]
    assert len(written[0]) == 5 * len(SOURCES)


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


def test_a_changed_source_or_param_alone_is_read_again(project: Path, caplog):
    run()
    before = contents(project / "standardized")
    (project / "raw/affect/train/sad/2.png").write_bytes(picture(9, 64))
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
        faces = faces_of(project, "expw")
        assert faces["width"].tolist() == widths
        assert faces["native_px"].tolist() == [20, 25]
    # A source that left params leaves standardized/.
    write_params(project, sources={"ferplus": SOURCES["ferplus"]})
    assert run() == 0
    assert [path.name for path in (project / "standardized").iterdir()] == ["ferplus"]


def test_a_copy_in_work_that_is_damaged_is_made_again(project: Path, caplog):
    run()
    first = contents(project / "standardized")
    (folder,) = (project / ".work/standardize/expw").iterdir()
    damages: dict[str, Callable[[bytes], bytes]] = {
        "zeros": lambda data: bytes(len(data)),
        "half": lambda data: data[: len(data) // 2],
        "another byte": lambda data: data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:],
    }
    shard = "faces-00000.arrow"
    lost = [(name, "lost") for name in (shard, "index.json", "rejects.csv", "sheet.png")]
    broken = [*((shard, damage) for damage in damages), ("index.json", "zeros")]
    for name, damage in [*lost, *broken]:
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        if damage != "lost":
            (folder / name).write_bytes(damages[damage](data))
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert run() == 0
        assert contents(project / "standardized") == first
        assert caplog.text.count("unchanged, reused") == len(SOURCES) - 1
        expected = name == shard and damage != "lost"
        assert (f"{shard}: damaged; the source is read again" in caplog.text) == expected


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


PLACE = "expected a path below `raw`"
DETECTOR = "standardize.face_detector"


@pytest.mark.parametrize(
    ("path", "detector", "message"),
    [
        *((path, None, f"sources.ferplus.path: {PLACE}")
          for path in ("../elsewhere", "/data/ferplus", "C:/data", "a\\b")),
        ("gone", None, "params.yaml: standardize.sources.ferplus.path: expected a folder"),
        ("ferplus", "../yunet.onnx", f"{DETECTOR}: {PLACE}"),
        ("ferplus", "/models/yunet.onnx", f"{DETECTOR}: {PLACE}"),
        ("ferplus", "yunet.onnx", f"{DETECTOR}: expected an ONNX file, found none"),
        ("ferplus", "expw.zip", f"params.yaml: {DETECTOR}: expected YuNet's ONNX file"),
    ],
)  # fmt: skip
def test_incident_D9_a_path_that_is_not_below_raw(project: Path, capsys, path, detector, message):
    """Nor a path where there is nothing, or another file than the detector's."""
    run()
    sources = {"ferplus": SOURCES["ferplus"] | {"path": path}}
    write_params(project, sources=sources, face_detector=detector)
    expect_error(project, capsys, message)


def test_too_many_broken_rows_but_not_rows_left_out_by_rule(project: Path, capsys):
    run()
    write_params(project, max_reject_share=0.05)
    expect_error(
        project,
        capsys,
        "source affect: 33.3% of its rows are broken, standardize.max_reject_share allows 5.0%",
        "'not_a_class': 1",
        "train/sad/broken.png: image_unreadable",
    )
    (project / "raw/affect/train/sad/broken.png").unlink()
    write_params(project, sources={"affect": SOURCES["affect"]}, max_reject_share=0.0)
    assert run() == 0


def test_held_lock_is_exit_code_3(project: Path, capsys):
    with run_lock(project / ".work/standardize"):
        assert run() == 3
    assert "holds the lock" in capsys.readouterr().err

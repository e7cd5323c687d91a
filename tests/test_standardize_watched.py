"""What standardize reads is watched by DVC, or refused; bad input is one message."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_project import draw, small_params, write_params

from benchmarks.scratch import Repository
from stages import standardize
from stages.faces.decode import encode_png

posix = pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own there")
IMAGES = {"train": 1, "val": 0, "test": 0}


def fill(folder: Path) -> None:
    draw(folder.parent / "disk" / "toy", images=IMAGES)
    draw(folder / "raw" / "toy", images=IMAGES)
    write_params(folder, small_params())


def faces(project: Path) -> pd.DataFrame:
    return pd.read_feather(project / "standardized/toy/faces-00000.arrow").set_index("id")


def change_a_picture(toy: Path) -> bytes:
    """Replace one and return its new bytes."""
    data = encode_png(np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3))
    (toy / "train/Happy/train0.png").write_bytes(data)
    return data


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "project").mkdir()
    return Repository(tmp_path / "project", fill=fill)


@posix
@pytest.mark.pipeline
def test_incident_D11_a_linked_dataset_is_refused_and_a_linked_raw_is_watched(
    repository: Repository,
) -> None:
    project, disk = repository.folder, repository.folder.parent / "disk"
    shutil.rmtree(project / "raw/toy")
    (project / "raw/toy").symlink_to(disk / "toy")
    output = repository.fail("dvc", "repro", "-s", "standardize")
    assert "params.yaml: standardize.sources.toy.path: raw/toy is a linked folder" in output
    assert "`raw: /other/disk`" in output
    assert not (project / "standardized").exists()
    # What the message says to do instead.
    write_params(project, small_params(raw=str(disk)))
    repository.run("dvc", "repro", "-s", "standardize")
    data = change_a_picture(disk / "toy")
    assert "Running stage" in repository.run("dvc", "repro", "-s", "standardize")
    assert faces(project).loc["toy/train/Happy/train0.png", "image"] == data
    # `raw` itself as a link, which is the one linked folder that DVC looks behind.
    shutil.rmtree(project / "raw")
    (project / "raw").symlink_to(disk)
    write_params(project, small_params())
    repository.run("dvc", "repro", "-s", "standardize")
    (disk / "toy/train/Sad/train0.png").unlink()
    assert "Running stage" in repository.run("dvc", "repro", "-s", "standardize")
    assert len(faces(project)) == 6


@posix
@pytest.mark.pipeline
def test_incident_D11_linked_files_are_watched(repository: Repository) -> None:
    project, disk = repository.folder, repository.folder.parent / "disk"
    for path in sorted((project / "raw/toy").rglob("*.png")):
        path.unlink()
        path.symlink_to(disk / path.relative_to(project / "raw"))
    repository.run("dvc", "repro", "-s", "standardize")
    data = change_a_picture(disk / "toy")
    assert "Running stage" in repository.run("dvc", "repro", "-s", "standardize")
    assert faces(project).loc["toy/train/Happy/train0.png", "image"] == data


@pytest.mark.pipeline
def test_reported_what_dvcignore_hides_stops_the_stage(repository: Repository) -> None:
    (repository.folder / ".dvcignore").write_text("Happy/\n", encoding="utf-8")
    output = repository.fail("dvc", "repro", "-s", "standardize")
    assert "DVC does not see raw/toy/train/Happy/train0.png" in output
    assert "Traceback" not in output


def misspell_train(raw: Path) -> None:
    (raw / "toy/train").rename(raw / "toy/trian")


def break_all_but_one(raw: Path) -> None:
    for path in sorted((raw / "toy").rglob("*.png"))[1:]:
        path.write_bytes(b"not a picture")


def break_all(raw: Path) -> None:
    for path in (raw / "toy").rglob("*.png"):
        path.write_bytes(b"not a picture")


def hide_a_detector(raw: Path) -> None:
    (raw / "yunet.onnx").write_bytes(b"a model")
    (raw.parent / ".dvcignore").write_text("*.onnx\n", encoding="utf-8")


PATH, DETECTOR = "sources.toy.path: expected a ", "standardize.face_detector: "
FAULTS: dict[str, tuple[Any, dict[str, str], str]] = {
    "missing": (None, {"path": "gone"}, f"params.yaml: standardize.{PATH}folder"),
    "incident_D8_a_misspelt_split_folder": (
        misspell_train,
        {},
        "source toy: trian/Angry/train0.png: expected a folder",
    ),
    "incident_D9_above": (None, {"path": "../elsewhere"}, f"{PATH}path below `raw`"),
    "incident_D9_absolute": (None, {"path": "/data/toy"}, f"{PATH}path below `raw`"),
    "incident_D9_drive": (None, {"path": "C:/data"}, f"{PATH}path below `raw`"),
    "incident_D9_backslash": (None, {"path": "a\\b"}, f"{PATH}path below `raw`"),
    "detector_above": (None, {"detector": "../y.onnx"}, f"{DETECTOR}expected a path below `raw`"),
    "detector_missing": (None, {"detector": "y.onnx"}, f"{DETECTOR}expected an ONNX file, found"),
    "detector_other": (
        None,
        {"detector": "toy/train/Sad/train0.png"},
        f"{DETECTOR}expected YuNet's ONNX file",
    ),
    "reported_a_face_detector_that_dvc_does_not_see": (
        hide_a_detector,
        {"detector": "yunet.onnx"},
        f"{DETECTOR}DVC does not see raw/yunet.onnx",
    ),
    "no_faces": (break_all, {}, "source toy: expected faces, got none; rejects: {"),
    "broken": (
        break_all_but_one,
        {},
        "source toy: 99.3% of its rows are broken, standardize.max_reject_share allows",
    ),
}


@pytest.mark.parametrize(("spoil", "changes", "expected"), FAULTS.values(), ids=FAULTS)
def test_bad_input_is_one_message_and_changes_nothing(
    prepared: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None] | None,
    changes: dict[str, str],
    expected: str,
) -> None:
    folder = prepared(
        standardize__sources__toy__path=changes.get("path", "toy"),
        standardize__face_detector=changes.get("detector"),
    )
    before = {path: path.stat().st_mtime_ns for path in (folder / "standardized").rglob("*")}
    if spoil:
        spoil(folder / "raw")
    assert standardize.main([]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert expected in error
    assert {
        path: path.stat().st_mtime_ns for path in (folder / "standardized").rglob("*")
    } == before
    assert [path.name for path in folder.glob(".standardized*")] == []

"""What standardize reads is watched by DVC, or refused; bad input is one message."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from raw_sources import picture
from small_project import draw, small_params, write_params

from benchmarks.scratch import Repository
from stages import standardize

FACE = "toy/train/Happy/train0.png"


def fill(folder: Path) -> None:
    draw(folder.parent / "disk" / "toy", images={"train": 1})
    (folder / "raw").mkdir()
    (folder / "raw/toy").symlink_to(folder.parent / "disk/toy")
    write_params(folder, small_params())


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own there")
@pytest.mark.pipeline
def test_incident_D11_a_linked_dataset_is_refused_and_what_the_refusal_names_is_watched(
    tmp_path: Path,
) -> None:
    project, disk = tmp_path / "project", tmp_path / "disk"
    project.mkdir()
    repository = Repository(project, fill=fill)
    output = repository.fail("dvc", "repro", "-s", "standardize")
    assert "params.yaml: standardize.sources.toy.path: raw/toy is a linked folder" in output
    assert "`raw: /other/disk`" in output
    assert not (project / "standardized").exists()
    # What the message says to do instead, and `raw` as a link, the only one that DVC looks behind.
    shutil.copytree(disk, project / "linked files", copy_function=os.symlink)
    (project / "linked raw").symlink_to(disk)
    for seed, raw in enumerate((str(disk), "linked files", "linked raw")):
        write_params(project, small_params(raw=raw))
        repository.run("dvc", "repro", "-s", "standardize")
        data = picture(seed, 48)
        (disk / FACE).write_bytes(data)
        assert "Running stage" in repository.run("dvc", "repro", "-s", "standardize")
        faces = pd.read_feather(project / "standardized/toy/faces-00000.arrow").set_index("id")
        assert faces.loc[FACE, "image"] == data


def misspell_train(project: Path) -> None:
    (project / "raw/toy/train").rename(project / "raw/toy/trian")


def hide_pictures(project: Path) -> None:
    (project / ".dvcignore").write_text("Happy/\n", encoding="utf-8")


def hide_a_detector(project: Path) -> None:
    (project / "raw/yunet.onnx").write_bytes(b"a model")
    (project / ".dvcignore").write_text("*.onnx\n", encoding="utf-8")


PATH, DETECTOR = "sources__toy__path", "face_detector"
BELOW = "expected a path below `raw`, with /, got"
FAULTS: dict[str, tuple[dict[str, str], Any, str]] = {
    "missing": ({PATH: "gone"}, None, "params.yaml: standardize.sources.toy.path: expected a "),
    "incident_D8_misspelt": ({}, misspell_train, "toy: trian/Angry/train0.png: expected a folder"),
    "incident_D9_above": ({PATH: "../elsewhere"}, None, f"sources.toy.path: {BELOW}"),
    "incident_D9_absolute": ({PATH: "/data/toy"}, None, f"sources.toy.path: {BELOW}"),
    "incident_D9_drive": ({PATH: "C:/data"}, None, f"sources.toy.path: {BELOW}"),
    "incident_D9_backslash": ({PATH: "a\\b"}, None, f"sources.toy.path: {BELOW}"),
    "reported_what_dvcignore_hides": ({}, hide_pictures, "path: DVC does not see raw/toy/"),
    "detector_above": ({DETECTOR: "../y.onnx"}, None, f"standardize.face_detector: {BELOW}"),
    "detector_missing": ({DETECTOR: "y.onnx"}, None, "face_detector: expected an ONNX file, found"),
    "detector_other": ({DETECTOR: FACE}, None, "face_detector: expected YuNet's ONNX file"),
    "reported_a_detector_that_dvcignore_hides": (
        {DETECTOR: "yunet.onnx"},
        hide_a_detector,
        "face_detector: DVC does not see raw/yunet.onnx",
    ),
}


@pytest.mark.parametrize(("params", "spoil", "expected"), FAULTS.values(), ids=FAULTS)
def test_bad_input_is_one_message_and_changes_nothing(
    prepared: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    params: dict[str, str],
    spoil: Callable[[Path], None] | None,
    expected: str,
) -> None:
    folder = prepared(**{f"standardize__{key}": value for key, value in params.items()})
    times = {path: path.stat().st_mtime_ns for path in (folder / "standardized").rglob("*")}
    if spoil:
        spoil(folder)
    assert standardize.main([]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert expected in error
    assert {path: path.stat().st_mtime_ns for path in (folder / "standardized").rglob("*")} == times
    assert [path.name for path in folder.glob(".standardized*")] == []

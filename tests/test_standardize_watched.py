"""What standardize reads is watched by DVC, or refused; on a real DVC project."""

import shutil
import sys
from pathlib import Path

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


def failed_repro(repository: Repository) -> str:
    dvc = repository.popen("dvc", "repro", "-s", "standardize")
    output, _ = dvc.communicate(timeout=120)
    assert dvc.returncode != 0
    assert "Traceback" not in output
    return str(output)


@posix
@pytest.mark.pipeline
def test_incident_D11_a_linked_dataset_is_refused_and_a_linked_raw_is_watched(
    repository: Repository,
) -> None:
    project, disk = repository.folder, repository.folder.parent / "disk"
    shutil.rmtree(project / "raw/toy")
    (project / "raw/toy").symlink_to(disk / "toy")
    output = failed_repro(repository)
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
    assert "DVC does not see raw/toy/train/Happy/train0.png" in failed_repro(repository)


def test_reported_a_face_detector_that_dvc_does_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "raw/toy", images=IMAGES)
    (tmp_path / "raw/yunet.onnx").write_bytes(b"a model")
    (tmp_path / ".dvcignore").write_text("*.onnx\n", encoding="utf-8")
    write_params(tmp_path, small_params(standardize__face_detector="yunet.onnx"))
    assert standardize.main([]) == 2
    said = capsys.readouterr().err
    assert "params.yaml: standardize.face_detector: DVC does not see raw/yunet.onnx" in said

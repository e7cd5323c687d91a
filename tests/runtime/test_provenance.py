"""environment(): all packages, CUDA and driver, and the commit, or why there is none."""

import subprocess
from importlib.metadata import distributions
from pathlib import Path

import pytest
import torch

from stages.runtime.provenance import commit, driver, environment


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(path: Path, *lines: str) -> None:
    path.write_text("\n".join(["#!/bin/sh", *lines]), encoding="utf-8")
    path.chmod(0o755)


def test_reported_the_environment_names_every_package_and_what_computes() -> None:
    """It named thirteen, and neither CUDA nor cuDNN nor the driver."""
    recorded = environment()
    installed = {each.metadata["Name"].lower().replace("_", "-") for each in distributions()}
    assert len(installed) > 50
    assert list(recorded["packages"]) == sorted(installed)
    assert torch.__version__.startswith(recorded["packages"]["torch"])
    computing = (torch.version.cuda, torch.backends.cudnn.version())
    assert (recorded["cuda"], recorded["cudnn"]) == computing
    assert "driver" in recorded


def test_the_driver_is_what_its_tool_says(tools: Path) -> None:
    assert driver() is None
    program(tools / "nvidia-smi", "echo 570.86.15", "echo 570.86.15")
    assert driver() == "570.86.15"
    program(tools / "nvidia-smi", "echo NVIDIA-SMI has failed", "exit 9")
    assert driver() is None


def test_reported_git_that_refuses_is_warned_about_in_its_own_words(
    tools: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The commit was lost without a word."""
    program(
        tools / "git",
        "echo \"fatal: detected dubious ownership in repository at '/data'\" >&2",
        "echo >&2; echo '\tgit config --global --add safe.directory /data' >&2; exit 128",
    )
    assert commit() is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "the commit of this code is not recorded: fatal: detected dubious ownership in repository "
        "at '/data' git config --global --add safe.directory /data"
    )


def test_reported_no_git_and_no_repository_are_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() is None
    assert "is not recorded: fatal: not a git repository" in caplog.text
    monkeypatch.setenv("PATH", "")
    assert commit() is None
    assert "is not recorded: git does not run" in caplog.text


def test_the_commit_is_that_of_the_current_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    Path("a").write_text("1")
    for command in (["init", "-q"], ["add", "a"], [*identity, "commit", "-qm", "a"]):
        subprocess.run(["git", *command], check=True)
    name = commit() or ""
    assert len(name) == 40
    Path("a").write_text("2")
    assert commit() == f"{name}-dirty"

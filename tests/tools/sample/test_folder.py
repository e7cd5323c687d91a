"""What the sample's folder says of itself, and when it may be replaced."""

import json

import pytest

from stages.runtime.errors import UserError
from tools.sample.folder import check_replaceable, content_sha256, write_sample
from tools.sample.planting import Planted
from tools.sample.raw import Raw

FAULT = Planted("copy_same_label", "a/2.png", of="a/1.png")


@pytest.fixture
def folder(tmp_path):
    raw = Raw()
    raw.add("a/1.png", b"one")
    raw.add("a/2.png", b"one")
    raw.add_line("a/list.txt", "1.png")
    folder = tmp_path / "sample"
    folder.mkdir()
    write_sample(folder, raw, planted=[FAULT])
    return folder


def test_faults_stand_in_the_index_and_in_the_readme(folder):
    index = json.loads((folder / "sample.json").read_text())
    assert index["planted"] == [{"kind": FAULT.kind, "at": FAULT.at, "of": FAULT.of}]
    readme = (folder / "README.md").read_text()
    assert "| copy_same_label | a/2.png | a/1.png |" in readme
    assert "| 1 | `a/list.txt` |" in readme
    assert index["content_sha256"] == content_sha256(folder)


def test_an_untouched_sample_an_empty_folder_and_none_are_replaceable(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (folder, tmp_path / "empty", tmp_path / "none"):
        check_replaceable(path)


@pytest.mark.parametrize(
    "touch",
    [
        lambda folder: (folder / "a" / "mine.png").write_bytes(b"mine"),
        lambda folder: (folder / "a" / "list.txt").write_text("2.png\n"),
        lambda folder: (folder / "a" / "1.png").unlink(),
        lambda folder: (folder / "sample.json").unlink(),
        lambda folder: (folder / "sample.json").write_text("{"),
    ],
    ids=["new", "changed", "removed", "index_removed", "index_garbled"],
)
def test_a_touched_folder_is_not_replaceable(folder, touch):
    touch(folder)
    with pytest.raises(UserError, match=r"sample: refused .* expected .* found "):
        check_replaceable(folder)


def test_a_file_and_folders_of_somebody_s_own_are_not_replaceable(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="expected a folder to write to, found a file"):
        check_replaceable(tmp_path / "file")
    (tmp_path / "own" / "empty").mkdir(parents=True)
    with pytest.raises(UserError, match=r"expected sample\.json, found"):
        check_replaceable(tmp_path / "own")

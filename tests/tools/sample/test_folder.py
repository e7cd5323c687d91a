"""When a folder may be replaced by the sample."""

import pytest

from stages.runtime.errors import UserError
from tools.sample.folder import Raw, check_replaceable, write_sample


@pytest.fixture
def folder(tmp_path):
    raw, folder = Raw(), tmp_path / "sample"
    raw.add("a/1.png", b"one")
    raw.add_line("a/list.txt", "1.png")
    folder.mkdir()
    write_sample(folder, raw)
    return folder


def test_an_untouched_sample_an_empty_folder_and_none_are_replaceable(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (folder, tmp_path / "empty", tmp_path / "none"):
        check_replaceable(path)


@pytest.mark.parametrize(
    ("touch", "found"),
    [
        (lambda folder: (folder / "a" / "mine.png").write_bytes(b"mine"), "content "),
        (lambda folder: (folder / "a" / "list.txt").write_text("2.png\n"), "content "),
        (lambda folder: (folder / "a" / "1.png").rename(folder / "1.png"), "content "),
        (lambda folder: (folder / "sample.json").write_text("{"), "content none"),
        (lambda folder: (folder / "sample.json").rename(folder / "a" / "sample.json"), "sample"),
    ],
    ids=["new", "changed", "moved", "index_garbled", "index_elsewhere"],
)
def test_a_touched_folder_is_not_replaceable(folder, touch, found):
    touch(folder)
    with pytest.raises(UserError, match=rf"sample: refused .* expected {found}.* found "):
        check_replaceable(folder)


def test_a_file_and_folders_of_somebody_s_own_are_not_replaceable(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="expected a folder to write to, found a file"):
        check_replaceable(tmp_path / "file")
    (tmp_path / "own" / "empty").mkdir(parents=True)
    with pytest.raises(UserError, match=r"expected sample\.json, found"):
        check_replaceable(tmp_path / "own")

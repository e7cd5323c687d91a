"""A file is the old one or the new one, never a part."""

import hashlib
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.runtime import files
from stages.runtime.files import (
    inert,
    leftovers,
    published_folder,
    read_json,
    sha256_json,
    write_csv,
    write_json,
)
from tests.runtime.children import python, running


class CrashError(Exception):
    pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)  # fmt: skip


@given(json_values)
def test_what_is_written_as_json_comes_back(tmp_path_factory, value) -> None:
    path = tmp_path_factory.mktemp("json") / "value.json"
    write_json(path, value)
    assert read_json(path) == value


def test_json_has_a_line_for_each_row_and_a_hash_that_ignores_the_order_of_keys(tmp_path) -> None:
    write_json(tmp_path / "t.json", {"n": 2, "rows": [{"f1_95": [0.1, 0.2]}, {}], 3: (4, 5)})
    assert (tmp_path / "t.json").read_text("utf-8") == (
        '{\n  "n": 2,\n  "rows": [\n    {"f1_95": [0.1, 0.2]},\n    {}\n  ],\n  "3": [4, 5]\n}\n'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "t.json", {"nll": float("nan")})
    value, backwards = {"b": 1, "a": {"d": 2, "c": None}}, {"a": {"c": None, "d": 2}, "b": 1}
    assert sha256_json(value) == sha256_json(backwards) != sha256_json({"b": 1})


def test_bytes_of_a_table_depend_on_its_rows_alone(tmp_path: Path) -> None:
    values = {"a": ["x,y", 'q"', None], "b": [0.1, float("nan"), 1e-7]}
    digest = write_csv(tmp_path / "t.csv", pd.DataFrame(values, index=[5, 3, 1]))
    data = (tmp_path / "t.csv").read_bytes()
    assert data == b'a,b\n"x,y",0.1\n"q""",\n,1e-07\n'
    assert digest == hashlib.sha256(data).hexdigest()


def test_reported_a_formula_gets_an_apostrophe() -> None:
    for text in ("=1+1", "+1", "-1", "@cmd", "\t=1", "\r=1", "\n=1", "\uff1d1"):
        assert inert(text) == f"'{text}"
    for text in ("", "a=1", "train/=1+1/x.png", "'=1", "1e-4"):
        assert inert(text) == text


# Dies, as by SIGKILL, before the n-th thing that `act` does to the disk; says what that was.
KILLED = """
import os, sys
from pathlib import Path
from stages.runtime.files import published_folder, write_json

parent, death, done = Path(sys.argv[1]), int(sys.argv[2]), 0

def watch(event, arguments):
    global done
    if event == "open" and (str(parent) not in str(arguments[0]) or arguments[1] in ("r", "rb")):
        return
    if event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "open"):
        if done == death:
            os.write(1, event.encode())
            os._exit(1)
        done += 1

sys.addaudithook(watch)
"""
WRITE_AGAIN = KILLED + "write_json(parent / 'state.json', {'epoch': 2})"
PUBLISH_AGAIN = KILLED + "with published_folder(parent / 'models') as folder:\n"
PUBLISH_AGAIN += "    for name in ('a', 'b'): (folder / name).write_text('new')"


def kills_at_each_step(act: str, folder: Path, old: dict[str, str]) -> Iterator[tuple[Path, str]]:
    """A folder with old files and the step before which their writer died; '' if it did not."""
    for death in count():
        for name, text in old.items():
            (folder / str(death) / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / str(death) / name).write_text(text)
        (folder / str(death)).mkdir(exist_ok=True)
        exit_code, step, _ = python(act, folder / str(death), death)
        assert (exit_code == 0) == (step == "")
        yield folder / str(death), step
        if exit_code == 0:
            return


def test_incident_R5_a_json_file_is_the_old_or_the_new_one_wherever_its_writer_dies(
    tmp_path: Path,
) -> None:
    steps, epochs = [], []
    for folder, step in kills_at_each_step(WRITE_AGAIN, tmp_path, {"state.json": '{"epoch": 1}'}):
        steps.append(step)
        epochs.append(read_json(folder / "state.json")["epoch"])
        write_json(folder / "state.json", {"epoch": 3})
        assert [path.name for path in folder.iterdir()] == ["state.json"]
    assert "os.rename" in steps
    assert epochs == sorted(epochs)
    assert set(epochs) == {1, 2}


@pytest.mark.parametrize("old", [{"a": "old", "z": "old"}, {}], ids=["replaced", "first"])
def test_a_folder_is_the_old_or_the_new_one_wherever_its_publisher_dies(
    tmp_path: Path, old: dict[str, str]
) -> None:
    def read_folder(folder: Path) -> dict[str, str]:
        return {path.name: path.read_text("utf-8") for path in folder.iterdir()}

    steps, new = [], {"a": "new", "b": "new"}
    before = {f"models/{name}": text for name, text in old.items()}
    for parent, step in kills_at_each_step(PUBLISH_AGAIN, tmp_path, before):
        steps.append(step)
        # The one whole folder that there is is no leftover, wherever it lies.
        assert old == {} or set(parent.iterdir()) - set(leftovers(parent))
        assert not (parent / "models").exists() or read_folder(parent / "models") in (old, new)
        with pytest.raises(CrashError), published_folder(parent / "models"):
            raise CrashError
        left = {path.name: read_folder(path) for path in parent.iterdir()}
        assert left in ({"models": old}, {"models": new}, {} if old == {} else None)
    assert left == {"models": new}
    assert steps.count("os.rename") == (2 if old else 1)


def test_a_folder_that_cannot_be_moved_into_place_leaves_the_old_one_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, move, synced = tmp_path / "models", Path.replace, []

    def refuse(source: Path, to: Path) -> Path:
        if to == target and (source / "sub" / "new").exists():
            # It is on the disk before it takes its place.
            assert synced == ["new"]
            raise OSError("in use")
        return move(source, to)

    with published_folder(target) as folder:
        (folder / "old").touch()
    monkeypatch.setattr("stages.runtime.files.Path.replace", refuse)
    monkeypatch.setattr(files, "sync", lambda path: synced.append(path.name))
    with pytest.raises(OSError, match="in use"), published_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "new").touch()
    assert [p.name for p in target.iterdir()] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["models"]


WRITE = """
import sys; from pathlib import Path; from stages.runtime import files
def wait(path): path.write_bytes(b'half'); print(path.name, flush=True); sys.stdin.read()
path = Path(sys.argv[1])
"""
WRITE_FILE = WRITE + "files.write_with(path, wait)"
WRITE_FOLDER = WRITE + "with files.published_folder(path) as folder: wait(folder / 'faces')"


@pytest.mark.parametrize("code", [WRITE_FILE, WRITE_FOLDER], ids=["file", "folder"])
def test_what_a_live_process_writes_stays_and_what_a_killed_one_left_goes(
    tmp_path: Path, code: str
) -> None:
    with running(code, tmp_path / "out"):
        (half,) = tmp_path.iterdir()
        assert leftovers(tmp_path) == []
        with pytest.raises(CrashError), published_folder(tmp_path / "out"):
            raise CrashError
        assert half.exists()
    assert leftovers(tmp_path) == [half]
    alike = half.rename(tmp_path / half.name.replace(".out.", ".out.json."))
    half.touch()
    write_json(tmp_path / "out", {})
    assert leftovers(tmp_path) == [alike]


def test_what_a_live_process_has_moved_aside_or_another_machine_may_write_stays(tmp_path) -> None:
    (tmp_path / "models").mkdir()
    aside = tmp_path / f".models.old~.tmp-{files.pid_space()}-{os.getppid()}"
    halves = [tmp_path / f".models.tmp-{name}" for name in ("0badcafe-1", "99999999", "mine")]
    for path in (aside, *halves):
        path.mkdir()
    (halves[0] / ".weights.tmp-0badcafe-1").touch()  # goes with its folder
    assert leftovers(tmp_path) == sorted(halves)
    assert leftovers(tmp_path, pattern=".other.tmp-*") == []
    with pytest.raises(CrashError), published_folder(tmp_path / "models"):
        raise CrashError
    assert set(tmp_path.iterdir()) == {aside, *halves, tmp_path / "models"}

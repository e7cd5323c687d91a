"""A file is the old one or the new one, never a part."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.runtime import files
from stages.runtime.errors import UserError
from stages.runtime.files import (
    leftovers,
    published_folder,
    read_json,
    sha256_json,
    work_folder,
    write_json,
)

ROOT = Path(__file__).parents[2]


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
    assert sha256_json(value) == sha256_json(read_json(path))


def test_a_row_of_a_table_is_a_line(tmp_path: Path) -> None:
    write_json(tmp_path / "t.json", {"n": 2, "rows": [{"f1_95": [0.1, 0.2]}, {}], 3: (4, 5)})
    assert (tmp_path / "t.json").read_text("utf-8").splitlines() == [
        "{", '  "n": 2,', '  "rows": [', '    {"f1_95": [0.1, 0.2]},', "    {}", "  ],",
        '  "3": [4, 5]', "}",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "t.json", {"nll": float("nan")})


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


def kills_at_each_step(act: str, parents: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """A parent folder and the step before which its writer died; the last one's did not, ''."""
    for death, parent in enumerate(parents):
        command = [sys.executable, "-c", act, str(parent), str(death)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert (done.returncode == 0) == (done.stdout == "")
        yield parent, done.stdout
        if done.returncode == 0:
            return


def test_incident_R5_a_json_file_is_the_old_or_the_new_one_wherever_its_writer_dies(
    tmp_path: Path,
) -> None:
    def parents() -> Iterator[Path]:
        for number in count():
            write_json(tmp_path / str(number) / "state.json", {"epoch": 1})
            yield tmp_path / str(number)

    steps, epochs = [], []
    for parent, step in kills_at_each_step(WRITE_AGAIN, parents()):
        steps.append(step)
        epochs.append(read_json(parent / "state.json")["epoch"])
        write_json(parent / "state.json", {"epoch": 3})
        assert [path.name for path in parent.iterdir()] == ["state.json"]
    assert "os.rename" in steps
    assert epochs == sorted(epochs)
    assert set(epochs) == {1, 2}


@pytest.mark.parametrize("old", [{"a": "old", "z": "old"}, {}], ids=["replaced", "first"])
def test_a_folder_is_the_old_or_the_new_one_wherever_its_publisher_dies(
    tmp_path: Path, old: dict[str, str]
) -> None:
    def parents() -> Iterator[Path]:
        for number in count():
            parent = tmp_path / str(number)
            parent.mkdir()
            for name, text in old.items():
                (parent / "models").mkdir(exist_ok=True)
                (parent / "models" / name).write_text(text)
            yield parent

    steps, new = [], {"a": "new", "b": "new"}
    for parent, step in kills_at_each_step(PUBLISH_AGAIN, parents()):
        steps.append(step)
        # The one whole folder that there is is no leftover, wherever it lies.
        assert old == {} or set(parent.iterdir()) - set(leftovers(parent))
        assert not (parent / "models").exists() or read_folder(parent / "models") in (old, new)
        with pytest.raises(CrashError), published_folder(parent / "models"):
            raise CrashError
        found = {path.name: read_folder(path) for path in parent.iterdir()}
        assert found in ({"models": old}, {"models": new}, {} if old == {} else None)
    assert found == {"models": new}
    assert steps.count("os.rename") == (2 if old else 1)
    assert steps.count("os.remove") == len(old)


def read_folder(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in folder.iterdir()}


def test_a_folder_that_cannot_be_moved_into_place_leaves_the_old_one_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, move = tmp_path / "models", Path.replace

    def refuse(source: Path, to: Path) -> Path:
        if to == target and (source / "new").exists():
            raise OSError("in use")
        return move(source, to)

    with published_folder(target) as folder:
        (folder / "old").touch()
    monkeypatch.setattr("stages.runtime.files.Path.replace", refuse)
    with pytest.raises(OSError, match="in use"), published_folder(target) as folder:
        (folder / "new").touch()
    assert [p.name for p in target.iterdir()] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["models"]


def test_what_a_live_process_has_moved_aside_stays(tmp_path: Path) -> None:
    aside = files._aside(tmp_path / "models")
    aside = aside.with_name(aside.name.replace(f"-{os.getpid()}", f"-{os.getppid()}"))
    aside.mkdir()
    assert leftovers(tmp_path) == []
    with pytest.raises(CrashError), published_folder(tmp_path / "models"):
        raise CrashError
    assert [path.name for path in tmp_path.iterdir()] == [aside.name]


def test_hash_of_json_ignores_the_order_of_keys() -> None:
    value = {"b": 1, "a": {"d": 2, "c": None}}
    backwards = {"a": {"c": None, "d": 2}, "b": 1}
    assert sha256_json(value) == sha256_json(backwards) != sha256_json({"b": 1})


def test_a_folder_that_cannot_be_made_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".work").touch()
    with pytest.raises(UserError, match=r"\.work/stageA: cannot be made: "):
        work_folder("stageA")


WRITE = """
import sys; from pathlib import Path; from stages.runtime import files
def wait(path): path.write_bytes(b'half'); print(path.name, flush=True); sys.stdin.read()
path = Path(sys.argv[1])
"""
WRITE_FILE = WRITE + "files.write_with(path, wait)"
WRITE_FOLDER = WRITE + "with files.published_folder(path) as folder: wait(folder / 'faces')"


@pytest.fixture(params=[WRITE_FILE, WRITE_FOLDER], ids=["file", "folder"])
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is half through writing `tmp_path / "out"`."""
    process = subprocess.Popen(
        [sys.executable, "-c", request.param, str(tmp_path / "out")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def test_what_a_killed_process_left_goes_when_the_same_is_written_again(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    writer.kill()
    writer.wait()
    (half,) = leftovers(tmp_path)
    alike = half.rename(tmp_path / half.name.replace(".out.", ".out.json."))
    write_json(tmp_path / "out", {})
    assert leftovers(tmp_path) == [alike]
    write_json(tmp_path / "out.json", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.json"]


def test_what_a_live_process_is_writing_stays(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    (half,) = tmp_path.iterdir()
    assert leftovers(tmp_path) == []
    with pytest.raises(CrashError), published_folder(tmp_path / "out"):
        raise CrashError
    assert half.exists()
    writer.communicate("")
    assert writer.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", [".out.tmp-0badcafe-{dead}", ".out.tmp-{dead}", ".out.tmp-mine"])
def test_what_another_machine_may_be_writing_stays(tmp_path: Path, name: str) -> None:
    half = tmp_path / name.format(dead=dead_pid())
    half.touch()
    write_json(tmp_path / "out", {})
    assert half.exists()
    assert leftovers(tmp_path) == [half]


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_half_written_folder_counts_once(tmp_path: Path) -> None:
    half = tmp_path / "RN18" / ".best.tmp-0badcafe-1"
    half.mkdir(parents=True)
    (half / ".weights.tmp-0badcafe-1").touch()
    assert leftovers(tmp_path) == [half]
    assert leftovers(tmp_path, pattern=".*.tmp-*") == []

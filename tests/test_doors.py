"""Every door answers --help, refuses wrong params in words, and is named rightly in the documents."""

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_project import ROOT

STAGES = [f"stages.{verb}" for verb in "standardize manifest train calibrate export report".split()]
# Commands that read params.yaml, with arguments.
DOORS = {name: [] for name in STAGES} | {
    "stages.train": ["stageA", "RN18"],
    "tools.evaluate": ["models/stageA/RN18"],
}
TOOLS = "sample summarize unpack clean predict weights"
COMMANDS = [*DOORS, *(f"tools.{name}" for name in TOOLS.split())]


def run(door: str, arguments: list[str]) -> int:
    name = "tools.sample.__main__" if door == "tools.sample" else door
    main: Callable[[list[str]], int] = importlib.import_module(name).main
    return main(arguments)


def test_doors_are_short_and_import_nothing_that_can_be_missing_before_they_run() -> None:
    """Else it would be a traceback, and `--help` would wait for torch."""
    paths = [path for name in ("stages", "tools") for path in (ROOT / name).rglob("*.py")]
    doors = [path for path in paths if "main = partial(run_door, work" in path.read_text("utf-8")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in doors}
    assert {name.removesuffix(".__main__") for name in names} == set(COMMANDS)
    for path in doors:
        text = path.read_text("utf-8")
        assert len(text.splitlines()) <= 80, path
        for name in re.findall(r"^(?:import|from) ([\w.]+)", text, re.M):
            known = name.partition(".")[0] in sys.stdlib_module_names
            assert known or name == "stages.runtime.door", (path.name, name)


@pytest.mark.parametrize("door", COMMANDS)
def test_help_answers_without_a_project(
    door: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run(door, ["--help"])
    assert ended.value.code == 0
    assert f"python -m {door}" in capsys.readouterr().out


@pytest.mark.parametrize("door", DOORS)
def test_a_misspelt_key_or_missing_input_stops_every_door_before_any_work(
    door: str, project: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project(stageA__learing_rate=0.1)
    before = sorted(folder.rglob("*"))
    assert run(door, DOORS[door]) == 2
    expected = "params.yaml: stageA.learing_rate: unknown key; did you mean 'learning_rate'?"
    assert expected in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before
    project(raw="nowhere")
    assert run(door, DOORS[door]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_incident_X4_documents_name_doors_and_files_that_exist() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        text = document.read_text("utf-8")
        named = set(re.findall(r"python -m ((?:stages|tools)\.\w+)", text))
        assert named <= set(COMMANDS), document
        for path in re.findall(r"\b(?:recipes|docs)/[\w./-]+\.(?:yaml|md)", text):
            assert (ROOT / path).is_file(), (document, path)

"""dvc.yaml names exactly what each stage depends on: code, data and params."""

import re
from functools import cache
from typing import Any

import grimp
import pytest
import yaml
from small_project import ROOT

from stages.runtime.files import read_json

PIPELINE: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))[
    "stages"
]


def door_of(stage: str) -> str:
    return PIPELINE[stage]["cmd"].split()[2]


@cache
def import_graph() -> grimp.ImportGraph:
    return grimp.build_graph("stages", cache_dir=None)


def rooms_of(door: str) -> set[str]:
    """The door, config.py and the rooms that a door imports, whole."""
    modules = {door, *import_graph().find_upstream_modules(door)} - {"stages"}
    parts = [module.split(".") for module in modules]
    paths = {"/".join(names[:2]) for names in parts}
    return {path if (ROOT / path).is_dir() else f"{path}.py" for path in paths}


@pytest.mark.parametrize("stage", PIPELINE)
def test_code_among_deps_is_the_door_and_the_rooms_that_it_imports(stage: str) -> None:
    expected = rooms_of(door_of(stage))
    stated = {dep for dep in PIPELINE[stage]["deps"] if dep.startswith("stages/")}
    assert stated == expected, (
        f"{stage}: missing {sorted(expected - stated)}, superfluous {sorted(stated - expected)}"
    )


def test_dvc_yaml_reads_in_a_minute_and_dvc_ignores_what_python_leaves_in_a_room() -> None:
    assert len((ROOT / "dvc.yaml").read_text("utf-8").splitlines()) <= 180
    # Else a folder of code would look changed after a run.
    ignored = (ROOT / ".dvcignore").read_text("utf-8").splitlines()
    assert {"__pycache__/", ".*.tmp-*"} <= set(ignored)
    # Else the imports of a room would not be all that it runs.
    assert all(path.read_bytes() == b"" for path in ROOT.glob("stages/**/__init__.py"))


@pytest.mark.parametrize("stage", PIPELINE)
def test_params_are_those_that_the_door_reads(stage: str) -> None:
    source = (ROOT / (door_of(stage).replace(".", "/") + ".py")).read_text("utf-8")
    read = set(re.findall(r"\bparams\.(\w+)", source)) - {"machine", "yaml"}
    read = {stage if name == "stage" else name for name in read}
    stated = {name.split(".")[0] for name in PIPELINE[stage]["params"]}
    assert stated == read


def test_params_are_never_handed_whole_to_a_room() -> None:
    # Else the test above could not see what is read.
    for path in ROOT.glob("stages/*/*.py"):
        assert not re.search(r"\bParams\b", path.read_text("utf-8")), path


def test_weights_to_start_from_are_watched_where_they_are_read() -> None:
    watching = {stage for stage in PIPELINE if "weights" in PIPELINE[stage]["deps"]}
    assert watching == {stage for stage in PIPELINE if door_of(stage) == "stages.train"}
    assert (ROOT / "weights" / ".gitkeep").is_file()


def test_each_teacher_of_the_recipe_is_read_where_teachers_meet() -> None:
    teachers = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))["teachers"]
    expected = {f"models/{stage}/{name}" for stage in ("stageA", "stageB") for name in teachers}
    for stage in ("calibrate", "export", "report"):
        deps = PIPELINE[stage]["deps"]
        assert {dep for dep in deps if dep.startswith("models/stage")} == expected, stage


def test_no_dep_is_a_parent_of_outs_and_git_ignores_every_out_ahead_of_any_run() -> None:
    outs = [out for stage in PIPELINE.values() for out in stage["outs"]]
    deps = [dep for stage in PIPELINE.values() for dep in stage["deps"]]
    assert not [dep for dep in deps if any(out.startswith(f"{dep}/") for out in outs)]
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text("utf-8").splitlines()}
    assert [out for out in outs if not {out, out.split("/")[0]} & ignored] == []


def test_committed_metrics_are_at_most_a_hundred_numbers() -> None:
    def count(value: Any) -> int:
        if isinstance(value, dict | list):
            return sum(map(count, value.values() if isinstance(value, dict) else value))
        return isinstance(value, int | float)

    files = sorted((ROOT / "metrics").glob("*.json"))
    assert [path.stem for path in files] == ["export", "manifest", "teachers"]
    assert 50 < sum(count(read_json(path)) for path in files) <= 100

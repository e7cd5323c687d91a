"""dvc.yaml names exactly what each stage depends on: code, data and params."""

import re
from typing import Any

import grimp
import pytest
from small_project import ROOT, listed_params

from stages.config import TeacherParams, read_yaml
from stages.runtime.files import read_json

PIPELINE: dict[str, dict[str, Any]] = read_yaml(ROOT / "dvc.yaml")["stages"]
# Rooms that no training imports, so that a change of them touches none.
APART = "calibrating exporting reporting sources intake splitting survey".split()


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("stages", cache_dir=None)


@pytest.mark.parametrize("stage", PIPELINE)
def test_code_and_params_are_those_of_the_door_and_the_rooms_that_it_imports(
    stage, imports
) -> None:
    door = PIPELINE[stage]["cmd"].split()[2]
    modules = {door, *imports.find_upstream_modules(door)} - {"stages"}
    paths = {"/".join(module.split(".")[:2]) for module in modules}
    expected = {path if (ROOT / path).is_dir() else f"{path}.py" for path in paths}
    stated = {dep for dep in PIPELINE[stage]["deps"] if dep.startswith("stages/")}
    assert stated == expected
    assert door != "stages.train" or not stated & {f"stages/{room}" for room in APART}
    # The user's weights are watched where they are read.
    assert ("weights" in PIPELINE[stage]["deps"]) == (door == "stages.train")
    source = (ROOT / f"{door.replace('.', '/')}.py").read_text("utf-8")
    read = set(re.findall(r"\bparams\.(\w+)", source)) - {"machine", "yaml"}
    listed = listed_params(PIPELINE[stage])
    if "effective" in read:  # sections as they hold for a teacher
        read = read - {"effective"} | {stage, "preprocess"}
        # Key by key: what differs for it in the other stage is not this stage's matter.
        keys = {*TeacherParams.model_fields} - ({"stageA", "stageB"} - {stage})
        own = {f"teachers.${{item.teacher}}.{key}" for key in keys}
        assert {key for key in listed if key.startswith("teachers")} == own
    assert {name.split(".")[0] for name in listed} == read


def test_dvc_yaml_reads_in_a_minute_and_a_room_is_its_code_alone() -> None:
    assert len((ROOT / "dvc.yaml").read_text("utf-8").splitlines()) <= 180
    # Else a folder of code would look changed after a run.
    ignored = (ROOT / ".dvcignore").read_text("utf-8").splitlines()
    assert {"__pycache__/", ".*.tmp-*"} <= set(ignored)
    # Else the imports of a room would not be all that it runs.
    assert all(path.read_bytes() == b"" for path in ROOT.glob("stages/**/__init__.py"))
    # Params are never handed whole to a room: what is read there would not be seen here.
    for path in ROOT.glob("stages/*/*.py"):
        assert not re.search(r"\bParams\b", path.read_text("utf-8")), path


def test_teachers_of_the_recipe_are_deps_and_no_out_is_known_to_git_or_lies_below_a_dep() -> None:
    # One or two teachers of any names: the first and the last of the list, which may be the same.
    expected = {
        f"models/{stage}/${{calibrate.teachers[{number}]}}"
        for stage in ("stageA", "stageB")
        for number in (0, -1)
    }
    for path in (ROOT / "params.yaml", *(ROOT / "recipes").glob("*.yaml")):
        assert len(read_yaml(path)["calibrate"]["teachers"]) <= 2, path
    for stage in ("calibrate", "export", "report"):
        deps = PIPELINE[stage]["deps"]
        assert {dep for dep in deps if dep.startswith("models/stage")} == expected, stage
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

"""The stages chained by DVC, on a small project: what reruns, what does not, and what is shown."""

import json
import re
import shlex
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_project import IMAGES, ONE_THREAD, ROOT, change, draw, small_params, write_params

from benchmarks.scratch import Repository
from stages.runtime.files import read_json

pytestmark = pytest.mark.pipeline

BRIGHT = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
PARAMS: dict[str, Any] = {
    # As the recipe's: README's table of experiments leaves out what has a slash.
    "raw": "raw/small",
    "stageA__epochs": 2,
    "stageB__epochs": 1,
    "export__variants": [],
    "export__parity_rows": 16,
    # Teachers of unlike inputs, up to the ensemble.
    "teachers__B3__stageA": {"preprocess": BRIGHT},
    "teachers__B3__stageB": {"image_size": 41, "preprocess": BRIGHT},
    "calibrate__stage": "stageB",
    "export__max_accuracy_loss": 0.5,
}
TEACHERS = ("RN18", "B3", "GN")
# The commands of dvc.yaml, in one process that imports torch once.
DOORS = """
import runpy, sys
for command in sys.argv[1:]:
    sys.argv = command.split()
    try:
        runpy.run_module(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        assert not end.code, command
"""
PREPARED = {"standardize": "stages.standardize", "manifest": "stages.manifest"}


class SmallRepository(Repository):
    """A finished repository of the small project to which the third teacher came late."""

    def __init__(self, folder: Path) -> None:
        # DVC's tables get the width that they ask for.
        environment = ONE_THREAD | {"COLUMNS": "2000"}
        super().__init__(folder, fill=_fill, environment=environment)
        self.make(**PREPARED, **trainings("RN18", "B3"))
        # The steps of docs/contributing.md, "Add a teacher".
        self.params()
        path = self.folder / "dvc.yaml"
        pipeline = yaml.safe_load(path.read_text("utf-8"))
        for stage in ("calibrate", "export", "report"):
            pipeline["stages"][stage]["deps"] += [
                f"models/{key}/${{calibrate.teachers[1]}}" for key in ("stageA", "stageB")
            ]
        path.write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
        self.first_output = self.run("dvc", "repro")
        self.commit("first run")

    def make(self, **commands: str) -> None:
        """Make stages by their commands, in one process, and tell DVC."""
        self.run("python", "-c", DOORS, *commands.values())
        self.run("dvc", "commit", "--force", *commands)

    def params(self, **changes: Any) -> None:
        """Write the params of all three teachers with some changes."""
        params = small_params(**deepcopy(PARAMS))
        params["teachers"]["GN"] = deepcopy(params["teachers"]["B3"])
        params["teachers"]["GN"]["backbone"] = "test_efficientnet_gn"
        params["calibrate"]["teachers"] = list(TEACHERS)
        params["calibrate"]["weights"] = {"RN18": 0.4, "B3": 0.3, "GN": 0.3}
        write_params(self.folder, change(params, **changes))

    def would_run(self) -> set[str]:
        """Name the stages whose deps or params changed (not those below them, yet)."""
        changed = json.loads(self.run("dvc", "status", "--json"))
        return {
            stage
            for stage, reasons in changed.items()
            if any(isinstance(reason, dict) and "changed deps" in reason for reason in reasons)
        }


def _fill(folder: Path) -> None:
    draw(folder / "raw" / "small" / "toy", images=IMAGES)
    write_params(folder, small_params(**PARAMS))


def trainings(*teachers: str) -> dict[str, str]:
    """Return the command of each training stage of some teachers."""
    pairs = [(stage, name) for stage in ("stageA", "stageB") for name in teachers]
    return {f"{stage}@{name}": f"stages.train {stage} {name}" for stage, name in pairs}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> SmallRepository:
    return SmallRepository(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def clean(repository: SmallRepository) -> SmallRepository:
    """The repository as it was committed; data are checked out where a test changed them."""
    repository.run("git", "checkout", "-q", "--", ".")
    return repository


def test_a_third_teacher_is_trained_alone_and_taken_up_to_the_export(
    clean: SmallRepository,
) -> None:
    output = clean.first_output
    for stage in (*PREPARED, *trainings("RN18", "B3")):
        assert f"Stage '{stage}' didn't change, skipping" in output
    for stage in ("stageA@GN", "stageB@GN", "calibrate", "export", "report"):
        assert f"Running stage '{stage}'" in output
    assert "GN" in (clean.folder / "models/calibrated/calibration.json").read_text("utf-8")
    card = read_json(clean.folder / "models/export/teachers/GN/teacher.json")
    assert card["backbone"] == "test_efficientnet_gn"
    assert (clean.folder / "models/export/GN.onnx").is_file()
    page = (clean.folder / "plots/report.html").read_text("utf-8")
    assert "GN" in page
    # What differs for a teacher is in its card, and in the recipe on the page.
    assert (card["image_size"], card["preprocess"]["mean"]) == (41, [0.5, 0.5, 0.5])
    assert "image_size: 41" in page
    parity = read_json(clean.folder / "models/export/parity.json")["models"]
    assert [name for name, checks in parity.items() if "shared_input" in checks] == ["ensemble"]
    assert parity["ensemble"]["shared_input"]["n"] == 7 * IMAGES["val"]


def test_a_second_repro_runs_nothing(clean: SmallRepository) -> None:
    output = clean.run("dvc", "repro")
    assert "Running stage" not in output
    assert "Data and pipelines are up to date." in output
    assert clean.run("git", "status", "--porcelain") == ""


def test_incident_D9_no_output_names_a_place_on_this_machine(clean: SmallRepository) -> None:
    for folder in ("standardized", "manifests", "models", "metrics", "plots"):
        for path in (clean.folder / folder).rglob("*"):
            assert not (path.is_file() and str(clean.folder).encode() in path.read_bytes()), path


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"teachers__B3__embedding_size": 24}, {"stageA@B3", "stageB@B3", "report"}),
        ({"calibrate__bins": 10, "machine__workers": 1}, {"calibrate", "report"}),
        ({"export__parity_rows": 17}, {"export", "report"}),
        ({"teachers__B3__stageA__epochs": 1}, {"stageA@B3", "report"}),
        ({"teachers__B3__stageB__epochs": 2}, {"stageB@B3", "report"}),
        ({"stageB__learning_rate": 2e-3}, {*(f"stageB@{name}" for name in TEACHERS), "report"}),
    ],
)
def test_a_change_reruns_only_what_it_touches(
    clean: SmallRepository, changes: dict[str, Any], expected: set[str]
) -> None:
    clean.params(**changes)
    assert clean.would_run() == expected


def test_a_variant_is_shown_in_few_words_and_the_old_recipe_comes_from_the_cache(
    clean: SmallRepository,
) -> None:
    """What `dvc exp run -S stageA.learning_rate=0.002` leaves, made in one process."""
    clean.params(stageA__learning_rate=2e-3)
    assert "stageA@RN18" in clean.would_run()
    clean.make(**trainings(*TEACHERS), calibrate="stages.calibrate")
    difference = clean.run("dvc", "metrics", "diff")
    assert "stageA.RN18" in difference
    assert len(difference.splitlines()) <= 70
    clean.run("dvc", "exp", "save", "--name", "faster")
    (command,) = re.findall(r"^dvc exp show .*$", (ROOT / "README.md").read_text("utf-8"), re.M)
    shown = clean.run(*shlex.split(command), "--no-pager")
    assert "faster" in shown
    assert "stageA.learning_rate" in shown
    assert max(map(len, shown.splitlines())) <= 200
    clean.run("dvc", "plots", "diff", "HEAD", "-o", ".work/shown")
    assert "vega" in (clean.folder / ".work/shown/index.html").read_text("utf-8")
    clean.params()
    output = clean.run("dvc", "repro")
    assert "Stage 'stageA@RN18' is cached - skipping run" in output
    assert "Running stage" not in output

"""The stages chained by DVC, on a small project: what reruns, what does not, and what survives."""

import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from small_project import ONE_THREAD, ROOT, change, fill_small, small_params, write_params

from benchmarks.scratch import Repository
from stages.runtime.files import read_json

pytestmark = pytest.mark.pipeline

PARAMS: dict[str, Any] = {"stageB__epochs": 1, "export__variants": [], "export__parity_rows": 16}
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
MADE = {
    "standardize": "stages.standardize",
    "manifest": "stages.manifest",
    "stageA@RN18": "stages.train stageA RN18",
    "stageA@B3": "stages.train stageA B3",
    "stageB@RN18": "stages.train stageB RN18",
    "stageB@B3": "stages.train stageB B3",
}


class SmallRepository(Repository):
    """A finished repository of the small project to which the third teacher came late."""

    def __init__(self, folder: Path) -> None:
        # DVC's tables get the width that they ask for.
        environment = ONE_THREAD | {"COLUMNS": "2000"}
        super().__init__(folder, fill=lambda f: fill_small(f, **PARAMS), environment=environment)
        self.run("python", "-c", DOORS, *MADE.values())
        self.run("dvc", "commit", "--force", *MADE)
        self._add_teacher()
        self.first_output = self.run("dvc", "repro")
        self.commit("first run")

    def _add_teacher(self) -> None:
        """Take the steps of docs/contributing.md, "Add a teacher"."""
        self.params()
        path = self.folder / "dvc.yaml"
        pipeline = yaml.safe_load(path.read_text("utf-8"))
        for stage in ("calibrate", "export", "report"):
            pipeline["stages"][stage]["deps"] += ["models/stageA/GN", "models/stageB/GN"]
        path.write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")

    def params(self, **changes: Any) -> None:
        """Write the params of all three teachers with some changes."""
        params = small_params(**PARAMS)
        params["teachers"]["GN"] = params["teachers"]["B3"] | {"backbone": "test_efficientnet_gn"}
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


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> SmallRepository:
    return SmallRepository(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def clean(repository: SmallRepository) -> SmallRepository:
    """The repository as it was committed."""
    repository.run("git", "checkout", "-q", "--", ".")
    repository.run("dvc", "checkout", "--force")
    return repository


def test_a_third_teacher_is_trained_alone_and_taken_up_to_the_export(
    clean: SmallRepository,
) -> None:
    output = clean.first_output
    for stage in MADE:
        assert f"Stage '{stage}' didn't change, skipping" in output
    for stage in ("stageA@GN", "stageB@GN", "calibrate", "export", "report"):
        assert f"Running stage '{stage}'" in output
    calibration = read_json(clean.folder / "models/calibrated/calibration.json")
    assert "GN" in json.dumps(calibration)
    assert read_json(clean.folder / "models/export/teachers/GN/teacher.json")["backbone"] == (
        "test_efficientnet_gn"
    )
    assert (clean.folder / "models/export/GN.onnx").is_file()
    assert "GN" in (clean.folder / "plots/report.html").read_text("utf-8")


def test_a_second_repro_runs_nothing(clean: SmallRepository) -> None:
    output = clean.run("dvc", "repro")
    assert "Running stage" not in output
    assert "Data and pipelines are up to date." in output
    assert clean.run("git", "status", "--porcelain") == ""


def test_all_outs_of_the_design_are_there(clean: SmallRepository) -> None:
    expected = """
        standardized/toy/faces-00000.arrow standardized/toy/rejects.csv standardized/toy/sheet.png
        manifests/classification_manifest.csv manifests/excluded.csv manifests/duplicates.csv
        models/stageA/RN18/best.safetensors models/stageB/B3/teacher.json
        models/calibrated/calibration.json models/export/ensemble.onnx models/export/RN18.onnx
        models/export/softlabels.npz models/export/softlabels_index.jsonl
        models/export/classorder.json models/export/hash_manifest.json
        metrics/manifest.json metrics/teachers.json metrics/export.json
        plots/report.html plots/figures/mistakes.png
    """.split()
    assert [path for path in expected if not (clean.folder / path).is_file()] == []


def test_incident_D9_no_output_names_a_place_on_this_machine(clean: SmallRepository) -> None:
    for folder in ("standardized", "manifests", "models", "metrics", "plots"):
        for path in (clean.folder / folder).rglob("*"):
            assert not (path.is_file() and str(clean.folder).encode() in path.read_bytes()), path


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"teachers__B3__embedding_size": 24}, {"stageA@B3", "stageB@B3", "calibrate", "report"}),
        ({"calibrate__bins": 10}, {"calibrate", "report"}),
        ({"machine__workers": 1}, set()),
        ({"export__parity_rows": 17}, {"export", "report"}),
        ({"stageB__learning_rate": 2e-3}, {*(f"stageB@{name}" for name in TEACHERS), "report"}),
    ],
)
def test_a_change_reruns_only_what_it_touches(
    clean: SmallRepository, changes: dict[str, Any], expected: set[str]
) -> None:
    clean.params(**changes)
    assert clean.would_run() == expected


def test_code_that_training_does_not_import_reruns_no_training(clean: SmallRepository) -> None:
    rooms = "calibrating exporting reporting sources intake splitting survey".split()
    for room in rooms:
        file = max((clean.folder / "stages" / room).glob("*.py"))
        file.write_text(file.read_text("utf-8") + "# a comment\n", encoding="utf-8")
    changed = {stage.partition("@")[0] for stage in clean.would_run()}
    assert changed == {"standardize", "manifest", "calibrate", "export", "report"}


def test_weights_that_are_replaced_rerun_the_training_that_may_start_from_them(
    clean: SmallRepository,
) -> None:
    weights = clean.folder / "weights" / "backbone.safetensors"
    weights.write_bytes(b"weights")
    try:
        assert {stage.partition("@")[0] for stage in clean.would_run()} == {"stageA", "stageB"}
        assert clean.run("git", "status", "--porcelain") == ""
    finally:
        weights.unlink()


def test_killed_training_goes_on_and_an_old_recipe_comes_from_the_cache(
    clean: SmallRepository,
) -> None:
    clean.params(stageA__epochs=20, stageA__learning_rate=2e-3)
    runs = clean.folder / ".work" / "stageA" / "RN18"
    known = set(runs.iterdir())
    repro = clean.popen("dvc", "repro", "-s", "stageA@RN18")
    folder = _wait_for_checkpoint(runs, known=known)
    psutil.Process(read_json(folder / "holder.json")["pid"]).kill()
    output, _ = repro.communicate(timeout=120)
    assert repro.returncode != 0, output
    # Another learning rate was a fresh start ...
    assert "resuming" not in output
    assert "epoch 20 of 20" not in output
    # ... and the killed run goes on.
    output = clean.run("dvc", "repro", "-s", "stageA@RN18")
    assert "resuming at epoch" in output
    history = json.loads((clean.folder / "models/stageA/RN18/history.json").read_text("utf-8"))
    assert [record["epoch"] for record in history] == [*range(1, 21)]
    clean.params()
    output = clean.run("dvc", "repro", "-s", "stageA@RN18")
    assert "Stage 'stageA@RN18' is cached - skipping run" in output


def _wait_for_checkpoint(runs: Path, *, known: set[Path]) -> Path:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for folder in set(runs.iterdir()) - known:
            if (folder / "checkpoint_last.pt").exists():
                return folder
        time.sleep(0.01)
    raise AssertionError("no checkpoint within two minutes")


def test_an_experiment_changes_params_and_metrics_and_shows_plots(clean: SmallRepository) -> None:
    clean.run("dvc", "exp", "run", "--name", "coarser", "-S", "calibrate.bins=5", "calibrate")
    params = yaml.safe_load((clean.folder / "params.yaml").read_text("utf-8"))
    assert params["calibrate"]["bins"] == 5
    (command,) = re.findall(r"^dvc exp show .*$", (ROOT / "README.md").read_text("utf-8"), re.M)
    shown = clean.run(*shlex.split(command), "--no-pager")
    assert "coarser" in shown
    assert "calibrate.bins" in shown
    assert max(map(len, shown.splitlines())) <= 200
    assert "stageA.RN18" in clean.run("dvc", "metrics", "diff")
    clean.run("dvc", "plots", "diff", "HEAD", "-o", ".work/shown")
    assert "vega" in (clean.folder / ".work/shown/index.html").read_text("utf-8")


def test_raw_data_that_dvc_was_given_come_back(clean: Repository) -> None:
    """`/raw/full/*` in .gitignore made DVC pass over the whole folder and its .dvc files."""
    archive = clean.folder / "raw" / "full" / "faces.zip"
    archive.parent.mkdir(exist_ok=True)
    archive.write_bytes(b"raw")
    clean.run("dvc", "add", "raw/full/faces.zip")
    assert "raw/full/faces.zip.dvc" in clean.run("git", "status", "--porcelain", "-uall")
    archive.unlink()
    clean.run("dvc", "checkout")
    assert archive.read_bytes() == b"raw"
    (archive.parent / "faces.zip.dvc").unlink()
    archive.unlink()

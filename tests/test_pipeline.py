"""The stages chained by DVC, on a small project: what reruns, what does not, and what survives."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from small_project import small_params, write_params

from benchmarks.kills import fill_small
from benchmarks.scratch import Repository
from stages.runtime.files import read_json

pytestmark = pytest.mark.pipeline


class SmallRepository(Repository):
    """A repository with the small project."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, fill=fill_small)

    def params(self, **changes: Any) -> None:
        write_params(self.folder, small_params(**changes))

    def would_run(self) -> set[str]:
        """Stages whose deps or params changed (stages below them follow when outs change)."""
        changed = json.loads(self.run("dvc", "status", "--json"))
        return {stage for stage, reasons in changed.items() if _has_own_reason(reasons)}


def _has_own_reason(reasons: list[Any]) -> bool:
    return any(isinstance(reason, dict) and "changed deps" in reason for reason in reasons)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> SmallRepository:
    """The repository after its first `dvc repro`."""
    repository = SmallRepository(tmp_path_factory.mktemp("repository"))
    repository.run("dvc", "repro")
    repository.commit("first run")
    return repository


@pytest.fixture
def clean(repository: SmallRepository) -> SmallRepository:
    """The repository as it was committed."""
    repository.run("git", "checkout", "-q", "--", ".")
    repository.run("dvc", "checkout", "--force")
    return repository


def test_a_second_repro_runs_nothing(clean: SmallRepository) -> None:
    output = clean.run("dvc", "repro")
    assert "Running stage" not in output
    assert "Data and pipelines are up to date." in output
    assert clean.run("git", "status", "--porcelain") == ""


def test_all_outs_of_the_design_are_there(clean: SmallRepository) -> None:
    expected = [
        "standardized/toy/faces-00000.arrow", "standardized/toy/rejects.csv", "standardized/toy/sheet.png",
        "manifests/classification_manifest.csv", "manifests/excluded.csv", "manifests/duplicates.csv",
        "models/stageA/RN18/best.safetensors", "models/stageB/B3/teacher.json",
        "models/calibrated/calibration.json", "models/export/ensemble.onnx", "models/export/RN18.onnx",
        "models/export/softlabels.npz", "models/export/softlabels_index.jsonl",
        "models/export/classorder.json", "models/export/hash_manifest.json",
        "metrics/manifest.json", "metrics/teachers.json", "metrics/export.json",
        "plots/report.html", "plots/figures/mistakes.png",
    ]  # fmt: skip
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
        ({"export__parity_rows": 16}, {"export", "report"}),
        ({"stageB__learning_rate": 2e-3}, {"stageB@RN18", "stageB@B3", "report"}),
    ],
)
def test_a_change_reruns_only_what_it_touches(
    clean: SmallRepository, changes: dict[str, Any], expected: set[str]
) -> None:
    clean.params(stageA__epochs=6, **changes)
    assert clean.would_run() == expected


def test_code_that_training_does_not_import_reruns_no_training(clean: SmallRepository) -> None:
    for room in (
        "calibrating",
        "exporting",
        "reporting",
        "sources",
        "intake",
        "splitting",
        "survey",
    ):
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
    clean.params(stageA__epochs=6, stageA__learning_rate=2e-3)
    runs = clean.folder / ".work" / "stageA" / "RN18"
    known = set(runs.iterdir())
    repro = clean.popen("dvc", "repro", "-s", "stageA@RN18")
    folder = _wait_for_checkpoint(runs, known=known)
    psutil.Process(read_json(folder / "holder.json")["pid"]).kill()
    output, _ = repro.communicate(timeout=120)
    assert repro.returncode != 0, output
    # Another learning rate was a fresh start ...
    assert "resuming" not in output
    assert "epoch 6 of 6" not in output
    # ... and the killed run goes on.
    output = clean.run("dvc", "repro", "-s", "stageA@RN18")
    assert "resuming at epoch" in output
    history = json.loads((clean.folder / "models/stageA/RN18/history.json").read_text("utf-8"))
    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5, 6]
    clean.params(stageA__epochs=6)
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
    clean.run("dvc", "exp", "run", "--name", "faster", "-S", "stageA.learning_rate=0.003")
    params = yaml.safe_load((clean.folder / "params.yaml").read_text("utf-8"))
    assert params["stageA"]["learning_rate"] == 0.003
    shown = clean.run("dvc", "exp", "show", "--csv")
    assert "faster" in shown
    assert "stageA.RN18" in clean.run("dvc", "metrics", "diff")
    clean.run("dvc", "plots", "diff", "HEAD", "-o", "shown")
    page = (clean.folder / "shown" / "index.html").read_text("utf-8")
    assert "vega" in page
    shutil.rmtree(clean.folder / "shown")


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

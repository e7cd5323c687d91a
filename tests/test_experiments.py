"""DVC's experiments on a small project: killed and started again, and what they need of the data."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_project import IMAGES, ONE_THREAD, draw, small_params, write_params

from benchmarks.scratch import Repository, Started, hash_published

pytestmark = pytest.mark.pipeline

STAGE = "stageA@RN18"
# Two variants of the recipe, as one types them.
SLOW, FAST = ("-S", "stageA.learning_rate=0.002"), ("-S", "stageA.learning_rate=0.003")


class Experiments(Repository):
    """A repository whose raw data are an archive that DVC knows, standardized and committed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, fill=_fill, environment=ONE_THREAD)
        self.run("dvc", "add", "raw/full/toy.zip")
        self.run("dvc", "repro", "manifest")
        self.commit("made")

    def forget(self) -> None:
        """Let nothing be trained: no run in `.work`, no experiment, nothing in the run cache."""
        self.run("dvc", "queue", "remove", "--all")
        self.run("dvc", "exp", "remove", "--all-commits")
        for path in (".work/stageA", ".dvc/cache/runs", "models"):
            shutil.rmtree(self.folder / path, ignore_errors=True)

    def learning(self) -> list[Path]:
        """List the folders of runs that have a checkpoint."""
        return [path.parent for path in self.folder.glob(".work/stageA/*/*/checkpoint_last.pt")]

    def kill_all(self) -> None:
        """Kill every process that works in the repository, as a power cut does."""
        while processes := self.processes():
            for process in processes:
                process.kill()
            psutil.wait_procs(processes, timeout=60)

    def experiments(self) -> dict[str, str]:
        """Return the git reference of each experiment that is done, by its name."""
        references = self.run("git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/*")
        return {reference.rpartition("/")[2]: reference for reference in references.split()}

    def published(self, name: str) -> dict[str, str]:
        """Hash what an experiment published."""
        self.run("git", "checkout", "-q", self.experiments()[name], "--", ".")
        # `dvc exp apply` is for pipelines that were made to their end.
        self.run("dvc", "checkout", "--force", "--allow-missing")
        return hash_published(self.folder)

    def queue_both(self) -> None:
        """Queue both variants and start a worker for each."""
        for name, variant in (("slow", SLOW), ("fast", FAST)):
            self.run("dvc", "exp", "run", "--queue", "--name", name, STAGE, *variant)
        succeeded(Started(self, "dvc", "queue", "start", "--jobs", "2"))


def succeeded(started: Started) -> str:
    """Return what a command has printed, once it has ended well."""
    assert started.wait(600) == 0, started.text()
    return started.text()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Experiments:
    # Links followed: the system tells a process's folder by its real name.
    folder = tmp_path_factory.mktemp("experiments").resolve() / "project"
    folder.mkdir()
    return Experiments(folder)


@pytest.fixture
def clean(repository: Experiments) -> Iterator[Experiments]:
    """The repository as it was committed; what a test has started ends with it."""
    repository.run("git", "checkout", "-q", "--force", "main")
    yield repository
    repository.kill_all()


@pytest.fixture(scope="module")
def undisturbed(repository: Experiments) -> dict[str, str]:
    """What an undisturbed run of the slow variant publishes."""
    repository.run("dvc", "exp", "run", STAGE, *SLOW)
    return hash_published(repository.folder)


@pytest.fixture
def untrained(undisturbed: dict[str, str], clean: Experiments) -> Experiments:
    """The repository with all stages before training made, and no trace of any training."""
    clean.forget()
    return clean


def test_incident_R7_a_killed_variant_goes_on_with_its_own_state_and_never_anothers(
    untrained: Experiments, undisturbed: dict[str, str]
) -> None:
    temporary = ("dvc", "exp", "run", "--temp", "--name", "slow", STAGE, *SLOW)
    slow = Started(untrained, *temporary)
    assert slow.wait_until(lambda: len(untrained.learning()) == 1), slow.text()
    untrained.kill_all()
    slow.wait(60)
    # Another variant, while the first one's state and temporary folder are still there ...
    fast = Started(untrained, "dvc", "exp", "run", STAGE, *FAST)
    assert fast.wait_until(lambda: len(untrained.learning()) == 2), fast.text()
    untrained.kill_all()
    fast.wait(60)
    assert "epoch 1 of" in fast.text()
    assert "resuming at epoch" not in fast.text()
    # (in the workspace DVC works on a detached HEAD, and a kill leaves it there)
    assert untrained.run("git", "branch", "--show-current") == ""
    untrained.run("git", "switch", "-q", "main")
    # ... and the first one goes on where it was and ends in the bits of an undisturbed run.
    again = untrained.run(*temporary)
    assert "resuming at epoch" in again
    assert "Stage 'standardize' didn't change, skipping" in again
    assert len(untrained.learning()) == 2
    assert untrained.published("slow") == undisturbed


def test_incident_R5_a_queue_whose_tasks_died_running_is_killed_queued_again_and_goes_on(
    untrained: Experiments, undisturbed: dict[str, str]
) -> None:
    untrained.queue_both()
    _wait_for(lambda: len(untrained.learning()) == 2)
    untrained.kill_all()
    # The list of tasks does not know that they have died.
    assert succeeded(Started(untrained, "dvc", "queue", "status")).count("Running") == 2
    untrained.run("dvc", "queue", "kill", "slow", "fast")
    untrained.queue_both()
    _wait_for(lambda: {"slow", "fast"} <= set(untrained.experiments()))
    log = untrained.run("dvc", "queue", "logs", "slow")
    assert "resuming at epoch" in log
    assert "Stage 'standardize' didn't change, skipping" in log
    assert len(untrained.learning()) == 2
    assert untrained.published("slow") == undisturbed


def test_two_teachers_learn_in_two_shells_at_once(untrained: Experiments) -> None:
    _params(untrained.folder, stageA__epochs=2)
    shells = [
        Started(untrained, "dvc", "repro", "-s", f"stageA@{name}", output=f"{name}.txt")
        for name in ("RN18", "B3")
    ]
    _wait_for(lambda: len(untrained.doors()) == 2)
    for shell in shells:
        assert "Running stage" in succeeded(shell)
    assert "up to date" in untrained.run("dvc", "repro", "-s", "stageA@RN18", "stageA@B3")


def test_archives_and_results_go_to_another_machine_and_back(
    clean: Experiments, tmp_path: Path
) -> None:
    """The commands of docs/operating.md, with a folder as the remote."""
    clean.run("git", "init", "-q", "--bare", "-b", "main", str(tmp_path / "origin.git"))
    clean.run("dvc", "remote", "add", "--force", "-d", "box", str(tmp_path / "remote"))
    clean.commit("a remote")
    clean.run("git", "push", "-q", str(tmp_path / "origin.git"), "main")
    clean.run("dvc", "push")
    laptop, box = (_clone(clean, tmp_path / name) for name in ("laptop", "box"))
    # Without --allow-missing, stages that were never run are an error.
    laptop.run("dvc", "pull", "--allow-missing")
    assert (laptop.folder / "raw/full/toy.zip").is_file()
    assert "Data and pipelines are up to date." in box.run("dvc", "repro", "--pull", "manifest")
    views = {"toy_train": {"splits": ["train"]}, "toy_val": {"splits": ["val"]}}
    _params(box.folder, manifest__views=views)
    assert "Running stage 'manifest'" in box.run("dvc", "repro", "manifest")
    box.commit("another view")
    box.run("dvc", "push")
    box.run("git", "push", "-q")
    laptop.run("git", "pull", "-q")
    laptop.run("dvc", "pull", "--allow-missing")
    assert hash_published(laptop.folder) == hash_published(box.folder)
    assert "manifests/toy_val.csv" in hash_published(laptop.folder)


def _fill(folder: Path) -> None:
    draw(folder / "drawn", images=IMAGES)
    shutil.make_archive(str(folder / "raw" / "full" / "toy"), "zip", folder / "drawn")
    shutil.rmtree(folder / "drawn")
    _params(folder)


def _params(folder: Path, **changes: Any) -> None:
    sources = {"toy": {"format": "folder7", "path": "toy.zip"}}
    # Long enough for a kill to fall between the first checkpoint and the end.
    recipe = {"raw": "raw/full", "standardize__sources": sources, "stageA__epochs": 16}
    write_params(folder, small_params(**recipe | changes))


def _clone(repository: Experiments, folder: Path) -> Repository:
    origin = str(folder.with_name("origin.git"))
    repository.run("git", "clone", "-q", "-b", "main", origin, str(folder))
    clone = Repository.__new__(Repository)
    clone.__dict__ = repository.__dict__ | {"folder": folder}
    return clone


def _wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)

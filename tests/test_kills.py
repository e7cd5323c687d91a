"""Killed DVC runs: a short campaign, and the scars that DVC keeps, each with what mends it."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from small_project import ONE_THREAD, fill_small, small_params, write_params

from benchmarks import kills
from benchmarks.kills import Findings, Undisturbed
from benchmarks.scratch import Repository, Repro, differences, hash_published
from stages.runtime.files import write_json

pytestmark = pytest.mark.pipeline


def test_a_project_that_is_killed_again_and_again_ends_in_the_same_files() -> None:
    figures, findings = kills.measure(
        _fill, kills=4, seed=749, targets=["stageA@RN18"], environment=ONE_THREAD
    )
    assert findings.differences == findings.left_processes == findings.left_temporaries == []
    # A kill may fall into the moment in which DVC writes a file of its own.
    assert findings.repairs.keys() <= {"dvc.lock", "rwlock"}, figures
    assert figures["kills"] == findings.stages.total() == 4
    assert figures["files_compared"] > 20
    assert set(figures["by_victim"]) <= set(kills.VICTIMS)


def test_moments_fall_on_every_stage_by_its_length() -> None:
    undisturbed = Undisturbed({"start of dvc": 0.0, "short": 1.0, "long": 2.0}, 10.0, {})
    moments = kills.draw_moments(undisturbed, rng=random.Random(1), number=1000)
    drawn = [moment.stage for moment in moments]
    assert drawn == sorted(drawn, key=["start of dvc", "short", "long"].index)
    assert 750 < drawn.count("long") < 850
    assert all(moment.after_s <= (8 if moment.stage == "long" else 1) for moment in moments)


def test_a_changed_missing_or_needless_file_is_a_difference_and_the_clock_is_none(
    tmp_path: Path,
) -> None:
    def publish(folder: Path, *, loss: float, rate: float) -> dict[str, str]:
        write_json(folder / "models" / "history.json", [{"loss": loss, "rate_img_s": rate}])
        write_json(folder / "models" / "environment.json", {"rate": rate})
        write_json(folder / "models" / "latency.json", {"torch": rate})
        return hash_published(folder)

    expected = publish(tmp_path, loss=1.0, rate=1.0)
    assert sorted(expected) == ["models/history.json"]
    assert differences(publish(tmp_path, loss=1.0, rate=2.0), expected) == []
    assert differences(publish(tmp_path, loss=2.0, rate=1.0), expected) == ["models/history.json"]
    assert differences({}, expected) == sorted(expected)
    assert differences(expected, {}) == sorted(expected)


def test_what_is_left_behind_is_found(tmp_path: Path) -> None:
    for name in ("models/.RN18.tmp-1/weights", "metrics/.m.json.tmp-2", ".work/a/b/.c.tmp-3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    findings, repository = Findings(), Repository.__new__(Repository)
    repository.folder = tmp_path
    kills.inspect(repository, Undisturbed({}, 1.0, {}), findings=findings)
    assert sorted(findings.left_temporaries) == ["metrics/.m.json.tmp-2", "models/.RN18.tmp-1"]
    assert not findings.is_clean()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository whose first two stages are made and committed."""
    repository = Repository(tmp_path_factory.mktemp("project"), fill=_fill)
    repository.run("dvc", "repro", "manifest")
    repository.commit("made")
    return repository


@pytest.fixture
def clean(made: Repository) -> Repository:
    """The repository as it was committed."""
    made.run("git", "checkout", "-q", "--", ".")
    made.run("dvc", "checkout", "--force", "standardize", "manifest")
    return made


@pytest.mark.parametrize("text", ["", '{"write": {"/some/where": {"pid"'])
def test_incident_R5_a_truncated_rwlock_is_mended_by_removing_it(
    clean: Repository, text: str
) -> None:
    rwlock = clean.folder / ".dvc" / "tmp" / "rwlock"
    rwlock.write_text(text, encoding="utf-8")
    output = clean.fail("dvc", "repro", "manifest")
    assert "Unable to read RWLock-file" in output
    rwlock.unlink()
    assert "Data and pipelines are up to date." in clean.run("dvc", "repro", "manifest")


def test_incident_R5_an_rwlock_of_a_dead_process_mends_itself(clean: Repository) -> None:
    _lock(clean, pid=_pid_of_the_dead())
    output = clean.run("dvc", "repro", "manifest")
    assert "had been killed. Auto removed it from the lock file." in output
    assert "Data and pipelines are up to date." in output


def test_incident_R5_an_rwlock_whose_pid_is_in_use_again_is_mended_by_removing_it(
    clean: Repository,
) -> None:
    _lock(clean, pid=psutil.Process().pid)
    assert "is busy, it is being blocked by:" in clean.fail("dvc", "repro", "manifest")
    (clean.folder / ".dvc" / "tmp" / "rwlock").unlink()
    assert "Data and pipelines are up to date." in clean.run("dvc", "repro", "manifest")


@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize("mend", ["git checkout", "remove"])
def test_incident_R5_an_invalid_dvc_lock_is_replaced_and_nothing_is_made_again(
    clean: Repository, share: float, mend: str
) -> None:
    """The committed one brings back what is committed; the run cache knows what was made since."""
    params = small_params(manifest__duplicates__review_correlation=0.99)
    write_params(clean.folder, params)
    clean.run("dvc", "repro", "manifest")
    expected = hash_published(clean.folder)
    path = clean.folder / "dvc.lock"
    text = path.read_text("utf-8")
    cut = int(share * len(text))
    path.write_text(text[: text.index("size", cut) + 2] if share else "", encoding="utf-8")
    assert "dvc.lock' " in clean.fail("dvc", "repro", "manifest")
    if mend == "remove":
        path.unlink()
    else:
        clean.run("git", "checkout", "dvc.lock")
    output = clean.run("dvc", "repro", "manifest")
    assert "Stage 'manifest' is cached - skipping run" in output
    assert "Running stage" not in output
    assert hash_published(clean.folder) == expected
    assert path.read_text("utf-8") == text


@pytest.mark.parametrize("after_ms", [0, 40])
def test_a_dvc_killed_while_it_moves_outs_into_its_cache_ends_in_the_same_files(
    clean: Repository, tmp_path: Path, after_ms: int
) -> None:
    repro = _remake(clean, tmp_path, view=f"moved_{after_ms}")
    _wait_for(lambda: repro.doors() != [])
    _wait_for(lambda: repro.doors() == [])
    time.sleep(after_ms / 1000)
    _assert_made_again(clean, repro, view=f"moved_{after_ms}")


def test_a_dvc_killed_while_it_writes_its_lock_file_ends_in_the_same_files(
    clean: Repository, tmp_path: Path
) -> None:
    repro = _remake(clean, tmp_path, view="locked")
    _wait_for(lambda: "Updating lock file" in repro.text())
    _assert_made_again(clean, repro, view="locked")


def _fill(folder: Path) -> None:
    fill_small(folder, stageA__epochs=8)


def _remake(repository: Repository, tmp_path: Path, *, view: str) -> Repro:
    """A `dvc repro` that makes the manifest with one more view."""
    splits = {"splits": ["train"]}
    params = small_params(manifest__views={"toy_train": splits, view: splits})
    write_params(repository.folder, params)
    return Repro(repository, targets=["-s", "manifest"], output=tmp_path / "output.txt")


def _assert_made_again(repository: Repository, repro: Repro, *, view: str) -> None:
    """After DVC is killed now, `dvc repro` makes what a run by force makes too."""
    assert repro.kill("dvc") == "dvc"
    findings = Findings()
    targets = ["-s", "manifest"]
    kills.disturb(repository, [], rng=random.Random(1), findings=findings, targets=targets)
    # A dvc.lock that was cut in the middle is the one thing that may want a hand.
    assert findings.repairs.keys() <= {"dvc.lock"}
    found = hash_published(repository.folder)
    assert f"manifests/{view}.csv" in found
    repository.run("dvc", "repro", "--force", *targets)
    assert hash_published(repository.folder) == found


def _lock(repository: Repository, *, pid: int) -> None:
    """What a killed `dvc repro` leaves: the names of what it was about to write."""
    path = str(repository.folder / "manifests")
    entry = {"write": {path: {"pid": pid, "cmd": "dvc repro"}}, "read": {}}
    write_json(repository.folder / ".dvc" / "tmp" / "rwlock", entry)


def _pid_of_the_dead() -> int:
    return next(pid for pid in range(30_000, 4_000_000) if not psutil.pid_exists(pid))


def _wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline

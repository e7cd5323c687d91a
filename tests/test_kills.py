"""What a kill of DVC or of a door leaves behind, and with what it is mended."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from small_project import ONE_THREAD, fill_small, small_params, write_params

from benchmarks import kills
from benchmarks.kills import Campaign
from benchmarks.scratch import Repository, Started, differences, hash_published
from stages.runtime.files import write_json

pytestmark = pytest.mark.pipeline
UP_TO_DATE = "Data and pipelines are up to date."


def fill(folder: Path) -> None:
    fill_small(folder, stageA__epochs=6)


def test_a_project_that_is_killed_again_and_again_ends_in_the_same_files() -> None:
    campaign = Campaign(targets=["stageA@RN18"], seed=749)
    figures = kills.measure(campaign, fill, kills=3, environment=ONE_THREAD)
    assert campaign.differences == campaign.left_processes == campaign.left_temporaries == []
    # A kill may fall into the moment in which DVC writes a file of its own.
    assert campaign.repairs.keys() <= {"dvc.lock", "rwlock"}, figures
    assert figures["kills"] == campaign.stages.total() == 3
    assert figures["files_compared"] > 20


def test_what_is_changed_missing_needless_or_left_behind_is_found(tmp_path: Path) -> None:
    """Else no kill would ever harm a thing; what the clock decides is no difference."""

    def publish(*, loss: float, rate: float) -> dict[str, str]:
        write_json(tmp_path / "models" / "history.json", [{"loss": loss, "rate_img_s": rate}])
        write_json(tmp_path / "models" / "latency.json", {"torch": rate})
        return hash_published(tmp_path)

    expected = publish(loss=1.0, rate=1.0)
    assert sorted(expected) == ["models/history.json"]
    assert differences(publish(loss=1.0, rate=2.0), expected) == []
    assert differences(publish(loss=2.0, rate=1.0), expected) == ["models/history.json"]
    assert differences({}, expected) == differences(expected, {}) == sorted(expected)
    for name in ("models/.RN18.tmp-1/weights", "metrics/.m.json.tmp-2", ".work/a/b/.c.tmp-3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    campaign, repository = Campaign(), Repository.__new__(Repository)
    repository.folder = tmp_path
    campaign.inspect(repository)
    assert sorted(campaign.left_temporaries) == ["metrics/.m.json.tmp-2", "models/.RN18.tmp-1"]
    assert not campaign.is_clean()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository whose first two stages are made and committed."""
    folder = tmp_path_factory.mktemp("made").resolve() / "project"
    folder.mkdir()
    repository = Repository(folder, fill=fill)
    repository.run("dvc", "repro", "manifest")
    repository.commit("made")
    return repository


@pytest.fixture
def clean(made: Repository) -> Repository:
    """The repository as it was committed."""
    made.run("git", "checkout", "-q", "--", ".")
    made.run("dvc", "checkout", "--force", "standardize", "manifest")
    return made


# What a killed `dvc repro` leaves: the names of what it was about to write, whole or cut.
RWLOCK = '{{"write": {{"{folder}/manifests": {{"pid": {pid}, "cmd": "dvc repro"}}}}, "read": {{}}}}'
DEAD = next(pid for pid in range(30_000, 4_000_000) if not psutil.pid_exists(pid))


@pytest.mark.parametrize(
    ("pid", "num_kept", "message"),
    [
        (1, 0, "Unable to read RWLock-file"),
        (1, 30, "Unable to read RWLock-file"),
        (psutil.Process().pid, None, "is busy, it is being blocked by:"),
        (DEAD, None, ""),  # mends itself
    ],
    ids=["empty", "truncated", "pid_in_use_again", "dead"],
)
def test_incident_R5_an_rwlock_that_was_cut_or_names_a_process_is_mended_by_removing_it(
    clean: Repository, pid: int, num_kept: int | None, message: str
) -> None:
    rwlock = clean.folder / ".dvc" / "tmp" / "rwlock"
    text = RWLOCK.format(folder=clean.folder.as_posix(), pid=pid)
    rwlock.write_text(text[:num_kept], encoding="utf-8")
    if message:
        assert message in clean.fail("dvc", "repro", "manifest")
        rwlock.unlink()
    assert UP_TO_DATE in clean.run("dvc", "repro", "manifest")


@pytest.mark.parametrize(("share", "mend"), [(0.0, "git checkout"), (0.4, "remove")])
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
    cut = text.index("size", int(share * len(text))) + 2 if share else 0
    path.write_text(text[:cut], encoding="utf-8")
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


def is_between_door_and_lock(repro: Started) -> bool:
    return repro.stages() != [] and repro.doors() == []


def writes_its_lock(repro: Started) -> bool:
    return "Updating lock file" in repro.text()


@pytest.mark.parametrize("moment", [is_between_door_and_lock, writes_its_lock])
def test_a_dvc_killed_while_it_commits_a_stage_ends_in_the_same_files(
    clean: Repository, moment: Callable[[Started], bool]
) -> None:
    """It moves outs into its cache, then writes dvc.lock."""
    view, splits = moment.__name__, {"splits": ["train"]}
    write_params(clean.folder, small_params(manifest__views={"toy_train": splits, view: splits}))
    campaign = Campaign(targets=["-s", "manifest"])
    repro = Started(clean, "dvc", "repro", *campaign.targets)
    assert repro.wait_until(lambda: repro.doors() != [])
    repro.wait_until(lambda: moment(repro))
    time.sleep(0.02)
    assert repro.kill("dvc") == "dvc"
    campaign.disturb(clean)
    # What DVC was writing itself may be cut in the middle.
    assert campaign.repairs.keys() <= {"dvc.lock", "rwlock"}
    made = hash_published(clean.folder)
    assert f"manifests/{view}.csv" in made
    clean.run("dvc", "repro", "--force", *campaign.targets)
    assert hash_published(clean.folder) == made

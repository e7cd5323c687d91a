"""`python -m benchmarks.kills`: SIGKILLs at random moments of `dvc repro`, and what becomes of it.

The sample is copied and made once undisturbed. Then, round for round, a fresh copy is made while
the door, DVC or their whole process group is killed again and again; after each kill `dvc repro`
starts anew, as a user would start it, until it is done. Moments are uniform over the undisturbed
run, as seconds after the start of a stage.

In the end every published file must have the hash of the undisturbed run's, except for what
`scratch.hash_published` leaves out. Whatever a user would have to mend by hand is done, counted,
and a failure.
"""

import argparse
import random
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.command import Figures, show
from benchmarks.scratch import (
    PATIENCE_S,
    ROOT,
    STAGE_LINE,
    START,
    Repository,
    Started,
    differences,
    hash_published,
)

VICTIMS = ("door", "dvc", "group")
# More would leave a round no time between the kills to get anywhere.
KILLS_PER_ROUND = 25

# A stage that DVC named, and seconds after it did so.
Moment = tuple[str, float]


class Campaign:
    """Kills of `dvc repro`, and what they did; `repairs` and all lists should stay empty.

    `starts` says when each stage of the undisturbed run began, `published` what it made.
    """

    def __init__(self, *, targets: Sequence[str] = (), seed: int = 1) -> None:
        self.targets, self.rng = targets, random.Random(seed)
        self.starts = {START: 0.0}
        self.seconds = 0.0
        self.published: dict[str, str] = {}
        self.kills: Counter[str] = Counter()
        self.stages: Counter[str] = Counter()
        self.resumed = 0
        self.repeats: Counter[str] = Counter()
        self.repairs: Counter[str] = Counter()
        self.differences: list[str] = []
        self.left_processes: list[str] = []
        self.left_temporaries: list[str] = []
        self.left_in_work_mb: dict[str, float] = {}

    def is_clean(self) -> bool:
        """Whether nothing had to be mended, nothing differs and nothing was left behind."""
        return not (
            self.repairs or self.differences or self.left_processes or self.left_temporaries
        )

    def run_undisturbed(self, repository: Repository) -> None:
        """Make the project once and note when each stage began."""
        begin = time.monotonic()
        dvc = repository.popen("dvc", "repro", *self.targets)
        lines = []
        for line in dvc.stdout or ():
            lines.append(line)
            if started := STAGE_LINE.match(line):
                self.starts[started[1]] = time.monotonic() - begin
        if dvc.wait():
            raise RuntimeError("the undisturbed run failed:\n" + "".join(lines))
        self.seconds, self.published = time.monotonic() - begin, hash_published(repository.folder)

    def draw_moments(self, number: int) -> list[Moment]:
        """Draw moments that are uniform over the undisturbed run, in order."""
        moments = []
        for second in sorted(self.rng.uniform(0, self.seconds) for _ in range(number)):
            begun = {name: start for name, start in self.starts.items() if start <= second}
            stage = max(begun, key=lambda name: begun[name])
            moments.append((stage, second - begun[stage]))
        return moments

    def disturb(self, repository: Repository, moments: Sequence[Moment] = ()) -> None:
        """Make the project, with a kill at each moment that comes before its end."""
        left, is_made = list(moments), False
        while not is_made:
            others = repository.doors()
            repro = Started(repository, "dvc", "repro", *self.targets)
            if left and repro.reaches(left[0][0], after_s=left[0][1]):
                del left[0]
                stage = (repro.stages() or [START])[-1]
                self.kills[repro.kill(self.rng.choice(VICTIMS))] += 1
                self.stages[stage] += 1
            elif not repro.wait():
                is_made = True
            elif others:
                # The door of a DVC that was killed was still at work: a user waits for it.
                is_held = "another run holds the lock" in repro.text()
                self.repeats["lock held" if is_held else "two doors at work"] += 1
                psutil.wait_procs(others, timeout=PATIENCE_S)
            else:
                self.repairs[repair(repository, repro.text())] += 1
            self.resumed += "resuming at epoch" in repro.text()

    def inspect(self, repository: Repository) -> None:
        """Compare what was published, and look for what was left behind."""
        folder = repository.folder
        _, alive = psutil.wait_procs(repository.processes(), timeout=10)
        self.left_processes += [" ".join(process.cmdline()) for process in alive]
        self.differences += differences(hash_published(folder), self.published)
        for path in folder.rglob(".*.tmp-*"):
            place = path.relative_to(folder)
            if place.parts[0] not in {".work", ".git", ".dvc"}:
                self.left_temporaries.append(place.as_posix())
        for run in sorted((folder / ".work").glob("*/*")):
            size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
            self.left_in_work_mb[run.relative_to(folder).as_posix()] = round(size / 1e6, 2)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run the campaign, print, return 0 if there is nothing to mend."""
    about = "Kill `dvc repro` at random moments and compare with an undisturbed run."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=about)
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="default %(default)s")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="default %(default)s")
    parser.add_argument("--json", action="store_true", help="the figures alone, on one line")
    arguments = parser.parse_args(argv)
    campaign = Campaign(seed=arguments.seed)
    figures = measure(campaign, _fill_sample, kills=arguments.kills)
    show("kills", {"seed": arguments.seed} | figures, as_json=arguments.json)
    return 0 if campaign.is_clean() else 1


def measure(
    campaign: Campaign,
    fill: Callable[[Path], None],
    *,
    kills: int,
    environment: dict[str, str] | None = None,
) -> Figures:
    """Run a campaign over copies of a project and return its figures."""
    begin, rounds = time.monotonic(), 0
    with _copy(fill, environment) as repository:
        campaign.run_undisturbed(repository)
    while (left := kills - campaign.kills.total()) > 0:
        with _copy(fill, environment) as repository:
            campaign.disturb(repository, campaign.draw_moments(min(left, KILLS_PER_ROUND)))
            campaign.inspect(repository)
        rounds += 1
    return {
        "rounds": rounds,
        "seconds": round(time.monotonic() - begin, 1),
        "undisturbed_s": round(campaign.seconds, 1),
        "files_compared": len(campaign.published),
        "kills": campaign.kills.total(),
        "by_victim": dict(campaign.kills),
        "by_stage": dict(campaign.stages),
        "resumed": campaign.resumed,
        "repeats": dict(campaign.repeats),
        "repairs": dict(campaign.repairs),
        "different": campaign.differences,
        "left_processes": campaign.left_processes,
        "left_temporaries": campaign.left_temporaries,
        "left_in_work_mb": campaign.left_in_work_mb,
    }


def repair(repository: Repository, output: str) -> str:
    """Do what a failed run's message asks of the user; returns which scar it was.

    Raises:
        RuntimeError: if there is no known way to go on.
    """
    if "RWLock-file" in output or "is busy, it is being blocked by" in output:
        (repository.folder / ".dvc" / "tmp" / "rwlock").unlink()
        return "rwlock"
    if re.search(r"dvc\.lock' (is invalid|validation failed)", output):
        # What ran since the last commit comes back from the run cache.
        (repository.folder / "dvc.lock").unlink()
        return "dvc.lock"
    raise RuntimeError(f"`dvc repro` failed, and not for a kill:\n{output}")


@contextmanager
def _copy(fill: Callable[[Path], None], environment: dict[str, str] | None) -> Iterator[Repository]:
    """A repository of its own that is gone after the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        # Links followed: the kernel tells a process's folder by its real name.
        folder = Path(name).resolve() / "project"
        folder.mkdir()
        yield Repository(folder, fill=fill, environment=environment)


def _fill_sample(folder: Path) -> None:
    shutil.copy(ROOT / "params.yaml", folder)
    shutil.copytree(ROOT / "raw" / "sample", folder / "raw" / "sample")


if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m benchmarks.kills`: SIGKILLs at random moments of `dvc repro`, and what becomes of it.

The project is copied and made once undisturbed. Then, round for round, a fresh copy is made while
the door, DVC or their whole process group is killed again and again; after each kill `dvc repro`
starts anew, as a user would start it, until it is done. Moments are uniform over the undisturbed
run, as seconds after the start of a stage.

In the end every published file must have the hash of the undisturbed run's. Out of it stay what the
clock and the machine decide: environment.json, the report page, and by their keys the times and
rates in JSON files. Whatever a user would have to mend by hand is done, counted, and a failure.
"""

import argparse
import json
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.command import Figures, as_lines
from benchmarks.machine import describe_machine
from benchmarks.scratch import (
    PATIENCE_S,
    STAGE_LINE,
    START,
    Moment,
    Repository,
    Repro,
    differences,
    fill_sample,
    hash_published,
)

VICTIMS = ("door", "dvc", "group")
# More would leave a round no time between the kills to get anywhere.
KILLS_PER_ROUND = 25


@dataclass(frozen=True)
class Undisturbed:
    """What a run without kills took and made: when each stage began, and a hash of each file."""

    starts: dict[str, float]
    seconds: float
    published: dict[str, str]


@dataclass
class Findings:
    """What a campaign saw: kills, runs that went on in mid-training, and what should not be."""

    kills: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    repeats: Counter[str] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    left_processes: list[str] = field(default_factory=list)
    left_temporaries: list[str] = field(default_factory=list)
    left_in_work: dict[str, float] = field(default_factory=dict)

    def is_clean(self) -> bool:
        """Whether nothing had to be mended, nothing differs and nothing was left behind."""
        found = (self.repairs, self.differences, self.left_processes, self.left_temporaries)
        return not any(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run the campaign, print, return 0 if there is nothing to mend."""
    about = "Kill `dvc repro` at random moments and compare with an undisturbed run."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=about)
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="default %(default)s")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="default %(default)s")
    parser.add_argument("--json", action="store_true", help="the figures alone, on one line")
    arguments = parser.parse_args(argv)
    figures, findings = measure(fill_sample, kills=arguments.kills, seed=arguments.seed)
    if arguments.json:
        print(json.dumps(figures, allow_nan=False))
    else:
        print("\n".join(as_lines({"kills": figures, "machine": describe_machine()})))
    return 0 if findings.is_clean() else 1


def measure(
    fill: Callable[[Path], None],
    *,
    kills: int,
    seed: int,
    targets: Sequence[str] = (),
    environment: dict[str, str] | None = None,
) -> tuple[Figures, Findings]:
    """Return the figures of a campaign, and what it found; `targets` are those of `dvc repro`."""
    begin = time.monotonic()
    findings, rounds = Findings(), 0
    with _copy(fill, environment) as repository:
        undisturbed = run_undisturbed(repository, targets=targets)
    rng = random.Random(seed)
    while (left := kills - findings.kills.total()) > 0:
        moments = draw_moments(undisturbed, rng=rng, number=min(left, KILLS_PER_ROUND))
        with _copy(fill, environment) as repository:
            disturb(repository, moments, rng=rng, findings=findings, targets=targets)
            inspect(repository, undisturbed, findings=findings)
        rounds += 1
    figures = {
        "seed": seed,
        "rounds": rounds,
        "seconds": round(time.monotonic() - begin, 1),
        "undisturbed_s": round(undisturbed.seconds, 1),
        "files_compared": len(undisturbed.published),
        "kills": findings.kills.total(),
        "by_victim": dict(findings.kills),
        "by_stage": dict(findings.stages),
        "resumed": findings.resumed,
        "repeats": dict(findings.repeats),
        "repairs": findings.repairs.total(),
        "repaired": dict(findings.repairs),
        "differences": len(findings.differences),
        "different": findings.differences,
        "left_processes": findings.left_processes,
        "left_temporaries": findings.left_temporaries,
        "left_in_work_mb": findings.left_in_work,
    }
    return figures, findings


def run_undisturbed(repository: Repository, *, targets: Sequence[str]) -> Undisturbed:
    """Make the project once and note when each stage began."""
    begin = time.monotonic()
    starts = {START: 0.0}
    dvc = repository.popen("dvc", "repro", *targets)
    assert dvc.stdout is not None  # noqa: S101 - states an invariant
    lines = []
    for line in dvc.stdout:
        lines.append(line)
        if found := STAGE_LINE.match(line):
            starts[found[1]] = time.monotonic() - begin
    if dvc.wait():
        raise RuntimeError("the undisturbed run failed:\n" + "".join(lines))
    return Undisturbed(starts, time.monotonic() - begin, hash_published(repository.folder))


def draw_moments(undisturbed: Undisturbed, *, rng: random.Random, number: int) -> list[Moment]:
    """Moments that are uniform over the undisturbed run, in order."""
    moments = []
    for second in sorted(rng.uniform(0, undisturbed.seconds) for _ in range(number)):
        begun = {name: start for name, start in undisturbed.starts.items() if start <= second}
        stage = max(begun, key=lambda name: begun[name])
        moments.append(Moment(stage, second - begun[stage]))
    return moments


def disturb(
    repository: Repository,
    moments: Sequence[Moment],
    *,
    rng: random.Random,
    findings: Findings,
    targets: Sequence[str],
) -> None:
    """Make the project, with a kill at each moment that comes before its end."""
    left, is_made = list(moments), False
    while not is_made:
        others = repository.doors()
        output = repository.folder.with_name("output.txt")
        repro = Repro(repository, targets=targets, output=output)
        if left and repro.reaches(left[0]):
            del left[0]
            stage = (repro.stages() or [START])[-1]
            findings.kills[repro.kill(rng.choice(VICTIMS))] += 1
            findings.stages[stage] += 1
        elif repro.wait():
            _overcome(repository, repro.text(), others=others, findings=findings)
        else:
            is_made = True
        findings.resumed += "resuming at epoch" in repro.text()


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


def inspect(repository: Repository, undisturbed: Undisturbed, *, findings: Findings) -> None:
    """Compare what was published, and look for what was left behind."""
    folder = repository.folder
    _, alive = psutil.wait_procs(repository.processes(), timeout=10)
    findings.left_processes += [" ".join(process.cmdline()) for process in alive]
    findings.differences += differences(hash_published(folder), undisturbed.published)
    temporaries = [path for path in folder.rglob(".*.tmp-*") if _is_outside_work(path, folder)]
    findings.left_temporaries += [path.relative_to(folder).as_posix() for path in temporaries]
    for run in sorted((folder / ".work").glob("*/*")):
        size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
        findings.left_in_work[run.relative_to(folder).as_posix()] = round(size / 1e6, 2)


@contextmanager
def _copy(fill: Callable[[Path], None], environment: dict[str, str] | None) -> Iterator[Repository]:
    """A repository of its own that is gone after the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        # Links followed: the kernel tells a process's folder by its real name.
        folder = Path(name).resolve() / "project"
        folder.mkdir()
        yield Repository(folder, fill=fill, environment=environment)


def _overcome(
    repository: Repository, output: str, *, others: list[psutil.Process], findings: Findings
) -> None:
    """Do what a user would after a `dvc repro` that failed without being killed."""
    if not others:
        findings.repairs[repair(repository, output)] += 1
        return
    # The door of a DVC that was killed was still at work: it is waited for.
    is_held = "another run holds the lock" in output
    findings.repeats["lock held" if is_held else "two doors at work"] += 1
    psutil.wait_procs(others, timeout=PATIENCE_S)


def _is_outside_work(path: Path, folder: Path) -> bool:
    return path.relative_to(folder).parts[0] not in {".work", ".git", ".dvc"}


if __name__ == "__main__":
    raise SystemExit(main())

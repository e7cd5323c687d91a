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
import os
import random
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import psutil

from benchmarks.command import Figures, as_lines
from benchmarks.machine import describe_machine
from benchmarks.scratch import Repository, fill_sample
from stages.runtime.files import read_json, sha256_file, sha256_json
from stages.training.progress import CLOCK_KEYS

VICTIMS = ("door", "dvc", "group")
OUTS = ("standardized", "manifests", "models", "metrics", "plots")
# More would leave a round no time between the kills to get anywhere.
KILLS_PER_ROUND = 25
_PATIENCE_S = 3600.0
_START = "start of dvc"
_CLOCK_KEYS = {*CLOCK_KEYS, "latency_ms", "latency_setting", "images_per_s", "seconds_per_epoch"}
_STAGE = re.compile(r"^(?:Running stage|Stage) '([^']+)'", re.MULTILINE)


@dataclass(frozen=True)
class Undisturbed:
    """What a run without kills took and made: when each stage began, and a hash of each file."""

    starts: dict[str, float]
    seconds: float
    published: dict[str, str]


@dataclass(frozen=True)
class Moment:
    """A moment of a run: seconds after DVC first names a stage."""

    stage: str
    after_s: float


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


class Repro:
    """A `dvc repro` in a process group of its own, with what it prints in a file."""

    def __init__(self, repository: Repository, *, targets: Sequence[str], output: Path) -> None:
        self._output = output
        with output.open("w", encoding="utf-8") as file:
            self._dvc = repository.popen(
                "dvc", "repro", *targets, stdout=file, start_new_session=True
            )

    def text(self) -> str:
        """What DVC and the doors printed so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def stages(self) -> list[str]:
        """The stages that DVC has named so far, run or skipped, in order."""
        return _STAGE.findall(self.text())

    def doors(self) -> list[psutil.Process]:
        """The door that DVC waits for, if one is at work."""
        return [child for child in _children(self._dvc.pid) if _is_door(child)]

    def wait(self, timeout: float = _PATIENCE_S) -> int:
        """The exit code."""
        return self._dvc.wait(timeout)

    def reaches(self, moment: Moment) -> bool:
        """Wait for a moment; False if the run ends before it."""
        deadline = time.monotonic() + _PATIENCE_S
        while moment.stage != _START and moment.stage not in self.stages():
            if self._dvc.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise TimeoutError(f"DVC came to no stage {moment.stage}:\n{self.text()}")
            time.sleep(0.01)
        try:
            self.wait(moment.after_s)
        except TimeoutExpired:
            return True
        return False

    def kill(self, victim: str) -> str:
        """Kill a victim and wait for DVC's end; returns who it was: between doors it is DVC."""
        doors = self.doors()
        if victim == "door" and not doors:
            victim = "dvc"
        if victim == "door":
            doors[0].kill()
        elif victim == "dvc":
            self._dvc.kill()
        else:
            self._kill_group()
        self.wait()
        return victim

    def _kill_group(self) -> None:
        if hasattr(os, "killpg"):
            os.killpg(self._dvc.pid, signal.SIGKILL)
            return
        for process in (*_children(self._dvc.pid), self._dvc):
            process.kill()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run the campaign, print, return 0 if there is nothing to mend."""
    about = "Kill `dvc repro` at random moments and compare with an undisturbed run."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=about)
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="default %(default)s")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="default %(default)s")
    parser.add_argument("--project", choices=sorted(PROJECTS), default="sample")
    parser.add_argument("--json", action="store_true", help="the figures alone, on one line")
    arguments = parser.parse_args(argv)
    figures, findings = measure(
        PROJECTS[arguments.project], kills=arguments.kills, seed=arguments.seed
    )
    if arguments.json:
        print(json.dumps(figures, allow_nan=False))
    else:
        print("\n".join(as_lines({"kills": figures, "machine": describe_machine()})))
    return 0 if findings.is_clean() else 1


def measure(
    fill: Callable[[Path], None], *, kills: int, seed: int, targets: Sequence[str] = ()
) -> tuple[Figures, Findings]:
    """Figures of a campaign, and what it found; `targets` are those of `dvc repro`."""
    begin = time.monotonic()
    findings, rounds = Findings(), 0
    with _copy(fill) as repository:
        undisturbed = run_undisturbed(repository, targets=targets)
    rng = random.Random(seed)
    while (left := kills - findings.kills.total()) > 0:
        moments = draw_moments(undisturbed, rng=rng, number=min(left, KILLS_PER_ROUND))
        with _copy(fill) as repository:
            disturb(repository, moments, rng=rng, findings=findings, targets=targets)
            inspect(repository.folder, undisturbed, findings=findings)
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
    starts = {_START: 0.0}
    dvc = repository.popen("dvc", "repro", *targets)
    assert dvc.stdout is not None  # noqa: S101 - states an invariant
    lines = []
    for line in dvc.stdout:
        lines.append(line)
        if found := _STAGE.match(line):
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
        others = _doors_in(repository.folder)
        output = repository.folder.with_name("output.txt")
        repro = Repro(repository, targets=targets, output=output)
        if left and repro.reaches(left[0]):
            del left[0]
            stage = (repro.stages() or [_START])[-1]
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


def inspect(folder: Path, undisturbed: Undisturbed, *, findings: Findings) -> None:
    """Compare what was published, and look for what was left behind."""
    _, alive = psutil.wait_procs(list(_processes_in(folder)), timeout=10)
    findings.left_processes += [" ".join(process.cmdline()) for process in alive]
    findings.differences += differences(hash_published(folder), undisturbed.published)
    temporaries = [path for path in folder.rglob(".*.tmp-*") if _is_outside_work(path, folder)]
    findings.left_temporaries += [path.relative_to(folder).as_posix() for path in temporaries]
    for run in sorted((folder / ".work").glob("*/*")):
        size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
        findings.left_in_work[run.relative_to(folder).as_posix()] = round(size / 1e6, 2)


def hash_published(folder: Path) -> dict[str, str]:
    """SHA-256 of each published file, without what the clock and the machine decide."""
    paths = [path for out in OUTS for path in (folder / out).rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): _hash(path)
        for path in sorted(paths)
        if path.name not in {"environment.json", "report.html"}
    }


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Names of files that are missing, too many or different."""
    return [name for name in sorted(found | expected) if found.get(name) != expected.get(name)]


def fill_small(folder: Path) -> None:
    """The toy project of the tests: seconds for each stage."""
    from tests.small_project import IMAGES, draw, small_params, write_params

    draw(folder / "raw" / "toy", images=IMAGES)
    write_params(folder, small_params(stageA__epochs=6))


PROJECTS = {"sample": fill_sample, "small": fill_small}


@contextmanager
def _copy(fill: Callable[[Path], None]) -> Iterator[Repository]:
    """A repository of its own that is gone after the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        # Links followed: the kernel tells a process's folder by its real name.
        folder = Path(name).resolve() / "project"
        folder.mkdir()
        yield Repository(folder, fill=fill)


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _processes_in(folder: Path) -> Iterator[psutil.Process]:
    """Processes whose current folder is this one."""
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.cwd() == str(folder):
                yield process


def _doors_in(folder: Path) -> list[psutil.Process]:
    return [process for process in _processes_in(folder) if _is_door(process)]


def _is_door(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        command = process.cmdline()
        return "-m" in command and any(part.startswith("stages.") for part in command)
    return False


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
    psutil.wait_procs(others, timeout=_PATIENCE_S)


def _is_outside_work(path: Path, folder: Path) -> bool:
    return path.relative_to(folder).parts[0] not in {".work", ".git", ".dvc"}


def _hash(path: Path) -> str:
    if path.suffix == ".json":
        return sha256_json(_without_clock(read_json(path)))
    return sha256_file(path)


def _without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_clock(part) for key, part in value.items() if key not in _CLOCK_KEYS}
    if isinstance(value, list):
        return [_without_clock(part) for part in value]
    return value


if __name__ == "__main__":
    raise SystemExit(main())

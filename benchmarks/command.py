"""What benchmarks share: command line, timing, child processes, and how figures are shown."""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple, TypeVar

from benchmarks.machine import describe_machine

Figures = dict[str, Any]
T = TypeVar("T")


class Finding(NamedTuple):
    """What a check found: `holds` says of each claim whether it does, `figures` are all numbers."""

    holds: dict[str, bool]
    figures: Figures


def run_benchmark(
    argv: Sequence[str] | None,
    *,
    name: str,
    about: str,
    faces: int,
    measure: Callable[[int], Figures],
) -> int:
    """Measure with the number of faces that the command line says, show, return the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    parser.add_argument(
        "--faces", type=int, default=faces, metavar="N", help="synthetic faces, default %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="the figures alone, on one line")
    arguments = parser.parse_args(argv)
    show(name, measure(arguments.faces), as_json=arguments.json)
    return 0


def show(name: str, figures: Figures, *, as_json: bool, **about: Any) -> None:
    """Print figures on one line, or a line each with a description of the machine."""
    if as_json:
        print(json.dumps(figures, allow_nan=False))
    else:
        print("\n".join(as_lines({name: figures, "machine": describe_machine() | about})))


def as_lines(values: Mapping[str, Any], *, indent: str = "") -> Iterator[str]:
    """Yield a line for each value; nested ones are indented below their name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}"
            yield from as_lines(value, indent=f"{indent}  ")
        else:
            shown = f"{value:,}" if isinstance(value, int | float) else value
            yield f"{indent}{name:<24} {shown}"


def in_child(work: Callable[..., T], *arguments: Any) -> T:
    """Return what `work` returns in a new process, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def seconds_of(
    work: Callable[[], object], *, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Time one call; `time.process_time` as the clock leaves out other jobs and the disk."""
    start = clock()
    work()
    return clock() - start

"""What every benchmark shares: its command line, child processes and how figures are printed."""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

from benchmarks.machine import describe_machine

Figures = dict[str, Any]
T = TypeVar("T")


def run_benchmark(
    argv: Sequence[str] | None,
    *,
    name: str,
    about: str,
    faces: int,
    measure: Callable[[int], Figures],
) -> int:
    """Measure with the number of faces that the command line says, print, return the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    parser.add_argument(
        "--faces", type=int, default=faces, metavar="N", help="synthetic faces, default %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="the figures alone, on one line")
    arguments = parser.parse_args(argv)
    figures = measure(arguments.faces)
    if arguments.json:
        print(json.dumps(figures, allow_nan=False))
    else:
        print("\n".join(as_lines({name: figures, "machine": describe_machine()})))
    return 0


def as_lines(values: Mapping[str, Any], *, indent: str = "") -> Iterator[str]:
    """A line for each value; nested ones are indented below their name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}"
            yield from as_lines(value, indent=f"{indent}  ")
        else:
            shown = f"{value:,}" if isinstance(value, int | float) else value
            yield f"{indent}{name:<24} {shown}"


def in_child(work: Callable[..., T], *arguments: Any) -> T:
    """What `work` returns in a new process, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()

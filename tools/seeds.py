"""Experiments as `dvc exp show --json` has them -> metrics over seeds, with intervals.

Runs belong together if nothing but `seed` and `machine` differs: neither a param nor a file of code
or raw data. What their own stages made differs with the seed and does not count.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from statistics import mean, stdev
from typing import Any, NamedTuple

import pandas as pd
from scipy.stats import t

from stages.reporting.seeds import COLUMNS, FILE
from stages.runtime.files import sha256_json

METRICS_FILE, PARAMS_FILE = "metrics/teachers.json", "params.yaml"
# What is in no summary: counts and temperatures are no results. The ECE's floor stays beside it.
_NOT_RESULTS = ("n", "temperature")

Node = Mapping[str, Any]


class SeedRun(NamedTuple):
    """One experiment: its name, its seed, what it shares with others, and its numbers by key."""

    name: str
    seed: int
    recipe: str
    metrics: Mapping[str, float]


class UnusedRun(NamedTuple):
    """An experiment that has no numbers to summarize, and why."""

    name: str
    reason: str


class Summary(NamedTuple):
    """One metric over the seeds of a recipe, with the 95 % interval of its mean.

    The interval is Student's, `mean +- t s / sqrt(n)`: it is about the recipe, not about one model.
    """

    recipe: str
    metric: str
    values: Mapping[int, float]
    mean: float
    deviation: float
    interval: tuple[float, float]


def summarize(shown: Sequence[Node]) -> tuple[list[Summary], list[UnusedRun]]:
    """Summarize each metric that all seeds of a recipe have, for recipes with two seeds or more.

    Of runs of one recipe and seed with equal numbers, such as the workspace and its commit, one is
    taken. A recipe whose seed has two results is refused: they are not those of one program.
    """
    runs: dict[str, dict[str, SeedRun]] = {}
    summaries: list[Summary] = []
    unused: list[UnusedRun] = []
    for commit in shown:
        groups = commit.get("experiments") or []
        for node in (commit, *(node for group in groups for node in group["revs"])):
            run = _read(node)
            if isinstance(run, UnusedRun):
                unused.append(run)
            else:
                result = sha256_json([run.seed, dict(run.metrics)])
                runs.setdefault(run.recipe, {}).setdefault(result, run)
    for recipe, results in runs.items():
        alike = sorted(results.values(), key=lambda run: run.seed)
        names = ", ".join(run.name for run in results.values())
        if len({run.seed for run in alike}) < len(alike):
            unused.append(UnusedRun(names, "one seed has several results"))
        elif len(alike) == 1:
            unused.append(UnusedRun(names, f"the only run of its recipe, seed {alike[0].seed}"))
        else:
            summaries += _summaries(recipe, alike)
    return summaries, unused


def table(summaries: Sequence[Summary]) -> str:
    """Show a line for each metric under the line of its recipe."""
    lines = []
    width = max(len(summary.metric) for summary in summaries)
    parts = groupby(summaries, key=lambda entry: (entry.recipe, list(entry.values)))
    for (recipe, seeds), alike in parts:
        lines.append(f"recipe {recipe[:12]}: {len(seeds)} seeds ({', '.join(map(str, seeds))})")
        for summary in alike:
            low, high = summary.interval
            lines.append(
                f"  {summary.metric:<{width}}  {summary.mean:8.4f} [{low:.4f} {high:.4f}]"
                f"  sd {summary.deviation:.4f}"
            )
    return "\n".join(lines)


def for_page(summaries: Sequence[Summary]) -> pd.DataFrame:
    """Make the rows of plots/seeds.csv, which the page reads."""
    rows = [
        (s.recipe, s.metric, seed, value, len(s.values), s.mean, *s.interval, s.deviation)
        for s in summaries
        for seed, value in s.values.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _read(node: Node) -> SeedRun | UnusedRun:
    name = node["name"] or ("workspace" if node["rev"] == "workspace" else node["rev"][:7])
    if node.get("error"):
        return UnusedRun(name, node["error"]["msg"])
    data, contents = node.get("data") or {}, []
    for kind, file in (("params", PARAMS_FILE), ("metrics", METRICS_FILE)):
        content = data.get(kind, {}).get(file, {}).get("data")
        if content is None:
            return UnusedRun(name, f"no {file}")
        contents.append(content)
    params, metrics = contents
    # An out of `dvc add` is a data source and no stage made it.
    made = {path for path, out in data["outs"].items() if not out["is_data_source"]}
    # The summary of earlier runs is shown and changes no number.
    made |= data["metrics"].keys() | {FILE}
    given = {path: dep["hash"] for path, dep in data["deps"].items() if path not in made}
    shared = {key: value for key, value in params.items() if key not in ("seed", "machine")}
    return SeedRun(name, params["seed"], sha256_json([shared, given]), dict(_results(metrics)))


def _results(metrics: Node, path: tuple[str, ...] = ()) -> Iterator[tuple[str, float]]:
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _results(value, (*path, key))
        elif isinstance(value, (int, float)) and key not in _NOT_RESULTS:
            yield ".".join((*path, key)), float(value)


def _summaries(recipe: str, runs: Sequence[SeedRun]) -> Iterator[Summary]:
    for metric in runs[0].metrics:
        if all(metric in run.metrics for run in runs):
            values = {run.seed: run.metrics[metric] for run in runs}
            centre, deviation = mean(values.values()), stdev(values.values())
            half = float(t.ppf(0.975, len(values) - 1)) * deviation / len(values) ** 0.5
            interval = (centre - half, centre + half)
            yield Summary(recipe, metric, values, centre, deviation, interval)

import numpy as np
import pytest
import scipy.stats

from tools.seeds import summarize, table

MADE = ["metrics/teachers.json", "plots/data/teachers", "manifests"]


def _node(name, seed, accuracy, *, rate=0.1, code="a", raw="r", error=None, metrics=True):
    """Make a node as `dvc exp show` has it: metrics are no outs, and the workspace has no name."""
    numbers = {"temperature": 1.5, "n": 9, "accuracy": accuracy, "ece": 0.05, "ece_floor": 0.04}
    numbers = {"taken": "stageA", "stageA": {"RN18": numbers}}
    params = {"seed": seed, "stageA": {"learning_rate": rate}, "machine": {"workers": seed}}
    hashes = {"stages/train.py": code, "raw/toy.zip": raw}
    hashes |= dict.fromkeys([*MADE, "plots/seeds.csv"], f"of seed {seed}")
    data = {
        "params": {"params.yaml": {"data": params}},
        "metrics": {"metrics/teachers.json": {"data": numbers}} if metrics else {},
        "deps": {path: {"hash": digest} for path, digest in hashes.items()},
        "outs": {path: {"is_data_source": False} for path in (*MADE[1:], "models/export")}
        | {"raw/toy.zip": {"is_data_source": True}},
    }
    rev, name = ("workspace", None) if name == "workspace" else ("f" * 40, name)
    return {"rev": rev, "name": name, "error": error, "data": None if error else data}


def _summarize(*experiments):
    head = _node("main", 1, 0.5) | {"experiments": [{"revs": [node]} for node in experiments]}
    return summarize([_node("workspace", 1, 0.5) | {"experiments": None}, head])


def test_reported_mean_and_student_s_interval_over_seeds_and_the_floor_beside_the_ece():
    summaries, left_out = _summarize(_node("s2", 2, 0.6), _node("s3", 3, 0.9))
    summary, values = summaries[0], [0.5, 0.6, 0.9]
    assert summary.values == {1: 0.5, 2: 0.6, 3: 0.9}
    oracle = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
    assert summary.interval == pytest.approx(oracle)
    assert summary.deviation == pytest.approx(np.std(values, ddof=1))
    assert left_out == []
    assert "3 seeds (1, 2, 3)" in table(summaries)
    names = ["accuracy", "ece", "ece_floor"]
    assert [summary.metric for summary in summaries] == [f"stageA.RN18.{name}" for name in names]


WORKSPACE = ("workspace", "the only run of its recipe, seed 1")


@pytest.mark.parametrize(
    ("nodes", "left_out"),
    [
        ([], [WORKSPACE]),  # the workspace and its commit are one run
        ([_node("broken", 2, 0, error={"msg": "no file"})], [("broken", "no file"), WORKSPACE]),
        (
            [_node("untrained", 3, 0, metrics=False)],
            [("untrained", "no metrics/teachers.json"), WORKSPACE],
        ),
        (
            [_node("again", 1, 0.7), _node("s2", 2, 0.6)],
            [("workspace, again, s2", "one seed has several results")],
        ),
    ],
)
def test_what_is_not_averaged_is_named_with_the_reason(nodes, left_out):
    assert _summarize(*nodes) == ([], left_out)


@pytest.mark.parametrize("changes", [{"rate": 0.2}, {"code": "b"}, {"raw": "s"}])
def test_runs_of_another_recipe_or_other_code_are_not_averaged(changes):
    summaries, left_out = _summarize(_node("s2", 2, 0.6), _node("other", 3, 0.9, **changes))
    assert {tuple(summary.values) for summary in summaries} == {(1, 2)}
    assert left_out == [("other", "the only run of its recipe, seed 3")]

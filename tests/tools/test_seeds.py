import numpy as np
import pytest
import scipy.stats

from tools.seeds import read_experiments, summarize, table


def _node(name, seed, accuracy, *, rate=0.1, code="a", raw="r", error=None, metrics=True):
    numbers = {
        "taken": "stageA",
        "stageA": {"RN18": {"temperature": 1.5, "n": 9, "accuracy": accuracy}},
    }
    params = {"seed": seed, "stageA": {"learning_rate": rate}, "machine": {"workers": seed}}
    # As `dvc exp show` has them: metrics are no outs, and the workspace has no name.
    made = ["metrics/teachers.json", "plots/data/teachers", "manifests"]
    given = {"stages/train.py": code, "raw/toy.zip": raw}
    rev, name = ("workspace", None) if name == "workspace" else ("f" * 40, name)
    data = {
        "params": {"params.yaml": {"data": params}},
        "metrics": {"metrics/teachers.json": {"data": numbers}} if metrics else {},
        "deps": {path: {"hash": digest} for path, digest in given.items()}
        | {path: {"hash": f"of seed {seed}"} for path in made},
        "outs": {path: {"is_data_source": False} for path in (*made[1:], "models/export")}
        | {"raw/toy.zip": {"is_data_source": True}},
    }
    return {"rev": rev, "name": name, "error": error, "data": None if error else data}


def _shown(*experiments):
    workspace = _node("workspace", 1, 0.5) | {"experiments": None}
    head = _node("main", 1, 0.5)
    return [workspace, head | {"experiments": [{"revs": [one]} for one in experiments]}]


def _summarize(*experiments):
    runs, failed = read_experiments(_shown(*experiments))
    summaries, alone = summarize(runs)
    return summaries, [(one.name, one.reason) for one in (*failed, *alone)]


def test_mean_and_student_s_interval_over_seeds():
    (found,), left_out = _summarize(_node("s2", 2, 0.6), _node("s3", 3, 0.9))
    values = [0.5, 0.6, 0.9]
    assert found.metric == "stageA.RN18.accuracy"
    assert found.values == {1: 0.5, 2: 0.6, 3: 0.9}
    oracle = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
    assert found.interval == pytest.approx(oracle)
    assert found.deviation == pytest.approx(np.std(values, ddof=1))
    assert left_out == []
    assert "3 seeds (1, 2, 3)" in table([found])


def test_reported_ece_over_seeds_has_its_floor_beside_it():
    nodes = [_node(f"s{seed}", seed, 0.5) | {"experiments": None} for seed in (1, 2)]
    for node in nodes:
        numbers = node["data"]["metrics"]["metrics/teachers.json"]["data"]
        numbers["stageA"]["RN18"] |= {"ece": 0.05, "ece_floor": 0.04}
    summaries, _ = summarize(read_experiments(nodes)[0])
    assert [one.metric.rsplit(".")[-1] for one in summaries] == ["accuracy", "ece", "ece_floor"]


def test_workspace_and_its_commit_are_one_run():
    summaries, left_out = _summarize()
    assert summaries == []
    assert left_out == [("workspace", "the only run of its recipe, seed 1")]


@pytest.mark.parametrize("changes", [{"rate": 0.2}, {"code": "b"}, {"raw": "s"}])
def test_runs_of_another_recipe_or_other_code_are_not_averaged(changes):
    summaries, left_out = _summarize(_node("s2", 2, 0.6), _node("other", 3, 0.9, **changes))
    assert [list(one.values) for one in summaries] == [[1, 2]]
    assert left_out == [("other", "the only run of its recipe, seed 3")]


def test_failed_experiment_and_one_without_metrics_are_named():
    error = {"msg": "unable to read"}
    _, left_out = _summarize(
        _node("broken", 2, 0, error=error), _node("untrained", 3, 0, metrics=False)
    )
    assert left_out[:2] == [
        ("broken", "unable to read"), ("untrained", "no metrics/teachers.json"),
    ]  # fmt: skip


def test_two_results_of_one_seed_are_refused_and_not_averaged():
    summaries, left_out = _summarize(_node("again", 1, 0.7), _node("s2", 2, 0.6))
    assert summaries == []
    assert left_out == [("workspace, again, s2", "one seed has several results")]

import dataclasses

import numpy as np
import pytest

from stages.calibrating.assessment import assess
from stages.calibrating.contribution import contributions
from stages.calibrating.model import fusion, single
from stages.calibrating.protocol import Protocol
from stages.calibrating.stage_rows import stage_rows

PROTOCOL = Protocol("test", bins=15, folds=5, bootstrap_samples=100, seed=7)


@pytest.fixture(scope="module")
def found(read):
    """RN18, a copy of it, and a teacher that knows little."""
    manifest, teachers = read
    good = teachers["stageA"][0]
    random = np.random.default_rng(0)
    names = [name for name in good.logits.columns if name.startswith("logit_")]
    noise = good.logits.assign(
        **{
            name: 0.3 * good.logits[name] + random.normal(scale=3, size=len(good.logits))
            for name in names
        }
    )
    trio = [
        good,
        dataclasses.replace(good, name="copy"),
        dataclasses.replace(good, name="noise", logits=noise),
    ]
    rows = stage_rows(manifest, rows=good.filter, stage="stageA", started_from={})

    def build(kind, weights):
        one = assess(fusion(trio, kind=kind, weights=weights), rows=rows, protocol=PROTOCOL)
        return {row["teacher"]: row for row in contributions(one, rows=rows, protocol=PROTOCOL)}

    return build


def test_copy_of_a_teacher_adds_nothing_to_searched_weights(found):
    rows = found("searched", ())
    assert list(rows) == ["RN18", "copy", "noise"]
    for name in ("RN18", "copy"):
        assert rows[name]["nll_change"] == pytest.approx(0, abs=1e-3)
    assert rows["noise"]["reported_on"] == "test"
    assert rows["noise"]["n"] == 240


def test_teacher_that_knows_little_harms_with_fixed_weights(found):
    rows = found("fixed_logits", (0.1, 0.1, 0.8))
    assert rows["noise"]["nll_change_95"][0] > 0
    assert rows["noise"]["macro_f1_gain_95"][1] < 0


def test_teacher_that_knows_all_adds_much(found):
    rows = found("fixed", (0.5, 0.0, 0.5))
    assert rows["RN18"]["nll_change_95"][1] < 0
    assert rows["copy"]["nll_change"] == pytest.approx(0, abs=1e-6)


def test_single_teacher_has_nothing_to_leave_out(read):
    manifest, teachers = read
    rows = stage_rows(manifest, rows=teachers["stageA"][0].filter, stage="stageA", started_from={})
    one = assess(single(teachers["stageA"][0]), rows=rows, protocol=PROTOCOL)
    assert contributions(one, rows=rows, protocol=PROTOCOL) == []

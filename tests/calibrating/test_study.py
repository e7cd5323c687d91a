import dataclasses

import pytest

from stages.calibrating.study import lineage, rows_of
from stages.config import Filter
from stages.runtime.errors import UserError


def test_lineage_are_the_stages_whose_weights_a_stage_started_from():
    assert lineage("stageB", init_from={"stageB": "stageA"}) == ["stageA"]
    assert lineage("stageB", init_from={"stageB": None}) == []
    assert lineage("stageA", init_from={"stageB": "stageA"}) == []


def test_gates_leave_out_val_of_the_stage_before_only_if_the_teachers_started_from_it(read):
    manifest, teachers = read
    val = manifest.rows[manifest.rows["split"] == "val"]
    manifest = dataclasses.replace(manifest, gates={"g": val[val["source"] == "ferplus"]})
    started, anew = (
        rows_of(teachers["stageB"], manifest=manifest, earlier=earlier)
        for earlier in ([teachers["stageA"]], [])
    )
    assert list(started.gates["g"].left_out.values()) == [0, 120]
    assert started.gates["g"].rows.empty
    assert len(anew.gates["g"].rows) == 120


def test_teacher_that_has_not_seen_what_it_is_said_to_start_from_is_refused(read):
    manifest, teachers = read
    second = teachers["stageB"]
    blank = dataclasses.replace(second[1], logits=second[1].logits.assign(seen=False))
    with pytest.raises(UserError) as error:
        rows_of([second[0], blank], manifest=manifest, earlier=[teachers["stageA"]])
    assert str(error.value) == (
        "params.yaml: stageB.init_from: stageA, but models/stageB/B3 has not seen 10 rows that "
        "stageA has; run `dvc repro stageB@B3`"
    )


def test_unlike_filters_of_the_stage_before_are_refused(read):
    manifest, teachers = read
    first = teachers["stageA"]
    other = dataclasses.replace(first[1], filter=Filter(include_sources=("ferplus",)))
    with pytest.raises(UserError, match=r"models/stageA: .* were trained on other rows"):
        rows_of(teachers["stageB"], manifest=manifest, earlier=[[first[0], other]])

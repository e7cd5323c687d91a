"""A fusion with and without each of its teachers -> what each teacher adds."""

from stages.calibrating.assessment import Assessment, in_domain_evidence
from stages.calibrating.blocks import MAJORITY, Block
from stages.calibrating.calibration import Mixing
from stages.calibrating.comparison import differences, same_rows
from stages.calibrating.fusion import in_proportion
from stages.calibrating.model import Model
from stages.calibrating.protocol import Protocol
from stages.calibrating.stage_rows import StageRows


def contributions(one: Assessment, *, rows: StageRows, protocol: Protocol) -> list[Block]:
    """The fusion minus the fusion without a teacher, a row for each, on the same rows.

    What is left is fitted anew on val: weights that were given keep their proportions, weights that
    were searched are searched again, and so is the temperature. A single teacher has no rows.
    """
    if len(one.model.teachers) == 1:
        return []
    return [
        _contribution(one, left_out=number, rows=rows, protocol=protocol)
        for number in range(len(one.model.teachers))
    ]


def _contribution(one: Assessment, *, left_out: int, rows: StageRows, protocol: Protocol) -> Block:
    rest = _without(one.model, left_out)
    evidence = in_domain_evidence(rest, rows=rows, protocol=protocol)
    less, full = same_rows(evidence, one.in_domain)
    draws = protocol.resamples(full.rows["group"].tolist())
    return {
        "teacher": one.model.teachers[left_out].name,
        "reported_on": full.reported_on,
        "about": [line for one in (less, full) for line in one.about(label_rule=MAJORITY)],
    } | differences(less, full, resamples=draws, bins=protocol.bins)


def _without(model: Model, left_out: int) -> Model:
    teachers = tuple(t for number, t in enumerate(model.teachers) if number != left_out)
    mixing = model.mixing
    if mixing.weights is not None:
        kept = [w for number, w in enumerate(mixing.weights) if number != left_out]
        mixing = Mixing(in_proportion(kept), mixing.space)
    return Model(model.stage, model.name, teachers, mixing)

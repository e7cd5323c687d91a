"""Stage A against Stage B on the same rows -> which stage is taken, and why, in words.

The choice is a fit like any other: it is made on val rows, each calibrated by folds that it is not
in, and reported on test rows and gates. For it both stages are fitted on the val rows of both: else
the narrower filter would win by a class bias that fits just the rows that are compared.
"""

from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from stages.calibrating.assessment import fitted_evidence, held_out_val, no_evidence
from stages.calibrating.blocks import Block, Evidence
from stages.calibrating.comparison import compare, same_rows
from stages.calibrating.model import Model
from stages.calibrating.protocol import Protocol
from stages.calibrating.published import STAGES, PublishedTeacher
from stages.calibrating.stage_rows import Account, StageRows

SHARED_VAL = "val rows of both stages"

Asked = Literal["stageA", "stageB", "auto"]


@dataclass(frozen=True)
class Verdict:
    """The stage that is taken, whether the second one's gain is real, and what to tell people.

    Costs are not in the words: what the clock decides would make another calibration of equal runs.
    """

    stage: str
    gain_is_real: bool
    says: str


@dataclass(frozen=True)
class StagePair:
    """One model of each stage, with the rows of its stage."""

    first: Model
    second: Model
    first_rows: StageRows
    second_rows: StageRows

    @property
    def models(self) -> tuple[tuple[Model, StageRows], tuple[Model, StageRows]]:
        """Each model with its rows, the first stage's first."""
        return (self.first, self.first_rows), (self.second, self.second_rows)

    @property
    def shared_val(self) -> Account:
        """The val rows that both stages admit and neither model was trained on."""
        first, second = (model.unseen(rows.val).rows for model, rows in self.models)
        return Account(first[first["id"].isin(second["id"])], {})


def compare_stages(pair: StagePair, *, protocol: Protocol) -> Block:
    """The second stage minus the first: on val, where the choice is made, on test and at gates.

    Both are fitted on the val rows that they share. Where those have fewer groups than folds
    nothing can be fitted, and every block has `n: 0`.
    """
    val = pair.shared_val
    first, second = (
        _evidence(model, rows=rows, val=val, protocol=protocol) for model, rows in pair.models
    )
    found = {name: compare(one, second[name], protocol=protocol) for name, one in first.items()}
    places = ("val", "test") if protocol.report == "test" else ("val",)
    return {place: found[place] for place in places} | {
        "gates": {
            name: {"in_domain": _in_domain(pair, first[f"gate {name}"], second[f"gate {name}"])}
            | found[f"gate {name}"]
            for name in pair.first_rows.gates
        },
        "cost": [cost(teacher) for model, _ in pair.models for teacher in model.teachers],
    }


def cost(teacher: PublishedTeacher) -> Block:
    """What the training of a teacher took; the seconds of an epoch are those of the middle one."""
    seconds = [entry["seconds"] + entry["eval_seconds"] for entry in teacher.history]
    return {
        "stage": teacher.stage,
        "teacher": teacher.name,
        "epochs": len(seconds),
        "seconds_per_epoch": float(median(seconds)) if seconds else 0.0,
        "seconds": float(sum(seconds)),
    }


def is_real(compared: Block) -> bool:
    """Whether the second is better: macro-F1 rises beyond its interval, NLL does not so too."""
    if not compared["n"]:
        return False
    return bool(compared["macro_f1_gain_95"][0] > 0 >= compared["nll_change_95"][0])


def decide(compared: Block, *, asked: Asked, model: str) -> Verdict:
    """Take the stage that is asked for; `auto` takes the second only if its gain on val is real."""
    first, second = STAGES
    gain_is_real = is_real(compared["val"])
    stage = (second if gain_is_real else first) if asked == "auto" else asked
    judgement = f"the gain of {second} is {'real' if gain_is_real else 'not real'}"
    why = f"{judgement} on val" if asked == "auto" else f"calibrate.stage says so; {judgement}"
    lines = [
        f"{stage} is taken: {why}.",
        f"{second} minus {first}, {model}, rows that both admit:",
        *_sentences(compared),
    ]
    return Verdict(stage, gain_is_real, " ".join(lines))


def _evidence(
    model: Model, *, rows: StageRows, val: Account, protocol: Protocol
) -> dict[str, Evidence]:
    """What the model says of val, test and each gate, fitted on these val rows alone."""
    places = {"test": rows.test} | {f"gate {name}": gate for name, gate in rows.gates.items()}
    if val.rows["group"].nunique() < protocol.folds:
        return {
            name: no_evidence(model, val, fitted_on=SHARED_VAL, reported_on=name)
            for name in ("val", *places)
        }
    held = held_out_val(model, rows=replace(rows, val=val), protocol=protocol)
    found = {"val": held} | fitted_evidence(model, rows=places, val=val, protocol=protocol)
    return {
        name: replace(one, fitted_on=one.fitted_on.replace("val", SHARED_VAL, 1))
        for name, one in found.items()
    }


def _in_domain(pair: StagePair, first: Evidence, second: Evidence) -> int:
    """How many of the rows that both say something of the filter of either stage admits."""
    admitted = pair.first_rows.admitted | pair.second_rows.admitted
    shared, _ = same_rows(first, second)
    return int(shared.rows["id"].isin(admitted).sum())


def _sentences(compared: Block) -> list[str]:
    blocks = {name: compared[name] for name in compared if name in ("val", "test")}
    blocks |= {f"gate {name}": found for name, found in compared["gates"].items()}
    return [_sentence(name, found) for name, found in blocks.items()]


def _sentence(name: str, found: Block) -> str:
    if not found["n"]:
        return f"{name}: no rows."
    gain, change = (
        f"{found[key]:+.3f} [{found[f'{key}_95'][0]:+.3f}, {found[f'{key}_95'][1]:+.3f}]"
        for key in ("macro_f1_gain", "nll_change")
    )
    of_them = f", {found['in_domain']} of them in domain" if found.get("in_domain") else ""
    return f"{name} (n = {found['n']}{of_them}): macro-F1 {gain}, NLL {change}."

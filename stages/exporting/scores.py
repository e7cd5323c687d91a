"""metrics/teachers.json -> the scores that the model card shows, of these weights only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.exporting.bundle import ENSEMBLE, Bundle
from stages.runtime.errors import UserError
from stages.runtime.files import read_json

Block = dict[str, Any]


@dataclass(frozen=True)
class Scores:
    """Of one model: its block of rows in domain, and one of each gate by name."""

    in_domain: Block
    gates: dict[str, Block]


def read_scores(path: Path, bundle: Bundle) -> dict[str, Scores]:
    """The scores of the ensemble, then of each teacher, by the name that they are exported under.

    Raises:
        UserError: if the file is missing, lacks a model, or scored other weights (incident N6).
    """
    shown = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        raise UserError(f"{shown}: missing; run `dvc repro calibrate`")
    names = {ENSEMBLE: f"fused_{bundle.fusion}"} | {name: name for name in bundle.members}
    try:
        found = read_json(path)[bundle.stage]
        return {name: _scores(found[key], bundle, name) for name, key in names.items()}
    except KeyError as error:
        raise UserError(
            f"{shown}: {bundle.stage}: {error} is missing; run `dvc repro calibrate`"
        ) from None


def _scores(found: Block, bundle: Bundle, name: str) -> Scores:
    in_domain = found["test"] if "test" in found else found["val"]
    members = bundle.members.values() if name == ENSEMBLE else [bundle.members[name]]
    expected = sorted(member.card.weights_sha256 for member in members)
    if sorted(in_domain["about"][0]["weights_sha256"]) != expected:
        raise UserError(
            f"metrics/teachers.json: {bundle.stage}: {name}: scores other weights than those in "
            f"models/{bundle.stage}; run `dvc repro calibrate`"
        )
    return Scores(in_domain, found["gates"])

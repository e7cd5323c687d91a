"""What the stages wrote -> one finished run, whose parts belong together or are refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from stages.calibrating.published import STAGES
from stages.calibrating.schema import TeachersMetrics
from stages.runtime.errors import UserError
from stages.runtime.files import read_json

Block = Mapping[str, Any]

_MADE_BY = {"teachers": "calibrate", "manifest": "manifest", "export": "export"}


@dataclass(frozen=True)
class Finished:
    """A run: the JSON of metrics/, the cards of its teachers, what was exported, data warnings.

    `cards` and `environments` go by stage and teacher; `root` is where calibrate's plots/ lie.
    """

    root: Path
    numbers: Block
    data: Block
    exported: Block
    hashes: Block
    cards: Mapping[tuple[str, str], Block]
    environments: Mapping[tuple[str, str], Block]
    warnings: pd.DataFrame

    @property
    def verdict(self) -> Block:
        """Which stage is taken, and which model is exported."""
        row: Block = self.numbers["verdict"][0]
        return row

    @property
    def models(self) -> Block:
        """The models of the stage that is taken."""
        taken: Block = self.numbers[self.verdict["stage"]]
        return taken

    @property
    def best(self) -> Block:
        """The model that is exported."""
        model: Block = self.models[self.verdict["model"]]
        return model

    @property
    def shown(self) -> list[str]:
        """The models that are drawn: the teachers, then what is fused of them."""
        return [*self.teachers, self.verdict["model"]]

    @property
    def teachers(self) -> list[str]:
        """The names of the teachers."""
        return [member["teacher"] for member in self.best["members"]]

    def table(self, kind: str, name: str) -> pd.DataFrame:
        """A table of plots/data/teachers, such as `confusion`, `stageA_RN18`.

        Raises:
            UserError: if it is missing.
        """
        path = f"plots/data/teachers/{kind}/{name}.csv"
        return _csv(self.root, path, made_by="calibrate")


def in_domain(model: Block) -> Block:
    """The block of the rows that a model is reported on: test, or val by folds."""
    block: Block = model["test"] if model.get("test") else model["val"]
    return block


def read_finished(root: Path) -> Finished:
    """Read the run whose files lie below a folder.

    Raises:
        UserError: if a file is missing or old, or two of them are not of the same run.
    """
    numbers = _metrics(root, "teachers")
    _check_schema(numbers)
    stage = numbers["verdict"][0]["stage"]
    exported = _metrics(root, "export")["export"]
    if stage not in exported:
        raise UserError(
            f"metrics/export.json: expected {stage}, which metrics/teachers.json takes, got "
            f"{', '.join(exported)}; run the export stage"
        )
    teachers = [(s, m["teacher"]) for s in STAGES for m in _members(numbers, s)]
    found = Finished(
        root=root,
        numbers=numbers,
        data=_metrics(root, "manifest")["manifest"],
        exported=exported[stage],
        hashes=_json(root, "models/export/hash_manifest.json", made_by="export"),
        cards={(s, t): _json(root, f"models/{s}/{t}/teacher.json", made_by=s) for s, t in teachers},
        environments={
            (s, t): _json(root, f"models/{s}/{t}/environment.json", made_by=s) for s, t in teachers
        },
        warnings=_csv(root, "manifests/warnings.csv", made_by="manifest"),
    )
    _check_one_run(found)
    return found


def _members(numbers: Block, stage: str) -> Sequence[Block]:
    members: Sequence[Block] = numbers[stage][numbers["verdict"][0]["model"]]["members"]
    return members


def _metrics(root: Path, name: str) -> Block:
    return _json(root, f"metrics/{name}.json", made_by=_MADE_BY[name])


def _json(root: Path, path: str, *, made_by: str) -> Block:
    found: Block = read_json(_there(root, path, made_by=made_by))
    return found


def _csv(root: Path, path: str, *, made_by: str) -> pd.DataFrame:
    file = _there(root, path, made_by=made_by)
    return pd.read_csv(file, keep_default_na=False, na_values=["nan"])


def _there(root: Path, path: str, *, made_by: str) -> Path:
    if not (root / path).is_file():
        raise UserError(f"{path}: expected a file, found none; the {made_by} stage makes it")
    return root / path


def _check_schema(numbers: Block) -> None:
    try:
        TeachersMetrics.model_validate(numbers)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"metrics/teachers.json: {where}: {first['msg']}; run the calibrate stage"
        ) from None


def _check_one_run(found: Finished) -> None:
    """Numbers of one run beside files of another would be believed (incident N5)."""
    manifest = found.numbers["provenance"][0]["manifest_sha256"]
    stage = found.verdict["stage"]
    said = {
        "metrics/manifest.json: files": found.data["files"]["classification_manifest"]["sha256"],
        "models/export/hash_manifest.json": found.hashes["manifest_sha256"],
    } | {
        f"models/{s}/{t}/teacher.json": card["manifest_sha256"]
        for (s, t), card in found.cards.items()
    }
    problems = [
        f"{where}: manifest_sha256: expected {manifest[:12]} (metrics/teachers.json), "
        f"got {got[:12]}"
        for where, got in said.items()
        if got != manifest
    ]
    for (s, t), card in found.cards.items():
        hashes = {"metrics/teachers.json": _weights(found.numbers, s, t)}
        if s == stage:
            exported = found.hashes["teachers"].get(t, {"weights_sha256": "none"})
            hashes["models/export/hash_manifest.json"] = exported["weights_sha256"]
        problems += [
            f"{where}: {s} {t}: weights_sha256: expected {card['weights_sha256'][:12]} "
            f"(models/{s}/{t}/teacher.json), got {got[:12]}"
            for where, got in hashes.items()
            if got != card["weights_sha256"]
        ]
    if problems:
        raise UserError("\n".join([*problems, "run `dvc repro`"]))


def _weights(numbers: Block, stage: str, teacher: str) -> str:
    found = {row["teacher"]: row["weights_sha256"] for row in _members(numbers, stage)}
    return str(found[teacher])

"""Files that the stages wrote -> one finished run, whose parts belong together or are refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.calibrating.calibration_file import (
    CalibrationFile,
    ModelCalibration,
    StageModels,
    read_calibration,
)
from stages.calibrating.score_table import (
    STAGE_GAIN,
    Score,
    number,
    pick,
    read_paired,
    read_scores,
)
from stages.modeling.card import TeacherCard, read_card
from stages.reporting.wording import STAGE_WORDS
from stages.runtime.errors import UserError
from stages.runtime.files import read_json

_FUSION_WORDS = {
    "fused_fixed": "fixed weights",
    "fused_searched": "searched weights",
    "fused_fixed_logits": "fixed weights, of logits",
    "fused_searched_logits": "searched weights, of logits",
}

_CALIBRATION = "models/calibrated/calibration.json"
_HASHES = "models/export/hash_manifest.json"
_PARITY = "models/export/parity.json"
_MANIFEST = "metrics/manifest.json"
# What makes a file, by how its path begins.
_MAKERS = {
    "models/stageA/": "dvc repro stageA",
    "models/stageB/": "dvc repro stageB",
    "models/export/": "dvc repro export",
    "metrics/teachers": "dvc repro calibrate",
    "plots/data/teachers/": "dvc repro calibrate",
    "plots/seeds.csv": "git checkout plots/seeds.csv",
    "": "dvc repro manifest",
}

Teacher = tuple[str, str]  # stage and name


@dataclass(frozen=True)
class Finished:
    """A run: its tables of scores, its teachers' files, its exports, and plots/ below `root`.

    `metrics` are the numbers of metrics/teachers.json by their keys, joined by dots; `seeds` is the
    summary over seeds, of this run or others, and may have no row.
    """

    root: Path
    calibration: CalibrationFile
    scores: pd.DataFrame
    paired: pd.DataFrame
    cards: Mapping[Teacher, TeacherCard]
    environments: Mapping[Teacher, Any]
    histories: Mapping[Teacher, Any]
    hashes: Mapping[str, Any]
    parity: Mapping[str, Any]
    latency: Mapping[str, Any]
    warnings: pd.DataFrame
    metrics: "pd.Series[Any]"
    seeds: pd.DataFrame

    @property
    def stage(self) -> str:
        """The stage that is taken."""
        return self.calibration.stage

    @property
    def model(self) -> str:
        """The model that is exported: a fusion."""
        return self.calibration.fused_model

    @property
    def rows(self) -> str:
        """The rows that in-domain numbers are of: test, or val by folds."""
        return self.calibration.headline_rows

    @property
    def stages(self) -> list[str]:
        """Both stages, the one that is taken first."""
        return sorted(STAGE_WORDS, key=lambda stage: stage != self.stage)

    @property
    def teachers(self) -> list[str]:
        """The names of the teachers."""
        return list(self.fit().members)

    @property
    def shown(self) -> list[str]:
        """The models that are shown: the exported fusion, then its teachers."""
        return [self.model, *self.teachers]

    @property
    def places(self) -> list[str]:
        """The in-domain rows, then the gates."""
        scored = pick(self.scores, stage=self.stage, model=self.model, by="all")["rows"].unique()
        return [self.rows, *(rows for rows in scored if rows.startswith("gate:"))]

    @property
    def decision(self) -> str:
        """How the class of the headline is named: `argmax` or `prior`."""
        (decision,) = pick(self.scores, metric="accuracy", **self.place())["decision"]
        return str(decision)

    def compared(self, what: str = STAGE_GAIN, **columns: str) -> list[str]:
        """Return the rows that a difference of the exported model is of; by default B minus A."""
        return list(pick(self.paired, what=what, model=self.model, **columns)["rows"].unique())

    def called(self, model: str) -> str:
        """Name a model in words."""
        if model == self.model:
            return "Ensemble"
        return f"Ensemble, {_FUSION_WORDS[model]}" if model in _FUSION_WORDS else model

    def fit(self, model: str = "", *, stage: str = "") -> ModelCalibration:
        """Return what was fitted for a model; by default for the exported one."""
        stages: Mapping[Any, StageModels] = self.calibration.stages
        return stages[stage or self.stage].models[model or self.model]

    def place(self, **columns: str) -> dict[str, str]:
        """Return the columns of scores.csv that name a place; the headline's where not given."""
        headline = {"stage": self.stage, "model": self.model, "rows": self.rows, "by": "all"}
        rule = {"part": "", "label_rule": "majority", "probabilities": "calibrated"}
        return headline | rule | columns

    def score(self, metric: str, **columns: str) -> Score:
        """Return a number of scores.csv at a place."""
        return self._number("scores", metric, **self.place(**columns))

    def num_rows(self, **columns: str) -> int:
        """Return the number of rows behind the scores at a place; 0 where it has no score."""
        return max(pick(self.scores, **self.place(**columns))["n"].tolist(), default=0)

    def parts(self, by: str) -> list[str]:
        """Return the sources, sizes, classes or row sets of the headline's rows."""
        columns = self.place(by=by)
        del columns["part"]
        return list(pick(self.scores, **columns)["part"].unique())

    def left_out(self, **columns: str) -> dict[str, int]:
        """Return how many rows do not count at a place, by reason."""
        columns = self.place(by="left_out", **columns)
        del columns["part"], columns["probabilities"]
        counts = pick(self.scores, **columns)[["part", "value"]].itertuples(index=False)
        return {reason: int(value) for reason, value in counts if value}

    def change(self, metric: str, **columns: str) -> Score:
        """Return a paired difference; by default stage B minus stage A of the exported model."""
        gain = {"what": STAGE_GAIN, "model": self.model, "by": "all", "part": ""}
        return self._number("paired", metric, **gain | columns)

    def _number(self, name: str, metric: str, **columns: str) -> Score:
        """Raise a UserError if the table lacks the number."""
        try:
            return number(self.paired if name == "paired" else self.scores, metric, **columns)
        except (KeyError, ValueError) as error:
            raise UserError(
                f"models/calibrated/{name}.csv: {error.args[0]}; run the calibrate stage"
            ) from None

    def plotted(self, stage: str, name: str) -> pd.DataFrame:
        """Return a table of plots/data/, such as `teachers`, `confusion/stageA_RN18`."""
        table: pd.DataFrame = _read(self.root, f"plots/data/{stage}/{name}.csv")
        return table


def read_finished(root: Path) -> Finished:
    """Read the run whose files lie below a folder.

    Raises:
        UserError: if a file is missing or old, or two of them are not of the same run.
    """
    calibration = read_calibration(root / "models/calibrated")
    folders: dict[Teacher, str] = {
        (stage, teacher): f"models/{stage}/{teacher}"
        for stage, fitted in calibration.stages.items()
        for teacher in fitted.models[calibration.fused_model].members
    }
    run = Finished(
        root=root,
        calibration=calibration,
        scores=read_scores(root / "models/calibrated/scores.csv"),
        paired=read_paired(root / "models/calibrated/paired.csv"),
        cards={key: read_card(root / folder) for key, folder in folders.items()},
        environments={
            key: _read(root, f"{folder}/environment.json") for key, folder in folders.items()
        },
        histories={key: _read(root, f"{folder}/history.json") for key, folder in folders.items()},
        hashes=_read(root, _HASHES),
        parity=_read(root, _PARITY),
        latency=_read(root, "models/export/latency.json"),
        warnings=_read(root, "manifests/warnings.csv"),
        metrics=pd.json_normalize(_read(root, "metrics/teachers.json")).iloc[0],
        seeds=_read(root, "plots/seeds.csv"),
    )
    _check_one_run(run, manifest=_read(root, _MANIFEST)["manifest"])
    return run


def _check_one_run(run: Finished, *, manifest: Mapping[str, Any]) -> None:
    """Refuse files of different runs: their numbers side by side would be believed."""
    sha256 = run.calibration.manifest_sha256
    made_of = manifest["sha256"]["classification_manifest"]
    # File, key, what the file says, what is expected, and where that stands.
    claims = [
        (_HASHES, "stage", run.hashes["stage"], run.stage, _CALIBRATION),
        (_PARITY, "stage", run.parity["stage"], run.stage, _CALIBRATION),
        (_MANIFEST, "manifest_sha256", made_of, sha256, _CALIBRATION),
        (_HASHES, "manifest_sha256", run.hashes["manifest_sha256"], sha256, _CALIBRATION),
    ]
    for (stage, teacher), card in run.cards.items():
        path, key = f"models/{stage}/{teacher}/teacher.json", f"{stage} {teacher}: weights_sha256"
        claims.append((path, "manifest_sha256", card.manifest_sha256, sha256, _CALIBRATION))
        fitted, run_key = run.fit(stage=stage).members[teacher], f"{stage} {teacher}: fingerprint"
        claims.append((_CALIBRATION, key, fitted.weights_sha256, card.weights_sha256, path))
        claims.append((_CALIBRATION, run_key, fitted.fingerprint, card.fingerprint, path))
        if stage == run.hashes["stage"]:
            exported = run.hashes["teachers"].get(teacher, {}).get("weights_sha256", "none")
            claims.append((_HASHES, key, exported, card.weights_sha256, path))
    problems = [
        f"{path}: {key}: expected {expected[:12]} ({source}), got {got[:12]}"
        for path, key, got, expected, source in claims
        if got != expected
    ]
    if problems:
        raise UserError("\n".join([*problems, "run `dvc repro`"]))


def _read(root: Path, path: str) -> Any:
    """Read a JSON file or a table."""
    if not (root / path).is_file():
        maker = next(maker for start, maker in _MAKERS.items() if path.startswith(start))
        raise UserError(f"{path}: expected a file, found none; `{maker}` makes it")
    if path.endswith(".json"):
        return read_json(root / path)
    return pd.read_csv(root / path, keep_default_na=False, na_values=["nan"])

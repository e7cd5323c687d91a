"""One training run on this machine: params, device and processes in, the run that they name out."""

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from stages.computing.device import choose_dtype
from stages.computing.team import ALONE, Team
from stages.config import Machine, Preprocess, Stage, TeacherParams
from stages.faces.store import FaceStore
from stages.loading.loader import EvalLoader, scoring_batches
from stages.modeling.teacher import WEIGHTS_FILE
from stages.records.schema import shares_of
from stages.runtime.errors import UserError
from stages.runtime.files import read_json, sha256_json
from stages.runtime.watched import check_watched
from stages.training.inputs import InitialWeights, RunRows, choose_rows
from stages.training.run import Run, open_run, training_version

STANDARDIZED, MANIFESTS, MODELS = Path("standardized"), Path("manifests"), Path("models")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """The params of one run, and what trains it here; what follows from them is made once."""

    stage: str
    teacher: str
    stage_params: Stage
    teacher_params: TeacherParams
    preprocess: Preprocess
    seed: int
    machine: Machine
    device: torch.device
    team: Team = ALONE

    def key(self, name: str) -> str:
        """Name the place of a stage's value in params.yaml: the teacher's own, or the stage's."""
        is_own = name in self.teacher_params.overrides(self.stage).model_fields_set
        return f"teachers.{self.teacher}.{self.stage}.{name}" if is_own else f"{self.stage}.{name}"

    @cached_property
    def initial(self) -> InitialWeights:
        """The weights that the run starts from; from scratch only if params.yaml names no file."""
        stage, weights = self.stage_params.init_from, self.teacher_params.weights
        if stage is not None:
            published = MODELS / stage / self.teacher / WEIGHTS_FILE
            if not published.is_file():
                raise UserError(
                    f"{published.as_posix()}: missing, and init_from is {stage}; "
                    f"run `dvc repro {stage}@{self.teacher}` first"
                )
            return InitialWeights(published, None)
        if weights is None:
            return InitialWeights(None, None)
        backbone, key = Path(weights), f"teachers.{self.teacher}.weights"
        if not backbone.is_file():
            raise UserError(f"params.yaml: {key}: no file {weights}")
        instead = "copy the file, or link it alone"
        check_watched(backbone, dep=Path("weights"), files=[backbone], key=key, instead=instead)
        return InitialWeights(None, backbone)

    @cached_property
    def rows(self) -> RunRows:
        """The rows to train on, to choose the best epoch by and to score."""
        rows = choose_rows(MANIFESTS, rows=self.stage_params.filter, key=f"{self.stage}.filter")
        wants_votes = self.stage_params.targets == "votes"
        if wants_votes and np.isnan(shares_of(rows.train)).all():
            raise UserError(
                f"params.yaml: {self.key('targets')}: votes, but none of the {len(rows.train)} "
                "train rows has votes; set it to majority"
            )
        return rows

    @cached_property
    def run(self) -> Run:
        """The run that exactly the params that dvc.yaml lists for the stage and the data name."""
        # Source groups and filters enter by the ids.
        ids = [part["id"].tolist() for part in (self.rows.train, self.rows.val)]
        data = {"manifest": self.rows.manifest_sha256, "rows": sha256_json(ids)}
        for index in sorted(STANDARDIZED.glob("*/index.json")):
            for shard, entry in read_json(index)["shards"].items():
                data[f"{index.parent.name}/{shard}"] = entry["sha256"]
        return open_run(
            self.stage,
            teacher=self.teacher,
            version=training_version(self.stage_params),
            params={
                "seed": self.seed,
                "preprocess": self.preprocess,
                self.stage: self.stage_params,
                "teacher": self.teacher_params,
            },
            data=data,
            init_sha256=self.initial.sha256(),
        )

    @cached_property
    def dtype(self) -> torch.dtype:
        """Autocast dtype; float32 disables autocast."""
        return choose_dtype(self.machine.precision, self.device)

    @cached_property
    def store(self) -> FaceStore:
        """All faces."""
        return FaceStore(STANDARDIZED)

    def scoring_batches(self, rows: pd.DataFrame, *, workers: int) -> EvalLoader:
        """Load every row once, in order, as the teacher wants it."""
        return scoring_batches(
            self.store,
            rows,
            image_size=self.stage_params.image_size,
            preprocess=self.preprocess,
            batch_size=self.stage_params.batch_size,
            workers=workers,
            device=self.device,
            team=self.team,
        )


def open_session(session: Session) -> Session:
    """Find weights and rows, and so name the run. Nothing is written.

    With 0 epochs the weights keep the input that they were trained with, their scale, and whether
    their logits are averaged over the mirror image.
    """
    stage_params, card = session.stage_params, session.initial.card()
    if stage_params.epochs == 0 and card is not None:
        arcface = stage_params.arcface.model_copy(update={"scale": card.scale})
        adopted = {"image_size": card.image_size, "arcface": arcface}
        adopted |= {"mirror_averaged": card.mirror_averaged}
        session = replace(
            session,
            stage_params=stage_params.model_copy(update=adopted),
            preprocess=card.preprocess_params,
        )
    fingerprint, num_rows = session.run.fingerprint, len(session.rows.train)
    if len(set(session.team.gather(fingerprint))) > 1:
        raise UserError(
            "the processes of this run see different params, manifests or shards; the project must "
            "be one folder for all"
        )
    text = "%s %s: run %s, %d train rows"
    logger.info(text, session.stage, session.teacher, fingerprint[:16], num_rows)
    return session

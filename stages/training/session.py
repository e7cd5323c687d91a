"""One training run on this machine: params, device and processes in, the run that they name out."""

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch

from stages.computing.device import choose_dtype
from stages.computing.team import ALONE, Team
from stages.config import Machine, Preprocess, Stage, TeacherParams
from stages.faces.store import FaceStore
from stages.loading.loader import EvalLoader, scoring_batches
from stages.runtime.errors import UserError
from stages.training.inputs import (
    InitialWeights,
    RunRows,
    adopt_size_and_scale,
    choose_rows,
    find_initial_weights,
    shard_hashes,
)
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

    @cached_property
    def initial(self) -> InitialWeights:
        """The weights that the run starts from."""
        return find_initial_weights(
            MODELS,
            stage_params=self.stage_params,
            teacher_params=self.teacher_params,
            teacher=self.teacher,
        )

    @cached_property
    def rows(self) -> RunRows:
        """The rows to train on, to choose the best epoch by and to score."""
        return choose_rows(MANIFESTS, rows=self.stage_params.filter, key=f"{self.stage}.filter")

    @cached_property
    def run(self) -> Run:
        """The run that exactly the params that dvc.yaml lists for the stage and the data name."""
        hashes = {"manifest": self.rows.manifest_sha256, "rows": self.rows.sha256()}
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
            data=hashes | shard_hashes(STANDARDIZED),
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
    """Find weights and rows, and so name the run; with 0 epochs adopt the weights' size and scale.

    Nothing is written.

    Raises:
        UserError: if rows, classes or weights are missing, or a team does not see the same ones.
    """
    stage_params = adopt_size_and_scale(session.stage_params, session.initial)
    session = replace(session, stage_params=stage_params)
    fingerprint, num_rows = session.run.fingerprint, len(session.rows.train)
    if len(set(session.team.gather(fingerprint))) > 1:
        raise UserError(
            "the processes of this run see different params, manifests or shards; the project must "
            "be one folder for all"
        )
    text = "%s %s: run %s, %d train rows"
    logger.info(text, session.stage, session.teacher, fingerprint[:16], num_rows)
    return session

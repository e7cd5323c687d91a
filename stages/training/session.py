"""One training run on one machine: what is known of it before anything is learnt."""

import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from stages.computing.device import choose_device, choose_dtype
from stages.computing.team import Team
from stages.config import Machine, Preprocess, Stage
from stages.config import Teacher as Recipe
from stages.loading.loader import choose_workers
from stages.runtime.errors import UserError
from stages.training.assembly import Faces
from stages.training.pace import Stopwatch
from stages.training.run import Run, open_run, recipe_version, shard_hashes
from stages.training.selection import Rows, choose_rows
from stages.training.start import Start, find_start, passed_through

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folders:
    """Where a run finds its images, its rows and the weights to start from."""

    standardized: Path
    manifests: Path
    models: Path


@dataclass(frozen=True)
class Session:
    """One run on this machine: its rows, its recipe, where its images lie, and who trains it.

    `stopwatch` runs from the end of the preflight on.
    """

    run: Run
    start: Start
    rows: Rows
    section: Stage
    preprocess: Preprocess
    recipe: Recipe
    seed: int
    machine: Machine
    folders: Folders
    team: Team
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    @cached_property
    def device(self) -> torch.device:
        """Where the model lives."""
        return choose_device(self.machine.device)

    @cached_property
    def dtype(self) -> torch.dtype:
        """Of autocast; float32 is none."""
        return choose_dtype(self.machine.precision, self.device)

    @cached_property
    def faces(self) -> Faces:
        """The way from rows to batches."""
        return Faces(
            self.folders.standardized,
            section=self.section,
            preprocess=self.preprocess,
            seed=self.seed,
            workers=choose_workers(self.machine.workers, device=self.device, team=self.team),
            device=self.device,
            team=self.team,
        )


def open_session(
    stage: str,
    *,
    teacher: str,
    section: Stage,
    recipe: Recipe,
    preprocess: Preprocess,
    seed: int,
    machine: Machine,
    folders: Folders,
    team: Team,
) -> Session:
    """Choose the rows, find the first weights, and so know which run it is; nothing is written.

    Raises:
        UserError: if rows, classes or weights are missing, or a team does not see the same ones.
    """
    start = find_start(folders.models, section=section, recipe=recipe, teacher=teacher)
    section = passed_through(section, start)
    rows = choose_rows(folders.manifests, rows=section.filter, key=f"{stage}.filter")
    shards = shard_hashes(folders.standardized)
    run = open_run(
        stage,
        teacher=teacher,
        version=recipe_version(section),
        # Exactly what dvc.yaml lists as params of the stage.
        params={"seed": seed, "preprocess": preprocess, stage: section, "teacher": recipe},
        data={"manifest": rows.manifest_sha256, "rows": rows.sha256()} | shards,
        init_sha256=start.sha256(),
    )
    if len(set(team.gather(run.fingerprint))) > 1:
        raise UserError(
            "the processes of this run see different params, manifests or shards; the project must "
            "be one folder for all"
        )
    logger.info(
        "%s %s: run %s, %d train rows", stage, teacher, run.fingerprint[:16], len(rows.train)
    )
    return Session(
        run, start, rows, section, preprocess, recipe, seed, machine, folders=folders, team=team
    )

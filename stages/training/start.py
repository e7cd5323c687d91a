"""Where a new run takes its first weights from. Going on with an old run is resuming."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from stages.config import Stage
from stages.config import Teacher as Recipe
from stages.modeling.card import StartedFrom, read_card
from stages.modeling.teacher import Teacher, build_teacher
from stages.modeling.weights import WEIGHTS_FILE, load_state
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file
from stages.runtime.seed import derive_seed
from stages.runtime.watched import check_watched


@dataclass(frozen=True)
class Start:
    """A published teacher's weights, a backbone's weights, or (both None) random numbers."""

    published: Path | None
    backbone: Path | None

    def sha256(self) -> str:
        """Of the file that the run starts from; empty when there is none."""
        file = self.published or self.backbone
        return "" if file is None else sha256_file(file)

    def started_from(self) -> StartedFrom | None:
        """The published teacher that the weights come from; None for any other start."""
        if self.published is None:
            return None
        card = read_card(self.published.parent)
        return StartedFrom(stage=card.stage, weights_sha256=self.sha256())

    def seen(self, ids: pd.Series) -> np.ndarray:
        """(len(ids),) bool: which rows the published weights have learnt from already."""
        if self.published is None:
            return np.zeros(len(ids), dtype=bool)
        logits = pd.read_parquet(self.published.parent / "logits.parquet", columns=["id", "seen"])
        return ids.isin(logits["id"][logits["seen"]]).to_numpy()


def find_start(models: Path, *, section: Stage, recipe: Recipe, teacher: str) -> Start:
    """The files that a run of `teacher` starts from.

    Raises:
        UserError: if a file that is named does not exist, or is not watched by DVC; nothing starts
            from scratch instead.
    """
    if section.init_from is None:
        if recipe.weights is None:
            return Start(None, None)
        backbone, key = Path(recipe.weights), f"teachers.{teacher}.weights"
        if not backbone.is_file():
            raise UserError(f"params.yaml: {key}: no file {recipe.weights}")
        instead = "copy the file, or link it alone"
        check_watched(backbone, dep=Path("weights"), files=[backbone], key=key, instead=instead)
        return Start(None, backbone)
    published = models / section.init_from / teacher / WEIGHTS_FILE
    if not published.is_file():
        raise UserError(
            f"{published.as_posix()}: missing, and init_from is {section.init_from}; "
            f"run `dvc repro {section.init_from}@{teacher}` first"
        )
    return Start(published, None)


def passed_through(section: Stage, start: Start) -> Stage:
    """The section as it is used: with 0 epochs, size and scale are those of the weights too."""
    if section.epochs or start.published is None:
        return section
    card = read_card(start.published.parent)
    arcface = section.arcface.model_copy(update={"scale": card.scale})
    return section.model_copy(update={"image_size": card.image_size, "arcface": arcface})


def build_model(
    start: Start, *, section: Stage, recipe: Recipe, teacher: str, seed: int
) -> Teacher:
    """The teacher with its first weights; what is random comes from (seed, teacher)."""
    torch.manual_seed(derive_seed(seed, "weights", teacher))
    if start.published is not None:
        # Every weight comes from the published file: nothing to fetch or to read before it.
        recipe = recipe.model_copy(update={"pretrained": False, "weights": None})
    model = build_teacher(
        recipe,
        image_size=section.image_size,
        scale=section.arcface.scale,
        key=f"teachers.{teacher}",
    )
    if start.published is not None:
        load_state(model, start.published)
    return model

"""The project that `benchmarks.gpu_checks` trains: one source of drawn faces, one teacher, RN18.

Its doors are the pipeline's own. Methods work in the current folder, which must be the project.
"""

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import chdir, redirect_stderr
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from torch import nn

from benchmarks.loader import write_faces
from benchmarks.scratch import ROOT
from stages import manifest, train
from stages.config import load_params, read_yaml
from stages.loading.augmentation import NO_AUGMENTATION
from stages.loading.dataset import FaceDataset, Unfinished
from stages.loading.finishing import Finish
from stages.loading.loader import TrainLoader, training_batches
from stages.loading.sampler import Draw
from stages.modeling.predict import predict
from stages.records.schema import targets_of
from stages.runtime.files import read_json
from stages.runtime.signals import StopRequest
from stages.training.assembly import build_loop, build_model
from stages.training.progress import Progress
from stages.training.session import Session

CPU = torch.device("cpu")
PUBLISHED = Path("models", "stageA", "RN18")
_TRAIN = ("stages.train", "stageA", "RN18")
_EPOCHS, _COMPARED_FACES = 4, 32


@dataclass(frozen=True)
class Project:
    """A project below `folder`; what runs in a process of its own ends at the deadline."""

    folder: Path
    device: torch.device
    deadline: float
    tiny: bool

    @cached_property
    def made(self) -> Path:
        """The project with its faces and its manifest."""
        self.folder.mkdir()
        write_faces(self.folder, 140 if self.tiny else 448, size=self.image_px)
        with chdir(self.folder):
            self.write()
            assert manifest.main([]) == 0, "the manifest stage failed"  # noqa: S101 - an invariant
        return self.folder

    @cached_property
    def published(self) -> Path:
        """The project with a teacher of Stage A."""
        with chdir(self.made):
            if not PUBLISHED.is_dir():
                self.write()
                assert train.main(["stageA", "RN18"]) == 0, "stageA failed"  # noqa: S101
        return self.folder

    @property
    def image_px(self) -> int:
        """Side of the faces and of the teacher's input."""
        return 32 if self.tiny else 224

    def write(self, **changes: dict[str, Any]) -> None:
        """Write params.yaml: recipes/two_stage.yaml for this project, and changes of sections."""
        params = read_yaml(ROOT / "recipes" / "two_stage.yaml")
        teacher = params["teachers"]["RN18"] | {"pretrained": False}
        if self.tiny:
            teacher |= {"backbone": "test_resnet", "embedding_size": 16}
        params["teachers"] = {"RN18": teacher}
        params["standardize"]["sources"] = {"faces": {"format": "folder7", "path": "faces"}}
        view = {"splits": ["val"]}
        params["manifest"] |= {"source_groups": {}, "views": {"faces_val": view}}
        for stage in ("stageA", "stageB"):
            params[stage]["filter"] |= {
                "include_sources": ["faces"],
                "exclude_sources": [],
                "min_native_px": 0,
            }
            params[stage] |= {
                "image_size": self.image_px,
                "epochs": _EPOCHS,
                "batch_size": 8 if self.tiny else 16,
                "warmup_epochs": 1,
                "ema_decay": 0.9,
            }
        params["stageB"]["epochs"] = 0
        params["calibrate"] |= {"teachers": ["RN18"], "weights": {"RN18": 1.0}}
        params["calibrate"]["bootstrap_samples"] = 50
        params["export"] |= {"variants": [], "soft_labels_view": "faces_val"}
        params["machine"] |= {"device": self.device.type, "compile": False}
        for section, values in changes.items():
            params[section] |= values
        text = yaml.safe_dump(params, default_flow_style=False, sort_keys=False)
        Path("params.yaml").write_text(text, encoding="utf-8")

    def session(self, device: torch.device, **machine: Any) -> Session:
        """Return Stage A's run on a device, with other values of `machine`."""
        params = load_params()
        stage_params, preprocess = params.effective("stageA", "RN18")
        return Session(
            "stageA",
            "RN18",
            stage_params=stage_params,
            teacher_params=params.teachers["RN18"],
            preprocess=preprocess,
            seed=params.seed,
            machine=params.machine.model_copy(update=machine),
            device=device,
        )

    def levels(self, *, augmented: bool) -> float:
        """Return by how many grey levels the device's pixels differ from the host's, on average."""
        session = self.session(self.device)
        rows = session.rows.train
        augmentation = session.stage_params.augmentation if augmented else NO_AUGMENTATION
        dataset = FaceDataset(
            session.store,
            positions=session.store.locate(rows["id"].tolist()),
            targets=targets_of(rows),
            image_size=self.image_px,
            preprocess=session.preprocess,
            augmentation=augmentation,
            seed=session.seed,
        )
        draws = [Draw(0, number, number) for number in range(_COMPARED_FACES)]
        host = dataset[draws]["image"]
        finish = Finish(session.preprocess, device=self.device)
        found = finish(Unfinished(dataset)[draws])["image"].cpu()
        std = torch.tensor(session.preprocess.std)[:, None, None]
        return round(float(((found - host).abs() * std * 255).mean()), 6)

    def losses(self, session: Session, *, num_steps: int) -> list[float]:
        """Take steps of a new run, and return the mean loss of each; none is kept."""
        model = build_model(session)
        loop = build_loop(
            session,
            model,
            _batches(session, workers=0),
            evaluate=lambda _: {},
            folder=Path(),
            stop=StopRequest(),
        )
        progress, losses = Progress(), []
        for _ in islice(loop.steps(progress), num_steps):
            loop.settle(progress)
            losses.append(progress.loss_sum / progress.images)
            progress.clear_sums()
        return losses

    def faces_shown(self, start_batch: int) -> list[list[int]]:
        """List the rows in each batch of the first epoch from `start_batch` on, by a worker."""
        batches = _batches(self.session(self.device), workers=1)
        return [b["index"].tolist() for b in batches.epoch(0, start_batch=start_batch)]

    def train(self) -> tuple[int, str]:
        """Train in a process of its own; return the exit code and what it logs."""
        left = max(1.0, self.deadline - time.monotonic())
        done = subprocess.run(
            [sys.executable, "-m", *_TRAIN],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=left,
            check=False,
        )
        return done.returncode, done.stderr

    def kill_training(self, *, after: int) -> int:
        """Begin to train in a process of its own, kill it after so many steps; return how many."""
        with Path("killed.log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *_TRAIN], env=_environment(), stderr=log
            )
            try:
                while (step := _steps_kept()) < after:
                    if process.poll() is not None or time.monotonic() > self.deadline:
                        text = Path("killed.log").read_text(encoding="utf-8")
                        raise RuntimeError(f"step {step} of {after}, and then:\n{text}")
                    time.sleep(0.005)
            finally:
                process.kill()
                process.wait()
        return _steps_kept()


def score(
    session: Session, model: nn.Module, rows: pd.DataFrame, *, dtype: torch.dtype
) -> np.ndarray:
    """Predict the logits (N, 7) of rows on the session's device, and move the model back."""
    batches = session.scoring_batches(rows, workers=0)
    model.to(session.device)
    logits = predict(model, batches, finish=batches.finish, device=session.device, dtype=dtype)
    model.to("cpu")
    return logits


def run_door(door: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> tuple[int, str]:
    """Run a door in this process; return its exit code and its error message."""
    with redirect_stderr(io.StringIO()) as text:
        code = door(arguments)
    return code, text.getvalue()


def _batches(session: Session, *, workers: int) -> TrainLoader:
    return training_batches(
        session.store,
        session.rows.train,
        stage_params=session.stage_params,
        preprocess=session.preprocess,
        seed=session.seed,
        workers=workers,
        device=session.device,
    )


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def _steps_kept() -> int:
    """Return how many steps the newest checkpoint of a run has; 0 if there is none yet."""
    kept = [read_json(path)["step"] for path in Path(".work").glob("stageA/RN18/*/status.json")]
    return max(kept, default=0)

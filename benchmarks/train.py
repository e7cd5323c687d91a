"""`python -m benchmarks.train`: what the training loop adds to the bare step, side by side.

The loop is the pipeline's own: batches from shards, steps, losses read and counted; what a
checkpoint every ten minutes costs is added. The bare step is plain torch on one ready batch on the
device: forward, loss, backward, clipping, AdamW and the average of the weights, and once more
without the last two (`plain`). All have the same model, batch size, precision and threads, and take
turns in one run. On a CPU: RN18 at 64 px from faces of 48 px (as FERPlus has them) and at 112 px
from faces of 112 px. On a GPU: RN18 at 224 and B3 at 384 px, and what whole runs would take.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks.command import Figures, as_lines
from benchmarks.loader import write_faces
from benchmarks.machine import describe_machine
from stages.computing.device import be_fast, choose_device, choose_dtype, describe_device
from stages.computing.heap import keep_freed_memory
from stages.computing.team import ALONE
from stages.config import CLASSES, Params, Stage, load_params
from stages.loading.loader import choose_workers
from stages.modeling.predict import predict
from stages.modeling.teacher import Teacher, build_teacher
from stages.records.schema import targets_of
from stages.runtime.signals import StopRequest
from stages.training.assembly import Faces, build_machinery, build_plan
from stages.training.checkpoint import save_checkpoint
from stages.training.engine import Engine
from stages.training.memory import peak_gpu_bytes, reset_peak
from stages.training.progress import Progress
from stages.training.staffing import staff

RECIPES = Path(__file__).parents[1] / "recipes"
ROUNDS = 9
# Drawn once; an epoch shows them as often as it needs.
MAX_PICTURES = 4096
CHECKPOINT_MINUTES = 10


@dataclass(frozen=True)
class Whole:
    """A whole run that the rates are projected to: `val_rows` are scored after each epoch."""

    epochs: int
    rows: int
    val_rows: int


@dataclass(frozen=True)
class Setting:
    """A teacher of a recipe at a size; an epoch of the benchmark has `num_batches`."""

    recipe: str
    stage: str
    teacher: str
    image_px: int
    face_px: int
    num_batches: int
    whole: Whole | None = None

    @property
    def name(self) -> str:
        """As `RN18_64`."""
        return f"{self.teacher}_{self.image_px}"


SETTINGS = {
    "cpu": (
        Setting("ferplus", "stageA", "RN18", image_px=64, face_px=48, num_batches=12),
        Setting("ferplus", "stageA", "RN18", image_px=112, face_px=112, num_batches=6),
    ),
    "cuda": (
        Setting(
            "two_stage", "stageA", "RN18", image_px=224, face_px=224, num_batches=400,
            whole=Whole(epochs=60, rows=182_960, val_rows=18_296),
        ),
        Setting(
            "two_stage", "stageB", "B3", image_px=384, face_px=384, num_batches=100,
            whole=Whole(epochs=1, rows=258_370, val_rows=0),
        ),
    ),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print, return the exit code."""
    about = "Time the training loop against the bare step."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=about)
    parser.add_argument("--device", default="auto", metavar="D", help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="of the turns")
    parser.add_argument("--only", metavar="NAME", help="one setting, such as RN18_64")
    parser.add_argument("--json", action="store_true", help="the figures alone, on one line")
    arguments = parser.parse_args(argv)
    device = choose_device(arguments.device)
    be_fast()
    keep_freed_memory()
    settings = [s for s in SETTINGS[device.type] if arguments.only in (None, s.name)]
    figures = {s.name: measure(s, device=device, rounds=arguments.rounds) for s in settings}
    if arguments.json:
        print(json.dumps(figures, allow_nan=False))
    else:
        about_torch = {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "device": describe_device(device),
        }
        machine = describe_machine() | about_torch
        print("\n".join(as_lines({"train": figures, "machine": machine})))
    return 0


def measure(setting: Setting, *, device: torch.device, rounds: int) -> Figures:
    """Rates of the loop and of the bare step, their ratio, and what whole runs would take."""
    params = load_params(RECIPES / f"{setting.recipe}.yaml")
    section = params.stage(setting.stage).model_copy(update={"image_size": setting.image_px})
    with tempfile.TemporaryDirectory() as name:
        rows = _write_rows(Path(name), setting, section=section)
        engine = _build_engine(Path(name), rows, params, section, setting=setting, device=device)
        reset_peak(device)
        _take_epoch(engine, 0)
        peak = peak_gpu_bytes(device)
        figures = _compare(engine, section, rounds=rounds)
        if setting.whole is not None:
            scoring_img_s = _scoring_img_s(engine)
            figures |= _projected(setting.whole, figures["loop_img_s"], scoring_img_s)
            figures |= {"scoring_img_s": round(scoring_img_s, 1)}
            figures |= {"peak_gpu_gib": None if peak is None else round(peak / 2**30, 2)}
    return figures


class BareStep:
    """Plain torch on one ready batch, with a model and an optimizer of its own."""

    def __init__(self, engine: Engine, section: Stage, *, with_extras: bool) -> None:
        machinery = engine.machinery
        self._dtype, self._device = machinery.dtype, machinery.device
        self._model = copy.deepcopy(machinery.model)
        self._loss, self._max_norm = machinery.loss, section.max_grad_norm
        is_fused = self._device.type == "cuda"
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-3, fused=is_fused)
        self._average = copy.deepcopy(machinery.weights()) if with_extras else None
        batch = next(iter(engine.batches.epoch(0, start_batch=0)))
        self._batch = {name: part.clone() for name, part in engine.finish(batch).items()}

    @property
    def batch_size(self) -> int:
        """Images of a step."""
        return len(self._batch["target"])

    def take(self, number: int) -> None:
        """Take so many steps."""
        for _ in range(number):
            self._optimizer.zero_grad(set_to_none=True)
            with torch.autocast(
                self._device.type, self._dtype, enabled=self._dtype != torch.float32
            ):
                embedding = self._model.embed(self._batch["image"])
                logits = self._model.head.training_logits(
                    embedding, self._batch["target"], margin_rad=0.1
                )
            self._loss(logits, self._batch["target"]).backward()
            if self._average is not None:
                nn.utils.clip_grad_norm_(self._model.parameters(), self._max_norm)
            self._optimizer.step()
            if self._average is not None:
                _average(self._average, self._model)


def _average(average: nn.Module, model: nn.Module) -> None:
    with torch.no_grad():
        kept, new = ([p.detach() for p in m.parameters()] for m in (average, model))
        torch._foreach_lerp_(kept, new, 0.01)
        for old, value in zip(average.buffers(), model.buffers(), strict=True):
            old.copy_(value)


def _compare(engine: Engine, section: Stage, *, rounds: int) -> Figures:
    """The loop and the bare steps in turns; a turn is an epoch, or as many steps."""
    bare, plain = (
        BareStep(engine, section, with_extras=with_extras) for with_extras in (True, False)
    )
    ways: dict[str, Callable[[int], None]] = {
        "loop": partial(_take_epoch, engine),
        "bare": lambda _: bare.take(engine.num_batches),
        "plain": lambda _: plain.take(engine.num_batches),
    }
    images = dict.fromkeys(ways, bare.batch_size * engine.num_batches)
    images["loop"] = sum(engine.batches.sizes)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            seconds[name].append(_seconds(partial(way, turn), device=engine.machinery.device))
    # The first turn warms up.
    measured = {name: taken[1:] for name, taken in seconds.items()}
    figures = _figures(measured, images=images, checkpoint_s=_checkpoint_s(engine))
    return figures | {"batch": bare.batch_size, "precision": str(engine.machinery.dtype)}


def _take_epoch(engine: Engine, epoch: int) -> None:
    for _ in engine.steps(Progress(epoch=epoch)):
        pass


def _seconds(work: Callable[[], None], *, device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _figures(
    seconds: dict[str, list[float]], *, images: dict[str, int], checkpoint_s: float
) -> Figures:
    """Medians over the rounds; a ratio is that of neighbours in time."""
    rates = {name: [images[name] / s for s in taken] for name, taken in seconds.items()}
    rates["loop"] = [r / (1 + checkpoint_s / (60 * CHECKPOINT_MINUTES)) for r in rates["loop"]]
    figures: Figures = {}
    for name in ("bare", "plain"):
        ratios = sorted(ours / bare for ours, bare in zip(rates["loop"], rates[name], strict=True))
        figures[f"of_{name}_step"] = round(statistics.median(ratios), 4)
        figures[f"of_{name}_step_spread"] = [round(ratios[0], 4), round(ratios[-1], 4)]
    for name, values in rates.items():
        figures[f"{name}_img_s"] = round(statistics.median(values), 1)
    return figures | {"rounds": len(rates["loop"]), "checkpoint_s": round(checkpoint_s, 3)}


def _projected(whole: Whole, loop_img_s: float, scoring_img_s: float) -> Figures:
    seconds = whole.epochs * (whole.rows / loop_img_s + whole.val_rows / scoring_img_s)
    about = f"{whole.epochs} x ({whole.rows} rows trained, {whole.val_rows} scored)"
    return {"projected": about, "projected_s": round(seconds, 1)}


def _scoring_img_s(engine: Engine) -> float:
    machinery = engine.machinery
    batches = engine.batches.epoch(0, start_batch=0)
    start = time.perf_counter()
    logits = predict(
        machinery.weights(),
        batches,
        finish=engine.finish,
        device=machinery.device,
        dtype=machinery.dtype,
    )
    return len(logits) / (time.perf_counter() - start)


def _checkpoint_s(engine: Engine) -> float:
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        state = engine.machinery.state() | {"progress": asdict(Progress())}
        save_checkpoint(engine.folder, state)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _write_rows(folder: Path, setting: Setting, *, section: Stage) -> pd.DataFrame:
    """Shards of faces, and rows that show them until an epoch is full."""
    num_rows = setting.num_batches * section.batch_size
    number = min(num_rows, MAX_PICTURES)
    write_faces(folder, number, size=setting.face_px)
    ids = [f"faces/{n % number:06d}" for n in range(num_rows)]
    labels = [CLASSES[n % number % len(CLASSES)] for n in range(num_rows)]
    return pd.DataFrame({"id": ids, "label": labels})


def _build_engine(
    folder: Path,
    rows: pd.DataFrame,
    params: Params,
    section: Stage,
    *,
    setting: Setting,
    device: torch.device,
) -> Engine:
    torch.manual_seed(0)
    recipe = params.teachers[setting.teacher].model_copy(update={"pretrained": False})
    model: Teacher = build_teacher(
        recipe, image_size=section.image_size, scale=section.arcface.scale, key="teachers"
    )
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    dtype = choose_dtype(params.machine.precision, device)
    faces = Faces(
        folder / "standardized",
        section=section,
        preprocess=params.preprocess,
        seed=params.seed,
        workers=choose_workers(params.machine.workers, device=device),
        device=device,
        team=ALONE,
    )
    staff(faces, rows, model=model, device=device, dtype=dtype)
    batches = faces.to_train_on(rows)
    machinery = build_machinery(
        model,
        section=section,
        recipe=recipe,
        counts=np.bincount(targets_of(rows), minlength=len(CLASSES)),
        device=device,
        dtype=dtype,
        team=ALONE,
    )
    plan = build_plan(
        section,
        recipe=recipe,
        seed=params.seed,
        num_batches=len(batches.sizes),
        checkpoint_minutes=CHECKPOINT_MINUTES,
    )
    return Engine(
        machinery,
        plan,
        batches,
        finish=batches.finish,
        evaluate=lambda _: {},
        folder=folder,
        stop=StopRequest(),
    )


if __name__ == "__main__":
    raise SystemExit(main())

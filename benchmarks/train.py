"""`python -m benchmarks.train`: what the training loop adds to the bare step, side by side.

The loop is the pipeline's own: batches from shards, steps, losses read and counted; what a
checkpoint every ten minutes costs is added. The bare step is plain torch on one ready batch on the
device: forward, loss, backward, clipping, AdamW and the average of the weights, and once more
without the last two (`plain`). All have the same model, batch size, precision and threads, and take
turns in one run. On a CPU: RN18 at 64 px from faces of 48 px (as FERPlus has them) and at 112 px
from faces of 112 px. On a GPU: RN18 at 224 and B3 at 384 px, and what whole runs would take.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from benchmarks.bare_step import BareStep
from benchmarks.command import Figures, seconds_of, show
from benchmarks.loader import write_faces
from stages.computing.device import (
    be_fast,
    choose_device,
    choose_dtype,
    describe_device,
    keep_freed_memory,
    peak_gpu_bytes,
    reset_peak,
)
from stages.config import CLASSES, load_params
from stages.faces.store import FaceStore
from stages.loading.loader import choose_workers, scoring_batches, training_batches
from stages.modeling.predict import predict
from stages.modeling.teacher import Teacher, build_teacher
from stages.runtime.signals import StopRequest
from stages.training.assembly import build_loop
from stages.training.checkpoint import save_checkpoint
from stages.training.loop import Loop
from stages.training.progress import Progress
from stages.training.session import Session
from stages.training.tuning import count_workers

RECIPES = Path(__file__).parents[1] / "recipes"
ROUNDS = 9
CHECKPOINT_MINUTES = 10


@dataclass(frozen=True)
class Whole:
    """A whole run that the rates are projected to: `val_rows` are scored after each epoch."""

    epochs: int
    rows: int
    val_rows: int


@dataclass(frozen=True)
class Setting:
    """A teacher of a recipe at a size; an epoch of the benchmark has `num_batches`.

    An epoch shows `num_pictures` as often as it needs. None leaves the recipe's backbone and batch.
    """

    recipe: str
    stage: str
    teacher: str
    image_px: int
    face_px: int
    num_batches: int
    whole: Whole | None = None
    num_pictures: int = 4096
    backbone: str | None = None
    batch_size: int | None = None

    @property
    def name(self) -> str:
        """As `RN18_64`."""
        return f"{self.teacher}_{self.image_px}"


_CPU = partial(Setting, "two_stage", "stageA", "RN18", num_pictures=768)
STAGE_A = Whole(epochs=60, rows=182_960, val_rows=18_296)
STAGE_B_EPOCH = Whole(epochs=1, rows=258_370, val_rows=0)
SETTINGS = {
    "cpu": (
        _CPU(image_px=64, face_px=48, num_batches=12),
        _CPU(image_px=112, face_px=112, num_batches=6),
    ),
    "cuda": (
        Setting("two_stage", "stageA", "RN18", 224, 224, num_batches=400, whole=STAGE_A),
        Setting("two_stage", "stageB", "B3", 384, 384, num_batches=100, whole=STAGE_B_EPOCH),
    ),
}


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
    show(
        "train",
        figures,
        as_json=arguments.json,
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        device=describe_device(device),
    )
    return 0


def measure(setting: Setting, *, device: torch.device, rounds: int) -> Figures:
    """Draw faces and measure as `measure_drawn`."""
    with tempfile.TemporaryDirectory() as name:
        write_faces(Path(name), setting.num_pictures, size=setting.face_px)
        return measure_drawn(Path(name), setting, device=device, rounds=rounds)


def measure_drawn(folder: Path, setting: Setting, *, device: torch.device, rounds: int) -> Figures:
    """Rates of the loop and of the bare step, their ratio, and what whole runs would take.

    `folder` holds the setting's faces, as `write_faces` leaves them.
    """
    loop, workers = build_drawn(folder, setting, device=device)
    reset_peak(device)
    take_epoch(loop, 0)
    peak = peak_gpu_bytes(device)
    figures = _compare(loop, rounds=rounds) | {"workers": workers}
    if (whole := setting.whole) is not None:
        scoring_img_s = _scoring_img_s(loop)
        epoch_s = whole.rows / figures["loop_img_s"] + whole.val_rows / scoring_img_s
        scope = f"{whole.epochs} x ({whole.rows} rows trained, {whole.val_rows} scored)"
        figures |= {
            "projected": scope,
            "projected_s": round(whole.epochs * epoch_s, 1),
            "scoring_img_s": round(scoring_img_s, 1),
            "peak_gpu_gib": None if peak is None else round(peak / 2**30, 2),
        }
    return figures


def take_epoch(loop: Loop, epoch: int) -> Progress:
    """Take the steps of an epoch, and return what they took."""
    progress = Progress(epoch=epoch)
    for _ in loop.steps(progress):
        pass
    return progress


def _compare(loop: Loop, *, rounds: int) -> Figures:
    """The loop and the bare steps in turns; a turn is an epoch, or as many steps."""
    bare, plain = (BareStep(loop, with_extras=with_extras) for with_extras in (True, False))
    waits: list[float] = []

    def take_turn(turn: int) -> None:
        progress = take_epoch(loop, turn)
        waits.append(progress.wait_seconds / progress.seconds)

    ways: dict[str, Callable[[int], None]] = {
        "loop": take_turn,
        "bare": lambda _: bare.take(loop.num_batches),
        "plain": lambda _: plain.take(loop.num_batches),
    }
    images = dict.fromkeys(ways, bare.batch_size * loop.num_batches)
    images["loop"] = sum(loop.batches.sizes)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            seconds[name].append(_seconds(partial(way, turn), device=loop.step.device))
    # The first turn warms up.
    measured = {name: taken[1:] for name, taken in seconds.items()}
    figures = _figures(measured, images=images, checkpoint_s=_checkpoint_s(loop))
    wait = {"data_wait_share": round(statistics.median(waits[1:]), 4)}
    return figures | wait | {"batch": bare.batch_size, "precision": str(loop.step.dtype)}


def _seconds(work: Callable[[], None], *, device: torch.device) -> float:
    def whole() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return seconds_of(whole)


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


def _scoring_img_s(loop: Loop) -> float:
    step, batches = loop.step, loop.batches.epoch(0, start_batch=0)
    finish, device = loop.batches.finish, step.device
    start = time.perf_counter()
    logits = predict(step.weights(), batches, finish=finish, device=device, dtype=step.dtype)
    return len(logits) / (time.perf_counter() - start)


def _checkpoint_s(loop: Loop) -> float:
    def save() -> None:
        save_checkpoint(loop.folder, loop.step.state() | {"progress": asdict(Progress())})

    return statistics.median(seconds_of(save) for _ in range(3))


def build_drawn(folder: Path, setting: Setting, *, device: torch.device) -> tuple[Loop, int]:
    """Build the loop over faces that `write_faces` has drawn in `folder`, and count its workers."""
    torch.manual_seed(0)
    params = load_params(RECIPES / f"{setting.recipe}.yaml")
    stage_params, preprocess = params.effective(setting.stage, setting.teacher)
    batch_size = setting.batch_size or stage_params.batch_size
    stage_params = stage_params.model_copy(
        update={"image_size": setting.image_px, "batch_size": batch_size}
    )
    teacher_params = params.teachers[setting.teacher]
    teacher_params = teacher_params.model_copy(
        update={"pretrained": False, "backbone": setting.backbone or teacher_params.backbone}
    )
    num_rows, number = setting.num_batches * batch_size, setting.num_pictures
    ids = [f"faces/{n % number:06d}" for n in range(num_rows)]
    labels = [CLASSES[n % number % len(CLASSES)] for n in range(num_rows)]
    rows = pd.DataFrame({"id": ids, "label": labels})
    model: Teacher = build_teacher(
        teacher_params,
        image_size=stage_params.image_size,
        scale=stage_params.arcface.scale,
        key="teachers",
    )
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    dtype = choose_dtype(params.machine.precision, device)
    store = FaceStore(folder / "standardized")
    workers = choose_workers(params.machine.workers, device=device)
    if workers > 1:
        size = stage_params.image_size
        trial = scoring_batches(
            store, rows, image_size=size, preprocess=preprocess, workers=0, device=device
        )
        workers = count_workers(trial, model, most=workers, device=device, dtype=dtype)
    batches = training_batches(
        store,
        rows,
        stage_params=stage_params,
        preprocess=preprocess,
        seed=params.seed,
        workers=workers,
        device=device,
    )
    session = Session(
        setting.stage,
        setting.teacher,
        stage_params=stage_params,
        teacher_params=teacher_params,
        preprocess=preprocess,
        seed=params.seed,
        machine=params.machine.model_copy(update={"checkpoint_minutes": CHECKPOINT_MINUTES}),
        device=device,
    )
    loop = build_loop(
        session, model, batches, evaluate=lambda _: {}, folder=folder, stop=StopRequest()
    )
    return loop, workers


if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m benchmarks.export`: how fast ONNX files are beside torch eager, side by side.

A teacher with random weights is exported as the export stage does it, with all variants; files and
torch are then called in turns on two cores, at batch sizes 1 and 32.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.command import Figures, show
from stages import config
from stages.calibrating.calibration import Calibration
from stages.exporting.checks import measure_latency
from stages.exporting.export_files import BATCHES
from stages.exporting.onnx_file import (
    VARIANTS,
    CalibratedModel,
    to_onnx,
    write_onnx,
    write_variant,
)
from stages.modeling.teacher import build_teacher
from stages.scoring.temperature import NO_BIAS

_OPSET = 18


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print, return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.export",
        description="Time an exported teacher against torch eager, in turns.",
    )
    parser.add_argument(
        "--backbone", default="resnet18", metavar="NAME", help="timm's, default %(default)s"
    )
    parser.add_argument(
        "--size", type=int, default=224, metavar="PX", help="of images, default %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="the figures alone, on one line")
    arguments = parser.parse_args(argv)
    figures = measure(arguments.backbone, size=arguments.size)
    show("export", figures, as_json=arguments.json, torch=torch.__version__)
    return 0


def measure(backbone: str, *, size: int) -> Figures:
    """Milliseconds, images a second, and each file's share of torch's time."""
    torch.manual_seed(0)
    section = config.TeacherParams(
        backbone=backbone,
        embedding_size=512,
        dropout=0.0,
        pretrained=False,
        backbone_options={},
        weights=None,
        optimizer="adamw",
        learning_rate_scale=1.0,
        head_learning_rate_scale=1.0,
        layer_decay=1.0,
        stageA=config.StageOverrides(),
        stageB=config.StageOverrides(),
    )
    teacher = build_teacher(section, image_size=size, scale=30.0, key="teachers.benchmark")
    calibration = Calibration((1.0,), (NO_BIAS,), 1.5, val_shares=(1 / 7,) * 7)
    model = CalibratedModel([teacher], calibration=calibration).eval()
    with tempfile.TemporaryDirectory() as name:
        files = _export(Path(name), model, size=size)
        latency = measure_latency(files, model, torch.randn(max(BATCHES), 3, size, size))
        sizes = {name: round(path.stat().st_size / 1e6, 1) for name, path in files.items()}
    shares = {
        f"{name}_batch_{batch}": round(
            latency.milliseconds[f"{name}_batch_{batch}"]
            / latency.milliseconds[f"torch_batch_{batch}"],
            3,
        )
        for name in files
        for batch in BATCHES
    }
    about = {"backbone": backbone, "image_px": size, "megabytes": sizes}
    times = {"latency_ms": latency.milliseconds, "images_per_s": latency.images_per_s}
    repeats = {f"repeats_batch_{batch}": count for batch, count in latency.repeats.items()}
    return about | {"of_torchs_time": shares} | times | {"threads": latency.threads} | repeats


def _export(folder: Path, model: CalibratedModel, *, size: int) -> dict[str, Path]:
    proto = to_onnx(model, image_size=size, opset=_OPSET)
    full = folder / "teacher.onnx"
    write_onnx(full, proto, metadata={})
    variants = {name: write_variant(name, proto, full=full, metadata={}) for name in VARIANTS}
    return {"onnx": full} | variants


if __name__ == "__main__":
    raise SystemExit(main())

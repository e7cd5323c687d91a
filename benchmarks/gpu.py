"""`python -m benchmarks.gpu --out DIR`: does this GPU compute what a CPU does, and how fast?

Faces are drawn in a temporary folder; nothing of the project is read but its code, its recipes and
a trained teacher if `models/` has one. DVC is not needed. `gpu.json` and `gpu.md` in DIR are
written anew after each part, so a run that is cut keeps what it has. A part that fails is recorded
with its error and the next one runs; a part that does not fit into `--minutes` is named and left
out. `--tiny` is a rehearsal with small networks and pictures, for a CPU.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.command import Finding
    from benchmarks.gpu_checks import Checks
    from benchmarks.gpu_speed import Speed

# What the parts import, beside DVC; the last line is for the part `export`.
NEEDED = (
    *("torch", "torchvision", "timm", "safetensors", "numpy", "scipy", "sklearn", "pandas"),
    *("pandera", "pyarrow", "pydantic", "ruamel.yaml", "yaml", "cv2", "PIL", "simplejpeg"),
    *("filelock", "psutil", "threadpoolctl", "tqdm", "matplotlib"),
    *("onnx", "onnxscript", "onnxruntime"),
)
MINUTES = 8.0
# A tiny part takes about this share of the seconds on a GPU.
_TINY_SHARE = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """A part of the check: what it proves, about how many seconds a GPU takes, and its work."""

    name: str
    proves: str
    seconds: float
    run: "Callable[[], Finding]"


@dataclass
class Report:
    """`gpu.json` and `gpu.md` in a folder: both are whole after every `add`."""

    out: Path
    about: dict[str, Any]
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, **result: Any) -> None:
        """Add the result of a part, and write both files."""
        from stages.runtime.files import write_json, write_text

        self.parts[name] = result
        write_json(self.out / "gpu.json", {"about": self.about, "parts": self.parts})
        write_text(self.out / "gpu.md", "\n".join(self._lines()) + "\n")

    @property
    def is_good(self) -> bool:
        """Whether no part failed and every claim holds."""
        return all(
            p["status"] != "failed" and all(p["holds"].values()) for p in self.parts.values()
        )

    def _lines(self) -> list[str]:
        about = ", ".join(f"{name} {value}" for name, value in self.about.items())
        lines = ["# Check of a GPU", "", about, "", "| part | what it proves | result | s |"]
        lines.append("|---|---|---|---|")
        for name, part in self.parts.items():
            wrong = [claim for claim, holds in part["holds"].items() if not holds]
            result = "holds" if part["holds"] else "measured"
            if part["status"] != "done":
                result = part["status"]
            elif wrong:
                result = "does not hold: " + "; ".join(wrong)
            lines.append(f"| {name} | {part['proves']} | {result} | {part['seconds']} |")
        for name, part in self.parts.items():
            lines += ["", f"## {name}", ""]
            lines += [
                f"- {'holds' if h else 'DOES NOT HOLD'}: {c}" for c, h in part["holds"].items()
            ]
            lines += [f"- {key}: {value}" for key, value in part["figures"].items()]
            lines += [f"- error: {part['error']}"] if part["error"] else []
        return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run the parts; 1 if one failed, 2 if a package or GPU is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the report")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="default %(default)s")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--tiny", action="store_true", help="small networks, small pictures")
    arguments = parser.parse_args(argv)
    if missing := [name for name in NEEDED if not _is_installed(name)]:
        print(f"error: not installed: {', '.join(missing)}", file=sys.stderr)
        return 2
    from stages.runtime.errors import UserError

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        report = check(
            arguments.out.resolve(),
            device=arguments.device,
            deadline=time.monotonic() + 60 * arguments.minutes,
            tiny=arguments.tiny,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print((report.out / "gpu.md").read_text(encoding="utf-8"))
    return 0 if report.is_good else 1


def check(out: Path, *, device: str, deadline: float, tiny: bool) -> Report:
    """Draw the faces, then run all parts that fit before the deadline, in order of their value."""
    from benchmarks.gpu_checks import Checks
    from benchmarks.gpu_project import Project
    from benchmarks.gpu_speed import Speed
    from benchmarks.machine import describe_machine
    from stages.computing.device import be_fast, choose_device, describe_device
    from stages.runtime.machine import environment

    used, known = choose_device(device), environment()
    about = describe_machine() | {"device": describe_device(used), "tiny": tiny}
    about |= {"torch": known["packages"]["torch"]}
    about |= {name: known[name] for name in ("cuda", "cudnn", "driver", "commit")}
    out.mkdir(parents=True, exist_ok=True)
    report = Report(out, about)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        be_fast()
        project = Project(Path(name, "project"), device=used, deadline=deadline, tiny=tiny)
        checks, speed = Checks(project, used), Speed(Path(name), device=used, tiny=tiny)
        run_parts(plan(checks, speed), report, deadline=deadline, share=_TINY_SHARE if tiny else 1)
    return report


def plan(checks: "Checks", speed: "Speed") -> list[Part]:
    """List the parts, the most valuable first."""
    return [
        Part("device", "the device says what the CPU says", 40, checks.compare_devices),
        Part("rates_RN18", "the loop keeps up with the bare step: RN18", 50, speed.rates_rn18),
        Part("rates_B3", "the loop keeps up with the bare step: B3", 80, speed.rates_b3),
        Part("compile_RN18", "what torch.compile gains: RN18", 60, speed.compile_rn18),
        Part("batches_RN18", "what a larger batch gains: RN18", 30, speed.batches_rn18),
        Part("resume", "a run that is killed ends in the same bits", 100, checks.resume),
        Part("faults", "fp16, bad losses and full memory end well", 40, checks.meet_faults),
        Part("scoring", "published logits are float32", 30, checks.score),
        Part("export", "the exported file says what torch says", 60, checks.export),
        Part("batches_B3", "what a larger batch gains: B3", 60, speed.batches_b3),
        Part("compile_B3", "what torch.compile gains: B3", 120, speed.compile_b3),
    ]


def run_parts(parts: Sequence[Part], report: Report, *, deadline: float, share: float = 1) -> None:
    """Run each part that should end before the deadline, and add its result to the report."""
    empty: dict[str, Any] = {"holds": {}, "figures": {}, "error": None, "seconds": 0.0}
    for part in parts:
        result = empty | {"proves": part.proves}
        left = deadline - time.monotonic()
        if left < share * part.seconds:
            logger.warning("%s: skipped, %.0f s are left", part.name, max(left, 0))
            report.add(part.name, status="skipped", **result)
            continue
        logger.info("%s: %s?", part.name, part.proves)
        start = time.monotonic()
        try:
            finding = part.run()
            # JSON has no NaN, which a broken device may give: it becomes text.
            figures = json.loads(json.dumps(finding.figures), parse_constant=str)
            result |= {"status": "done", "holds": finding.holds, "figures": figures}
        # Any error: it is recorded, and the next part is of use without this one.
        except Exception as error:
            logger.exception("%s failed", part.name)
            result |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        result |= {"seconds": round(time.monotonic() - start, 1)}
        report.add(part.name, **result)
        _free_memory()


def _free_memory() -> None:
    """Let go of a part's models, of its worker processes and of a GPU's memory."""
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    raise SystemExit(main())

"""The parts of `benchmarks.gpu` about truth: what a device computes, and how runs on it end."""

import shutil
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.command import Finding
from benchmarks.gpu_project import CPU, PUBLISHED, Project, run_door, score
from benchmarks.scratch import ROOT, differences, hash_published
from stages import calibrate, export, train
from stages.computing.device import choose_dtype, without_tf32
from stages.modeling.teacher import load_teacher
from stages.records.folder import LOGIT_COLUMNS
from stages.runtime.errors import UserError
from stages.runtime.files import read_json
from stages.training.assembly import build_model

KILL_AFTER_STEPS = 20
GOES_ON = "a killed run goes on from its checkpoint"
MAX_LEVELS, MAX_LOSS_DIFFERENCE, MAX_LOGIT_DIFFERENCE = 1.0, 1e-3, 5e-3
# Of a GPU: they do not hold a training step of ResNet18.
_TOO_FEW_BYTES = 300 << 20
_STEPS, _FP16_STEPS, _COMPARED_ROWS = 2, 20, 64


@dataclass(frozen=True)
class Checks:
    """Checks of a device by a small project."""

    project: Project
    device: torch.device

    def compare_devices(self) -> Finding:
        """Compare pixels, losses and logits of the device with those of the CPU."""
        project, trained = self.project, ROOT / PUBLISHED
        with chdir(project.made), without_tf32():
            levels = {
                "as_they_are": project.levels(augmented=False),
                "varied": project.levels(augmented=True),
            }
            sessions = [project.session(each, precision="fp32") for each in (CPU, self.device)]
            losses = [project.losses(each, num_steps=_STEPS) for each in sessions]
            teacher = load_teacher(trained)[0] if trained.is_dir() else build_model(sessions[0])
            rows = sessions[0].rows.scored[:_COMPARED_ROWS]
            on_cpu, found = (score(each, teacher, rows, dtype=torch.float32) for each in sessions)
        of_losses, of_logits = (
            float(np.abs(np.subtract(one, other)).max()) for one, other in (losses, (on_cpu, found))
        )
        return Finding(
            {
                f"pixels differ by at most {MAX_LEVELS} grey level on average": (
                    max(levels.values()) <= MAX_LEVELS
                ),
                f"losses differ by at most {MAX_LOSS_DIFFERENCE}": of_losses <= MAX_LOSS_DIFFERENCE,
                f"logits differ by at most {MAX_LOGIT_DIFFERENCE}": (
                    of_logits <= MAX_LOGIT_DIFFERENCE
                ),
            },
            {
                "mean_levels": levels,
                "losses": dict(zip(("cpu", "device"), losses, strict=True)),
                "largest_loss_difference": of_losses,
                "largest_logit_difference": of_logits,
                "label_changes": int((found.argmax(1) != on_cpu.argmax(1)).sum()),
                "logits_of": "a trained teacher" if trained.is_dir() else "a teacher with a seed",
            },
        )

    def resume(self) -> Finding:
        """Kill a run that must be the same bits each time, go on, compare with an undisturbed one.

        Also compare the faces of an epoch that is begun anew at the batch of the kill.
        """
        with chdir(self.project.made):
            self.project.write(machine={"deterministic": True, "checkpoint_minutes": 1e-4})
            killed_at = self.project.kill_training(after=KILL_AFTER_STEPS)
            code, text = self.project.train()
            if code or "resuming at epoch" not in text:
                return Finding({GOES_ON: False}, {"killed_at_step": killed_at, "says": text})
            resumed = hash_published(Path())
            shutil.rmtree("models")
            shutil.rmtree(".work")
            undisturbed_code, _ = self.project.train()
            different = differences(resumed, hash_published(Path()))
            order = self.project.faces_shown(0)
            start = killed_at % len(order)
            rest = self.project.faces_shown(start)
        return Finding(
            {
                GOES_ON: True,
                "the same faces follow in the same order": order[start:] == rest,
                "the same bits are published": undisturbed_code == 0 and not different,
            },
            {
                "killed_at_step": killed_at,
                "files_compared": len(resumed),
                "different": different,
            },
        )

    def meet_faults(self) -> Finding:
        """Train in float16, with a loss that is not finite and, on a GPU, without enough memory."""
        holds, figures = {}, dict[str, Any]()
        with chdir(self.project.made):
            self.project.write()
            if self.device.type == "cpu":
                try:
                    choose_dtype("fp16", CPU)
                except UserError as error:
                    figures["fp16"] = str(error)
                holds["fp16 without a GPU is refused"] = "needs a GPU" in figures.get("fp16", "")
            else:
                session = self.project.session(self.device, precision="fp16")
                # A loss that is not finite raises.
                losses = self.project.losses(session, num_steps=_FP16_STEPS)
                figures["fp16_losses"] = [losses[0], losses[-1]]
                holds["losses in fp16 are finite"] = bool(np.isfinite(losses).all())
            self.project.write(stageA={"learning_rate": 1e30})
            code, figures["bad_loss"] = run_door(train.main, ["stageA", "RN18"])
            holds["a loss that is not finite says what to look at"] = code == 2 and all(
                words in figures["bad_loss"]
                for words in ("at learning rate", "a lower stageA.learning_rate", "faces (also in")
            )
            if self.device.type == "cuda":
                # Another run than the one that is done.
                self.project.write(stageA={"batch_size": 32})
                code, figures["memory"] = self._run_without_memory()
                holds["full memory says what to change"] = code == 2 and all(
                    words in figures["memory"] for words in ("do not fit the GPU", "a smaller")
                )
            self.project.write()
        return Finding(holds, figures)

    def score(self) -> Finding:
        """Compare published logits with a CPU's in float32, and autocast with float32."""
        project = self.project
        with chdir(project.published):
            session, (teacher, _) = project.session(self.device), load_teacher(PUBLISHED)
            rows = session.rows.scored
            table = pd.read_parquet(PUBLISHED / "logits.parquet").set_index("id").loc[rows["id"]]
            on_cpu = score(project.session(CPU), teacher, rows, dtype=torch.float32)
            full = score(session, teacher, rows, dtype=torch.float32)
            auto = choose_dtype("auto", self.device)
            low = torch.bfloat16 if auto == torch.float32 else auto
            rough = score(session, teacher, rows, dtype=low)
        of_published = float(np.abs(table[list(LOGIT_COLUMNS)].to_numpy() - on_cpu).max())
        return Finding(
            {
                f"published logits are a CPU's in float32, to {MAX_LOGIT_DIFFERENCE}": (
                    of_published <= MAX_LOGIT_DIFFERENCE
                )
            },
            {
                "rows": len(rows),
                "trained_in": str(session.dtype),
                "published_from_cpu": of_published,
                "float32_from_cpu": float(np.abs(full - on_cpu).max()),
                "autocast_in": str(low),
                "autocast_from_float32": float(np.abs(rough - full).max()),
                "autocast_label_changes": int((rough.argmax(1) != full.argmax(1)).sum()),
            },
        )

    def export(self) -> Finding:
        """Run the doors from Stage B to the exported file, which check its parity themselves."""
        doors = {"stageB": train.main, "calibrate": calibrate.main, "export": export.main}
        with chdir(self.project.published):
            for name, door in doors.items():
                code, text = run_door(door, ["stageB", "RN18"] if name == "stageB" else [])
                if code:
                    return Finding({f"{name} ends well": False}, {"exit_code": code, "says": text})
            parity = read_json(Path("models", "export", "parity.json"))["models"]["RN18"]
        return Finding({"stageB, calibrate and export end well": True}, parity["parity"])

    def _run_without_memory(self) -> tuple[int, str]:
        """Train with too little of the GPU's memory; return exit code and error message."""
        torch.cuda.empty_cache()
        allowed = torch.cuda.memory_reserved(self.device) + _TOO_FEW_BYTES
        total = torch.cuda.get_device_properties(self.device).total_memory
        torch.cuda.set_per_process_memory_fraction(allowed / total)
        try:
            return run_door(train.main, ["stageA", "RN18"])
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)

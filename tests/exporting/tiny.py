"""Tiny teachers with random weights, as stand-ins and as published ones."""

from pathlib import Path

import torch

from stages import config
from stages.config import CLASSES
from stages.modeling.teacher import Teacher, build_teacher
from stages.modeling.weights import TeacherCard, save_teacher
from stages.runtime.files import read_json, write_json

SIZE = 32
# Networks that timm has for tests.
BACKBONES = {"RN18": "test_resnet", "B3": "test_efficientnet"}


def make_teacher(name: str = "RN18", *, seed: int) -> Teacher:
    """A teacher with random weights and, in its batch norms, statistics of its own."""
    torch.manual_seed(seed)
    section = config.Teacher(backbone=BACKBONES[name], embedding_size=16)
    teacher = build_teacher(section, image_size=SIZE, scale=30.0, key=f"teachers.{name}")
    teacher.train()(torch.randn(64, 3, SIZE, SIZE))
    return teacher.eval()


def make_card(teacher: str = "RN18", **changes: object) -> TeacherCard:
    values: dict[str, object] = {
        "teacher": teacher,
        "stage": "stageB",
        "backbone": BACKBONES[teacher],
        "embedding_size": 16,
        "dropout": 0.0,
        "scale": 30.0,
        "classes": CLASSES,
        "image_size": SIZE,
        "preprocess": {
            "clahe": {"clip_limit": 2.0, "tiles": 8},
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
        "epoch": 3,
        "metric": {},
        "fingerprint": "f" * 64,
        "manifest_sha256": "a" * 64,
        "recipe_version": 1,
        "weights_sha256": "b" * 64,
    }
    return TeacherCard(**{**values, **changes})  # type: ignore[arg-type]


def save_tiny_teacher(
    models: Path, name: str, *, seed: int, manifest_sha256: str = "a" * 64
) -> TeacherCard:
    """Publish a teacher in models/stageB/<name>."""
    card = make_card(name, manifest_sha256=manifest_sha256)
    return save_teacher(models / "stageB" / name, make_teacher(name, seed=seed), card)


def write_calibration(models: Path, cards: dict[str, TeacherCard]) -> None:
    """calibration.json in the form that the calibrate door writes."""
    stage = {
        "teachers": {
            name: fitted(1.3 + number) | {"weights_sha256": card.weights_sha256}
            for number, (name, card) in enumerate(cards.items())
        },
        "fused": {
            "fixed": fused(1.6, RN18=0.7, B3=0.3),
            "searched": fused(1.9, RN18=1.0, B3=0.0),
            "fixed_logits": fused(1.2, RN18=0.7, B3=0.3)
            | {"space": "logits", "class_bias": [0.3, -0.2, 0.1, 0.0, -0.1, -0.2, 0.1]},
        },
    }
    found = {
        "stage": "stageB",
        "stage_asked": "auto",
        "verdict": "stageB: its gain is real",
        "fusion": "fixed",
        "manifest_sha256": next(iter(cards.values())).manifest_sha256,
        "stages": {"stageB": stage},
    }
    write_json(models / "calibrated" / "calibration.json", found)


def choose_fusion(models: Path, fusion: str) -> None:
    """Have calibration.json name another fusion."""
    path = models / "calibrated" / "calibration.json"
    write_json(path, read_json(path) | {"fusion": fusion})


def fitted(temperature: float) -> dict[str, object]:
    return {
        "temperature": temperature, "temperature_95": [temperature - 0.1, temperature + 0.1],
        "temperature_no_fit": None, "class_bias": [0.0] * 7, "votes_temperature": None,
        "votes_temperature_no_fit": None, "fitted_rows": 30,
    }  # fmt: skip


def fused(temperature: float, **weights: float) -> dict[str, object]:
    return fitted(temperature) | {"weights": weights, "space": "probabilities"}

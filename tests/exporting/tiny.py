"""Tiny teachers with random weights, as stand-ins and as published ones."""

from pathlib import Path
from typing import Any

import torch
from shipped import shipped
from small_faces import small_face, write_faces

from stages import config
from stages.calibrating.calibration import Calibration
from stages.calibrating.calibration_file import RefinementChoice
from stages.config import CLASSES
from stages.exporting.metadata import describe, describe_face
from stages.modeling.card import TeacherCard
from stages.modeling.teacher import Teacher, build_teacher, save_teacher

SIZE = 32
PRIORS = {
    "RN18": (0.5, -1.0, 0.25, 0.0, 0.0, 0.0, 0.125),
    "B3": (-0.25, 0.0, 0.75, 0.0, -0.5, 0.0, 0.0),
}
SHARES = (0.1, 0.05, 0.05, 0.6, 0.05, 0.05, 0.1)
BIAS = (0.5, -0.5, 0.25, 0.0, 0.0, -0.25, 0.0)
CALIBRATION = Calibration((1.0,), (PRIORS["RN18"],), 1.7, SHARES, class_bias=BIAS, exponent=0.5)
REFINEMENT = RefinementChoice(
    taken="bias", reason="asked", prior_exponent=None, prior_exponent_95=None
)
CLAHE = {"clip_limit": 2.0, "tiles": 8}
# Networks that timm has for tests.
BACKBONES = {"RN18": "test_resnet", "B3": "test_efficientnet"}


def make_teacher(name: str = "RN18", *, seed: int) -> Teacher:
    """A teacher with random weights and, in its batch norms, statistics of its own."""
    torch.manual_seed(seed)
    section = shipped(config.TeacherParams, backbone=BACKBONES[name], embedding_size=16)
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
        "preprocess": {"clahe": CLAHE, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        "targets": "majority",
        "filter": config.Filter(),
        "started_from": None,
        "prior_correction": PRIORS[teacher],
        "epoch": 3,
        "metric": {},
        "fingerprint": "f" * 64,
        "manifest_sha256": "a" * 64,
        "training_version": 1,
        "weights_sha256": "b" * 64,
    }
    return TeacherCard(**{**values, **changes})  # type: ignore[arg-type]


def save_tiny_teacher(models: Path, name: str, *, seed: int, **changes: object) -> TeacherCard:
    """Publish a teacher in models/<stage>/<name>."""
    card = make_card(name, **changes)
    return save_teacher(models / card.stage / name, make_teacher(name, seed=seed), card)


def describe_tiny(folder: Path, *, crop: str) -> dict[str, Any]:
    """The metadata of a tiny teacher that learnt from one whole face and one that was cut."""
    write_faces(folder / "a", [small_face("a/1")])
    write_faces(folder / "b", [small_face("b/1", crop=crop)])
    face = describe_face(folder, margin=0.3, max_side_px=100)
    return describe([make_card()], CALIBRATION, refinement=REFINEMENT, face=face, opset=18)

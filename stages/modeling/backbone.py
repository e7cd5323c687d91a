"""timm backbones without a classifier, fresh or with weights from elsewhere."""

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg, is_model, is_model_pretrained
from torch import Tensor, nn

from stages import config
from stages.modeling.weights_file import read_state
from stages.runtime.errors import UserError

_LISTED = 5


def build_backbone(
    teacher_params: config.Teacher, *, image_size: int, key: str
) -> tuple[nn.Module, int]:
    """Build a backbone for square images, pooled as timm does, and count its features.

    Raises:
        UserError: for an unknown name, a size that it cannot take, or weights that are missing or
            do not fit.
    """
    _check_name(teacher_params, key=key)
    backbone = _create(teacher_params, image_size=image_size, key=key)
    if teacher_params.weights is not None:
        _load_weights(backbone, Path(teacher_params.weights), key=f"params.yaml: {key}.weights")
    return backbone, _num_features(
        backbone, teacher_params.backbone, image_size=image_size, key=key
    )


def fitted(backbone: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert a backbone's state to this one's: timm's names, positions for its image size.

    timm keeps this conversion beside each architecture, where it needs one.
    """
    convert = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    converted: dict[str, Tensor] = state if convert is None else convert(state, backbone)
    return converted


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load a state that has exactly the module's tensors.

    Raises:
        UserError: naming `source` and the first tensors that are missing, unknown or misshapen.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    differing = {
        "missing": sorted(expected.keys() - given.keys()),
        "unknown": sorted(given.keys() - expected.keys()),
        "misshapen": [
            f"{name} (expected {expected[name]}, got {given[name]})"
            for name in sorted(expected.keys() & given.keys())
            if expected[name] != given[name]
        ],
    }
    problems = [
        f"{len(names)} {title}: {', '.join(names[:_LISTED])}{', ...' if names[_LISTED:] else ''}"
        for title, names in differing.items()
        if names
    ]
    if problems:
        raise UserError(f"{source}: does not fit: {'; '.join(problems)}")
    module.load_state_dict(state)


def _check_name(teacher_params: config.Teacher, *, key: str) -> None:
    name = teacher_params.backbone
    # A tag, as in `resnet18.a1_in1k`, names weights; timm takes any for the name of a model.
    if not is_model(name) or ("." in name and not is_model_pretrained(name)):
        known = timm.list_pretrained() if "." in name else timm.list_models()
        near = difflib.get_close_matches(name, known, n=3)
        meant = f"; did you mean one of {near}?" if near else ""
        raise UserError(f"params.yaml: {key}.backbone: timm has no model {name!r}{meant}")
    if teacher_params.pretrained and not is_model_pretrained(name):
        raise UserError(f"params.yaml: {key}.pretrained: timm has no weights for {name!r}")


def _create(teacher_params: config.Teacher, *, image_size: int, key: str) -> nn.Module:
    defaults = get_pretrained_cfg(teacher_params.backbone)
    takes_size = defaults is not None and defaults.fixed_input_size
    size: dict[str, Any] = {"img_size": image_size} if takes_size else {}
    try:
        backbone: nn.Module = timm.create_model(
            teacher_params.backbone, pretrained=teacher_params.pretrained, num_classes=0, **size
        )
    except OSError as error:  # any failure of the download
        raise UserError(
            f"params.yaml: {key}.pretrained: weights of {teacher_params.backbone!r} could not be "
            f"fetched ({type(error).__name__}); fetch them elsewhere, name the file in "
            f"{key}.weights and set pretrained to false"
        ) from None
    return backbone


def _load_weights(backbone: nn.Module, path: Path, *, key: str) -> None:
    if not path.is_file():
        raise UserError(f"{key}: expected a weights file, found none at {path.as_posix()}")
    source = f"{key}: {path.name}"
    state = fitted(backbone, read_state(path, source=source))
    defaults: Any = backbone.pretrained_cfg
    names = defaults["classifier"]
    classifiers = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    without = {name: part for name, part in state.items() if not name.startswith(classifiers)}
    load_strictly(backbone, without, source=source)


@torch.no_grad()
def _num_features(backbone: nn.Module, name: str, *, image_size: int, key: str) -> int:
    """Count features by a trial, which also shows that the architecture takes the image size."""
    try:
        features = backbone.eval()(torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"params.yaml: {key}.backbone: {name!r} does not take {image_size} px images: {reason}"
        ) from None
    backbone.train()
    return int(features.shape[1])

"""timm backbones without a classifier, fresh or with weights from elsewhere."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg, is_model, is_model_pretrained
from torch import Tensor, nn

from stages import config
from stages.modeling.weights_file import read_state
from stages.runtime.errors import UserError, did_you_mean

_LISTED = 5


def build_backbone(section: config.Teacher, *, image_size: int, key: str) -> tuple[nn.Module, int]:
    """A backbone for square images, pooled as timm does for it, and the length of its features.

    Raises:
        UserError: for an unknown name, a size that it cannot take, or weights that are missing or
            do not fit.
    """
    _check_name(section, key=key)
    backbone = _create(section, image_size=image_size, key=key)
    if section.weights is not None:
        _load_weights(backbone, Path(section.weights), key=f"params.yaml: {key}.weights")
    return backbone, _num_features(backbone, section.backbone, image_size=image_size, key=key)


def fitted(backbone: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A backbone's state as this one takes it: timm's names, positions for its image size.

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
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    problems = [
        _listing("missing", sorted(expected.keys() - found.keys())),
        _listing("unknown", sorted(found.keys() - expected.keys())),
        _listing("misshapen", (
            f"{name} (expected {expected[name]}, got {found[name]})"
            for name in sorted(expected.keys() & found.keys()) if expected[name] != found[name]
        )),
    ]  # fmt: skip
    if any(problems):
        raise UserError(f"{source}: does not fit: " + "; ".join(p for p in problems if p))
    module.load_state_dict(state)


def _listing(title: str, names: Iterable[str]) -> str:
    names = list(names)
    more = ", ..." if len(names) > _LISTED else ""
    return f"{len(names)} {title}: {', '.join(names[:_LISTED])}{more}" if names else ""


def _check_name(section: config.Teacher, *, key: str) -> None:
    name = section.backbone
    # A tag, as in `resnet18.a1_in1k`, names weights; timm takes any for the name of a model.
    if not is_model(name) or ("." in name and not is_model_pretrained(name)):
        known = timm.list_pretrained() if "." in name else timm.list_models()
        hint = did_you_mean(name, known, most=3)
        message = f"params.yaml: {key}.backbone: timm has no model {name!r}"
        raise UserError(f"{message}; {hint}" if hint else message)
    if section.pretrained and not is_model_pretrained(name):
        raise UserError(f"params.yaml: {key}.pretrained: timm has no weights for {name!r}")


def _create(section: config.Teacher, *, image_size: int, key: str) -> nn.Module:
    defaults = get_pretrained_cfg(section.backbone)
    takes_size = defaults is not None and defaults.fixed_input_size
    size: dict[str, Any] = {"img_size": image_size} if takes_size else {}
    try:
        backbone: nn.Module = timm.create_model(
            section.backbone, pretrained=section.pretrained, num_classes=0, **size
        )
    except OSError as error:  # whatever keeps the download from coming
        raise UserError(
            f"params.yaml: {key}.pretrained: weights of {section.backbone!r} could not be fetched "
            f"({type(error).__name__}); fetch them elsewhere, name the file in {key}.weights "
            "and set pretrained to false"
        ) from None
    return backbone


def _load_weights(backbone: nn.Module, path: Path, *, key: str) -> None:
    if not path.is_file():
        raise UserError(f"{key}: expected a weights file, found none at {path.as_posix()}")
    source = f"{key}: {path.name}"
    state = read_state(path, source=source)
    load_strictly(backbone, _without_classifier(backbone, fitted(backbone, state)), source=source)


def _without_classifier(backbone: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    defaults: Any = backbone.pretrained_cfg
    names = defaults["classifier"]
    prefixes = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}


@torch.no_grad()
def _num_features(backbone: nn.Module, name: str, *, image_size: int, key: str) -> int:
    """Found by a trial, which also shows that the architecture takes the image size."""
    try:
        features = backbone.eval()(torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"params.yaml: {key}.backbone: {name!r} does not take {image_size} px images: {reason}"
        ) from None
    backbone.train()
    return int(features.shape[1])

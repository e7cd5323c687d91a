"""timm backbones without a classifier, fresh or with weights from any trainer's file.

Of a file the tensors by their names are read, or it is said what the file is instead.
"""

import argparse
import copy
import pickle
import re
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import clean_state_dict, get_pretrained_cfg, is_model, is_model_pretrained
from torch import Tensor, nn

from stages import config
from stages.runtime.errors import UserError, did_you_mean
from stages.runtime.foreign import SAFETENSORS, TORCH, describe_file, is_safetensors

_WANTED = "expected a state_dict, tensors by their names, as safetensors or by torch.save"
# Where checkpoints keep a state_dict, in the order in which timm looks for one.
_PLACES = ("state_dict_ema", "model_ema", "state_dict", "model")
# How a file of torch.save begins: as a zip, or before torch 1.6 with a magic number.
_TORCH_STARTS = (b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.")
# Errors that torch raises for such a file if it is torn or something else.
_TORN = (
    *(RuntimeError, EOFError, struct.error, LookupError, ValueError, AssertionError, TypeError),
    *(AttributeError, pickle.UnpicklingError),
)
# Errors that timm's factories and networks raise for options and sizes that they do not take.
_REFUSALS = (
    *(RuntimeError, AssertionError, TypeError, ValueError, LookupError, AttributeError),
    ArithmeticError,
)
_LISTED = 5


def build_backbone(
    teacher_params: config.TeacherParams, *, image_size: int, key: str
) -> tuple[nn.Module, int]:
    """Build a backbone for square images, pooled as timm does, and count its features.

    Raises:
        UserError: for an unknown name, options that it refuses, a size that it cannot take, or
            weights that are missing or do not fit.
    """
    _check_name(teacher_params, key=key)
    backbone = _create(teacher_params, image_size=image_size, key=key)
    if teacher_params.weights is not None:
        _load_weights(backbone, Path(teacher_params.weights), key=f"params.yaml: {key}.weights")
    return backbone, _num_features(backbone, teacher_params, image_size=image_size, key=key)


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


def read_state(path: Path, *, source: str) -> dict[str, Tensor]:
    """Read the state_dict in a file of weights or a checkpoint, without running its code.

    Raises:
        UserError: naming `source`, what the file is and what is wanted.
    """
    found = _read_file(path, source=source)
    place = next((p for p in _PLACES if isinstance(found, dict) and found.get(p) is not None), None)
    state = found if place is None else found[place]
    if not _is_state(state):
        raise UserError(f"{source}: {_WANTED}; got {_content(found)}")
    cleaned: dict[str, Tensor] = clean_state_dict(state)
    return cleaned


def _check_name(teacher_params: config.TeacherParams, *, key: str) -> None:
    name = teacher_params.backbone
    # A tag, as in `resnet18.a1_in1k`, names weights; timm takes any for the name of a model.
    if not is_model(name) or ("." in name and not is_model_pretrained(name)):
        known = timm.list_pretrained() if "." in name else timm.list_models()
        hint = did_you_mean(name, known, most=3)
        message = f"params.yaml: {key}.backbone: timm has no model {name!r}"
        raise UserError(f"{message}; {hint}" if hint else message)
    if teacher_params.pretrained and not is_model_pretrained(name):
        raise UserError(f"params.yaml: {key}.pretrained: timm has no weights for {name!r}")


def _create(teacher_params: config.TeacherParams, *, image_size: int, key: str) -> nn.Module:
    defaults = get_pretrained_cfg(teacher_params.backbone)
    takes_size = defaults is not None and defaults.fixed_input_size
    options: dict[str, Any] = dict(teacher_params.backbone_options)
    if takes_size:
        options["img_size"] = image_size
    try:
        backbone: nn.Module = timm.create_model(
            teacher_params.backbone,
            pretrained=teacher_params.pretrained,
            num_classes=0,
            **options,
        )
    except OSError as error:  # any failure of the download
        raise UserError(
            f"params.yaml: {key}.pretrained: weights of {teacher_params.backbone!r} could not be "
            f"fetched ({type(error).__name__}); fetch them elsewhere, name the file in "
            f"{key}.weights and set pretrained to false"
        ) from None
    except _REFUSALS as error:
        if not options:
            raise
        raise _refusal(error, teacher_params, image_size=image_size, key=key) from None
    return backbone


def _refusal(
    error: Exception, teacher_params: config.TeacherParams, *, image_size: int, key: str
) -> UserError:
    """Say what timm does not take: an option that its error speaks of, all of them, or the size."""
    name, options = teacher_params.backbone, teacher_params.backbone_options
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if not options:
        return UserError(
            f"params.yaml: {key}.backbone: {name!r} does not take {image_size} px images: {reason}"
        )
    named = [option for option in options if re.search(rf"\b{re.escape(option)}\b", reason)]
    place, found = "backbone_options", dict[str, Any](options)
    if len(suspects := named or list(options)) == 1:
        place, found = f"{place}.{suspects[0]}", found[suspects[0]]
    return UserError(
        f"params.yaml: {key}.{place}: expected what timm's {name!r} takes at {image_size} px, "
        f"found {found!r}: {reason}"
    )


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
def _num_features(
    backbone: nn.Module, teacher_params: config.TeacherParams, *, image_size: int, key: str
) -> int:
    """Count features by a trial, which also shows that the architecture takes the image size.

    Options are tried in training too: a rate above 1 is refused only there.
    """
    images = torch.zeros(2, 3, image_size, image_size)
    try:
        features = backbone.eval()(images[:1])
        if features.ndim != 2:
            raise ValueError(f"features must be (1, F), these are {tuple(features.shape)}")
        if teacher_params.backbone_options:
            with torch.random.fork_rng(devices=[]):
                copy.deepcopy(backbone).train()(images)
    except _REFUSALS as error:
        raise _refusal(error, teacher_params, image_size=image_size, key=key) from None
    backbone.train()
    return int(features.shape[1])


def _read_file(path: Path, *, source: str) -> Any:
    with path.open("rb") as file:
        head = file.read(len(_TORCH_STARTS[1]))
    try:
        if is_safetensors(head):
            return load_file(path)
        if head.startswith(_TORCH_STARTS):
            # Checkpoints of timm's trainer hold the Namespace of its command line. Opened here, for
            # by a path torch would go by its suffix.
            with torch.serialization.safe_globals([argparse.Namespace]), path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, *_TORN) as error:
        what = describe_file(path)
        if found := re.search(r"GLOBAL (\S+) was not an allowed", str(error)):
            what += f" that holds a {found[1]}: reading it could run a stranger's code"
        elif what in (SAFETENSORS, TORCH):
            what += ", damaged"
        raise UserError(f"{source}: {_WANTED}; got {what}") from None
    raise UserError(f"{source}: {_WANTED}; got {describe_file(path)}")


def _is_state(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and content != {}
        and all(isinstance(k, str) and isinstance(part, Tensor) for k, part in content.items())
    )


def _content(found: Any) -> str:
    """Describe a checkpoint that is no state_dict, and where in it one may be."""
    if not isinstance(found, dict):
        return f"a {type(found).__name__}"
    if not found:
        return "an empty checkpoint"
    if "param_groups" in found:
        return "the state of an optimizer; save the model's state_dict"
    names = [str(name) for name in found]
    inside = [name for name, part in found.items() if _is_state(part)]
    hint = f"; its {inside[0]!r} looks like one: save that alone" if inside else ""
    more = ", ..." if len(names) > _LISTED else ""
    return f"a checkpoint of {', '.join(names[:_LISTED])}{more}{hint}"

"""A file of weights from any trainer -> tensors by their names, or what the file is instead."""

import argparse
import pickle
import re
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import clean_state_dict
from torch import Tensor

from stages.runtime.errors import UserError
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
_LISTED = 5


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

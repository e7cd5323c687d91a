"""Weights files that are something else: what it is and what is wanted, and nothing is run."""

import argparse
import contextlib
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from stages.modeling.backbone import read_state
from stages.runtime.errors import UserError
from tests.runtime.test_foreign import LFS, packed

STATE = {"conv.weight": torch.ones(2, 3), "conv.bias": torch.zeros(2)}


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_state(path, source=f"params.yaml: teachers.X.weights: {path.name}")
    return str(caught.value)


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("suffix", ["pth.tar", "safetensors"])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "an empty file"),
        (LFS, "a git-LFS pointer in place of the file; `git lfs pull` fetches it"),
        (b"<!doctype html><html>not found", "a web page, as a download leaves it"),
        (packed("resnet/readme.txt"), "a zip archive of 1 files"),
        (save(STATE)[:-4], "a safetensors file that is cut off after"),
        (save(STATE)[:40], "a safetensors file whose header is cut off or damaged"),
        (pickle.dumps({"conv": np.zeros(3)}), "a pickle of Python objects"),
        (b"not weights at all", "text that begins with 'not weights at all'"),
    ],
)
def test_reported_a_weights_file_that_is_something_else_is_called_what_it_is(
    tmp_path: Path, suffix: str, data: bytes, expected: str
) -> None:
    path = tmp_path / f"resnet18.{suffix}"
    path.write_bytes(data)
    message = refusal(path)
    assert message.startswith(
        f"params.yaml: teachers.X.weights: {path.name}: expected a state_dict, tensors by their "
        f"names, as safetensors or by torch.save; got {expected}"
    )
    assert "weights_only" not in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([torch.zeros(2), torch.zeros(3)], "got a list"),
        (torch.zeros(3), "got a Tensor"),
        ({}, "got an empty checkpoint"),
        (
            torch.optim.AdamW([torch.zeros(2, requires_grad=True)]).state_dict(),
            "got the state of an optimizer; save the model's state_dict",
        ),
        (
            {"epoch": 3, "model_state_dict": STATE, "optimizer": {"state": {}}},
            "got a checkpoint of epoch, model_state_dict, optimizer; its 'model_state_dict' looks like one: save that alone",
        ),
        ({"state_dict": [torch.zeros(2)]}, "got a checkpoint of state_dict"),
        ({n: n for n in "abcdefg"}, "got a checkpoint of a, b, c, d, e, ..."),
        ({0: torch.zeros(2)}, "got a checkpoint of 0"),
        ({"state_dict": {"a": Path("x")}}, "got a file of torch.save that holds a pathlib."),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_reported_a_checkpoint_without_a_state_dict_says_what_it_holds(
    tmp_path: Path, content: Any, expected: str, zipped: bool
) -> None:
    path = saved(tmp_path / "w.pt", content, _use_new_zipfile_serialization=zipped)
    message = refusal(path)
    assert expected in message
    assert "weights_only" not in message


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_reported_torn_files_are_refused_in_words(tmp_path: Path) -> None:
    """torch raises eight kinds of errors for them."""
    draw = random.Random(0)
    for zipped in (True, False):
        whole = saved(tmp_path / "w.pt", STATE, _use_new_zipfile_serialization=zipped).read_bytes()
        for _ in range(100):
            torn = bytearray(whole[: draw.randrange(20, len(whole))])
            torn[draw.randrange(16, len(torn))] = draw.randrange(256)
            (tmp_path / "torn.pt").write_bytes(torn)
            # Where it is still read, the damage is in padding or in a tensor's numbers.
            with contextlib.suppress(UserError):
                read_state(tmp_path / "torn.pt", source="w")


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "args": argparse.Namespace(lr=0.1)},
        {"model": {f"module.{name}": tensor for name, tensor in STATE.items()}},
        {"state_dict": {"a": torch.zeros(1)}, "state_dict_ema": STATE},
    ],
)
def test_a_state_dict_is_found_where_trainers_put_it(tmp_path: Path, content: Any) -> None:
    state = read_state(saved(tmp_path / "w.pt", content), source="w")
    assert state.keys() == STATE.keys()
    assert all(torch.equal(tensor, STATE[name]) for name, tensor in state.items())


def test_a_file_is_read_as_what_it_is_whatever_its_suffix(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "a.pt")
    saved(tmp_path / "b.safetensors", STATE)
    for name in ("a.pt", "b.safetensors"):
        assert read_state(tmp_path / name, source="w").keys() == STATE.keys()

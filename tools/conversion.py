"""Files of a public package -> the state of a timm backbone, without classifier."""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from stages.config import Preprocess
from stages.faces.decode import decode
from stages.faces.model_input import to_model_input
from stages.faces.shards import read_faces
from stages.faces.store import FaceStore
from stages.modeling.backbone import load_strictly
from stages.runtime.errors import UserError
from tools.known_weights import Package

SIZE = 97
MOST_FACES, FEWEST_FACES = 500, 50
MAX_DIFFERENCE = 1e-4
_BATCH = 50
# A channel that is the same in every face has no variance to divide by.
_LEAST_VARIANCE = 1e-6
_DTYPES = {"float16": "<f2", "float32": "<f4", "int32": "<i4"}


def convert_torch(package: Package, files: Mapping[str, bytes]) -> dict[str, Tensor]:
    """Convert a state_dict with other names whose tensors stand in timm's order.

    Raises:
        UserError: if numbers or shapes of the tensors differ from timm's.
    """
    ((name, data),) = files.items()
    state = torch.load(io.BytesIO(data), weights_only=True)
    model: Any = timm.create_model(package.backbone)
    names = list(model.state_dict())
    if len(state) != len(names):
        raise UserError(f"{name}: expected {len(names)} tensors, found {len(state)}")
    load_strictly(model, dict(zip(names, state.values(), strict=True)), source=name)
    model.reset_classifier(0)
    converted: dict[str, Tensor] = model.state_dict()
    return converted


def convert_mobilenet(package: Package, files: Mapping[str, bytes]) -> nn.Module:
    """Convert a TensorFlow.js graph of MobileNetV1 whose batch norms are folded to `x * mul + sub`.

    Its stem takes BGR from 0 to 255 less the mean colour; the converted one takes RGB by the
    package's `mean` and `std`.

    Raises:
        UserError: if a tensor is missing or has another shape.
    """
    source, binary = package.files
    tensors = _tfjs_tensors(json.loads(files[source]), files[binary])
    backbone: nn.Module = timm.create_model(package.backbone, num_classes=0)
    modules = dict(backbone.named_modules())
    convolutions = [(name, m) for name, m in modules.items() if isinstance(m, nn.Conv2d)]
    norms = [(name, m) for name, m in modules.items() if isinstance(m, nn.BatchNorm2d)]
    blocks = range(1, len(convolutions) // 2 + 1)
    layers = ["conv1", *(f"conv_{part}_{block}" for block in blocks for part in ("dw", "pw"))]
    state: dict[str, Tensor] = {}
    try:
        for layer, (name, convolution), (norm_name, norm) in zip(
            layers, convolutions, norms, strict=True
        ):
            if convolution.groups > 1:
                kernel = tensors[f"{layer}/depthwise_kernel"].permute(2, 3, 0, 1)
            else:
                kernel = tensors[f"{layer}/convolution/merged_input"].permute(3, 2, 0, 1)
            if layer == "conv1":
                kernel = kernel.flip(1) * 255 * torch.tensor(package.std)[:, None, None]
            shift = tensors[f"{layer}_bn/batchnorm_1/sub"]
            state |= {
                f"{name}.weight": kernel,
                f"{norm_name}.weight": tensors.get(
                    f"{layer}_bn/batchnorm_1/mul", torch.ones_like(shift)
                ),
                f"{norm_name}.bias": shift,
                f"{norm_name}.running_mean": torch.zeros_like(shift),
                f"{norm_name}.running_var": torch.full_like(shift, 1 - norm.eps),
                f"{norm_name}.num_batches_tracked": torch.tensor(0),
            }
    except KeyError as error:
        raise UserError(f"{source}: expected a MobileNetV1, found no tensor {error}") from None
    load_strictly(backbone, state, source=source)
    return backbone.eval()


def read_images(standardized: Path, package: Package) -> Tensor:
    """Read faces evenly spread over all sources, as float32 (N, 3, 97, 97).

    Raises:
        UserError: if there are too few, or a shard is missing or damaged.
    """
    ids = read_faces(standardized, ["id"])["id"].tolist()
    if len(ids) < FEWEST_FACES:
        found = f"{standardized.name}/: expected at least {FEWEST_FACES} faces, found {len(ids)}"
        raise UserError(f"{found}; run the standardize stage")
    preprocess = Preprocess.model_validate(
        {"clahe": None, "mean": package.mean, "std": package.std}
    )
    places = np.linspace(0, len(ids) - 1, min(len(ids), MOST_FACES)).round().astype(int)
    store = FaceStore(standardized)
    images = store.images(store.locate([ids[place] for place in places]))
    faces = [to_model_input(decode(data), size=SIZE, preprocess=preprocess) for data in images]
    return torch.from_numpy(np.stack(faces))


@torch.inference_mode()
def give_statistics(backbone: nn.Module, images: Tensor) -> float:
    """Give each batch norm the mean and variance that it sees, and keep what evaluation computes.

    Weight and bias take back what the statistics change. Returns the largest difference of a
    feature.

    Raises:
        UserError: if it is above `MAX_DIFFERENCE`.
    """
    norms: list[Any] = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    parts = torch.split(images, _BATCH)
    with _summed(norms) as sums:
        before = torch.cat([backbone(part) for part in parts])
    for norm in norms:
        total, squares, count = sums[norm]
        mean = total / count
        variance = (squares / count - mean**2).clamp_min(_LEAST_VARIANCE)
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        shift = norm.bias - gain * norm.running_mean
        norm.weight.copy_(gain * (variance + norm.eps).sqrt())
        norm.bias.copy_(shift + gain * mean)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
    after = torch.cat([backbone(part) for part in parts])
    difference = float((after - before).abs().max())
    if not difference <= MAX_DIFFERENCE:
        raise UserError(
            f"batch norm's statistics change a feature by {difference:.1e}, expected at most "
            f"{MAX_DIFFERENCE:.0e}; take other faces"
        )
    return difference


@contextmanager
def _summed(norms: list[Any]) -> Iterator[dict[nn.Module, list[Any]]]:
    """Sum the inputs of each batch norm, their squares and their number, a channel each."""
    sums: dict[nn.Module, list[Any]] = {norm: [0, 0, 0] for norm in norms}

    def add(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values, entry = inputs[0].double(), sums[norm]
        entry[0] += values.sum((0, 2, 3))
        entry[1] += values.square().sum((0, 2, 3))
        entry[2] += values.numel() // values.shape[1]

    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()


def _tfjs_tensors(topology: Mapping[str, Any], binary: bytes) -> dict[str, Tensor]:
    """Read the tensors that a TensorFlow.js manifest lists, one after the other, as float32."""
    tensors, start = {}, 0
    (group,) = topology["weightsManifest"]
    for entry in group["weights"]:
        kind = entry.get("quantization", entry)["dtype"]
        dtype, count = np.dtype(_DTYPES[kind]), int(np.prod(entry["shape"]))
        values = np.frombuffer(binary, dtype, count, start).reshape(entry["shape"])
        tensors[entry["name"]] = torch.from_numpy(values.astype(np.float32))
        start += count * dtype.itemsize
    return tensors

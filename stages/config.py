"""params.yaml -> frozen, typed sections.

In: the path of a params file. Out: `Params`, checked whole. Every problem of the file stands in one
`ParamsError`, a line each: `params.yaml: stageA.learing_rate: unknown key; did you mean ...`.
"""

import difflib
import json
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from stages.runtime.errors import UserError

Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
ClassName = Literal["Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral"]
# In the order that holds everywhere.
CLASSES: tuple[str, ...] = get_args(ClassName)
NUM_CLASSES = len(CLASSES)
# What datasets name besides, by its letters: such rows are left out and counted.
NOT_A_CLASS = ("contempt", "contemptuous", "none", "uncertain", "noface", "unknown", "nf")


def letters(name: str) -> str:
    """What of a dataset's name for a class counts: its letters, in lower case."""
    return re.sub(r"[^a-z]", "", name.lower())


def is_not_a_class(name: str) -> bool:
    """Whether a dataset's name means something that is none of the seven, such as contempt."""
    return letters(name) in NOT_A_CLASS


def _meaning(value: Any) -> Any:
    if isinstance(value, str) and (value in CLASSES or is_not_a_class(value)):
        return value
    raise PydanticCustomError(
        "meaning",
        "expected one of {classes}, or Contempt, none, uncertain, no-face, unknown or NF for "
        "what is left out",
        {"classes": ", ".join(CLASSES)},
    )


FolderMeaning = Annotated[str, BeforeValidator(_meaning)]


class ParamsError(UserError):
    """params.yaml is unreadable or holds impossible values; the message has a line per problem."""


class Section(BaseModel):
    """A part of params.yaml: unknown keys are errors, nothing is converted or changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


# --- standardize ---------------------------------------------------------------------------------


class RawDataset(Section):
    """A raw dataset: a path below `raw`, and the `licence` that its user agreed to, in words."""

    path: str
    licence: str | None = None


class FerplusSource(RawDataset):
    """FERPlus, generated folders or the csv pair. val and test always use majority."""

    format: Literal["ferplus"]
    label_rule: Literal["majority", "probability", "multi_target"] = "majority"


class RafdbSource(RawDataset):
    """RAF-DB basic emotions, aligned (or original) pictures with the list of labels."""

    format: Literal["rafdb_basic"]


class RafdbCompoundSource(RawDataset):
    """RAF-DB compound emotions, each mapped to the first emotion of its pair."""

    format: Literal["rafdb_compound_mapped"]


class RafmlSource(RawDataset):
    """RAF-ML: the emotion with the largest share; the shares are kept as votes."""

    format: Literal["rafml_argmax"]


class Fer2013Source(RawDataset):
    """FER2013, the csv or `{train,test}/<class>/*`."""

    format: Literal["fer2013"]


class AffectnetSource(RawDataset):
    """AffectNet with its own label files: training.csv and validation.csv, or .npy annotations."""

    format: Literal["affectnet"]


class AffectnetYoloSource(RawDataset):
    """AffectNet in YOLO form: `data.yaml`, `{train,valid,test}/{images,labels}`."""

    format: Literal["affectnet_yolo"]


class Folder7Source(RawDataset):
    """Any dataset as `{train,val,test}/<class name>/**`, such as AffectNet's Kaggle form.

    `class_folders` says what folders mean that are not named by a class, such as `"0": Angry`, or
    `"7": Contempt`, which is left out.
    """

    format: Literal["folder7"]
    class_folders: dict[str, FolderMeaning] = {}


class ExpwSource(RawDataset):
    """ExpW: photos with `label.lst`; sources `<name>_hq` and `<name>_lq` by confidence."""

    format: Literal["expw"]
    hq_confidence: NotNegative = 60.0


Source = Annotated[
    FerplusSource
    | Fer2013Source
    | RafdbSource
    | RafdbCompoundSource
    | RafmlSource
    | AffectnetSource
    | AffectnetYoloSource
    | Folder7Source
    | ExpwSource,
    Field(discriminator="format"),
]


class Standardize(Section):
    """How raw datasets become faces. `face_detector`: YuNet's ONNX file, a path below `raw`."""

    sources: dict[Name, Source] = Field(min_length=1)
    crop_margin: Annotated[float, Field(ge=0, le=1)] = 0.30
    face_detector: str | None = None
    max_side_px: Annotated[int, Field(ge=48)] = 512
    max_reject_share: Probability = 0.05
    shard_mb: Count = 512


# --- manifest ------------------------------------------------------------------------------------


class Filter(Section):
    """The one grammar by which stages and views choose rows; an empty list of sources means all."""

    include_sources: tuple[Name, ...] = ()
    exclude_sources: tuple[Name, ...] = ()
    min_native_px: Annotated[int, Field(ge=0)] = 0
    min_confidence: NotNegative = 0.0
    max_per_class: Count | None = None


class View(Filter):
    """A named selection of manifest rows. A gate view is scored beside the in-domain numbers."""

    splits: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
    gate: bool = False


class Duplicates(Section):
    """What counts as the same picture twice, and which of its rows leave.

    Pictures are compared as 24 x 24 grey thumbnails, mirrored too. From `near_correlation` on they
    are the same; from `review_correlation` on they are listed for a person to look at.
    """

    policy: Literal["drop_from_train", "keep_one", "report_only"] = "drop_from_train"
    near_correlation: Annotated[float, Field(gt=0.5, le=1)] = 0.93
    review_correlation: Annotated[float, Field(gt=0.5, le=1)] = 0.90


class Manifest(Section):
    """How faces become splits. Shares are carved where a source has no official val or test."""

    val_share: Share = 0.1
    test_share: Share = 0.1
    duplicates: Duplicates = Duplicates()
    source_groups: dict[Name, tuple[Name, ...]] = {}
    views: dict[Name, View] = {}


# --- model input, teachers, training -------------------------------------------------------------


class Clahe(Section):
    """Contrast-limited adaptive histogram equalisation of the luma channel, as OpenCV counts it."""

    clip_limit: Positive = 2.0
    tiles: Count = 8


class Preprocess(Section):
    """What every image goes through before any model, in training and in use alike."""

    clahe: Clahe | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)


class Teacher(Section):
    """A timm backbone with an embedding. `weights`: a file of backbone weights below weights/.

    `learning_rate_scale` multiplies the stage's learning rates for this teacher; weight decay a
    step stays what the stage says.
    """

    backbone: str
    embedding_size: Count = 512
    dropout: Share = 0.0
    pretrained: bool = False
    weights: str | None = None
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate_scale: Positive = 1.0


class Arcface(Section):
    """Additive angular margin: 0 during warm-up epochs, then rising until `ramp_end_epoch`."""

    margin_rad: Annotated[float, Field(ge=0, lt=1.5)] = 0.35
    scale: Positive = 30.0
    warmup_epochs: NotNegative = 5
    ramp_end_epoch: NotNegative = 15


class SamplerFill(Section):
    """At least `min_per_class` of each class in a batch; rare classes are repeated to fill."""

    kind: Literal["sampler_fill"]
    min_per_class: Count


class ClassWeights(Section):
    """Loss weights by the effective number of samples, (1 - beta) / (1 - beta^n)."""

    kind: Literal["class_weights"]
    beta: Annotated[float, Field(gt=0, lt=1)] = 0.999


class LogitAdjustment(Section):
    """`tau * log(prior)` is added to the logits in the training loss."""

    kind: Literal["logit_adjustment"]
    tau: Positive = 1.0


class NoCorrection(Section):
    """The class prior of the training rows is left as it is."""

    kind: Literal["none"]


Prior = Annotated[
    SamplerFill | ClassWeights | LogitAdjustment | NoCorrection, Field(discriminator="kind")
]


class Augmentation(Section):
    """Random crop (share of the area), mirror, and colour jitter (relative strength)."""

    crop_scale: tuple[Positive, Positive] = (0.7, 1.0)
    flip: Probability = 0.5
    brightness: Share = 0.2
    contrast: Share = 0.2
    saturation: Share = 0.2


class Stage(Section):
    """One training stage; the recipe of stageA and of stageB."""

    init_from: Literal["stageA"] | None = None
    filter: Filter = Filter()
    image_size: Annotated[int, Field(ge=32)]
    epochs: Annotated[int, Field(ge=0)]
    batch_size: Count
    accumulate: Count = 1
    learning_rate: Positive
    min_lr: Positive
    weight_decay: NotNegative = 0.05
    warmup_epochs: NotNegative = 2
    max_grad_norm: Positive = 5.0
    label_smoothing: Share = 0.0
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    eval_every: Count = 1
    select_by: Literal["macro_f1", "accuracy", "nll"] = "macro_f1"
    arcface: Arcface = Arcface()
    prior: Prior
    augmentation: Augmentation = Augmentation()


# --- after training ------------------------------------------------------------------------------


class Calibrate(Section):
    """Temperatures, fusion, report. `report: val_crossfit` is for data without a test split.

    `stage: auto` takes stage B only if its gain on val is real. A fusion is of probabilities, or
    `_logits`, with `weights` (fixed) or with those that fit val best (searched).
    """

    stage: Literal["stageA", "stageB", "auto"] = "auto"
    report: Literal["test", "val_crossfit"] = "test"
    bins: Annotated[int, Field(ge=2)] = 15
    folds: Annotated[int, Field(ge=2)] = 5
    bootstrap_samples: Count = 1000
    fusion: Literal["fixed", "searched", "fixed_logits", "searched_logits"] = "fixed"
    weights: dict[Name, Probability]


class Export(Section):
    """ONNX files and soft labels of the calibrated stage.

    Each variant is a second file whose loss of accuracy, on at most `accuracy_rows` rows held out,
    must not be above `max_accuracy_loss`. `distillation_temperature` is for students; it is not
    fitted, and no export has it applied.
    """

    opset: Annotated[int, Field(ge=18)] = 18
    parity_rows: Count = 64
    parity_tolerance: Positive = 1e-4
    variants: tuple[Literal["fp16", "int8"], ...] = ("fp16", "int8")
    accuracy_rows: Count = 500
    max_accuracy_loss: Probability = 0.05
    soft_labels_view: Name
    float32_logits: bool = False
    distillation_temperature: Positive = 2.0


class Machine(Section):
    """What may differ between two machines without a retrain; tracked by no stage."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    # By torch.compile. auto: on a GPU where it is measured to be faster; true: or the run stops.
    compile: bool | Literal["auto"] = "auto"
    # That train one model together, one on each GPU; torchrun starts those of several machines.
    processes: Annotated[int, Field(ge=1)] = 1
    # The same bits on every run on the same GPUs, for some speed. A CPU gives them anyway.
    deterministic: bool = False
    checkpoint_minutes: Positive = 10.0
    # A run whose preflight forecasts more is refused; null is no limit.
    max_hours: Positive | None = None


class Params(Section):
    """The whole of params.yaml."""

    seed: Annotated[int, Field(ge=0)]
    raw: str
    standardize: Standardize
    manifest: Manifest
    preprocess: Preprocess
    teachers: dict[Name, Teacher] = Field(min_length=1)
    stageA: Stage  # noqa: N815 - the name of the DVC stage
    stageB: Stage  # noqa: N815
    calibrate: Calibrate
    export: Export
    machine: Machine = Machine()

    def stage(self, name: str) -> Stage:
        """The section of the training stage called `name`."""
        section = getattr(self, name)
        assert isinstance(section, Stage)
        return section


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check a params file.

    Raises:
        ParamsError: for an unreadable file, unknown keys, wrong types or impossible combinations.
    """
    data = read_yaml(path)
    try:
        # JSON mode keeps strictness but lets a YAML list be a tuple.
        params = Params.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise ParamsError(_as_lines(path, [_problem(e, data) for e in error.errors()])) from None
    if problems := list(_contradictions(params)):
        raise ParamsError(_as_lines(path, problems))
    return params


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping as DVC reads it: YAML 1.2 scalars, duplicate keys refused.

    Raises:
        ParamsError: with line and column.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise ParamsError(f"{path.name}: no such file in {path.absolute().parent.name}/") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path.name}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ParamsError(f"{path.name}: expected a mapping of sections, got {type(data).__name__}")
    return data


class _StrictLoader(yaml.SafeLoader):
    """PyYAML with the scalars of YAML 1.2's core schema and without duplicate keys."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own way to start with no resolvers

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {key!r}", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    # YAML 1.2: "010" is ten (PyYAML's own constructor reads eight); octal is "0o10".
    return int(text, 0) if text.lstrip("+-")[:2] in {"0x", "0o"} else int(text)


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).replace("_", "").lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_FLOAT = r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?"
for _tag, _pattern, _first in [
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0x[0-9a-fA-F_]+|0o[0-7_]+|[0-9][0-9_]*)", list("-+0123456789")),
    ("float", _FLOAT + r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+0123456789.")),
]:
    _StrictLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^({_pattern})$"), _first
    )
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _integer)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _float)


def _as_lines(path: Path, problems: list[str]) -> str:
    return "\n".join(f"{path.name}: {problem}" for problem in problems)


def _problem(error: Any, data: Any) -> str:
    """One pydantic error as `dotted.key: what is wrong`; `data` tells keys from union tags."""
    parts: list[str] = []
    for position, part in enumerate(error["loc"]):
        is_last = position == len(error["loc"]) - 1
        is_key = isinstance(data, dict) and part in data
        if is_key or (isinstance(data, list) and isinstance(part, int)):
            data = data[part]
        elif not (is_last and error["type"] == "missing"):
            continue
        parts.append(str(part))
    key = ".".join(parts)
    if error["type"] == "extra_forbidden":
        known = _keys_at(error["loc"])
        near = difflib.get_close_matches(parts[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {known}"
        return f"{key}: unknown key; {hint}"
    if error["type"] == "missing":
        return f"{key}: missing"
    if error["type"].startswith("union_tag"):
        return f"{key}: {error['msg']}"
    return f"{key}: {error['msg']}, got {data!r}"


def _keys_at(place: Sequence[str | int]) -> list[str]:
    """The keys of the section in which the key at a pydantic location stands.

    Keys of other sections are no help there: a hint would name what is refused again.
    """
    kind: Any = Params
    for part in place[:-1]:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif len(sections := _sections(kind)) > 1:
            kind = next(one for one in sections if part in _tags(one))
        else:
            kind = sections[0].model_fields[str(part)].annotation
    return sorted(_sections(kind)[0].model_fields)


def _sections(kind: Any) -> list[type[Section]]:
    """The sections that a value of the type can be."""
    if isinstance(kind, type):
        return [kind] if issubclass(kind, Section) else []
    return [section for part in get_args(kind) for section in _sections(part)]


def _tags(section: type[Section]) -> tuple[str, ...]:
    """What a section's `format` or `kind` can be, by which a union chooses it."""
    fields = section.model_fields
    tagged = [fields[name].annotation for name in ("format", "kind") if name in fields]
    return tuple(tag for annotation in tagged for tag in get_args(annotation))


def _contradictions(params: Params) -> Iterator[str]:
    """Combinations that no single value shows."""
    if params.manifest.val_share + params.manifest.test_share >= 1:
        yield "manifest.val_share: val_share + test_share leave no rows for train"
    yield from _shared_names(params)
    duplicates = params.manifest.duplicates
    if duplicates.review_correlation > duplicates.near_correlation:
        yield "manifest.duplicates.review_correlation: is above near_correlation"
    for name, view in params.manifest.views.items():
        yield from _filter_contradictions(f"manifest.views.{name}", view)
        if not view.splits:
            yield f"manifest.views.{name}.splits: an empty list selects nothing"
    for name, teacher in params.teachers.items():
        if teacher.pretrained and teacher.weights is not None:
            yield f"teachers.{name}: pretrained and weights exclude each other; choose one"
        if teacher.weights is not None and not _is_below_weights(teacher.weights):
            yield (
                f"teachers.{name}.weights: expected a file below weights/, which DVC watches, "
                f"with /, got {teacher.weights!r}"
            )
    yield from _stage_contradictions("stageA", params.stageA)
    yield from _stage_contradictions("stageB", params.stageB)
    if params.stageA.init_from is not None:
        yield "stageA.init_from: the first stage cannot start from itself; expected null"
    weights = params.calibrate.weights
    if sorted(weights) != sorted(params.teachers):
        known = sorted(params.teachers)
        yield f"calibrate.weights: expected one per teacher {known}, got {sorted(weights)}"
    elif abs(sum(weights.values()) - 1) > 1e-6:
        yield f"calibrate.weights: must sum to 1, got {sum(weights.values()):g}"
    if (wanted := params.export.soft_labels_view) not in params.manifest.views:
        known = sorted(params.manifest.views)
        yield f"export.soft_labels_view: {wanted!r} is no view; known: {known}"


def _is_below_weights(path: str) -> bool:
    folder, *parts = path.split("/")
    return folder == "weights" and parts != [] and "\\" not in path and not {"", ".."} & {*parts}


def _shared_names(params: Params) -> Iterator[str]:
    """Names that would stand for two things: sources as the manifest knows them, groups, views."""
    owner: dict[str, str] = {}
    for key, source in params.standardize.sources.items():
        names = [f"{key}_hq", f"{key}_lq"] if isinstance(source, ExpwSource) else [key]
        for name in names:
            if name in owner:
                other = owner[name]
                yield f"standardize.sources.{key}: its faces and those of {other} are {name!r}"
            owner[name] = key
    for group, members in params.manifest.source_groups.items():
        if group in owner:
            yield f"manifest.source_groups.{group}: is the name of a source; choose another"
        if not members:
            yield f"manifest.source_groups.{group}: an empty list names no source"
    places = {name: f"standardize.sources.{name}" for name in params.standardize.sources}
    places |= {name: f"standardize.sources.{key}" for name, key in owner.items()}
    for group in params.manifest.source_groups:
        places.setdefault(group, f"manifest.source_groups.{group}")
    yield from _alike(places)
    yield from _alike({name: f"manifest.views.{name}" for name in params.manifest.views})
    yield from _alike({name: f"teachers.{name}" for name in params.teachers})


def _alike(places: Mapping[str, str]) -> Iterator[str]:
    """Names that differ by letter case alone; `places` says where each of them stands."""
    first: dict[str, str] = {}
    for name, place in places.items():
        if (other := first.setdefault(name.lower(), name)) != name:
            yield (
                f"{place}: {name!r} and {other!r} differ by letter case alone; on Windows and "
                "macOS they would be one folder; choose another name"
            )


def _stage_contradictions(key: str, stage: Stage) -> Iterator[str]:
    yield from _filter_contradictions(f"{key}.filter", stage.filter)
    if stage.epochs == 0 and stage.init_from is None:
        yield f"{key}.epochs: 0 passes weights through, but init_from names none"
    if stage.epochs and stage.warmup_epochs >= stage.epochs:
        warmup = f"{stage.warmup_epochs:g}"
        yield f"{key}.warmup_epochs: {warmup} leaves nothing of {stage.epochs} epochs"
    if stage.min_lr > stage.learning_rate:
        yield f"{key}.min_lr: {stage.min_lr:g} is above learning_rate {stage.learning_rate:g}"
    if stage.arcface.ramp_end_epoch < stage.arcface.warmup_epochs:
        yield f"{key}.arcface.ramp_end_epoch: lies before warmup_epochs"
    low, high = stage.augmentation.crop_scale
    if not low <= high <= 1:
        yield f"{key}.augmentation.crop_scale: expected low <= high <= 1, got [{low:g}, {high:g}]"
    if stage.label_smoothing and isinstance(stage.prior, ClassWeights | LogitAdjustment):
        yield (
            f"{key}.label_smoothing: {stage.label_smoothing:g} with prior.kind {stage.prior.kind}: "
            "the smoothed share is equal for all classes, and the correction of the prior would "
            "multiply it for the rare ones, which then win where a picture says nothing; use 0, or "
            "prior.kind sampler_fill"
        )
    if isinstance(stage.prior, SamplerFill):
        needed = NUM_CLASSES * stage.prior.min_per_class
        if stage.batch_size < needed:
            yield (
                f"{key}.batch_size: {stage.batch_size} cannot hold {stage.prior.min_per_class} "
                f"of each of {NUM_CLASSES} classes; expected at least {needed}"
            )


def _filter_contradictions(key: str, rows: Filter) -> Iterator[str]:
    if both := sorted(set(rows.include_sources) & set(rows.exclude_sources)):
        yield f"{key}: {both} stand in include_sources and in exclude_sources"

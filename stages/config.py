"""params.yaml -> frozen, typed sections.

In: the path of a params file. Out: `Params`, checked whole. Every problem of the file stands in one
`UserError`, a line each: `params.yaml: stageA.learing_rate: unknown key; did you mean ...`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_serializer,
)
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from stages.runtime.errors import UserError, did_you_mean

Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
# The order that holds everywhere.
CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")
NUM_CLASSES = len(CLASSES)
# Other names that datasets use, by their letters: such rows are left out and counted.
NOT_A_CLASS = ("contempt", "contemptuous", "none", "uncertain", "noface", "unknown", "nf")


def letters(name: str) -> str:
    """Return the letters of a dataset's name for a class, in lower case: only they count."""
    return re.sub(r"[^a-z]", "", name.lower())


def is_not_a_class(name: str) -> bool:
    """Return whether a dataset's name means something outside the seven, such as contempt."""
    return letters(name) in NOT_A_CLASS


def _check_meaning(value: Any) -> Any:
    if isinstance(value, str) and (value in CLASSES or is_not_a_class(value)):
        return value
    left_out = "Contempt, none, uncertain, no-face, unknown or NF for what is left out"
    raise PydanticCustomError("meaning", f"expected one of {', '.join(CLASSES)}, or {left_out}")


FolderMeaning = Annotated[str, BeforeValidator(_check_meaning)]


class Section(BaseModel):
    """A part of params.yaml: unknown keys are errors, nothing is converted or changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Section)


# --- standardize ---------------------------------------------------------------------------------


class RawDataset(Section):
    """A raw dataset: a path below `raw`, and the `licence` that its user agreed to, in words."""

    path: str
    licence: str | None = None


class FerplusSource(RawDataset):
    """FERPlus, generated folders or the csv pair. val and test always use majority."""

    format: Literal["ferplus"]
    label_rule: Literal["majority", "probability", "multi_target"]


class PlainSource(RawDataset):
    """A dataset whose format says it all: docs/formats.md has what each of them reads."""

    format: Literal[
        "fer2013",
        "rafdb_basic",
        "rafdb_compound_mapped",
        "rafml_argmax",
        "affectnet",
        "affectnet_yolo",
    ]


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
    hq_confidence: NotNegative


Source = Annotated[
    FerplusSource | PlainSource | Folder7Source | ExpwSource, Field(discriminator="format")
]
# By the names that the adapters use.
Fer2013Source = PlainSource
RafdbSource = PlainSource
RafdbCompoundSource = PlainSource
RafmlSource = PlainSource
AffectnetSource = PlainSource
AffectnetYoloSource = PlainSource


class Standardize(Section):
    """How raw datasets become faces. `face_detector`: YuNet's ONNX file, a path below `raw`."""

    sources: dict[Name, Source] = Field(min_length=1)
    crop_margin: Annotated[float, Field(ge=0, le=1)]
    face_detector: str | None
    max_side_px: Annotated[int, Field(ge=48)]
    max_reject_share: Probability
    shard_mb: Count


# --- manifest ------------------------------------------------------------------------------------


class Filter(Section):
    """The grammar by which stages and views choose rows; an empty list of sources means all."""

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

    policy: Literal["drop_from_train", "keep_one", "report_only"]
    near_correlation: Annotated[float, Field(gt=0.5, le=1)]
    review_correlation: Annotated[float, Field(gt=0.5, le=1)]


class Manifest(Section):
    """How faces become splits. Shares are carved where a source has no official val or test."""

    val_share: Share
    test_share: Share
    duplicates: Duplicates
    source_groups: dict[Name, tuple[Name, ...]]
    views: dict[Name, View]


# --- model input, teachers, training -------------------------------------------------------------


class Clahe(Section):
    """Contrast-limited adaptive histogram equalisation of the luma channel, as OpenCV counts it."""

    clip_limit: Positive
    tiles: Count


class Preprocess(Section):
    """What every image goes through before any model, in training and in use alike."""

    clahe: Clahe | None
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]


# Arguments of `timm.create_model` that the pipeline sets itself or cannot do with.
NOT_BACKBONE_OPTIONS = {
    *("model_name", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict"),
    *("checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit", "device", "dtype"),
    *("num_classes", "in_chans", "img_size", "features_only", "out_indices"),
}


def _check_option(value: Any) -> Any:
    value = tuple(value) if isinstance(value, list) else value
    parts = value if isinstance(value, tuple) else (value,)
    if all(isinstance(part, str | int | float) for part in parts):
        return value
    raise PydanticCustomError("option", "expected a number, text, true, false or a list of them")


_Plain = bool | int | float | str
BackboneOption = Annotated[_Plain | tuple[_Plain, ...], BeforeValidator(_check_option)]


class Arcface(Section):
    """Additive angular margin: 0 during warm-up epochs, then rising until `ramp_end_epoch`."""

    margin_rad: Annotated[float, Field(ge=0, lt=1.5)]
    scale: Positive
    warmup_epochs: NotNegative
    ramp_end_epoch: NotNegative


class SamplerFill(Section):
    """At least `min_per_class` of each class in a batch; rare classes are repeated to fill."""

    kind: Literal["sampler_fill"]
    min_per_class: Count


class ClassWeights(Section):
    """Loss weights by the effective number of samples, (1 - beta) / (1 - beta^n)."""

    kind: Literal["class_weights"]
    beta: Annotated[float, Field(gt=0, lt=1)]


class LogitAdjustment(Section):
    """`tau * log(prior)` is added to the logits in the training loss."""

    kind: Literal["logit_adjustment"]
    tau: Positive


class NoCorrection(Section):
    """The class prior of the training rows is left as it is."""

    kind: Literal["none"]


Prior = Annotated[
    SamplerFill | ClassWeights | LogitAdjustment | NoCorrection, Field(discriminator="kind")
]


class Augmentation(Section):
    """Random variation of training faces; 0 is off, and a crop_scale of 1 to 1.

    crop_scale: share of the picture's area. brightness, contrast, saturation: relative strength.
    rotation_deg, shift: to either side; zoom_out: how much smaller the face may become; shift and
    zoom_out are shares of the side. gamma: the exponent's logarithm lies within it. flip,
    low_resolution, blur, jpeg, grey and erasing: how often.
    """

    crop_scale: tuple[Positive, Positive]
    flip: Probability
    brightness: Share
    contrast: Share
    saturation: Share
    rotation_deg: Annotated[float, Field(ge=0, le=45)]
    shift: Annotated[float, Field(ge=0, le=0.5)]
    zoom_out: Annotated[float, Field(ge=0, le=0.5)]
    low_resolution: Probability
    blur: Probability
    jpeg: Probability
    gamma: Annotated[float, Field(ge=0, le=1)]
    grey: Probability
    erasing: Probability


class Stage(Section):
    """One training stage; the recipe of stageA and of stageB."""

    init_from: Literal["stageA"] | None
    filter: Filter
    # votes: the crowd's shares where a row has votes, its label elsewhere.
    targets: Literal["majority", "votes"]
    image_size: Annotated[int, Field(ge=32)]
    epochs: Annotated[int, Field(ge=0)]
    batch_size: Count
    accumulate: Count
    learning_rate: Positive
    min_lr: Positive
    weight_decay: NotNegative
    warmup_epochs: NotNegative
    max_grad_norm: Positive
    label_smoothing: Share
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None
    eval_every: Count
    select_by: Literal["macro_f1", "accuracy", "nll"]
    # A teacher's logits are the mean of those of the face and of its mirror image.
    mirror_averaged: bool
    arcface: Arcface
    prior: Prior
    augmentation: Augmentation


class Overrides(Section):
    """Keys of a section that have another value for one teacher; only those are told."""

    @model_serializer
    def _stated(self) -> dict[str, Any]:
        stated = self.model_fields_set
        return {name: getattr(self, name) for name in type(self).model_fields if name in stated}


def _overrides_of(section: type[Section]) -> type[Section]:
    """Make a section of which every key may be left out, those of sections inside it too."""
    fields: dict[str, Any] = {}
    for name, described in section.model_fields.items():
        kind, field = described.annotation, copy(described)
        if isinstance(kind, type) and issubclass(kind, Section):
            kind = _overrides_of(kind)
        field.default = None
        fields[name] = (kind, field)
    return create_model(f"{section.__name__}Overrides", __base__=Overrides, **fields)


def _refuse_shared(_: Any) -> Any:
    raise PydanticCustomError(
        "shared",
        "holds for all teachers of a stage, which are compared on the same rows and start alike; "
        "expected it in the section of the stage alone",
    )


SharedByTeachers = Annotated[Any, BeforeValidator(_refuse_shared)]


class StageOverrides(_overrides_of(Stage)):  # type: ignore[misc]  # built, so that no key is twice
    """Keys of a stage, and of `preprocess` in it, that have another value for one teacher."""

    init_from: SharedByTeachers = None
    filter: SharedByTeachers = None
    preprocess: _overrides_of(Preprocess) = None  # type: ignore[valid-type]


class TeacherParams(Section):
    """A timm backbone with an embedding. `weights`: a file of backbone weights below weights/.

    `backbone_options` are keyword arguments of `timm.create_model`. `learning_rate_scale`
    multiplies the stage's learning rates for this teacher, `head_learning_rate_scale` those of the
    embedding and the head once more; weight decay a step stays what the stage says. `layer_decay`
    multiplies the rate of each layer of the backbone, counted from its end, and with it its weight
    decay a step. `stageA` and `stageB` are what differs there for this teacher.
    """

    backbone: str
    backbone_options: dict[str, BackboneOption]
    embedding_size: Count
    dropout: Share
    pretrained: bool
    weights: str | None
    optimizer: Literal["adamw", "sgd"]
    learning_rate_scale: Positive
    head_learning_rate_scale: Positive
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    stageA: StageOverrides  # noqa: N815 - the name of the DVC stage
    stageB: StageOverrides  # noqa: N815

    def overrides(self, stage: str) -> StageOverrides:
        """Return what differs for this teacher in the training stage called `stage`."""
        return {"stageA": self.stageA, "stageB": self.stageB}[stage]


# --- after training ------------------------------------------------------------------------------


class Calibrate(Section):
    """Temperatures, fusion, report. `report: val_crossfit` is for data without a test split.

    `stage: auto` takes stage B only if its gain on val is real. `teachers` names all of them, for
    dvc.yaml. A fusion is of probabilities, or `_logits`, with `weights` (fixed) or with those that
    fit val best (searched). `refinement` is
    the bias beside the temperature; `decide_by` is what the class that is named shall serve.
    """

    stage: Literal["stageA", "stageB", "auto"]
    teachers: tuple[Name, ...]
    report: Literal["test", "val_crossfit"]
    bins: Annotated[int, Field(ge=2)]
    folds: Annotated[int, Field(ge=2)]
    bootstrap_samples: Count
    fusion: Literal["fixed", "searched", "fixed_logits", "searched_logits"]
    weights: dict[Name, Probability]
    refinement: Literal["auto", "none", "prior", "bias"]
    decide_by: Literal["accuracy", "macro_f1"]


class Export(Section):
    """ONNX files and soft labels of the calibrated stage.

    Each variant is a second file whose loss of accuracy, on at most `accuracy_rows` rows held out,
    must not be above `max_accuracy_loss`. A soft label is the mean over views of the face: as it is
    and, by `soft_label_augmentations`, mirrored and cropped. `distillation_temperature` is for
    students; it is not fitted, and no export has it applied.
    """

    opset: Annotated[int, Field(ge=18)]
    parity_rows: Count
    parity_tolerance: Positive
    variants: tuple[Literal["fp16", "int8"], ...]
    accuracy_rows: Count
    max_accuracy_loss: Probability
    soft_labels_view: Name
    soft_label_augmentations: tuple[Literal["mirror", "crops"], ...]
    float32_logits: bool
    distillation_temperature: Positive


class Machine(Section):
    """What may differ between two machines without a retrain; tracked by no stage."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    workers: Annotated[int, Field(ge=0)] | Literal["auto"]
    # torch.compile. auto: on a GPU if it is measured to be faster; true: the run stops without it.
    compile: bool | Literal["auto"]
    # Processes (one per GPU) that train one model; torchrun starts those of several machines.
    processes: Annotated[int, Field(ge=1)]
    # true: the same bits on every run on the same GPUs, at some speed. A CPU gives them anyway.
    deterministic: bool
    checkpoint_minutes: Positive
    # A run whose preflight forecasts more is refused; null is no limit.
    max_hours: Positive | None


class Params(Section):
    """The whole of params.yaml."""

    seed: Annotated[int, Field(ge=0)]
    raw: str
    standardize: Standardize
    manifest: Manifest
    preprocess: Preprocess
    teachers: dict[Name, TeacherParams] = Field(min_length=1)
    stageA: Stage  # noqa: N815 - the name of the DVC stage
    stageB: Stage  # noqa: N815
    calibrate: Calibrate
    export: Export
    machine: Machine

    @property
    def stages(self) -> dict[str, Stage]:
        """Return the sections of the training stages by name, in order."""
        return {"stageA": self.stageA, "stageB": self.stageB}

    def effective(self, stage: str, teacher: str) -> tuple[Stage, Preprocess]:
        """Return the section of a training stage, and `preprocess` in it, as a teacher has them."""
        own = self.teachers[teacher].overrides(stage)
        preprocess = _merged(self.preprocess, own.preprocess)
        return _merged(self.stages[stage], own), preprocess


def _merged(section: S, own: Overrides | None) -> S:
    stated = set() if own is None else own.model_fields_set & type(section).model_fields.keys()
    changes = {name: getattr(own, name) for name in stated}
    for name, value in changes.items():
        if isinstance(value, Overrides):
            changes[name] = _merged(getattr(section, name), value)
    return section.model_copy(update=changes)


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check a params file.

    Raises:
        UserError: for an unreadable file, unknown keys, wrong types or impossible combinations.
    """
    data = read_yaml(path)
    try:
        # JSON mode keeps strictness but lets a YAML list be a tuple. A date becomes text.
        params = Params.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        problems = [_problem(details, data) for details in error.errors()]
    else:
        problems = list(_contradictions(params))
    if problems:
        raise UserError("\n".join(f"{path.name}: {problem}" for problem in problems))
    return params


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping as DVC does: YAML 1.2, duplicate keys are a `UserError`."""
    try:
        data = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.name}: no such file in {path.absolute().parent.name}/") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"{path.name}: not valid YAML: {place}{error.problem}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path.name}: expected a mapping of sections, got {type(data).__name__}")
    return data


def _problem(error: Any, data: Any) -> str:
    """Return a pydantic error as `dotted.key: what is wrong`; `data` tells keys from tags."""
    parts: list[str] = []
    for part in error["loc"]:
        is_key = isinstance(data, dict) and part in data
        if is_key or (isinstance(data, list) and isinstance(part, int)):
            data = data[part]
        elif error["type"] != "missing" or part != error["loc"][-1]:
            continue
        parts.append(str(part))
    key = ".".join(parts)
    if error["type"] == "extra_forbidden":
        known = _known_keys(error["loc"])
        hint = did_you_mean(parts[-1], known) or f"known here: {known}"
        return f"{key}: unknown key; {hint}"
    if error["type"] == "missing":
        return f"{key}: missing"
    got = "" if error["type"].startswith("union_tag") else f", got {data!r}"
    return f"{key}: {error['msg']}{got}"


def _known_keys(place: Sequence[str | int]) -> list[str]:
    """Return the keys of the section in which the key at a pydantic location stands.

    Keys of other sections are no help: a hint would name what is refused there.
    """
    kind: Any = Params
    for part in place[:-1]:
        sections = _sections(kind)
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif len(sections) == 1:
            kind = sections[0].model_fields[str(part)].annotation
        else:
            # A union: the part is the `format` or `kind` by which a section is chosen.
            kind = next(
                section
                for section in sections
                for tag in section.model_fields.keys() & {"format", "kind"}
                if part in get_args(section.model_fields[tag].annotation)
            )
    return sorted(_sections(kind)[0].model_fields)


def _sections(kind: Any) -> list[type[Section]]:
    if isinstance(kind, type):
        return [kind] if issubclass(kind, Section) else []
    return [section for part in get_args(kind) for section in _sections(part)]


def _contradictions(params: Params) -> Iterator[str]:
    """Yield problems that no single value shows."""
    if params.manifest.val_share + params.manifest.test_share >= 1:
        yield "manifest.val_share: val_share + test_share leave no rows for train"
    yield from _shared_names(params)
    duplicates = params.manifest.duplicates
    if duplicates.review_correlation > duplicates.near_correlation:
        yield "manifest.duplicates.review_correlation: is above near_correlation"
    filters: dict[str, Filter] = {}
    for key, stage in params.stages.items():
        yield from (f"{key}.{problem}" for problem in _stage_contradictions(stage))
        yield from _override_contradictions(params, key)
        filters[f"{key}.filter"] = stage.filter
    filters |= {f"manifest.views.{name}": view for name, view in params.manifest.views.items()}
    for key, rows in filters.items():
        if both := sorted(set(rows.include_sources) & set(rows.exclude_sources)):
            yield f"{key}: {both} stand in include_sources and in exclude_sources"
        if isinstance(rows, View) and not rows.splits:
            yield f"{key}.splits: an empty list selects nothing"
    for name, teacher in params.teachers.items():
        if teacher.pretrained and teacher.weights is not None:
            yield f"teachers.{name}: pretrained and weights exclude each other; choose one"
        if teacher.weights is not None:
            folder, *parts = teacher.weights.split("/")
            if folder != "weights" or not parts or {"", ".."} & {*parts} or "\\" in "".join(parts):
                yield (
                    f"teachers.{name}.weights: expected a file below weights/, which DVC watches, "
                    f"with /, got {teacher.weights!r}"
                )
        for option in sorted(NOT_BACKBONE_OPTIONS & teacher.backbone_options.keys()):
            yield f"teachers.{name}.backbone_options.{option}: the pipeline sets it; remove it"
    if params.stageA.init_from is not None:
        yield "stageA.init_from: the first stage cannot start from itself; expected null"
    shares, known = params.calibrate.weights, sorted(params.teachers)
    if sorted(params.calibrate.teachers) != known:
        names = list(params.calibrate.teachers)
        yield f"calibrate.teachers: expected each teacher once, {known}, got {names}"
    if sorted(shares) != known:
        yield f"calibrate.weights: expected one per teacher {known}, got {sorted(shares)}"
    elif abs(sum(shares.values()) - 1) > 1e-6:
        yield f"calibrate.weights: must sum to 1, got {sum(shares.values()):g}"
    if (wanted := params.export.soft_labels_view) not in params.manifest.views:
        known = sorted(params.manifest.views)
        yield f"export.soft_labels_view: {wanted!r} is no view; known: {known}"


def _shared_names(params: Params) -> Iterator[str]:
    """Yield names of sources, groups, views and teachers that would stand for two things."""
    owner: dict[str, str] = {}
    for key, source in params.standardize.sources.items():
        names = [f"{key}_hq", f"{key}_lq"] if isinstance(source, ExpwSource) else [key]
        for name in names:
            if other := owner.get(name):
                yield f"standardize.sources.{key}: its faces and those of {other} are {name!r}"
            owner[name] = key
    for group, members in params.manifest.source_groups.items():
        if group in owner:
            yield f"manifest.source_groups.{group}: is the name of a source; choose another"
        if not members:
            yield f"manifest.source_groups.{group}: an empty list names no source"
    faces = {key: key for key in params.standardize.sources} | owner
    places = {name: f"standardize.sources.{key}" for name, key in faces.items()}
    places |= {group: f"manifest.source_groups.{group}" for group in params.manifest.source_groups}
    views = {name: f"manifest.views.{name}" for name in params.manifest.views}
    teachers = {name: f"teachers.{name}" for name in params.teachers}
    for kind in (places, views, teachers):
        first: dict[str, str] = {}
        for name, place in kind.items():
            if (other := first.setdefault(name.lower(), name)) != name:
                yield (
                    f"{place}: {name!r} and {other!r} differ by letter case alone; on Windows and "
                    "macOS they would be one folder; choose another name"
                )


def _override_contradictions(params: Params, key: str) -> Iterator[str]:
    """Yield problems of a training stage that only the values of a single teacher have."""
    shared = set(_stage_contradictions(params.stages[key]))
    equalized = {}
    for name in params.teachers:
        stage, preprocess = params.effective(key, name)
        for problem in _stage_contradictions(stage):
            if problem not in shared:
                yield f"teachers.{name}.{key}.{problem}"
        if stage.epochs == 0 and stage.init_from is not None:
            # The weights that pass through keep their own input.
            _, preprocess = params.effective(stage.init_from, name)
        elif stage.init_from is not None:
            _, learnt = params.effective(stage.init_from, name)
            if (preprocess.mean, preprocess.std) != (learnt.mean, learnt.std):
                yield (
                    f"teachers.{name}.{key}.preprocess: expected the mean and std of "
                    f"{stage.init_from}, whose weights learnt with {learnt.mean} and {learnt.std}, "
                    f"got {preprocess.mean} and {preprocess.std}"
                )
        equalized[name] = preprocess.clahe
    first, *others = equalized
    for name in others:
        if equalized[name] != equalized[first]:
            got, expected = (
                clahe and clahe.model_dump() for clahe in map(equalized.get, (name, first))
            )
            yield (
                f"teachers.{name}.{key}.preprocess.clahe: expected that of {first}, {expected}, "
                f"got {got}: the ensemble sees one picture, equalised in one way"
            )


def _stage_contradictions(stage: Stage) -> Iterator[str]:
    if stage.epochs == 0 and stage.init_from is None:
        yield "epochs: 0 passes weights through, but init_from names none"
    if stage.epochs and stage.warmup_epochs >= stage.epochs:
        warmup = f"{stage.warmup_epochs:g}"
        yield f"warmup_epochs: {warmup} leaves nothing of {stage.epochs} epochs"
    if stage.min_lr > stage.learning_rate:
        yield f"min_lr: {stage.min_lr:g} is above learning_rate {stage.learning_rate:g}"
    if stage.arcface.ramp_end_epoch < stage.arcface.warmup_epochs:
        yield "arcface.ramp_end_epoch: lies before warmup_epochs"
    low, high = stage.augmentation.crop_scale
    if not low <= high <= 1:
        yield f"augmentation.crop_scale: expected low <= high <= 1, got [{low:g}, {high:g}]"
    if stage.label_smoothing and isinstance(stage.prior, ClassWeights | LogitAdjustment):
        yield (
            f"label_smoothing: {stage.label_smoothing:g} with prior.kind {stage.prior.kind}: "
            "the correction of the prior would multiply the smoothed share of the rare classes, "
            "which then win where a picture says nothing; use 0, or prior.kind sampler_fill"
        )
    least = stage.prior.min_per_class if isinstance(stage.prior, SamplerFill) else 0
    if stage.batch_size < (needed := NUM_CLASSES * least):
        yield (
            f"batch_size: {stage.batch_size} cannot hold {least} of each of {NUM_CLASSES} "
            f"classes; expected at least {needed}"
        )

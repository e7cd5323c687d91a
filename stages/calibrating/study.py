"""Published teachers of both stages -> everything that is fitted, compared and decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.calibrating.assessment import Assessment, assess
from stages.calibrating.blocks import Block
from stages.calibrating.contribution import contributions
from stages.calibrating.model import FUSED_NAMES, stage_models
from stages.calibrating.protocol import Protocol, protocol_of
from stages.calibrating.published import STAGES, Manifest, PublishedTeacher
from stages.calibrating.stage_rows import StageRows, stage_rows
from stages.calibrating.verdict import StagePair, Verdict, compare_stages, decide
from stages.config import Calibrate, Filter
from stages.runtime.errors import UserError


@dataclass(frozen=True)
class Study:
    """All models of both stages, the second stage against the first, and the verdict.

    `contributions` are rows of what each teacher adds, by stage and model; `fused` is the name of
    the fusion that params.yaml chose.
    """

    manifest: Manifest
    protocol: Protocol
    assessments: Sequence[Assessment]
    contributions: Mapping[tuple[str, str], Sequence[Block]]
    compared: Mapping[str, Block]
    verdict: Verdict
    fused: str

    @property
    def shown(self) -> list[Assessment]:
        """What is drawn: the teachers and the fusion that was chosen."""
        others = set(FUSED_NAMES.values()) - {self.fused}
        return [one for one in self.assessments if one.model.name not in others]


def study(
    teachers: Mapping[str, Sequence[PublishedTeacher]],
    *,
    manifest: Manifest,
    settings: Calibrate,
    seed: int,
    init_from: Mapping[str, str | None],
) -> Study:
    """Fit every model on val of its stage, compare the stages, and choose one.

    `init_from` names the stage whose weights each stage started from, if any.

    Raises:
        UserError: if rows are missing, filters differ within a stage, or a stage did not start
            from what is said.
    """
    protocol = protocol_of(settings, seed=seed)
    rows = {
        stage: rows_of(
            teachers[stage],
            manifest=manifest,
            earlier=[teachers[one] for one in lineage(stage, init_from=init_from)],
        )
        for stage in STAGES
    }
    assessments = [
        assess(model, rows=rows[stage], protocol=protocol)
        for stage in STAGES
        for model in stage_models(teachers[stage], weights=settings.weights)
    ]
    compared = _compared(assessments, rows, protocol=protocol)
    fused = FUSED_NAMES[settings.fusion]
    return Study(
        manifest=manifest,
        protocol=protocol,
        assessments=assessments,
        contributions={
            (one.model.stage, one.model.name): contributions(
                one, rows=rows[one.model.stage], protocol=protocol
            )
            for one in assessments
        },
        compared=compared,
        verdict=decide(compared[fused], asked=settings.stage, model=fused),
        fused=fused,
    )


def lineage(stage: str, *, init_from: Mapping[str, str | None]) -> list[str]:
    """The stages that a stage started from, the nearest first."""
    found: list[str] = []
    while (earlier := init_from.get(found[-1] if found else stage)) is not None:
        found.append(earlier)
    return found


def rows_of(
    teachers: Sequence[PublishedTeacher],
    *,
    manifest: Manifest,
    earlier: Sequence[Sequence[PublishedTeacher]],
) -> StageRows:
    """The rows of a stage, by the filter that all of its teachers were trained with.

    `earlier` are the teachers of the stages that they started from, in the same order.

    Raises:
        UserError: if they were not trained with one filter, or know less than they started from.
    """
    for older in earlier:
        for teacher, start in zip(teachers, older, strict=True):
            _require_start(teacher, start)
    return stage_rows(
        manifest,
        rows=_filter_of(teachers),
        stage=teachers[0].stage,
        started_from={older[0].stage: _filter_of(older) for older in earlier},
    )


def _require_start(teacher: PublishedTeacher, start: PublishedTeacher) -> None:
    """Who starts from weights has seen what they have seen."""
    seen, seen_before = (set(one.logits.index[one.logits["seen"]]) for one in (teacher, start))
    if unknown := seen_before - seen:
        raise UserError(
            f"params.yaml: {teacher.stage}.init_from: {start.stage}, but models/{teacher.stage}/"
            f"{teacher.name} has not seen {len(unknown)} rows that {start.stage} has; run "
            f"`dvc repro {teacher.stage}@{teacher.name}`"
        )


def _filter_of(teachers: Sequence[PublishedTeacher]) -> Filter:
    first = teachers[0]
    for teacher in teachers[1:]:
        if teacher.filter != first.filter:
            raise UserError(
                f"models/{first.stage}: alignmentreport.json: filter: {first.name} and "
                f"{teacher.name} were trained on other rows; train them again with one recipe"
            )
    return first.filter


def _compared(
    assessments: Sequence[Assessment], rows: Mapping[str, StageRows], *, protocol: Protocol
) -> dict[str, Block]:
    first, second = (
        {one.model.name: one for one in assessments if one.model.stage == stage} for stage in STAGES
    )
    pairs = {
        name: StagePair(one.model, second[name].model, rows[STAGES[0]], rows[STAGES[1]])
        for name, one in first.items()
    }
    return {name: compare_stages(pair, protocol=protocol) for name, pair in pairs.items()}

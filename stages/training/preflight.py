"""A few steps of a run before it begins: do they fit, how fast are they, when will it be done?

The steps are the run's own, on its own batches, from where it stands on, and all that they change
is taken back: a run ends in the same bits with and without a preflight.
"""

import itertools
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from stages.config import Stage
from stages.modeling.predict import predict
from stages.runtime.errors import InterruptedRunError, UserError
from stages.training.checkpoint import describe_kept
from stages.training.compilation import Wanted, compile_for_good, is_worth_trying, take_faster
from stages.training.engine import Engine
from stages.training.machinery import Batch
from stages.training.memory import Memory, fit_explained, peak_memory, reset_peak, too_large
from stages.training.outcomes import Outcomes
from stages.training.pace import describe_duration, for_a_while
from stages.training.progress import Progress
from stages.training.saving import require_room
from stages.training.sharing import least_batch_size

# Steps are measured until there are this many and they took this long, or took the longest time.
ENOUGH_STEPS, ENOUGH_SECONDS, MAX_SECONDS = 12, 5.0, 20.0
ENOUGH_SCORING_SECONDS = 2.0
WARMUP_STEPS = 2
# Of the steps and batches that are left to do.
MAX_SHARE = 0.02
# Of logits.parquet: seven numbers and the face's name.
_BYTES_OF_A_ROW = 100

logger = logging.getLogger(__name__)


class ScoringBatches(Protocol):
    """The batches of one evaluation, plain and in order."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Scoring:
    """An evaluation's batches of `num_val` rows; `num_scored` rows are scored at the end."""

    batches: ScoringBatches
    num_val: int
    num_scored: int


@dataclass(frozen=True)
class Left:
    """What a run has left to do."""

    steps: int
    evaluations: int
    rows_to_score: int


@dataclass(frozen=True)
class Rates:
    """What `steps` steps of a run showed."""

    steps: int
    step_seconds: float
    img_s: float
    data_wait_share: float
    scoring_img_s: float

    def seconds(self, left: Left) -> float:
        """The forecast of the time to the end."""
        return left.steps * self.step_seconds + left.rows_to_score / self.scoring_img_s


def preflight(
    engine: Engine,
    progress: Progress,
    *,
    scoring: Scoring,
    section: Stage,
    key: str,
    models: Path,
    max_hours: float | None,
    compiling: Wanted,
) -> dict[str, Any]:
    """Try the run's next steps, say what they tell of the rest, and leave the run as it was.

    Args:
        key: the section's name in params.yaml, for messages.
        models: where the teacher will be published.
        compiling: `machine.compile`; from here on the machinery is compiled, or not.

    Returns:
        What history.json keeps of it; `took_s` is empty until `settle`.

    Raises:
        UserError: if a batch does not fit the GPU, a checkpoint the disk, or the forecast is above
            `max_hours`.
        NonFiniteError: if the loss or gradient of a step is not finite.
        InterruptedRunError: when a stop was requested.
    """
    left, start = _left(engine, progress, scoring), time.monotonic()
    reset_peak(engine.machinery.device)
    least = least_batch_size(engine.machinery.model, team=engine.team)
    with fit_explained(section, key=key, least=least), engine.machinery.rehearsal():
        mine = _rehearse(engine, progress, scoring=scoring, left=left, compiling=compiling)
        # Each process scores its share of the rows, all at the same time.
        together = replace(mine, scoring_img_s=mine.scoring_img_s * engine.team.size)
        rates = engine.team.lead(lambda: together)
        memory = peak_memory(engine.machinery.device)
        room = partial(
            require_room,
            engine.folder,
            models=models,
            checkpoint_bytes=engine.machinery.state_bytes(),
            weights_bytes=engine.machinery.weights_bytes(),
            table_bytes=scoring.num_scored * _BYTES_OF_A_ROW,
            kept=partial(describe_kept, engine.folder),
        )
    engine.team.lead(room)
    forecast = rates.seconds(left)
    _log(rates, left, memory, forecast)
    if memory is not None and engine.machinery.device.type == "cuda" and memory.peak > memory.total:
        # Windows lends a GPU the machine's memory instead of failing, at a tenth of the speed.
        raise too_large(section, key=key, least=least, reason=f"it needs {memory}")
    engine.team.lead(lambda: _require_hours(forecast, max_hours=max_hours))
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "epoch": progress.epoch + 1,
        "step": progress.step,
        "seconds": round(time.monotonic() - start, 3),
        "tried": {name: round(value, 6) for name, value in asdict(rates).items()},
        "compiled": engine.machinery.embed.is_compiled,
        "memory_bytes": None if memory is None else asdict(memory),
        "left": asdict(left),
        "forecast_s": round(forecast, 1),
        "took_s": None,
    }


def settle(history: Sequence[Mapping[str, Any]], *, took_s: float) -> None:
    """Write beside the last forecast of the history what it took, and log both."""
    last = [record["preflight"] for record in history if record.get("preflight")][-1]
    last["took_s"] = round(took_s, 1)
    logger.info(
        "forecast %s, took %s (%+.0f %%)",
        describe_duration(last["forecast_s"]),
        describe_duration(took_s),
        100 * (took_s / last["forecast_s"] - 1),
    )


def quota(left: float) -> tuple[int, int]:
    """How many of the steps that are left warm up, and how many are measured (at least one)."""
    tried = max(1, int(MAX_SHARE * left))
    warmup = min(WARMUP_STEPS, tried // 2)
    return warmup, tried - warmup


def _left(engine: Engine, progress: Progress, scoring: Scoring) -> Left:
    plan = engine.plan
    evaluations = sum(map(plan.is_evaluated, range(progress.epoch + 1, plan.epochs + 1)))
    return Left(
        steps=plan.schedule.total_steps - progress.step,
        evaluations=evaluations,
        rows_to_score=evaluations * scoring.num_val + scoring.num_scored,
    )


def _rehearse(
    engine: Engine, progress: Progress, *, scoring: Scoring, left: Left, compiling: Wanted
) -> Rates:
    """The rates of the way that the run will compute: compiled, or as the model is."""
    # What a trial that failed has left unread must not be taken for the run's.
    engine = replace(engine, outcomes=Outcomes())
    machinery = engine.machinery
    _start_workers(engine.batches.epoch(progress.epoch, start_batch=progress.batch))
    scoring_img_s = _scoring_rate(engine, scoring=scoring, left=left)
    measure = partial(_step_rates, engine, progress, left=left, scoring_img_s=scoring_img_s)
    if compiling is True:
        # By a step that is not measured.
        compile_for_good(machinery.embed, call=partial(_take_step, engine, progress))
    rates = measure()
    if is_worth_trying(
        compiling,
        seconds_left=left.steps * rates.step_seconds,
        device=machinery.device,
        team=machinery.team,
    ):
        rates = take_faster(machinery.embed, eager=rates, measure=measure)
    return rates


def _step_rates(engine: Engine, progress: Progress, *, left: Left, scoring_img_s: float) -> Rates:
    trial = _beginning(progress)
    warmup, limit = quota(left.steps)
    num_steps = 0
    for number, _ in enumerate(_steps(engine, trial), start=1):
        if signal_number := engine.stop_signal():
            raise InterruptedRunError(signal_number)
        if number == warmup:
            engine.settle(trial)
            trial.clear_sums()
        num_steps = max(0, number - warmup)
        is_enough = num_steps == limit or _is_enough(num_steps, trial.seconds)
        if engine.team.lead(partial(bool, is_enough)):
            break
    engine.settle(trial)
    return Rates(
        steps=num_steps,
        step_seconds=trial.seconds / num_steps,
        img_s=trial.images / trial.seconds,
        data_wait_share=trial.wait_seconds / trial.seconds,
        scoring_img_s=scoring_img_s,
    )


def _take_step(engine: Engine, progress: Progress) -> None:
    trial = _beginning(progress)
    next(_steps(engine, trial))
    engine.settle(trial)


def _beginning(progress: Progress) -> Progress:
    return Progress(epoch=progress.epoch, batch=progress.batch, step=progress.step)


def _steps(engine: Engine, trial: Progress) -> Iterator[None]:
    """The run's steps up to its end, without what happens between two epochs."""
    while trial.epoch < engine.plan.epochs:
        yield from engine.steps(trial)
        trial.epoch, trial.batch = trial.epoch + 1, 0


def _is_enough(num_steps: int, seconds: float) -> bool:
    if seconds >= MAX_SECONDS:
        return num_steps > 0
    return num_steps >= ENOUGH_STEPS and seconds >= ENOUGH_SECONDS


def _scoring_rate(engine: Engine, *, scoring: Scoring, left: Left) -> float:
    """Images a second of a few batches of an evaluation."""
    _start_workers(scoring.batches)
    machinery, batches = engine.machinery, iter(scoring.batches)
    score = partial(
        predict,
        machinery.weights(),
        finish=engine.finish,
        device=machinery.device,
        dtype=machinery.dtype,
    )
    warmup, limit = quota(len(scoring.batches) * left.rows_to_score / scoring.num_val)
    if warmup and len(scoring.batches) > warmup:
        score(itertools.islice(batches, warmup))
    start = time.monotonic()
    measured = itertools.islice(batches, limit)
    logits = score(for_a_while(measured, seconds=ENOUGH_SCORING_SECONDS))
    return len(logits) / (time.monotonic() - start)


def _start_workers(batches: Iterable[Batch]) -> None:
    """Wait for a first batch: starting workers takes seconds, once, and is no part of the rate."""
    # With few val rows some process of a team has no batch.
    next(iter(batches), None)


def _log(rates: Rates, left: Left, memory: Memory | None, forecast: float) -> None:
    rough = "" if rates.steps >= ENOUGH_STEPS else " (a rough forecast, of so few steps)"
    logger.info(
        "preflight of %d steps: %.0f img/s, data wait %.0f %%, %sscoring %.0f img/s; "
        "%s to the end%s: %d steps, %d evaluations, %d rows to score",
        rates.steps,
        rates.img_s,
        100 * rates.data_wait_share,
        "" if memory is None else f"peak memory {memory}, ",
        rates.scoring_img_s,
        describe_duration(forecast),
        rough,
        left.steps,
        left.evaluations,
        left.rows_to_score,
    )


def _require_hours(forecast: float, *, max_hours: float | None) -> None:
    if max_hours is not None and forecast > 3600 * max_hours:
        raise UserError(
            f"params.yaml: machine.max_hours: {max_hours:g} hours are allowed, the forecast is "
            f"{forecast / 3600:.3g} ({describe_duration(forecast)}); no step was taken. Plan "
            "less, raise max_hours, or set it to null for no limit"
        )

"""A few steps of a run before it begins: do they fit, how fast are they, when will it be done?

The steps are the run's own, on its own batches, from where it stands on, and all that they change
is taken back: a run ends in the same bits with and without a preflight.
"""

import itertools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch

from stages.computing.device import peak_memory, reset_peak
from stages.loading.loader import EvalLoader
from stages.modeling.predict import predict
from stages.runtime.errors import InterruptedRunError, UserError
from stages.training.assembly import fit_explained
from stages.training.checkpoint import require_room
from stages.training.loop import Loop
from stages.training.losses import Losses
from stages.training.progress import Progress, describe_duration
from stages.training.session import MODELS, Session
from stages.training.tuning import (
    Rates,
    compile_for_good,
    for_a_while,
    is_worth_trying,
    take_faster,
)

# Steps are measured until there are this many and they took this long, or took the longest time.
ENOUGH_STEPS, ENOUGH_SECONDS, MAX_SECONDS = 12, 5.0, 20.0
ENOUGH_SCORING_SECONDS = 2.0
WARMUP_STEPS = 2
# Share of the steps and batches that are left to do.
MAX_SHARE = 0.02
# Bytes of a row of logits.parquet: seven numbers and the face's name.
_BYTES_OF_A_ROW = 100

logger = logging.getLogger(__name__)


def preflight(
    session: Session, loop: Loop, progress: Progress, *, val: EvalLoader
) -> dict[str, Any]:
    """Try the run's next steps, forecast the rest from them, and leave the run as it was.

    With `machine.compile` the steps are compiled from here on, or not. `val` are the batches of an
    evaluation. Returns the record that history.json keeps; `took_s` is empty until
    `settle_forecast`.

    Raises:
        UserError: if a batch does not fit the GPU, the run the disk, or the forecast `max_hours`.
    """
    start, step = time.monotonic(), loop.step
    num_val = len(session.rows.val)
    num_steps = loop.schedule.total_steps - progress.step
    evaluations = sum(map(loop.is_evaluated, range(progress.epoch + 1, loop.epochs + 1)))
    num_rows = evaluations * num_val + len(session.rows.scored)
    reset_peak(step.device)
    with fit_explained(session, step.model):
        with step.rehearsal():
            num_batches = len(val) * num_rows / num_val
            rates = _rehearse(
                session, loop, progress, val=val, num_steps=num_steps, num_batches=num_batches
            )
            memory, checkpoint_bytes = peak_memory(step.device), step.state_bytes()
        forecast = num_steps * rates.step_seconds + num_rows / rates.scoring_img_s
        rough = "" if rates.steps >= ENOUGH_STEPS else " (a rough forecast, of so few steps)"
        logger.info(
            f"preflight of {rates.steps} steps: {rates.img_s:.0f} img/s, "
            f"data wait {100 * rates.data_wait_share:.0f} %, "
            f"{'' if memory is None else f'peak memory {memory}, '}"
            f"scoring {rates.scoring_img_s:.0f} img/s; {describe_duration(forecast)} to the end"
            f"{rough}: {num_steps} steps, {evaluations} evaluations, {num_rows} rows to score"
        )
        if memory is not None and step.device.type == "cuda" and memory.peak > memory.total:
            # Windows lends a GPU the machine's memory instead of failing, at a tenth of the speed.
            raise torch.cuda.OutOfMemoryError(f"it needs {memory}")
    step.team.lead(
        partial(_refuse, session, loop, forecast=forecast, checkpoint_bytes=checkpoint_bytes)
    )
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "epoch": progress.epoch + 1,
        "step": progress.step,
        "seconds": round(time.monotonic() - start, 3),
        "tried": {name: round(value, 6) for name, value in asdict(rates).items()},
        "compiled": step.path.is_compiled,
        "memory_bytes": None if memory is None else memory._asdict(),
        "left": {"steps": num_steps, "evaluations": evaluations, "rows_to_score": num_rows},
        "forecast_s": round(forecast, 1),
        "took_s": None,
    }


def settle_forecast(history: Sequence[Mapping[str, Any]], *, took_s: float) -> None:
    """Write what the run took beside the last forecast of the history, and log both."""
    last = [record["preflight"] for record in history if record.get("preflight")][-1]
    last["took_s"] = round(took_s, 1)
    forecast, took = describe_duration(last["forecast_s"]), describe_duration(took_s)
    difference = 100 * (took_s / last["forecast_s"] - 1)
    logger.info("forecast %s, took %s (%+.0f %%)", forecast, took, difference)


def quota(left: float) -> tuple[int, int]:
    """Return how many of the steps that are left warm up, and how many are measured (1 or more)."""
    tried = max(1, int(MAX_SHARE * left))
    warmup = min(WARMUP_STEPS, tried // 2)
    return warmup, tried - warmup


def _rehearse(
    session: Session,
    loop: Loop,
    progress: Progress,
    *,
    val: EvalLoader,
    num_steps: int,
    num_batches: float,
) -> Rates:
    """Measure the way that the run will compute: compiled, or as the model is."""
    # Losses of a trial that failed must not be taken for the run's.
    loop = replace(loop, losses=Losses())
    step, compiling = loop.step, session.machine.compile
    # Starting workers takes seconds, once, and is no part of the rate: wait for a first batch. With
    # few val rows some process of a team has none.
    next(iter(loop.batches.epoch(progress.epoch, start_batch=progress.batch)), None)
    next(iter(val), None)
    scoring_img_s = _scoring_rate(loop, val, num_batches=num_batches)
    measure = partial(_step_rates, loop, progress, quota(num_steps), scoring_img_s=scoring_img_s)
    if compiling is True:
        # By a step that is not measured.
        compile_for_good(step.path, call=lambda: loop.settle(next(_steps(loop, progress))))
    rates = measure()
    seconds_left = num_steps * rates.step_seconds
    if is_worth_trying(compiling, seconds_left=seconds_left, device=step.device, team=step.team):
        rates = take_faster(step.path, eager=rates, measure=measure)
    # Each process scores its share of the rows, all at the same time.
    together = replace(rates, scoring_img_s=rates.scoring_img_s * step.team.size)
    return step.team.lead(lambda: together)


def _step_rates(
    loop: Loop, progress: Progress, share: tuple[int, int], *, scoring_img_s: float
) -> Rates:
    warmup, limit = share
    for number, trial in enumerate(_steps(loop, progress), start=1):
        if signal_number := loop.stop_signal():
            raise InterruptedRunError(signal_number)
        if number == warmup:
            loop.settle(trial)
            trial.clear_sums()
        num_steps = max(0, number - warmup)
        is_enough = num_steps >= ENOUGH_STEPS and trial.seconds >= ENOUGH_SECONDS
        is_too_long = num_steps > 0 and trial.seconds >= MAX_SECONDS
        if loop.step.team.lead(partial(bool, num_steps == limit or is_enough or is_too_long)):
            break
    loop.settle(trial)
    return Rates(
        steps=num_steps,
        step_seconds=trial.seconds / num_steps,
        img_s=trial.images / trial.seconds,
        data_wait_share=trial.wait_seconds / trial.seconds,
        scoring_img_s=scoring_img_s,
    )


def _steps(loop: Loop, progress: Progress) -> Iterator[Progress]:
    """Take the steps of the run up to its end, counted anew; skip what is between two epochs."""
    trial = Progress(epoch=progress.epoch, batch=progress.batch, step=progress.step)
    while trial.epoch < loop.epochs:
        for _ in loop.steps(trial):
            yield trial
        trial.epoch, trial.batch = trial.epoch + 1, 0


def _scoring_rate(loop: Loop, val: EvalLoader, *, num_batches: float) -> float:
    """Measure images a second over a few of the batches that are left to score."""
    step, batches = loop.step, iter(val)
    score = partial(
        predict, step.weights(), finish=val.finish, device=step.device, dtype=step.dtype
    )
    warmup, limit = quota(num_batches)
    if warmup and len(val) > warmup:
        score(itertools.islice(batches, warmup))
    start = time.monotonic()
    measured = itertools.islice(batches, limit)
    logits = score(for_a_while(measured, seconds=ENOUGH_SCORING_SECONDS))
    return len(logits) / (time.monotonic() - start)


def _refuse(session: Session, loop: Loop, *, forecast: float, checkpoint_bytes: int) -> None:
    """Refuse a disk without room for the run, and a forecast above `max_hours`."""
    require_room(
        loop.folder,
        models=MODELS,
        checkpoint_bytes=checkpoint_bytes,
        weights_bytes=loop.step.weights_bytes(),
        table_bytes=len(session.rows.scored) * _BYTES_OF_A_ROW,
    )
    hours = session.machine.max_hours
    if hours is not None and forecast > 3600 * hours:
        raise UserError(
            f"params.yaml: machine.max_hours: {hours:g} hours are allowed, the forecast is "
            f"{forecast / 3600:.3g} ({describe_duration(forecast)}); no step was taken. Plan "
            "less, raise max_hours, or set it to null for no limit"
        )

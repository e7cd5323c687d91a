"""plots/seeds.csv, which `tools.summarize --write` makes -> this run's numbers over seeds."""

from collections.abc import Iterator

from stages.calibrating.score_table import Score
from stages.reporting.finished import Finished
from stages.reporting.wording import (
    STAGE_WORDS,
    counted,
    difference,
    estimate,
    metric_words,
    number,
    signed,
)

FILE = "plots/seeds.csv"
# A row for each recipe, metric and seed; from `n`, the number of seeds, on they are of the metric.
COLUMNS = ("recipe", "metric", "seed", "value", "n", "mean", "low", "high", "deviation")


def over_seeds(run: Finished, *, seed: int) -> Iterator[tuple[object, ...]]:
    """Yield the exported model's numbers over seeds, and the gain of stage B.

    There is none if no recipe of plots/seeds.csv has, for this seed, exactly the numbers of this
    run.
    """
    titles = {run.stage: STAGE_WORDS[run.stage], "stageB_vs_stageA": "Stage B minus Stage A"}
    for _, recipe in run.seeds.groupby("recipe", sort=False):
        rows = recipe[recipe["seed"] == seed]
        if rows.empty or (rows["value"] != rows["metric"].map(run.metrics)).any():
            continue
        for row in rows.to_dict("records"):
            of, model, *place, metric = row["metric"].split(".")
            if of in titles and model == run.model:
                where = " ".join(place).replace("gates ", "gate ") or run.rows
                name = metric_words(metric).partition(" (")[0]
                one, mean = (number, estimate) if of == run.stage else (signed, difference)
                over = mean(Score(row["mean"], row["low"], row["high"], row["n"]))
                numbers = (one(row["value"]), over, number(row["deviation"]))
                yield (titles[of], where, name, counted(row["n"]), *numbers)

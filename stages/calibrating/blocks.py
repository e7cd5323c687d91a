"""One model on one set of rows -> a block of numbers that says what it was fitted and taken on.

DVC shows the plain numbers of a block as columns and passes over its lists, so a block's headline
is plain and its tables are lists of rows. `schema.py` says what a block has, to the last key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.calibrating.calibration import Mask, Pair
from stages.calibrating.protocol import Protocol
from stages.config import CLASSES
from stages.records.schema import targets_of
from stages.scoring.bootstrap import Estimate, Resamples, draw, estimates, f1_estimates
from stages.scoring.confidence import ece_floor
from stages.scoring.metrics import Floats, Ints
from stages.scoring.votes import kl_estimate, shares_of

NATIVE_PX_EDGES = (0, 48, 96, 192)
MAJORITY, VOTES = "majority", "votes"
# What a model's short block of val rows has.
CHOOSING = ("accuracy", "macro_f1", "nll")

Block = dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """A model's probabilities on manifest rows; the model by the hashes of its weights."""

    rows: pd.DataFrame
    pair: Pair
    fitted_on: str
    reported_on: str
    weights_sha256: tuple[str, ...]

    @property
    def targets(self) -> Ints:
        """Class numbers (N,)."""
        return targets_of(self.rows)

    def only(self, mask: Mask) -> "Evidence":
        """The evidence of the rows of the mask (N,)."""
        return Evidence(
            self.rows[mask],
            self.pair.only(mask),
            self.fitted_on,
            self.reported_on,
            self.weights_sha256,
        )

    def about(self, *, label_rule: str) -> list[Block]:
        """What the numbers of this evidence are numbers of."""
        return [
            {
                "weights_sha256": list(self.weights_sha256),
                "label_rule": label_rule,
                "fitted_on": self.fitted_on,
                "reported_on": self.reported_on,
                "n": len(self.rows),
            }
        ]


@dataclass(frozen=True)
class Reported:
    """The evidence that counts, the same with rows that were trained on, and what was left out."""

    evidence: Evidence
    whole: Evidence
    left_out: Mapping[str, int]


def block(reported: Reported, *, protocol: Protocol) -> Block:
    """Headline and tables: raw and scaled with intervals, per class, source and native size.

    Without a row that counts there is `n: 0` and what was left out.
    """
    evidence = reported.evidence
    frame = _frame(reported)
    if evidence.rows.empty:
        return {"n": 0} | frame
    draws = protocol.resamples(evidence.rows["group"].tolist())
    targets, bins = evidence.targets, protocol.bins
    raw, scaled = (
        score_row(found, targets, resamples=draws, bins=bins)
        for found in (evidence.pair.raw, evidence.pair.scaled)
    )
    return headline(raw, scaled) | {"classes": num_classes(evidence)} | frame | {
        "scores": [{"probabilities": "raw"} | raw, {"probabilities": "scaled"} | scaled],
        "per_class": class_table(evidence, resamples=draws, bins=bins),
        "per_source": _parts(evidence, "source", source_masks(evidence.rows), protocol=protocol),
        "per_native_px": _parts(
            evidence, "native_px", native_px_masks(evidence.rows), protocol=protocol
        ),
        "row_sets": _parts(
            reported.whole, "rows", row_set_masks(reported.whole.rows), protocol=protocol
        ),
    }  # fmt: skip


def headline(raw: Block, scaled: Block) -> Block:
    """The few numbers that DVC shows: of the calibrated model, and its NLL before scaling."""
    return {
        "n": scaled["n"],
        "accuracy": scaled["accuracy"],
        "macro_f1": scaled["macro_f1"],
        "nll": scaled["nll"],
        "nll_raw": raw["nll"],
        "ece": scaled["ece"],
        "ece_floor": scaled["ece_floor"],
    }


def held_out_row(reported: Reported, *, protocol: Protocol) -> Block:
    """What models are chosen by: calibrated scores of val rows by folds; `n: 0` without a row."""
    evidence = reported.evidence
    frame = _frame(reported)
    if evidence.rows.empty:
        return {"n": 0} | frame
    draws = protocol.resamples(evidence.rows["group"].tolist())
    row = score_row(evidence.pair.scaled, evidence.targets, resamples=draws, bins=protocol.bins)
    kept = {key: row[key] for metric in CHOOSING for key in (metric, f"{metric}_95")}
    return {"n": row["n"], "classes": num_classes(evidence)} | kept | frame


def num_classes(evidence: Evidence) -> int:
    """How many of the seven classes the rows are of; macro-F1 counts each absent one as 0."""
    return len(np.unique(evidence.targets))


def votes_block(evidence: Evidence, *, protocol: Protocol) -> Block:
    """How far the model is from the crowd's votes, by what it was scaled by; `n: 0` without any."""
    voted = evidence.only(~np.isnan(evidence.pair.to_votes[:, 0]))
    shares = shares_of(voted.rows)
    voted, shares = voted.only(~np.isnan(shares[:, 0])), shares[~np.isnan(shares[:, 0])]
    about = voted.about(label_rule=VOTES)
    if voted.rows.empty:
        return {"n": 0, "about": about}
    draws = protocol.resamples(voted.rows["group"].tolist())
    pair = voted.pair
    scores = [
        {"probabilities": name, "n": len(shares)}
        | _with_intervals({"kl": kl_estimate(probabilities, shares, resamples=draws)})
        for name, probabilities in (
            ("raw", pair.raw), ("scaled", pair.to_votes), ("scaled_to_majority", pair.scaled),
        )
    ]  # fmt: skip
    raw, scaled, _ = scores
    plain = {"kl": scaled["kl"], "kl_raw": raw["kl"]}
    return {"n": len(shares)} | plain | {"about": about, "scores": scores}


def score_row(probabilities: Floats, targets: Ints, *, resamples: Resamples, bins: int) -> Block:
    """n, every metric with its 95 % interval, and the floor of the ECE."""
    floor = ece_floor(probabilities, group=resamples.group, bins=bins)
    drawn = draw(probabilities, targets, resamples=resamples, bins=bins)
    found = estimates(drawn, floor=floor)
    floors = {"ece_floor": floor.mean, "ece_floor_95": floor.percentile_95}
    return {"n": len(targets)} | _with_intervals(found) | floors


def class_table(evidence: Evidence, *, resamples: Resamples, bins: int) -> list[Block]:
    """Rows and F1 of each class, after calibration; a class without rows has no F1."""
    targets = evidence.targets
    drawn = draw(evidence.pair.scaled, targets, resamples=resamples, bins=bins)
    count = np.bincount(targets, minlength=len(CLASSES))
    absent: Block = {"f1": None, "f1_95": None}
    return [
        {"class": name, "n": int(count[c])}
        | (_with_intervals({"f1": found}) if count[c] else absent)
        for c, (name, found) in enumerate(zip(CLASSES, f1_estimates(drawn), strict=True))
    ]


def source_masks(rows: pd.DataFrame) -> dict[str, Mask]:
    """Which rows (N,) come from each source."""
    source = rows["source"].to_numpy()
    return {str(name): source == name for name in sorted(set(source))}


def native_px_masks(rows: pd.DataFrame) -> dict[str, Mask]:
    """Which rows (N,) have how much real detail, for the buckets that have rows."""
    size = rows["native_px"].to_numpy()
    highs = [*NATIVE_PX_EDGES[1:], np.inf]
    masks = {
        _bucket(low, high): (size >= low) & (size < high)
        for low, high in zip(NATIVE_PX_EDGES, highs, strict=True)
    }
    return {name: mask for name, mask in masks.items() if mask.any()}


def row_set_masks(rows: pd.DataFrame) -> dict[str, Mask]:
    """Sets of rows (N,) that a reader may mean, those that were trained on included.

    A dataset's own split is `official`; `duplicate_free` rows had no duplicate in another split
    before any row left.
    """
    official = (rows["official"] == rows["split"]).to_numpy(dtype=bool)
    is_free = (rows["twin_splits"] == "").to_numpy(dtype=bool)
    masks = {
        "all": np.ones(len(rows), dtype=bool),
        "duplicate_free": is_free,
        "official": official,
        "official_duplicate_free": official & is_free,
    }
    return {name: mask for name, mask in masks.items() if mask.any()}


def rounded(value: Any, *, digits: int = 6) -> Any:
    """The same JSON value with its floats rounded, so that equal results are equal bytes."""
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, dict):
        return {key: rounded(entry, digits=digits) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(entry, digits=digits) for entry in value]
    return value


def _frame(reported: Reported) -> Block:
    return {
        "about": reported.evidence.about(label_rule=MAJORITY),
        "left_out": [{"reason": why, "rows": rows} for why, rows in reported.left_out.items()],
    }


def _parts(
    evidence: Evidence, key: str, masks: Mapping[str, Mask], *, protocol: Protocol
) -> list[Block]:
    """The scaled row of each part of the rows; `classes` says how many of the seven are there."""
    draws = protocol.resamples(evidence.rows["group"].tolist())
    table = []
    for name, mask in masks.items():
        part = evidence.only(mask)
        row = score_row(
            part.pair.scaled, part.targets, resamples=draws.only(mask), bins=protocol.bins
        )
        table.append({key: name, "classes": num_classes(part)} | row)
    return table


def _with_intervals(found: Mapping[str, Estimate]) -> Block:
    values: Block = {}
    for metric, estimate in found.items():
        values |= {metric: estimate.value, f"{metric}_95": list(estimate.interval)}
    return values


def _bucket(low: int, high: float) -> str:
    if low == 0:
        return f"below {high:.0f}"
    return f"{low} to {high - 1:.0f}" if np.isfinite(high) else f"{low} and more"

"""Numbers of metrics/*.json -> what a reader sees, always in the same form."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stages.reporting.elements import wrapped
from stages.reporting.markup import Content, Markup, join, tag
from stages.scoring.temperature import HIGHEST, LOWEST

Block = Mapping[str, Any]


def number(value: float) -> str:
    """Three decimals; a minus is a minus sign."""
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float) -> str:
    """A difference, with its sign."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def counted(value: int) -> str:
    """Thousands apart."""
    return f"{value:,}"


def short(sha256: str) -> Markup:
    """The first digits of a hash, all of it for who points at it."""
    return tag("code", sha256[:12], title=sha256)


def with_interval(row: Block, metric: str) -> Markup:
    """A metric and its 95 % interval."""
    return estimate(row[metric], row[f"{metric}_95"])


def temperature(fit: Block, name: str = "temperature") -> Content:
    """A fitted temperature and its 95 % interval, open where it ends at a bound; or no fit."""
    if (reason := fit[f"{name}_no_fit"]) is not None:
        return wrapped(f"{fit[name]:g}: no fit, {reason}")
    low, high = fit[f"{name}_95"]
    ends = ("open" if end in (LOWEST, HIGHEST) else number(end) for end in (low, high))
    return _pair(number(fit[name]), *ends)


def difference(row: Block, metric: str) -> Markup:
    """A difference and its 95 % interval, both with signs."""
    low, high = (signed(end) for end in row[f"{metric}_95"])
    return _pair(signed(row[metric]), low, high)


def estimate(value: float, interval: Sequence[float]) -> Markup:
    """A value and its 95 % interval."""
    low, high = (number(end) for end in interval)
    return _pair(number(value), low, high)


def about(block: Block) -> str:
    """What a block's numbers are numbers of: n, rows, protocol, label rule."""
    (line,) = block["about"]
    return (
        f"n = {counted(line['n'])} rows of {line['reported_on']}; fitted on {line['fitted_on']}; "
        f"{line['label_rule']} labels"
    )


def fitted_on(blocks: Iterable[Block]) -> str:
    """What the models of a table were fitted on: all that is said of some model."""
    return " or ".join(dict.fromkeys(line["fitted_on"] for one in blocks for line in one["about"]))


def scored(block: Block, probabilities: str) -> Block:
    """The row of `raw` or `scaled` scores of a block."""
    row: Block = next(one for one in block["scores"] if one["probabilities"] == probabilities)
    return row


def left_out(rows: Sequence[Block]) -> str:
    """Rows that do not count, with the reason, or `none`."""
    told = [f"{counted(one['rows'])}: {one['reason']}" for one in rows if one["rows"]]
    return "; ".join(told) or "none"


def _pair(value: str, low: str, high: str) -> Markup:
    return join([value, " ", tag("span", f"[{low}, {high}]", class_="interval")])

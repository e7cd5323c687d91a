"""Numbers and codes of a run -> what a reader sees, always in the same form."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from stages.calibrating.score_table import Score
from stages.scoring.temperature import HIGHEST, LOWEST

STAGE_WORDS = {"stageA": "Stage A", "stageB": "Stage B"}
_METRIC_WORDS = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
    "ece_floor": "ECE floor (95\N{NO-BREAK SPACE}%)",
    "in_domain": "in domain",
    "f1": "F1",
    "kl": "KL",
}
REFINEMENT_WORDS = {
    "none": "T alone",
    "prior": "T and the prior",
    "bias": "T and a bias per class",
}

_PAIR = Markup('{} <span class="interval">[{}, {}]</span>')


def stages_spelt(text: str) -> str:
    """Replace the codes of the stages in a text by their words."""
    return text.replace("stageA", "Stage A").replace("stageB", "Stage B")


def metric_words(metric: str) -> str:
    """Name a metric as a reader does."""
    return _METRIC_WORDS.get(metric, metric)


def number(value: float) -> str:
    """Write three decimals; a minus is a minus sign."""
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float) -> str:
    """Write a difference with its sign."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def counted(value: float) -> str:
    """Write a whole number with its thousands apart."""
    return f"{value:,.0f}"


def place_words(rows: str) -> str:
    """Name rows as a reader does: `gate:x` is gate x."""
    return rows.replace(":", " ", 1)


def short(sha256: str) -> Markup:
    """Write the first digits of a hash; its title holds the whole one."""
    return Markup('<code title="{}">{}</code>').format(sha256, sha256[:12])


def wrapped(text: str) -> Markup:
    """Let the words of a table's cell take several lines."""
    return Markup('<span class="wrap">{}</span>').format(text)


def estimate(score: Score) -> Markup:
    """Write a value and its 95 % interval."""
    return _PAIR.format(number(score.value), number(score.low), number(score.high))


def difference(score: Score) -> Markup:
    """Write a difference and its 95 % interval, all with signs."""
    return _PAIR.format(signed(score.value), signed(score.low), signed(score.high))


def temperature(fit: Any, prefix: str = "") -> Markup:
    """Write a model's temperature and its 95 % interval, open where it ends at a bound; or no fit.

    With the prefix `crowd_` it is the temperature that was fitted to the crowd's votes.
    """
    if (value := getattr(fit, f"{prefix}temperature")) is None:
        return wrapped("none: no or too few rows of val have votes")
    if (reason := getattr(fit, f"{prefix}temperature_no_fit")) is not None:
        return wrapped(f"{value:g}: no fit, {reason}")
    ends = getattr(fit, f"{prefix}temperature_95")
    words = ["open" if end in (LOWEST, HIGHEST) else number(end) for end in ends]
    return _PAIR.format(number(value), *words)


def refinement(fit: Any) -> Markup:
    """Write what was fitted beside the temperature; s with its 95 % interval if it is a prior."""
    choice, words = fit.refinement, REFINEMENT_WORDS[fit.refinement.taken]
    if choice.prior_exponent is None:
        return Markup.escape(words)
    ends = map(number, choice.prior_exponent_95)
    return Markup("{}, s = {}").format(words, _PAIR.format(number(choice.prior_exponent), *ends))


def reasons(counts: Mapping[str, int]) -> str:
    """List reasons with their counts."""
    return ", ".join(f"{reason} {counted(n)}" for reason, n in counts.items())

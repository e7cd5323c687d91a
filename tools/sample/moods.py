"""Moods between two classes: how a face shows one, and what a crowd sees in it.

A `Mood` becomes an `Expression`, the strengths (0 to 1) of action units. Which units make which
class follows the prototypes of P. Ekman, W. V. Friesen, J. C. Hager, "Facial Action Coding System:
Investigator's Guide" (2002): Angry 4+5+7+23, Disgust 9+10+17, Fear 1+2+4+5+20+26, Happy 6+12, Sad
1+4+15, Surprise 1+2+5+26; contempt is a one-sided 12+14. They are exaggerated as a cartoonist
would. Each class has two forms; a face lies somewhere between them.

The crowd: a share s of the second class gets s^2 / (s^2 + (1 - s)^2) of the votes, a weak
expression is partly taken for Neutral, and some votes are slips.
"""

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from stages.config import CLASSES

ANSWERS = (*CLASSES, "Contempt", "Unknown", "NF")
Votes = NDArray[np.int64]
Shares = NDArray[np.float64]

# What each class is confused with, the likeliest first.
_NEIGHBOURS = {
    "Angry": ("Disgust", "Neutral", "Sad"),
    "Disgust": ("Angry", "Sad", "Neutral"),
    "Fear": ("Surprise", "Sad", "Surprise"),
    "Happy": ("Neutral", "Surprise", "Neutral"),
    "Sad": ("Neutral", "Fear", "Disgust"),
    "Surprise": ("Fear", "Happy", "Fear"),
    "Neutral": ("Sad", "Happy", "Angry"),
    "Contempt": ("Neutral", "Neutral", "Neutral"),
}
# How much of the neighbour: most moods are clear, few lie nearly halfway.
_SHARES = ((0.0, 0.12), (0.0, 0.12), (0.0, 0.12), (0.12, 0.32), (0.32, 0.5))
_SLIPS = np.array([0.008] * 7 + [0.006, 0.012, 0.002])


@dataclass(frozen=True)
class Mood:
    """`share` (0 to 0.5) of `other` in a face of class `main`, shown with `intensity` (0 to 1)."""

    main: str
    other: str
    share: float
    intensity: float


@dataclass(frozen=True)
class Expression:
    """Strengths of action units; all zero is a face at rest."""

    inner_brow: float = 0  # AU 1, raised
    outer_brow: float = 0  # AU 2, raised
    brow_lower: float = 0  # AU 4, lowered and drawn together
    lid_raise: float = 0  # AU 5, wide eyes
    cheek_raise: float = 0  # AU 6, lower lid pushed up
    lid_tighten: float = 0  # AU 7, narrow eyes
    nose_wrinkle: float = 0  # AU 9
    upper_lip: float = 0  # AU 10, raised
    corner_pull: float = 0  # AU 12, smile
    smirk: float = 0  # AU 12 + 14 on one side
    corner_drop: float = 0  # AU 15
    chin_raise: float = 0  # AU 17, lower lip pushed up
    lip_stretch: float = 0  # AU 20, sideways
    lip_press: float = 0  # AU 23, 24
    jaw_drop: float = 0  # AU 26, 27
    lid_droop: float = 0  # AU 43, heavy eyes


FORMS: dict[str, tuple[Expression, Expression]] = {
    "Angry": (
        Expression(brow_lower=1, lid_tighten=0.45, lid_raise=0.2, lip_press=1, corner_drop=0.25),
        Expression(brow_lower=1, lid_tighten=0.3, lid_raise=0.3, lip_stretch=0.6, jaw_drop=0.4),
    ),
    "Disgust": (
        Expression(
            nose_wrinkle=1, upper_lip=1, lid_tighten=0.9, brow_lower=0.45, cheek_raise=0.5,
            corner_drop=0.5, chin_raise=0.4,
        ),
        Expression(
            nose_wrinkle=0.9, upper_lip=0.8, lid_tighten=1, brow_lower=0.35, cheek_raise=0.7,
            corner_drop=0.7, jaw_drop=0.3,
        ),
    ),
    "Fear": (
        Expression(
            inner_brow=1, outer_brow=0.3, brow_lower=0.25, lid_raise=1, lip_stretch=1, jaw_drop=0.3
        ),
        Expression(
            inner_brow=1, outer_brow=0.4, brow_lower=0.2, lid_raise=0.9, lip_stretch=0.9,
            jaw_drop=0.5, corner_drop=0.3,
        ),
    ),
    "Happy": (
        Expression(cheek_raise=1, corner_pull=1, jaw_drop=0.6),
        Expression(cheek_raise=0.7, corner_pull=0.95, jaw_drop=0.12),
    ),
    "Sad": (
        Expression(inner_brow=1, lid_droop=0.7, corner_drop=1, chin_raise=0.8),
        Expression(inner_brow=0.8, brow_lower=0.15, lid_droop=0.9, corner_drop=1),
    ),
    "Surprise": (
        Expression(inner_brow=1, outer_brow=1, lid_raise=0.9, jaw_drop=1),
        Expression(inner_brow=0.9, outer_brow=1, lid_raise=0.8, jaw_drop=0.7),
    ),
    "Neutral": (Expression(), Expression(lid_droop=0.15, lip_press=0.15)),
    "Contempt": (
        Expression(smirk=1, lid_droop=0.4, lip_press=0.3),
        Expression(smirk=0.9, lid_tighten=0.3, outer_brow=0.2),
    ),
}  # fmt: skip


def draw_mood(main: str, *, rng: np.random.Generator) -> Mood:
    """A mood of class `main`: three in five are clear, one in five is half a neighbour."""
    neighbours = _NEIGHBOURS[main]
    other = neighbours[int(rng.integers(len(neighbours)))]
    low, high = _SHARES[int(rng.integers(len(_SHARES)))]
    return Mood(main, other, float(rng.uniform(low, high)), float(rng.uniform(0.75, 1.0)))


def blend(mood: Mood, *, rng: np.random.Generator) -> Expression:
    """The mood's two classes, each somewhere between its two forms; every strength is jittered."""
    parts = []
    for name in (mood.main, mood.other):
        first, second = (np.array(astuple(form)) for form in FORMS[name])
        parts.append(first + rng.random() * (second - first))
    full = parts[0] + mood.share * (parts[1] - parts[0])
    jitter = rng.uniform(-0.06, 0.06, len(full))
    return Expression(*np.clip(mood.intensity * full + jitter, 0, 1).tolist())


def crowd_shares(mood: Mood) -> Shares:
    """The share of each of `ANSWERS` among very many people who see the mood."""
    shares = np.zeros(len(ANSWERS))
    own, other = (1 - mood.share) ** 2, mood.share**2
    weak = 0.5 * (1 - mood.intensity)
    shares[ANSWERS.index(mood.main)] += (1 - weak) * own / (own + other)
    shares[ANSWERS.index(mood.other)] += (1 - weak) * other / (own + other)
    shares[ANSWERS.index("Neutral")] += weak
    return np.asarray(shares * (1 - _SLIPS.sum()) + _SLIPS, np.float64)


def draw_votes(shares: Shares, *, voters: int, rng: np.random.Generator) -> Votes:
    """How many of `voters` people give each answer, (10,)."""
    edges = np.cumsum(shares)[:-1]
    answers = np.searchsorted(edges, rng.random(voters), side="right")
    return np.asarray(np.bincount(answers, minlength=len(shares)), np.int64)


def draw_clear_votes(winner: str, *, rng: np.random.Generator) -> Votes:
    """Ten votes of which at least seven are for `winner`, whatever the picture shows."""
    shares = _SLIPS + 0.1 * (np.arange(len(ANSWERS)) == ANSWERS.index("Neutral"))
    shares[ANSWERS.index(winner)] += 1 - shares.sum()
    while True:
        votes = draw_votes(shares, voters=10, rng=rng)
        if votes[ANSWERS.index(winner)] >= 7:
            return votes


def name_class(mood: Mood, *, voters: int, rng: np.random.Generator) -> str:
    """The class that most of `voters` people name: a hard label, sometimes a wrong one."""
    shares = crowd_shares(mood)[: len(CLASSES)]
    votes = draw_votes(shares / shares.sum(), voters=voters, rng=rng)
    return CLASSES[int(votes.argmax())]

"""What people see in a face: moods between two classes, and the votes of a crowd upon them.

In: a class and a random generator. Out: a `Mood` (what is drawn), the crowd's shares (10,), votes.
The crowd model: a share s of the second class in the drawing gets s^2 / (s^2 + (1 - s)^2) of the
votes, a weak expression is partly taken for Neutral, and some votes are slips.
"""

from dataclasses import dataclass

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


def draw_mood(main: str, *, rng: np.random.Generator) -> Mood:
    """A mood of class `main`: three in five are clear, one in five is half a neighbour."""
    neighbours = _NEIGHBOURS[main]
    other = neighbours[int(rng.integers(len(neighbours)))]
    low, high = _SHARES[int(rng.integers(len(_SHARES)))]
    return Mood(main, other, float(rng.uniform(low, high)), float(rng.uniform(0.75, 1.0)))


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

"""Who a drawn face is: everything about it that is not its expression.

In: a random generator. Out: an `Identity`; colours are RGB, lengths in face units.
"""

from dataclasses import dataclass

import numpy as np

from tools.sample.pen import Color

SKINS: tuple[Color, ...] = (
    (255, 224, 196), (248, 208, 172), (240, 190, 150), (225, 172, 125),
    (205, 150, 105), (178, 122, 82), (150, 98, 64), (122, 78, 52),
)  # fmt: skip
HAIRS: tuple[Color, ...] = (
    (38, 28, 26), (62, 42, 30), (98, 62, 36), (140, 92, 48), (196, 146, 70),
    (226, 190, 112), (168, 72, 40), (150, 148, 150), (222, 220, 218), (92, 60, 110),
)  # fmt: skip
IRISES: tuple[Color, ...] = (
    (60, 40, 28),
    (92, 60, 30),
    (70, 104, 60),
    (60, 100, 150),
    (84, 92, 104),
)
STYLES = ("bald", "short", "parted", "bangs", "long", "curly", "bun", "crest")
BEARDS = ("none", "stubble", "moustache", "full")


@dataclass(frozen=True)
class Identity:
    """One person."""

    skin: Color
    hair: Color
    iris: Color
    shirt: Color
    style: str
    beard: str
    glasses: bool
    freckles: bool
    earrings: bool
    age: float  # 0 young to 1 old: lines, bags
    head_width: float
    jaw_width: float
    chin: float
    eye_gap: float
    eye_size: float
    brow_weight: float
    nose_length: float
    nose_width: float
    lips: float
    seed: int  # where freckles and curls lie


def draw_identity(rng: np.random.Generator) -> Identity:
    """A person drawn at random."""
    skin = _vary(_pick(rng, SKINS), 8, rng)
    bearded = rng.random() < 0.3
    return Identity(
        skin=skin,
        hair=_vary(_pick(rng, HAIRS), 12, rng),
        iris=_pick(rng, IRISES),
        shirt=_vary((int(rng.integers(40, 220)), int(rng.integers(40, 220)), 130), 60, rng),
        style=STYLES[int(rng.integers(len(STYLES)))],
        beard=BEARDS[int(rng.integers(1, len(BEARDS)))] if bearded else "none",
        glasses=bool(rng.random() < 0.18),
        freckles=bool(rng.random() < 0.12),
        earrings=bool(rng.random() < 0.15),
        age=float(rng.random()),
        head_width=float(rng.uniform(0.74, 0.9)),
        jaw_width=float(rng.uniform(0.46, 0.68)),
        chin=float(rng.uniform(0.94, 1.06)),
        eye_gap=float(rng.uniform(0.33, 0.4)),
        eye_size=float(rng.uniform(0.17, 0.21)),
        brow_weight=float(rng.uniform(0.075, 0.12)),
        nose_length=float(rng.uniform(0.16, 0.27)),
        nose_width=float(rng.uniform(0.1, 0.16)),
        lips=float(rng.uniform(0.6, 1.3)),
        seed=int(rng.integers(1 << 31)),
    )


def shade(color: Color, factor: float) -> Color:
    """The colour darkened (factor below 1) or lightened."""
    return _clipped(*(channel * factor for channel in color))


def tint(color: Color, other: Color, share: float) -> Color:
    """The colour mixed with a share of another one."""
    return _clipped(*(a + share * (b - a) for a, b in zip(color, other, strict=True)))


def luma(color: Color) -> int:
    """How bright a colour is, 0 to 255."""
    return (77 * color[0] + 150 * color[1] + 29 * color[2]) >> 8


def _pick(rng: np.random.Generator, colors: tuple[Color, ...]) -> Color:
    return colors[int(rng.integers(len(colors)))]


def _vary(color: Color, spread: int, rng: np.random.Generator) -> Color:
    shift = rng.integers(-spread, spread + 1, 3)
    return _clipped(*(channel + int(step) for channel, step in zip(color, shift, strict=True)))


def _clipped(*channels: float) -> Color:
    red, green, blue = (int(min(255.0, max(0.0, channel))) for channel in channels)
    return red, green, blue

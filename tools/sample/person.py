"""Who a drawn face is: everything about it that is not its expression.

An `Identity` is drawn at random; colours are RGB, lengths in face units. What frames an expression
(shoulders, hair, head, ears, beard, glasses) is drawn behind or in front of it.
"""

from dataclasses import dataclass

import numpy as np

from stages.runtime.seed import generator
from tools.sample.moods import Expression
from tools.sample.pen import Color, Pen, Points, curve, ellipse, loop, mirrored

SKINS: tuple[Color, ...] = (
    (255, 224, 196), (248, 208, 172), (240, 190, 150), (225, 172, 125),
    (205, 150, 105), (178, 122, 82), (150, 98, 64), (122, 78, 52),
)  # fmt: skip
HAIRS: tuple[Color, ...] = (
    (38, 28, 26), (62, 42, 30), (98, 62, 36), (140, 92, 48), (196, 146, 70),
    (226, 190, 112), (168, 72, 40), (150, 148, 150), (222, 220, 218), (92, 60, 110),
)  # fmt: skip
IRISES: tuple[Color, ...] = (
    (60, 40, 28), (92, 60, 30), (70, 104, 60), (60, 100, 150), (84, 92, 104),
)  # fmt: skip
WHITE: Color = (246, 244, 238)
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


def draw_head(pen: Pen, who: Identity, *, expression: Expression) -> None:
    """Back hair, neck and shoulders; ears, the outline with its jaw, beard and freckles."""
    if who.style == "long":
        pen.fill(loop((0, -1.2), (1.02, -0.5), (1.05, 0.6), (0.75, 1.3), (-0.75, 1.3),
                      (-1.05, 0.6), (-1.02, -0.5)), shade(who.hair, 0.8))  # fmt: skip
    if who.style == "bun":
        pen.fill(ellipse(0, -1.25, 0.36, 0.32), who.hair)
    shoulders = curve((-2.1, 3), (-1.5, 1.6), (-0.5, 1.3), (0.5, 1.3), (1.5, 1.6), (2.1, 3))
    pen.fill(np.concatenate([shoulders, [(3.4, 16.0), (-3.4, 16.0)]]), who.shirt)
    neck = curve((-0.36, 0.6), (-0.36, 1.2), (0, 1.55), (0.36, 1.2), (0.36, 0.6))
    pen.fill(neck, shade(who.skin, 0.8))
    for side in (-1, 1):
        ear = ellipse(side * (who.head_width + 0.02), 0.02, 0.12, 0.19)
        pen.fill(ear, shade(who.skin, 0.78))
        if who.earrings:
            pen.fill(ellipse(side * (who.head_width + 0.05), 0.26, 0.05, 0.06), (240, 205, 90))
    pen.fill(_outline(who, expression, grow=0.025), shade(who.skin, 0.62))
    pen.fill(_outline(who, expression, grow=0.0), who.skin)
    _draw_beard(pen, who, expression)
    if who.freckles:
        rng = generator(who.seed, "freckles")
        for x, y in zip(rng.uniform(-0.5, 0.5, 18), rng.uniform(0.08, 0.32, 18), strict=True):
            pen.fill(ellipse(x, y, 0.02, 0.02), shade(who.skin, 0.8))


def draw_in_front(pen: Pen, who: Identity) -> None:
    """Front hair and glasses."""
    for lock in _front_hair(who):
        pen.fill(lock, who.hair)
    if not who.glasses:
        return
    frame = shade(who.hair, 0.45)
    for side in (-1, 1):
        rim = ellipse(side * who.eye_gap, -0.12, 0.3, 0.29)
        pen.stroke(np.concatenate([rim, rim[:2]]), frame, width=0.035, taper=1)
        arm = curve((side * (who.eye_gap + 0.3), -0.14), (side * who.head_width, -0.18))
        pen.stroke(arm, frame, width=0.035, taper=1)
    bridge = curve((-who.eye_gap + 0.29, -0.16), (0, -0.2), (who.eye_gap - 0.29, -0.16))
    pen.stroke(bridge, frame, width=0.035, taper=1)


def _outline(who: Identity, expression: Expression, *, grow: float) -> Points:
    """The face's outline, `grow` wider on all sides; an open jaw lowers the chin."""
    chin = who.chin + 0.12 * expression.jaw_drop + grow
    head, jaw = who.head_width + grow, who.jaw_width + grow
    side = [(0.52 * head, -0.98 - grow), (0.92 * head, -0.55), (head, 0.0), (0.95 * head, 0.32),
            (jaw, 0.72 + 0.07 * expression.jaw_drop), (0.45 * jaw, chin - 0.04)]  # fmt: skip
    left = [(-x, y) for x, y in reversed(side)]
    return loop((0, -1.08 - grow), *side, (0, chin), *left)


def _pick(rng: np.random.Generator, colors: tuple[Color, ...]) -> Color:
    return colors[int(rng.integers(len(colors)))]


def _vary(color: Color, spread: int, rng: np.random.Generator) -> Color:
    shift = rng.integers(-spread, spread + 1, 3)
    return _clipped(*(channel + int(step) for channel, step in zip(color, shift, strict=True)))


def _clipped(*channels: float) -> Color:
    red, green, blue = (int(min(255.0, max(0.0, channel))) for channel in channels)
    return red, green, blue


def _draw_beard(pen: Pen, who: Identity, expression: Expression) -> None:
    drop = 0.12 * expression.jaw_drop
    hair = shade(who.hair, 0.9)
    if who.beard in ("stubble", "full"):
        color = tint(who.skin, hair, 0.22 if who.beard == "stubble" else 0.85)
        head, jaw = who.head_width, who.jaw_width
        half = [(0.97 * head, 0.12), (0.97 * head, 0.34), (jaw + 0.03, 0.74 + drop / 2),
                (0.5 * jaw, who.chin + drop), (0, who.chin + 0.05 + drop)]  # fmt: skip
        inner = [(0.0, 0.4), (0.42, 0.44), (0.74 * head, 0.32)]
        right = half + [(-x, y) for x, y in reversed(half[:-1])]
        left = [(-x, y) for x, y in reversed(inner)]
        pen.fill(curve(*right, *left, *inner[1:]), color)
    if who.beard == "moustache":
        for side in (-1, 1):
            line = curve((0.0, 0.37), (0.16, 0.38), (0.34, 0.47 - 0.1 * expression.corner_pull))
            pen.stroke(mirrored(line, side), hair, width=0.1, taper=0.4)


def _front_hair(who: Identity) -> list[Points]:
    wide = who.head_width
    if who.style == "bald":
        sides = (wide - 0.02, -0.5), (wide + 0.08, -0.3), (wide + 0.05, 0.0), (wide - 0.06, -0.2)
        return [curve(*sides), mirrored(curve(*sides), -1)]
    if who.style == "curly":
        sizes = generator(who.seed, "curls").uniform(0.18, 0.25, 11)
        places = zip(np.linspace(-1, 1, 11), sizes, strict=True)
        return [ellipse(s * wide, -1.1 + 0.62 * s * s, size, size) for s, size in places]
    if who.style == "crest":
        half = 0.57 * wide
        return [curve((-half, -0.92), *_CREST, (half, -0.92), (0, -0.86))]
    crown = [(-wide - 0.05, -0.3), (-wide - 0.02, -0.75), (-0.5, -1.16), (0.0, -1.24),
             (0.5, -1.16), (wide + 0.02, -0.75), (wide + 0.05, -0.3)]  # fmt: skip
    line = [(share * wide + x, y) for share, x, y in _HAIR_LINES[who.style]]
    return [loop(*crown, *line)]


_CREST = ((-0.4, -1.2), (-0.22, -1.1), (-0.15, -1.36), (0.02, -1.16), (0.16, -1.4), (0.24, -1.12),
          (0.44, -1.22))  # fmt: skip
# Hair lines from right to left, below the crown: x as a share of the head's width and an offset, y.
_HAIR_LINES = {
    "short": ((0.8, 0, -0.62), (0, 0.4, -0.86), (0, 0, -0.84), (0, -0.4, -0.86), (-0.8, 0, -0.62)),
    "parted": ((0.85, 0, -0.6), (0, 0.6, -0.7), (0, 0.3, -0.98), (0, -0.2, -0.76),
               (0, -0.6, -0.66), (-0.9, 0, -0.45)),
    "bangs": ((0.95, 0, -0.1), (0.85, 0, -0.62), (0, 0.4, -0.74), (0, 0.2, -0.7), (0, 0, -0.75),
              (0, -0.2, -0.7), (0, -0.4, -0.74), (-0.85, 0, -0.62), (-0.95, 0, -0.1)),
    "long": ((1, 0.04, 0.5), (0.82, 0, -0.4), (0, 0.35, -0.82), (0, 0, -1.0), (0, -0.35, -0.82),
             (-0.82, 0, -0.4), (-1, -0.04, 0.5)),
}  # fmt: skip
_HAIR_LINES["bun"] = _HAIR_LINES["short"]

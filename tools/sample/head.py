"""What frames an expression: shoulders, hair, head, ears, beard, glasses.

In: a pen and an identity. Out: shapes on the pen's canvas, behind or in front of the features.
"""

import numpy as np

from stages.runtime.seed import generator
from tools.sample.expressions import Expression
from tools.sample.identity import Identity, shade, tint
from tools.sample.pen import Pen, Points, curve, ellipse, loop, mirrored

WHITE = (246, 244, 238)


def draw_behind(pen: Pen, who: Identity) -> None:
    """Back hair, neck and shoulders."""
    if who.style == "long":
        pen.fill(loop((0, -1.2), (1.02, -0.5), (1.05, 0.6), (0.75, 1.3), (-0.75, 1.3),
                      (-1.05, 0.6), (-1.02, -0.5)), shade(who.hair, 0.8))  # fmt: skip
    if who.style == "bun":
        pen.fill(ellipse(0, -1.25, 0.36, 0.32), who.hair)
    shoulders = curve((-2.1, 3), (-1.5, 1.6), (-0.5, 1.3), (0.5, 1.3), (1.5, 1.6), (2.1, 3))
    pen.fill(np.concatenate([shoulders, [(3.4, 16.0), (-3.4, 16.0)]]), who.shirt)
    neck = curve((-0.36, 0.6), (-0.36, 1.2), (0, 1.55), (0.36, 1.2), (0.36, 0.6))
    pen.fill(neck, shade(who.skin, 0.8))


def draw_head(pen: Pen, who: Identity, *, expression: Expression) -> None:
    """Ears, the face's outline with its jaw, beard and freckles."""
    for side in (-1, 1):
        ear = ellipse(side * (who.head_width + 0.02), 0.02, 0.12, 0.19)
        pen.fill(ear, shade(who.skin, 0.78))
        if who.earrings:
            pen.fill(ellipse(side * (who.head_width + 0.05), 0.26, 0.05, 0.06), (240, 205, 90))
    pen.fill(outline(who, expression, grow=0.025), shade(who.skin, 0.62))
    pen.fill(outline(who, expression, grow=0.0), who.skin)
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


def outline(who: Identity, expression: Expression, *, grow: float) -> Points:
    """The face's outline, `grow` wider on all sides; an open jaw lowers the chin."""
    chin = who.chin + 0.12 * expression.jaw_drop + grow
    head, jaw = who.head_width + grow, who.jaw_width + grow
    side = [(0.52 * head, -0.98 - grow), (0.92 * head, -0.55), (head, 0.0), (0.95 * head, 0.32),
            (jaw, 0.72 + 0.07 * expression.jaw_drop), (0.45 * jaw, chin - 0.04)]  # fmt: skip
    left = [(-x, y) for x, y in reversed(side)]
    return loop((0, -1.08 - grow), *side, (0, chin), *left)


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

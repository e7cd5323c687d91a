"""A face with an expression: the parts that move with it, drawn over the head.

In: a pen, an identity and an expression. Out: shapes on the pen's canvas. `face_box` says where a
detector would see the face.
"""

import numpy as np

from tools.sample.moods import Expression
from tools.sample.pen import Color, Pen, Points, Pose, curve, ellipse, mirrored
from tools.sample.person import WHITE, Identity, draw_head, draw_in_front, luma, shade, tint

_ACROSS = np.linspace(-1, 1, 25)
_ROUND = np.sqrt(1 - _ACROSS**2)  # how high an opening is along its width: an ellipse,
_FLAT = np.sqrt(1 - _ACROSS**4)  # nearly a rectangle,
_SMILE = 1 - _ACROSS**2  # a parabola
_EYE_Y, _BROW_Y, _MOUTH_Y = -0.12, -0.46, 0.56
_DARK: Color = (36, 22, 24)


def draw_face(pen: Pen, who: Identity, *, expression: Expression) -> None:
    """Draw a person's head with an expression."""
    draw_head(pen, who, expression=expression)
    _draw_lines(pen, who, expression)
    for side in (-1, 1):
        _draw_eye(pen, who, expression, side)
    _draw_nose(pen, who, expression)
    _draw_mouth(pen, who, expression)
    draw_in_front(pen, who)
    for side in (-1, 1):
        _draw_brow(pen, who, expression, side)


def face_box(pose: Pose) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (canvas px) of a square from the forehead to the chin."""
    half = 0.92 * pose.unit_px
    x, y = pose.x + 0.1 * pose.yaw * pose.unit_px, pose.y + 0.12 * pose.unit_px
    return int(x - half), int(y - half), int(x + half), int(y + half)


def _draw_eye(pen: Pen, who: Identity, face: Expression, side: int) -> None:
    """The white between two lid curves, the iris cut off by them, and the lids' lines."""
    x, upper, lower = _lids(who, face)
    pen.fill(mirrored(_between(x, upper, lower), side), WHITE)
    look = who.eye_gap, _EYE_Y + 0.05 * face.lid_droop
    for size, color in ((0.115, who.iris), (0.06, (18, 14, 16))):
        disc = ellipse(*look, size, size)
        highest, lowest = np.interp(disc[:, 0], x, upper), np.interp(disc[:, 0], x, lower)
        disc[:, 1] = np.clip(disc[:, 1], highest, np.maximum(highest, lowest))
        pen.fill(mirrored(disc, side), color)
    dark = shade(_contrast(who.hair, who.skin), 0.5)
    pen.stroke(mirrored(np.stack([x, upper], 1), side), dark, width=0.05, taper=0.6)
    pen.stroke(mirrored(np.stack([x, lower], 1), side), shade(who.skin, 0.6), width=0.02, taper=0.6)


def _lids(who: Identity, face: Expression) -> tuple[Points, Points, Points]:
    """x of an eye from its inner to its outer corner, and y of its upper and its lower lid."""
    size = who.eye_size
    narrow = 0.5 * face.lid_tighten + 0.3 * face.nose_wrinkle
    open_up = size * max(0.1, 0.72 + 0.5 * face.lid_raise - narrow - 0.5 * face.lid_droop)
    open_down = size * max(
        0.06, 0.62 + 0.25 * face.lid_raise - 0.5 * narrow - 0.6 * face.cheek_raise
    )
    tilt = 0.05 * face.inner_brow * (1 - face.outer_brow) - 0.05 * face.brow_lower
    middle = _EYE_Y + tilt * _ACROSS - 0.02 * face.cheek_raise
    scowl = 0.07 * face.brow_lower * np.maximum(0, -_ACROSS) * _ROUND
    x = who.eye_gap + 1.15 * size * _ACROSS
    return x, middle - open_up * _ROUND + scowl, middle + open_down * _ROUND


def _draw_brow(pen: Pen, who: Identity, face: Expression, side: int) -> None:
    sad = face.inner_brow * (1 - face.outer_brow)
    press = face.brow_lower + 0.4 * face.nose_wrinkle
    inner = _BROW_Y - 0.22 * face.inner_brow + 0.24 * press
    middle = _BROW_Y - 0.05 - 0.1 * face.inner_brow - 0.15 * face.outer_brow + 0.1 * press
    outer = _BROW_Y + 0.05 - 0.17 * face.outer_brow + 0.1 * sad - 0.1 * face.brow_lower
    gap = who.eye_gap
    together = 0.07 * face.brow_lower
    line = curve((gap - 0.22 - together, inner), (gap + 0.04, middle), (gap + 0.26, outer))
    color = _contrast(who.hair, who.skin)
    pen.stroke(mirrored(line, side), color, width=who.brow_weight, taper=0.45)


def _draw_nose(pen: Pen, who: Identity, face: Expression) -> None:
    line = shade(who.skin, 0.6)
    tip = 0.08 + who.nose_length - 0.05 * face.nose_wrinkle
    wide = who.nose_width * (1 + 0.35 * face.nose_wrinkle + 0.1 * face.corner_pull)
    pen.fill(ellipse(0, tip - 0.03, wide, 0.09), shade(who.skin, 0.9))
    under = curve((-wide, tip - 0.04), (-0.6 * wide, tip + 0.05), (0, tip + 0.04),
                  (0.6 * wide, tip + 0.05), (wide, tip - 0.04))  # fmt: skip
    pen.stroke(under, line, width=0.035)
    pen.stroke(curve((0.04, -0.12), (0.06, tip - 0.15), (0.09, tip - 0.08)), line, width=0.02)
    if face.nose_wrinkle > 0.2:
        for y in (-0.2, -0.1, 0.0):
            reach = 0.13 * face.nose_wrinkle
            wrinkle = curve((-reach, y - 0.04), (0, y + 0.03), (reach, y - 0.04))
            pen.stroke(wrinkle, line, width=0.035 * face.nose_wrinkle)


def _draw_mouth(pen: Pen, who: Identity, face: Expression) -> None:
    """Lips around an opening that shows teeth, dark and tongue."""
    x, upper, lower = _opening(face)
    thick = 0.055 * who.lips * (1 - 0.75 * face.lip_press)
    lips = tint(who.skin, (170, 50, 60), 0.45)
    above = upper - thick * _ROUND * (1 - 0.25 * np.maximum(0, 1 - 6 * np.abs(_ACROSS)))
    below = lower + 1.25 * thick * _ROUND
    pen.fill(_between(x, above, below), lips)
    pen.fill(_between(x, upper, lower), _DARK)
    gap = lower - upper
    if gap.max() > 0.05:
        pen.fill(_between(x, lower - np.minimum(0.35 * gap, 0.12), lower), (196, 84, 88))
        depth = 0.08 + 0.05 * face.corner_pull + 0.04 * face.lip_stretch
        pen.fill(_between(x, upper, upper + np.minimum(gap, depth)), WHITE)
    if face.lip_stretch > 0.3 and gap.max() > 0.05:
        pen.fill(_between(x, lower - np.minimum(0.3 * gap, 0.06), lower), WHITE)
    pen.stroke(np.stack([x, upper], 1), _DARK, width=0.03, taper=0.8)
    for side, end in ((-1, 0), (1, -1)):
        corner = np.array([x[end], upper[end]])
        pen.fill(ellipse(corner[0], corner[1], 0.025, 0.03), _DARK)
        if face.smirk > 0.4 and side == 1:
            dimple = curve(*((corner[0] + 0.06, corner[1] + dy) for dy in (-0.09, -0.02, 0.05)))
            pen.stroke(dimple, shade(who.skin, 0.6), width=0.03)


def _opening(face: Expression) -> tuple[Points, Points, Points]:
    """x from corner to corner, and y of the upper and of the lower lip's inner edge."""
    tall = face.jaw_drop * (1 - max(face.lip_stretch, face.corner_pull))
    width = 0.33 + 0.1 * face.corner_pull + 0.12 * face.lip_stretch - 0.12 * tall
    corner = -0.2 * face.corner_pull + 0.17 * face.corner_drop
    lift = -0.19 * face.smirk * np.maximum(0, _ACROSS) ** 2
    line = _MOUTH_Y - 0.03 * face.corner_drop + corner * _ACROSS**2 + lift
    line = line - 0.05 * face.chin_raise * _SMILE
    shape = (1 - tall) * _SMILE + tall * _ROUND
    shape = shape + min(1.0, face.lip_stretch) * (_FLAT - shape)
    raised = face.upper_lip * (0.13 * _FLAT - 0.03 * _SMILE)
    upper = line - 0.05 * face.jaw_drop * (1 - face.corner_pull) * shape - raised
    lower = line + 0.44 * face.jaw_drop * (1 - 0.35 * face.lip_stretch) * shape - 0.25 * raised
    return width * _ACROSS, upper, lower


def _draw_lines(pen: Pen, who: Identity, face: Expression) -> None:
    """Folds: of age, and of the expression."""
    line = shade(who.skin, 0.68)
    lifted = max(face.corner_pull, face.upper_lip)
    fold = 0.035 * max(lifted, 0.6 * max(0.0, who.age - 0.4))
    for side in (-1, 1):
        wide = 0.34 + 0.1 * face.corner_pull
        cheek = curve((0.2, 0.2), (wide - 0.02, 0.34), (wide + 0.04, 0.5))
        pen.stroke(mirrored(cheek, side), line, width=fold)
        eye = who.eye_gap
        if face.cheek_raise > 0.4:
            bulge = curve((eye - 0.18, 0.1), (eye, 0.14), (eye + 0.2, 0.06))
            pen.stroke(mirrored(bulge, side), line, width=0.03)
        if face.brow_lower > 0.4:
            frown = curve((0.05, -0.52), (0.06, -0.42), (0.04, -0.34))
            pen.stroke(mirrored(frown, side), line, width=0.04 * face.brow_lower)
    lifted_brow = max(face.inner_brow, face.outer_brow)
    if max(lifted_brow, who.age - 0.3) > 0.4:
        for y in (-0.74, -0.83):
            dip = 0.03 * lifted_brow
            pen.stroke(curve((-0.32, y), (0, y - dip), (0.32, y)), line, width=0.025)


def _between(x: Points, upper: Points, lower: Points) -> Points:
    return np.concatenate([np.stack([x, upper], 1), np.stack([x, lower], 1)[::-1]])


def _contrast(color: Color, skin: Color) -> Color:
    """A colour that can be told from the skin: brows carry the expression, so they must be seen."""
    return color if luma(skin) - luma(color) > 45 else shade(skin, 0.45)

"""The seven expressions as geometry: how far each part of a drawn face moves.

In: a class, or two and a share. Out: an `Expression`, the strengths (0 to 1) of action units.
Which units make which class follows the prototypes of P. Ekman, W. V. Friesen, J. C. Hager, "Facial
Action Coding System: Investigator's Guide" (2002): Angry 4+5+7+23, Disgust 9+10+17, Fear
1+2+4+5+20+26, Happy 6+12, Sad 1+4+15, Surprise 1+2+5+26; contempt is a one-sided 12+14. They are
exaggerated as a cartoonist would. Each class has two forms; a face lies somewhere between them.
"""

from dataclasses import astuple, dataclass

import numpy as np


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


def blend(
    main: str, other: str, *, share: float, intensity: float, rng: np.random.Generator
) -> Expression:
    """A face of class `main` with `share` of class `other`, each somewhere between its two forms.

    `intensity` 1 is the full expression and 0 a face at rest; every strength is jittered a little.
    """
    parts = []
    for name in (main, other):
        first, second = (np.array(astuple(form)) for form in FORMS[name])
        parts.append(first + rng.random() * (second - first))
    full = parts[0] + share * (parts[1] - parts[0])
    jitter = rng.uniform(-0.06, 0.06, len(full))
    return Expression(*np.clip(intensity * full + jitter, 0, 1).tolist())

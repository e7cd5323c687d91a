"""The frames of the manifest's tests serve here as well; thumbnails that are alike or not."""

import numpy as np

from tests.records.conftest import faces, one_of_each_class, rows

__all__ = ["faces", "one_of_each_class", "rows"]


def blend(seed: int, *, share: float) -> bytes:
    """A thumbnail that correlates with that of share 1 by about share / hypot(share, 1 - share)."""
    picture, noise = (
        np.random.default_rng(number).integers(0, 256, 576).astype(np.float64)
        for number in (1, seed)
    )
    return np.rint(share * picture + (1 - share) * noise).astype(np.uint8).tobytes()


PICTURE = blend(0, share=1.0)
NEAR = blend(2, share=0.76)  # correlation .95
REVIEW = blend(3, share=0.69)  # correlation .91
UNLIKE = blend(4, share=0.4)

"""Numbers as they stand in raw tables: 1, and as numpy, pandas and spreadsheets write it, 1.0."""

import math
import re

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
# Above, a float no longer tells neighbours apart; no code, count or pixel comes near.
_LARGEST = 10**9


# As AffectNet, numpy, pandas and spreadsheets write that there is no value.
_GAPS = {"", "nan", "none", "null"}


def is_gap(text: str) -> bool:
    """Whether a field says that it has no value."""
    return text.strip().lower() in _GAPS


def number(text: str) -> float | None:
    """The finite number that a field holds; None for anything else, such as `nan` or `1_0`."""
    text = text.strip()
    found = float(text) if _NUMBER.fullmatch(text) else math.inf
    return found if math.isfinite(found) else None


def whole(text: str) -> int | None:
    """The whole number that a field holds, such as `1` or `1.0`; None for any other, as `1.5`."""
    found = number(text)
    if found is None or not found.is_integer() or abs(found) > _LARGEST:
        return None
    return int(found)


def code(text: str) -> str:
    """A code as the adapters list it, `1` for `1.0`; what is no whole number stays as it is."""
    found = whole(text)
    return text if found is None else str(found)

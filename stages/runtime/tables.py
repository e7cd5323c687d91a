"""CSV files whose bytes depend on the rows alone."""

import hashlib
from pathlib import Path

import pandas as pd

from stages.runtime.files import write_bytes

# What makes a spreadsheet take a cell for a formula, and the wide forms that some take too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def inert(text: str) -> str:
    """Text from strangers as a table for people holds it: no spreadsheet runs it.

    It gets an apostrophe in front where it would be a formula. Not for keys: an id begins with the
    name of its source, which is inert.
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def write_csv(path: Path, frame: pd.DataFrame) -> str:
    r"""Write a frame without its index atomically and return the SHA-256 of the file.

    UTF-8, `\n` line ends on every system, missing values empty, numbers in the shortest form that
    reads back as the same number.
    """
    data = frame.to_csv(index=False, lineterminator="\n").encode("utf-8")
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()

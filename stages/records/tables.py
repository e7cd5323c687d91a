"""CSV files whose bytes depend on the rows alone."""

import hashlib
from pathlib import Path

import pandas as pd

from stages.runtime.files import write_bytes


def write_csv(path: Path, frame: pd.DataFrame) -> str:
    r"""Write a frame without its index atomically and return the SHA-256 of the file.

    UTF-8, `\n` line ends on every system, missing values empty, numbers in the shortest form that
    reads back as the same number.
    """
    data = frame.to_csv(index=False, lineterminator="\n").encode("utf-8")
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()

"""`python -m tools.sample [OUT]`: draw the sample's raw datasets into OUT (default `raw/sample`).

The same files on every run. OUT is replaced whole, and only if it holds nothing but a sample that
this command wrote.
"""

import argparse
import logging
from functools import partial
from pathlib import Path

from stages.runtime.door import run_door

SAMPLE = Path("raw/sample")

logger = logging.getLogger(__name__)


def work(out: Path) -> None:
    """Draw, plant faults, publish."""
    from stages.runtime.files import published_folder
    from tools.sample import layouts
    from tools.sample.folder import Raw, check_replaceable, write_sample
    from tools.sample.planting import plant

    check_replaceable(out)
    raw = Raw()
    for lay_out in layouts.LAYOUTS:
        lay_out(raw)
        logger.info("%s: %d files so far", lay_out.__name__, len(raw.files))
    plant(raw)
    with published_folder(out) as folder:
        write_sample(folder, raw)
    logger.info("%s: %d planted faults", out, len(raw.planted))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder to write."""
    folder = "folder to write, default %(default)s"
    parser.add_argument("out", nargs="?", type=Path, default=SAMPLE, metavar="OUT", help=folder)


main = partial(run_door, work, __doc__, arguments=add_arguments)

if __name__ == "__main__":
    raise SystemExit(main())

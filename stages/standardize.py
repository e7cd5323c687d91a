"""Raw datasets -> faces in standardized/<source>/, rejects and a contact sheet beside them.

Reads `raw` and `standardize` of params.yaml. A source that has not changed since the last run is
copied from .work/standardize instead of being read again.
"""

import argparse
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from stages.runtime.door import run_door

OUT = Path("standardized")

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m stages.standardize` and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.standardize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(argv)
    return run_door(work)


def work() -> None:
    """Standardize all sources of params.yaml and publish them together, in one go."""
    from stages.config import load_params
    from stages.records.reuse import finished_source
    from stages.runtime.files import published_folder, work_folder
    from stages.runtime.lock import run_lock

    params = load_params()
    with run_lock(work_folder("standardize")), published_folder(OUT) as folder:
        for name in sorted(params.standardize.sources):
            finished = finished_source(name, raw=Path(params.raw), settings=params.standardize)
            shutil.copytree(finished, folder / name)
    logger.info("%s/: %d sources", OUT, len(params.standardize.sources))


if __name__ == "__main__":
    raise SystemExit(main())

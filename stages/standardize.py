"""Raw datasets -> faces in standardized/<source>/, rejects and contact sheets beside them.

Reads `raw` and `standardize` of params.yaml, and `machine.workers`, which changes no byte. A source
that has not changed since the last run is copied from .work/standardize instead of being read
again.
"""

import logging
import shutil
from functools import partial
from pathlib import Path

from stages.runtime.door import run_door

OUT = Path("standardized")

logger = logging.getLogger(__name__)


def work() -> None:
    """Standardize all sources of params.yaml and publish them together, in one go."""
    from stages.config import load_params
    from stages.intake.reuse import finished_source, read_framing
    from stages.runtime.files import published_folder, work_folder
    from stages.runtime.lock import run_lock
    from stages.runtime.machine import num_threads

    params = load_params()
    raw, settings = Path(params.raw), params.standardize
    workers = num_threads(params.machine.workers)
    framing = read_framing(settings, raw=raw)
    with run_lock(work_folder("standardize")), published_folder(OUT) as folder:
        for name in sorted(settings.sources):
            finished = finished_source(
                name, raw=raw, settings=settings, framing=framing, workers=workers
            )
            # Never a hard link: DVC makes what it links read-only, and a file that is edited in
            # standardized/ must not change the copy that later runs reuse.
            (folder / name).mkdir()
            for path in finished.iterdir():
                shutil.copy2(path, folder / name)
    logger.info("%s/: %d sources", OUT, len(settings.sources))


main = partial(run_door, work, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())

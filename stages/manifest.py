"""`python -m stages.manifest`: standardized faces -> manifests/ and metrics/manifest.json.

Splits are decided here, once, and frozen in the CSVs. Params: `seed`, `manifest`.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from stages.runtime.door import run_door

STANDARDIZED = Path("standardized")
MANIFESTS = Path("manifests")
METRICS = Path("metrics/manifest.json")

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the (empty) command line, do the work, return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.manifest",
        description="Freeze which face belongs to which split; write the manifest and its views.",
    )
    parser.parse_args(argv)
    return run_door(work)


def work() -> None:
    """Read faces, decide, publish, account."""
    from stages.config import load_params
    from stages.records.accounting import report
    from stages.records.frozen import freeze
    from stages.records.publication import publish
    from stages.records.rows import read_all_faces
    from stages.runtime.files import write_json

    params = load_params()
    faces = read_all_faces(STANDARDIZED)
    frozen = freeze(faces, section=params.manifest, seed=params.seed)
    files = publish(MANIFESTS, frozen, section=params.manifest)
    metrics = report(frozen, files=files)
    write_json(METRICS, metrics)
    logger.info("%d faces: %s", len(faces), metrics["manifest"]["rows"]["final"])
    logger.info(
        "%d rows left out (excluded.csv), %d repeat another picture (duplicates.csv)",
        len(frozen.excluded), len(frozen.duplicates),
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())

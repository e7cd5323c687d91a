"""Faces of a source, a source group or a view -> image files in folders, for other programs.

    python -m tools.unpack rafdb_basic OUT

Write OUT/<split>/<class>/<file> for every row of the manifest that SOURCE names: the layout of
torchvision's ImageFolder. A file holds the bytes as they were downloaded, unless standardize had
to crop or shrink the picture. OUT/index.csv has a line per file: file, id, source, split, label
and the file's sha256.

ImageFolder numbers the classes by alphabet (Angry, Disgust, Fear, Happy, Neutral, Sad, Surprise);
in this project Neutral comes last. Rows in manifests/excluded.csv are not unpacked.
"""

import argparse
import logging
from functools import partial
from pathlib import Path

from stages.runtime.door import run_door

MANIFESTS = Path("manifests")
STANDARDIZED = Path("standardized")

logger = logging.getLogger(__name__)


def work(source: str, out: Path) -> None:
    """Find all rows and their images, then write them."""
    from stages.faces.store import FaceStore
    from tools.unpacking import require_same_pictures, require_vacant, rows_named, unpack

    require_vacant(out)
    rows = rows_named(MANIFESTS, source)
    store = FaceStore(STANDARDIZED)
    positions = store.locate(rows["id"].tolist())
    require_same_pictures(rows, standardized=STANDARDIZED)
    unpack(out, rows, images=store.images(positions))
    counts = rows["split"].value_counts().sort_index()
    splits = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    logger.info("%s: %s images of %s: %s", out, f"{len(rows):,}", source, splits)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the name of the rows and the folder to write."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a source (rafdb_basic), a source group (expw_full) or a view (hq_train); "
        "classification_manifest means every row",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder that is new or empty")


main = partial(run_door, work, __doc__, arguments=add_arguments)

if __name__ == "__main__":
    raise SystemExit(main())

"""Pictures, folders, videos or a camera -> the expression of each face, by an exported model.

    python -m tools.predict photo.jpg holiday/ clip.mp4 --detector yunet.onnx
    python -m tools.predict 0 --detector yunet.onnx

In: an exported ONNX file and, to find faces in photos, YuNet's ONNX file. Without a detector each
picture is one face that is cut already. Out, a folder: faces.csv (file, frame, box, label and
seven probabilities), rejects.csv (files that could not be read, or show no face), annotated/ (a
copy of each picture or video with boxes and labels) and sheet.png (some faces of each class).

Boxes count in the picture as a viewer shows it, turned as its EXIF data say. A number that is no
file is a camera, which Ctrl-C ends. Of other inputs Ctrl-C leaves the rest, which rejects.csv then
names; what was read is written all the same. Nothing is fetched from a network.
"""

import argparse
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from stages.runtime.door import run_door

logger = logging.getLogger(__name__)


def work(
    inputs: Sequence[str], model: Path, detector: Path | None, out: Path, overwrite: bool
) -> None:
    """Check all that is given, say what the model learnt from, then predict."""
    # Not the copy beside the model: a folder of weights from elsewhere must run no code here.
    from stages.exporting.reference import Expressions
    from stages.runtime.machine import num_cores
    from tools.frames import FaceFinder, find_inputs, whole_picture
    from tools.onnx_model import drawn_alone, read_learnt_from, read_onnx
    from tools.predictions import predict, require_replaceable

    require_replaceable(out, overwrite=overwrite)
    found = find_inputs(inputs, out=out)
    learnt_from = read_learnt_from(model, read_onnx(model).metadata)
    expressions = Expressions(model, threads=num_cores())
    find = FaceFinder(detector, expressions) if detector else whole_picture
    if detector is None:
        logger.warning("no --detector: each whole picture is taken for one face")
    for source in learnt_from:
        rows = ", ".join(f"{count:,} rows in {stage}" for stage, count in source.rows.items())
        about = (model.name, source.name, rows, source.licence)
        logger.info("%s learnt from %s: %s; licence: %s", *about)
    if not learnt_from:
        missing = "no model card of its weights lies beside it"
        logger.warning("%s: what it learnt from is unknown: %s", model.name, missing)
    elif drawn_alone(learnt_from):
        logger.warning(
            "%s learnt from drawn faces alone, which show nobody: its answers on photographs "
            "mean nothing",
            model.name,
        )
    predict(found, expressions, find=find, out=out)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the inputs, the model, the detector and the folder to write."""
    inputs = "a picture, a folder with pictures, a video, or the number of a camera"
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help=inputs)
    default = Path("models/export/ensemble.onnx")
    parser.add_argument("--model", type=Path, default=default, help="an exported .onnx file")
    parser.add_argument("--detector", type=Path, help="YuNet's ONNX file, which finds the faces")
    folder = "a folder that is new (predictions/)"
    parser.add_argument("--out", type=Path, default=Path("predictions"), help=folder)
    replace = "replace the folder of an earlier call"
    parser.add_argument("--overwrite", action="store_true", help=replace)


main = partial(run_door, work, __doc__, arguments=add_arguments)

if __name__ == "__main__":
    raise SystemExit(main())

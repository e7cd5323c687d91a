"""Any published teacher or exported ONNX file, any manifest or view -> numbers as calibrate's.

    python -m tools.evaluate models/stageA/RN18 --out numbers.json
    python -m tools.evaluate models/export/ensemble.onnx --rows manifests/expw_lq_gate.csv
    python -m tools.evaluate models/export/ensemble.onnx --raw ~/RAF-DB/basic --format rafdb_basic

In: params.yaml, manifests/ and saved logits; with --rows the faces in standardized/ too. With --raw
the test rows of a dataset as it was downloaded, in any layout of docs/formats.md, whatever lies in
manifests/. Out: a table, and JSON when asked for, with the rows of the score table. Rows that were
trained on, or copies of them, are counted and left out.
"""

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from stages.runtime.door import run_door


def work(
    model: Path,
    rows: Path | None,
    standardized: Path,
    raw: Path | None,
    layout: str | None,
    class_folder: Sequence[str],
    out: Sequence[Path],
) -> None:
    """Calibrate on val, score, print the table, and write it to each of `--out`."""
    from stages.computing.device import keep_freed_memory
    from stages.config import load_params
    from stages.runtime.errors import UserError
    from stages.runtime.files import write_json
    from stages.runtime.machine import num_threads
    from tools.evaluation import (
        Asked,
        evaluate_onnx,
        evaluate_own_rows,
        evaluate_teacher,
        read_rows,
    )
    from tools.raw_rows import FORMATS, read_raw_rows
    from tools.readable import readable

    keep_freed_memory()
    params = load_params()
    score = evaluate_onnx if model.suffix == ".onnx" else evaluate_teacher
    if (raw is None) != (layout is None):
        raise UserError(f"--raw and --format go together; known formats: {', '.join(FORMATS)}")
    if raw is not None and layout is not None:
        if rows is not None:
            raise UserError("--rows and --raw exclude each other; choose one")
        with tempfile.TemporaryDirectory() as temporary:
            found = read_raw_rows(
                raw,
                layout=layout,
                class_folders=dict(_pair(text) for text in class_folder),
                settings=params.standardize,
                raw=Path(params.raw),
                standardized=Path(temporary),
                workers=num_threads(params.machine.workers),
            )
            evaluation = score(model, Asked(raw.stem, found, Path(temporary)), params=params)
    elif rows is not None:
        asked = Asked(rows.stem, read_rows(rows), standardized)
        evaluation = score(model, asked, params=params)
    elif model.suffix == ".onnx":
        raise UserError(
            f"{model.name}: holds no logits; say with --rows or --raw what to score it on"
        )
    else:
        evaluation = evaluate_own_rows(model, params=params)
    print(readable(evaluation))
    for path in out:
        write_json(path, evaluation.model_dump(mode="json"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the rows and where they are."""
    model = "models/stageA/RN18 or models/export/RN18.onnx"
    parser.add_argument("model", type=Path, help=model)
    rows = "a manifest or view, of any project; a teacher without it is scored as in calibrate"
    parser.add_argument("--rows", type=Path, help=rows)
    faces = "where the faces of these rows are"
    parser.add_argument("--standardized", type=Path, default=Path("standardized"), help=faces)
    parser.add_argument("--raw", type=Path, help="a dataset as it was downloaded, folder or zip")
    layout = "the layout of --raw, such as rafdb_basic or folder7"
    parser.add_argument("--format", dest="layout", help=layout)
    parser.add_argument(
        "--class-folder",
        action="append",
        default=[],
        metavar="FOLDER=CLASS",
        help="what a folder of folder7 means that is not named by a class, such as 0=Angry",
    )
    parser.add_argument("--out", type=Path, action="append", default=[], help="write JSON here")


def _pair(text: str) -> tuple[str, str]:
    folder, _, meaning = text.partition("=")
    return folder, meaning


main = partial(run_door, work, __doc__, arguments=add_arguments)

if __name__ == "__main__":
    raise SystemExit(main())

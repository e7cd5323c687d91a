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
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stages.runtime.door import run_door


def work(model: Path, out: Sequence[Path], **rows_asked: Any) -> None:
    """Calibrate on val, score, print the table, and write it to each of `--out`."""
    from stages.computing.device import keep_freed_memory
    from stages.config import load_params
    from stages.runtime.errors import UserError
    from stages.runtime.files import write_json
    from tools.evaluation import evaluate_onnx, evaluate_own_rows, evaluate_teacher
    from tools.readable import readable
    from tools.scored_rows import asked_rows

    keep_freed_memory()
    params = load_params()
    is_file = model.suffix == ".onnx"
    with asked_rows(**rows_asked, params=params) as asked:
        if asked is not None:
            score = evaluate_onnx if is_file else evaluate_teacher
            evaluation = score(model, asked, params=params)
        elif is_file:
            ways = "say with --rows or --raw what to score it on"
            raise UserError(f"{model.name}: holds no logits; {ways}")
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
    faces = "where the faces of --rows are; standardized/ if it is not given"
    parser.add_argument("--standardized", type=Path, help=faces)
    parser.add_argument("--raw", type=Path, help="a dataset as it was downloaded, folder or zip")
    layout = "the layout of --raw, such as rafdb_basic or folder7"
    parser.add_argument("--format", dest="layout", help=layout)
    parser.add_argument(
        "--class-folder",
        dest="class_folders",
        action="append",
        default=[],
        metavar="FOLDER=CLASS",
        help="what a folder of folder7 means that is not named by a class, such as 0=Angry",
    )
    parser.add_argument("--out", type=Path, action="append", default=[], help="write JSON here")


main = partial(run_door, work, __doc__, arguments=add_arguments)

if __name__ == "__main__":
    raise SystemExit(main())

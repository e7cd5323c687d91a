"""Any published teacher or exported ONNX file, any manifest or view -> numbers as calibrate's.

    python -m tools.evaluate models/stageA/RN18 --out numbers.json
    python -m tools.evaluate models/export/ensemble.onnx --rows manifests/expw_lq_gate.csv

In: params.yaml, manifests/ and saved logits; with --rows the faces in standardized/ too. Out: a
table, and JSON when asked for, with the rows of the score table. Rows that were trained on, or
copies of them, are counted and left out.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from stages.runtime.door import run_door


def main(argv: Sequence[str] | None = None) -> int:
    """Run the door and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.evaluate",
        description="Score a published teacher or an exported ONNX file.",
    )
    model = "models/stageA/RN18 or models/export/RN18.onnx"
    parser.add_argument("model", type=Path, help=model)
    rows = "a manifest or view, of any project; a teacher without it is scored as in calibrate"
    parser.add_argument("--rows", type=Path, help=rows)
    faces = "where the faces of these rows are"
    parser.add_argument("--standardized", type=Path, default=Path("standardized"), help=faces)
    parser.add_argument("--out", type=Path, action="append", default=[], help="write JSON here")
    return run_door(partial(work, parser.parse_args(argv)))


def work(arguments: argparse.Namespace) -> None:
    """Calibrate on val, score, print the table, and write it to each of `--out`."""
    from stages.computing.heap import keep_freed_memory
    from stages.config import load_params
    from stages.runtime.errors import UserError
    from stages.runtime.files import write_json
    from tools.evaluation import evaluate_onnx, evaluate_own_rows, evaluate_teacher
    from tools.readable import readable

    keep_freed_memory()
    model, rows, params = arguments.model, arguments.rows, load_params()
    if rows is not None:
        score = evaluate_onnx if model.suffix == ".onnx" else evaluate_teacher
        evaluation = score(model, rows, standardized=arguments.standardized, params=params)
    elif model.suffix == ".onnx":
        raise UserError(f"{model.name}: holds no logits; say with --rows what to score it on")
    else:
        evaluation = evaluate_own_rows(model, params=params)
    print(readable(evaluation))
    for out in arguments.out:
        write_json(out, evaluation.model_dump(mode="json"))


if __name__ == "__main__":
    raise SystemExit(main())

"""Any published teacher or exported ONNX file, any manifest or view -> numbers as calibrate's.

    python -m tools.evaluate models/stageA/RN18 --out numbers.json
    python -m tools.evaluate models/export/ensemble.onnx --rows manifests/expw_lq_gate.csv

In: params.yaml, manifests/ and saved logits; with --rows the faces in standardized/ too. Out: a
table, and JSON when asked for. Rows that were trained on, or copies of them, are counted and left
out.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from stages.runtime.door import run_door


def work(model: Path, rows: Path | None, standardized: Path, out: Sequence[Path]) -> None:
    """Calibrate on val, score, print the table, and write it to each of `--out`."""
    from stages.calibrating.protocol import protocol_of
    from stages.calibrating.published import read_manifest_folder
    from stages.computing.device import keep_freed_memory
    from stages.config import load_params
    from stages.runtime.errors import UserError
    from stages.runtime.files import write_json
    from tools.readable import readable
    from tools.subject import Place, onnx_numbers, own_numbers, teacher_numbers

    keep_freed_memory()
    params = load_params()
    place = Place(
        manifest=read_manifest_folder(Path("manifests")),
        models=Path("models"),
        standardized=standardized,
        machine=params.machine,
        protocol=protocol_of(params.calibrate, seed=params.seed),
        init_from={"stageB": params.stageB.init_from},
    )
    is_file = model.suffix == ".onnx"
    if is_file and rows is None:
        raise UserError(f"{model.name}: holds no logits; say with --rows what to score it on")
    if rows is None:
        found = own_numbers(model, place=place)
    else:
        found = (onnx_numbers if is_file else teacher_numbers)(model, rows, place=place)
    print(readable(found))
    for path in out:
        write_json(path, found)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the rows and where they are."""
    model = "models/stageA/RN18 or models/export/RN18.onnx"
    parser.add_argument("model", type=Path, help=model)
    rows = "a manifest or view, of any project; a teacher without it is scored as in calibrate"
    parser.add_argument("--rows", type=Path, help=rows)
    faces = "where the faces of these rows are"
    parser.add_argument("--standardized", type=Path, default=Path("standardized"), help=faces)
    parser.add_argument("--out", type=Path, action="append", default=[], help="write JSON here")


main = partial(run_door, work, __doc__, arguments=add_arguments)

if __name__ == "__main__":
    raise SystemExit(main())

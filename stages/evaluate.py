"""One published teacher -> the same numbers that calibrate writes of it.

    python -m stages.evaluate models/stageA/RN18 --out numbers.json

In: params.yaml, manifests/ and the teacher's saved logits. Out: a table, and JSON when asked for.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from stages.runtime.door import run_door


def main(argv: Sequence[str] | None = None) -> int:
    """Run the door and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.evaluate",
        description="Score one published teacher from its saved logits.",
    )
    parser.add_argument("teacher", type=Path, help="its folder, such as models/stageA/RN18")
    parser.add_argument(
        "--out", type=Path, action="append", default=[], help="also write JSON here"
    )
    arguments = parser.parse_args(argv)
    return run_door(partial(work, arguments.teacher, outs=arguments.out))


def work(folder: Path, *, outs: Sequence[Path]) -> None:
    """Fit the teacher's temperature on val, print its table, and write it to each of `outs`."""
    from stages.config import load_params
    from stages.evaluation.assessment import assess, single
    from stages.evaluation.blocks import rounded
    from stages.evaluation.published import read_manifest_folder, read_teacher
    from stages.evaluation.report import model_json
    from stages.evaluation.tables import readable
    from stages.runtime.files import write_json

    params = load_params()
    settings, seed = params.calibrate, params.seed
    manifest = read_manifest_folder(Path("manifests"))
    teacher = read_teacher(folder, manifest=manifest)
    assessment = assess(single(teacher), manifest=manifest, settings=settings, seed=seed)
    found = rounded(model_json(assessment, settings=settings, seed=seed))
    print(f"{teacher.stage} {teacher.name}, weights {teacher.weights_sha256[:12]}")
    print(readable(found))
    for out in outs:
        about = {"stage": teacher.stage, "teacher": teacher.name}
        write_json(out, about | {"manifest_sha256": manifest.sha256} | found)


if __name__ == "__main__":
    raise SystemExit(main())

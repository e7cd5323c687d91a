"""A finished run -> one page that a person reads, and its pictures.

    python -m stages.report

In: params.yaml, models/calibrated/ and its plots/data/teachers/, the cards, environments and
histories of the teachers, the JSON of models/export/, metrics/manifest.json and teachers.json,
plots/data/manifest/, plots/seeds.csv, manifests/warnings.csv, and the faces of standardized/ that
stand on the sheet of mistakes.
Out: plots/report.html (one file that refers to no other) and plots/figures/.
"""

import logging
from functools import partial
from pathlib import Path

from stages.runtime.door import run_door

logger = logging.getLogger(__name__)


def work() -> None:
    """Read everything, draw everything, then write; nothing is written if anything is missing."""
    from stages.config import load_params
    from stages.reporting.finished import read_finished
    from stages.reporting.page import render_page
    from stages.reporting.pictures import draw_pictures
    from stages.runtime.files import published_folder, write_bytes, write_text

    params = load_params()
    sections = {
        "standardize": params.standardize,
        "manifest": params.manifest,
        "preprocess": params.preprocess,
        "stageA": params.stageA,
        "stageB": params.stageB,
        "calibrate": params.calibrate,
        "export": params.export,
    }
    recipe = {name: section.model_dump(mode="json") for name, section in sections.items()}
    recipe["teachers"] = {
        name: teacher.model_dump(mode="json") for name, teacher in params.teachers.items()
    }
    run = read_finished(Path())
    pictures = draw_pictures(run, standardized=Path("standardized"))
    page = render_page(run, pictures=pictures, recipe={"seed": params.seed} | recipe)
    with published_folder(Path("plots/figures")) as folder:
        for picture in pictures:
            write_bytes(folder / picture.file_name, picture.png)
    write_text(Path("plots/report.html"), page)
    logger.info("plots/report.html: %d pictures, %.1f MB", len(pictures), len(page) / 1e6)


main = partial(run_door, work, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())

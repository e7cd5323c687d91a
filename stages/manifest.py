"""`python -m stages.manifest`: standardized faces -> manifests/, metrics/manifest.json and plots.

Splits are decided here, once, and frozen in the CSVs. Params: `seed`, `manifest`, the filters of
both training stages, what calibrate reports on. A source, class or split without rows stops here.
"""

import logging
from functools import partial
from pathlib import Path

from stages.runtime.door import run_door

STANDARDIZED = Path("standardized")
MANIFESTS = Path("manifests")
METRICS = Path("metrics/manifest.json")
PLOT_DATA = Path("plots/data/manifest")
SHEETS = Path("plots/sheets")

logger = logging.getLogger(__name__)


def work() -> None:
    """Read faces, decide, publish, count, draw."""
    from stages.config import load_params
    from stages.runtime.files import published_folder, write_csv, write_json
    from stages.splitting.frozen import freeze, publish, read_all_faces
    from stages.survey.counts import count, plot_tables, stage_line, summarize
    from stages.survey.data_warnings import find_warnings
    from stages.survey.pictures import write_figures, write_pair_sheets
    from stages.survey.survey import read_indexes, require_rows_to_report_on, take_survey

    params = load_params()
    section = params.manifest
    filters = {"stageA": params.stageA.filter, "stageB": params.stageB.filter}
    indexes = read_indexes(STANDARDIZED)
    frozen = freeze(read_all_faces(STANDARDIZED), section=section, seed=params.seed)
    groups, chosen = section.source_groups, params.calibrate
    survey = take_survey(frozen, filters=filters, source_groups=groups, indexes=indexes)
    require_rows_to_report_on(
        frozen.rows, filters=filters, source_groups=groups, report=chosen.report, folds=chosen.folds
    )
    warnings = find_warnings(survey)
    files = publish(MANIFESTS, frozen, warnings=warnings, section=section)
    counts = count(frozen)
    write_json(METRICS, summarize(survey, counts, files=files, num_warnings=len(warnings)))
    with published_folder(PLOT_DATA) as folder:
        for name, table in plot_tables(survey, counts).items():
            write_csv(folder / f"{name}.csv", table)
    with published_folder(SHEETS) as folder:
        write_figures(folder, survey)
        write_pair_sheets(folder, frozen, standardized=STANDARDIZED)
    for name, rows in survey.stages.items():
        logger.info("%s: %s", name, stage_line(rows))
    for code, where, message in warnings.itertuples(index=False):
        logger.warning("%s: %s: %s", code, where, message)
    logger.info("%d faces: %s", len(frozen.drawn), counts["rows", "final"])
    logger.info(
        "%d rows left out (excluded.csv), %d pairs of duplicates (duplicates.csv)",
        len(frozen.excluded),
        len(frozen.duplicates),
    )


main = partial(run_door, work, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())

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
    """Read faces, decide, publish, account, draw."""
    from stages.config import load_params
    from stages.runtime.files import published_folder, write_json
    from stages.splitting.frozen import freeze
    from stages.splitting.publication import publish
    from stages.splitting.rows import read_all_faces
    from stages.survey.accounting import report, stage_line
    from stages.survey.data_warnings import as_table, find_warnings
    from stages.survey.figures import write_figures
    from stages.survey.indexes import read_indexes
    from stages.survey.plot_data import write_plot_data
    from stages.survey.sheets import write_pair_sheets
    from stages.survey.survey import require_rows_to_report_on, take_survey

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
    files = publish(MANIFESTS, frozen, warnings=as_table(warnings), section=section)
    metrics = report(survey, warnings=warnings, files=files)
    write_json(METRICS, metrics)
    with published_folder(PLOT_DATA) as folder:
        write_plot_data(folder, survey)
    with published_folder(SHEETS) as folder:
        write_figures(folder, survey)
        write_pair_sheets(folder, frozen, standardized=STANDARDIZED)
    for name, rows in survey.stages.items():
        logger.info("%s: %s", name, stage_line(rows))
    for each in warnings:
        logger.warning("%s: %s: %s", each.code, each.where, each.message)
    logger.info("%d faces: %s", len(frozen.drawn), metrics["manifest"]["rows"]["final"])
    logger.info("%d rows left out (excluded.csv), %d pairs of duplicates (duplicates.csv)",
                len(frozen.excluded), len(frozen.duplicates))  # fmt: skip


main = partial(run_door, work, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())

"""models/<stage>/<teacher>/alignmentreport.json -> on how many rows of which source it learnt."""

from pathlib import Path

from stages.runtime.errors import UserError
from stages.runtime.files import read_json

_REPORT_FILE = "alignmentreport.json"
_STAGES = ("stageA", "stageB")


def rows_by_source(models: Path, stage: str, *, teacher: str) -> dict[str, dict[str, int]]:
    """Training rows of each source in `stage` and in those before it.

    Raises:
        UserError: if a report is missing.
    """
    stages = _STAGES[: _STAGES.index(stage) + 1]
    return {each: _rows(models / each / teacher) for each in stages}


def _rows(folder: Path) -> dict[str, int]:
    path = folder / _REPORT_FILE
    if not path.is_file():
        stage, teacher = folder.parent.name, folder.name
        raise UserError(
            f"models/{stage}/{teacher}/{_REPORT_FILE}: missing; `dvc repro {stage}@{teacher}` "
            "makes it"
        )
    found: dict[str, int] = read_json(path)["train"]["after"]["by_source"]
    return found

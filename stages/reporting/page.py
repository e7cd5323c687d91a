"""A finished run and its pictures -> one HTML page that needs no other file and no network."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from inspect import getmembers, isfunction
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stages.calibrating.verdict import NOT_COVERED
from stages.reporting import tables, wording
from stages.reporting.finished import Finished
from stages.reporting.pictures import Picture, most_frequent_mistake
from stages.reporting.seeds import over_seeds
from stages.scoring.confidence import FLOOR_MEANS


def render_page(run: Finished, *, pictures: Sequence[Picture], recipe: Mapping[str, Any]) -> str:
    """Render page.html.j2: the answers first, the rest folded; equal inputs give equal text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= dict(getmembers(wording, isfunction)) | {"base64": _base64}
    return environment.get_template("page.html.j2").render(
        run=run,
        pictures=pictures,
        recipe=recipe,
        recipe_text=yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True),
        tables=tables,
        stage_words=wording.STAGE_WORDS,
        floor_means=FLOOR_MEANS,
        not_covered=NOT_COVERED,
        over_seeds=over_seeds,
        mistake=most_frequent_mistake,
    )


def _base64(png: bytes) -> str:
    return b64encode(png).decode("ascii")

"""Sections of params.yaml for tests: the shipped values with some of them changed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from stages.config import Manifest, Preprocess, Section, load_params

S = TypeVar("S", bound=Section)
PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
# Shipped values that suit the shipped data only.
_PLAIN: dict[type[Section], dict[str, Any]] = {
    Manifest: {"source_groups": {}, "views": {}},
    Preprocess: {"clahe": None},
}


def shipped(kind: type[S], **changes: Any) -> S:
    """Return the first section of that kind in params.yaml, plain and with the changes."""
    section = next(section for section in _sections(PARAMS) if type(section) is kind)
    return kind.model_validate({**dict(section), **_PLAIN.get(kind, {}), **changes})


def _sections(value: object) -> Iterator[Section]:
    if isinstance(value, Section):
        yield value
        value = dict(value)
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _sections(part)

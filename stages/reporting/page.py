"""A finished run and its pictures -> one HTML page that needs no other file and no network."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.reporting.additions import additions_section
from stages.reporting.calibration import calibration_section
from stages.reporting.data_facts import data_section
from stages.reporting.elements import chart, contents, gallery, section, sheet
from stages.reporting.exports import exports_section
from stages.reporting.finished import Finished
from stages.reporting.limits import limits_section
from stages.reporting.look import CSS
from stages.reporting.markup import Markup, join, style, tag
from stages.reporting.pictures import Picture
from stages.reporting.provenance import provenance_section
from stages.reporting.scores import gates_section, tables_section
from stages.reporting.verdict import verdict_section

_CONTENTS = (
    ("verdict", "Verdict"), ("gates", "Gates"), ("tables", "Tables"), ("pictures", "Pictures"),
    ("calibration", "Calibration"), ("teachers", "Teachers"), ("export", "Export"),
    ("data", "Data"), ("provenance", "Provenance"), ("limits", "Limits"),
)  # fmt: skip
_GALLERIES = (
    ("Reliability: accuracy at each confidence", "reliability"),
    ("Risk and coverage", "risk_coverage"),
    ("Confusion", "confusion"),
    ("By source", "sources"),
    ("Training", "training"),
)


def render_page(run: Finished, *, pictures: Sequence[Picture], recipe: Mapping[str, Any]) -> str:
    """The page: the verdict first, the limits last; equal inputs give equal text."""
    title = "Facial-expression teachers"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title}: {run.verdict['model']} of {run.verdict['stage']}"),
        style(CSS),
    )
    body = tag(
        "body",
        tag("header", tag("h1", title), contents(_CONTENTS)),
        tag(
            "main",
            verdict_section(run),
            gates_section(run),
            tables_section(run),
            _pictures(pictures),
            calibration_section(run),
            additions_section(run),
            exports_section(run),
            data_section(run, recipe=recipe),
            provenance_section(run, recipe=recipe),
            limits_section(run, recipe=recipe),
        ),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _pictures(pictures: Sequence[Picture]) -> Markup:
    galleries = [
        join([tag("h3", title), gallery(chart(p.png, alt=p.alt, caption=p.caption) for p in mine)])
        for title, kind in _GALLERIES
        if (mine := [one for one in pictures if one.kind.startswith(kind)])
    ]
    sheets = [
        sheet(one.png, alt=one.alt, caption=one.caption)
        for one in pictures
        if one.kind == "mistakes"
    ]
    heading = tag("h3", "The most confident mistakes")
    return section("pictures", "Pictures", *galleries, heading, *sheets)

"""Sections, tables and figures as the page has them."""

from base64 import b64encode
from collections.abc import Iterable, Sequence

from stages.reporting.markup import Content, Markup, tag


def section(anchor: str, title: str, *children: Content) -> Markup:
    """A part of the page under a heading, which the contents point to."""
    return tag("section", tag("h2", title), *children, id=anchor)


def paragraph(*children: Content) -> Markup:
    """Running text."""
    return tag("p", *children)


def bullets(items: Iterable[Content]) -> Markup:
    """A list of statements."""
    return tag("ul", *(tag("li", item) for item in items))


def table(
    title: str,
    note: str,
    headers: Sequence[str],
    rows: Iterable[Sequence[Content]],
    *,
    words: int = 1,
) -> Markup:
    """A table that scrolls inside itself; the first `words` columns hold words, others numbers."""
    head = tag("thead", tag("tr", *(_cell("th", at, h, words) for at, h in enumerate(headers))))
    body = tag(
        "tbody",
        *(tag("tr", *(_cell("td", at, value, words) for at, value in enumerate(r))) for r in rows),
    )
    caption = tag("figcaption", tag("strong", title), f" {note}")
    scroll = tag("div", tag("table", head, body), tabindex="0", role="region", aria_label=title)
    return tag("figure", caption, scroll, class_="table")


def wrapped(text: str) -> Markup:
    """Words of a table's cell that may take several lines."""
    return tag("span", text, class_="wrap")


def chart(png: bytes, *, alt: str, caption: str) -> Markup:
    """A drawing, which dark screens show inverted."""
    return _figure(png, alt=alt, caption=caption, kind="chart")


def sheet(png: bytes, *, alt: str, caption: str) -> Markup:
    """A sheet of faces at its own size, which scrolls inside itself and is never inverted."""
    return _figure(png, alt=alt, caption=caption, kind="sheet")


def gallery(figures: Iterable[Markup]) -> Markup:
    """Figures side by side, as many as there is room for."""
    return tag("div", *figures, class_="gallery")


def tiles(entries: Iterable[tuple[str, Content, str]]) -> Markup:
    """Headline numbers: name, value and what it is a number of."""
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", value), tag("dd", note, class_="note"))
            for name, value, note in entries
        ),
        class_="tiles",
    )


def contents(entries: Iterable[tuple[str, str]]) -> Markup:
    """Links to the sections."""
    return tag("nav", *(tag("a", title, href=f"#{anchor}") for anchor, title in entries))


def _cell(name: str, at: int, value: Content, words: int) -> Markup:
    return tag(name, value) if at < words else tag(name, value, class_="number")


def _figure(png: bytes, *, alt: str, caption: str, kind: str) -> Markup:
    source = f"data:image/png;base64,{b64encode(png).decode('ascii')}"
    image = tag("img", src=source, alt=alt)
    return tag("figure", tag("div", image), tag("figcaption", caption), class_=kind)

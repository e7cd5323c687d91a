"""Text and elements -> HTML in which everything that is not an element is escaped."""

from collections.abc import Iterable
from html import escape

_EMPTY = frozenset({"img", "meta"})


class Markup(str):
    """HTML that is safe as it stands; only this module makes it."""

    __slots__ = ()


Content = Markup | str | int


def tag(name: str, /, *children: Content, **attributes: str) -> Markup:
    """An element; `class_` stands for `class`, `aria_label` for `aria-label`."""
    opening = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
    )
    if name in _EMPTY:
        return Markup(f"<{name}{opening}>")
    return Markup(f"<{name}{opening}>{join(children)}</{name}>")


def join(parts: Iterable[Content]) -> Markup:
    """Parts after each other."""
    return Markup(
        "".join(part if isinstance(part, Markup) else escape(str(part)) for part in parts)
    )


def style(css: str) -> Markup:
    """A style sheet, which HTML does not want escaped."""
    assert "</" not in css, "would end the element"
    return Markup(f"<style>{css}</style>")

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.reporting.markup import Markup, join, style, tag


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


# A parser of HTML reads these as something else, or as nothing.
plain = st.text(st.characters(exclude_categories=["C"]))


@given(plain, plain)
def test_text_and_attributes_come_back_as_they_were(text, title):
    reader = Reader()
    reader.feed(tag("p", text, title=title))
    reader.close()
    assert (reader.text, reader.tags) == (text, [("p", {"title": title})])


def test_elements_are_not_escaped_and_text_between_them_is():
    assert join([tag("b", "<i>"), " & ", 3]) == "<b>&lt;i&gt;</b> &amp; 3"
    assert tag("img", class_="wide", aria_label="x") == '<img class="wide" aria-label="x">'
    assert isinstance(tag("p"), Markup)


def test_style_sheet_that_would_end_its_element_is_refused():
    with pytest.raises(AssertionError):
        style("</style>")

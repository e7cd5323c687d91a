import io
import logging
import sys

import pytest

from stages.runtime import workers as progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_and_the_log_nothing(monkeypatch, caplog):
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with caplog.at_level(logging.INFO):
        assert list(progress.with_progress(range(5), name="expw")) == list(range(5))
    assert "expw" in sys.stderr.getvalue()
    assert caplog.text == ""


@pytest.mark.parametrize(("every_seconds", "num_lines"), [(0.0, 3), (1000.0, 0)])
def test_elsewhere_the_log_has_a_line_now_and_then(monkeypatch, caplog, every_seconds, num_lines):
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", every_seconds)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO):
        assert list(progress.with_progress(iter("abc"), name="expw")) == ["a", "b", "c"]
    assert len(caplog.messages) == num_lines
    assert all(message.startswith("expw: ") for message in caplog.messages)
    if num_lines:
        assert caplog.messages[-1].startswith("expw: 3 rows, ")
    assert sys.stderr.getvalue() == ""

"""The page in a headless browser, which is driven by the DevTools protocol over a pipe."""

import json
import shutil
import subprocess
from threading import Timer

import pytest

pytestmark = pytest.mark.browser
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = "--headless --no-sandbox --disable-gpu --hide-scrollbars --remote-debugging-pipe"
# The browser reads commands from 3 and writes answers to 4, each ended by a zero byte.
PIPE = 'exec "$0" "$@" 3<&0 4>&1 0</dev/null 1>&2'
TELLS = {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"}
ENTER = {"key": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
TAB = {"key": "Tab", "windowsVirtualKeyCode": 9}
ALL = "[...document.querySelectorAll('{}')]"
UNFOLD = ALL.format("details") + ".forEach((part) => { part.open = true; })"
WIDE = ALL.format(".table > div") + ".filter((it) => it.scrollWidth > it.clientWidth).length"
LOADED = ALL.format("img") + ".filter((it) => it.complete && it.naturalWidth > 0).length"
TOPS = ALL.format(".questions img, nav") + ".map((it) => it.getBoundingClientRect().top)"
VISIBLE = ALL.format("section") + ".filter((it) => it.checkVisibility()).map((it) => it.id)"
FOCUSED = "document.activeElement.closest('.part > summary')?.parentElement"


class Browser:
    """A tab; `events` are what it told between the answers."""

    def __init__(self, path, profile):
        command = ["sh", "-c", PIPE, path, *OPTIONS.split(), f"--user-data-dir={profile}"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **pipes)
        self.sent, self.heard, self.events, self.session = 0, b"", [], {}
        target = self("Target.createTarget", url="about:blank")["targetId"]
        attached = self("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self(f"{domain}.enable")

    def __call__(self, method, **params):
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": params} | self.session
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        self.process.stdin.flush()
        while (answer := self.next()).get("id") != self.sent:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def next(self):
        while b"\0" not in self.heard:
            assert (heard := self.process.stdout.read1()), "the browser has ended"
            self.heard += heard
        message, _, self.heard = self.heard.partition(b"\0")
        return json.loads(message)

    def open(self, url, *, width):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self("Emulation.setDeviceMetricsOverride", **size)
        self.events.clear()
        self("Page.navigate", url=url)
        while "Page.loadEventFired" not in {event["method"] for event in self.events}:
            self.events.append(self.next())

    def ask(self, expression):
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key):
        self("Input.dispatchKeyEvent", type="keyDown", **key)
        self("Input.dispatchKeyEvent", type="keyUp", **key)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser to look at the page with: none of {', '.join(BROWSERS)}")
    browser = Browser(path, tmp_path_factory.mktemp("profile"))
    timer = Timer(300, browser.process.kill)
    timer.start()
    yield browser
    timer.cancel()
    browser("Browser.close")
    browser.process.communicate()


@pytest.fixture(scope="module")
def url(page, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize(("width", "most_tables_scroll"), [(360, True), (1280, False)])
def test_page_fits_its_window_and_asks_for_nothing(browser, url, page, width, most_tables_scroll):
    browser.open(url, width=width)
    sent = [e["params"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    asked = {params["request"]["url"] for params in sent}
    assert {it for it in asked if not it.startswith("data:image/png;base64,")} == {url}
    for _ in ("folded", "unfolded"):
        assert browser.ask("document.documentElement.scrollWidth") == width
        browser.ask(UNFOLD)
    assert (browser.ask(WIDE) > 5) == most_tables_scroll
    assert browser.ask(LOADED) == page.count("<img ")
    assert [event for event in browser.events if event["method"] in TELLS] == []


def test_every_section_opens_by_keyboard_by_its_link_and_in_print(browser, url):
    browser.open(url, width=1400)
    sections, opened = browser.ask(ALL.format("section") + ".map((it) => it.id)"), ["answers"]
    assert browser.ask(VISIBLE) == opened
    while opened != sections:
        browser.press(TAB)
        if browser.ask(f"{FOCUSED}?.open") is False:
            browser.press(ENTER)
            opened.append(browser.ask(VISIBLE)[-1])
            browser.press(ENTER)  # else its tables would be stops too
            assert opened == sections[: len(opened)]
    browser("Emulation.setEmulatedMedia", media="print")
    assert browser.ask(VISIBLE) == sections
    browser("Emulation.setEmulatedMedia", media="")
    assert browser.ask(VISIBLE) == ["answers"]
    browser.ask(ALL.format("nav a") + ".forEach((link) => link.click())")
    assert browser.ask(VISIBLE) == sections


def test_first_screen_has_the_pictures_and_the_contents_stay_in_sight(browser, url):
    browser.open(url, width=1400)
    nav, *tops = browser.ask(TOPS)
    assert len(tops) == 3
    assert nav < max(tops) < 600
    browser.ask(f"{UNFOLD}; scrollTo({{top: 5000, behavior: 'instant'}})")
    nav, *tops = browser.ask(TOPS)
    assert max(tops) < 0 < nav < 200

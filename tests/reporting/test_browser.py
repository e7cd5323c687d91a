"""The page in a headless browser, which is driven by the DevTools protocol over a pipe."""

import json
import shutil
from subprocess import DEVNULL, PIPE, Popen

import pytest

pytestmark = pytest.mark.browser
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = "--headless --no-sandbox --disable-gpu --hide-scrollbars --remote-debugging-pipe"
# The browser reads commands from 3 and writes answers to 4, each ended by a zero byte.
SHELL = 'exec timeout 300 "$0" "$@" 3<&0 4>&1 0</dev/null 1>&2'
TELLS = {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"}
ENTER = {"type": "keyDown", "key": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
TAB = {"type": "keyDown", "key": "Tab", "windowsVirtualKeyCode": 9}
ALL = "[...document.querySelectorAll('{}')]"
UNFOLD = ALL.format("details") + ".forEach((part) => { part.open = true; })"
WIDE = ALL.format(".table > div") + ".filter((it) => it.scrollWidth > it.clientWidth).length"
LOADED = ALL.format("img") + ".filter((it) => it.complete && it.naturalWidth > 0).length"
TOPS = ALL.format(".questions img, nav") + ".map((it) => it.getBoundingClientRect().top)"
VISIBLE = ALL.format("section") + ".filter((it) => it.checkVisibility()).map((it) => it.id)"
FOCUSED = "document.activeElement.closest('.part > summary')?.parentElement"


class Browser:
    """A tab; `events` are what it told between the answers."""

    def __init__(self, path, *, profile, url):
        self.url = url
        command = ["sh", "-c", SHELL, path, *OPTIONS.split(), f"--user-data-dir={profile}"]
        self.process = Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
        self.sent, self.heard, self.events, self.session = 0, b"", [], {}
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)
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
            self.heard += self.process.stdout.read1() or pytest.fail("the browser has ended")
        message, _, self.heard = self.heard.partition(b"\0")
        return json.loads(message)

    def open(self, *, width):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1}
        self("Emulation.setDeviceMetricsOverride", mobile=False, **size)
        self.events.clear()
        self("Page.navigate", url=self.url)
        while "Page.loadEventFired" not in {event["method"] for event in self.events}:
            self.events.append(self.next())

    def ask(self, expression):
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory):
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser to look at the page with: none of {', '.join(BROWSERS)}")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "report.html").write_text(page, encoding="utf-8")
    url = (folder / "report.html").as_uri()
    yield (browser := Browser(path, profile=folder / "profile", url=url))
    browser("Browser.close")
    browser.process.communicate()


@pytest.mark.parametrize(("width", "most_tables_scroll"), [(360, True), (1280, False)])
def test_page_fits_its_window_and_asks_for_nothing(browser, page, width, most_tables_scroll):
    browser.open(width=width)
    sent = [e["params"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    asked = {params["request"]["url"] for params in sent}
    assert {it for it in asked if not it.startswith("data:image/png;base64,")} == {browser.url}
    for _ in ("folded", "unfolded"):
        assert browser.ask("document.documentElement.scrollWidth") == width
        browser.ask(UNFOLD)
    assert (browser.ask(WIDE) > 5) == most_tables_scroll
    assert browser.ask(LOADED) == page.count("<img ")
    assert [event for event in browser.events if event["method"] in TELLS] == []


def test_every_section_opens_by_keyboard_by_its_link_and_in_print(browser):
    browser.open(width=1400)
    sections, opened = browser.ask(ALL.format("section") + ".map((it) => it.id)"), ["answers"]
    assert browser.ask(VISIBLE) == opened
    while opened != sections:
        browser("Input.dispatchKeyEvent", **TAB)
        if browser.ask(f"{FOCUSED}?.open") is False:
            browser("Input.dispatchKeyEvent", **ENTER)
            opened.append(browser.ask(VISIBLE)[-1])
            browser("Input.dispatchKeyEvent", **ENTER)  # else its tables would be stops too
            assert opened == sections[: len(opened)]
    browser("Emulation.setEmulatedMedia", media="print")
    assert browser.ask(VISIBLE) == sections
    browser("Emulation.setEmulatedMedia", media="")
    assert browser.ask(VISIBLE) == ["answers"]
    browser.ask(ALL.format("nav a") + ".forEach((link) => link.click())")
    assert browser.ask(VISIBLE) == sections


def test_first_screen_has_the_pictures_and_the_contents_stay_in_sight(browser):
    browser.open(width=1400)
    nav, *tops = browser.ask(TOPS)
    assert nav < max(tops) < 600
    browser.ask(f"{UNFOLD}; scrollTo({{top: 5000, behavior: 'instant'}})")
    nav, *tops = browser.ask(TOPS)
    assert max(tops) < 0 < nav < 200

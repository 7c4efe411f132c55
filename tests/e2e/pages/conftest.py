"""A real browser on a real farm. Whatever it complains about, and whatever leaves the host, fails.

Needs Chromium (Debian: apt install chromium). Without it these tests are skipped, unless the
variable ROOST_REQUIRE_BROWSER says that it must be there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, expect, sync_playwright

PATIENCE_MS = 30_000
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
AXE = Path(__file__).parents[3] / "node_modules/axe-core/axe.min.js"

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def studio(new_farm: Callable[[], AbstractContextManager[Any]]) -> Iterator[Any]:
    """A farm with one node of two CPUs. Each test submits what it looks at."""
    with new_farm() as farm:
        farm.start_server()
        farm.start_agent("one")
        yield farm


# Not for the whole session: while it lives, no other test of the process can have an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        assert not os.environ.get("ROOST_REQUIRE_BROWSER"), "there is no Chromium"
        pytest.skip("there is no Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


class Watched:
    """Browser contexts whose complaints are kept."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.complaints: list[str] = []
        self.contexts: list[BrowserContext] = []
        self.forgiven: tuple[str, ...] = ()
        """Complaints with one of these words are expected."""

    def open(self, url: str, **options: Any) -> Page:
        """A page in a browser of its own: no cookies, nothing kept."""
        context = self.browser.new_context(
            **{"viewport": {"width": 1440, "height": 860}, **options}
        )
        context.set_default_timeout(PATIENCE_MS)
        self.contexts.append(context)
        host = urlsplit(url).netloc
        page = context.new_page()
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", lambda request: self._check(request.url, host))
        page.goto(url)
        return page

    def _listen(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _check(self, url: str, host: str) -> None:
        if urlsplit(url).netloc not in (host, "") and not url.startswith("data:"):
            self.complaints.append(f"a request left the host: {url}")

    def close(self) -> None:
        for context in self.contexts:
            context.close()
        left = [c for c in self.complaints if not any(word in c for word in self.forgiven)]
        assert not left, left


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    watched = Watched(browser)
    yield watched
    watched.close()


@pytest.fixture
def open_page(watched: Watched) -> Callable[..., Page]:
    return watched.open


END_OF_FADING = """() => {
  for (const one of document.getAnimations())
    if (one instanceof CSSTransition) one.finish();
}"""


def serious_issues(page: Page) -> list[str]:
    """What axe finds that keeps people from using the page, as it is once colours have faded."""
    page.evaluate(AXE.read_text())
    page.evaluate(END_OF_FADING)
    found = page.evaluate("() => axe.run({resultTypes: ['violations']})")
    return [
        f"{one['id']}: {one['help']} at {node['target']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:4]
    ]


@pytest.fixture(scope="session")
def axe() -> Callable[[Page], list[str]]:
    return serious_issues


NAMES_OF_FOCUS = """() => {
  const {activeElement: it} = document;
  const names = [it.getAttribute("aria-label"), it.innerText, it.id, it.name];
  return names.map((text) => (text || "").trim());
}"""


def tab_to(page: Page, name: str, most: int = 120) -> None:
    """Press Tab until the control with this name has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        try:
            if name in page.evaluate(NAMES_OF_FOCUS):
                return
        except Error:  # another page has just taken the place of this one
            page.wait_for_load_state()
    raise AssertionError(f"Tab does not lead to {name!r}")


@pytest.fixture(scope="session")
def by_tab() -> Callable[..., None]:
    return tab_to

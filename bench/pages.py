"""The pages in a real browser, on the working day of a large studio, beside what is wished of them.

The server is real, its machines and their jobs are simulated (`studio`), Chromium is Debian's. What
is measured is what its user has: from the start of a navigation until the page answers a key, the
bytes that came over the wire, the time of the page's own thread, the end of a long log, and ten
thousand jobs cancelled at once. The limit beside a figure is the wish, not the machine's.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from farms import Farm, farm_without_nodes
from report import Row
from roost.core.records import JobId
from roost.remote import Remote
from roost.server.app import OUTPUT_FOLDER
from roost.store.output import OutputStore

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None  # type: ignore[assignment]

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
STUDIO = Path(__file__).with_name("studio.py")
PATIENCE_MS = 60_000
OWN_START_MS = 2_000
"""A new window of Chromium first loads pages of its own, `chrome://omnibox-popup.top-chrome`: 0.6 s
of CPU time that are not ours."""
VIEWPORT = {"width": 1440, "height": 860}
LINE = "{:08} INFO  karma: bucket {} of 4096 done, 1.32 GiB in use, {} samples/s\n"
PIECE_LINES = 20_000
LAST_LINE = "the last line of all"

WISHED_INTERACTIVE_MS = 1_000
WISHED_FIRST_KB = 250
WISHED_AGAIN_KB = 60
WISHED_CPU_PERCENT = 20
WISHED_LOG_MS = 500
WISHED_CANCEL_MS = 3_000

CONNECTED = "() => document.getElementById('connection')?.textContent === 'connected'"
IS_AT_ROW = "() => document.querySelector('main tr.at') !== null"
SAYS = "() => document.querySelector('main > .said')?.textContent.includes('cancelled')"
HAS_LAST_LINE = f"""() => [...document.querySelectorAll('.roost-log-row')].some(
    (row) => row.textContent.includes('{LAST_LINE}'))"""
KEEP_LONG_TASKS = """() => {
    globalThis.longest = 0;
    new PerformanceObserver((list) => {
        for (const task of list.getEntries()) longest = Math.max(longest, task.duration);
    }).observe({entryTypes: ['longtask']});
}"""


def in_a_browser(folder: Path, sizes: Any, repetitions: int) -> list[Row]:
    """Rows with the wish as limit; none where there is no browser."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None or sync_playwright is None:
        absent = "Playwright" if chromium else "Chromium"
        print(f"Pages are not measured: {absent} is not installed.", file=sys.stderr)
        return []
    with farm_without_nodes(folder) as up, _working_day(up, sizes), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        try:
            farm = f"{sizes.studio_jobs:,} jobs, {sizes.studio_nodes} nodes"
            return [
                *_jobs_page(browser, up, repetitions, farm),
                *_live(browser, up, sizes, repetitions),
                _log(browser, up, sizes, repetitions),
                *_cancel(browser, up, sizes, repetitions),
            ]
        finally:
            browser.close()


@contextlib.contextmanager
def _working_day(up: Farm, sizes: Any) -> Iterator[None]:
    """The studio at work, ended with the block. Raises `RuntimeError` when it does not begin."""
    asked = {
        "--server": up.url,
        "--nodes": sizes.studio_nodes,
        "--jobs": sizes.studio_jobs,
        "--events": sizes.studio_events,
    }
    words = [str(word) for pair in asked.items() for word in pair]
    process = subprocess.Popen([sys.executable, STUDIO, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError("the studio's day did not begin; see above")
        yield
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def _tab(browser: Any) -> Iterator[Any]:
    """A tab of a browser that has nothing in its cache."""
    context = browser.new_context(viewport=VIEWPORT)
    context.set_default_timeout(PATIENCE_MS)
    try:
        yield context.new_page()
    finally:
        context.close()


def _since_navigation_ms(page: Any) -> float:
    return float(page.evaluate("performance.now()"))


def _open_jobs(page: Any, up: Farm) -> float:
    """Milliseconds until it is live and answers a key."""
    page.goto(f"{up.url}/jobs", wait_until="commit")
    page.wait_for_function(CONNECTED)
    page.keyboard.press("j")
    page.wait_for_function(IS_AT_ROW)
    return _since_navigation_ms(page)


def _jobs_page(browser: Any, up: Farm, repetitions: int, farm: str) -> list[Row]:
    first_ms, again_ms, first_kb, again_kb = [], [], [], []
    for _ in range(repetitions):
        with _tab(browser) as page:
            wire = page.context.new_cdp_session(page)
            wire.send("Network.enable")
            page.wait_for_timeout(OWN_START_MS)
            came: list[float] = []
            wire.on("Network.loadingFinished", lambda e, c=came: c.append(e["encodedDataLength"]))
            first_ms.append(_open_jobs(page, up))
            page.wait_for_load_state("load")
            first_kb.append(sum(came) / 1000)
            came.clear()
            again_ms.append(_open_jobs(page, up))
            page.wait_for_load_state("load")
            again_kb.append(sum(came) / 1000)

    def row(what: str, unit: str, values: list[float], wish: float) -> Row:
        return Row("s", f"Jobs page of {farm}, {what}", unit, values, [wish] * len(values), False)

    return [
        row("first visit, until it answers a key", "ms", first_ms, WISHED_INTERACTIVE_MS),
        row("again, until it answers a key", "ms", again_ms, WISHED_INTERACTIVE_MS),
        row("first visit, bytes", "kB", first_kb, WISHED_FIRST_KB),
        row("again, bytes", "kB", again_kb, WISHED_AGAIN_KB),
    ]


def _live(browser: Any, up: Farm, sizes: Any, repetitions: int) -> list[Row]:
    """The share of a CPU that the page's thread takes: of a list that stands still below its
    counters, and of one in which every row is about to end."""
    rows = []
    for what, address in (
        ("newest jobs", "/jobs"),
        ("all that runs", "/jobs?status=running&every=1"),
    ):
        shares = []
        with _tab(browser) as page:
            page.goto(up.url + address)
            page.wait_for_function(CONNECTED)
            wire = page.context.new_cdp_session(page)
            wire.send("Performance.enable", {"timeDomain": "threadTicks"})
            for _ in range(repetitions):
                before, since = _task_s(wire), time.perf_counter()
                page.wait_for_timeout(sizes.watched_s * 1000)
                shares.append((_task_s(wire) - before) / (time.perf_counter() - since) * 100)
        name = f"CPU of the tab's thread, {what}, {sizes.studio_events} events/s"
        rows.append(Row("s", name, "%", shares, [WISHED_CPU_PERCENT] * repetitions, False))
    return rows


def _task_s(wire: Any) -> float:
    metrics = wire.send("Performance.getMetrics")["metrics"]
    return next(float(one["value"]) for one in metrics if one["name"] == "TaskDuration")


def _log(browser: Any, up: Farm, sizes: Any, repetitions: int) -> Row:
    """The first look at a log, which nobody has counted the lines of."""
    took = []
    with Remote(up.url) as remote:
        ended = remote.jobs(statuses=["succeeded"], limit=repetitions).jobs
    for job in (JobId(found.id) for found in ended):
        _print_much(up, job, sizes.log_mb)
        with _tab(browser) as page:
            page.goto(f"{up.url}/jobs")  # the files of the frame are there already
            page.wait_for_function(CONNECTED)
            page.wait_for_timeout(OWN_START_MS)
            page.goto(f"{up.url}/jobs/{job}/output", wait_until="commit")
            page.wait_for_function(HAS_LAST_LINE)
            took.append(_since_navigation_ms(page))
    what = f"the end of a log of {sizes.log_mb} MB, until its last line is shown"
    return Row("s", what, "ms", took, [WISHED_LOG_MS] * len(took), False)


def _print_much(up: Farm, job: JobId, megabytes: int) -> None:
    """As if the job, which has ended, had printed so much; its machine is only simulated."""
    store = OutputStore(up.data / "farm" / OUTPUT_FOLDER)
    size, number = store.size(job, 1), 0
    while size < megabytes * 1_000_000:
        lines = range(number, number + PIECE_LINES)
        text = "".join(LINE.format(line, line % 4096, line * 7919 % 100_000) for line in lines)
        size = store.write(job, 1, size, text.encode())
        number += PIECE_LINES
    store.write(job, 1, size, f"{LAST_LINE}\n".encode())
    store.close()


def _cancel(browser: Any, up: Farm, sizes: Any, repetitions: int) -> list[Row]:
    """All jobs of one user, by keys alone: from the yes until the page says what was done."""
    took, longest, asked = [], [], []
    for number in range(repetitions):
        user = f"leaver{number}"
        for at in range(0, sizes.cancelled, 1_000):
            names = range(at, min(at + 1_000, sizes.cancelled))
            up.server.newjob(
                [{"name": f"{user} {n}", "command": "true", "submittedBy": user} for n in names]
            )
        with _tab(browser) as page:
            page.goto(f"{up.url}/jobs?by={user}")
            page.wait_for_function(CONNECTED)
            page.evaluate(KEEP_LONG_TASKS)
            page.keyboard.press("a")
            page.keyboard.press("a")
            before = _since_navigation_ms(page)
            page.keyboard.press("Shift+C")
            page.wait_for_selector("dialog[open] #question")
            answered = _since_navigation_ms(page)
            page.keyboard.press("Enter")
            page.wait_for_function(SAYS)
            took.append(_since_navigation_ms(page) - answered)
            asked.append(answered - before)
            longest.append(float(page.evaluate("longest")))
    what = f"cancel all {sizes.cancelled:,} jobs of one user"
    return [
        Row("s", f"{what}, until asked to confirm", "ms", asked),
        Row("s", f"{what}, until it is done", "ms", took, [WISHED_CANCEL_MS] * len(took), False),
        Row("s", "longest task of the page meanwhile (0: none of 50 ms)", "ms", longest),
    ]

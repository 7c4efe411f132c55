"""`make pictures`: the pictures of the pages in README, of a simulated studio at work.

    python bench/pictures.py [--nodes 500] [--jobs 20000]

Needs Chromium. What is in them is chosen under a seed; times and loads are those of the moment.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from farms import farm_without_nodes
from roost.remote import Remote

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/images"
STUDIO = Path(__file__).with_name("studio.py")
SIZE = {"width": 1360, "height": 780}
ROWS_BEFORE = 6
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=20_000)
    options = parser.parse_args(arguments)
    chromium = shutil.which("chromium")
    if chromium is None:
        parser.error("there is no Chromium (Debian: apt install chromium)")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="roost-pictures-") as folder:
        with farm_without_nodes(Path(folder)) as server:
            studio = subprocess.Popen(
                [
                    *(sys.executable, str(STUDIO), "--server", server.url),
                    *("--nodes", str(options.nodes), "--jobs", str(options.jobs)),
                ],
                stdout=subprocess.PIPE,
            )
            try:
                assert studio.stdout is not None
                print("the studio comes to work …", file=sys.stderr)
                studio.stdout.readline()
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
                    for theme, name, path in (
                        ("light", "jobs", _at_work(server.url)),
                        ("dark", "job", "/jobs?status=failed&sort=failed"),
                        ("light", "clients", "/nodes?look=grid"),
                    ):
                        page = browser.new_page(viewport=SIZE, color_scheme=theme)
                        page.goto(server.url + path)
                        _settle(page)
                        if name == "job":
                            page.locator("tr.job .job-link").first.click()
                            _settle(page)
                        page.screenshot(path=FOLDER / f"{name}.png")
                        print(f"written: docs/images/{name}.png")
                    browser.close()
            finally:
                studio.terminate()
                studio.wait()
    return 0


def _at_work(url: str) -> str:
    """The part of the list where some jobs are done and some are not."""
    with Remote(url) as remote:
        jobs = remote.jobs(roots_only=True, limit=1_000).jobs
    begun = next(at for at, job in enumerate(jobs) if job.overall_progress)
    return f"/jobs?before={jobs[max(begun - ROWS_BEFORE, 0)].id + 1}"


def _settle(page: Page) -> None:
    """Until it is connected and has drawn itself."""
    page.locator("body.connected").wait_for()
    page.wait_for_load_state("load")
    page.wait_for_timeout(1_500)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What every page must be: fresh, usable by everybody, and silent in the console."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from roost.remote import Remote

pytestmark = pytest.mark.slow

Open = Callable[..., Page]

HOSTILE = "<b>bold</b><script>alert(1)</script>\u202egnirts\u202c 🦖 " + "x" * 10_000
SETTLED_WIDTH = """async () => {
  // What draws itself to its place does so in the next frames.
  for (let i = 0; i < 4; i++) await new Promise(requestAnimationFrame);
  return document.documentElement.scrollWidth;
}"""
NARROW = {"viewport": {"width": 400, "height": 800}}
STATUSES = ("running", "succeeded", "failed", "abandoned", "cancelled", "ejecting", "paused",
            "runnable", "queued")  # fmt: skip


@pytest.fixture(scope="module")
def studio(new_farm: Callable[[], AbstractContextManager[Any]]) -> Iterator[Any]:
    """A farm on which something has succeeded, failed, waits, and is called something hostile."""
    with new_farm() as farm:
        farm.start_server()
        farm.start_agent("one")
        script = "echo loading; echo no licence >&2; exit 7"
        frames = [{"name": "frame 1", "command": script}, {"name": "frame 2", "command": "true"}]
        farm.tree = farm.submit(name="wedge", submittedBy="ana", children=frames)
        farm.wait(farm.tree)
        farm.waiting = farm.submit(name="too big", cpus=1000)
        farm.hostile = farm.submit(
            name=HOSTILE, submittedBy=HOSTILE, description=HOSTILE, command="false",
            environment={"X": HOSTILE},
        )  # fmt: skip
        farm.wait(farm.hostile)
        with farm.rpc as rpc:
            rpc.addNote(HOSTILE[:15_000], None, farm.hostile)
        yield farm


def paths(studio: Any) -> list[str]:
    tabs = ("children", "output", "properties", "history", "attributes", "notes", "nodes")
    node_tabs = ("running", "history", "hours", "errors", "notes")
    return [
        "/", "/jobs", "/jobs?every=1&status=failed", "/nodes", "/nodes?look=grid", "/groups",
        "/resources", "/notes", "/activity", "/statistics", "/submit", "/submit?like=1",
        "/settings", "/jobs/999", f"/jobs/{studio.waiting}",
        *(f"/jobs/{studio.tree}?tab={tab}" for tab in tabs),
        *(f"/jobs/{studio.hostile}?tab={tab}" for tab in tabs[1:]),
        *(f"/nodes/1?tab={tab}" for tab in node_tabs),
    ]  # fmt: skip


def shown(page: Page) -> None:
    """Until the page is connected: all of it has run then."""
    expect(page.locator("#connection")).to_have_text("connected")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_for_everybody_and_fits_whatever_names_there_are(
    studio: Any, watched: Any, axe: Callable[[Page], list[str]], theme: str
) -> None:
    """Screen readers and weak eyes (axe), and phones; also where everything is called HOSTILE."""
    watched.forgiven = ("404",)
    page = watched.open(studio.url, color_scheme=theme)
    found = []
    for path in paths(studio):
        page.set_viewport_size({"width": 1440, "height": 860})
        page.goto(studio.url + path)
        shown(page)
        found += [f"{path}: {issue}" for issue in axe(page)]
        for width in (1440, 400):
            page.set_viewport_size({"width": width, "height": 860})
            needed = page.evaluate(SETTLED_WIDTH)
            found += [f"{path}: {needed} wide on {width}"] if needed > width else []
    assert not found, "\n".join(found)


def test_rows_keep_their_height_whatever_names_there_are(studio: Any, open_page: Open) -> None:
    page = open_page(f"{studio.url}/jobs")
    expect(page.locator(f"#job-{studio.hostile}")).to_be_visible()
    heights = page.locator("tr.job").evaluate_all("(rows) => rows.map((row) => row.offsetHeight)")
    assert len(set(heights)) == 1


@pytest.fixture(scope="module")
def many(studio: Any) -> str:
    """The address of a list of a hundred rows."""
    children = [{"name": f"crowd {n}", "command": "true", "cpus": 1000} for n in range(100)]
    studio.submit(name="crowd", children=children)
    return f"{studio.url}/jobs?q=crowd&every=1"


@pytest.mark.parametrize("scripts", [True, False])
def test_rows_beneath_the_first_screen_are_shown_too(
    many: str, open_page: Open, scripts: bool
) -> None:
    page = open_page(many, java_script_enabled=scripts)
    expect(page.locator("tr.job").last).to_be_visible()


def test_the_bar_of_a_selection_covers_no_row_at_the_end_of_the_page(
    many: str, open_page: Open
) -> None:
    page = open_page(many)
    shown(page)
    page.keyboard.press("a")
    bar = page.locator("roost-select")
    expect(bar).to_be_visible()
    last = page.get_by_role("link", name="Older jobs")
    expect(page.locator("tr.job").last).to_be_visible()
    page.evaluate("() => scrollTo(0, document.documentElement.scrollHeight)")
    expect(last).to_be_in_viewport()
    expect(bar).to_be_in_viewport()
    link, over = last.bounding_box(), bar.bounding_box()
    assert link and over and link["y"] + link["height"] <= over["y"]


def test_a_phone_answers_whether_my_job_is_done_and_if_not_why(
    studio: Any, open_page: Open
) -> None:
    page = open_page(f"{studio.url}/jobs", **NARROW)
    row = page.locator(f"#job-{studio.tree}")
    expect(row).to_contain_text("wedge")
    expect(row).to_contain_text("failed")
    row.get_by_role("button", name=f"Why job {studio.tree}").click()
    expect(page.locator(".glance")).to_contain_text("no licence")
    expect(page.locator(f"#job-{studio.waiting}")).to_contain_text("the job needs 1000")


def test_every_failed_job_shows_its_exit_code_node_and_last_lines_in_the_list(
    studio: Any, open_page: Open
) -> None:
    page = open_page(f"{studio.url}/jobs?status=failed")
    page.get_by_role("button", name=f"Why job {studio.tree}").click()
    glance = page.locator(".glance")
    expect(glance).to_contain_text("exit code 7 on")
    expect(glance).to_contain_text(":one")
    expect(glance.locator("pre")).to_contain_text("no licence")


def test_the_page_says_when_the_server_is_gone_and_is_right_again_by_itself(
    new_farm: Any, watched: Any
) -> None:
    watched.forgiven = ("ERR_", "Failed to load resource")
    with new_farm() as farm:
        farm.start_server()
        job = farm.submit(name="first")
        page = watched.open(f"{farm.url}/jobs")
        shown(page)
        farm.server.kill()
        expect(page.locator("#connection")).to_contain_text("not connected since", timeout=5_000)
        farm.start_server()
        with farm.rpc as rpc:
            rpc.cancelJobs([job])
        shown(page)
        expect(page.locator(f"#job-{job}")).to_contain_text("cancelled")


def test_new_jobs_wait_behind_a_button_and_nothing_moves(studio: Any, open_page: Open) -> None:
    page = open_page(f"{studio.url}/jobs?by=lena")
    shown(page)
    first = studio.submit(name="one", submittedBy="lena")
    studio.submit(name="someone else's", submittedBy="raj")
    page.goto(f"{studio.url}/jobs?by=lena")
    expect(page.locator("tr.job")).to_have_count(1)
    shown(page)
    second = studio.submit(name="two", submittedBy="lena")
    button = page.get_by_role("button", name="1 new job: show")
    expect(button).to_be_visible()
    expect(page.locator("tr.job")).to_have_count(1)
    button.click()
    expect(page.locator(f"#job-{second}")).to_be_visible()
    expect(page.locator(f"#job-{first}")).to_be_visible()


def test_a_tick_and_the_row_at_hand_survive_what_changes(
    studio: Any, open_page: Open, gate: Any
) -> None:
    job = studio.submit(name="gated", command=f"head -n 1 {gate.path}")
    page = open_page(f"{studio.url}/jobs?q=gated")
    row = page.locator(f"#job-{job}")
    expect(row).to_contain_text("running")
    page.keyboard.press("j")
    page.keyboard.press("x")
    gate.path.write_text("go on\n")
    expect(row).to_contain_text("succeeded")
    expect(row.locator("input")).to_be_checked()
    assert row.evaluate("(row) => row.classList.contains('at')")
    page.keyboard.press("r")
    expect(page.get_by_text("1 selected")).to_be_visible()


def test_live_updates_can_be_paused_and_go_on(studio: Any, open_page: Open) -> None:
    page = open_page(f"{studio.url}/jobs?q=held+back")
    shown(page)
    page.keyboard.press(".")
    expect(page.locator("#connection")).to_have_text("live updates are paused")
    job = studio.submit(name="held back")
    page.keyboard.press("r")
    expect(page.locator(f"#job-{job}")).to_be_visible()
    page.keyboard.press(".")
    shown(page)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_of_statuses_can_be_read_and_differ_without_colour(
    studio: Any, open_page: Open, theme: str
) -> None:
    page = open_page(f"{studio.url}/settings", color_scheme=theme)
    ground = luminance(page, "--ground")
    for status in STATUSES:
        assert contrast(luminance(page, f"--status-{status}"), ground) >= 4.5, status
    fills = sorted(
        luminance(page, f"--fill-{name}") for name in ("failed", "running", "succeeded", "ground")
    )
    for darker, lighter in pairwise(fills):
        assert contrast(lighter, darker) >= 1.2


def luminance(page: Page, token: str) -> float:
    """Of a colour token as the page resolves it (WCAG 2)."""
    colour = page.evaluate(
        """(token) => {
          const probe = document.createElement("canvas").getContext("2d");
          probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(token);
          probe.fillRect(0, 0, 1, 1);
          return [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3);
        }""",
        token,
    )
    linear = [
        c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4
        for c in colour
    ]
    return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])


def contrast(one: float, other: float) -> float:
    low, high = sorted((one, other))
    return (high + 0.05) / (low + 0.05)


def test_the_theme_is_kept_and_does_not_flash(studio: Any, open_page: Open) -> None:
    page = open_page(f"{studio.url}/jobs", color_scheme="light")
    page.keyboard.press("t")
    page.keyboard.press("t")
    page.goto(f"{studio.url}/nodes")
    html = page.context.request.get(f"{studio.url}/nodes").text()
    assert re.search(r'<html[^>]*class="dark dark-theme"', html)
    assert page.evaluate("() => document.documentElement.classList.contains('dark')")


def test_forms_work_without_javascript(studio: Any, open_page: Open) -> None:
    job = studio.submit(name="plain old form", cpus=1000)
    page = open_page(f"{studio.url}/jobs?q=plain+old", java_script_enabled=False)
    page.get_by_role("checkbox", name=f"Select job {job}").check()
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.locator(".said")).to_contain_text("1 job cancelled")
    assert studio.status(job) == "cancelled"


def test_a_200_mb_log_opens_at_its_end_and_follows(studio: Any, open_page: Open, gate: Any) -> None:
    lines = 2_000_000
    script = f"seq -f 'line %012.0f {'of a very long log, ' * 4}' 1 {lines}"
    script += f"; head -n 1 {gate.path}; echo the very end"
    job = studio.submit(name="flood", command=script)
    studio.wait_until(job, lambda: f"line {lines:012}" in last_output(studio, job))
    page = open_page(f"{studio.url}/jobs/{job}/output")
    log = page.locator("roost-log")
    expect(log).to_contain_text(f"line {lines:012}")
    gate.path.write_text("go on\n")
    expect(log).to_contain_text("the very end")
    assert log.locator(".roost-log-row").count() < 1_000


def last_output(studio: Any, job: int) -> str:
    with Remote(studio.url) as remote:
        return remote.output(job, last=500).decode()


def test_all_clients_are_drained_and_enabled_by_one_tick(studio: Any, open_page: Open) -> None:
    page = open_page(f"{studio.url}/nodes")
    page.get_by_role("checkbox", name="Select all on this page").check()
    page.get_by_role("button", name="Drain").click()
    expect(page.locator("#node-table .state")).to_have_text("disabled")
    page.get_by_role("checkbox", name="Select all on this page").check()
    page.get_by_role("button", name="Enable").click()
    expect(page.locator("#node-table .state")).to_have_text("available")

"""The drawn elements in a real browser, on what real jobs printed and did."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from roost.remote import Remote

pytestmark = pytest.mark.slow

Open = Callable[..., Page]


def printed(studio: Any, command: str, **spec: Any) -> int:
    job: int = studio.submit(command=command, shell="bash", **spec)
    studio.wait(job)
    return job


def follow_button(page: Page) -> Locator:
    return page.get_by_role("button", name="Follow")


def line(page: Page, number: int) -> Locator:
    return page.locator(f'.roost-log-row[data-line="{number}"] .roost-log-text')


# --- output -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_job(studio: Any) -> int:
    """It printed half a million lines: higher than a browser can make an element."""
    return printed(studio, "seq -f 'line %.0f' 500000", name="long")


def test_a_long_output_opens_at_its_end_and_only_lines_in_sight_are_in_the_page(
    studio: Any, long_job: int, open_page: Open
) -> None:
    page = open_page(f"{studio.url}/jobs/{long_job}/output")
    expect(line(page, 500_000)).to_have_text("line 500000")
    expect(line(page, 500_000)).to_be_in_viewport()
    expect(page.locator(".roost-log-status")).to_contain_text("500,000 lines")
    assert page.locator(".roost-log-row").count() < 100


def test_the_end_of_an_output_is_there_before_its_lines_are_counted(
    studio: Any, long_job: int, open_page: Open
) -> None:
    page = open_page(f"{studio.url}/jobs")
    held: list[Route] = []
    page.route("**/output/follow?**", lambda route: held.append(route))
    page.goto(f"{studio.url}/jobs/{long_job}/output")
    last = page.locator(".roost-log-row", has_text="line 500000")
    expect(last).to_be_in_viewport()
    expect(last.locator(".roost-log-number")).to_be_hidden()
    page.locator(".roost-log-view").hover()
    page.mouse.wheel(0, -180)
    expect(last).not_to_be_in_viewport()
    for route in held:
        route.continue_()
    # Whoever has scrolled up meanwhile stays there.
    expect(line(page, 499_985)).to_be_in_viewport()
    expect(page.locator(".roost-log-number").first).to_be_visible()
    expect(page.locator(".roost-log-row", has_text="line 500000")).not_to_be_in_viewport()


def test_the_wheel_moves_by_lines_and_the_scroll_bar_through_all(
    studio: Any, long_job: int, open_page: Open
) -> None:
    page = open_page(f"{studio.url}/jobs/{long_job}/output")
    expect(line(page, 500_000)).to_be_in_viewport()
    page.locator(".roost-log-view").hover()
    page.mouse.wheel(0, -1800)
    expect(line(page, 499_900)).to_be_in_viewport()
    expect(follow_button(page)).to_have_attribute("aria-pressed", "false")
    page.locator(".roost-log-view").evaluate("(view) => { view.scrollTop = 0; }")
    expect(line(page, 1)).to_have_text("line 1")
    page.keyboard.press("f")
    expect(line(page, 500_000)).to_be_in_viewport()
    expect(follow_button(page)).to_have_attribute("aria-pressed", "true")


def test_a_link_leads_to_its_line(studio: Any, long_job: int, open_page: Open) -> None:
    page = open_page(f"{studio.url}/jobs/{long_job}/output#L250000")
    expect(page.locator(".is-goal .roost-log-text")).to_have_text("line 250000")
    expect(page.locator(".is-goal")).to_be_in_viewport()
    page.locator('.roost-log-row[data-line="250003"] .roost-log-number').click()
    expect(page).to_have_url(re.compile("#L250003$"))
    expect(page.locator(".is-goal .roost-log-text")).to_have_text("line 250003")


def test_a_search_finds_lines_that_the_page_does_not_have(
    studio: Any, long_job: int, open_page: Open
) -> None:
    page = open_page(f"{studio.url}/jobs/{long_job}/output")
    expect(line(page, 500_000)).to_be_in_viewport()
    page.locator(".roost-log-view").focus()
    page.keyboard.press("/")
    page.keyboard.type("line 12345.$")
    page.keyboard.press("Enter")
    found = page.locator(".roost-log-found")
    expect(found).to_have_text("10 of 10")
    expect(page.locator(".is-current .roost-log-text")).to_have_text("line 123459")
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    expect(found).to_have_text("1 of 10")
    expect(page.locator(".is-current .roost-log-text")).to_have_text("line 123450")


def test_a_pattern_that_is_none_is_told_in_words(
    studio: Any, long_job: int, open_page: Open
) -> None:
    page = open_page(f"{studio.url}/jobs/{long_job}/output")
    page.get_by_label("Search the output").fill("[a")
    page.keyboard.press("Enter")
    expect(page.locator(".roost-log-found")).to_contain_text("is not a regular expression")


def test_colours_are_shown_and_whatever_else_is_printed_is_text(
    studio: Any, open_page: Open
) -> None:
    script = (
        r"printf '\033[31mred\033[0m \033[1mbold\033[m \033]0;title\007\033[2Jseen\n';"
        r"printf '10 %%\r20 %%\rdone\n<img src=x onerror=alert(1)>\n'"
    )
    page = open_page(f"{studio.url}/jobs/{printed(studio, script)}/output")
    expect(line(page, 1)).to_have_text("red bold seen")
    expect(line(page, 1).locator(".ansi-1")).to_have_text("red")
    expect(line(page, 1).locator(".ansi-bold")).to_have_text("bold")
    expect(line(page, 2)).to_have_text("done")
    expect(line(page, 3)).to_have_text("<img src=x onerror=alert(1)>")


def test_the_output_of_an_earlier_attempt_can_be_picked(studio: Any, open_page: Open) -> None:
    mark = studio.folder / "once"
    script = f"test -e {mark} && echo second || {{ touch {mark}; echo first; exit 1; }}"
    job = printed(studio, script, triesLeft=1)
    page = open_page(f"{studio.url}/jobs/{job}/output")
    expect(page.locator(".roost-log-row")).to_have_count(4)
    picker = page.get_by_role("combobox", name="Attempt")
    picker.select_option("1")
    expect(page.locator(".roost-log-row")).to_have_count(1)
    expect(line(page, 1)).to_have_text("first")
    expect(page).to_have_url(re.compile("attempt=1"))
    page.reload()
    expect(line(page, 1)).to_have_text("first")
    expect(picker).to_have_value("1")


def test_what_is_printed_appears_while_the_reader_follows(
    studio: Any, open_page: Open, gate: Any
) -> None:
    job = studio.submit(command=f"echo begun; read go < {gate.path}; echo over", shell="bash")
    page = open_page(f"{studio.url}/jobs/{job}/output")
    expect(line(page, 1)).to_have_text("begun")
    expect(page.locator(".roost-log-status")).to_contain_text("live")
    gate.path.write_text("go\n")
    expect(line(page, 2)).to_have_text("over")
    expect(page.locator(".roost-log-status")).not_to_contain_text("live")


# --- strip, timeline, grid, chart -------------------------------------------------------------


@pytest.fixture(scope="module")
def shot(studio: Any) -> int:
    """A job with twelve children, of which every third fails."""
    frames = [{"name": f"frame {n}", "command": f"exit $(( {n} % 3 == 0 ))"} for n in range(1, 13)]
    job: int = studio.submit(name="shot", children=frames)
    studio.wait(job)
    return job


HIDDEN = "Object.defineProperty(document, 'hidden', {get: () => window.isSeen !== true});"
SEEN = "() => { window.isSeen = true; document.dispatchEvent(new Event('visibilitychange')); }"


def test_outputs_opened_behind_each_other_leave_the_browser_its_connections(
    studio: Any, open_page: Open, gate: Any
) -> None:
    """It has six for a server, whatever page they are for."""
    job = studio.submit(command=f"echo begun; head -n 1 {gate.path}; echo ended")
    address = f"{studio.url}/jobs/{job}/output"
    context = open_page(f"{studio.url}/submit").context
    context.add_init_script(HIDDEN)
    tabs = [context.new_page() for _ in range(7)]
    for tab in tabs:
        tab.goto(address)
        expect(tab.locator("roost-log")).to_contain_text("begun")
    gate.path.write_text("go on\n")
    tabs[0].evaluate(SEEN)
    expect(tabs[0].locator("roost-log")).to_contain_text("ended")


def test_frames_are_selected_with_mouse_and_keyboard(
    studio: Any, shot: int, open_page: Open
) -> None:
    page = open_page(f"{studio.url}/jobs/{shot}?tab=children")
    strip = page.get_by_role("listbox")
    expect(strip).to_have_accessible_name("12 children: 4 failed, 8 succeeded")
    box = strip.locator("canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 15)
    expect(page.locator("roost-strip .roost-tip")).to_contain_text("frame 1")
    page.mouse.down()
    page.mouse.move(box["x"] + 18 * 4 + 5, box["y"] + 15, steps=4)
    page.mouse.up()
    expect(page.get_by_text("5 selected")).to_be_visible()
    page.keyboard.press("Shift+ArrowRight")
    expect(page.get_by_text("6 selected")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("6 selected")).to_be_hidden()
    page.get_by_role("button", name="4 failed", exact=True).click()
    expect(page.get_by_text("4 selected")).to_be_visible()


def test_a_bar_of_the_timeline_leads_to_the_output_of_its_attempt(
    studio: Any, shot: int, open_page: Open
) -> None:
    page = open_page(f"{studio.url}/nodes/1")
    page.get_by_text("As a table").click()
    row = page.locator("roost-timeline tbody tr", has_text="frame 3").first
    expect(row).to_contain_text("exit code 1")
    target = row.get_by_role("link").get_attribute("href")
    assert re.fullmatch(r"/jobs/\d+/output\?attempt=1", target or "")
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="All", exact=True).click()
    # The latest attempts lie at the right edge.
    canvas = page.locator("roost-timeline canvas")
    box = canvas.bounding_box()
    assert box is not None
    canvas.click(position={"x": box["width"] - 2, "y": 32})
    expect(page).to_have_url(re.compile(r"/jobs/\d+/output\?attempt=\d+"))


def test_a_square_of_the_grid_leads_to_its_node(studio: Any, open_page: Open) -> None:
    page = open_page(f"{studio.url}/nodes?look=grid")
    square = page.locator(".roost-square")
    expect(square).to_have_count(1)
    square.focus()
    expect(page.locator("roost-grid .roost-tip")).to_contain_text("of 2 CPUs in use")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/nodes/1$"))


def test_a_chart_shows_and_says_how_an_attribute_went(studio: Any, open_page: Open) -> None:
    job = printed(studio, "true")
    with Remote(studio.url) as remote:
        for loss in (3, 2, 1):
            remote.set_attributes(job, {"Loss": loss})
    page = open_page(f"{studio.url}/jobs/{job}?tab=attributes")
    chart = page.locator("roost-chart").get_by_role("img")
    expect(chart).to_have_accessible_name(re.compile("^Loss. Loss: 1 now, between 1 and 3. Since"))
    expect(chart.locator("canvas")).to_be_visible()


TROUBLE = r"""
echo 'loading, 0 errors so far'; echo 'PROGRESS: 1/4'; seq 1 600
echo '00:00:01  512MB ERROR | no texture'; echo 'Warning: slow'; seq 1 600
echo 'a.c:3:9: error: no semicolon'; echo 'ALF_PROGRESS 50%'
echo 'Traceback (most recent call last):'; echo 'ValueError: bad'
"""


def test_lines_of_trouble_and_of_progress_are_marked_and_gone_through(
    studio: Any, open_page: Open, axe: Callable[[Page], list[str]]
) -> None:
    job = printed(studio, TROUBLE)
    page = open_page(f"{studio.url}/jobs/{job}/output")
    log = page.locator("roost-log")
    marks = log.locator(".roost-log-mark")
    expect(marks).to_have_text(["error", "progress", "error", "error"])
    page.keyboard.press("m")
    expect(log.locator(".roost-log-found")).to_have_text("4 of 4")
    page.keyboard.press("M")
    page.keyboard.press("M")
    page.keyboard.press("M")
    expect(page).to_have_url(re.compile("#L603$"))
    expect(log.locator(".is-current")).to_contain_text("no texture")
    expect(marks).to_have_text(["error", "warning"])
    log.get_by_label("Go through marked lines").select_option("Progress")
    expect(log.locator(".roost-log-found")).to_have_text("2 of 2")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert axe(page) == []


def test_times_of_lines_are_shown_when_wanted_and_that_is_remembered(
    studio: Any, open_page: Open
) -> None:
    job = printed(studio, "seq -f 'line %g' 1 900")
    page = open_page(f"{studio.url}/jobs/{job}/output")
    log = page.locator("roost-log")
    times = log.locator(".roost-log-time")
    expect(log).to_contain_text("line 900")
    expect(times).to_have_count(0)
    page.keyboard.press("i")
    expect(times.last).to_have_text(re.compile(r"\d:\d\d:\d\d"))
    page.reload()
    expect(log).to_contain_text("line 900")
    expect(times.last).to_have_text(re.compile(r"\d:\d\d:\d\d"))
    log.get_by_role("button", name="Times").click()
    expect(times).to_have_count(0)

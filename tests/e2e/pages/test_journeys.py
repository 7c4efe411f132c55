"""The ten journeys of a wrangler, with the keyboard only, each on a real farm."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.slow

Open = Callable[..., Page]
ByTab = Callable[..., None]


def tell(farm: Any, method: str, *arguments: Any) -> Any:
    with farm.rpc as rpc:
        return getattr(rpc, method)(*arguments)


def row(page: Page, job: int) -> Any:
    return page.locator(f"#job-{job}")


def move_to(page: Page, job: int) -> None:
    """With j until the row of the job is the one at hand."""
    for _ in range(100):
        if row(page, job).evaluate("(row) => row.classList.contains('at')"):
            return
        page.keyboard.press("j")
    raise AssertionError(f"j does not lead to job {job}")


def test_1_a_failed_job_is_found_and_says_why_it_failed(studio: Any, open_page: Open) -> None:
    script = "echo loading; echo no licence for karma >&2; exit 7"
    job = studio.submit(name="wrong_light", submittedBy="ana", command=script)
    studio.wait(job)
    page = open_page(studio.url)
    page.keyboard.press("/")
    page.keyboard.type("wrong_light")
    page.keyboard.press("Enter")
    expect(row(page, job)).to_contain_text("failed")
    expect(row(page, job)).to_contain_text("exit code 7 on")
    move_to(page, job)
    page.keyboard.press("e")
    expect(page.locator(".glance")).to_contain_text("no licence for karma")


def test_2_a_waiting_job_says_why_and_where_it_could_run(
    studio: Any, open_page: Open, by_tab: ByTab
) -> None:
    job = studio.submit(name="too_big", cpus=1000)
    page = open_page(f"{studio.url}/jobs?q=too_big")
    move_to(page, job)
    page.keyboard.press("e")
    expect(page.locator(".glance")).to_contain_text("has 2 CPUs, and the job needs 1000")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="too_big")).to_be_visible()
    expect(page.locator(".why")).to_contain_text("the job needs 1000")
    by_tab(page, "Clients", 60)
    by_tab(page, "Clients", 60)
    page.keyboard.press("Enter")
    expect(page.locator("#obstacles")).to_contain_text("the job needs 1000")
    tell(studio, "cancelJobs", [job])


def test_3_the_failed_frames_of_a_job_are_rescheduled(studio: Any, open_page: Open) -> None:
    mark = studio.folder / "licence"
    frames = [{"name": f"frame {n}", "command": f"test -e {mark}"} for n in (1, 2)]
    fine = {"name": "frame 3", "command": "true"}
    job = studio.submit(name="frames", children=[*frames, fine])
    studio.wait(job)
    mark.touch()
    page = open_page(f"{studio.url}/jobs/{job}")
    expect(page.locator("#job-head")).to_contain_text("failed")
    page.keyboard.press("Shift+R")
    expect(page.locator("#job-head .state").first).to_contain_text("succeeded")
    assert studio.story(job).count("succeeded") == 1


def test_4_a_selection_is_paused_given_a_priority_and_resumed(
    studio: Any, open_page: Open, by_tab: ByTab
) -> None:
    jobs = [studio.submit(name=f"held {n}", cpus=1000) for n in (1, 2)]
    page = open_page(f"{studio.url}/jobs?q=held")
    for job in jobs[::-1]:
        move_to(page, job)
        page.keyboard.press("x")
    expect(page.get_by_text("2 selected")).to_be_visible()
    page.keyboard.press("p")
    for job in jobs:
        expect(row(page, job)).to_contain_text("paused")
    expect(page.locator(".said")).to_contain_text("2 jobs paused")
    move_to(page, jobs[1])
    page.keyboard.press("a")
    by_tab(page, "priority")
    page.keyboard.type("7")
    by_tab(page, "Set")
    page.keyboard.press("Enter")
    for job in jobs:
        expect(row(page, job).locator(".priority")).to_have_text("7")
    move_to(page, jobs[1])
    page.keyboard.press("a")
    page.keyboard.press("p")
    for job in jobs:
        expect(row(page, job)).to_contain_text("waiting for resources")
    tell(studio, "cancelJobs", jobs)


def test_5_all_of_one_user_that_match_are_cancelled_after_one_question(
    studio: Any, open_page: Open
) -> None:
    tree = {"name": "many", "submittedBy": "mika", "cpus": 1000, "command": "true"}
    with studio.rpc as rpc:
        jobs = rpc.newjob([tree] * 120)
        other = rpc.newjob({**tree, "submittedBy": "joel"})[0]
    page = open_page(f"{studio.url}/jobs?by=mika&q=many")
    page.keyboard.press("a")
    expect(page.get_by_text("100 selected")).to_be_visible()
    page.keyboard.press("a")
    expect(page.get_by_text("All 120 selected")).to_be_visible()
    page.keyboard.press("Shift+C")
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("Cancel 120 jobs?")
    expect(question).to_contain_text("runnable")
    expect(question).to_contain_text("and 115 more")
    page.keyboard.press("Enter")
    expect(page.locator(".said")).to_contain_text("120 jobs cancelled.")
    expect(row(page, jobs[-1])).to_contain_text("cancelled")
    assert {studio.status(job) for job in jobs} == {"cancelled"}
    assert studio.status(other) == "runnable"
    tell(studio, "cancelJobs", [other])


def test_6_output_is_followed_searched_and_linked_to(
    studio: Any, open_page: Open, gate: Any, by_tab: ByTab
) -> None:
    script = f"seq -f 'line %g' 1 3000; head -n 1 {gate.path}; echo the very end"
    job = studio.submit(name="talker", command=script)
    page = open_page(f"{studio.url}/jobs?q=talker")
    move_to(page, job)
    page.keyboard.press("l")
    log = page.locator("roost-log")
    expect(log).to_contain_text("line 3000")
    gate.path.write_text("go on\n")
    expect(log).to_contain_text("the very end")
    by_tab(page, "Search the output by a regular expression")
    page.keyboard.type("line 12$")
    page.keyboard.press("Enter")
    expect(log).to_contain_text("line 12")
    expect(page).to_have_url(re.compile(r"#L12$"))
    other = open_page(page.url)
    expect(other.locator("roost-log")).to_contain_text("line 12")


def test_7_a_node_is_drained_seen_drained_and_enabled(
    studio: Any, open_page: Open, by_tab: ByTab
) -> None:
    page = open_page(f"{studio.url}/nodes")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("#node-head .state")).to_contain_text("available")
    by_tab(page, "Drain")
    page.keyboard.press("Enter")
    expect(page.locator("#node-head")).to_contain_text("It is drained")
    expect(page.locator("#node-head .state")).to_contain_text("disabled")
    by_tab(page, "Enable")
    page.keyboard.press("Enter")
    expect(page.locator("#node-head .state")).to_contain_text("available")


def test_8_a_node_gets_hours_and_a_group(studio: Any, open_page: Open, by_tab: ByTab) -> None:
    page = open_page(f"{studio.url}/groups")
    by_tab(page, "Name of the new group")
    page.keyboard.type("night")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=re.compile("^night"))).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("n")
    page.wait_for_url("**/nodes")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/nodes/*")
    by_tab(page, "groups")
    page.keyboard.press("Space")
    by_tab(page, "Set groups")
    page.keyboard.press("Enter")
    expect(page.locator(".said")).to_contain_text("Its groups are changed")
    by_tab(page, "Hours")
    page.keyboard.press("Enter")
    expect(page.locator(".week")).to_be_visible()
    by_tab(page, "monday 0:00")
    page.keyboard.press("Space")
    by_tab(page, "Set hours", 300)
    page.keyboard.press("Enter")
    expect(page.locator(".said")).to_contain_text("monday 01:00-24:00")
    [group] = tell(studio, "getClientGroups")
    [node] = tell(studio, "getClients")
    assert (group["name"], group["clients"]) == ("night", [node["id"]])


def test_9_a_view_is_saved_and_opens_elsewhere_by_its_address(
    studio: Any, open_page: Open, by_tab: ByTab
) -> None:
    job = studio.submit(name="viewed", submittedBy="ines")
    studio.wait(job)
    page = open_page(f"{studio.url}/jobs")
    by_tab(page, "Submitted by")
    page.keyboard.type("ines")
    page.keyboard.press("Enter")
    page.wait_for_url("**by=ines**")
    by_tab(page, "Views")
    page.keyboard.press("Enter")
    by_tab(page, "Name of this view")
    page.keyboard.type("mine")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="mine", exact=True)).to_be_visible()
    address = page.url
    page.goto(f"{studio.url}/jobs")
    by_tab(page, "Views")
    page.keyboard.press("Enter")
    by_tab(page, "mine")
    page.keyboard.press("Enter")
    expect(page).to_have_url(address)
    other = open_page(address)
    expect(other.locator("tr.job")).to_have_count(1)
    expect(row(other, job)).to_be_visible()


def test_10_frames_are_submitted_watched_and_get_a_note(
    studio: Any, open_page: Open, by_tab: ByTab
) -> None:
    page = open_page(f"{studio.url}/submit")
    page.keyboard.type("echo frame $FRAME of {frame}")
    by_tab(page, "name")
    page.keyboard.type("by hand")
    by_tab(page, "frames")
    page.keyboard.type("1-3")
    page.keyboard.press("Enter")
    expect(page.locator(".said")).to_contain_text("is submitted with 3 below it")
    expect(page.locator("#job-head .state").first).to_contain_text("succeeded")
    expect(page.locator("#rows")).to_contain_text("by hand [3]")
    by_tab(page, "Notes")
    by_tab(page, "Notes")
    page.keyboard.press("Enter")
    by_tab(page, "Note")
    page.keyboard.type("looks good")
    by_tab(page, "Add note")
    page.keyboard.press("Enter")
    expect(page.locator("#notes")).to_contain_text("looks good")
    page.keyboard.press("g")
    page.keyboard.press("j")
    page.wait_for_url("**/jobs")
    expect(page.locator("#rows")).to_contain_text("looks good")

"""Acting on many clients, taking it back, and looking without touching, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from websockets.sync.client import connect

from roost.core.records import NodeFacts
from roost.remote import Remote
from roost.web import nodes
from roost.wire import link

pytestmark = pytest.mark.slow

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def studio(new_farm: Callable[[], AbstractContextManager[Any]]) -> Iterator[Any]:
    """A farm with three nodes of one CPU each."""
    with new_farm() as farm:
        farm.start_server()
        for name in ("one", "three", "two"):
            farm.start_agent(name, cpus=1)
        yield farm


def test_all_clients_that_match_are_drained_and_that_is_undone(
    studio: Any, open_page: Open, axe: Callable[[Page], list[str]]
) -> None:
    page = open_page(f"{studio.url}/nodes?q=t&sort=name")
    expect(page.locator("#node-table tbody tr")).to_have_count(2)
    page.keyboard.press("a")
    expect(page.locator("[data-picked]")).to_have_text("2 selected")
    expect(page.locator("[data-statuses]")).to_have_text("2 available")
    page.keyboard.press("p")
    expect(page.locator(".said")).to_contain_text("2 clients drained.")
    expect(page.locator("#node-table .state")).to_have_text(["disabled", "disabled"])
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert axe(page) == []
    page.keyboard.press("u")
    expect(page.locator(".said")).to_contain_text("Undone: 2 clients as before.")
    expect(page.locator("#node-table .state")).to_have_text(["available", "available"])


def test_removing_clients_asks_first_and_says_which(studio: Any, open_page: Open) -> None:
    page = open_page(f"{studio.url}/nodes?sort=name")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+D")
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("Remove 2 clients?")
    expect(question).to_contain_text(":one")
    page.get_by_text("Leave them").click()
    expect(page.locator("#node-table tbody tr")).to_have_count(3)


def test_a_priority_is_various_and_undone_for_each(studio: Any, open_page: Open) -> None:
    jobs = [studio.submit(name=f"graded {n}", cpus=1000, priority=n) for n in (1, 2)]
    page = open_page(f"{studio.url}/jobs?q=graded&sort=name&up=1")
    page.keyboard.press("a")
    priority = page.get_by_role("spinbutton", name="Priority")
    expect(priority).to_have_attribute("placeholder", "various")
    priority.fill("9")
    page.get_by_role("button", name="Set").click()
    cells = page.locator("#rows .priority")
    expect(cells).to_have_text(["9", "9"])
    page.keyboard.press("u")
    expect(cells).to_have_text(["1", "2"])
    with studio.rpc as rpc:
        rpc.cancelJobs(jobs)


def test_who_only_looks_cannot_act_until_that_is_switched_off(
    studio: Any, open_page: Open, axe: Callable[[Page], list[str]]
) -> None:
    job = studio.submit(name="looked at", cpus=1000)
    page = open_page(f"{studio.url}/jobs/{job}")
    banner = page.locator(".looking")
    expect(banner).to_be_hidden()
    page.get_by_role("button", name="Look, don't touch").click()
    expect(banner).to_be_visible()
    cancel = page.get_by_role("button", name="Cancel…")
    expect(cancel).to_be_hidden()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert axe(page) == []
    page.keyboard.press("p")
    page.keyboard.press("Shift+C")
    page.reload()
    expect(banner).to_be_visible()
    expect(cancel).to_be_hidden()
    page.goto(f"{studio.url}/jobs?q=looked")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("p")
    page.goto(f"{studio.url}/jobs/{job}?tab=notes")
    note = page.locator("form[method=post] textarea")
    note.evaluate("(it) => { it.value = 'no'; it.form.requestSubmit(); }")
    page.keyboard.press("r")
    expect(page.locator("#notes")).to_contain_text("Nobody has left a note.")
    assert studio.status(job) == "runnable"
    page.get_by_role("button", name="Act again").click()
    expect(banner).to_be_hidden()
    expect(cancel).to_be_visible()
    page.keyboard.press("p")
    expect(page.locator(".said")).to_contain_text("1 job paused.")
    with studio.rpc as rpc:
        rpc.cancelJobs([job])


def test_a_job_deleted_on_its_page_leads_to_the_others(studio: Any, open_page: Open) -> None:
    job = studio.submit(name="done with", command="true")
    studio.wait(job)
    page = open_page(f"{studio.url}/jobs/{job}")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator(".said")).to_contain_text("1 job deleted.")
    expect(page).to_have_url(f"{studio.url}/jobs")


@pytest.mark.parametrize("tab", ["output", "notes"])
def test_the_page_of_a_job_that_others_delete_says_so(studio: Any, watched: Any, tab: str) -> None:
    watched.forgiven = ("404",)
    job = studio.submit(name="in the way", command="true")
    studio.wait(job)
    page = watched.open(f"{studio.url}/jobs/{job}?tab={tab}")
    expect(page.locator("#connection")).to_have_text("connected")
    with studio.rpc as rpc:
        rpc.deleteJobs([job])
    expect(page.locator("#main")).to_contain_text(f"There is no job {job}")
    expect(page.get_by_role("button", name="Reschedule…")).to_have_count(0)


def test_what_was_refused_can_be_put_right(studio: Any, open_page: Open) -> None:
    page = open_page(f"{studio.url}/groups")
    name = page.get_by_label("Name of the new group")
    for said in ("The group gpu is made.", "There is a client group named"):
        name.fill("gpu")
        page.get_by_role("button", name="New group").click()
        expect(page.locator(".said")).to_contain_text(said)
    expect(name).to_have_value("gpu")


def test_a_silent_run_is_told_in_the_list(studio: Any, open_page: Open, gate: Any) -> None:
    job = studio.submit(name="quiet", command=f"echo begun; head -n 1 {gate.path}")
    page = open_page(f"{studio.url}/jobs?q=quiet&columns=name,status,silent")
    expect(page.locator(f"#job-{job} .silent time")).to_have_text(re.compile(r"^\d+ s$"))
    gate.path.write_text("go on\n")
    expect(page.locator(f"#job-{job} .silent time")).to_have_count(0)


@pytest.fixture
def crowd(new_farm: Callable[[], AbstractContextManager[Any]]) -> Iterator[Any]:
    """A farm with more clients than a page shows: they say hello, and nothing more."""
    with new_farm() as farm, ExitStack() as stack:
        farm.start_server()
        url = farm.url.replace("http:", "ws:") + link.PATH
        for number in range(nodes.PAGE_NODES + 10):
            socket = stack.enter_context(connect(url, proxy=None))
            facts = NodeFacts(f"render{number:03}", installation=str(number))
            socket.send(link.encode([link.Hello(link.PROTOCOL, facts)]))
            socket.recv()
        yield farm


def test_all_clients_that_match_are_chosen_also_those_on_other_pages(
    crowd: Any, open_page: Open
) -> None:
    page = open_page(f"{crowd.url}/nodes?q=render")
    page.keyboard.press("a")
    expect(page.locator("[data-picked]")).to_have_text("200 selected")
    page.keyboard.press("a")
    expect(page.locator("[data-picked]")).to_have_text("All 210 selected")
    page.keyboard.press("Shift+D")
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("Remove 210 clients?")
    expect(question).to_contain_text("available 210")
    expect(question).to_contain_text("and 205 more")
    page.get_by_text("Leave them").click()
    page.keyboard.press("p")
    expect(page.locator(".said")).to_contain_text("210 clients drained.")
    page.keyboard.press("u")
    expect(page.locator(".said")).to_contain_text("Undone: 210 clients as before.")


def test_the_focus_stays_where_it_was_when_a_question_is_answered_with_no(
    studio: Any, open_page: Open
) -> None:
    job = studio.submit(name="kept", cpus=1000)
    page = open_page(f"{studio.url}/jobs/{job}")
    cancel = page.get_by_role("button", name="Cancel…")
    cancel.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("Cancel 1 job?")
    page.keyboard.press("Escape")
    expect(cancel).to_be_focused()
    with studio.rpc as rpc:
        rpc.cancelJobs([job])


def test_what_was_closed_stays_closed_when_the_page_renews_itself(
    studio: Any, open_page: Open, gate: Any
) -> None:
    frames = [
        {"name": "a", "command": "echo no; exit 1"},
        {"name": "b", "command": f"head -n 1 {gate.path}; exit 1"},
    ]
    job = studio.submit(name="failing", children=frames)
    page = open_page(f"{studio.url}/jobs/{job}")
    page.get_by_text("What it printed last").click()
    gate.path.write_text("go on\n")
    expect(page.locator("#job-head pre")).to_have_count(2)
    expect(page.locator("#job-head pre").first).to_be_hidden()


def test_a_group_s_page_renews_itself_and_deleting_asks_first(studio: Any, open_page: Open) -> None:
    with Remote(studio.url) as remote:
        group = remote.create_group("night")
        page = open_page(f"{studio.url}/groups")
        section = page.locator("section", has_text="night")
        expect(section).to_contain_text("0 clients")
        remote.set_group_nodes(group, [remote.nodes()[0].id])
    expect(section).to_contain_text("1 client")
    section.get_by_role("link", name="Change its clients").click()
    section.get_by_role("button", name="Delete group…").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("night")
    question.get_by_role("button", name="Delete").click()
    expect(page.locator(".said")).to_contain_text("The group is deleted.")


def test_a_browser_that_may_keep_nothing_shows_everything(studio: Any, watched: Any) -> None:
    page = watched.open(f"{studio.url}/submit")
    page.context.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }})"
    )
    for path in ("/jobs", "/nodes?look=grid"):
        page.goto(studio.url + path)
        expect(page.locator("#connection")).to_have_text("connected")


def test_notes_of_others_come_by_themselves_and_disturb_no_reply(
    studio: Any, open_page: Open
) -> None:
    with studio.rpc as rpc:
        rpc.addNote("The first one.")
        page = open_page(f"{studio.url}/notes")
        page.get_by_text("Reply or remove").click()
        reply = page.get_by_label("Reply")
        reply.fill("half a")
        rpc.addNote("The second one.")
    expect(page.locator(".thread")).to_have_count(2)
    expect(reply.first.or_(reply.last).and_(page.locator(":focus"))).to_have_value("half a")


def test_the_first_of_a_list_comes_by_itself(
    new_farm: Callable[[], AbstractContextManager[Any]], watched: Any
) -> None:
    watched.forgiven = ("ERR_",)
    with new_farm() as farm:
        farm.start_server()
        jobs, clients = watched.open(f"{farm.url}/jobs"), watched.open(f"{farm.url}/nodes")
        for page in (jobs, clients):
            expect(page.locator("#connection")).to_have_text("connected")
        job = farm.submit(name="the first")
        expect(jobs.locator(f"#job-{job}")).to_contain_text("the first")
        farm.start_agent("one")
        expect(clients.locator("#node-table")).to_contain_text(":one")
        clients.keyboard.press("a")
        expect(clients.locator("[data-picked]")).to_have_text("1 selected")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": 403, "content_type": "text/plain", "body": "Not from here."}, "Not from here."),
        ({"status": 502, "content_type": "text/html", "body": "<h1>Bad</h1>"}, "the status 502"),
    ],
)
def test_an_answer_that_is_no_page_of_ours_is_told(
    studio: Any, watched: Any, answer: dict[str, Any], said: str
) -> None:
    watched.forgiven = ("403", "502")
    page = watched.open(f"{studio.url}/groups")
    page.route("**/groups/create", lambda route: route.fulfill(**answer))
    name = page.get_by_label("Name of the new group")
    name.fill("far away")
    name.press("Enter")
    expect(page.locator(".said")).to_contain_text(said)
    expect(name).to_have_value("far away")

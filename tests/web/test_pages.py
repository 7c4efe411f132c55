"""Pages as a browser without JavaScript sees them: what they say, what forms do, who is refused."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from roost.core import availability
from roost.core import messages as m
from roost.core.records import AttemptCause, JobId, JobStatus, NodeFacts, NodeId
from roost.errors import NotFound
from roost.gateway import ALL_PARTS, JobFilter
from roost.web import nodes, site

World = Any
S = JobStatus

HOSTILE = "<img src=x onerror=alert(1)>\u202eevil\u202c 🦖 " + "x" * 10_000
PAGES = [
    "/", "/jobs", "/jobs?every=1&sort=name&up=1&dense=1", "/jobs?ids=1,2,99", "/jobs?q=nothing",
    "/nodes", "/nodes?look=grid", "/nodes?state=offline&sort=load", "/groups", "/resources",
    "/notes", "/activity", "/activity?q=drain", "/statistics?hours=1", "/submit", "/submit?like=1",
    "/settings",
]  # fmt: skip


async def furnished(world: World) -> list[JobId]:
    """A farm in which everything that people can name is called something hostile."""
    node = await world.node(HOSTILE[:60])
    jobs = await world.submit(
        {
            "name": HOSTILE,
            "submittedBy": HOSTILE,
            "description": HOSTILE,
            "command": HOSTILE,
            "environment": {"PATH": HOSTILE},
            "attributes": {"Shot": HOSTILE, "Frame": 1},
            "children": [{"name": HOSTILE, "command": "false"}, {"name": "b", "command": "true"}],
        }
    )
    world.print(jobs[1], 1, HOSTILE)
    await world.report(node, m.AttemptStarted(jobs[1], 1))
    await world.report(node, m.AttemptEnded(jobs[1], 1, AttemptCause.EXITED, 3, HOSTILE))
    await world.ask(m.SetNodeDescription(node, HOSTILE[:200]))
    await world.ask(m.AddNote(HOSTILE, job=jobs[0]))
    await world.ask(m.AddNote(HOSTILE, node=node))
    await world.ask(m.CreateGroup(HOSTILE[:100]))
    await world.ask(m.SetResource(HOSTILE[:100], 1))
    return list(jobs)


@pytest.mark.parametrize("tab", ["", "children", "output", "properties", "history", "attributes",
                                 "notes", "nodes"])  # fmt: skip
async def test_hostile_names_are_text_on_a_job_s_page(world: World, tab: str) -> None:
    for job in await furnished(world):
        assert_harmless(await world.page(f"/jobs/{job}?tab={tab}"))
        assert_harmless(await world.page(f"/jobs/{job}/glance"))


@pytest.mark.parametrize("path", [*PAGES, *(f"/nodes/1?tab={tab}" for tab in
                                  ("running", "history", "hours", "errors", "notes"))])  # fmt: skip
async def test_hostile_names_are_text_on_every_page(world: World, path: str) -> None:
    await furnished(world)
    assert_harmless(await world.page(path))


def assert_harmless(html: str) -> None:
    assert len(html) < 400_000
    Inspector().feed(html)


class Inspector(HTMLParser):
    """Fails at what a browser would run, and at pictures, which no page of ours has."""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = dict(attributes)
        assert tag not in ("img", "iframe", "style"), tag
        assert tag != "script" or "src" in names
        assert not [name for name in names if name.startswith("on") or name == "style"]


async def test_every_answer_has_a_policy_that_forbids_foreign_code(world: World) -> None:
    for path in ("/", "/jobs", "/jobs/99", "/nowhere"):
        response = await world.client.get(path)
        assert response.headers["content-security-policy"].startswith("default-src 'self';")
        assert response.headers["x-content-type-options"] == "nosniff"


async def test_what_does_not_exist_is_said_in_one_sentence(world: World) -> None:
    assert "There is no job 7; it may have been deleted." in await world.page("/jobs/7", 404)
    assert "There is no client 7" in await world.page("/nodes/7", 404)
    assert "There is no page /<b>" not in await world.page("/<b>", 404)
    for path in ("/nowhere", "/jobs/x", f"/jobs/{'9' * 5000}", "/drawings/nowhere"):
        assert f"There is no page {path[:200]}." in await world.page(path, 404)
    assert "There is no job 99999999999999999999" in await world.page(f"/jobs/{'9' * 20}", 404)


async def test_a_form_of_another_site_is_refused(world: World) -> None:
    [job] = await world.submit({"name": "a", "command": "true"})
    form = {"action": "cancel", "ids": [job]}
    for headers in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil.example"},
    ):
        assert (await world.post("/jobs/act", form, **headers)).status_code == 403
    assert (await world.access.job_views([job], frozenset()))[0].job.status is S.RUNNABLE
    answer = await world.post("/jobs/act", form, **{"sec-fetch-site": "same-origin"})
    assert answer.status_code == 303
    assert (await world.access.job_views([job], frozenset()))[0].job.status is S.CANCELLED


async def test_a_form_does_not_send_people_to_another_site(world: World) -> None:
    [job] = await world.submit({"name": "a", "command": "true"})
    for back in (
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/x\r\nset-cookie:a",
    ):
        form = {"action": "pause", "ids": [job], "back": back}
        assert (await world.post("/jobs/act", form)).headers["location"] == "/jobs"


async def test_what_came_of_a_form_is_said_once_with_whom_it_left_out(world: World) -> None:
    waiting, over = await world.submit([{"name": n, "command": "true"} for n in "ab"])
    await world.ask(m.CancelJobs((over,)))
    form = {"action": "cancel", "ids": [waiting, over], "back": "/jobs"}
    answer = await world.post("/jobs/act", form)
    html = (await world.client.get("/jobs")).text
    assert answer.headers["location"] == "/jobs"
    assert "1 job cancelled. 1 left out" in html and f"/jobs?every=1&amp;ids={over}" in html
    assert "1 job cancelled" not in (await world.client.get("/jobs")).text


async def test_what_came_of_a_form_is_said_whatever_it_names(world: World) -> None:
    for name in ("🦖" * 5_000, '"' * 5_000, "x" * 100_000):
        answer = await world.post("/resources/set", {"name": name, "max": "1"})
        assert len(answer.headers["set-cookie"]) < 4_096
        assert name[:200] in html.unescape(await world.page("/jobs"))


async def test_what_came_of_a_form_is_not_taken_by_a_page_that_renews_itself(
    world: World,
) -> None:
    [job] = await world.submit({"name": "a", "command": "true"})
    await world.post("/jobs/act", {"action": "pause", "ids": [job], "back": "/jobs"})
    assert "1 job paused" not in await world.page("/nodes", **{"roost-refresh": "1"})
    assert "1 job paused" in await world.page("/jobs")


async def test_all_that_match_are_acted_on_not_only_the_page(world: World) -> None:
    tree = [{"name": f"wedge {n}", "command": "true", "submittedBy": "ana"} for n in range(250)]
    await world.submit(tree)
    [other] = await world.submit({"name": "other", "command": "true"})
    form = {"action": "cancel", "all": "1", "view": "/jobs?by=ana&q=wedge", "back": "/jobs"}
    question = (await world.post("/jobs/confirm", form)).text
    assert "Cancel 250 jobs?" in question and "and 245 more" in question
    await world.post("/jobs/act", form)
    counts = await world.access.count_jobs(JobFilter(), 1000)
    assert counts == {S.CANCELLED: 250, S.RUNNABLE: 1}
    assert (await world.access.job_views([other], frozenset()))[0].job.status is S.RUNNABLE


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"action": "explode", "ids": ["1"]}, "There is no action"),
        ({"action": "cancel"}, "No job is selected"),
        ({"action": "priority", "ids": ["1"], "priority": "high"}, "not a whole number"),
        ({"action": "priority", "ids": ["1"], "priority": "-1"}, "0 or more"),
        ({"action": "cancel", "ids": ["x"]}, "is not a whole number"),
    ],
)
async def test_a_form_that_makes_no_sense_is_refused(
    world: World, form: dict[str, Any], sentence: str
) -> None:
    answer = await world.post("/jobs/act", form)
    assert answer.status_code == 400 and sentence in answer.text


HUGE = "9" * 25


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/jobs/act", {"action": "priority", "ids": "1", "priority": HUGE}),
        ("/jobs/act", {"action": "pause", "ids": HUGE}),
        ("/jobs/confirm", {"action": "cancel", "ids": HUGE}),
        ("/nodes/act", {"action": "add_to_group", "ids": "1", "group": HUGE}),
        ("/nodes/1/groups", {"groups": HUGE}),
        ("/nodes/1/hours", {"cell": "168"}),
        ("/nodes/1/hours", {"cell": "-1"}),
        ("/resources/set", {"name": "houdini", "max": HUGE}),
        ("/notes/add", {"text": "hello", "thread": HUGE}),
        ("/submit", {"command": "true", "priority": HUGE}),
    ],
)
async def test_a_number_that_no_farm_can_keep_is_refused_and_the_farm_goes_on(
    world: World, path: str, form: dict[str, str]
) -> None:
    [job] = await world.submit({"name": "a", "command": "true"})
    await world.node("one")
    assert (await world.post(path, form)).status_code == 400
    await world.page(f"/jobs/{job}")


@pytest.mark.parametrize("path", [f"/jobs/{HUGE}", f"/nodes/{HUGE}", f"/groups/{HUGE}"])
async def test_what_has_a_number_that_large_is_not_there(world: World, path: str) -> None:
    for form in ("", "/notes", "/attributes", "/description", "/permitted"):
        answer = await world.post(path + form, {"name": "a", "text": "1", "any": "1"})
        assert answer.status_code in (404, 405)
    assert "film" in await world.page(f"/submit?like={HUGE}")


async def test_a_note_on_what_is_gone_is_refused_and_kept_nowhere(world: World) -> None:
    for path in ("/jobs/7/notes", "/nodes/7/notes"):
        assert (await world.post(path, {"text": "hello"})).status_code == 404
    assert "Nobody has left a note yet" in await world.page("/notes")


async def test_after_deleting_a_page_of_what_was_deleted_is_not_gone_back_to(world: World) -> None:
    jobs = [(await world.submit({"name": "a", "command": "true"}))[0] for _ in range(3)]
    await world.ask(m.CancelJobs(tuple(jobs)))
    for job, back, leads_to in (
        (jobs[0], f"/jobs/{jobs[0]}?tab=notes", "/jobs"),
        (jobs[1], f"/jobs/{jobs[2]}", f"/jobs/{jobs[2]}"),
    ):
        answer = await world.post("/jobs/act", {"action": "delete", "ids": job, "back": back})
        assert answer.headers["location"] == leads_to


async def test_an_address_in_a_form_that_is_none_says_nothing(world: World) -> None:
    await world.submit({"name": "a", "command": "true"})
    form = {"action": "pause", "all": "1", "view": "http://[", "back": "http://["}
    assert (await world.post("/jobs/act", form)).headers["location"] == "/jobs"


async def test_a_search_for_one_thing_leads_to_it(world: World) -> None:
    node = await world.node("Render7")
    [job] = await world.submit({"name": "a", "command": "true"})
    assert (await world.client.get(f"/jobs?q={job}")).headers["location"] == f"/jobs/{job}"
    assert (await world.client.get("/jobs?q=render7")).headers["location"] == f"/nodes/{node}"
    assert (await world.client.get("/jobs?q=12345")).status_code == 200


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/jobs/view/12", "/jobs/12"),
        ("/clients", "/nodes"),
        ("/clients/view/3", "/nodes/3"),
        ("/resources/view", "/resources"),
        ("/clientgroups", "/groups"),
    ],
)
async def test_hqueue_s_addresses_lead_to_the_right_page(world: World, old: str, new: str) -> None:
    response = await world.client.get(old)
    assert (response.status_code, response.headers["location"]) == (301, new)


async def test_a_mistake_in_a_specification_is_shown_at_its_line(world: World) -> None:
    text = '{\n  "name": "film",\n  "command": "true",\n  "cpus": "many"\n}'
    html = (await world.post("/submit/spec", {"spec": text})).text
    assert re.search(r"<mark>\s*4\s+&#34;cpus&#34;", html)
    broken = '{\n  "name": "film",\n  "cpus": 1,,\n}'
    html = (await world.post("/submit/spec", {"spec": broken})).text
    assert "This is not JSON" in html and re.search(r"<mark>\s*3\s", html)
    assert await world.access.job_ids() == []


async def test_the_form_makes_what_scripts_would(world: World) -> None:
    form = {
        "command": "render -f $FRAME",
        "name": "beauty",
        "frames": "1-5x2",
        "priority": "7",
        "cpus": "2",
        "resources": "houdini, nuke=2",
        "condition_name": "os",
        "condition_op": "==",
        "condition_value": "linux",
        "single": "1",
    }
    answer = await world.post("/submit", form)
    root = JobId(int(answer.headers["location"].rpartition("/")[2]))
    [view] = await world.access.job_views([root], ALL_PARTS)
    children = await world.access.job_views(view.children, ALL_PARTS)
    assert [each.job.spec.name for each in children] == [f"beauty [{n}]" for n in (1, 3, 5)]
    spec = children[0].job.spec
    assert (spec.cpus, spec.resources, spec.tags) == (2, {"houdini": 1, "nuke": 2}, ("single",))
    assert spec.environment == {"FRAME": "1"} and spec.conditions[0].value == "linux"
    assert view.job.priority == 7


async def test_notes_are_a_feed(world: World) -> None:
    [job] = await world.submit({"name": "a", "command": "true"})
    await world.ask(m.AddNote("first", job=job))
    await world.ask(m.AddNote("<b>second</b>\x0b & more", job=job))
    channel = ElementTree.fromstring((await world.client.get("/notes.rss")).content)[0]
    items = [(i.findtext("title"), i.findtext("description")) for i in channel.findall("item")]
    assert items == [(f"Job {job}", "<b>second</b> & more"), (f"Job {job}", "first")]


async def test_what_people_did_is_told_with_who_and_to_what(world: World) -> None:
    node = await world.node("render1")
    [job] = await world.submit({"name": "a", "command": "true", "cpus": 99})
    await world.post("/jobs/act", {"action": "pause", "ids": [job]})
    await world.post("/nodes/act", {"action": "drain", "ids": [node]})
    deeds = [deed for _, deed in await world.access.activities(10)]
    assert [(d.action, d.jobs, d.node) for d in deeds] == [
        ("drain", (), node), ("pause", (job,), None),
    ]  # fmt: skip
    assert {deed.by for deed in deeds} == {"page from 127.0.0.1"}
    html = await world.page("/activity")
    assert "render1" in html and "pause" in html and "page from 127.0.0.1" in html
    assert "Nothing is like that" in await world.page("/activity?q=unheard")


async def test_a_node_is_given_hours_groups_and_a_description(world: World) -> None:
    node = await world.node("render1")
    await world.ask(m.CreateGroup("gpu"))
    await world.post(f"/nodes/{node}/description", {"description": "third rack"})
    await world.post(f"/nodes/{node}/groups", {"groups": ["1"]})
    await world.post(f"/nodes/{node}/hours", {"cell": ["0", "1"], "idle": "15"})
    [view] = await world.access.nodes()
    rules = [availability.show(rule) for rule in view.node.availability]
    assert rules == ["monday 00:00-02:00", "idle 15"]
    assert (view.node.description, view.groups) == ("third rack", (1,))
    every = {"cell": [str(number) for number in range(7 * 24)], "idle": ""}
    await world.post(f"/nodes/{node}/hours", every)
    assert (await world.access.nodes())[0].node.availability == ()
    nothing = await world.post(f"/nodes/{node}/hours", {"idle": ""})
    assert nothing.status_code == 400 and "No hour is ticked" in nothing.text


async def test_removing_a_node_asks_first(world: World) -> None:
    node = await world.node("render1")
    form = {"action": "remove", "ids": [node], "back": f"/nodes/{node}"}
    assert "Remove 1 client?" in (await world.post("/nodes/confirm", form)).text
    assert await world.access.nodes()
    assert (await world.post("/nodes/act", form)).headers["location"] == "/nodes"
    assert await world.access.nodes() == []


async def test_what_cannot_be_undone_is_done_only_when_said_again(world: World) -> None:
    group = await world.ask(m.CreateGroup("gpu"))
    await world.ask(m.SetResource("nuke", 3))
    await world.ask(m.AddNote("The fan is loud."))
    for page, form, address, name in (
        ("/groups", {"action": "delete"}, f"/groups/{group}", "gpu"),
        ("/resources", {"name": "nuke"}, "/resources/remove", "nuke"),
        ("/notes", {"thread": 1}, "/notes/remove", "The fan is loud."),
    ):
        asked = (await world.post(address, {**form, "back": page})).text
        assert name in asked and 'id="question"' in asked
        assert name in await world.page(page)
        fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', asked))
        assert (await world.post(address, fields)).headers["location"] == page
        assert name not in re.sub(r'role="status">.*?</div>', "", await world.page(page))


async def test_home_says_so_when_all_is_well_and_else_what_is_not(world: World) -> None:
    assert "All is well" in await world.page("/")
    await furnished(world)
    html = await world.page("/")
    assert "All is well" not in html or "Failed in the last day" not in html
    node = (await world.access.nodes())[0].node.id
    [job] = await world.submit({"name": "broken", "command": "false"})
    await world.run(node, job, 1, exit_code=1)
    assert "Failed in the last day" in await world.page("/")


async def test_files_are_kept_for_ever_at_an_address_of_their_version(world: World) -> None:
    html = await world.page("/")
    for address in re.findall(r'(?:href|src)="(/static/[^"#]+)', html):
        response = await world.client.get(address)
        assert response.status_code == 200, address
        assert "immutable" in response.headers["cache-control"]


async def test_children_are_squares_in_their_order_too(world: World) -> None:
    frames = [{"name": f"frame {n}", "command": "true"} for n in (1, 2, 3)]
    root = (await world.submit({"name": "tree", "command": "true", "children": frames}))[0]
    html = await world.page(f"/jobs/{root}?tab=children&look=grid")
    assert re.findall(r'aria-label="(frame \d: \w+)"', html) == [
        f"frame {n}: runnable" for n in (1, 2, 3)
    ]


async def test_a_chip_of_children_keeps_how_they_are_shown(world: World) -> None:
    frames = [{"name": name, "command": "true"} for name in "ab"]
    root = (await world.submit({"name": "r", "children": frames}))[0]
    address = f"/jobs/{root}?tab=children"
    shown = await world.page(f"{address}&status=runnable&sort=failed&look=grid")
    links = set(re.findall(r'class="chip" href="([^"]*)"', shown))
    assert f"{address}&sort=failed&look=grid" in links  # without the status
    assert f"{address}&status=runnable&sort=failed" in links  # without the grid


async def test_the_clients_of_one_group_at_a_time_are_ticked(world: World) -> None:
    for name in "ab":
        await world.node(name)
        await world.ask(m.CreateGroup(f"group {name}"))
    assert 'name="nodes"' not in await world.page("/groups")
    asked = await world.page("/groups?change=2")
    assert asked.count('name="nodes"') == 2 and 'action="/groups/2"' in asked


async def test_graphics_processors_are_shown_where_there_are_any(world: World) -> None:
    await world.node("plain")
    assert "GPU" not in await world.page("/nodes")
    facts = NodeFacts("render1", gpus=("RTX A6000", "RTX A6000"))
    node = await world.ask(m.NodeJoined(facts))
    assert "2 × RTX A6000" in await world.page("/nodes")
    assert "2 × RTX A6000" in await world.page(f"/nodes/{node}")


@pytest.mark.parametrize("path", ["/jobs", "/jobs/1/output", "/nodes?look=grid", "/statistics"])
async def test_a_page_names_every_module_so_that_none_is_found_late(
    world: World, path: str
) -> None:
    await world.submit({"name": "a", "command": "true"})
    html = await world.page(path)
    named = set(re.findall(r'/static/\w+/([\w./-]+\.js)"', html))
    for module in list(named):
        text = (site.FOLDER / "static" / module).read_text("utf-8")
        assert set(re.findall(r'from "\./([\w./-]+\.js)"', text)) <= named, module


@pytest.mark.parametrize("path", ["..%2fsite.py", "vendor", "", "nothing.css"])
async def test_no_other_file_is_served(world: World, path: str) -> None:
    assert (await world.client.get(f"/static/x/{path}")).status_code == 404


async def test_clients_are_drained_all_or_none(world: World) -> None:
    node = await world.node("render1")
    answer = await world.post("/nodes/act", {"action": "drain", "ids": [node, node + 7]})
    assert answer.status_code == 404 and f"There is no client {node + 7}" in answer.text
    assert not (await world.access.nodes())[0].node.disabled
    with pytest.raises(NotFound, match=f"There is no node with id {node + 7}"):
        await world.access.act_on_nodes("drain", ids=[node, NodeId(node + 7)])
    assert not (await world.access.nodes())[0].node.disabled


async def test_a_frame_chosen_together_with_its_job_is_counted_once(world: World) -> None:
    node = await world.node("render1")
    frames = [{"name": f"frame {n}", "command": "x"} for n in (1, 2)]
    root, first, _ = await world.submit({"name": "tree", "command": "x", "children": frames})
    await world.run(node, first, 1, exit_code=1)
    acted = await world.access.act("reschedule_failed", ids=(root, first))
    assert acted.applied == (first,)


async def test_what_is_above_a_rescheduled_frame_is_not_left_out(world: World) -> None:
    node = await world.node("render1")
    frames = [{"name": f"frame {n}", "command": "x"} for n in (1, 2)]
    root, first, second = await world.submit({"name": "tree", "command": "x", "children": frames})
    await world.run(node, first, 1, exit_code=1)
    acted = await world.access.act("reschedule_failed", ids=(root, second))
    assert (acted.applied, acted.left_out) == ((first,), (second,))


async def test_what_eject_reports_is_what_was_on_a_machine(world: World) -> None:
    frames = [{"name": f"frame {n}", "command": "x"} for n in (1, 2)]
    root, first, second = await world.submit({"name": "tree", "command": "x", "children": frames})
    acted = await world.access.act("eject", ids=(root,))
    assert (acted.applied, acted.left_out) == ((), (root,))
    node = await world.node("render1", cpus=1)
    await world.report(node, m.AttemptStarted(first, 1))
    await world.ask(m.PauseJobs((second,)))
    acted = await world.access.act("eject", ids=(root, first, second))
    assert (acted.applied, acted.left_out) == ((first,), (second,))


async def test_all_clients_that_match_are_acted_on_not_only_the_page(world: World) -> None:
    for number in range(nodes.PAGE_NODES + 5):
        await world.node(f"render{number:03}")
    [desk, drained] = [await world.node(name) for name in ("desk", "render999")]
    await world.ask(m.SetNodesDisabled((drained,), True))
    assert f"render{nodes.PAGE_NODES:03}" not in await world.page("/nodes?sort=name&q=render")
    form = {"action": "drain", "all": "1", "view": "/nodes?q=RENDER", "back": "/nodes?q=render"}
    question = (await world.post("/nodes/confirm", form)).text
    assert "Drain 205 clients?" in question and "and 200 more" in question
    assert "It applies to 205 of 206" in question
    await world.post("/nodes/act", form)
    html = await world.page("/nodes?q=render")
    assert "205 clients drained. 1 left out" in html and f'href="/nodes?ids={drained}"' in html
    views = {view.node.facts.label: view for view in await world.access.nodes()}
    assert [name for name, view in views.items() if not view.node.disabled] == ["desk"]
    [(_, deed)] = await world.access.activities(1)
    assert (deed.action, deed.text[:11]) == ("drain", "205 clients")
    assert "render000" not in await world.page(f"/nodes?ids={desk},{drained}")


def undo_of(html: str) -> str:
    [token] = re.findall(r'name="undo" value="([^"]+)"', html)
    return str(token)


async def test_undo_puts_back_exactly_those_that_were_changed(world: World) -> None:
    frames = [{"name": f"frame {n}", "command": "x", "cpus": 99} for n in (1, 2)]
    root, first, second = await world.submit({"name": "tree", "children": frames})
    await world.ask(m.PauseJobs((second,)))
    await world.post("/jobs/act", {"action": "pause", "ids": [root], "back": "/jobs"})
    token = undo_of(await world.page("/jobs"))
    await world.post("/undo", {"undo": token, "back": "/jobs"})

    async def statuses() -> list[str]:
        views = await world.access.job_views((root, first, second), frozenset())
        return [view.job.status.value for view in views]

    assert await statuses() == ["queued", "runnable", "paused"]
    html = await world.page("/jobs")
    assert "Undone: 2 jobs as before." in html
    await world.post("/undo", {"undo": undo_of(html), "back": "/jobs"})
    assert await statuses() == ["paused", "paused", "paused"]


async def test_undo_gives_each_job_its_own_priority_back(world: World) -> None:
    jobs = [(await world.submit({"name": "a", "command": "x", "priority": n}))[0] for n in (1, 5)]
    await world.post("/jobs/act", {"action": "priority", "priority": "5", "ids": jobs})
    await world.post("/undo", {"undo": undo_of(await world.page("/jobs")), "back": "/jobs"})
    views = await world.access.job_views(jobs, frozenset())
    assert [view.job.priority for view in views] == [1, 5]
    assert "Undone: 1 job as before." in await world.page("/jobs")


async def test_undo_of_a_drain_enables_only_those_it_drained(world: World) -> None:
    one, other = await world.node("one"), await world.node("other")
    await world.ask(m.SetNodesDisabled((other,), True))
    await world.post("/nodes/act", {"action": "drain", "ids": [one, other]})
    token = undo_of(await world.page("/nodes"))
    await world.post("/undo", {"undo": token, "back": "/nodes"})
    assert [view.node.disabled for view in await world.access.nodes()] == [False, True]
    await world.post("/undo", {"undo": token, "back": "/nodes"})
    assert "cannot be undone any more" in await world.page("/nodes")


async def test_what_cannot_be_undone_offers_no_undo(world: World) -> None:
    [job] = await world.submit({"name": "a", "command": "x"})
    await world.post("/jobs/act", {"action": "cancel", "ids": [job]})
    assert 'name="undo"' not in await world.page("/jobs")


async def test_the_clients_of_a_group_are_set_all_or_none(world: World) -> None:
    [one, two, gone] = [await world.node(name) for name in ("one", "two", "gone")]
    await world.ask(m.CreateGroup("gpu"))
    await world.ask(m.AddToGroup(1, (one, gone)))
    await world.ask(m.NodeLeft(gone))
    answer = await world.post("/groups/1", {"nodes": [two, 99]})
    assert answer.status_code == 404
    assert [group.nodes for group in await world.access.groups()] == [(one,)]
    await world.post("/groups/1", {"nodes": [two], "back": "/groups"})
    assert "There are 1 client in the group" not in await world.page("/groups")
    assert [group.nodes for group in await world.access.groups()] == [(two,)]
    await world.node("gone")
    assert [group.nodes for group in await world.access.groups()] == [(gone, two)]


async def test_memory_in_use_is_shown_where_agents_tell_it(world: World) -> None:
    old, new = await world.node("old"), await world.node("new")
    await world.ask(m.NodeBeat(old, load=0.5))
    await world.ask(m.NodeBeat(new, load=0.5, memory_used_kb=2_000_000))
    html = await world.page("/nodes")
    assert "1.9 / 7.6 GB" in html and html.count("/ 7.6 GB") == 1
    assert "memory in use <b>1.9 GB</b> of 7.6 GB" in await world.page(f"/nodes/{new}")
    assert "memory 7.6 GB" in await world.page(f"/nodes/{old}")
    squares = (await world.get("/nodes"))["nodes"]
    assert {one["label"]: one["memory_used_kb"] for one in squares} == {"new": 2_000_000, "old": 0}

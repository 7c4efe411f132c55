"""/api/v1 through bytes: bodies, refusals, streams, and the description that is made of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import msgspec
import pytest
from starlette.applications import Starlette

from roost.api import routes as api
from roost.core.availability import parse
from roost.core.messages import (
    AddNote,
    AddToGroup,
    CancelJobs,
    CreateGroup,
    DeleteGroup,
    DeleteJobs,
    EjectJobs,
    PauseJobs,
    RemoveFromGroup,
    RemoveNodes,
    RemoveNotes,
    RemoveResource,
    RemoveThreads,
    RescheduleJobs,
    ResumeJobs,
    SetAttributes,
    SetAvailability,
    SetBlockedWarning,
    SetConditions,
    SetNodeDescription,
    SetNodesDisabled,
    SetPriority,
    SetResource,
)
from roost.core.records import Attempt, AvailabilityRule, Condition, Group, Note
from roost.errors import Conflict, Forbidden, Unavailable
from roost.gateway import ThreadView
from roost.wire import rest

JOBS = "/api/v1/jobs"
NOW = 1_760_000_000_000
"""The time of the farm in memory."""


@pytest.fixture
def http(farm: Any) -> httpx2.AsyncClient:
    app = Starlette(routes=api.routes(farm))
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://farm")


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    detail = msgspec.json.decode(answer.content, type=rest.ErrorBody).error
    assert answer.headers["content-type"] == "application/json"
    assert detail.status == answer.status_code
    return detail.status, detail.message


# --- jobs ----------------------------------------------------------------------------------------


async def test_submitting_answers_ids_breadth_first(farm: Any, http: httpx2.AsyncClient) -> None:
    spec = {"name": "a", "children": [{"name": "b"}]}
    answer = await http.post(JOBS, json=spec)
    assert (answer.status_code, answer.json()) == (201, {"ids": [1, 2]})
    assert (await http.post(f"{JOBS}?parent=2", json=[spec, spec])).json() == {"ids": [3, 4, 5, 6]}
    assert farm.asked[-1].jobs[0].parent_ids == (2,)
    many = {"name": "m", "children": [{"name": f"frame {i}"} for i in range(5000)]}
    assert len((await http.post(JOBS, json=many)).json()["ids"]) == 5001


async def test_a_bad_submission_is_refused(farm: Any, http: httpx2.AsyncClient) -> None:
    status, message = refusal(await http.post(JOBS, json={"name": "a", "cpus": "many"}))
    assert (status, "cpus" in message) == (400, True)
    json_type = {"content-type": "application/json"}
    assert refusal(await http.post(JOBS, content=b"{", headers=json_type))[0] == 400
    assert refusal(await http.post(f"{JOBS}?parent=x", json={"name": "a"}))[0] == 400
    assert farm.asked == []


async def test_posts_must_be_json(http: httpx2.AsyncClient) -> None:
    for path in (JOBS, f"{JOBS}/cancel", "/api/v1/nodes/1/disable"):
        answer = await http.post(path, content=b"{}", headers={"content-type": "text/plain"})
        assert refusal(answer)[0] == 415


async def test_bodies_have_a_limit(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "BODY_BYTES_MAX", 100)
    assert refusal(await http.post(JOBS, json={"name": "x" * 200}))[0] == 413


async def test_lists_are_paged_and_filtered(farm: Any, http: httpx2.AsyncClient) -> None:
    for job_id in range(1, 6):
        farm.add_job(job_id, "failed" if job_id % 2 else "runnable")
    first = (await http.get(f"{JOBS}?limit=2&status=failed,runnable")).json()
    assert [job["id"] for job in first["jobs"]] == [5, 4]
    second = (await http.get(first["next"])).json()
    assert [job["id"] for job in second["jobs"]] == [3, 2]
    last = (await http.get(second["next"])).json()
    assert [job["id"] for job in last["jobs"]] == [1]
    assert last["next"] is None
    failed = (await http.get(f"{JOBS}?status=failed&roots_only=true")).json()["jobs"]
    assert [job["id"] for job in failed] == [5, 3, 1]
    assert failed[0]["finished"] is True
    for query in ("status=lazy", "limit=0", "limit=x", "before=x", "roots_only=perhaps"):
        assert refusal(await http.get(f"{JOBS}?{query}"))[0] == 400


async def test_a_job_is_shown_with_everything(farm: Any, http: httpx2.AsyncClient) -> None:
    farm.add_rich_job(7)
    body = (await http.get(f"{JOBS}/7")).content
    job = msgspec.json.decode(body, type=rest.JobDetail)
    assert (job.id, job.name, job.progress, job.overall_progress) == (7, "comp", 0.25, 0.75)
    assert job.spec["conditions"] == [
        {"type": "client", "name": "os", "op": "==", "value": "linux"}
    ]
    assert job.conditions[0]["value"] == "a,b"
    assert (job.parents, job.children, job.held_nodes) == ([3], [8, 9], [2])
    assert job.events[0].message == "submitted"
    assert job.attempts[0].cause == "exited"
    assert job.reasons[0] == rest.JobReason("No node is free.", [1])
    assert job.attributes == {"Loss": 0.5, "Stage": "a b", "Twice": {"expr": "Loss * 2"}}
    assert refusal(await http.get(f"{JOBS}/8"))[0] == 404
    assert refusal(await http.get(f"{JOBS}/{10**30}"))[0] == 404


async def test_reasons(farm: Any, http: httpx2.AsyncClient) -> None:
    farm.add_rich_job(7)
    reasons = (await http.get(f"{JOBS}/7/reasons")).json()["reasons"]
    assert reasons[1] == {"text": "It is late.", "nodes": []}


async def test_attributes_have_values_texts_and_history(
    farm: Any, http: httpx2.AsyncClient
) -> None:
    farm.add_rich_job(7)
    answer = (await http.get(f"{JOBS}/7/attributes")).content
    loss, stage, twice = msgspec.json.decode(answer, type=rest.JobAttributes).attributes
    assert (loss.name, loss.value, loss.text, loss.set_at) == ("Loss", 0.5, "0.5", NOW)
    assert loss.history == [(NOW, 2.0), (NOW - 1, 2.0), (NOW, 0.5)]
    assert (stage.value, stage.text, stage.history) == ("a b", '"a b"', [])
    assert (twice.value, twice.text) == ({"expr": "Loss * 2"}, "Loss * 2")
    assert refusal(await http.get(f"{JOBS}/8/attributes"))[0] == 404


async def test_attributes_are_set_together(farm: Any, http: httpx2.AsyncClient) -> None:
    path = f"{JOBS}/7/attributes"
    values = {"A": 1, "B": "x y", "C": {"expr": " A  + 1"}, "D": None, "E": [1, "b"], "F": True}
    assert (await http.patch(path, json={"attributes": values})).json() == {"done": True}
    texts = {
        "A": "1", "B": '"x y"', "C": "A  + 1", "D": "UNDEFINED", "E": '{ 1,"b" }', "F": "true",
    }  # fmt: skip
    assert farm.asked == [SetAttributes(7, texts)]
    for bad in ({"A": {"expr": "1 +"}}, {"A": {"x": 1}}, {"A": {"expr": 1}}, ["A"]):
        assert refusal(await http.patch(path, json={"attributes": bad}))[0] == 400
    big = {"A": "x" * (64 * 1024)}
    assert refusal(await http.patch(path, json={"attributes": big}))[0] == 413
    farm.failure = Forbidden("The attribute Owner cannot be set.")
    assert refusal(await http.patch(path, json={"attributes": {"Owner": "me"}}))[0] == 403


@pytest.mark.parametrize(
    ("action", "command"),
    [
        ("cancel", CancelJobs),
        ("pause", PauseJobs),
        ("resume", ResumeJobs),
        ("reschedule", RescheduleJobs),
        ("reschedule_failed", RescheduleJobs),
        ("eject", EjectJobs),
        ("delete", DeleteJobs),
    ],
)
async def test_actions(farm: Any, http: httpx2.AsyncClient, action: str, command: Any) -> None:
    farm.add_job(1)
    answer = (await http.post(f"{JOBS}/{action}", json={"ids": [2, 1, 2]})).json()
    assert answer == {"done": True, "applied": [1], "skipped": [2], "undo": ""}
    assert farm.asked == [command((2, 1))]
    assert refusal(await http.post(f"{JOBS}/{action}", json={}))[0] == 400
    both = {"ids": [1], "match": {"status": ["failed"]}}
    assert refusal(await http.post(f"{JOBS}/{action}", json=both))[0] == 400
    wrong = {"match": {"status": ["broken"]}}
    assert "can be one of" in refusal(await http.post(f"{JOBS}/{action}", json=wrong))[1]
    assert refusal(await http.post(f"{JOBS}/{action}", json={"ids": ["x"]}))[0] == 400
    assert refusal(await http.get(f"{JOBS}/{action}"))[0] == 405


async def test_an_action_can_be_for_all_jobs_that_match(
    farm: Any, http: httpx2.AsyncClient
) -> None:
    for job, status in ((1, "failed"), (2, "running"), (3, "failed")):
        farm.add_job(job, status)
    answer = await http.post(f"{JOBS}/cancel", json={"match": {"status": ["failed"]}})
    assert answer.json()["applied"] == [3, 1]
    assert farm.asked == [CancelJobs((3, 1))]


async def test_output_is_handed_out_in_parts(farm: Any, http: httpx2.AsyncClient) -> None:
    farm.add_job(1, "succeeded")
    farm.logs[1] = b"<b>hello\xff"
    for query, offset, data in (
        ("", 0, b"<b>hello\xff"),
        ("?offset=3&limit=2", 3, b"he"),
        ("?last=3", 6, b"lo\xff"),
        ("?last=0", 9, b""),
        ("?offset=50", 50, b""),
    ):
        answer = await http.get(f"{JOBS}/1/output{query}")
        assert answer.content == data
        assert answer.headers[rest.HEADER_OFFSET] == str(offset)
        assert answer.headers[rest.HEADER_TOTAL] == "9"
        assert answer.headers[rest.HEADER_COMPLETE] == "true"
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert refusal(await http.get(f"{JOBS}/1/output?offset=-1"))[0] == 400
    assert refusal(await http.get(f"{JOBS}/2/output"))[0] == 404


async def test_lines_of_output_have_the_times_at_which_they_came(
    farm: Any, http: httpx2.AsyncClient
) -> None:
    farm.add_job(1, "running")
    farm.logs[1] = b"one\n10%\r20%\nthr"
    whole = (await http.get(f"{JOBS}/1/output/lines")).json()
    assert whole == {
        "first": 1,
        "texts": ["one", "20%", "thr"],
        "arrived_at": [None, 4_000, 12_000],
        "total": 3,
        "is_open": True,
        "size": 15,
        "complete": False,
    }
    for query, texts in (("?first=2&count=1", ["20%"]), ("?first=-1", ["thr"]), ("?first=9", [])):
        assert (await http.get(f"{JOBS}/1/output/lines{query}")).json()["texts"] == texts
    assert refusal(await http.get(f"{JOBS}/1/output/lines?count=2001"))[0] == 400
    assert refusal(await http.get(f"{JOBS}/2/output/lines"))[0] == 404


async def test_output_is_followed_until_complete(farm: Any, http: httpx2.AsyncClient) -> None:
    farm.add_job(1, "running")
    farm.logs[1] = b"one "
    following = asyncio.create_task(http.get(f"{JOBS}/1/output/follow?offset=2"))
    await asyncio.sleep(0)
    await farm.change(1, "running", b"two ")
    await farm.change(1, "succeeded", b"three")
    assert (await following).content == b"e two three"
    assert refusal(await http.get(f"{JOBS}/2/output/follow"))[0] == 404


async def test_events_end_when_all_are_finished(farm: Any, http: httpx2.AsyncClient) -> None:
    farm.add_rich_job(1)
    farm.add_job(2, "succeeded")
    following = asyncio.create_task(http.get(f"{JOBS}/events?ids=1,2"))
    await asyncio.sleep(0)
    await farm.change(1, "succeeded")
    answer = await following
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = list(httpx2.EventSource(answer))
    assert events[-1].event == rest.EVENT_END
    changes = [msgspec.json.decode(e.data, type=rest.JobChange) for e in events[:-1]]
    last = {change.id: change for change in changes}
    assert last[1].status == last[2].status == "succeeded"
    assert (last[1].tasks_total, last[1].tasks_done) == (4, 2)
    assert refusal(await http.get(f"{JOBS}/events?ids=1,9"))[0] == 404
    assert refusal(await http.get(f"{JOBS}/events"))[0] == 400
    assert refusal(await http.get(f"{JOBS}/events?ids=x"))[0] == 400


# --- nodes and the server ------------------------------------------------------------------------


async def test_nodes(farm: Any, http: httpx2.AsyncClient) -> None:
    farm.add_node(1, "render1", "gpu")
    body = (await http.get("/api/v1/nodes")).content
    (node,) = msgspec.json.decode(body, type=rest.Nodes).nodes
    assert (node.label, node.cpus, node.cpus_busy, node.running) == ("render1:gpu", 8, 4, [7])
    await http.post("/api/v1/nodes/1/disable", json={})
    await http.post("/api/v1/nodes/1/enable", json={})
    assert (await http.delete("/api/v1/nodes/1")).status_code == 200
    assert farm.asked == [
        SetNodesDisabled((1,), True),
        SetNodesDisabled((1,), False),
        RemoveNodes((1,)),
    ]
    assert refusal(await http.delete("/api/v1/nodes/9"))[0] == 404


async def test_an_action_can_be_for_all_nodes_that_match(
    farm: Any, http: httpx2.AsyncClient
) -> None:
    farm.add_node(1, "render1")
    farm.add_node(2, "desk")
    nodes = "/api/v1/nodes"
    answer = (await http.post(f"{nodes}/drain", json={"match": {"words": "RENDER"}})).json()
    assert (answer["applied"], answer["undo"]) == ([1], "undo drain")
    await http.post(f"{nodes}/remove", json={"nodes": [1, 2]})
    assert farm.asked == [SetNodesDisabled((1,), True), RemoveNodes((1, 2))]
    both = {"nodes": [1], "match": {}}
    for wrong in ({}, both):
        assert (
            "Give either nodes or match"
            in refusal(await http.post(f"{nodes}/drain", json=wrong))[1]
        )
    wrong = {"match": {"state": ["asleep"]}}
    assert "'asleep' is no state" in refusal(await http.post(f"{nodes}/enable", json=wrong))[1]


async def test_what_was_done_can_be_undone_while_it_is_remembered(
    farm: Any, http: httpx2.AsyncClient
) -> None:
    answer = (await http.post("/api/v1/undo", json={"undo": "undo drain"})).json()
    assert answer == {"done": True, "jobs": [], "nodes": [1], "undo": ""}
    assert refusal(await http.post("/api/v1/undo", json={"undo": "old"}))[0] == 404


async def test_availability_rules_are_written_as_people_write_them(
    farm: Any, http: httpx2.AsyncClient
) -> None:
    rules = (parse("weekdays 20:00-07:00"), AvailabilityRule(4, "idle", False, idle_minutes=15))
    farm.add_node(1, "desk", availability=rules, description="Ann's")
    node = (await http.get("/api/v1/nodes/1")).json()
    assert (node["description"], node["idle_minutes"], node["available"]) == ("Ann's", -1, True)
    assert (node["time_zone"], node["off_duty"]) == ("Europe/Berlin", "")
    assert node["availability"] == [
        {"rule": "weekdays 20:00-07:00", "enabled": True, "id": 0},
        {"rule": "idle 15", "enabled": False, "id": 4},
    ]
    where = "/api/v1/nodes/1/availability"
    again = {"rules": node["availability"]}
    assert (await http.put(where, json=again)).status_code == 200
    assert (await http.put(where, json={"rules": [{"rule": "WEEKENDS"}]})).status_code == 200
    assert farm.asked == [
        SetAvailability(1, rules), SetAvailability(1, (AvailabilityRule(day="weekends"),)),
    ]  # fmt: skip
    status, message = refusal(await http.put(where, json={"rules": [{"rule": "now"}]}))
    assert status == 400 and "'now' is no availability rule" in message
    assert refusal(await http.put(where, json={"rules": "any"}))[0] == 400
    assert refusal(await http.put("/api/v1/nodes/9/availability", json=again))[0] == 404
    assert refusal(await http.get("/api/v1/nodes/9"))[0] == 404


async def test_a_node_is_described(farm: Any, http: httpx2.AsyncClient) -> None:
    farm.add_node(1, "desk")
    answer = await http.put("/api/v1/nodes/1/description", json={"description": "Ann's"})
    assert answer.status_code == 200
    assert farm.asked == [SetNodeDescription(1, "Ann's")]


async def test_health_and_metrics(farm: Any, http: httpx2.AsyncClient) -> None:
    farm.add_job(1)
    farm.add_node(1, "render1", "gpu")
    healthy = await http.get("/healthz")
    assert healthy.status_code == 200
    health = msgspec.json.decode(healthy.content, type=rest.Health)
    assert (health.status, health.jobs, health.cpus) == ("ok", {"runnable": 1}, 16)
    answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    for line in (
        'roost_jobs{status="runnable"} 1.0',
        'roost_jobs{status="failed"} 0.0',
        "roost_nodes 1.0",
        "roost_cpus 16.0",
        "roost_cpus_busy 4.0",
        "roost_failed_an_hour 0.0",
        'roost_node_load{node="render1:gpu"} 0.5',
        'roost_node_memory_bytes{node="render1:gpu"} 2.199023255552e+12',
    ):
        assert line in answer.text.splitlines()
    farm.failure = Unavailable("The disk is full.")
    answer = await http.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["message"] == "The disk is full."


async def test_config(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/api/v1/config/port")).json() == {"key": "port", "value": "5000"}
    assert (await http.get("/api/v1/config/x")).json()["value"] is None


# --- refusals and the description ----------------------------------------------------------------


async def test_unknown_paths_and_methods_are_json(http: httpx2.AsyncClient) -> None:
    assert refusal(await http.get("/api/v1/hats"))[0] == 404
    assert refusal(await http.post("/api/v1/jobs/x/y", json={}))[0] == 404
    answer = await http.put(JOBS, json={})
    assert refusal(answer)[0] == 405
    assert answer.headers["allow"] == "GET, POST"


async def test_a_bug_is_told_by_an_id_only(
    farm: Any, http: httpx2.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    farm.failure = ZeroDivisionError("secret detail")
    status, message = refusal(await http.get(f"{JOBS}/1"))
    assert (status, "error id" in message, "secret" in message) == (500, True, False)
    assert "secret detail" in capsys.readouterr().out
    farm.failure = Conflict("Not now.")
    assert refusal(await http.get(f"{JOBS}/1")) == (409, "Not now.")


async def test_the_description_holds_every_operation(http: httpx2.AsyncClient) -> None:
    document = json.loads((await http.get("/api/v1/openapi.json")).content)
    assert document["openapi"] == "3.1.0"
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    served = {
        (op.method, op.path.replace(":int", "").replace(":path", "")) for op in api.OPERATIONS
    }
    assert described == served
    identifiers = [op["operationId"] for path in document["paths"].values() for op in path.values()]
    assert len(identifiers) == len(set(identifiers))
    assert all(op["summary"] for path in document["paths"].values() for op in path.values())

    def references(value: object) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if "$ref" in value else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


async def test_groups_are_listed_and_changed(farm: Any, http: httpx2.AsyncClient) -> None:
    farm.group_list = [Group(4, "fast", (1, 3))]
    groups = "/api/v1/groups"
    assert (await http.get(groups)).json() == {
        "groups": [{"id": 4, "name": "fast", "nodes": [1, 3]}]
    }
    made = await http.post(groups, json={"name": "slow"})
    assert (made.status_code, made.json()) == (201, {"id": 5})
    await http.post(f"{groups}/5/add", json={"nodes": [1, 2]})
    await http.post(f"{groups}/5/remove", json={"nodes": [1]})
    await http.delete(f"{groups}/5")
    assert farm.asked == [
        CreateGroup("slow"),
        AddToGroup(5, (1, 2)),
        RemoveFromGroup(5, (1,)),
        DeleteGroup(5),
    ]
    assert refusal(await http.post(groups, json={"nom": "x"}))[0] == 400


async def test_resources_are_listed_and_changed(farm: Any, http: httpx2.AsyncClient) -> None:
    table = "/api/v1/resources"
    assert (await http.get(table)).json()["resources"] == [
        {"id": 1, "name": "nuke", "max": 4, "per_machine": False, "in_use": 3},
        {"id": 2, "name": "houdini", "max": None, "per_machine": True, "in_use": 0},
    ]
    limit = {"max": 2, "per_machine": True}
    assert (await http.put(f"{table}/sidefx.license.render", json=limit)).json() == {"id": 5}
    await http.put(f"{table}/a%2Fb", json={"max": None, "per_machine": False})
    await http.delete(f"{table}/nuke")
    assert farm.asked == [
        SetResource("sidefx.license.render", 2, True),
        SetResource("a/b", None, False),
        RemoveResource("nuke"),
    ]
    assert refusal(await http.put(f"{table}/nuke", json={"max": -1, "per_machine": True}))[0] == 400
    assert refusal(await http.put(f"{table}/nuke", json={"max": 1}))[0] == 400


async def test_the_priority_of_jobs_is_set(farm: Any, http: httpx2.AsyncClient) -> None:
    priority = f"{JOBS}/priority"
    assert (await http.post(priority, json={"ids": [2, 1, 2], "priority": 7})).json()["done"]
    assert farm.asked == [SetPriority((2, 1), 7)]
    for wrong in ({"ids": [1], "priority": -1}, {"ids": [1]}, {"priority": 1}):
        assert refusal(await http.post(priority, json=wrong))[0] == 400


async def test_permitted_nodes_are_those_that_pass_the_conditions(
    farm: Any, http: httpx2.AsyncClient
) -> None:
    farm.add_rich_job(7)
    farm.add_node(1, "a")
    farm.add_node(2, "c")
    permitted = f"{JOBS}/7/permitted"
    assert (await http.get(permitted)).json() == {"nodes": ["a"]}
    for nodes in (["c", "a:x"], [], None):
        assert (await http.put(permitted, json={"nodes": nodes})).status_code == 200
    assert farm.asked == [
        SetConditions(7, (Condition("hostname:name", "in", "c,a:x"),)),
        SetConditions(7, (Condition("hostname", "in", ""),)),
        SetConditions(7, ()),
    ]
    assert refusal(await http.put(permitted, json={"nodes": [" "]}))[0] == 400
    assert refusal(await http.get(f"{JOBS}/8/permitted"))[0] == 404


async def test_the_blocked_warning_is_set(farm: Any, http: httpx2.AsyncClient) -> None:
    farm.add_job(7)
    assert (await http.put(f"{JOBS}/7/blocked-warning", json={"shown": False})).status_code == 200
    assert farm.asked == [SetBlockedWarning(7, False)]


async def test_a_node_tells_its_history_and_its_errors(farm: Any, http: httpx2.AsyncClient) -> None:
    farm.add_node(1, "render1")
    farm.add_job(3)
    farm.add_job(4)
    farm.history[1] = [4, 3]
    farm.unstarted[1] = [Attempt(4, 1, (1,), NOW, ended_at=NOW + 5, text="no such folder")]
    history = "/api/v1/nodes/1/history"
    assert [job["name"] for job in (await http.get(history)).json()["jobs"]] == ["job 4", "job 3"]
    assert len((await http.get(f"{history}?limit=1")).json()["jobs"]) == 1
    assert refusal(await http.get(f"{history}?limit=0"))[0] == 400
    assert (await http.get("/api/v1/nodes/1/errors")).json() == {
        "total": 1,
        "errors": [
            {
                "at": NOW + 5,
                "text": "Job 4 could not be started: no such folder",
                "node": 1,
                "job": 4,
            }
        ],
    }
    for path in ("history", "errors"):
        assert refusal(await http.get(f"/api/v1/nodes/9/{path}"))[0] == 404


async def test_the_server_tells_its_errors(farm: Any, http: httpx2.AsyncClient) -> None:
    farm.note_error("Oops.")
    assert (await http.get("/api/v1/errors")).json() == {
        "total": 1,
        "errors": [{"at": NOW, "text": "Oops.", "node": None, "job": None}],
    }


NOTES = "/api/v1/notes"


def laid_out(farm: Any) -> None:
    """Thread 2 about job 7 with two notes, thread 3 about nothing, thread 4 about node 1."""
    notes = [Note(20, 2, NOW, "slow"), Note(21, 2, NOW, "why?")]
    farm.thread_views = {
        2: ThreadView(2, 7, None, tuple(notes)),
        3: ThreadView(3, None, None, (Note(30, 3, NOW, "hello"),)),
        4: ThreadView(4, None, 1, (Note(40, 4, NOW, "hot"),)),
    }
    farm.add_job(7, latest_note=notes[1])
    farm.add_job(8)
    farm.add_node(1, "render1")
    farm.node_views[1] = msgspec.structs.replace(
        farm.node_views[1], latest_note=farm.thread_views[4].notes[0]
    )
    farm.add_node(2, "render2")


@pytest.mark.parametrize(
    ("query", "threads"),
    [
        ("", {2: ["slow", "why?"], 3: ["hello"], 4: ["hot"]}),
        ("?latest=true", {2: ["why?"], 3: ["hello"], 4: ["hot"]}),
        ("?job=7", {2: ["slow", "why?"]}),
        ("?job=8", {}),
        ("?node=1", {4: ["hot"]}),
        ("?node=2", {}),
        ("?thread=3", {3: ["hello"]}),
    ],
)
async def test_notes_are_listed_by_what_they_are_about(
    farm: Any, http: httpx2.AsyncClient, query: str, threads: dict[int, list[str]]
) -> None:
    laid_out(farm)
    found = (await http.get(NOTES + query)).json()["threads"]
    assert {each["id"]: [note["text"] for note in each["notes"]] for each in found} == threads


async def test_a_note_goes_where_it_was_meant_or_nowhere(
    farm: Any, http: httpx2.AsyncClient
) -> None:
    laid_out(farm)
    for about in ({}, {"job": 7}, {"node": 2}, {"thread": 3}):
        answer = await http.post(NOTES, json={"text": "n", **about})
        assert (answer.status_code, answer.json()) == (201, {"id": 5})
    assert farm.asked == [AddNote("n"), AddNote("n", job=7), AddNote("n", node=2), AddNote("n", 3)]
    for unknown in ({"job": 9}, {"node": 9}, {"thread": 9}):
        assert refusal(await http.post(NOTES, json={"text": "n", **unknown}))[0] == 404
    assert refusal(await http.post(NOTES, json={"text": "n", "job": 7, "node": 1}))[0] == 400
    assert refusal(await http.get(f"{NOTES}?job=7&node=1"))[0] == 400
    assert refusal(await http.get(f"{NOTES}?thread=9"))[0] == 404
    assert len(farm.asked) == 4


async def test_notes_and_threads_are_removed_or_it_is_told_why_not(
    farm: Any, http: httpx2.AsyncClient
) -> None:
    laid_out(farm)
    assert (await http.delete(f"{NOTES}/1")).status_code == 200
    assert (await http.delete("/api/v1/threads/3")).status_code == 200
    assert farm.asked == [RemoveNotes((1,)), RemoveThreads((3,))]
    assert refusal(await http.delete(f"{NOTES}/20"))[0] == 409  # the fake keeps all above 10
    assert refusal(await http.delete(f"{NOTES}/99"))[0] == 404
    assert refusal(await http.delete("/api/v1/threads/99"))[0] == 404


async def test_following_jobs_ends_after_the_time_given(
    farm: Any, http: httpx2.AsyncClient
) -> None:
    farm.add_job(1, "running")
    for seconds in ("0", "0.001"):
        answer = await http.get(f"{JOBS}/events?ids=1&seconds={seconds}")
        assert [event.event for event in httpx2.EventSource(answer)] == [rest.EVENT_CHANGE]
    for wrong in ("-1", "soon", "nan"):
        assert refusal(await http.get(f"{JOBS}/events?ids=1&seconds={wrong}"))[0] == 400

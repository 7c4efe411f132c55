"""The answers that the drawn elements get, from a real engine, record and output store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from roost.core import messages as m
from roost.core.records import AttemptCause, JobId, NodeId
from roost.web import drawings

World = Any


async def printed(world: World, *texts: str) -> JobId:
    """A running job whose attempts so far printed these texts."""
    node = await world.node("render1")
    [job] = await world.submit({"name": "comp", "command": "true", "triesLeft": 9})
    for number, text in enumerate(texts, 1):
        if number > 1:
            await world.run(node, job, number - 1, exit_code=1)
        world.print(job, number, text)
    return job


# --- output -----------------------------------------------------------------------------------


async def test_the_last_lines_are_given_with_their_numbers(world: World) -> None:
    job = await printed(world, "".join(f"line {n}\n" for n in range(1, 1001)) + "half")
    found = await world.get(f"/jobs/{job}/output")
    assert (found["first"], len(found["texts"]), found["texts"][-1]) == (502, 500, "half")
    assert (found["total"], found["is_open"], found["complete"]) == (1001, True, False)
    found = await world.get(f"/jobs/{job}/output", first=7, count=2)
    assert (found["first"], found["texts"]) == (7, ["line 7", "line 8"])


async def test_an_attempt_can_be_read_alone(world: World) -> None:
    job = await printed(world, "one\n", "two\n")
    both = await world.get(f"/jobs/{job}/output")
    assert both["texts"] == ["one", "", "--- attempt 2 ---", "two"]
    first = await world.get(f"/jobs/{job}/output", attempt=1)
    assert (first["texts"], first["complete"]) == (["one"], True)
    second = await world.get(f"/jobs/{job}/output", attempt=2)
    assert (second["texts"], second["complete"]) == (["two"], False)
    message = await world.get(f"/jobs/{job}/output", 404, attempt=3)
    assert message == f"Job {job} has no attempt 3; it has had 2 so far."


async def test_lines_say_when_they_came_if_that_is_asked(world: World) -> None:
    job = await printed(world, "one\ntwo\n")
    assert (await world.get(f"/jobs/{job}/output"))["times"] == []
    times = (await world.get(f"/jobs/{job}/output", times="1"))["times"]
    assert len(times) == 2 and abs(times[0] * 1000 - world.access.now()) < 600_000


async def test_lines_that_match_are_found_on_the_server(world: World) -> None:
    job = await printed(world, "fine\nWarning: a\n", "warning: b\n")
    path = f"/jobs/{job}/output/search"
    assert await world.get(path, pattern="warn") == {"numbers": [2, 5], "searched_to": 5}
    found = await world.get(path, pattern="^warn", attempt=2)
    assert found == {"numbers": [1], "searched_to": 1}
    assert (await world.get(path, pattern="warn", first=3))["numbers"] == [5]
    # No refusal: a browser would complain of it to its console while somebody types.
    message = (await world.get(path, pattern="[a"))["mistake"]
    assert message.startswith("The pattern is not a regular expression: unterminated")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/jobs/99/output", 404, "There is no job 99"),
        ("/jobs/99/output/follow", 404, "There is no job 99"),
        ("/jobs/99/output/search?pattern=a", 404, "There is no job 99"),
        ("/jobs/99/output/search", 400, "pattern"),
        ("/jobs/99/output?count=9999999", 400, "count"),
        ("/jobs/99/output?first=many", 400, "first"),
        ("/jobs/99/output?attempt=0", 400, "attempt"),
        ("/jobs/99999999999999999999/output", 404, "There is no job"),
        ("/jobs/99/attempts", 404, "There is no job 99"),
        ("/jobs/99/attributes/Loss", 404, "There is no job 99"),
        ("/jobs?ids=1,x", 400, "ids"),
        ("/nodes/1/timeline?hours=0", 400, "hours"),
    ],
)
async def test_what_cannot_be_is_refused_in_words(
    world: World, path: str, status: int, words: str
) -> None:
    assert words in await world.get(path, status)


async def events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, str, Any]]:
    """Server-sent events: name, id, data."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield fields["event"], fields.get("id", ""), json.loads(fields["data"])
            fields = {}


async def test_one_who_follows_gets_lines_as_they_are_printed_until_the_end(world: World) -> None:
    job = await printed(world, "one\ntw")
    node = NodeId(1)
    async with world.client.stream("GET", f"/drawings/jobs/{job}/output/follow") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        found = events(response.aiter_lines())
        name, id, data = await anext(found)
        assert (name, id, data["first"], data["texts"]) == ("lines", "2", 1, ["one", "tw"])
        world.print(job, 1, "o\nthree\n")
        name, id, data = await anext(found)
        assert (name, id, data["first"], data["texts"]) == ("lines", "4", 2, ["two", "three"])
        await world.run(node, job, 1)
        name, id, data = await anext(found)
        assert (name, id) == ("end", "4")


async def test_one_who_comes_back_goes_on_where_the_last_event_ended(world: World) -> None:
    job = await printed(world, "one\ntwo\nthree\n")
    headers = {"last-event-id": "3"}
    path = f"/drawings/jobs/{job}/output/follow?first=-500"
    async with world.client.stream("GET", path, headers=headers) as response:
        _, id, data = await anext(events(response.aiter_lines()))
        assert (id, data["first"], data["texts"]) == ("4", 3, ["three"])


async def test_one_who_is_far_behind_gets_the_last_lines_only(world: World) -> None:
    job = await printed(world, "x\n" * 10_000)
    path = f"/drawings/jobs/{job}/output/follow?first=1"
    async with world.client.stream("GET", path) as response:
        _, id, data = await anext(events(response.aiter_lines()))
        assert (id, data["first"], len(data["texts"])) == ("10001", 9_501, 500)


async def test_the_whole_log_can_be_taken_home(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawings, "DOWNLOAD_PART_BYTES", 3)
    job = await printed(world, "one\n", "two\n")
    response = await world.client.get(f"/drawings/jobs/{job}/output/download")
    assert response.text == "one\n\n--- attempt 2 ---\ntwo\n"
    assert response.headers["content-disposition"] == f'attachment; filename="job-{job}.log"'


async def test_attempts_can_be_picked_the_latest_first(world: World) -> None:
    job = await printed(world, "one\n", "two\n")
    await world.report(NodeId(1), m.AttemptStarted(job, 2))
    second, first = await world.get(f"/jobs/{job}/attempts")
    assert (second["number"], second["tone"], second["nodes"]) == (2, "running", ["render1"])
    assert (first["number"], first["tone"], first["outcome"]) == (1, "failed", "exit code 1")


# --- jobs and nodes ---------------------------------------------------------------------------


async def family(world: World) -> tuple[NodeId, JobId, list[JobId]]:
    """A parent with three children: one succeeded, one failed, one runs."""
    node = await world.node("render1")
    children = [{"name": f"frame {n}", "command": "true"} for n in range(1, 4)]
    parent, *jobs = await world.submit({"name": "shot", "children": children})
    await world.run(node, jobs[0], 1)
    await world.run(node, jobs[1], 1, exit_code=3)
    await world.report(node, m.AttemptStarted(jobs[2], 1))
    return node, parent, jobs


async def test_children_come_in_their_order_with_a_letter_each(world: World) -> None:
    _, parent, jobs = await family(world)
    found = await world.get(f"/jobs/{parent}/children")
    assert found["ids"] == jobs
    words = [found["legend"][letter] for letter in found["statuses"]]
    assert words == [["succeeded"] * 2, ["failed"] * 2, ["running"] * 2]
    assert found["legend"][drawings.LETTERS[drawings.S.RESUMING]] == ["resuming", "paused"]


async def test_an_answer_that_has_not_changed_is_not_sent_again(world: World) -> None:
    node, parent, jobs = await family(world)
    path = f"/drawings/jobs/{parent}/children"
    tag = (await world.client.get(path)).headers["etag"]
    headers = {"if-none-match": tag}
    again = await world.client.get(path, headers=headers)
    assert (again.status_code, again.content) == (304, b"")
    ended = m.AttemptEnded(jobs[2], 1, AttemptCause.EXITED, 0)
    await world.report(node, ended)
    assert (await world.client.get(path, headers=headers)).status_code == 200


async def test_facts_are_told_of_the_jobs_asked_for(world: World) -> None:
    _, _, jobs = await family(world)
    [facts] = await world.get("/jobs", ids=f"{jobs[1]},999")
    assert (facts["name"], facts["status"], facts["nodes"]) == ("frame 2", "failed", ["render1"])
    assert facts["started_at"] <= facts["ended_at"]


async def test_nodes_come_by_label_with_state_and_groups(world: World) -> None:
    for name in ("b", "a", "c"):
        await world.node(name)
    group = await world.ask(m.CreateGroup("big"))
    await world.ask(m.AddToGroup(group, (NodeId(1),)))
    await world.ask(m.SetNodesDisabled((NodeId(3),), True))
    [job] = await world.submit({"name": "comp", "command": "true"})
    found = await world.get("/nodes")
    busy = world.engine.farm.jobs[job].nodes[-1]
    states = {one["label"]: one["state"] for one in found["nodes"]}
    assert list(states) == ["a", "b", "c"]
    assert (states["c"], states["ab"[2 - busy]]) == ("drained", "running")
    assert found["groups"] == [{"id": group, "name": "big"}]
    assert [one["groups"] for one in found["nodes"]] == [[], [group], []]


async def test_a_timeline_has_every_attempt_and_how_it_ended(world: World) -> None:
    node, parent, jobs = await family(world)
    of_job = await world.get(f"/jobs/{parent}/timeline")
    assert {(bar["job"], bar["tone"]) for bar in of_job["bars"]} == {
        (jobs[0], "succeeded"), (jobs[1], "failed"), (jobs[2], "running"),
    }  # fmt: skip
    assert of_job["start"] <= min(bar["start"] for bar in of_job["bars"])
    of_node = await world.get(f"/nodes/{node}/timeline")
    assert sorted(bar["name"] for bar in of_node["bars"]) == ["frame 1", "frame 2", "frame 3"]
    assert of_node["end"] - of_node["start"] == 24 * 3_600_000
    assert (await world.get("/nodes/77/timeline"))["bars"] == []


async def test_a_numeric_attribute_is_a_series(world: World) -> None:
    [job] = await world.submit({"name": "train", "command": "true"})
    for loss in ("0.5", "0.25"):
        await world.ask(m.SetAttributes(job, {"Loss": loss}))
    found = await world.get(f"/jobs/{job}/attributes/loss")
    assert found["series"] == {"Loss": [0.5, 0.25]}
    assert len(found["at"]) == 2
    assert await world.get(f"/jobs/{job}/attributes/Gain") == {"at": [], "series": {"Gain": []}}

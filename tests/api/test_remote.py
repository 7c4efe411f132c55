"""The client against the served API, and against servers that go away."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from roost.api import routes as api
from roost.core.messages import (
    AddNote,
    CancelJobs,
    RemoveNodes,
    RemoveNotes,
    RemoveThreads,
    SetAvailability,
    SetBlockedWarning,
    SetConditions,
    SetGroupNodes,
    SetNodeDescription,
    SetNodeGroups,
    SetNodesDisabled,
    SetPriority,
)
from roost.core.records import Attempt, AvailabilityRule, Condition, Note
from roost.errors import (
    Conflict,
    Invalid,
    NotFound,
    ProtocolError,
    RoostError,
    Unavailable,
    Unreachable,
)
from roost.gateway import ThreadView
from roost.remote import RECONNECT_WAITS_S, Remote
from roost.wire import rest


def test_what_the_server_knows_is_typed(farm: Any, remote: Remote) -> None:
    farm.add_rich_job(7)
    farm.add_node(1, "render1")
    assert remote.job(7).name == "comp"
    assert remote.reasons(7)[0].text == "No node is free."
    assert [job.id for job in remote.jobs(statuses=["running"], limit=5).jobs] == [7]
    assert remote.jobs(before=7).jobs == []
    assert remote.nodes()[0].hostname == remote.node(1).hostname == "render1"
    assert remote.health().status == "ok"
    assert remote.config("port") == "5000"
    assert remote.config("nothing") is None


def test_wishes_arrive(farm: Any, remote: Remote) -> None:
    farm.add_node(1, "render1")
    assert remote.submit({"name": "a", "children": [{"name": "b"}]}) == [1, 2]
    assert remote.submit('[{"name": "c"}]', parent=2) == [3]
    remote.act("cancel", [1, 2])
    remote.set_node_disabled(1, True)
    remote.set_availability(1, [rest.AvailabilityRule("weekends", False, 3)])
    remote.describe_node(1, "Ann's")
    remote.remove_node(1)
    assert remote.undo(
        remote.act_on_nodes("enable", match=rest.NodeMatch(words="RENDER")).undo
    ).nodes == [1]
    assert farm.asked[1].jobs[0].parent_ids == (2,)
    assert farm.asked[2:] == [
        CancelJobs((1, 2)), SetNodesDisabled((1,), True),
        SetAvailability(1, (AvailabilityRule(3, enabled=False, day="weekends"),)),
        SetNodeDescription(1, "Ann's"), RemoveNodes((1,)),
        SetNodesDisabled((1,), False),
    ]  # fmt: skip


def test_what_hqueue_offers_is_offered_here(farm: Any, remote: Remote) -> None:
    farm.add_rich_job(7)
    farm.add_node(1, "a")
    farm.add_node(2, "c")
    farm.history[1] = [7]
    farm.unstarted[1] = [Attempt(7, 1, (1,), 5, text="no such folder")]
    farm.note_error("Oops.")
    farm.thread_views = {3: ThreadView(3, None, None, (Note(30, 3, 1, "one"), Note(31, 3, 2, "x")))}
    assert remote.permitted_nodes(7) == ["a"]
    assert [job.name for job in remote.node_history(1)] == ["comp"]
    assert remote.node_errors(1).errors[0].job == 7
    assert remote.errors().errors[0].text == "Oops."
    assert [len(remote.notes(latest=latest)[0].notes) for latest in (False, True)] == [2, 1]
    assert remote.notes(job=7) == []
    remote.set_priority([7], 3)
    remote.set_permitted_nodes(7, ["c"])
    remote.set_permitted_nodes(7, None)
    remote.set_blocked_warning(7, False)
    remote.set_group_nodes(4, [1, 2])
    remote.set_node_groups(2, [4])
    assert remote.add_note("n", job=7) == 5
    remote.remove_note(1)
    remote.remove_thread(1)
    assert farm.asked == [
        SetPriority((7,), 3),
        SetConditions(7, (Condition("hostname", "in", "c"),)),
        SetConditions(7, ()),
        SetBlockedWarning(7, False),
        SetGroupNodes(4, (1, 2)),
        SetNodeGroups(2, (4,)),
        AddNote("n", job=7),
        RemoveNotes((1,)),
        RemoveThreads((1,)),
    ]
    with pytest.raises(Conflict, match="replies"):
        remote.remove_note(30)


def test_refusals_are_the_exceptions_they_were(farm: Any, remote: Remote) -> None:
    with pytest.raises(NotFound, match="no job 9"):
        remote.job(9)
    with pytest.raises(NotFound):
        next(remote.follow_output(9))
    with pytest.raises(NotFound):
        next(remote.follow([9]))
    with pytest.raises(Invalid, match="cpus"):
        remote.submit({"name": "a", "cpus": "x"})
    with pytest.raises(Invalid, match="plain JSON"):
        remote.submit({"name": "a", "cwd": object()})
    with pytest.raises(Invalid, match="no action"):
        remote.act("paint", [1])
    farm.failure = Unavailable("Full.")
    with pytest.raises(Unavailable, match="Full"):
        remote.act("cancel", [1])
    assert remote.health().status == "unavailable"


def test_output_is_read_whole_and_from_its_end(
    farm: Any, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "OUTPUT_PART_BYTES_MAX", 4)
    farm.add_job(1, "succeeded")
    farm.logs[1] = b"hello world"
    assert remote.output(1) == b"hello world"
    assert remote.output(1, 6) == b"world"
    assert remote.output(1, last=7) == b"o world"
    assert b"".join(remote.follow_output(1)) == b"hello world"


def test_jobs_and_output_are_followed(farm: Any, served: Any, remote: Remote) -> None:
    farm.add_job(1, "running")
    farm.logs[1] = b"one "
    output = remote.follow_output(1)
    assert next(output) == b"one "
    served.do(farm.change(1, "running", b"two "))
    assert next(output) == b"two "
    with Remote(served.url) as other:
        changes = other.follow([1])
        assert next(changes).status == "running"
        served.do(farm.change(1, "succeeded", b"three"))
        assert [change.status for change in changes] == ["succeeded"]
    assert list(output) == [b"three"]


def test_timed_output_is_read_over_several_answers(
    farm: Any, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "LINES_MAX", 500)
    farm.add_job(1, "running")
    farm.logs[1] = b"x\n" * 1_200 + b"end"
    found = list(remote.timed_output(1))
    assert [text for _, text in found] == ["x"] * 1_200 + ["end"]
    assert [at for at, _ in found[-2:]] == [2_398_000, 2_400_000]


def test_timed_output_is_followed_by_whole_lines(farm: Any, served: Any, remote: Remote) -> None:
    farm.add_job(1, "running")
    farm.logs[1] = b"one\ntw"
    output = remote.timed_output(1, follow=True)
    assert next(output) == (None, "one")
    served.do(farm.change(1, "running", b"o\nthr"))
    assert next(output) == (4_000, "two")
    served.do(farm.change(1, "succeeded", b"ee"))
    assert list(output) == [(8_000, "three")]


# --- servers that go away ------------------------------------------------------------------------


def scripted(*answers: Callable[[], httpx2.Response]) -> tuple[Remote, list[float], list[str]]:
    """A remote whose requests are answered in turn; the waits and paths it made."""
    waits: list[float] = []
    paths: list[str] = []
    turns = iter(answers)

    def answer(request: httpx2.Request) -> httpx2.Response:
        paths.append(request.url.raw_path.decode())
        return next(turns)()

    remote = Remote("http://farm:5000", transport=httpx2.MockTransport(answer), sleep=waits.append)
    return remote, waits, paths


def refuse_connection() -> httpx2.Response:
    raise httpx2.ConnectError("connection refused")


def events(*names_and_data: tuple[str, str]) -> Callable[[], httpx2.Response]:
    text = "".join(f"event: {name}\ndata: {data}\n\n" for name, data in names_and_data)
    return lambda: httpx2.Response(200, text=text, headers={"content-type": "text/event-stream"})


def change(status: str) -> tuple[str, str]:
    fields: dict[str, object] = dict.fromkeys(
        (
            "id",
            "progress",
            "overall_progress",
            "tasks_total",
            "tasks_done",
            "tasks_failed",
            "clients_assigned",
        ),
        0,
    )
    fields |= {"status": status, "ui_status": status, "finished": False}
    return rest.EVENT_CHANGE, json.dumps(fields)


def test_following_continues_after_a_restart() -> None:
    remote, waits, _ = scripted(
        events(change("running")),
        refuse_connection,
        lambda: httpx2.Response(503, json={"error": {"status": 503, "message": "Starting."}}),
        events(change("running"), change("succeeded"), (rest.EVENT_END, "{}")),
    )
    assert [c.status for c in remote.follow([1])] == ["running", "running", "succeeded"]
    assert waits == list(RECONNECT_WAITS_S[:3])


def test_following_ends_after_the_time_given(farm: Any, remote: Remote) -> None:
    farm.add_job(1, "running")
    for seconds in (0, 0.01):
        assert [change.status for change in remote.follow([1], seconds=seconds)] == ["running"]


def test_following_a_farm_that_is_gone_ends_after_the_time_given() -> None:
    now = [0.0]

    def pass_time(seconds: float) -> None:
        now[0] += seconds

    transport = httpx2.MockTransport(lambda _: refuse_connection())
    remote = Remote("http://farm", transport=transport, sleep=pass_time, clock=lambda: now[0])
    assert list(remote.follow([1], seconds=2.5)) == []
    assert now[0] == 2.5


def test_output_continues_where_it_broke_off() -> None:
    def part(total: int, complete: str) -> Callable[[], httpx2.Response]:
        headers = {
            rest.HEADER_OFFSET: "0",
            rest.HEADER_TOTAL: str(total),
            rest.HEADER_COMPLETE: complete,
        }
        return lambda: httpx2.Response(200, headers=headers)

    remote, waits, paths = scripted(
        part(3, "false"),
        lambda: httpx2.Response(200, content=b"one"),
        refuse_connection,
        part(6, "false"),
        lambda: httpx2.Response(200, content=b"two"),
        part(6, "true"),
    )
    assert b"".join(remote.follow_output(1)) == b"onetwo"
    assert waits == [RECONNECT_WAITS_S[0]]
    assert paths[-2:] == [
        "/api/v1/jobs/1/output/follow?offset=3",
        "/api/v1/jobs/1/output?offset=6&limit=1",
    ]


def test_waiting_has_an_end() -> None:
    remote, waits, _ = scripted(*[refuse_connection] * (len(RECONNECT_WAITS_S) + 1))
    with pytest.raises(Unreachable, match="too long"):
        list(remote.follow([1]))
    assert waits == list(RECONNECT_WAITS_S)


def test_nothing_there_is_named_with_its_address_and_without_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Remote(f"http://ann:secret@127.0.0.1:{port}") as remote:
        with pytest.raises(Unreachable, match=f"127.0.0.1:{port}") as caught:
            remote.submit({"name": "a"})
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "farm:5000", "ftp://farm", "http://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="no address"):
        Remote(url)


def test_other_servers_are_told_apart() -> None:
    remote, _, _ = scripted(
        lambda: httpx2.Response(404, text="<html>nothing</html>"),
        lambda: httpx2.Response(500, text="oops"),
        lambda: httpx2.Response(200, text="<html>hello</html>"),
    )
    with pytest.raises(NotFound, match="is it a Roost server"):
        remote.job(1)
    with pytest.raises(RoostError, match="500"):
        remote.job(1)
    with pytest.raises(ProtocolError, match="does not read"):
        remote.job(1)

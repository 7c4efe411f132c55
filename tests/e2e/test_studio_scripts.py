"""What a studio's scripts do: big trees, and mistakes."""

from __future__ import annotations

import contextlib
import http.client
import json
import xmlrpc.client
from typing import Any

import pytest


def big_tree(children: int) -> dict[str, Any]:
    frames = [{"name": f"frame {n}", "command": f"render {n}"} for n in range(children)]
    return {"name": "comp", "command": "assemble", "children": frames}


def test_ten_thousand_children_are_accepted_in_one_call(farm: Any) -> None:
    farm.start_server()
    with farm.rpc as rpc:
        ids = rpc.newjob(big_tree(10_000))
        assert ids == list(range(1, 10_002))
        assert len(rpc.getJob(1, ["children"])["children"]) == 10_000
        assert rpc.getNumWaitingJobs() == 10_000


@pytest.mark.parametrize("as_json", [False, True])
def test_a_mistake_in_the_last_child_creates_nothing_and_is_named(farm: Any, as_json: bool) -> None:
    farm.start_server()
    tree = big_tree(10_000)
    tree["children"][-1]["cpus"] = -4
    with farm.rpc as rpc:
        with pytest.raises(xmlrpc.client.Fault) as refused:
            rpc.newjob(json.dumps(tree) if as_json else tree)
        assert "frame 9999" in refused.value.faultString and "cpus" in refused.value.faultString
        assert rpc.getUnfinishedRootJobIds() == rpc.getFinishedRootJobIds() == []
        assert rpc.newjob({"name": "next", "command": "true"}) == [1]


def post(farm: Any, body: bytes, path: str = "/RPC2", kind: str = "text/xml") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", farm.port)
    try:
        # It may be refused before all of it was sent; the answer is there to read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", path, body, {"Content-Type": kind})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def fault_of(answer: bytes) -> xmlrpc.client.Fault:
    with pytest.raises(xmlrpc.client.Fault) as raised:
        xmlrpc.client.loads(answer)
    return raised.value


def call(method: str, *arguments: Any) -> bytes:
    return xmlrpc.client.dumps(arguments, method, allow_none=True).encode()


BOMB = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;&x;&x;&x;&x;">
<!ENTITY z "&y;&y;&y;&y;&y;&y;&y;">]><methodCall><methodName>&z;</methodName></methodCall>"""

BAD_CALLS = {
    "unknown id": call("getJob", 4711),
    "wrong type": call("getJob", {"not": "an id"}),
    "unknown method": call("makeCoffee"),
    "too few arguments": call("getJob"),
    "cycle of an adopted job": call("newjob", {"name": "a", "parentIds": [1], "childrenIds": [1]}),
    "unknown parent": call("newjob", {"name": "a", "command": "true"}, 4711),
    "unknown condition": call(
        "newjob", {"name": "a", "conditions": [{"name": "colour", "op": "==", "value": "red"}]}
    ),
    "negative cpus": call("newjob", {"name": "a", "cpus": -1}),
    "no name": call("newjob", {"command": "true"}),
    "broken JSON": call("newjob", '{"name": "a",'),
    "actions want lists": call("cancelJobs", "all of them"),
    "broken XML": b"<methodCall><methodName>ping</method",
    "not XML": b"hello",
    "a bomb": BOMB,
    "empty": b"",
}


@pytest.mark.parametrize("body", BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_bad_input_gets_one_sentence_and_the_server_goes_on(
    farm_with_one: Any, body: bytes
) -> None:
    farm = farm_with_one
    status, answer = post(farm, body)
    if status == 200:
        text = fault_of(answer).faultString
    else:
        assert 400 <= status < 500
        text = answer.decode()
    assert text.strip() and len(text.strip().splitlines()) == 1
    assert "Traceback" not in text
    with farm.rpc as rpc:
        assert rpc.ping() is True
        assert rpc.getUnfinishedRootJobIds() == [1]


def test_a_body_of_65_mib_is_refused_and_others_are_served_meanwhile(farm_with_one: Any) -> None:
    farm = farm_with_one
    slow = http.client.HTTPConnection("127.0.0.1", farm.port)
    slow.putrequest("POST", "/RPC2")
    slow.putheader("Content-Type", "text/xml")
    slow.putheader("Content-Length", str(65 * 1024 * 1024))
    slow.endheaders()
    with farm.rpc as rpc:
        assert rpc.ping() is True
    assert slow.getresponse().status == 413
    slow.close()


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data"])
def test_a_foreign_content_type_is_refused(farm_with_one: Any, kind: str) -> None:
    status, _ = post(farm_with_one, call("ping"), "/xmlrpc", kind)
    assert status == 415


def test_two_root_jobs_that_would_be_each_others_descendants_are_refused(farm: Any) -> None:
    farm.start_server()
    with farm.rpc as rpc:
        parent = rpc.newjob({"name": "parent", "children": [{"name": "child", "command": "x"}]})
        with pytest.raises(xmlrpc.client.Fault, match="descendant"):
            rpc.newjob({"name": "knot", "parentIds": [parent[1]], "childrenIds": [parent[0]]})
        assert rpc.getUnfinishedRootJobIds() == [parent[0]]


def test_notes_on_finished_jobs_and_machines_survive_a_kill(farm: Any) -> None:
    farm.start_server()
    farm.start_agent("a")
    job = farm.submit()
    farm.wait(job, "succeeded")
    with farm.rpc as rpc:
        client = rpc.getClients(None, ["id"])[0]["id"]
        assert rpc.addNote("too dark", None, job, None) is True
        assert rpc.addNote("new disk", None, None, client) is True
        assert rpc.addNote("agreed", rpc.getJob(job)["threadId"], None, None) is True
    farm.server.kill()
    farm.start_server()
    with farm.rpc as rpc:
        assert rpc.getJob(job, ["latestNote", "threadId"]) == {
            "latestNote": "agreed", "threadId": 1,
        }  # fmt: skip
        assert rpc.getClient(client, ["latestNote", "threadId"]) == {
            "latestNote": "new disk", "threadId": 2,
        }  # fmt: skip
        notes = rpc.getNoteThreads(None, ["notes"], ["id", "text"])[0]["notes"]
        assert [note["text"] for note in notes] == ["too dark", "agreed"]
        assert rpc.removeNotes([notes[0]["id"]]) == [notes[0]["id"]]
        rpc.deleteJobs([job])
        assert rpc.getNoteThreadIds() == [2]
        assert rpc.addNote("on its own") is True
        assert rpc.getNoteThreadIds() == [2, 3]

"""Every mistake a caller can make, made from the table of methods: each argument of each method,
and each key of a job specification, as every kind of value that XML-RPC has, and as the values that
break programs. The server is real: socket, engine, farm, database.

The rule is the same for all of them. HTTP 200, and in it either an answer of the method's type or a
Fault with one short sentence; where it is a Fault, nothing has been saved.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import re
import socket
import sqlite3
import threading
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette

from roost.core import invariants, jobspec
from roost.core.messages import NodeJoined, SetNodeDisabled
from roost.core.records import NodeFacts, NodeId
from roost.core.state import Rules
from roost.hqueue import dispatch
from roost.server.access import Access
from roost.server.engine import Engine
from roost.store.database import Database
from roost.store.output import OutputStore

SENTENCE_CHARS_MAX = 300
FAULTS = {400, 403, 404, 409, 413}
TYPES: dict[str, type] = {
    "boolean": bool,
    "string": str,
    "int": int,
    "array": list,
    "struct": dict,
    "nil": type(None),
    "dateTime.iso8601": xmlrpc.client.DateTime,
}
NONE_TOO = {"getConfig", "getHQRoot", "setdisabled", "threadExists"}
"""Methods whose page says "or None"."""


# --- a real server in this process ---------------------------------------------------------------


class Server:
    """What `roost server` puts together, with a node but no agent, and a look at its database."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "roost.db"
        self._folder = folder
        self._ready = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        self._ready.wait()
        port = self._listening.getsockname()[1]
        self.rpc: Any = xmlrpc.client.ServerProxy(f"http://127.0.0.1:{port}", allow_none=True)
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._disk = sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)

    async def _serve(self) -> None:
        database = Database(f"sqlite:///{self._file}")
        await database.migrate()
        engine = Engine(database, Rules(), lambda _: None, lambda _: None, lambda: None)
        await engine.load()
        running = asyncio.ensure_future(engine.run())
        node = await engine.ask(NodeJoined(NodeFacts("render1", "a", cpus=8)))  # type: ignore[arg-type]
        await engine.ask(SetNodeDisabled(NodeId(node), True))  # type: ignore[arg-type]
        output = OutputStore(self._folder / "output")
        access = Access(engine, database, output, {})
        app = dispatch.Endpoint(access, Starlette())
        config = uvicorn.Config(
            app, lifespan="off", log_config=None, access_log=False, timeout_keep_alive=600
        )
        self._uvicorn = uvicorn.Server(config)
        self.farm = engine.farm
        self._ready.set()
        await self._uvicorn.serve(sockets=[self._listening])
        invariants.check(engine.farm)
        engine.stop()
        await running
        await database.close()

    def close(self) -> None:
        self._disk.close()
        self._connection.close()
        self.rpc("close")()
        self._uvicorn.should_exit = True
        self._thread.join()
        self._listening.close()

    def post(self, method: str, *values: str) -> Any:
        """The answer to a call of these values, each written as XML; a `Fault` is returned."""
        params = "".join(f"<param><value>{value}</value></param>" for value in values)
        call = (
            f"<methodCall><methodName>{method}</methodName><params>{params}</params></methodCall>"
        )
        self._connection.request(
            "POST", "/RPC2", call.encode(), {"Content-Type": "text/xml; charset=utf-8"}
        )
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        try:
            return xmlrpc.client.loads(body)[0][0]
        except xmlrpc.client.Fault as fault:
            return fault

    def saved(self) -> int:
        """A number that changes whenever anything is saved, in whichever table."""
        self.rpc.getRunningJobIds()  # rows are written before anybody reads, not by what comes next
        return int(self._disk.execute("PRAGMA data_version").fetchone()[0])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


# --- what may go wrong ---------------------------------------------------------------------------


def text(value: str) -> str:
    return f"<string>{value.replace('&', '&amp;').replace('<', '&lt;')}</string>"


def array(*items: str) -> str:
    return f"<array><data>{''.join(f'<value>{item}</value>' for item in items)}</data></array>"


def struct(**members: str) -> str:
    body = "".join(
        f"<member><name>{name}</name><value>{value}</value></member>"
        for name, value in members.items()
    )
    return f"<struct>{body}</struct>"


def number(value: int) -> str:
    return f"<i8>{value}</i8>"


LONG = "long " * 200_000
HOSTILE = {
    "nothing": "<nil/>",
    "true": "<boolean>1</boolean>",
    "minus one": number(-1),
    "nought": number(0),
    "unknown id": number(4711),
    "largest int": number(2**31 - 1),
    "beyond 32 bits": number(2**40),
    "beyond a double": number(2**53),
    "beyond 64 bits": number(2**64),
    "least": number(-(2**63)),
    "fraction": "<double>1.5</double>",
    "large double": "<double>1e300</double>",
    "infinite": "<double>inf</double>",
    "not a number": "<double>nan</double>",
    "empty text": text(""),
    "blank text": text(" \t\n "),
    "word": text("word"),
    "number in text": text("4711"),
    "long number in text": text("9" * 400),
    "other digits": text("٤٧١١"),
    "megabyte": text(LONG),
    "markup": text("<script>alert('&amp;')</script>]]&gt;"),
    "right to left": text("\u202egnp.\u2066evil\u2069" + "\u202e" * 100),
    "emoji": text("🦉" * 100),
    "lines": text("one\ntwo\r\nthree\u2028four\x85five"),
    "format": text("%s %n {0} {self} $HOME ../../etc/passwd '; DROP TABLE jobs; --"),
    "lone surrogate": "<string>&#xD800;</string>",
    "NUL": "<string>&#0;</string>",
    "date": "<dateTime.iso8601>20260101T00:00:00</dateTime.iso8601>",
    "no date": "<dateTime.iso8601>yesterday</dateTime.iso8601>",
    "bytes": "<base64>/wD+</base64>",
    "no base64": "<base64>§</base64>",
    "no int": "<int>many</int>",
    "no boolean": "<boolean>maybe</boolean>",
    "unknown type": "<colour>red</colour>",
    "empty list": array(),
    "list of nothing": array("<nil/>"),
    "list of lists": array(array(array())),
    "list of words": array(text("word"), text("")),
    "list of unknown ids": array(number(4711), number(2**40)),
    "list of one too large": array(number(2**53)),
    "list of hostile text": array(text("\u202e" * 100), text(LONG)),
    "list of objects": array(struct(name=text("word"))),
    "same twice": array(number(1), number(1)),
    "empty object": struct(),
    "object": struct(name=text("word"), type=text("client")),
    "deep": "".join(["<array><data><value>"] * 300 + ["</value></data></array>"] * 300),
}

RIGHT = {
    "attribs": array(text("id")),
    "child_ids": array(),
    "client_id": number(1),
    "client_ids": array(number(1)),
    "clientname": text("render1:a"),
    "clientnames": array(text("render1:a")),
    "clients_list": array(text("render1:a")),
    "cmd": text("true"),
    "disabled": "<boolean>1</boolean>",
    "is_client": "<boolean>1</boolean>",
    "jobspec": struct(name=text("job")),
    "key": text("port"),
    "limit": number(5),
    "max_last_chars": number(5),
    "max_priority": number(5),
    "min_priority": number(0),
    "name": text("group"),
    "note_attribs": array(text("id")),
    "note_text": text("too dark"),
    "parent_id": "<nil/>",
    "platform": text("linux"),
    "priority": number(5),
    "resource_ids": array(number(1)),
    "state": "<boolean>1</boolean>",
    "statuses": array(text("running")),
    "thread_attribs": array(text("id")),
    "wait_time": number(0),
}
"""A value that is right for each parameter that needs no thing made for it."""


def things(server: Server) -> dict[str, str]:
    """Right values, with a fresh job, group, thread and note."""
    (job,) = server.rpc.newjob({"name": "job", "command": "true"})
    server.rpc.addNote("a note", None, job, None)
    thread = server.rpc.getJob(job, ["threadId"])["threadId"]
    note = server.rpc.getNoteThreads([thread], ["notes"], ["id"])[0]["notes"][0]["id"]
    group = server.rpc.createClientGroup(f"group {job}")
    ids = {"job": job, "thread": thread, "note": note, "group": group}
    made = {f"{name}_id": number(value) for name, value in ids.items()}
    made |= {f"{name}_ids": array(number(value)) for name, value in ids.items()}
    return RIGHT | made


# --- the rule ------------------------------------------------------------------------------------


def check_sentence(said: str) -> None:
    assert said.strip() == said and said.endswith("."), said
    assert len(said.splitlines()) == 1, said
    assert len(said) <= SENTENCE_CHARS_MAX, said
    assert not re.search(r"Traceback|<class|object at 0x|\broost\.|\b[A-Z]\w*Error\b", said), said


def check_call(server: Server, method: str, *values: str) -> Any:
    """Call, and hold the answer against the rule."""
    before = server.saved()
    answer = server.post(method, *values)
    if isinstance(answer, xmlrpc.client.Fault):
        assert answer.faultCode in FAULTS, answer
        check_sentence(answer.faultString)
        assert server.saved() == before, f"saved something, and then refused: {answer}"
    elif not (answer is None and method in NONE_TOO):
        assert type(answer) is TYPES[dispatch.METHODS[method].answer], answer
    return answer


@pytest.mark.parametrize("method", dispatch.METHODS)
def test_a_wrong_argument_gets_an_answer_or_one_sentence_and_changes_nothing(
    server: Server, method: str
) -> None:
    right = things(server)
    names = [parameter.name for parameter in dispatch.METHODS[method].parameters]
    for place, name in enumerate(names):
        for label, wrong in HOSTILE.items():
            values = [right[each] for each in names]
            values[place] = wrong
            try:
                check_call(server, method, *values)
            except AssertionError as error:
                raise AssertionError(f"{method}: {name} is {label}") from error


@pytest.mark.parametrize("method", dispatch.METHODS)
def test_a_missing_argument_is_named_and_a_surplus_one_is_ignored(
    server: Server, method: str
) -> None:
    right = things(server)
    parameters = dispatch.METHODS[method].parameters
    values = [right[parameter.name] for parameter in parameters]
    for given, parameter in enumerate(parameters):
        if parameter.required:
            answer = check_call(server, method, *values[:given])
            assert isinstance(answer, xmlrpc.client.Fault), answer
            assert answer.faultCode == 400 and parameter.name in answer.faultString
    surplus = check_call(server, method, *values, text("more"), "<nil/>", struct())
    assert not isinstance(surplus, xmlrpc.client.Fault), surplus


@pytest.mark.parametrize("key", jobspec.PROPERTIES)
def test_a_wrong_value_in_a_specification_is_read_or_named_and_creates_nothing(
    server: Server, key: str
) -> None:
    for label, wrong in HOSTILE.items():
        spec = struct(**{"name": text("a job"), "command": text("true"), key: wrong})
        nested = struct(name=text("above"), children=array(struct(name=text("good")), spec))
        for submitted in (spec, array(spec), nested):
            try:
                answer = check_call(server, "newjob", submitted)
                if isinstance(answer, xmlrpc.client.Fault):
                    assert re.search(f"{key}|child|parent|XML|be read", answer.faultString), answer
            except AssertionError as error:
                raise AssertionError(f"{key} is {label}") from error


JSON_MISTAKES = {
    "surrogate": r'{"name": "\ud800"}',
    "NUL": r'{"name": "a\u0000b"}',
    "bidi and NUL": json.dumps({"name": "\u202e" * 100 + "\0"}),
    "owls and NUL": json.dumps({"name": "🦉" * 100 + "\0"}),
    "number": "5",
    "text": '"a"',
    "nothing": "null",
    "empty list": "[]",
    "list of numbers": "[1]",
    "infinite": '{"name": "a", "cpus": 1e999}',
    "unclosed": '{"name": "a',
    "trailing": '{"name": "a"} x',
    "comment": '{"name": "a" /* b */}',
    "deep": "[" * 10_000 + "]" * 10_000,
    "empty": "",
    "long key": json.dumps({"name": "a", "command": {LONG: "true"}}),
    "long variable": json.dumps({"name": "a", "environment": {LONG: []}}),
    "hostile variable": json.dumps({"name": "a", "environment": {"\u202e" * 100 + "=": "1"}}),
    "long resource": json.dumps({"name": "a", "resources": {LONG: "x"}}),
    "long stub": json.dumps({"name": "a", "childStubIds": [LONG]}),
    "twin stubs": json.dumps(
        {"name": LONG, "children": [{"name": LONG, "stubId": "🦉" * 100 + "\u202e"}] * 2}
    ),
    "cycle": json.dumps({"name": "\u202e" * 200, "stubId": "a", "childStubIds": ["a"]}),
    "ring": json.dumps(
        [
            {"name": "\u202e" * 100 + str(i), "stubId": str(i), "childStubIds": [str((i + 1) % 99)]}
            for i in range(99)
        ]
    ),
}


@pytest.mark.parametrize("mistake", JSON_MISTAKES.values(), ids=JSON_MISTAKES.keys())
def test_a_mistake_in_json_gets_one_sentence(server: Server, mistake: str) -> None:
    assert isinstance(check_call(server, "newjob", text(mistake)), xmlrpc.client.Fault)


@pytest.mark.parametrize(
    "method", ["", " ", "ping ", "PING", "system", "system.", "__init__", "🦉"]
)
def test_a_method_that_does_not_exist_is_fault_0_or_400(server: Server, method: str) -> None:
    answer = server.post(method)
    assert isinstance(answer, xmlrpc.client.Fault) and answer.faultCode in (0, 400)
    check_sentence(answer.faultString)


def test_nothing_that_was_said_above_has_been_a_bug(server: Server) -> None:
    assert server.rpc.getServerErrors() == {}
    before = server.saved()
    assert server.rpc.addNote("and this is how a change would have been seen") is True
    assert server.saved() != before

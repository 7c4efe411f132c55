"""What callers are sent, and in how many pieces; which requests are plain calls."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from roost.server.connection import LARGE_BYTES, JoiningTransport, body_size, connection_class


class Below(asyncio.Transport):
    """Remembers what is sent at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closed = False

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.sent.append(b"".join(list_of_data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
def turn() -> list[Callable[[], None]]:
    """What the loop has been asked to do in its next turn."""
    return []


@pytest.fixture
def below() -> Below:
    return Below()


@pytest.fixture
def transport(below: Below, turn: list[Callable[[], None]]) -> JoiningTransport:
    return JoiningTransport(below, turn.append)


def test_a_head_leaves_together_with_its_body_and_at_once(
    transport: JoiningTransport, below: Below
) -> None:
    transport.write(b"head ")
    assert below.sent == []
    transport.write(b"body")
    assert below.sent == [b"head body"]


def test_what_is_followed_by_nothing_leaves_when_the_turn_ends(
    transport: JoiningTransport, below: Below, turn: list[Callable[[], None]]
) -> None:
    transport.write(b"alone")
    turn.pop()()
    transport.write(b"next")
    turn.pop()()
    assert below.sent == [b"alone", b"next"]


def test_large_pieces_are_not_kept_back(transport: JoiningTransport, below: Below) -> None:
    transport.write(b"x" * LARGE_BYTES)
    assert below.sent == [b"x" * LARGE_BYTES]


def test_everything_is_sent_before_the_end(transport: JoiningTransport, below: Below) -> None:
    transport.write(b"bye")
    transport.close()
    assert below.sent == [b"bye"] and below.closed


def test_nothing_is_sent_to_who_has_gone(
    transport: JoiningTransport, below: Below, turn: list[Callable[[], None]]
) -> None:
    transport.write(b"late")
    below.close()
    turn.pop()()
    assert below.sent == []


# --- plain calls ---------------------------------------------------------------------------------

CALL = b"POST /RPC2 HTTP/1.1\r\nHost: farm\r\nContent-Type: text/xml\r\nContent-Length: 5\r\n\r\n"
"""The head of one."""
BODY_BYTES_MAX = 1_000


class Farm:
    """Answers calls with their bodies, when it may; and what uvicorn gets, in its own words."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.calls: list[bytes] = []
        self.hosts: set[str | None] = set()
        self.answer_size = 0
        self.port = 0
        self.clients: list[asyncio.StreamWriter] = []
        self.server: uvicorn.Server

    async def respond(self, body: bytes, host: str | None) -> bytes:
        self.calls.append(body)
        self.hosts.add(host)
        await self.may_answer.wait()
        return (b"<%s>" % body).ljust(self.answer_size)

    async def others(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        await PlainTextResponse(b"uvicorn has " + body)(scope, receive, send)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.clients.append(writer)
        return reader, writer


@pytest.fixture
async def farm() -> AsyncIterator[Farm]:
    farm = Farm()
    http = connection_class(lambda *_: b"", farm.respond, BODY_BYTES_MAX)
    config = uvicorn.Config(
        farm.others,
        interface="asgi3",
        http=http,
        log_config=None,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    farm.server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    farm.port = listener.getsockname()[1]
    farm.server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    serving = asyncio.ensure_future(farm.server.serve(sockets=[listener]))
    yield farm
    farm.may_answer.set()
    for client in farm.clients:
        client.close()
    for client in farm.clients:
        with contextlib.suppress(ConnectionError):
            await client.wait_closed()
    farm.server.should_exit = True
    await serving


async def answer_on(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    return await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))


async def test_a_plain_call_passes_uvicorn_by(farm: Farm) -> None:
    reader, writer = await farm.connect()
    writer.write(CALL + b"first")
    head = await reader.readuntil(b"\r\n\r\n")
    assert [line.partition(b":")[0] for line in head.split(b"\r\n")] == [
        b"HTTP/1.1 200 OK",
        b"date",
        b"content-type",
        b"content-length",
        b"",
        b"",
    ]
    assert await reader.readexactly(7) == b"<first>"
    assert farm.hosts == {"127.0.0.1"}


async def test_a_call_may_come_in_pieces(farm: Farm) -> None:
    reader, writer = await farm.connect()
    for piece in (CALL[:5], CALL[5:-1], CALL[-1:], b"fi", b"rst"):
        writer.write(piece)
        await one_call(farm, b"other")  # and then this piece has been looked at
    assert await answer_on(reader) == b"<first>"


async def one_call(farm: Farm, body: bytes) -> bytes:
    reader, writer = await farm.connect()
    writer.write(CALL + body)
    return await answer_on(reader)


async def test_calls_sent_ahead_are_answered_one_after_the_other(farm: Farm) -> None:
    farm.may_answer.clear()
    reader, writer = await farm.connect()
    writer.write(CALL + b"first" + CALL + b"again" + CALL[:20])
    await until(lambda: farm.calls == [b"first"])
    writer.write(CALL[20:] + b"third")
    farm.may_answer.set()
    answers = [await answer_on(reader) for _ in range(3)]
    assert answers == [b"<first>", b"<again>", b"<third>"]


async def test_however_many_are_sent_ahead(farm: Farm) -> None:
    reader, writer = await farm.connect()
    writer.write((CALL + b"first") * 3_000)
    assert {await answer_on(reader) for _ in range(3_000)} == {b"<first>"}


async def test_who_sends_calls_and_reads_no_answers_is_not_answered_for_ever(farm: Farm) -> None:
    farm.answer_size = 1 << 20
    reader, writer = await farm.connect()
    writer.write((CALL + b"first") * 100)
    await until(lambda: bool(farm.calls))
    for _ in range(100):
        await one_call(farm, b"other")
    assert farm.calls.count(b"first") < 50
    for _ in range(100):
        assert len(await answer_on(reader)) == 1 << 20


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: farm\r\n\r\n",
        CALL.replace(b"Host:", b"X-Forwarded-For: 10.0.0.1\r\nHost:") + b"first",
        CALL.replace(b"Length: 5", b"Length: 5\r\nConnection: TE, keep-alive") + b"first",
        CALL.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked")
        + b"5\r\nfirst\r\n0\r\n\r\n",
        CALL.replace(b"text/xml", b"text/plain") + b"first",
        CALL.replace(b"/RPC2", b"/elsewhere") + b"first",
        CALL.replace(b"Length: 5", b"Length: 2000") + b"x" * 2000,
        CALL.replace(b"Host:", b"A: b\r\nHost:") + b"first",
    ],
)
async def test_every_other_request_is_left_to_uvicorn_and_so_is_what_follows(
    farm: Farm, request_: bytes
) -> None:
    reader, writer = await farm.connect()
    writer.write(CALL + b"plain" + request_)
    assert await answer_on(reader) == b"<plain>"
    assert (await answer_on(reader)).startswith(b"uvicorn has ")
    writer.write(CALL + b"after")
    assert await answer_on(reader) == b"uvicorn has after"
    assert farm.calls == [b"plain"]


@pytest.mark.parametrize(
    "head",
    [
        CALL[:-4] + b"\r\nContent-Length: 6",
        CALL[:-4] + b"\r\n folded",
        CALL[:-4] + b"\r\nHost: a\nTransfer-Encoding: chunked",
        CALL[:-4].replace(b"Length: 5", b"Length: +5"),
        CALL[:-4].replace(b"Length: 5", b"Length: 5, 5"),
        CALL[:-4].replace(b"Host:", b"Host :"),
        CALL[:-4].replace(b"HTTP/1.1", b"HTTP/1.0"),
        CALL[:-4].replace(b"POST ", b"POST  "),
    ],
)
def test_a_head_that_could_be_read_in_two_ways_is_not_plain(head: bytes) -> None:
    assert body_size(CALL[:-4]) == 5
    assert body_size(CALL[:-4] + b"\r\nConnection: Keep-Alive") == 5
    assert body_size(head) is None


async def test_a_stop_waits_for_the_answer_under_way_and_ends_the_connection(farm: Farm) -> None:
    farm.may_answer.clear()
    reader, writer = await farm.connect()
    writer.write(CALL + b"first")
    await until(lambda: bool(farm.calls))
    for connection in tuple(farm.server.server_state.connections):
        connection.shutdown()
    farm.may_answer.set()
    assert await answer_on(reader) == b"<first>"
    assert await reader.read() == b""


async def test_a_server_that_stops_waits_for_an_answer_only_so_long(farm: Farm) -> None:
    farm.may_answer.clear()
    reader, writer = await farm.connect()
    writer.write(CALL + b"first")
    await until(lambda: bool(farm.calls))
    farm.server.should_exit = True
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    await until(lambda: not farm.server.server_state.tasks)


async def test_a_connection_ends_when_nothing_has_been_asked_for_a_while(farm: Farm) -> None:
    farm.server.config.timeout_keep_alive = 0
    reader, writer = await farm.connect()
    writer.write(CALL + b"first")
    assert await answer_on(reader) == b"<first>"
    assert await reader.read() == b""


async def test_who_has_gone_does_not_get_an_answer_and_leaves_nothing_behind(farm: Farm) -> None:
    farm.may_answer.clear()
    _, writer = await farm.connect()
    writer.write(CALL + b"first")
    await until(lambda: bool(farm.calls))
    writer.transport.abort()
    await until(lambda: not farm.server.server_state.connections)
    farm.may_answer.set()
    await until(lambda: not farm.server.server_state.tasks)


async def until(holds: Callable[[], bool]) -> None:
    """Turns of the loop, in which what was sent arrives."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  (there is no event for what uvicorn does)
            await asyncio.sleep(0)

"""Connections of agents, on a real server and real sockets."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator

import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.frames import CloseCode

from roost.server import websocket
from roost.server.websocket import websocket_class
from roost.websocket import WebSocket

PATH = "/link"
BYTES_MAX = 1_000_000
PATIENCE_S = 10.0


class Ears:
    """Remembers what one connection has said, and echoes what is small."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.heard: list[bytes] = []
        self.ended = asyncio.Event()
        self.was_drained = asyncio.Event()

    def receive(self, data: bytes) -> None:
        assert not self.ended.is_set()
        self.heard.append(data)
        self.socket.send(data)

    def drained(self) -> None:
        self.was_drained.set()

    def end(self) -> None:
        assert not self.ended.is_set()
        self.ended.set()


class Server:
    def __init__(self) -> None:
        self.sessions: list[Ears] = []
        self.port = 0

    def open(self, socket: WebSocket) -> Ears:
        self.sessions.append(Ears(socket))
        return self.sessions[-1]

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}{PATH}"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()

    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("a WebSocket is no business of the application's")

    config = uvicorn.Config(
        app,
        port=0,
        log_config=None,
        lifespan="off",
        ws=websocket_class(PATH, BYTES_MAX, served.open),
    )
    config.load()
    running = uvicorn.Server(config)
    running.lifespan = config.lifespan_class(config)
    await running.startup()
    served.port = running.servers[0].sockets[0].getsockname()[1]
    yield served
    await asyncio.wait_for(running.shutdown(), PATIENCE_S)


async def wait(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), PATIENCE_S)


async def close_code(client: ClientConnection) -> int | None:
    await asyncio.wait_for(client.wait_closed(), PATIENCE_S)
    return client.close_code


async def test_messages_come_whole_and_in_order(server: Server) -> None:
    async with connect(server.url, proxy=None) as client:
        await client.send(b"one")
        await client.send([b"tw", b"o, in ", b"pieces"])
        await client.send(b"")
        assert [await client.recv() for _ in range(3)] == [b"one", b"two, in pieces", b""]
    [session] = server.sessions
    await wait(session.ended)
    assert session.heard == [b"one", b"two, in pieces", b""]


async def test_a_page_in_a_browser_is_no_agent(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(server.url, proxy=None, origin="http://evil.example"):  # type: ignore[arg-type]
            pass
    assert refused.value.response.status_code == 403
    assert server.sessions == []


async def test_no_compression_is_agreed_on(server: Server) -> None:
    async with connect(server.url, proxy=None, compression="deflate") as client:
        assert client.protocol.extensions == []


async def test_a_ping_is_answered(server: Server) -> None:
    async with connect(server.url, proxy=None) as client:
        await asyncio.wait_for(await client.ping(), PATIENCE_S)


async def test_another_path_is_refused(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        await connect(server.url + "/other", proxy=None)
    assert refusal.value.response.status_code == 403
    assert not server.sessions


async def test_text_ends_the_connection(server: Server) -> None:
    async with connect(server.url, proxy=None) as client:
        await client.send("text")
        assert await close_code(client) == CloseCode.UNSUPPORTED_DATA
    assert server.sessions[0].ended.is_set()
    assert not server.sessions[0].heard


async def test_a_message_beyond_the_limit_ends_the_connection(server: Server) -> None:
    async with connect(server.url, proxy=None) as client:
        await client.send([bytes(BYTES_MAX), b"+"])
        assert await close_code(client) == CloseCode.MESSAGE_TOO_BIG
    assert server.sessions[0].ended.is_set()
    assert not server.sessions[0].heard


async def test_what_breaks_the_protocol_ends_the_connection(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {PATH} HTTP/1.1\r\nHost: farm\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    writer.write(b"\x82\x01!")  # a client must mask
    ending = await asyncio.wait_for(reader.read(), PATIENCE_S)
    assert ending[:1] == b"\x88"
    assert int.from_bytes(ending[2:4]) == CloseCode.PROTOCOL_ERROR
    await wait(server.sessions[0].ended)
    writer.close()


async def test_nothing_is_heard_or_said_after_the_end(server: Server) -> None:
    async with connect(server.url, proxy=None) as client:
        await client.send(b"one")
        await client.recv()
        [session] = server.sessions
        session.socket.close()
        assert session.ended.is_set()
        session.socket.send(b"late")
        with pytest.raises(ConnectionClosedOK):
            await client.recv()


async def test_a_connection_fills_when_nobody_reads_and_drains_when_somebody_does(
    server: Server,
) -> None:
    async with connect(server.url, proxy=None, max_queue=1, max_size=None) as client:
        await client.send(b"begin")
        await client.recv()
        [session] = server.sessions
        sent = 0
        while not session.socket.is_full:
            session.socket.send(bytes(100_000))
            sent += 1
            await asyncio.sleep(0)
        assert not session.was_drained.is_set()
        for _ in range(sent):
            await client.recv()
        await wait(session.was_drained)
        assert not session.socket.is_full


async def test_whoever_is_silent_is_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "SILENT_S_MAX", 0.05)
    async with connect(server.url, proxy=None, ping_interval=None) as client:
        with pytest.raises(ConnectionClosedError):
            await asyncio.wait_for(client.recv(), PATIENCE_S)
    assert server.sessions[0].ended.is_set()


async def test_whoever_does_not_agree_to_the_end_is_cut_off(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_S_MAX", 0.05)
    async with connect(server.url, proxy=None) as client:
        await client.send(b"one")
        await client.recv()
        client.transport.pause_reading()
        [session] = server.sessions
        lost = asyncio.Event()
        session.socket.connection_lost = lambda _: lost.set()  # type: ignore[method-assign]
        session.socket.close()
        await wait(lost)
        session.socket.__class__.connection_lost(session.socket, None)
        client.transport.resume_reading()


async def test_a_server_that_stops_says_so(server: Server) -> None:
    async with connect(server.url, proxy=None) as client:
        await client.send(b"one")
        await client.recv()
        server.sessions[0].socket.shutdown()
        assert await close_code(client) == CloseCode.SERVICE_RESTART

"""The agent's end of the link, to servers of all sorts, on real sockets and on either loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode, Frame, Opcode

from roost.agent.link import Link, Waits
from roost.agent.websocket import Patience
from roost.core.messages import AttemptOrder
from roost.core.records import JobId, NodeFacts, NodeId
from roost.wire import link as wire

PATIENCE_S = 10.0
SHORT_S = 0.05
FACTS = NodeFacts("render1", installation="one", cpus=2)
WELCOME = wire.Welcome(NodeId(1), 60_000)


class Connection(ServerConnection):
    """Counts pings."""

    pings = 0

    def process_event(self, event: object) -> None:
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            self.pings += 1
        super().process_event(event)  # type: ignore[arg-type]


class Server:
    """Welcomes whoever says hello, and keeps what it is told."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[Connection] = asyncio.Queue()
        """Those that were welcomed."""
        self.said: asyncio.Queue[list[wire.FromAgent]] = asyncio.Queue()
        self.ends: asyncio.Queue[int | None] = asyncio.Queue()
        """Their close codes."""
        self.greeting: bytes | str | None = wire.encode([WELCOME])
        self.url = ""

    async def handle(self, connection: ServerConnection) -> None:
        assert isinstance(connection, Connection)
        with contextlib.suppress(ConnectionClosed):
            await connection.recv()
            if self.greeting is not None:
                await connection.send(self.greeting)
            self.connections.put_nowait(connection)
            async for frame in connection:
                assert isinstance(frame, bytes)
                self.said.put_nowait(wire.decode_from_agent(frame))
        await connection.wait_closed()
        self.ends.put_nowait(connection.close_code)

    async def joined(self) -> Connection:
        """The next connection of an agent."""
        return await asyncio.wait_for(self.connections.get(), PATIENCE_S)

    async def heard(self) -> list[wire.FromAgent]:
        """The messages of the next frame."""
        return await asyncio.wait_for(self.said.get(), PATIENCE_S)

    async def ended(self) -> int | None:
        return await asyncio.wait_for(self.ends.get(), PATIENCE_S)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()
    # What is not read stays with the agent, not in the kernel.
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    listener.bind(("127.0.0.1", 0))
    async with serve(
        served.handle,
        sock=listener,
        compression=None,
        max_size=wire.FRAME_BYTES_MAX,
        create_connection=Connection,
        ping_interval=None,
        close_timeout=SHORT_S,
    ):
        served.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield served


class Agent:
    """What stands behind a link."""

    def __init__(self, server: str, **more: Patience) -> None:
        self.frames: deque[list[wire.FromAgent]] = deque()
        """To be sent."""
        self.asked = 0
        """How often it was asked for a frame."""
        self.told: asyncio.Queue[list[wire.FromServer]] = asyncio.Queue()
        self.downs = 0
        self.failure: Exception | None = None
        """To be raised when something is heard, after the welcome, or is to be said."""
        self.link = Link(
            server,
            hello=lambda: wire.Hello(wire.PROTOCOL, FACTS),
            receive=self.receive,
            fill=self.fill,
            down=self.down,
            waits=Waits(0.01, 0.05),
            **more,
        )
        self.running = asyncio.create_task(self.link.run())

    def receive(self, messages: list[wire.FromServer]) -> None:
        if self.failure is not None and messages != [WELCOME]:
            raise self.failure
        self.told.put_nowait(messages)

    def fill(self) -> list[wire.FromAgent]:
        self.asked += 1
        if self.failure is not None and self.frames:
            raise self.failure
        return self.frames.popleft() if self.frames else []

    def down(self) -> None:
        self.downs += 1

    def say(self, *frames: list[wire.FromAgent]) -> None:
        self.frames += frames
        self.link.wake()

    async def heard(self) -> list[wire.FromServer]:
        return await asyncio.wait_for(self.told.get(), PATIENCE_S)

    async def stop(self) -> None:
        self.running.cancel()
        await asyncio.wait_for(asyncio.wait([self.running]), PATIENCE_S)


AgentMaker = Callable[..., Agent]


@pytest.fixture
async def make_agent(server: Server) -> AsyncIterator[AgentMaker]:
    made: list[Agent] = []

    def make(url: str = "", **more: Patience) -> Agent:
        made.append(Agent(url or server.url, **more))
        return made[-1]

    yield make
    for agent in made:
        await agent.stop()
        if not agent.running.cancelled():
            agent.running.exception()


@pytest.fixture
async def agent(make_agent: AgentMaker) -> Agent:
    """One that was welcomed."""
    agent = make_agent()
    assert await agent.heard() == [WELCOME]
    return agent


class Log(logging.Handler):
    """What the agent's log says, text by text."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.put_nowait(record.getMessage())

    async def why(self) -> str:
        """Why the server cannot be reached, as is said next."""
        text = await asyncio.wait_for(self.texts.get(), PATIENCE_S)
        assert text.startswith("The server at ws")
        return text.partition(" cannot be reached: ")[2]


@pytest.fixture
async def log() -> AsyncIterator[Log]:
    log, logger = Log(), logging.getLogger("roost.agent.link")
    logger.addHandler(log)
    before = logger.level
    logger.setLevel(logging.INFO)
    yield log
    logger.setLevel(before)
    logger.removeHandler(log)


def output(size: int, offset: int = 0) -> list[wire.FromAgent]:
    return [wire.Output(JobId(1), 1, offset, bytes(size))]


def order(command: str) -> wire.Start:
    return wire.Start(AttemptOrder(JobId(1), 1, "", command, {}))


# --- what is heard ----------------------------------------------------------------------------


async def test_what_the_server_says_comes_frame_by_frame(server: Server, agent: Agent) -> None:
    connection = await server.joined()
    first, second = [order("one"), order("two")], [order("three")]
    connection.protocol.send_binary(wire.encode(first))
    connection.protocol.send_binary(wire.encode(second))
    connection.send_data()
    assert [await agent.heard(), await agent.heard()] == [first, second]


async def test_frames_in_fragments_are_heard_whole(server: Server, agent: Agent) -> None:
    connection = await server.joined()
    for said in ([order("x" * 1000)], [order("y" * 1000)]):
        frame = wire.encode(said)
        await connection.send([frame[:1], frame[1:500], b"", frame[500:]])
        assert await agent.heard() == said


async def test_a_ping_of_the_server_is_answered(server: Server, agent: Agent) -> None:
    connection = await server.joined()
    await asyncio.wait_for(await connection.ping(), PATIENCE_S)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"\x93never", "This is not a frame of the agent link: "),
        ("text", "it breaks the protocol: a text frame"),
        (bytes(wire.FRAME_BYTES_MAX + 1), "it breaks the protocol: frame with 4194305 bytes"),
    ],
)
async def test_what_is_no_frame_of_the_link_ends_the_connection_and_not_the_agent(
    server: Server, agent: Agent, log: Log, frame: bytes | str, why: str
) -> None:
    connection = await server.joined()
    await connection.send(frame)
    assert (await log.why()).startswith(why)
    await server.joined()
    assert agent.downs == 1


async def test_nothing_is_heard_behind_what_ends_the_connection(
    server: Server, agent: Agent
) -> None:
    connection = await server.joined()
    connection.protocol.send_binary(b"\x93never")
    connection.protocol.send_binary(wire.encode([order("late")]))
    connection.send_data()
    await server.joined()
    assert await agent.heard() == [WELCOME]


async def test_whoever_goes_on_talking_after_a_breach_is_cut_off(
    server: Server, make_agent: AgentMaker
) -> None:
    make_agent(patience=Patience(close_s=SHORT_S))
    connection = await server.joined()
    connection.transport.pause_reading()  # so it does not learn of it
    connection.protocol.send_binary(bytes(wire.FRAME_BYTES_MAX + 1))
    async with asyncio.timeout(PATIENCE_S):
        while server.connections.empty():
            if not connection.transport.is_closing():
                connection.protocol.send_ping(b"")
                connection.send_data()
            await turns(1)


# --- what is said -----------------------------------------------------------------------------


async def test_it_is_asked_until_it_has_nothing_more_to_say(server: Server, agent: Agent) -> None:
    await server.joined()
    said = [output(1), output(2), output(3)]
    agent.say(*said)
    assert [await server.heard() for _ in range(3)] == said
    asked = agent.asked
    agent.link.wake()
    agent.link.wake()  # in the same turn
    agent.link.wake()
    agent.say(output(4))
    assert await server.heard() == output(4)
    await turns(10)
    assert agent.asked == asked + 2  # for this frame, and in vain


async def test_it_is_asked_once_when_it_has_nothing_to_say(server: Server, agent: Agent) -> None:
    await server.joined()
    await turns(10)
    asked = agent.asked
    agent.link.wake()
    assert agent.asked == asked  # what else comes in this turn goes along
    await turns(10)
    assert agent.asked == asked + 1


async def test_it_is_not_asked_while_the_server_does_not_read(server: Server, agent: Agent) -> None:
    connection = await server.joined()
    await turns(10)
    connection.transport.pause_reading()
    size, frames = wire.OUTPUT_CHUNK_BYTES_MAX, 200
    agent.say(*(output(size, number) for number in range(frames)))
    before = -1
    while before != agent.asked:
        before = agent.asked
        await turns(1000)
    waiting = len(agent.frames)
    assert waiting > frames / 2
    agent.link.wake()
    await turns(10)
    assert len(agent.frames) == waiting
    connection.transport.resume_reading()
    for number in range(frames):
        assert await server.heard() == output(size, number)


async def test_nothing_is_asked_for_before_the_welcome(
    server: Server, make_agent: AgentMaker
) -> None:
    server.greeting = None
    agent = make_agent()
    connection = await server.joined()
    agent.say(output(1))
    await asyncio.wait_for(await connection.ping(), PATIENCE_S)
    assert agent.asked == 0
    await connection.send(wire.encode([WELCOME]))
    assert await server.heard() == output(1)


async def turns(number: int) -> None:
    """Of the loop."""
    for _ in range(number):
        await asyncio.sleep(0)


# --- how it ends ------------------------------------------------------------------------------


async def test_it_connects_again_after_a_break(server: Server, agent: Agent, log: Log) -> None:
    connection = await server.joined()
    connection.transport.abort()
    assert await log.why() == "no close frame received or sent"
    await server.joined()
    assert agent.downs == 1
    assert await agent.heard() == [WELCOME]
    agent.say(output(1))
    assert await server.heard() == output(1)


def test_waits_double_until_a_connection_lasts_longer_than_they_do() -> None:
    waits = Waits(0.1, 1.0)
    wait, seen = 0.0, []
    for connected_s in (0, 0, 0.3, 0.3, 0.3, 0.3, 0.3, 1.1, 0.05):
        wait = waits.after(wait, connected_s)
        seen.append(wait)
    assert seen == [0.1, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2]
    assert [waits.after(wait, 0.05) for wait in (0.4, 0.8, 1.0)] == [0.8, 1.0, 1.0]


async def test_it_connects_again_after_the_server_has_closed(
    server: Server, agent: Agent, log: Log
) -> None:
    await (await server.joined()).close()
    await (await server.joined()).close(CloseCode.SERVICE_RESTART)
    await server.joined()
    assert agent.downs == 2
    # The first was in all order.
    assert (await log.why()).startswith("received 1012 (service restart)")
    assert log.texts.empty()


async def test_a_silent_server_is_given_up(
    server: Server, make_agent: AgentMaker, log: Log
) -> None:
    agent = make_agent(patience=Patience(ping_s=SHORT_S))
    (await server.joined()).transport.pause_reading()
    assert await log.why() == "it says nothing any more"
    await server.joined()
    assert agent.downs == 1


async def test_a_server_that_answers_pings_is_kept(server: Server, make_agent: AgentMaker) -> None:
    agent = make_agent(patience=Patience(ping_s=SHORT_S))
    connection = await server.joined()
    async with asyncio.timeout(PATIENCE_S):
        while connection.pings < 5:
            await turns(1)
    assert agent.downs == 0
    agent.say(output(1))
    assert await server.heard() == output(1)


async def test_it_says_that_it_goes(server: Server, agent: Agent) -> None:
    await server.joined()
    agent.say(output(1))
    await turns(3)
    await agent.stop()
    assert await server.heard() == output(1)
    assert await server.ended() == CloseCode.GOING_AWAY


async def test_it_goes_also_when_the_server_does_not_agree(
    server: Server, make_agent: AgentMaker
) -> None:
    agent = make_agent(patience=Patience(close_s=SHORT_S))
    (await server.joined()).transport.pause_reading()
    await agent.stop()
    assert agent.running.cancelled()


@pytest.mark.parametrize("when", ["heard", "said"])
async def test_what_the_machine_refuses_ends_the_connection_and_not_the_agent(
    server: Server, agent: Agent, log: Log, when: str
) -> None:
    connection = await server.joined()
    agent.failure = OSError("No space left on device")
    if when == "heard":
        await connection.send(wire.encode([order("one")]))
    else:
        agent.say(output(1))
    assert await log.why() == "No space left on device"
    await server.joined()
    assert agent.downs == 1


@pytest.mark.parametrize("when", ["heard", "said"])
async def test_a_mistake_of_ours_ends_the_link(server: Server, agent: Agent, when: str) -> None:
    connection = await server.joined()
    agent.failure = AssertionError("never")
    if when == "heard":
        await connection.send(wire.encode([order("one")]))
    else:
        agent.say(output(1))
    with pytest.raises(AssertionError, match="never"):
        await asyncio.wait_for(agent.running, PATIENCE_S)


# --- who does not take it ---------------------------------------------------------------------


async def test_a_refusal_is_told_and_heard(
    server: Server, make_agent: AgentMaker, log: Log
) -> None:
    server.greeting = wire.encode([wire.Refusal("Another Roost is needed.")])
    agent = make_agent()
    assert await agent.heard() == [wire.Refusal("Another Roost is needed.")]
    text = await asyncio.wait_for(log.texts.get(), PATIENCE_S)
    assert text == "The server refuses this agent: Another Roost is needed."
    assert await server.ended() == CloseCode.GOING_AWAY
    assert (agent.downs, agent.asked) == (0, 0)


async def test_a_server_that_takes_nobody_is_asked_again(
    server: Server, make_agent: AgentMaker, log: Log
) -> None:
    server.greeting = None
    agent = make_agent()
    await (await server.joined()).close()
    assert await log.why() == "it has ended the connection without a word"
    await server.joined()
    assert agent.downs == 0


async def test_a_greeting_that_is_none_is_told(
    server: Server, make_agent: AgentMaker, log: Log
) -> None:
    server.greeting = wire.encode([order("early")])
    make_agent()
    assert await log.why() == "its first message is neither a welcome nor a refusal"


async def test_a_hello_that_is_not_answered_is_told(
    server: Server, make_agent: AgentMaker, log: Log
) -> None:
    server.greeting = None
    make_agent(patience=Patience(open_s=SHORT_S))
    assert await log.why() == "it does not answer the hello"


@contextlib.asynccontextmanager
async def answering(answer: bytes, *, hang_up: bool = True) -> AsyncIterator[str]:
    """The URL of somebody who says this to everybody, and then perhaps nothing more."""
    callers: set[asyncio.StreamWriter] = set()

    async def answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.add(writer)
        writer.write(answer)
        if hang_up:
            writer.close()

    listening = await asyncio.start_server(answer_one, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        for writer in callers:
            writer.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "server rejected .* HTTP 404"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\nuntil the end", "server rejected .* HTTP 403"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "server rejected .* HTTP 200"),
        (b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", ".* h2c"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "did not receive a valid HTTP response"),
        (b"", "did not receive a valid HTTP response"),
    ],
)
async def test_who_refuses_the_handshake_is_told(
    make_agent: AgentMaker, log: Log, answer: bytes, why: str
) -> None:
    async with answering(answer) as url:
        agent = make_agent(url)
        for _ in range(2):  # it tries again
            assert re.match(why, await log.why())
        await agent.stop()


async def test_who_does_not_answer_is_told(make_agent: AgentMaker, log: Log) -> None:
    async with answering(b"", hang_up=False) as url:
        agent = make_agent(url, patience=Patience(open_s=SHORT_S))
        assert await log.why() == "it does not answer"
        await agent.stop()


async def test_a_port_that_nobody_listens_on_is_told(make_agent: AgentMaker, log: Log) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        make_agent(f"http://127.0.0.1:{nobody.getsockname()[1]}")
        assert "Connect" in await log.why()


# --- https ------------------------------------------------------------------------------------


@pytest.fixture
async def authority(server: Server) -> AsyncIterator[trustme.CA]:
    """Of the certificate of a server behind a path."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        assert connection.request.path == f"/farm{wire.PATH}"
        await server.handle(connection)

    async with serve(handle, "127.0.0.1", 0, ssl=context, create_connection=Connection) as served:
        [listener] = served.sockets
        server.url = f"https://127.0.0.1:{listener.getsockname()[1]}/farm/"
        yield authority


async def test_a_server_whom_the_platform_trusts_is_reached_by_https(
    server: Server,
    authority: trustme.CA,
    make_agent: AgentMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    agent = make_agent()
    await server.joined()
    agent.say(output(wire.OUTPUT_CHUNK_BYTES_MAX))
    assert await server.heard() == output(wire.OUTPUT_CHUNK_BYTES_MAX)
    await agent.stop()
    assert await server.ended() == CloseCode.GOING_AWAY


async def test_a_certificate_of_a_stranger_is_told_in_one_sentence(
    server: Server, authority: trustme.CA, make_agent: AgentMaker, log: Log
) -> None:
    make_agent()
    why = await log.why()
    assert why == "its certificate is not trusted: unable to get local issuer certificate"

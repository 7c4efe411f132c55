"""Data channels of an agent, with a server that lets them in, or does not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from roost.agent.channel import (
    FAILED_S_MAX,
    FAILED_S_MIN,
    IDLE_S_MAX,
    STRETCHES_MAX,
    Channel,
    Channels,
    OutputChannel,
    forward,
)
from roost.wire import channel as wire
from roost.wire.link import ChannelClosed

TICKET = "0123456789abcdef" * 2
PATIENCE_S = 60
KEY = (1, 1)
SIZE = 3_000_000
DATA = os.urandom(SIZE)


class ServerEnd:
    def __init__(self) -> None:
        self.answer = wire.ACCEPTED
        self.asked: list[wire.Asked | None] = []
        self.received = bytearray()
        self.url = ""
        self._changed = asyncio.Condition()
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.asked.append(wire.parse(await reader.readuntil(b"\r\n\r\n")))
        writer.write(self.answer)
        while data := await reader.read(1_000_000):
            async with self._changed:
                self.received += data
                self._changed.notify_all()
        writer.close()

    async def has(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: len(self.received) >= size)
        return bytes(self.received)

    def drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@pytest.fixture
async def server() -> AsyncIterator[ServerEnd]:
    end = ServerEnd()
    listening = await asyncio.start_server(end.serve, "127.0.0.1", 0)
    end.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    yield end
    listening.close()
    end.drop()


@pytest.fixture
async def channels(server: ServerEnd) -> AsyncIterator[Channels]:
    channels = Channels(server.url, lambda: None)
    channels.welcomed(TICKET)
    yield channels
    channels.close()


async def test_a_channel_shows_the_ticket_and_is_used_again(
    channels: Channels, server: ServerEnd
) -> None:
    channel = await channels.take()
    assert channel is not None
    assert server.asked == [(TICKET, channel.number)]
    channels.give_back(channel, clean=True)
    assert await channels.take() == channel
    channels.give_back(channel, clean=False)
    assert channels.pull() == [ChannelClosed(channel.number)]
    other = await channels.take()
    assert other is not None and other.number != channel.number
    channels.give_back(other, clean=False)


async def test_a_channel_that_the_server_ended_while_it_was_idle_is_not_used(
    channels: Channels, server: ServerEnd
) -> None:
    channel = await channels.take()
    assert channel is not None
    channels.give_back(channel, clean=True)
    assert channels.has_idle
    server.drop()
    async with asyncio.timeout(PATIENCE_S):
        with contextlib.suppress(ConnectionResetError):
            await asyncio.get_running_loop().sock_recv(channel.socket, 1)
    assert not channels.has_idle
    assert channels.pull() == [ChannelClosed(channel.number)]
    other = await channels.take()
    assert other is not None and other.number != channel.number
    channels.give_back(other, clean=False)


async def test_an_idle_channel_is_closed(
    channels: Channels, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = asyncio.Event()
    monkeypatch.setattr(channels, "_wake", closed.set)
    monkeypatch.setattr("roost.agent.channel.IDLE_S_MAX", IDLE_S_MAX / 1000)
    channel = await channels.take()
    assert channel is not None
    channels.give_back(channel, clean=True)
    async with asyncio.timeout(PATIENCE_S):
        await closed.wait()
    assert channels.pull() == [ChannelClosed(channel.number)]
    assert channels.take_idle() is None


@pytest.mark.parametrize("answer", [wire.REFUSED, wire.STRANGER, b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_after_a_refusal_none_is_asked_for_until_the_next_welcome(
    channels: Channels, server: ServerEnd, answer: bytes
) -> None:
    server.answer = answer
    assert await channels.take() is None
    assert not channels.may_open
    assert await channels.take() is None
    assert len(server.asked) == 1
    channels.welcomed(TICKET)
    server.answer = wire.ACCEPTED
    channel = await channels.take()
    assert channel is not None
    channels.give_back(channel, clean=False)


async def test_without_a_ticket_or_over_https_there_are_no_channels(server: ServerEnd) -> None:
    assert await Channels(server.url, lambda: None).take() is None
    safe = Channels(server.url.replace("http:", "https:"), lambda: None)
    safe.welcomed(TICKET)
    assert await safe.take() is None
    assert server.asked == []


async def test_channels_end_with_the_link(channels: Channels) -> None:
    channel, idle = await channels.take(), await channels.take()
    assert channel is not None and idle is not None
    channels.give_back(idle, clean=True)
    channels.link_down()
    assert channels.take_idle() is None
    assert channel.socket.recv(1) == b""
    channels.give_back(channel, clean=True)
    channels.welcomed(TICKET)
    assert channels.take_idle() is None
    assert channels.pull() == [], "the next link never heard of it"


# --- on the server's machine ------------------------------------------------------------------


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[ServerEnd]:
    """The same on a Unix socket."""
    end = ServerEnd()
    end.url = str(tmp_path / "socket")
    listening = await asyncio.start_unix_server(end.serve, end.url)
    yield end
    listening.close()
    end.drop()


@pytest.fixture
async def channels_here(server: ServerEnd, here: ServerEnd) -> AsyncIterator[Channels]:
    channels = Channels(server.url, lambda: None)
    channels.welcomed(TICKET, here.url)
    yield channels
    channels.close()


async def take(channels: Channels) -> Channel:
    channel = await channels.take()
    assert channel is not None
    return channel


async def test_a_channel_is_had_on_the_socket_if_there_is_one(
    channels_here: Channels, server: ServerEnd, here: ServerEnd
) -> None:
    channel = await take(channels_here)
    assert here.asked == [(TICKET, channel.number)]
    assert server.asked == []
    assert channel.takes_files
    channels_here.give_back(channel, clean=False)


@pytest.mark.parametrize("why", ["another machine", "another server", "another account"])
async def test_the_port_is_taken_where_the_socket_is_no_way_and_is_not_tried_again(
    server: ServerEnd, here: ServerEnd, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    channels = Channels(server.url, lambda: None)
    path = here.url
    if why == "another machine":
        path += ".missing"
    elif why == "another server":
        here.answer = wire.STRANGER
    else:
        account = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: account)
    for _ in range(2):
        channels.welcomed(TICKET, path)  # a new link tries anew
        asked = len(here.asked)
        taken = [await take(channels), await take(channels)]
        assert not any(channel.takes_files for channel in taken)
        assert len(here.asked) - asked == (why == "another server")
        for channel in taken:
            channels.give_back(channel, clean=False)
    channels.close()


async def test_a_server_that_has_given_out_enough_is_found_on_its_socket_later(
    channels_here: Channels, server: ServerEnd, here: ServerEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost.agent.channel.REFUSED_S", 0)
    here.answer = wire.REFUSED
    assert await channels_here.take() is None
    assert server.asked == []
    here.answer = wire.ACCEPTED
    channel = await take(channels_here)
    assert channel.takes_files
    channels_here.give_back(channel, clean=False)


async def test_over_https_the_socket_is_the_only_way(server: ServerEnd, here: ServerEnd) -> None:
    channels = Channels(server.url.replace("http:", "https:"), lambda: None)
    channels.welcomed(TICKET, here.url)
    channel = await take(channels)
    channels.give_back(channel, clean=False)
    here.answer = wire.STRANGER
    assert await channels.take() is None
    assert not channels.may_open
    assert server.asked == []
    channels.close()


# --- output -----------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(DATA)
    descriptor = os.open(tmp_path / "file", os.O_RDWR)
    yield descriptor
    os.close(descriptor)


class Output(OutputChannel):
    def __init__(self, channels: Channels) -> None:
        self.opened = asyncio.Event()
        super().__init__(channels, self.opened.set)

    async def open(self) -> None:
        assert not self.may_send, "asking is what opens it"
        async with asyncio.timeout(PATIENCE_S):
            await self.opened.wait()
        assert self.may_send


@pytest.fixture
async def output(channels: Channels) -> AsyncIterator[Output]:
    output = Output(channels)
    await output.open()
    yield output
    output.reset()


async def test_stretches_leave_one_after_the_other(
    output: Output, server: ServerEnd, file: int
) -> None:
    output.send(KEY, file, 1_000_000, 2_000_000)
    output.send(KEY, file, 0, 1_000_000)
    assert await server.has(SIZE) == DATA[1_000_000:] + DATA[:1_000_000]


async def test_what_was_being_opened_when_the_link_ended_is_forgotten(
    channels: Channels, server: ServerEnd
) -> None:
    output = Output(channels)
    assert not output.may_send
    output.reset()
    await output.open()
    output.reset()
    assert len(server.asked) == 1


async def test_only_so_many_stretches_are_unanswered(output: Output, file: int) -> None:
    for offset in range(STRETCHES_MAX):
        assert output.may_send
        output.send(KEY, file, offset, 1)
    assert not output.may_send
    output.answered(whole=True)
    assert output.may_send


async def test_a_channel_is_given_back_when_all_is_answered(
    output: Output, channels: Channels, server: ServerEnd, file: int
) -> None:
    number = output.send(KEY, file, 0, 10).channel
    await server.has(10)
    output.answered(whole=True)
    idle = channels.take_idle()
    assert idle is not None and idle.number == number
    channels.give_back(idle, clean=True)


@pytest.mark.parametrize("why", ["the file is cut", "the server is gone"])
async def test_a_stretch_that_cannot_be_sent_ends_the_channel(
    output: Output, channels: Channels, server: ServerEnd, file: int, why: str
) -> None:
    told = asyncio.Event()
    channels._wake = told.set
    if why == "the file is cut":
        os.ftruncate(file, 1000)
    else:
        server.drop()
    number = output.send(KEY, file, 0, SIZE).channel
    async with asyncio.timeout(PATIENCE_S):
        await told.wait()
    assert channels.pull() == [ChannelClosed(number)]


class Clock:
    """In place of `time` in the module: waits of minutes cannot be had."""

    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("roost.agent.channel.time", clock)
    return clock


def fail(output: Output, clock: Clock, file: int, stretches: int = 1) -> float:
    """So many stretches fail together: for how long nothing more may be sent, to the power of 2."""
    for _ in range(stretches):
        output.send(KEY, file, 0, 1)
    for _ in range(stretches):
        output.answered(whole=False)
    before = clock.now
    wait = FAILED_S_MIN
    while not output.may_send:
        clock.now = before + wait
        wait *= 2
    return clock.now - before


async def test_a_channel_that_fails_is_left_alone_the_longer_the_more_often_it_does(
    output: Output, clock: Clock, file: int
) -> None:
    waits = [fail(output, clock, file, stretches) for stretches in (1, STRETCHES_MAX, 1)]
    assert waits == pytest.approx([FAILED_S_MIN, FAILED_S_MIN * 2, FAILED_S_MIN * 4])
    for _ in range(10):
        fail(output, clock, file)
    output.send(KEY, file, 0, 1)
    output.answered(whole=False)
    clock.now += FAILED_S_MAX
    assert output.may_send, "it does not wait for longer than that"


async def test_a_stretch_that_is_stored_or_a_new_link_ends_the_growing_of_waits(
    output: Output, channels: Channels, clock: Clock, file: int
) -> None:
    fail(output, clock, file)
    fail(output, clock, file)
    output.send(KEY, file, 0, 1)
    output.answered(whole=True)
    assert fail(output, clock, file) == pytest.approx(FAILED_S_MIN)
    output.send(KEY, file, 0, 1)
    output.answered(whole=False)
    output.reset()
    output.opened.clear()
    await output.open()


@pytest.fixture
async def handing(channels_here: Channels) -> AsyncIterator[Output]:
    """Output that goes over a channel which takes files."""
    output = Output(channels_here)
    await output.open()
    yield output
    output.reset()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


async def test_a_file_is_handed_over_where_the_channel_takes_files(
    handing: Output, here: ServerEnd, file: int
) -> None:
    before = open_files()
    said = [handing.send(KEY, file, 0, 1_000_000), handing.send(KEY, file, 1_000_000, SIZE)]
    assert [(m.offset, m.size, m.handed_over) for m in said] == [
        (0, 1_000_000, True),
        (1_000_000, SIZE, True),
    ]
    assert await here.has(2) == wire.HANDOVER * 2
    assert open_files() == before


async def test_once_a_file_did_not_arrive_bytes_are_sent_until_the_next_link(
    handing: Output, here: ServerEnd, channels_here: Channels, file: int
) -> None:
    assert handing.send(KEY, file, 0, 10).handed_over
    handing.answered(whole=False)
    assert handing.may_send
    assert not handing.send(KEY, file, 0, SIZE).handed_over
    assert await here.has(SIZE + 1) == wire.HANDOVER + DATA
    handing.answered(whole=True)
    channels_here.link_down()
    handing.reset()
    channels_here.welcomed(TICKET, here.url)
    handing.opened.clear()
    await handing.open()
    assert handing.send(KEY, file, 0, 10).handed_over


async def test_a_server_that_is_gone_is_handed_nothing(
    handing: Output, here: ServerEnd, channels_here: Channels, file: int
) -> None:
    assert handing.send(KEY, file, 0, 10).handed_over
    await here.has(1)
    here.drop()
    told = asyncio.Event()
    channels_here._wake = told.set
    before = open_files()
    while not told.is_set():
        number = handing.send(KEY, file, 0, 10).channel
        await asyncio.sleep(0)
    assert channels_here.pull() == [ChannelClosed(number)]
    assert open_files() < before


# --- between two sockets ----------------------------------------------------------------------

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Callable[[], Pair]]:
    made: list[socket.socket] = []

    def make() -> Pair:
        made.extend(socket.socketpair())
        made[-2].setblocking(False)
        made[-1].setblocking(False)
        return made[-2], made[-1]

    yield make
    for end in made:
        end.close()


async def received(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (
        more := await asyncio.get_running_loop().sock_recv(end, size - len(data))
    ):
        data += more
    return data


async def test_so_many_bytes_pass_and_no_more(pair: Callable[[], Pair]) -> None:
    (giver, source), (target, taker) = pair(), pair()
    loop = asyncio.get_running_loop()
    sending = asyncio.create_task(loop.sock_sendall(giver, DATA + b"a next request"))
    receiving = asyncio.create_task(received(taker, SIZE))
    async with asyncio.timeout(PATIENCE_S):
        assert await forward(source, target, SIZE) == (SIZE, SIZE)
        assert await receiving == DATA
        await sending
    assert source.recv(100) == b"a next request"


async def test_a_source_that_ends_is_told_from_a_target_that_does(
    pair: Callable[[], Pair],
) -> None:
    (giver, source), (target, taker) = pair(), pair()
    giver.send(b"so much")
    giver.close()
    assert await forward(source, target, 100) == (7, 7)
    (giver, source), (target, taker) = pair(), pair()
    giver.send(b"so much")
    taker.close()
    assert await forward(source, target, 100) == (7, 0)


async def test_a_source_that_is_silent_for_too_long_has_ended(pair: Callable[[], Pair]) -> None:
    (_, source), (target, _) = pair(), pair()
    assert await forward(source, target, 100, patience=0) == (0, 0)


async def test_forwarding_can_be_cancelled_while_it_waits(pair: Callable[[], Pair]) -> None:
    (giver, source), (target, _) = pair(), pair()
    waiting = asyncio.create_task(forward(source, target, SIZE))
    giver.send(b"x")
    await asyncio.get_running_loop().sock_recv(_, 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

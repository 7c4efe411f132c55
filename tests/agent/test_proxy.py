"""Who may connect to the Chirp proxy, and for how long without saying whose connection it is."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.agent.test_calls import PATIENCE_S, make_calls

from roost.agent.channel import Channels
from roost.agent.proxy import Proxy
from roost.agent.slots import Slots

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Clients:
    def __init__(self, port: int) -> None:
        self._port = port
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> Ends:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.writers.append(writer)
        return reader, writer


@pytest.fixture
async def clients(tmp_path: Path) -> AsyncIterator[Clients]:
    channels = Channels("http://nowhere", lambda: None)
    calls = make_calls(channels)
    proxy = Proxy(tmp_path, Slots(tmp_path), calls, channels)
    await proxy.start()
    clients = Clients(int((tmp_path / "chirp").read_text().split()[1]))
    yield clients
    for writer in clients.writers:
        writer.close()
    proxy.close()
    calls.close()


async def test_the_file_is_named_that_finds_no_room(tmp_path: Path) -> None:
    channels = Channels("http://nowhere", lambda: None)
    calls = make_calls(channels)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="too large") as failed:
            Proxy(tmp_path, Slots(tmp_path), calls, channels)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        calls.close()
    assert failed.value.filename == str(tmp_path / "bin" / "condor_chirp.new")


async def say(client: Ends, request: bytes) -> bytes:
    reader, writer = client
    writer.write(request)
    async with asyncio.timeout(PATIENCE_S):
        return await reader.readline()


async def is_reset(client: Ends) -> bool:
    async with asyncio.timeout(PATIENCE_S):
        try:
            return await client[0].read(1) == b""
        except ConnectionResetError:
            return True


async def test_of_too_many_strangers_the_oldest_is_reset_and_nobody_else(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost.agent.proxy.CONNECTIONS_MAX", 2)
    first, second = await clients.connect(), await clients.connect()
    assert await say(first, b"version\n") == await say(second, b"version\n") == b"-1\n"
    third = await clients.connect()
    assert await is_reset(first)
    assert await say(second, b"version\n") == await say(third, b"version\n") == b"-1\n"
    second[1].write_eof()
    assert await is_reset(second)
    fourth = await clients.connect()
    assert await say(fourth, b"version\n") == b"-1\n", "a place came free"
    assert await say(third, b"version\n") == b"-1\n"


async def test_who_does_not_say_in_time_whose_connection_it_is_is_reset(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost.agent.connection.COOKIE_S_MAX", 0.01)
    assert await is_reset(await clients.connect())


async def test_the_end_of_a_line_that_is_too_long_ends_the_connection(clients: Clients) -> None:
    client = await clients.connect()
    assert await say(client, b"x" * 6000) == b"-5\n"
    client[1].write_eof()
    assert await is_reset(client)

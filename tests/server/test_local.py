"""The Unix socket in the data folder: who gets a channel there, and what becomes of the rest."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roost.core.records import NodeFacts
from roost.server.agents import Agents
from roost.server.local import LocalSocket, is_here
from roost.wire import channel as wire
from roost.wire import link

TICKET = "0123456789abcdef" * 2
PATIENCE_S = 60


class Door:
    """Lets in whoever shows the ticket."""

    def __init__(self, path: Path) -> None:
        self.local = LocalSocket(path)
        self.taken: list[socket.socket] = []
        self.opened = asyncio.Event()

    def open_channel(self, request: bytes, take: Callable[[], socket.socket]) -> bytes:
        asked = wire.parse(request)
        if asked is None or asked.ticket != TICKET:
            return wire.STRANGER
        self.taken.append(take())
        self.opened.set()
        return b""

    async def ask(self, request: bytes) -> bytes:
        """What is answered before the end, or all that somebody says who has taken it over."""
        reader, writer = await asyncio.open_unix_connection(self.local.path)
        writer.write(request)
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.read(1000)
        writer.close()
        return answer


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    door = Door(tmp_path / "socket")
    await door.local.serve(door.open_channel)
    yield door
    door.local.close()
    for peer in door.taken:
        peer.close()


async def test_who_has_a_ticket_gets_the_connection_itself(door: Door) -> None:
    peer = socket.socket(socket.AF_UNIX)
    peer.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(peer, door.local.path)
    await loop.sock_sendall(peer, wire.request("x", "", TICKET, 7))
    async with asyncio.timeout(PATIENCE_S):
        await door.opened.wait()
    [taken] = door.taken
    assert taken.family == socket.AF_UNIX
    taken.setblocking(True)
    taken.sendall(wire.ACCEPTED)
    async with asyncio.timeout(PATIENCE_S):
        assert await loop.sock_recv(peer, 1000) == wire.ACCEPTED
    peer.close()


@pytest.mark.parametrize(
    "request_",
    [
        wire.request("x", "", "f" * 32, 7),
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Type: text/xml\r\nContent-Length: 0\r\n\r\n",
        b"\0" * 10_000,
    ],
    ids=["wrong ticket", "page", "call", "noise"],
)
async def test_nobody_else_gets_anything(door: Door, request_: bytes) -> None:
    assert await door.ask(request_) == wire.STRANGER
    assert door.taken == []


async def test_who_says_nothing_is_let_go(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roost.server.local.ASK_S_MAX", 0)
    assert await door.ask(b"") == b""


async def test_the_socket_is_for_one_account_and_goes_with_its_server(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    local = LocalSocket(path)
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    local.close()
    assert not path.exists()


async def test_what_a_killed_server_has_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "socket"))
    door = Door(tmp_path / "socket")
    await door.local.serve(door.open_channel)
    assert await door.ask(b"who is there?") == wire.STRANGER
    door.local.close()


@pytest.mark.parametrize("name", ["n" * 200, "folder", "missing/socket", "\udcff"])
async def test_where_there_can_be_none_there_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    local = LocalSocket(tmp_path / name)
    assert local.path == ""
    await local.serve(lambda request, take: wire.STRANGER)
    local.close()
    assert (tmp_path / "folder").is_dir()


# --- who is told where it is ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "own", "here"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("::ffff:127.0.0.2", "::ffff:127.0.0.1", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::1%eth0", True),
        ("10.0.0.2", "10.0.0.1", False),
        ("::ffff:10.0.0.2", "::ffff:10.0.0.1", False),
        ("fe80::2%eth0", "fe80::1%eth0", False),
        ("", "", False),
    ],
)
def test_who_comes_from_loopback_or_from_our_own_address_is_here(
    peer: str, own: str, here: bool
) -> None:
    assert is_here(peer, own) == here


class Peer:
    """A connection that has come from elsewhere: in place of one, as there is no other machine."""

    def __init__(self, address: str) -> None:
        self.addresses = (address, "10.0.0.1")
        self.is_full = False
        self.sent = asyncio.Event()
        self.welcome: link.FromServer | None = None

    def send(self, data: bytes) -> None:
        [self.welcome] = link.decode_from_server(data)
        self.sent.set()

    def pause_reading(self) -> None: ...

    resume_reading = pause_reading


@pytest.mark.parametrize(("address", "told"), [("10.0.0.1", "/farm/socket"), ("10.0.0.2", "")])
async def test_only_agents_of_this_machine_are_told_where_it_is_and_all_the_shared_folder(
    address: str, told: str
) -> None:
    engine: Any = SimpleNamespace(
        farm=SimpleNamespace(attempts={}), tell=lambda message, done: done(1, None)
    )
    nothing: Any = None
    agents = Agents(
        lambda: engine,
        nothing,
        1000,
        nothing,
        nothing,
        nothing,
        unix_socket="/farm/socket",
        root=lambda system: f"/mnt/{system}",
    )
    peer: Any = Peer(address)
    session = agents.open_session(peer)
    session.receive(link.encode([link.Hello(link.PROTOCOL, NodeFacts("render1"))]))
    async with asyncio.timeout(PATIENCE_S):
        await peer.sent.wait()
    assert peer.welcome.ticket
    assert peer.welcome.unix_socket == told
    assert peer.welcome.root == "/mnt/linux"

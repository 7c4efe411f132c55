"""The agent's line to its keeper: finds or starts it, sends requests, passes its events on.

Requests of one turn of the loop travel as one line. When the keeper dies a new one is started,
and what was not yet sent to the old one is dropped: the new one begins by telling what it found
in the ledger, and whoever listens decides afresh from that. The protocol is in `keeper`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec

from roost import openfiles
from roost.agent import keeper
from roost.errors import Unreachable

JOIN_TRIES_MAX = 50
JOIN_WAIT_S = 0.1
_CONNECTION = 3
"""The number under which a new keeper finds its first connection."""


class Tether(asyncio.Protocol):
    def __init__(
        self,
        folder: Path,
        owner: str,
        environment: dict[str, str],
        cpus: int,
        on_events: Callable[[list[list[Any]]], None],
    ) -> None:
        """`on_events` gets every line of the keeper, the one with `held` after each joining."""
        self._folder = folder
        self._owner = owner
        self._environment = environment
        self._cpus = cpus
        self._on_events = on_events
        self._transport: asyncio.WriteTransport | None = None
        self._requests: list[list[object]] = []
        self._received: list[bytes] = []
        self._joined: asyncio.Future[bool] | None = None
        self._closing = False
        self._keeper_pid = 0
        self._rejoining: asyncio.Task[None] | None = None
        self.lost: Callable[[BaseException], None] = lambda error: None
        """Called when no keeper can be had any more."""

    async def join(self) -> None:
        """Raises `Unreachable` when there is no keeper and none can be started."""
        loop = asyncio.get_running_loop()
        for _ in range(JOIN_TRIES_MAX):
            self._received = []
            self._joined = joined = loop.create_future()
            connection = self._connect()
            connection.setblocking(False)
            await loop.create_unix_connection(lambda: self, sock=connection)
            if await joined:
                return
            # It was about to end, or another one was just starting.
            await asyncio.sleep(JOIN_WAIT_S)
        log = self._folder / "keeper.log"
        raise Unreachable(f"The keeper of {self._folder} does not start; see {log}.")

    def request(self, *request: object) -> None:
        """One of the requests of the protocol, sent when the loop comes round."""
        if not self._requests:
            asyncio.get_running_loop().call_soon(self._flush)
        self._requests.append(list(request))

    def close(self) -> None:
        """Leave the keeper alone; what it runs goes on."""
        self._closing = True
        if self._rejoining is not None:
            self._rejoining.cancel()
        self._flush()
        if self._transport is not None:
            self._transport.close()
        self._reap()

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do what asyncio.WriteTransport does without being one.
        self._transport = cast(asyncio.WriteTransport, transport)
        self._requests = [["node", self._environment, self._cpus]]
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        if b"\n" not in data:
            return
        *lines, rest = b"".join(self._received).split(b"\n")
        self._received = [rest] if rest else []
        for line in lines:
            if self._joined is not None and not self._joined.done():
                self._joined.set_result(True)
            self._on_events(msgspec.json.decode(line))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._requests.clear()
        self._reap()
        if self._joined is not None and not self._joined.done():
            self._joined.set_result(False)
        elif not self._closing:
            self._rejoining = asyncio.get_running_loop().create_task(self._rejoin())

    # --- inside -------------------------------------------------------------------------------

    async def _rejoin(self) -> None:
        try:
            await self.join()
        except (Unreachable, OSError) as error:
            self.lost(error)

    def _flush(self) -> None:
        if self._requests and self._transport is not None:
            self._transport.write(msgspec.json.encode(self._requests) + b"\n")
        self._requests.clear()

    def _connect(self) -> socket.socket:
        with contextlib.suppress(OSError):
            return keeper.connect(self._folder)
        ours, theirs = socket.socketpair()
        with theirs:
            self._start(theirs)
        return ours

    def _start(self, connection: socket.socket) -> None:
        """In a session of its own, so that what ends the agent does not end the keeper."""
        log = os.open(self._folder / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        command = [sys.executable, "-P", "-m", keeper.__name__, str(self._folder), self._owner]
        try:
            self._keeper_pid = os.posix_spawn(
                sys.executable,
                [*command, str(_CONNECTION)],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, connection.fileno(), _CONNECTION),
                    (os.POSIX_SPAWN_DUP2, null, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True,
            )
            # It is still loading Python, and starts no job that would inherit ours.
            openfiles.give_back(self._keeper_pid)
        finally:
            os.close(log)
            os.close(null)

    def _reap(self) -> None:
        if self._keeper_pid:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(self._keeper_pid, os.WNOHANG)[0]:
                    self._keeper_pid = 0

"""The agent's end of the link: a WebSocket to the server that is opened again and again.

Knows frames and waiting, nothing of what the messages mean: `hello` makes the first one of a
connection, `receive` takes what comes in, in the turn of the loop in which it came, `fill` is asked
for the next frame in the turn after `wake` has said that there may be something, and again after
each frame until there is nothing. It is not asked while the server does not take what was sent, so
what waits does so where it can be bounded. Reports, output offsets and their resending are the
business of those three. A frame that cannot be understood, or a server that refuses, ends the
connection, never the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct
from websockets.exceptions import WebSocketException
from websockets.frames import CloseCode

from roost.agent.websocket import ClientWebSocket, Patience, open_websocket
from roost.errors import ProtocolError
from roost.wire import link as wire
from roost.wire.link import FromAgent, FromServer, Hello, Refusal, Welcome

log = logging.getLogger(__name__)


class Waits(Struct, frozen=True):
    """Between attempts to connect, in seconds: doubled each time, and jittered."""

    first_s: float = 0.1
    max_s: float = 10.0

    def after(self, wait_s: float, connected_s: float) -> float:
        """The next wait, after one and a connection that lasted so long. A server that takes
        everybody in, and throws them out again for what they say, is not asked without a pause."""
        if connected_s > wait_s:
            return self.first_s
        return min(self.max_s, max(self.first_s, wait_s * 2))


class Link:
    def __init__(
        self,
        server: str,
        *,
        hello: Callable[[], Hello],
        receive: Callable[[list[FromServer]], None],
        fill: Callable[[], list[FromAgent]],
        down: Callable[[], None],
        waits: Waits = Waits(),  # noqa: B008  (immutable)
        patience: Patience = Patience(),  # noqa: B008
    ) -> None:
        """`server` is its URL with http or https; `fill` answers [] for nothing to send; `down` is
        called when a connection that had been welcomed has ended."""
        parts = urlsplit(server.rstrip("/"))
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        self.url = urlunsplit((scheme, parts.netloc, parts.path + wire.PATH, "", ""))
        self.connected = False
        self._hello = hello
        self._receive = receive
        self._fill = fill
        self._down = down
        self._waits = waits
        self._patience = patience
        self._hurry = asyncio.Event()
        self._socket: ClientWebSocket | None = None
        """The connection, while anything can be said or heard on it."""
        self._greeted = False
        """The server has said on this connection whether it wants us."""
        self._connected_at = 0.0
        self._woken = False

    def wake(self) -> None:
        """There may be something to send."""
        if self.connected and self._socket is not None and not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._send)

    def hurry(self) -> None:
        """Do not wait any longer before the next attempt to connect."""
        self._hurry.set()

    async def run(self) -> None:
        """For ever: until it is cancelled, or one of the functions raises what is no `OSError`."""
        wait = 0.0
        while True:
            connected_s = 0.0
            try:
                await self._talk()
            except (OSError, WebSocketException, ProtocolError) as error:
                log.info("The server at %s cannot be reached: %s", self.url, error)
            if self.connected:
                self.connected = False
                connected_s = time.monotonic() - self._connected_at
                self._down()
            wait = self._waits.after(wait, connected_s)
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait * random.uniform(0.5, 1.0)):
                    await self._hurry.wait()

    async def _talk(self) -> None:
        """For the life of one connection. Raises why it ended, unless that was in all order."""
        socket = await open_websocket(self.url, wire.FRAME_BYTES_MAX, self._patience)
        self._socket, self._greeted = socket, False
        socket.listener = self
        due = asyncio.get_running_loop().call_later(self._patience.open_s, self._miss_greeting)
        try:
            first: list[FromAgent] = [self._hello()]
            socket.send(wire.encode(first))
            await socket.lost.wait()
        finally:
            due.cancel()
            socket.close(CloseCode.GOING_AWAY)
            await socket.lost.wait()
        if socket.failure is not None:
            raise socket.failure
        if not self._greeted:
            raise ConnectionAbortedError("it has ended the connection without a word")

    def _miss_greeting(self) -> None:
        if not self._greeted:
            self._fail(TimeoutError("it does not answer the hello"))

    # --- what the connection calls ------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        try:
            messages = wire.decode_from_server(data)
            if self._greeted:
                self._receive(messages)
            else:
                self._greet(messages)
        except Exception as failure:
            self._fail(failure)

    def drained(self) -> None:
        self.wake()

    def end(self) -> None:
        self._socket = None

    # --- inside -------------------------------------------------------------------------------

    def _greet(self, messages: list[FromServer]) -> None:
        match messages:
            case [Welcome(), *_]:
                self.connected = True
                self._connected_at = time.monotonic()
            case [Refusal(text=text), *_]:
                log.warning("The server refuses this agent: %s", text)
            case _:
                raise ProtocolError("its first message is neither a welcome nor a refusal")
        self._greeted = True
        self._receive(messages)
        if self.connected:
            self.wake()
        elif self._socket is not None:
            self._socket.close(CloseCode.GOING_AWAY)

    def _send(self) -> None:
        """One frame in each turn of the loop, so that others have theirs."""
        self._woken = False
        socket = self._socket
        if socket is None or socket.is_full:
            return
        try:
            if messages := self._fill():
                socket.send(wire.encode(messages))
                self.wake()
        except Exception as failure:
            self._fail(failure)

    def _fail(self, failure: Exception) -> None:
        """What goes wrong while the connection has its turn, goes wrong in `run`."""
        if self._socket is not None:
            self._socket.fail(failure)

"""The agent's end of the link: a WebSocket to the server that is opened again and again.

Knows frames and waiting, nothing of what the messages mean: `hello` makes the first one of a
connection, `receive` takes what comes in, frame by frame, `fill` is asked for the next frame when
`wake` has said that there may be something and the loop has come to rest. Reports, output offsets
and their resending are the business of those three. A frame that cannot be understood, or a
server that refuses, ends the connection, never the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.frames import CloseCode

from roost.errors import ProtocolError
from roost.wire import link as wire
from roost.wire.link import FromAgent, FromServer, Hello, Refusal, Welcome

log = logging.getLogger(__name__)

CLOSE_S_MAX = 0.5
OPEN_S_MAX = 10.0


class Waits(Struct, frozen=True):
    """Between attempts to connect, in seconds: doubled each time, and jittered."""

    first_s: float = 0.1
    max_s: float = 10.0


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
        self._something = asyncio.Event()
        self._hurry = asyncio.Event()

    def wake(self) -> None:
        """There may be something to send."""
        self._something.set()

    def hurry(self) -> None:
        """Do not wait any longer before the next attempt to connect."""
        self._hurry.set()

    async def run(self) -> None:
        """For ever: until it is cancelled."""
        wait = self._waits.first_s
        while True:
            try:
                async with connect(
                    self.url,
                    compression=None,
                    max_size=wire.FRAME_BYTES_MAX,
                    open_timeout=OPEN_S_MAX,
                    close_timeout=CLOSE_S_MAX,
                    proxy=None,
                ) as socket:
                    try:
                        if await self._join(socket):
                            wait = self._waits.first_s
                            await self._talk(socket)
                    finally:
                        with contextlib.suppress(OSError, WebSocketException):
                            await socket.close(CloseCode.GOING_AWAY)
            except (OSError, WebSocketException, ProtocolError, TimeoutError) as error:
                log.info("The server at %s cannot be reached: %s", self.url, error)
            if self.connected:
                self.connected = False
                self._down()
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait * random.uniform(0.5, 1.0)):
                    await self._hurry.wait()
            wait = min(self._waits.max_s, wait * 2)

    async def _join(self, socket: ClientConnection) -> bool:
        """Introduce ourselves. False when the server does not want us."""
        first: list[FromAgent] = [self._hello()]
        await socket.send(wire.encode(first))
        async with asyncio.timeout(OPEN_S_MAX):
            messages = _decode(await socket.recv())
        match messages:
            case [Welcome(), *_]:
                self.connected = True
                self._receive(messages)
                return True
            case [Refusal(text=text), *_]:
                log.warning("The server refuses this agent: %s", text)
                self._receive(messages)
                return False
        raise ProtocolError("The server's first message is neither a welcome nor a refusal.")

    async def _talk(self, socket: ClientConnection) -> None:
        sending = asyncio.create_task(self._send(socket))
        try:
            async for frame in socket:
                self._receive(_decode(frame))
        finally:
            sending.cancel()
            # Waiting rather than awaiting: that it was cancelled must not hide that we were.
            await asyncio.wait([sending])
            if not sending.cancelled():
                sending.exception()

    async def _send(self, socket: ClientConnection) -> None:
        self._something.set()
        while True:
            await self._something.wait()
            self._something.clear()
            while messages := self._fill():
                await socket.send(wire.encode(messages))
                # Sending alone does not let others run as long as the socket takes everything.
                await asyncio.sleep(0)


def _decode(frame: str | bytes) -> list[FromServer]:
    if isinstance(frame, str):
        raise ProtocolError("Frames of the agent link are binary.")
    return wire.decode_from_server(frame)

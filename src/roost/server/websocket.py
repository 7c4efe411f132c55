"""Connections of agents: messages of a WebSocket, in the same turn of the loop as their bytes.

uvicorn makes one of these for each connection that asks to become a WebSocket, and hands it the
request. The `websockets` library speaks the protocol; here are the socket, the limits and the two
directions of back-pressure, without tasks, queues or ASGI: with a thousand agents each frame has a
turn to itself, and those cost more than all that is done with what is in it.

An agent pings by itself and sends beats, so the server only looks whether it has said anything.
Knows nothing of what messages mean.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol, cast

import structlog
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

SILENT_S_MAX = 30.0
"""Whoever says nothing for one such period is given up. The library's client pings every 20 s."""
CLOSE_S_MAX = 10.0
"""So long the other side may take to agree to the end."""

log = structlog.get_logger(__name__)


class Listener(Protocol):
    """What the messages of one connection are for."""

    def receive(self, data: bytes) -> None:
        """A message has come."""

    def drained(self) -> None:
        """The connection is not full any more."""

    def end(self) -> None:
        """It has ended, or no more can be said or heard on it; called once."""


class WebSocket(asyncio.Protocol):
    """See the module's text."""

    path: str
    message_bytes_max: int
    open_listener: Callable[[WebSocket], Listener]

    def __init__(self, config: Any, server_state: Any, app_state: Any) -> None:
        self.is_full = False
        """What is sent now stays in memory, as the other side does not take what was sent."""
        self._connections: set[Any] = server_state.connections
        self._loop = asyncio.get_running_loop()
        self._protocol = ServerProtocol(
            max_size=self.message_bytes_max, logger=logging.getLogger("websockets.server")
        )
        self._listener: Listener | None = None
        self._fragments: list[bytes] = []
        self._heard = False
        self._timer: asyncio.TimerHandle | None = None

    # --- what listeners do ----------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """One message; dropped when the connection is ending."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_binary(data)
            self._flush()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self, code: CloseCode = CloseCode.NORMAL_CLOSURE) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code)
            self._flush()
            self._set_timer(CLOSE_S_MAX, self._transport.abort)
        self._end()

    # --- what uvicorn and the loop call ---------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._answer(event)
            else:
                self._take(cast(Frame, event))
        self._flush()
        if self._protocol.parser_exc is not None:
            log.warning("an agent broke the protocol", error=str(self._protocol.parser_exc))
            self._end()

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        if self._listener is not None:
            self._listener.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._end()

    def shutdown(self) -> None:
        """The server stops."""
        self.close(CloseCode.SERVICE_RESTART)
        self._transport.close()

    # --- inside ---------------------------------------------------------------------------

    def _answer(self, request: Request) -> None:
        if request.path.partition("?")[0] == self.path:
            response = self._protocol.accept(request)
        else:
            response = self._protocol.reject(HTTPStatus.FORBIDDEN, "")
        self._protocol.send_response(response)
        self._flush()
        if self._protocol.state is State.OPEN:
            self._listener = self.open_listener(self)
            self._set_timer(SILENT_S_MAX, self._look_for_silence)

    def _take(self, frame: Frame) -> None:
        if self._listener is None:
            return
        match frame.opcode:
            case Opcode.BINARY if frame.fin:
                self._listener.receive(bytes(frame.data))
            case Opcode.BINARY | Opcode.CONT:
                self._fragments.append(bytes(frame.data))
                if frame.fin:
                    whole, self._fragments = b"".join(self._fragments), []
                    self._listener.receive(whole)
            case Opcode.TEXT:
                log.warning("an agent sent a text frame")
                self.close(CloseCode.UNSUPPORTED_DATA)
            case Opcode.CLOSE:
                self._end()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:  # the library's word for the end
                self._transport.close()

    def _look_for_silence(self) -> None:
        if self._heard:
            self._heard = False
            self._set_timer(SILENT_S_MAX, self._look_for_silence)
        else:
            log.info("an agent is silent, its connection is given up")
            self._transport.abort()

    def _set_timer(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, call)

    def _end(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.end()


def websocket_class(
    path: str, message_bytes_max: int, open_listener: Callable[[WebSocket], Listener]
) -> type[WebSocket]:
    """For uvicorn, which makes one for each connection; elsewhere than at `path` it is refused."""

    class OfThisServer(WebSocket):
        pass

    OfThisServer.path = path
    OfThisServer.message_bytes_max = message_bytes_max
    OfThisServer.open_listener = staticmethod(open_listener)
    return OfThisServer

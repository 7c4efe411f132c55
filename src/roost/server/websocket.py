"""Connections of agents, as the server has them.

uvicorn makes one of these for each connection that asks to become a WebSocket, and hands it the
request. From there on it is a `roost.websocket.WebSocket`, without ASGI: with a thousand agents
each frame has a turn to itself. An agent pings by itself and sends beats, so the server only looks
whether it has said anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import structlog
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from roost.websocket import Listener, WebSocket

SILENT_S_MAX = 30.0
"""Whoever says nothing for one such period is given up. An agent pings every 20 s."""
CLOSE_S_MAX = 10.0
"""How long the other side may take to agree to the end."""

log = structlog.get_logger(__name__)


class ServerWebSocket(WebSocket):
    """See the module's text."""

    path: str
    message_bytes_max: int
    open_listener: Callable[[WebSocket], Listener]
    _protocol: ServerProtocol

    def __init__(self, config: Any, server_state: Any, app_state: Any) -> None:
        protocol = ServerProtocol(
            origins=[None],  # a page of whatever site in a browser has one, and is no agent
            max_size=self.message_bytes_max,
            logger=logging.getLogger("websockets.server"),
        )
        super().__init__(protocol, SILENT_S_MAX, CLOSE_S_MAX)
        self._connections: set[Any] = server_state.connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server stops; uvicorn says so."""
        self.close(CloseCode.SERVICE_RESTART)
        self._transport.close()

    def _shake_hands(self, request: Request | Response) -> None:
        assert isinstance(request, Request)
        if request.path.partition("?")[0] == self.path:
            response = self._protocol.accept(request)
        else:
            response = self._protocol.reject(HTTPStatus.FORBIDDEN, "")
        self._protocol.send_response(response)
        self._flush()
        if self._protocol.state is State.OPEN:
            self.listener = self.open_listener(self)
            self._watch()

    def _on_silence(self) -> None:
        log.info("an agent is silent, its connection is given up")

    def _on_breach(self, what: str) -> None:
        log.warning("an agent broke the protocol", error=what)


def websocket_class(
    path: str, message_bytes_max: int, open_listener: Callable[[WebSocket], Listener]
) -> type[ServerWebSocket]:
    """For uvicorn, which makes one for each connection; elsewhere than at `path` it is refused."""

    class OfThisServer(ServerWebSocket):
        pass

    OfThisServer.path = path
    OfThisServer.message_bytes_max = message_bytes_max
    OfThisServer.open_listener = staticmethod(open_listener)
    return OfThisServer

"""uvicorn's connections, on which an answer leaves in one piece.

uvicorn writes the head of an answer and then its body, and the loop sends either at once. For the
small answers that nearly all calls have, that is twice the system calls, and the caller is woken,
and takes the CPU, for a head without a body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol

LARGE_BYTES = 64 * 1024
"""A piece as large as this is worth a system call of its own."""


class JoiningTransport(asyncio.Transport):
    """Sends a piece with the one that follows in the same turn of the loop, or when the turn ends;
    all else is that transport's."""

    def __init__(
        self, transport: asyncio.Transport, call_soon: Callable[[Callable[[], None]], Any]
    ) -> None:
        self.below = transport
        self._call_soon = call_soon
        self._pieces: list[bytes] = []

    def write(self, data: Any) -> None:
        is_first = not self._pieces
        self._pieces.append(data)
        if is_first and len(data) < LARGE_BYTES:
            self._call_soon(self.flush)
        else:
            self.flush()

    def flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces and not self.below.is_closing():
            self.below.writelines(pieces)

    def close(self) -> None:
        self.flush()
        self.below.close()

    def is_closing(self) -> bool:
        return self.below.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.below.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self.below.pause_reading()

    def resume_reading(self) -> None:
        self.below.resume_reading()


class Connection(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """See the module's text."""

    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        below = cast(asyncio.Transport, transport)
        super().connection_made(JoiningTransport(below, self.loop.call_soon))

    def handle_websocket_upgrade(self, *arguments: Any) -> None:
        """What takes over has its own way of writing."""
        self.transport.flush()
        self.transport = self.transport.below
        super().handle_websocket_upgrade(*arguments)

"""Where agents of this machine get their data channels: a Unix socket in the data folder.

Files can be handed over on such a channel (`wire.channel`). The socket is for the server's own
account, and for nothing but a request for a channel, with the ticket that it needs on the port too.
Agents of other machines are not told where it is.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from functools import partial
from pathlib import Path
from typing import cast

import structlog

from roost.server.connection import OpenChannel, taken_from

ASK_S_MAX = 10.0
BACKLOG = 128

log = structlog.get_logger(__name__)


def is_here(peer: str, own: str) -> bool:
    """Whether who has connected from the address `peer` to `own` is on this machine."""
    if not peer:
        return False
    address = ipaddress.ip_address(peer)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return peer == own or address.is_loopback


class LocalSocket:
    def __init__(self, path: Path) -> None:
        """In the place of what an earlier server has left there. Some folders can have none."""
        self.path = ""
        """Where it is; empty if there is none."""
        self._server: asyncio.Server | None = None
        listener = socket.socket(socket.AF_UNIX)
        try:
            self.path = os.fsencode(path).decode()
            path.unlink(missing_ok=True)
            listener.bind(self.path)
            path.chmod(0o600)
            listener.listen(BACKLOG)  # only from here on anybody gets in
        except (OSError, UnicodeDecodeError) as error:
            log.info("agents of this machine use the port", socket=str(path), reason=str(error))
            self.path = ""
            listener.close()
        self._listener = listener

    async def serve(self, open_channel: OpenChannel) -> None:
        if self.path:
            loop = asyncio.get_running_loop()
            ask = partial(_Asking, open_channel)
            self._server = await loop.create_unix_server(ask, sock=self._listener)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._listener.close()
        if self.path:
            Path(self.path).unlink(missing_ok=True)


class _Asking(asyncio.Protocol):
    """A connection until it is a channel."""

    def __init__(self, open_channel: OpenChannel) -> None:
        self._open_channel = open_channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(ASK_S_MAX, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._patience.cancel()
        if refusal := self._open_channel(data, partial(taken_from, self._transport)):
            self._transport.write(refusal)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()

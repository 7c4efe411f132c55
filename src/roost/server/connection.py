"""uvicorn's connections, on which plain calls pass it by and all answers leave in one piece.

A call of HQueue's API is a small request, and what uvicorn and its interface make of one costs as
much as a short call itself. So as long as nothing but plain calls has come on a connection, they
are read here: a POST to one of HQueue's paths whose head has only fields that `body_size` knows,
none of which asks for anything. With the first other request (a forwarded one, one in chunks, a
page) the connection is uvicorn's for good, which serves all there is, also calls. One that an agent
asks to have as a data channel leaves uvicorn with its first request.

uvicorn writes the head of an answer and then its body, and the loop sends either at once. For
small answers that is twice the system calls, and the caller is woken, and takes the CPU, for a head
without a body.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import re
import socket
from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Any, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from roost.busypoll import BusyPoll
from roost.hqueue.dispatch import PATHS
from roost.wire import channel, xmlrpc

LARGE_BYTES = 64 * 1024
"""A piece as large as this is worth a system call of its own."""
HEAD_BYTES_MAX = 4096
HEADS_KEPT = 256
"""Callers send the same head again and again."""

_HEAD_END = b"\r\n\r\n"
_KEPT = b"keep-alive"
_REQUEST_LINES = frozenset(b"POST %s HTTP/1.1" % path.encode() for path in PATHS)
_FIELD = re.compile(rb"([A-Za-z-]+):[ \t]*([\x21-\x7e][\x20-\x7e]*)")
_PLAIN_FIELDS = frozenset(
    b"accept accept-encoding connection content-length content-type host user-agent".split()
)


@lru_cache(HEADS_KEPT)
def body_size(head: bytes) -> int | None:
    """How many bytes of a plain call follow this head, which is without its end; None for every
    other request, and for all that is written in an unusual way."""
    line, *rest = head.split(b"\r\n")
    fields: dict[bytes, bytes] = {}
    for one in rest:
        field = _FIELD.fullmatch(one)
        if field is None or (name := field[1].lower()) not in _PLAIN_FIELDS or name in fields:
            return None
        fields[name] = field[2]
    kind = fields.get(b"content-type", b"").decode()
    size = fields.get(b"content-length", b"")
    is_kept = fields.get(b"connection", _KEPT).lower() == _KEPT
    if line not in _REQUEST_LINES or not xmlrpc.is_content_type(kind) or not is_kept:
        return None
    return int(size) if size.isdigit() else None


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


class Begun:
    """A coroutine that is begun where it is made and goes on where what it waits for is there. A
    task would begin in the loop's next turn, which is the cost of a small call once more. What it
    waits for must be futures; nothing in it may ask for its task."""

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine
        self._context = contextvars.copy_context()
        self._is_cancelled = False

    def begin(self) -> None:
        self._context.run(self._go_on)

    def cancel(self, msg: object = None) -> None:
        """Give it up: uvicorn does, when the server has to stop and the answer is not there."""
        self._is_cancelled = True
        asyncio.get_running_loop().call_soon(self._coroutine.close)

    def _go_on(self, _: object = None) -> None:
        if self._is_cancelled:
            return
        try:
            awaited: asyncio.Future[Any] | None = self._coroutine.send(None)
        except StopIteration:
            return
        if awaited is None:
            asyncio.get_running_loop().call_soon(self._go_on, context=self._context)
        else:
            awaited.add_done_callback(self._go_on, context=self._context)


OpenChannel = Callable[[bytes, Callable[[], socket.socket]], bytes]
"""What to answer to a request for a data channel, if anything: see `Agents.open_channel`."""
Respond = Callable[[bytes, str | None], Coroutine[Any, Any, bytes]]
"""Answers the body of a call from a host with a body: see `Endpoint.respond`."""


class Connection(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """See the module's text."""

    transport: Any
    open_channel: OpenChannel
    respond: Respond
    body_bytes_max: int
    awake: BusyPoll
    """Not while calls are answered, as threads do that and want the interpreter."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        below = cast(asyncio.Transport, transport)
        super().connection_made(JoiningTransport(below, self.loop.call_soon))
        self._is_uvicorns = False
        self._received = b""
        """Not looked at yet: a part of a head, or what came while a call was answered."""
        self._body: list[bytes] = []
        self._missing = 0
        """How much of the body of a call is still to come."""
        self._answering: Begun | None = None
        self._is_last = False
        """The connection ends with the answer that is under way."""
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        if self._is_uvicorns:
            super().data_received(data)
        elif self._missing > 0:
            self._take(data)
        else:
            self._received += data
            if self._answering is None:
                self._begin()
            elif len(self._received) > LARGE_BYTES:
                self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        if self._answering is None:
            super().shutdown()
        else:
            self._is_last = True

    # --- plain calls ----------------------------------------------------------------------

    def _begin(self) -> None:
        """Take up what has been received, if it is enough to begin with."""
        data = self._received
        end = data.find(_HEAD_END)
        if end < 0 and data.startswith(b"POST ") and len(data) < HEAD_BYTES_MAX:
            return
        size = body_size(data[:end]) if 0 <= end < HEAD_BYTES_MAX else None
        self._received = b""
        if size is None or size > self.body_bytes_max:
            self._pass_on(data)
            return
        body = data[end + len(_HEAD_END) :]
        if len(body) == size:
            self._begin_to_answer(body)
        else:
            self._missing = size
            self._take(body)

    def _take(self, data: bytes) -> None:
        """More of the body of a call."""
        self._body.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return
        body, self._body = b"".join(self._body), []
        if self._missing < 0:
            body, self._received = body[: self._missing], body[self._missing :]
            self._missing = 0
        self._begin_to_answer(body)

    def _begin_to_answer(self, body: bytes) -> None:
        self.awake.came()
        self._answering = Begun(self._answer(body))
        self.tasks.add(self._answering)
        self._answering.begin()

    async def _answer(self, body: bytes) -> None:
        assert self._answering is not None
        try:
            answer = await self.respond(body, self.client[0] if self.client else None)
            below = self.transport.below
            if not below.is_closing():
                head = _head_start(tuple(self.server_state.default_headers))
                below.writelines((b"%s%d\r\n\r\n" % (head, len(answer)), answer))
                if self.flow.write_paused:
                    await self.flow.drain()  # for who sends calls and reads no answers
            if self._received:
                await asyncio.sleep(0)  # as many may have come at once
        except BaseException:
            self.transport.close()
            raise
        finally:
            self.tasks.discard(self._answering)
            self._answering = None
        self._idle_since = self.loop.time()
        if not self.tasks:
            self.awake.waits()
        if self._idle_timer is None:
            self._watch(self.timeout_keep_alive)
        if self._is_last:
            self.transport.close()
        elif self._received:
            self.transport.resume_reading()
            self._begin()

    def _watch(self, seconds: float) -> None:
        self._idle_timer = self.loop.call_later(seconds, self._close_if_idle)

    def _close_if_idle(self) -> None:
        """One timer for many calls, as each would have to stop that of the one before."""
        is_idle = not (self._answering or self._missing or self._received)
        left = self._idle_since + self.timeout_keep_alive - self.loop.time() if is_idle else 0.0
        if is_idle and left <= 0:
            self.transport.close()
        else:
            self._watch(left or self.timeout_keep_alive)

    def _forget_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()

    # --- what else there is ---------------------------------------------------------------

    def _pass_on(self, data: bytes) -> None:
        """Another request than a plain call."""
        self._is_uvicorns = True
        self._forget_timer()
        if data.startswith(channel.REQUEST):
            if refusal := self.open_channel(data, self._leave):
                self.transport.write(refusal)
                self.transport.close()
        else:
            super().data_received(data)

    def _leave(self) -> socket.socket:
        """The connection itself; as far as HTTP is concerned it has ended."""
        return taken_from(self.transport.below)

    def handle_websocket_upgrade(self, *arguments: Any) -> None:
        """What takes over has its own way of writing."""
        self.transport.flush()
        self.transport = self.transport.below
        super().handle_websocket_upgrade(*arguments)


def taken_from(transport: asyncio.Transport) -> socket.socket:
    """The connection itself, which its transport loses."""
    transport.pause_reading()
    peer = transport.get_extra_info("socket")
    own = socket.socket(fileno=os.dup(peer.fileno()))
    transport.abort()
    return own


@lru_cache(2)
def _head_start(fields: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """What all answers of the same second begin with."""
    return _ANSWER_HEAD % b"".join(b"%s: %s\r\n" % one for one in fields)


_ANSWER_HEAD = b"HTTP/1.1 200 OK\r\n%scontent-type: text/xml; charset=utf-8\r\ncontent-length: "


def connection_class(
    open_channel: OpenChannel, respond: Respond, body_bytes_max: int
) -> type[Connection]:
    """For uvicorn, which makes one for each connection."""

    class OfThisServer(Connection):
        pass

    OfThisServer.open_channel = staticmethod(open_channel)
    OfThisServer.respond = staticmethod(respond)
    OfThisServer.body_bytes_max = body_bytes_max
    OfThisServer.awake = BusyPoll()
    return OfThisServer

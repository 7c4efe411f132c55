"""Data channels as the agent has them: opened when there is bulk, given back, closed when idle.

A channel carries bytes that the link has announced (`wire.channel`); between sockets and files the
kernel moves them, and nothing here waits. There may be none to be had: the server is an older one,
is reached by https or through something that lets no upgrade pass, or has given out enough. Then
bulk takes the link as well, so nobody may depend on one. They end with the link they belong to.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct

from roost.wire import channel as wire
from roost.wire.link import ChannelClosed

log = logging.getLogger(__name__)

CHANNELS_MAX = 8
"""Of an agent, at a time."""
OPEN_S_MAX = 5.0
IDLE_S_MAX = 2.0
"""A channel that nobody has used for so long is closed."""
REFUSED_S = 10.0
"""So long after one could not be had, none is asked for."""
STRETCH_BYTES_MAX = 4 * 1024 * 1024
"""Of output, what is announced and acknowledged at once."""
STRETCHES_MAX = 4
"""Of output, announced and unacknowledged."""
SEND_BYTES = 512 * 1024
PIPE_BYTES = 1024 * 1024
_PORT = 80


class Channel(NamedTuple):
    number: int
    socket: socket.socket


class Channels:
    def __init__(self, server: str, wake: Callable[[], None]) -> None:
        """`server` is its URL; `wake` is called when there is something to `pull`."""
        parts = urlsplit(server.rstrip("/"))
        self._plain = parts.scheme == "http"
        self._address = (parts.hostname or "", parts.port or _PORT)
        self._host, self._base = parts.netloc, parts.path
        self._wake = wake
        self._ticket = ""
        self._numbers = itertools.count(1)
        self._open: dict[int, Channel] = {}
        self._opening = 0
        self._idle: list[Channel] = []
        self._closed: list[ChannelClosed] = []
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def welcomed(self, ticket: str) -> None:
        self._ticket = ticket
        self._not_before = 0.0

    def link_down(self) -> None:
        """All channels end; who has one finds it at its end and gives it back."""
        self._ticket = ""
        self._close_idle()
        self._closed.clear()
        for channel in self._open.values():
            with contextlib.suppress(OSError):
                channel.socket.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def pull(self) -> list[ChannelClosed]:
        """What the server is to be told."""
        closed, self._closed = self._closed, []
        return closed

    @property
    def has_idle(self) -> bool:
        """Whether there is one at hand, and not ended by the server."""
        while self._idle and _is_over(self._idle[-1].socket):
            self._close(self._idle.pop())
        return bool(self._idle)

    def take_idle(self) -> Channel | None:
        return self._idle.pop() if self._idle else None

    @property
    def may_open(self) -> bool:
        """Whether asking the server for another one makes sense."""
        return (
            self._plain
            and bool(self._ticket)
            and len(self._open) + self._opening < CHANNELS_MAX
            and time.monotonic() >= self._not_before
        )

    async def take(self) -> Channel | None:
        """A channel to have until it is given back, unless there is none to be had."""
        if self.has_idle:
            return self.take_idle()
        if not self.may_open:
            return None
        ticket, number = self._ticket, next(self._numbers)
        self._opening += 1
        try:
            async with asyncio.timeout(OPEN_S_MAX):
                peer = await self._ask_for(number)
        except (OSError, TimeoutError) as error:
            log.info("No data channel to the server: %s", error)
            if ticket == self._ticket:
                self._not_before = time.monotonic() + REFUSED_S
            return None
        finally:
            self._opening -= 1
        if ticket != self._ticket:
            peer.close()
            return None
        channel = self._open[number] = Channel(number, peer)
        return channel

    def give_back(self, channel: Channel, *, clean: bool) -> None:
        """`clean`: nothing is under way on it, so that it can be used again."""
        if clean and channel.number in self._open:
            self._idle.append(channel)
            if self._timer is not None:
                self._timer.cancel()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(IDLE_S_MAX, self._close_idle)
        else:
            self._close(channel)

    def close(self) -> None:
        """Whoever has a channel gives it back as after `link_down`."""
        self.link_down()

    def _close_idle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for channel in self._idle:
            self._close(channel)
        self._idle.clear()

    def _close(self, channel: Channel) -> None:
        channel.socket.close()
        if self._open.pop(channel.number, None) is not None:
            self._closed.append(ChannelClosed(channel.number))
            self._wake()

    async def _ask_for(self, number: int) -> socket.socket:
        """Raises `OSError`."""
        peer = await self._connect()
        try:
            loop = asyncio.get_running_loop()
            request = wire.request(self._host, self._base, self._ticket, number)
            await loop.sock_sendall(peer, request)
            answer = b""
            while not answer.endswith(b"\r\n\r\n") and len(answer) < wire.REQUEST_BYTES_MAX:
                more = await loop.sock_recv(peer, wire.REQUEST_BYTES_MAX)
                if not more:
                    break
                answer += more
            if not wire.accepted(answer):
                raise ConnectionRefusedError(answer.partition(b"\r\n")[0].decode("latin-1"))
        except BaseException:
            peer.close()
            raise
        return peer

    async def _connect(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        host, port = self._address
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        failure = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in found:
            peer = socket.socket(family, kind, protocol)
            peer.setblocking(False)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                await loop.sock_connect(peer, address)
            except OSError as error:
                peer.close()
                failure = error
            except BaseException:
                peer.close()
                raise
            else:
                return peer
        raise failure


def _is_over(idle: socket.socket) -> bool:
    """Nothing is said on an idle channel: there is only an end to be read."""
    try:
        idle.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


# --- output -----------------------------------------------------------------------------------


class _Stretch(Struct, eq=False):
    file: int
    offset: int
    left: int


class OutputChannel:
    """Sends stretches of output files, one after the other, over a channel that it has while there
    are any. Each is answered over the link, whatever becomes of it."""

    def __init__(self, channels: Channels, wake: Callable[[], None]) -> None:
        """`wake` is called when `may_send` may have become true."""
        self._channels = channels
        self._wake = wake
        self._channel: Channel | None = None
        self._opening: asyncio.Task[None] | None = None
        self._queue: deque[_Stretch] = deque()
        self._unanswered = 0

    @property
    def may_send(self) -> bool:
        """Asking is also what opens a channel when there is none."""
        if self._unanswered >= STRETCHES_MAX:
            return False
        if self._channel is not None or self._channels.has_idle:
            return True
        if self._opening is None and self._channels.may_open:
            self._opening = asyncio.create_task(self._open())
        return False

    def send(self, file: int, offset: int, size: int) -> int:
        """When it may: to be announced on the channel whose number is given."""
        if self._channel is None:
            self._channel = self._channels.take_idle()
        assert self._channel is not None
        if not self._queue:
            asyncio.get_running_loop().add_writer(self._channel.socket, self._send_some)
        self._queue.append(_Stretch(os.dup(file), offset, size))
        self._unanswered += 1
        return self._channel.number

    def answered(self) -> None:
        """One of them was."""
        self._unanswered -= 1
        if self._channel is not None and not self._unanswered and not self._queue:
            self._let_go(clean=True)

    def reset(self) -> None:
        """The link is down: nothing will be answered."""
        self._unanswered = 0
        self._let_go(clean=False)
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None

    async def _open(self) -> None:
        channel = await self._channels.take()
        if self._opening is asyncio.current_task():
            self._opening = None
        if channel is not None:
            self._channels.give_back(channel, clean=True)
            self._wake()

    def _send_some(self) -> None:
        assert self._channel is not None
        stretch = self._queue[0]
        try:
            size = min(stretch.left, SEND_BYTES)
            sent = os.sendfile(self._channel.socket.fileno(), stretch.file, stretch.offset, size)
        except BlockingIOError:
            return
        except OSError:
            sent = 0
        if not sent:  # or somebody has cut the file
            self._let_go(clean=False)
            return
        stretch.offset += sent
        stretch.left -= sent
        if not stretch.left:
            os.close(self._queue.popleft().file)
            if not self._queue:
                asyncio.get_running_loop().remove_writer(self._channel.socket)

    def _let_go(self, *, clean: bool) -> None:
        if self._channel is not None:
            if self._queue:
                asyncio.get_running_loop().remove_writer(self._channel.socket)
            self._channels.give_back(self._channel, clean=clean)
            self._channel = None
        while self._queue:
            os.close(self._queue.popleft().file)


# --- between two sockets ----------------------------------------------------------------------


async def forward(
    source: socket.socket, target: socket.socket, size: int, patience: float | None = None
) -> tuple[int, int]:
    """Move bytes from one to the other without reading them: gives how many were taken and how
    many were given. Both are `size` unless one of the two has ended, or the next byte of the source
    took longer than `patience`, in seconds."""
    taken = given = 0
    out, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        while given < size:
            try:
                if taken < size and (moved := _splice(source.fileno(), into, size - taken)) >= 0:
                    if not moved:
                        break
                    taken += moved
                if taken == given:
                    await _until_readable(source, patience)
                elif (moved := _splice(out, target.fileno(), taken - given)) >= 0:
                    given += moved
                    await asyncio.sleep(0)
                else:
                    await _until_writable(target)
            except OSError:
                break
    finally:
        os.close(out)
        os.close(into)
    return taken, given


def _splice(source: int, target: int, size: int) -> int:
    """Below 0: would have to wait. Raises `OSError`."""
    try:
        return os.splice(source, target, min(size, PIPE_BYTES), flags=os.SPLICE_F_NONBLOCK)
    except BlockingIOError:
        return -1


async def _until_readable(peer: socket.socket, patience: float | None) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(peer, _ring, ready)
    try:
        async with asyncio.timeout(patience):
            await ready
    finally:
        loop.remove_reader(peer)


async def _until_writable(peer: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(peer, _ring, ready)
    try:
        await ready
    finally:
        loop.remove_writer(peer)


def _ring(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

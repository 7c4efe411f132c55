"""Data channels as the agent has them: opened when there is bulk, given back, closed when idle.

A channel carries bytes that the link has announced (`wire.channel`); between sockets and files the
kernel moves them, and nothing here waits. There may be none to be had: the server is an older one,
is reached by https or through something that lets no upgrade pass, or has given out enough. Then
bulk takes the link as well, so nobody may depend on one. They end with the link they belong to.

Where the server runs on this machine and under this account, channels are had on its Unix socket,
and output files are handed over in place of what they hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import logging
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct

from roost.core.records import AttemptKey
from roost.wire import channel as wire
from roost.wire.link import ChannelClosed, OutputAhead

log = logging.getLogger(__name__)

CHANNELS_MAX = 8
"""How many an agent has at a time."""
OPEN_S_MAX = 5.0
IDLE_S_MAX = 2.0
"""A channel that nobody has used for so long is closed."""
REFUSED_S = 10.0
"""None is asked for so soon after one could not be had."""
STRETCH_BYTES_MAX = 4 * 1024 * 1024
"""How much output is announced, and acknowledged, at once."""
STRETCHES_MAX = 4
"""How many stretches of output are announced and not yet acknowledged."""
FAILED_S_MIN = 0.1
FAILED_S_MAX = 10.0
"""So long after a stretch that was not stored whole, output takes the link: twice as long after
each one that fails then, until one is stored."""
SEND_BYTES = 512 * 1024
PIPE_BYTES = 1024 * 1024
_PORT = 80
_CREDENTIALS = struct.Struct("3i")
"""Process, account and group of who listens on a Unix socket."""


class Channel(NamedTuple):
    number: int
    socket: socket.socket

    @property
    def takes_files(self) -> bool:
        return self.socket.family == socket.AF_UNIX


class _NoneLeft(ConnectionRefusedError):
    """The server has given out enough of them."""


class Channels:
    def __init__(self, server: str, wake: Callable[[], None]) -> None:
        """`server` is its URL; `wake` is called when there is something to `pull`."""
        parts = urlsplit(server.rstrip("/"))
        self._plain = parts.scheme == "http"
        self._address = (parts.hostname or "", parts.port or _PORT)
        self._host, self._base = parts.netloc, parts.path
        self._wake = wake
        self._ticket = ""
        self._unix_socket = ""
        """Where a server on this machine listens; empty once it has turned out not to be ours."""
        self._numbers = itertools.count(1)
        self._open: dict[int, Channel] = {}
        self._opening = 0
        self._idle: list[Channel] = []
        self._closed: list[ChannelClosed] = []
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def welcomed(self, ticket: str, unix_socket: str = "") -> None:
        """`unix_socket` is where the server's own machine gets channels, if anywhere."""
        self._ticket = ticket
        self._unix_socket = unix_socket
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
            (self._plain or bool(self._unix_socket))
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
                peer = await self._ask_for(ticket, number)
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

    async def _ask_for(self, ticket: str, number: int) -> socket.socket:
        """On this machine if that is where the server is. Raises `OSError`."""
        if self._unix_socket:
            try:
                return await self._upgrade(await _connect_here(self._unix_socket), ticket, number)
            except _NoneLeft:
                raise
            except OSError as error:
                log.info("The server is not on this machine or not ours: %s", error)
                if ticket == self._ticket:
                    self._unix_socket = ""
                if not self._plain:
                    raise
        return await self._upgrade(await self._connect(), ticket, number)

    async def _upgrade(self, peer: socket.socket, ticket: str, number: int) -> socket.socket:
        """The connection as a channel. Raises `OSError`."""
        try:
            loop = asyncio.get_running_loop()
            request = wire.request(self._host, self._base, ticket, number)
            await loop.sock_sendall(peer, request)
            answer = b""
            while not answer.endswith(b"\r\n\r\n") and len(answer) < wire.REQUEST_BYTES_MAX:
                more = await loop.sock_recv(peer, wire.REQUEST_BYTES_MAX)
                if not more:
                    break
                answer += more
            if not wire.accepted(answer):
                refusal = _NoneLeft if answer == wire.REFUSED else ConnectionRefusedError
                raise refusal(answer.partition(b"\r\n")[0].decode("latin-1"))
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


async def _connect_here(path: str) -> socket.socket:
    """Raises `OSError`, also where another account listens: it would be shown what jobs print."""
    peer = socket.socket(socket.AF_UNIX)
    peer.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(peer, path)
        who = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, account, _ = _CREDENTIALS.unpack(who)
        if account != os.geteuid():
            raise PermissionError(f"{path} belongs to another account")
    except BaseException:
        peer.close()
        raise
    return peer


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
    are any. Each is answered over the link, whatever becomes of it.

    Where the channel takes files, they are handed over. Once one of them has not been stored whole,
    bytes are sent until the next link, on the same channels: there may be no way for a file. A
    channel that fails otherwise is left alone for a while, and the longer, the more often it does.
    """

    def __init__(self, channels: Channels, wake: Callable[[], None]) -> None:
        """`wake` is called when `may_send` may have become true."""
        self._channels = channels
        self._wake = wake
        self._channel: Channel | None = None
        self._opening: asyncio.Task[None] | None = None
        self._queue: deque[_Stretch] = deque()
        self._unanswered = 0
        self._hands_over = True
        self._not_before = 0.0
        self._wait_s = FAILED_S_MIN

    @property
    def may_send(self) -> bool:
        """Asking is also what opens a channel when there is none."""
        if self._unanswered >= STRETCHES_MAX or time.monotonic() < self._not_before:
            return False
        if self._channel is not None or self._channels.has_idle:
            return True
        if self._opening is None and self._channels.may_open:
            self._opening = asyncio.create_task(self._open())
        return False

    def send(self, key: AttemptKey, file: int, offset: int, size: int) -> OutputAhead:
        """When it may. What is given is to be said over the link."""
        if self._channel is None:
            self._channel = self._channels.take_idle()
        assert self._channel is not None
        number = self._channel.number
        hands_over = self._hands_over and self._channel.takes_files
        self._unanswered += 1
        if hands_over:
            assert not self._queue  # whose bytes would come later
            self._hand_over(self._channel, file)
        else:
            if not self._queue:
                asyncio.get_running_loop().add_writer(self._channel.socket, self._send_some)
            self._queue.append(_Stretch(os.dup(file), offset, size))
        return OutputAhead(number, *key, offset, size, hands_over)

    def answered(self, *, whole: bool) -> None:
        """One of them was: it is stored `whole`, or not."""
        self._unanswered -= 1
        handed_over = self._hands_over and self._channel is not None and self._channel.takes_files
        self._hands_over &= whole
        if whole:
            self._wait_s = FAILED_S_MIN
        elif not handed_over:
            self._pause()
        if self._channel is not None and not self._unanswered and not self._queue:
            self._let_go(clean=True)

    def reset(self) -> None:
        """The link is down: nothing will be answered."""
        self._unanswered = 0
        self._hands_over = True
        self._not_before = 0.0
        self._wait_s = FAILED_S_MIN
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

    def _pause(self) -> None:
        """Have output take the link for a while: once for all stretches that fail together."""
        now = time.monotonic()
        if now >= self._not_before:
            self._not_before = now + self._wait_s
            self._wait_s = min(self._wait_s * 2, FAILED_S_MAX)

    def _hand_over(self, channel: Channel, file: int) -> None:
        try:
            socket.send_fds(channel.socket, [wire.HANDOVER], [file])
        except OSError:
            self._let_go(clean=False)

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

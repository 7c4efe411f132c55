"""A data channel of an agent, as the server has it: bytes between a socket and files, or calls.

What is to be moved was said over the agent link, and is moved in that order, in a thread of the
channel's own, so that neither a slow disk nor a slow peer holds up anybody else. The kernel
moves it (`splice`, `sendfile`); only where it refuses, the bytes pass through here. The thread
waits as long as the peer makes it wait: an agent that is gone is noticed by its link, which
closes its channels.

Where the peer hands a file over in place of its bytes, and it cannot be kept as it is, they go from
that file into ours in the same way, page by page through a pipe. `copy_file_range` is no faster.

A channel that is a lane (`wire.channel`) is served in the same thread: a call is taken from the
socket, done and answered without anybody else being woken.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import TypeVarTuple

from roost.errors import ProtocolError
from roost.pace import Pace
from roost.submitfolder import write_at
from roost.wire import channel as wire

Said = TypeVarTuple("Said")

PIPE_BYTES = 1024 * 1024
"""As much as anybody may have; of a smaller pipe, the bytes take more rounds."""
SEND_BYTES = 1024 * 1024 * 1024
COPY_BYTES = 256 * 1024
RESERVED_BYTES = 4 * 1024 * 1024
"""Room in a file for bytes on their way is asked for by so much: a stretch of output."""
_FALLOC_FL_KEEP_SIZE = 1
_ONE_FILE = array.array("i").itemsize
"""How many bytes of descriptors are taken with a handover."""
SAY_BYTES = 256 * 1024
"""Answers wait for each other up to here, while there is a next call to be done."""
_REFUSALS = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
"""What the kernel says where it cannot move bytes by itself."""


class Channel:
    def __init__(self, peer: socket.socket) -> None:
        """Takes the socket over and says that the channel is open. Raises `OSError`."""
        peer.setblocking(True)
        peer.sendall(wire.ACCEPTED)
        self._peer = peer
        self._works: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._ending = threading.Lock()
        self._over = False
        self._out = self._in = -1
        """A pipe, once bytes are to be moved to a file."""
        threading.Thread(target=self._run, name="channel", daemon=True).start()

    def add(self, work: Callable[[], None]) -> None:
        """`work` is called, in the thread and after what was added before; it calls the methods
        below and raises nothing."""
        with self._ending:
            if not self._over:
                self._works.put(work)
                return
        work()  # finds nothing to move, and lets go of what it has

    def cut(self) -> None:
        """Nothing more will come or go; what was added finds the channel at its end."""
        with contextlib.suppress(OSError):
            self._peer.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the channel, and its thread; called once."""
        self.cut()
        self._works.put(None)

    def _run(self) -> None:
        while (work := self._works.get()) is not None:
            work()
        with self._ending:
            while not self._works.empty():
                if (work := self._works.get()) is not None:
                    work()
            self._over = True
            self._peer.close()
            self._close_pipe()

    # --- in the thread ------------------------------------------------------------------------

    def receive(self, file: int, offset: int, size: int) -> int:
        """Put the next `size` bytes into a file; gives how many came before the channel ended.

        Raises `OSError` for what the disk does, when all of them have been taken from the channel.
        """
        return self._move(None, file, offset, size)

    @contextlib.contextmanager
    def file_taken(self) -> Iterator[int | None]:
        """The file that is handed over next, until it is let go of; None for what is no plain one,
        and at the end of the channel."""
        source = self._take_file()
        try:
            is_plain = source is not None and stat.S_ISREG(os.fstat(source).st_mode)
            yield source if is_plain else None
        finally:
            if source is not None:
                os.close(source)

    def copy(self, source: int, file: int, offset: int, size: int) -> int:
        """Put `size` bytes of a file that was taken into the same place of another; gives how many
        it had, none if it cannot be read. Raises `OSError` for what the disk does."""
        return self._move(source, file, offset, size)

    def _take_file(self) -> int | None:
        try:
            _, ancillary, _, _ = self._peer.recvmsg(
                len(wire.HANDOVER), socket.CMSG_LEN(_ONE_FILE), socket.MSG_CMSG_CLOEXEC
            )
        except OSError:
            return None
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) == _ONE_FILE:
                return array.array("i", data)[0]
        return None

    def _move(self, source: int | None, file: int, offset: int, size: int) -> int:
        """Put into a file what is at the same place of a source file, or, without one, what comes
        next from the peer."""
        taken = done = reserved = 0
        try:
            self._have_pipe()
            while done < size and (held := self._fill_pipe(source, offset + done, size - done)):
                taken += held
                if done >= reserved:
                    reserved = min(size, done + RESERVED_BYTES)
                    _reserve(file, offset + done, reserved - done)
                self._empty_pipe(file, offset + done, held)
                done += held
        except OSError:
            self._close_pipe()
            if source is None:
                self.discard(size - taken)
            raise
        return done

    def _fill_pipe(self, source: int | None, offset: int, size: int) -> int:
        """0: that was all."""
        size = min(size, PIPE_BYTES)
        try:
            if source is None:
                return os.splice(self._peer.fileno(), self._in, size)
            return os.splice(source, self._in, size, offset_src=offset)
        except OSError:
            return 0

    def _empty_pipe(self, file: int, offset: int, held: int) -> None:
        while held:
            try:
                moved = os.splice(self._out, file, held, offset_dst=offset)
            except OSError as error:
                if error.errno not in _REFUSALS:
                    raise
                moved = write_at(file, os.read(self._out, held), offset)
            offset += moved
            held -= moved

    def _have_pipe(self) -> None:
        if self._in < 0:
            self._out, self._in = os.pipe()
            with contextlib.suppress(OSError):  # an account has only so much of them
                fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def _close_pipe(self) -> None:
        if self._in >= 0:
            os.close(self._out)
            os.close(self._in)
            self._out = self._in = -1

    def discard(self, size: int) -> None:
        """Take the next `size` bytes and forget them."""
        buffer = bytearray(min(size, COPY_BYTES))
        with contextlib.suppress(OSError):
            while size and (got := self._peer.recv_into(buffer, min(size, COPY_BYTES))):
                size -= got

    def send(self, file: int, offset: int, size: int) -> int:
        """Gives how many bytes went out before either the file or the channel ended."""
        done = 0
        with contextlib.suppress(OSError):
            while done < size:
                moved = self._send_some(file, offset + done, size - done)
                if not moved:
                    break
                done += moved
        return done

    def _send_some(self, file: int, offset: int, size: int) -> int:
        try:
            return os.sendfile(self._peer.fileno(), file, offset, min(size, SEND_BYTES))
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
        data = os.pread(file, min(size, COPY_BYTES), offset)
        self._peer.sendall(data)
        return len(data)

    def serve(self, answer: Callable[[memoryview], bytes], ended: Callable[[], None]) -> None:
        """Answer frame by frame until the peer has no more, or either side has ended the channel.
        `ended` is called before the peer is told that its end has come, and may use the channel for
        something else. A peer that does not speak as it should is cut off."""
        lane = _Lane(self._peer)
        try:
            while frame := lane.next_frame():
                lane.say(answer(frame))
            ended()
            lane.say(b"")
            lane.flush()
        except OSError:
            pass
        except ProtocolError:
            self.cut()


def on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[*Said], None], *said: *Said) -> None:
    """In a thread: have the loop call this, unless it has ended meanwhile."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, *said)


class _Lane:
    """Frames from and to a socket that blocks."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._frames = wire.FrameReader()
        self._said: list[bytes] = []
        self._said_bytes = 0
        self._pace = Pace()

    def next_frame(self) -> memoryview:
        """Good until the next call. Raises `OSError`, also at the end of the connection."""
        while (frame := self._frames.next_frame()) is None:
            self.flush()  # before anything is waited for
            self._frames.received(self._receive_into(self._frames.room()))
        return frame

    def say(self, content: bytes) -> None:
        self._said.append(wire.frame(content))
        self._said_bytes += len(content)
        if self._said_bytes >= SAY_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._said:
            self._peer.sendall(self._said[0] if len(self._said) == 1 else b"".join(self._said))
            self._said.clear()
            self._said_bytes = 0

    def _receive_into(self, buffer: memoryview) -> int:
        got = -1
        if self._pace.waits():
            got = self._pace.receive(lambda: self._peer.recv_into(buffer, 0, socket.MSG_DONTWAIT))
        if got < 0:
            got = self._peer.recv_into(buffer)
        self._pace.came()
        if not got:
            raise ConnectionResetError
        return got


def _reserve(file: int, offset: int, size: int) -> None:
    """Have the file system find the place for bytes that come, at once instead of page by page. The
    file's size stays, so that nobody reads what is not there yet. A refusal means nothing."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fallocate(
            file, _FALLOC_FL_KEEP_SIZE, ctypes.c_long(offset), ctypes.c_long(size)
        )

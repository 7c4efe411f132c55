"""One connection to a Chirp server, which is either in step or closed.

Requests may be sent ahead of the answers. What is still to come is counted: `answers` that were not
read, `unread` bytes of the last one. A connection on which anything failed, or which was left in
the middle of an answer, is closed at once and remembers why; no later call can read an answer that
belongs to an earlier one. All memory is one buffer, whatever the size of what passes through it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import NoReturn, Protocol

from roost.errors import ProtocolError
from roost.pace import Pace
from roost.wire import chirp

BUFFER_BYTES = 128 * 1024
TOGETHER_BYTES_MAX = 64 * 1024
"""A payload of at most this goes out in one piece with its line."""

Buffer = bytes | bytearray | memoryview


class ConnectionBroken(ConnectionResetError, RuntimeError):
    """The server closed the connection or said something that is not Chirp.

    An `OSError` as for sockets, and a `RuntimeError` as in htchirp.
    """


class Write(Protocol):
    def __call__(self, data: memoryview, /) -> object: ...


class Connection:
    def __init__(self, host: str, port: int, timeout: float | None) -> None:
        """Raises `OSError`. `timeout`, in seconds, is for each wait in which nothing moves."""
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.open = True
        self.reason = ""
        """Why it is closed, when that was not asked for."""
        self.answers = 0
        self.unread = 0
        self._timeout = timeout
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._start = self._end = 0
        self._pace = Pace()

    def close(self, reason: str = "") -> None:
        if self.open:
            self.open = False
            self.reason = reason
            self.socket.close()

    @property
    def in_step(self) -> bool:
        return self.open and not self.answers and not self.unread

    def is_quiet(self) -> bool:
        """Nothing has come that nobody asked for, not even the end."""
        try:
            self.socket.setblocking(False)
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return self._start == self._end
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                self.socket.settimeout(self._timeout)
        return False

    # --- sending ------------------------------------------------------------------------------

    def send(self, line: bytes, payload: Buffer = b"", answers: int = 1) -> None:
        """Send a request, or several in one; each is one more answer to be read."""
        self.answers += answers
        if len(payload) <= TOGETHER_BYTES_MAX:
            self._send(line + payload)
        else:
            self._send(line)
            self._send(payload)

    def _send(self, data: Buffer) -> None:
        # Not sendall, whose timeout is for all of it: a large payload may take its time.
        view = memoryview(data)
        try:
            while view:
                view = view[self.socket.send(view) :]
        except BaseException as error:
            self._fail(error)

    # --- receiving ----------------------------------------------------------------------------

    def code(self) -> int:
        """The number of the next answer."""
        line = self.line()
        self.answers -= 1
        try:
            return chirp.parse_code(line)
        except ProtocolError as error:
            self._fail(error)

    def counted(self) -> int:
        """The number of the next answer; when it is above 0, so many bytes follow."""
        code = self.code()
        self.unread = max(0, code)
        return code

    def code_then_line(self) -> tuple[int, bytes]:
        """The number of the next answer and, unless it is below 0, the line that belongs to it."""
        self.answers += 1
        code = self.code()
        line = self.line() if code >= 0 else b""
        self.answers -= 1
        return code, line

    def line(self) -> bytes:
        """The next line, with its LF."""
        searched = self._start
        while True:
            held = self._buffer[searched : min(self._end, searched + chirp.LINE_MAX + 1)].tobytes()
            found = held.find(b"\n")
            if found >= 0:
                start, self._start = self._start, searched + found + 1
                return self._buffer[start : self._start].tobytes()
            if self._end - self._start > chirp.LINE_MAX:
                self._fail(ProtocolError("The Chirp server responded with too much data."))
            if self._start:
                self._end -= self._start
                self._buffer[: self._end] = self._buffer[self._start : self._start + self._end]
                self._start = 0
            searched = self._end
            self._receive()

    def pour(self, write: Write) -> None:
        """Give the `unread` bytes to `write`, in pieces, as they come."""
        while self.unread:
            if self._start == self._end:
                self._start = self._end = 0
                self._receive()
            size = min(self.unread, self._end - self._start)
            start, self._start = self._start, self._start + size
            self.unread -= size
            write(self._buffer[start : self._start])

    def take(self) -> bytes:
        """The `unread` bytes, as they are."""
        pieces: list[bytes] = []
        self.pour(lambda piece: pieces.append(piece.tobytes()))
        return b"".join(pieces)

    def _receive(self) -> None:
        try:
            room = self._buffer[self._end :]
            got = -1
            # With a timeout the system's socket does not block, but Python's waits before it reads.
            if self._timeout is not None and self._pace.waits():
                got = self._pace.receive(lambda: os.readv(self.socket.fileno(), [room]))
            if got < 0:
                got = self.socket.recv_into(room)
            self._pace.came()
        except BaseException as error:
            self._fail(error)
        if not got:
            self._fail(None)
        self._end += got

    def _fail(self, error: BaseException | None) -> NoReturn:
        """Close, and say why in an exception of the right kind."""
        if error is None:
            sentence = "The Chirp server closed the connection in the middle of an answer."
            if self._start == self._end and not self.unread:
                sentence = "The Chirp server closed the connection instead of answering."
            self.close(sentence)
            raise ConnectionBroken(sentence)
        if isinstance(error, TimeoutError):
            sentence = f"The Chirp server did nothing for {self._timeout:g} seconds."
            self.close(sentence)
            raise TimeoutError(sentence) from None
        if isinstance(error, ConnectionError):
            sentence = f"The connection to the Chirp server is broken: {error}."
            self.close(sentence)
            raise ConnectionBroken(sentence) from error
        if isinstance(error, ProtocolError):
            self.close(str(error))
            raise ConnectionBroken(str(error)) from None
        self.close(f"A call was interrupted by {type(error).__name__}.")
        raise error

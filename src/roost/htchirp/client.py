"""`HTChirp`: the submit machine's files and attributes, as methods.

Method names, arguments, results and exceptions are those of `htcondor.htchirp`. What differs is
what does not work there, and what harms a starter of HTCondor:

* Files go up as open, write in pieces, close: a starter keeps all of a `putfile` in its memory and,
  when it refuses one, severs itself from the shadow; and none can carry an empty file.
* Files come down as one `getfile` when they are small, else as open, read in pieces, close: any
  size, any kind of file, flat memory on all sides.
* Large files go and come whole where the server counts beyond 32 bits, for it is no starter then.
* Nothing of length 0 or below is ever read or written; strides are read with `pread`, because
  starters loop for ever on a strided read beyond the end of a file.
* Offsets beyond 31 bits are sent after a harmless `lseek` has shown that the server counts so far.
* `whoami`, `whoareyou` and `readlink` ask for lengths that all starters grant.
* Every answer is read before an exception is raised, so the next call finds the connection in step.

Requests that do not depend on each other's answers are sent ahead; servers answer in order.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat as modes
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NoReturn, Protocol, overload

from roost.core import classad
from roost.core.classad import Value
from roost.errors import Invalid, ProtocolError
from roost.htchirp.connection import Connection, ConnectionBroken, Write
from roost.wire import chirp
from roost.wire.chirp import NUMBER_MAX, Code, Gate, Unsendable, format_request

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    Numbers = dict[str, int]
    LocalPath = str | bytes | os.PathLike[str]
    RemotePath = str | bytes
    Opened = Callable[[int | None], contextlib.AbstractContextManager["Write"]]
    """Opens the local end of a fetch, told how many bytes are expected, once it is to be had: what
    is there already is not cut for one that fails."""
    Source = Callable[[int], memoryview]
    """Up to so many bytes of what is to be written; fewer than asked for only at its end."""

PIECE_BYTES = 1024 * 1024
"""Files are read and written in pieces of this size."""
AHEAD_BYTES = 4 * PIECE_BYTES
AHEAD_REQUESTS = 32
"""So much is asked for, or sent, before the first answer to it is read."""
WHOLE_BYTES_MAX = 16 * PIECE_BYTES
"""Larger files pass in pieces, unless the server counts with more than 32 bits: such a one is no
starter, and does not keep the whole of a `getfile` in memory or sever itself over a `putfile`."""
APPEND_BYTES = 4 * PIECE_BYTES
TRANSFER_BYTES_MAX = 256 * 1024 * 1024
"""What starters since 25.11 take in one request."""
NARROW_MAX = 2**31 - 1
"""Starters count with 32 bits."""
IDENTITY_BYTES = 1024
LINK_BYTES = 4096
SKIP_BYTES_MAX = 16 * PIECE_BYTES
"""So much of an unwanted answer is read to stay connected, when the local end has failed."""
SPARE_S_MAX = 5.0
CONTACT_FILE = ".chirp.config"

_FLAGS = "rwatcx"
_ACCESS = {"f": 0, "r": 4, "w": 2, "x": 1}


class HTChirp:
    """A Chirp client for jobs of HTCondor and of Roost.

    Without arguments it finds its server as the job's environment says: in the file named by
    `_CONDOR_CHIRP_CONFIG`, or `.chirp.config` in the current or the scratch directory. Use it in a
    `with` statement, or call `connect()` and `disconnect()`.

    Not to be used by two threads at once.
    """

    CHIRP_LINE_MAX = chirp.LINE_MAX
    CHIRP_VERSION = chirp.PROTOCOL_VERSION
    CHIRP_AUTH_METHODS = ["cookie"]
    DEFAULT_MODE = 0o777

    # --- exceptions ---------------------------------------------------------------------------

    class ChirpError(Exception):
        """The server refused. `code` is the number it answered; a note tells the request."""

        code: int = 0

    class NotAuthenticated(ChirpError):
        code = Code.NOT_AUTHENTICATED

    class NotAuthorized(ChirpError):
        code = Code.NOT_AUTHORIZED

    class DoesntExist(ChirpError):
        code = Code.DOESNT_EXIST

    class AlreadyExists(ChirpError):
        code = Code.ALREADY_EXISTS

    class TooBig(ChirpError):
        code = Code.TOO_BIG

    class NoSpace(ChirpError):
        code = Code.NO_SPACE

    class NoMemory(ChirpError):
        code = Code.NO_MEMORY

    class InvalidRequest(ChirpError):
        code = Code.INVALID_REQUEST

    class TooManyOpen(ChirpError):
        code = Code.TOO_MANY_OPEN

    class Busy(ChirpError):
        code = Code.BUSY

    class TryAgain(ChirpError):
        code = Code.TRY_AGAIN

    class BadFD(ChirpError):
        code = Code.BAD_FD

    class IsDir(ChirpError):
        code = Code.IS_DIR

    class NotDir(ChirpError):
        code = Code.NOT_DIR

    class NotEmpty(ChirpError):
        code = Code.NOT_EMPTY

    class CrossDeviceLink(ChirpError):
        code = Code.CROSS_DEVICE_LINK

    class Offline(ChirpError):
        code = Code.OFFLINE

    class UnknownError(ChirpError):
        code = Code.UNKNOWN

    # --- connection ---------------------------------------------------------------------------

    def __init__(
        self,
        host: str | None = None,
        port: int | str | None = None,
        auth: Sequence[str] = ("cookie",),
        cookie: str | None = None,
        timeout: float | None = 10,
    ) -> None:
        """Find the server and make sure that it lets us in; `connect` comes afterwards.

        `host` and `port` go together, and then `cookie` is needed too. `timeout` is the longest
        wait, in seconds, in which nothing moves; None waits for ever.

        Raises `ValueError` when there is no server to be found, `OSError` when it does not answer
        and `NotAuthenticated` when it does not take the cookie.
        """
        self._connection: Connection | None = None
        self._spare: tuple[int, float, Connection] | None = None
        self._wide = False
        """The server was seen to count with more than 32 bits."""
        self.fds: dict[int, tuple[str, str, int | None]] = {}
        """Open descriptors of the server: (name, flags, mode)."""
        if not (host and port):
            if "cookie" not in auth or cookie:
                raise ValueError(
                    "host and port go together: give both, or neither, to read .chirp.config."
                )
            host, port, cookie = _read_contact()
        self.host: str = host
        self.port = int(port)
        self.cookie = cookie
        self.timeout = timeout
        self.authentication: str | None = None
        for method in auth:
            try:
                connection = self._log_in(method)
            except self.NotAuthenticated:
                continue
            # Kept for `connect`, unless that comes late or in another process.
            self._spare = (os.getpid(), time.monotonic(), connection)
            self.authentication = method
            return
        raise self.NotAuthenticated(f"Could not authenticate with methods {list(auth)}")

    def __enter__(self) -> HTChirp:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def __del__(self) -> None:
        if hasattr(self, "_spare"):
            self._drop_spare()
            self.disconnect()

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({self.host}, {self.port}) using {self.authentication} authentication"

    def connect(self, auth_method: str | None = None) -> None:
        """Connect and authenticate; again, when connected already. Raises as the constructor."""
        self.disconnect()
        self._connection = self._take_spare() or self._log_in(auth_method or self.authentication)
        self._wide = False

    def is_connected(self) -> bool:
        """False also as soon as the connection has turned out to be broken."""
        return self._connection is not None and self._connection.in_step

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.fds.clear()

    def _log_in(self, method: str | None) -> Connection:
        if method not in self.CHIRP_AUTH_METHODS:
            raise ValueError(f"Unknown authentication method '{method}'")
        if self.cookie is None:
            # A wrong cookie stops a starter for a second, so none is not worth asking with.
            raise self.NotAuthenticated(f"Could not authenticate using {method}")
        connection = Connection(self.host, self.port, self.timeout)
        try:
            connection.send(self._line("cookie", self.cookie))
            answer = connection.code()
            if answer < 0:
                raise self._error(answer)
        except BaseException:
            connection.close()
            raise
        return connection

    def _take_spare(self) -> Connection | None:
        """The connection that the constructor made, if it is still good."""
        if self._spare is None:
            return None
        process, since, connection = self._spare
        if (
            process == os.getpid()
            and time.monotonic() - since < SPARE_S_MAX
            and connection.is_quiet()
        ):
            self._spare = None
            return connection
        self._drop_spare()
        return None

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare[2].close()
            self._spare = None

    def _connected(self) -> Connection:
        connection = self._connection
        if connection is None:
            raise RuntimeError("The Chirp client is not connected to a Chirp server.")
        if not connection.in_step:
            connection.close("A call was interrupted in the middle of an answer.")
            raise RuntimeError(
                "The Chirp client is not connected to a Chirp server. Its connection was closed: "
                f"{connection.reason} Use connect() for a new one."
            )
        return connection

    # --- one request, one answer --------------------------------------------------------------

    def _line(self, command: str, *arguments: str | bytes | int) -> bytes:
        try:
            return format_request(command, *arguments)
        except Unsendable as error:
            kind = self.TooBig if error.code is Code.TOO_BIG else self.InvalidRequest
            raise kind(str(error)) from None

    def _ask(self, command: str, *arguments: str | bytes | int) -> int:
        """Send one request and take its number. Raises `ChirpError` when that is below 0."""
        connection = self._connected()
        connection.send(self._line(command, *arguments))
        answer = connection.code()
        if answer < 0:
            raise self._error(answer, command, *arguments)
        return answer

    def _ask_bytes(self, command: str, *arguments: str | bytes | int) -> bytes:
        """As `_ask`, for answers that are bytes."""
        connection = self._connected()
        connection.send(self._line(command, *arguments))
        answer = connection.counted()
        if answer < 0:
            raise self._error(answer, command, *arguments)
        return connection.take()

    def _ask_numbers(
        self, parse: Callable[[bytes], Numbers], command: str, *arguments: str | bytes | int
    ) -> Numbers:
        """As `_ask`, for answers with a line of numbers."""
        connection = self._connected()
        connection.send(self._line(command, *arguments))
        answer, line = connection.code_then_line()
        if answer < 0:
            raise self._error(answer, command, *arguments)
        try:
            return parse(line)
        except ProtocolError as error:
            connection.close(str(error))
            raise ConnectionBroken(str(error)) from None

    def _error(self, code: int, *request: str | bytes | int) -> ChirpError:
        kind, text = _ERRORS.get(code, (self.UnknownError, f"An unknown error ({code}) occured."))
        error = kind(text)
        error.code = code
        if request:
            # What is written may be a secret, and errors end up in logs.
            said = request[: _WORDS_SHOWN.get(str(request[0]), len(request))]
            error.add_note(f"The request was: {' '.join(map(_shown, said))}")
            if code == Code.INVALID_REQUEST and chirp.COMMANDS[str(request[0])].gate is Gate.IO:
                error.add_note("A job without WantIOProxy = true is answered so about all files.")
        return error

    # --- descriptors --------------------------------------------------------------------------

    def _open(self, name: RemotePath, flags: Iterable[str], mode: int | None = None) -> int:
        return self._open_file(name, flags, mode)[0]

    def _open_file(
        self, name: RemotePath, flags: Iterable[str], mode: int | None = None
    ) -> tuple[int, Numbers | None]:
        """The descriptor, and what `stat` says where the server tells."""
        letters = _flags(flags)
        connection = self._connected()
        number = self.DEFAULT_MODE if mode is None else int(mode)
        connection.send(self._line("open", name, letters, number))
        fd, line = connection.code_then_line()
        if fd < 0:
            raise self._error(fd, "open", name, letters, number)
        self.fds[fd] = (_shown(name), letters, mode)
        try:
            return fd, chirp.parse_stat(line)
        except ProtocolError:
            return fd, None

    def _close(self, fd: int) -> None:
        self.fds.pop(fd, None)
        self._ask("close", fd)

    def _fsync(self, fd: int) -> None:
        self._ask("fsync", fd)

    def _lseek(self, fd: int, offset: int, whence: int) -> int:
        return self._ask("lseek", fd, offset, whence)

    def _settle(self, fd: int, *, counted: bool) -> None:
        """After a failure: read what is on its way and close the descriptor, if that can be.

        `counted`: the answers that were not read yet have bytes after them.
        """
        connection = self._connection
        self.fds.pop(fd, None)
        if connection is None or not connection.open:
            return
        with contextlib.suppress(OSError, self.ChirpError):
            while connection.answers or connection.unread:
                self._skip(connection)
                if connection.answers and counted:
                    connection.counted()
                elif connection.answers:
                    connection.code()
            self._close(fd)

    def _skip(self, connection: Connection) -> None:
        if connection.unread > SKIP_BYTES_MAX:
            connection.close("The rest of an answer was not wanted.")
        else:
            connection.pour(lambda _: None)

    def _counts_far(self, fd: int) -> bool:
        """May offsets beyond 31 bits be sent? A server that cuts them sees one below 0 here."""
        if not self._wide:
            with contextlib.suppress(self.InvalidRequest, self.UnknownError):
                self._lseek(fd, NARROW_MAX + 1, os.SEEK_SET)
                self._wide = True
            self._lseek(fd, 0, os.SEEK_SET)
        return self._wide

    def _too_far(self) -> NoReturn:
        raise self.TooBig(
            "This server counts with 32 bits and cannot go beyond 2 GiB in a file. "
            "Write the file from its beginning instead."
        )

    # --- files, whole -------------------------------------------------------------------------

    def fetch(self, remote_file: RemotePath, local_file: LocalPath) -> int:
        """Copy a file of the submit machine to this one. Returns its size in bytes."""
        return self.getfile(remote_file, local_file)

    def getfile(self, remote_file: RemotePath, local_file: LocalPath) -> int:
        """Copy a file of the submit machine to this one. Returns its size in bytes."""

        @contextlib.contextmanager
        def opened(_: int | None) -> Iterator[Write]:
            with io.FileIO(os.fspath(local_file), "wb") as file:
                yield _writer(file)

        return self._download(remote_file, opened)

    def put(
        self,
        local_file: LocalPath,
        remote_file: RemotePath,
        flags: Iterable[str] | None = "wct",
        mode: int | None = None,
    ) -> int:
        """Copy a file of this machine to the submit machine. Returns the number of bytes.

        `flags` are one or more of `rwatcx` and need `w`; `mode` is that of a file that is created,
        0o777 by default, less the umask of the submit machine.

        Raises `UserWarning` when less was written than there was.
        """
        letters = writing("wct" if flags is None else flags)
        size, written = self._put(local_file, remote_file, letters, mode)
        if written < size:
            raise UserWarning(
                f"Only {written} bytes of {size} bytes in {_shown(local_file)} were written"
            )
        return written

    def putfile(
        self, local_file: LocalPath, remote_file: RemotePath, mode: int | None = None
    ) -> int:
        """As `put` with its default flags, but raises `RuntimeWarning`."""
        size, written = self._put(local_file, remote_file, "wtc", mode)
        if written < size:
            raise RuntimeWarning(
                f"Only {written} bytes of {size} bytes in {_shown(local_file)} were written"
            )
        return written

    def _put(
        self, local_file: LocalPath, remote_file: RemotePath, letters: str, mode: int | None
    ) -> tuple[int, int]:
        with io.FileIO(os.fspath(local_file), "rb") as file:
            about = os.fstat(file.fileno())
            # A file that even its owner may not write is written by who has made it, or never.
            if set(letters) == set("wct") and (mode is None or int(mode) & modes.S_IWUSR):
                if modes.S_ISREG(about.st_mode) and about.st_size > WHOLE_BYTES_MAX:
                    return self._put_large(file, about.st_size, remote_file, letters, mode)
            return self._upload_file(read_from(file), remote_file, letters, mode)

    def _put_large(
        self, file: io.FileIO, size: int, remote: RemotePath, letters: str, mode: int | None
    ) -> tuple[int, int]:
        fd, _ = self._open_file(remote, letters, mode)
        try:
            if not self._counts_far(fd):
                return self._write_all(fd, read_from(file), PIECE_BYTES, False, None, None)
        except BaseException:
            if fd in self.fds:
                self._settle(fd, counted=False)
            raise
        self._close(fd)
        connection = self._connected()
        request = ("putfile", remote, self.DEFAULT_MODE if mode is None else int(mode), size)
        connection.send(self._line(*request))
        if (answer := connection.code()) < 0:
            raise self._error(answer, *request)
        connection.answers += 1
        source, left = read_from(file), size
        while chunk := source(min(left, PIECE_BYTES)):
            connection.send(b"", chunk, answers=0)
            left -= len(chunk)
        if left:
            connection.close("A file became shorter while it was sent.")
            return size, size - left
        if (answer := connection.code()) < 0:
            raise self._error(answer, *request)
        return size, answer

    def _upload_file(
        self, source: Source, remote: RemotePath, letters: str, mode: int | None
    ) -> tuple[int, int]:
        # What is appended in one piece cannot be torn apart by others who append.
        piece = APPEND_BYTES if "a" in letters else PIECE_BYTES
        sync = set(letters) != set("wct")
        return self._upload(source, remote, letters, mode, piece, sync=sync)

    def _download(self, remote: RemotePath, opened: Opened) -> int:
        """Give a whole file to what `opened` opens. Returns its size."""
        about = self.stat(remote)
        size = about["size"] if modes.S_ISREG(about["mode"]) else 0
        if 0 < size <= WHOLE_BYTES_MAX and (got := self._get_whole(remote, opened)):
            return got
        fd, _ = self._open_file(remote, "r")
        try:
            if size > WHOLE_BYTES_MAX and self._counts_far(fd):
                if got := self._get_whole(remote, opened):
                    self._close(fd)
                    return got
            with contextlib.ExitStack() as local:
                write: Write | None = None

                def begin(data: memoryview, /) -> None:
                    nonlocal write
                    write = write or local.enter_context(opened(about["size"] or None))
                    write(data)

                size = self._read_on(fd, None, begin)
                begin(memoryview(b""))
        except BaseException:
            self._settle(fd, counted=True)
            raise
        self._close(fd)
        return size

    def _get_whole(self, remote: RemotePath, opened: Opened) -> int:
        """Its size, when the server gives it in one answer."""
        connection = self._connected()
        connection.send(self._line("getfile", remote))
        answer = connection.counted()
        if answer < 0 and answer != Code.TOO_BIG:
            raise self._error(answer, "getfile", remote)
        if answer <= 0:
            return 0
        try:
            with opened(answer) as write:
                connection.pour(write)
        finally:
            if connection.open:
                self._skip(connection)
        return answer

    # --- files, in part -----------------------------------------------------------------------

    def read(
        self,
        remote_path: RemotePath,
        length: int,
        offset: int | None = None,
        stride_length: int | None = None,
        stride_skip: int | None = None,
    ) -> bytes:
        """Up to `length` bytes of a file, from `offset` on; fewer at its end.

        With strides, `stride_length` bytes every `stride_skip` bytes, counted from start to start.
        """
        length, strides = int(length), _strides(stride_length, stride_skip)
        if length < 0 or (strides and strides[0] <= 0):
            raise self.InvalidRequest("Lengths of a read must not be negative, nor a stride's 0.")
        self._connected()
        fd, about = self._open_file(remote_path, "r")
        data = io.BytesIO()
        try:
            if offset is None and strides is None:
                if 0 < length <= PIECE_BYTES:
                    return self._read_and_close(fd, length)
                self._read_on(fd, length, data.write)
            else:
                start = 0 if offset is None else int(offset)
                self._read_at(fd, about, start, length, strides, data.write)
        except BaseException:
            if fd in self.fds:
                self._settle(fd, counted=True)
            raise
        self._close(fd)
        return data.getvalue()

    def _read_and_close(self, fd: int, length: int) -> bytes:
        """One `read` and the `close`, in one go."""
        connection = self._connected()
        connection.send(self._line("read", fd, length) + self._line("close", fd), answers=2)
        answer = connection.counted()
        data = connection.take()
        del self.fds[fd]
        closed = connection.code()
        for code, command in ((answer, "read"), (closed, "close")):
            if code < 0:
                raise self._error(code, command, fd)
        return data

    def _read_on(self, fd: int, length: int | None, write: Write) -> int:
        """Read from where the descriptor stands to the end, or so many bytes. Returns how many."""
        connection = self._connected()
        asked: deque[int] = deque()
        done, over, failed = 0, False, 0
        while True:
            while not over and len(asked) * PIECE_BYTES < AHEAD_BYTES:
                piece = PIECE_BYTES
                if length is not None:
                    piece = min(piece, length - done - sum(asked))
                    if piece <= 0:
                        break
                connection.send(self._line("read", fd, piece))
                asked.append(piece)
            if not asked:
                break
            answer = connection.counted()
            self._expect(connection, answer, asked.popleft())
            if answer <= 0:
                over = True
                failed = failed or answer
            done += max(0, answer)
            connection.pour(write)
        if failed:
            raise self._error(failed, "read", fd)
        return done

    def _read_at(
        self,
        fd: int,
        about: Numbers | None,
        offset: int,
        length: int,
        strides: tuple[int, int] | None,
        write: Write,
    ) -> None:
        """Read the ranges with `pread`, up to the first that the file does not fill."""
        if about and about["size"] and modes.S_ISREG(about["mode"]):
            # Asking for what is not there would be no error, but not for nothing either. A size
            # of 0 says nothing: files in /proc have it.
            length = min(length, _room(about["size"], offset, strides))
            if length <= 0:
                return
        if _end(offset, length, strides) > NARROW_MAX and not self._counts_far(fd):
            if strides:
                self._too_far()
            seen = self._lseek(fd, min(offset, NARROW_MAX), os.SEEK_SET)
            self._read_on(fd, offset - seen, lambda _: None)
            self._read_on(fd, length, write)
            return
        connection = self._connected()
        ranges = _ranges(offset, length, strides)
        asked: deque[int] = deque()
        over, failed, ahead = False, 0, 0
        while True:
            while not over and len(asked) < AHEAD_REQUESTS and ahead < AHEAD_BYTES:
                at, wanted = next(ranges, (0, 0))
                if not wanted:
                    over = True
                    break
                connection.send(self._line("pread", fd, wanted, at))
                asked.append(wanted)
                ahead += wanted
            if not asked:
                break
            wanted = asked.popleft()
            ahead -= wanted
            answer = connection.counted()
            self._expect(connection, answer, wanted)
            if over and failed:
                self._skip(connection)
                continue
            connection.pour(write)
            if answer < wanted:
                over = True
                failed = answer if answer < 0 else 1
        if failed < 0:
            raise self._error(failed, "pread", fd)

    def _expect(self, connection: Connection, answer: int, wanted: int) -> None:
        if answer > wanted:
            sentence = "The Chirp server sent more than was asked for."
            connection.close(sentence)
            raise ConnectionBroken(sentence)

    def write(
        self,
        data: ReadableBuffer | str,
        remote_path: RemotePath,
        flags: Iterable[str] | None = "w",
        mode: int | None = None,
        length: int | None = None,
        offset: int | None = None,
        stride_length: int | None = None,
        stride_skip: int | None = None,
    ) -> int:
        """Write bytes, or text as UTF-8, into a file, and see to it that they are on disk.

        `flags` are one or more of `rwatcx` and need `w`, which alone neither creates a file nor
        cuts it. `length` bytes of the data are written, at `offset`. With strides,
        `stride_length` bytes every `stride_skip` bytes. Returns how many were written.
        """
        letters = writing("w" if flags is None else flags)
        strides = _strides(stride_length, stride_skip)
        view = memoryview(data.encode() if isinstance(data, str) else data).cast("B")
        if length is not None:
            if length < 0:
                raise self.InvalidRequest("The length of a write must not be negative.")
            view = view[: int(length)]
        at = 0

        def source(size: int) -> memoryview:
            nonlocal at
            at += size
            return view[at - size : at]

        # What is appended in one piece cannot be torn apart by others who append.
        piece = TRANSFER_BYTES_MAX if "a" in letters else PIECE_BYTES
        return self._upload(
            source, remote_path, letters, mode, piece, sync=True, offset=offset, strides=strides
        )[1]

    def _upload(
        self,
        source: Source,
        remote: RemotePath,
        letters: str,
        mode: int | None,
        piece: int = PIECE_BYTES,
        *,
        sync: bool,
        offset: int | None = None,
        strides: tuple[int, int] | None = None,
    ) -> tuple[int, int]:
        """Write all of a source. Returns how many bytes there were and how many were written."""
        if strides and not 0 < strides[0] <= TRANSFER_BYTES_MAX:
            raise self.InvalidRequest("A stride has at least 1 byte and at most 256 MiB.")
        self._connected()
        fd, _ = self._open_file(remote, letters, mode)
        try:
            return self._write_all(fd, source, piece, sync, offset, strides)
        except BaseException:
            if fd in self.fds:
                self._settle(fd, counted=False)
            raise

    def _write_all(
        self,
        fd: int,
        source: Source,
        piece: int,
        sync: bool,
        offset: int | None,
        strides: tuple[int, int] | None,
    ) -> tuple[int, int]:
        """Write a source and close the descriptor: piece after piece, some ahead of the answers."""
        connection = self._connected()
        sent: deque[int] = deque()
        tally = _Tally()
        size, at = 0, int(offset or 0)
        if strides:
            piece = _whole_strides(piece, strides[0])
        ahead_pieces = max(2, AHEAD_BYTES // piece)
        chunk = source(piece)
        while chunk and tally.is_full:
            if strides or offset is not None:
                last = _end(at, len(chunk), strides)
                if last > NARROW_MAX and not self._wide:
                    while sent:
                        tally.take(connection.code(), sent.popleft())
                    if not self._counts_far(fd):
                        self._too_far()
            if strides:
                line = self._line("swrite", fd, len(chunk), at, *strides)
                at += len(chunk) // strides[0] * strides[1]
            elif offset is not None:
                line = self._line("pwrite", fd, len(chunk), at)
                at += len(chunk)
            else:
                line = self._line("write", fd, len(chunk))
            connection.send(line, chunk)
            sent.append(len(chunk))
            size += len(chunk)
            chunk = source(piece) if len(chunk) == piece else chunk[:0]
            if chunk and len(sent) >= ahead_pieces:
                tally.take(connection.code(), sent.popleft())
        end = [("fsync", fd)] * sync + [("close", fd)]
        connection.send(b"".join(self._line(*request) for request in end), answers=len(end))
        del self.fds[fd]
        while sent:
            tally.take(connection.code(), sent.popleft())
        codes = [connection.code() for _ in end]
        for code, request in zip([tally.failed, *codes], [("write", fd), *end], strict=True):
            if code < 0:
                raise self._error(code, *request)
        return size, tally.written

    # --- attributes and events ----------------------------------------------------------------

    def get_job_attr(self, job_attribute: str) -> str:
        """The expression of a job attribute, as ClassAd text: strings have quotes.

        An attribute that is missing is `UNDEFINED`.
        """
        return _text(self._ask_bytes("get_job_attr", job_attribute))

    def get_job_value(self, job_attribute: str) -> Value:
        """The value of a job attribute: int, float, bool, str, list, or None when undefined.

        What is no literal comes as `Expression`, which is text.
        """
        return classad.parse_value(self.get_job_attr(job_attribute))

    def set_job_attr(self, job_attribute: str, attribute_value: Value) -> None:
        """Set a job attribute. It has been saved when this returns.

        Numbers, bools, None and lists are written as ClassAd values. A `str` is ClassAd text and
        sent as it is: a string value needs its quotes, which `quote` makes.
        """
        self._ask("set_job_attr", job_attribute, self._expression(attribute_value, "old"))

    def get_job_attr_delayed(self, job_attribute: str) -> str:
        """As `get_job_attr`, but sees what `set_job_attr_delayed` has set. Raises `DoesntExist`."""
        return _text(self._ask_bytes("get_job_attr_delayed", job_attribute))

    def set_job_attr_delayed(self, job_attribute: str, attribute_value: Value) -> None:
        """Set a job attribute, in time; much cheaper than `set_job_attr`, and allowed to all jobs.

        Names must begin with `Chirp` unless the farm says otherwise. Raises `NotAuthorized`.
        """
        text = self._expression(attribute_value, "new")
        answer = self._ask("set_job_attr_delayed", job_attribute, text)
        if answer:  # what a starter answers to a name that it does not take
            error = self._error(Code.NOT_AUTHORIZED, "set_job_attr_delayed", job_attribute, text)
            error.code = answer
            raise error

    def _expression(self, value: Value, syntax: classad.Syntax) -> str:
        if isinstance(value, str):
            return value
        try:
            return classad.format_value(value, syntax)
        except Invalid as error:
            kind = self.InvalidRequest if isinstance(value, (int, list, tuple)) else TypeError
            raise kind(str(error)) from None

    def ulog(self, text: str) -> None:
        """Write a line into the job's event log."""
        self._ask("ulog", text)

    def phase(self, phasestring: str) -> None:
        """Say that the job goes over to a phase, such as `output`. HTCondor: 8.1.6 to 10.1."""
        self._ask("phase", phasestring)

    # --- names and directories ----------------------------------------------------------------

    def remove(self, remote_file: RemotePath) -> None:
        """Delete a file."""
        self.unlink(remote_file)

    def unlink(self, remote_file: RemotePath) -> None:
        """Delete a file."""
        self._ask("unlink", remote_file)

    def rename(self, old_path: RemotePath, new_path: RemotePath) -> None:
        """Rename or move a file or a directory."""
        self._ask("rename", old_path, new_path)

    def rmdir(self, remote_path: RemotePath, recursive: bool = False) -> None:
        """Delete an empty directory, or with `recursive` one with all that is in it."""
        self._ask("rmall" if recursive else "rmdir", remote_path)

    def rmall(self, remote_path: RemotePath) -> None:
        """Delete a directory with all that is in it."""
        self._ask("rmall", remote_path)

    def mkdir(self, remote_path: RemotePath, mode: int | None = None) -> None:
        """Make a directory; `mode` is 0o777 by default, less the umask."""
        self._ask("mkdir", remote_path, self.DEFAULT_MODE if mode is None else int(mode))

    @overload
    def getdir(self, remote_path: RemotePath, stat_dict: Literal[False] = False) -> list[str]: ...

    @overload
    def getdir(
        self, remote_path: RemotePath, stat_dict: bool
    ) -> list[str] | dict[str, Numbers]: ...

    def getdir(
        self, remote_path: RemotePath, stat_dict: bool = False
    ) -> list[str] | dict[str, Numbers]:
        """The names in a directory; with `stat_dict` the same as `getlongdir`."""
        if stat_dict:
            return self.getlongdir(remote_path)
        names = chirp.parse_listing(self._ask_bytes("getdir", remote_path))
        return [os.fsdecode(name) for name in names]

    def getlongdir(self, remote_path: RemotePath) -> dict[str, Numbers]:
        """The names in a directory, with what `stat` says of each. Links are followed."""
        data = self._ask_bytes("getlongdir", remote_path)
        try:
            return {os.fsdecode(name): about for name, about in chirp.parse_long_listing(data)}
        except ProtocolError as error:
            raise self.UnknownError(
                f"The listing cannot be read; is there a line feed in a name? {error}"
            ) from None

    def link(self, old_path: RemotePath, new_path: RemotePath, symbolic: bool = False) -> None:
        """Make a hard link, or a symbolic one."""
        self._ask("symlink" if symbolic else "link", old_path, new_path)

    def symlink(self, old_path: RemotePath, new_path: RemotePath) -> None:
        """Make a symbolic link at `new_path` that says `old_path`."""
        self.link(old_path, new_path, symbolic=True)

    def readlink(self, remote_path: RemotePath) -> bytes:
        """What a symbolic link says."""
        return self._ask_bytes("readlink", remote_path, LINK_BYTES)

    # --- what there is to know and to change about a file -------------------------------------

    def stat(self, remote_path: RemotePath) -> Numbers:
        """About a file: device, inode, mode, nlink, uid, gid, rdevice, size, blksize, blocks,
        atime, mtime, ctime. Links are followed.
        """
        return self._ask_numbers(chirp.parse_stat, "stat", remote_path)

    def lstat(self, remote_path: RemotePath) -> Numbers:
        """As `stat`, about a link itself."""
        return self._ask_numbers(chirp.parse_stat, "lstat", remote_path)

    def statfs(self, remote_path: RemotePath) -> Numbers:
        """About a file system: f_type, f_bsize, f_blocks, f_bfree, f_bavail, f_files, f_free and
        f_ffree, which are the same.
        """
        about = self._ask_numbers(chirp.parse_statfs, "statfs", remote_path)
        free = about.pop("f_ffree")
        return {**about, "f_free": free, "f_ffree": free}

    def access(self, remote_path: RemotePath, mode_str: str) -> None:
        """Raises unless the file is there (`f`) and may be read, written, executed (`r w x`)."""
        mode = 0
        for letter in mode_str:
            if letter not in _ACCESS:
                raise ValueError(f"mode '{letter}' not in (fxwr)")
            mode |= _ACCESS[letter]
        self._ask("access", remote_path, mode)

    def chmod(self, remote_path: RemotePath, mode: int) -> None:
        """Change the mode of a file."""
        self._ask("chmod", remote_path, int(mode))

    def chown(self, remote_path: RemotePath, uid: int, gid: int) -> None:
        """Change the owner of a file; -1 keeps."""
        self._ask("chown", remote_path, int(uid), int(gid))

    def lchown(self, remote_path: RemotePath, uid: int, gid: int) -> None:
        """As `chown`, of a link itself."""
        self._ask("lchown", remote_path, int(uid), int(gid))

    def truncate(self, remote_path: RemotePath, length: int) -> None:
        """Cut a file, or make it longer with zeros."""
        length = int(length)
        if length > NARROW_MAX:
            # A server with 32 bits would cut the file somewhere else.
            fd = self._open(remote_path, "w")
            try:
                if not self._counts_far(fd):
                    self._too_far()
            finally:
                self._settle(fd, counted=False)
        self._ask("truncate", remote_path, length)

    def utime(self, remote_path: RemotePath, actime: int, mtime: int) -> None:
        """Set the times of last access and change, in seconds since 1970."""
        self._ask("utime", remote_path, int(actime), int(mtime))

    # --- identity -----------------------------------------------------------------------------

    def whoami(self) -> str:
        """Who we are to the server: `CONDOR`."""
        return _text(self._ask_bytes("whoami", IDENTITY_BYTES))

    def whoareyou(self, remote_host: str) -> str:
        """Who the server would be to another: `UNKNOWN`."""
        return _text(self._ask_bytes("whoareyou", remote_host, IDENTITY_BYTES))


_ERRORS: dict[int, tuple[type[HTChirp.ChirpError], str]] = {
    -1: (HTChirp.NotAuthenticated, "The client has not authenticated its identity."),
    -2: (HTChirp.NotAuthorized, "The client is not authorized to perform that action."),
    -3: (HTChirp.DoesntExist, "There is no object by that name."),
    -4: (HTChirp.AlreadyExists, "There is already an object by that name."),
    -5: (HTChirp.TooBig, "That request is too big to execute."),
    -6: (HTChirp.NoSpace, "There is not enough space to store that."),
    -7: (HTChirp.NoMemory, "The server is out of memory."),
    -8: (HTChirp.InvalidRequest, "The form of the request is invalid."),
    -9: (HTChirp.TooManyOpen, "There are too many resources in use."),
    -10: (HTChirp.Busy, "That object is in use by someone else."),
    -11: (HTChirp.TryAgain, "A temporary condition prevented the request."),
    -12: (HTChirp.BadFD, "The file descriptor requested is invalid."),
    -13: (HTChirp.IsDir, "A file-only operation was attempted on a directory."),
    -14: (HTChirp.NotDir, "A directory operation was attempted on a file."),
    -15: (HTChirp.NotEmpty, "A directory cannot be removed because it is not empty."),
    -16: (HTChirp.CrossDeviceLink, "A hard link was attempted across devices."),
    -17: (HTChirp.Offline, "The requested resource is temporarily not available."),
    -127: (HTChirp.UnknownError, "An unknown error (-127) occured."),
}
"""The texts are those of htchirp, to the letter."""


class _Tally:
    """What became of the pieces of a file: those after one that was cut do not count."""

    def __init__(self) -> None:
        self.written = 0
        self.failed = 0
        self.is_full = True

    def take(self, answer: int, wanted: int) -> None:
        if self.is_full:
            self.written += max(0, answer)
            self.failed = min(0, answer)
            self.is_full = answer >= wanted


def _read_contact() -> tuple[str, str, str]:
    """(host, port, cookie). An empty `_CONDOR_CHIRP_CONFIG` switches Chirp off, on purpose."""
    named = os.environ.get("_CONDOR_CHIRP_CONFIG")
    if named is None:
        folders = (".", os.environ.get("_CONDOR_SCRATCH_DIR", "."))
        places = [os.path.join(folder, CONTACT_FILE) for folder in folders]
        named = next((place for place in places if os.path.isfile(place)), "")
    if not os.path.isfile(named):
        raise ValueError(".chirp.config must be present or you must provide a host and port")
    with open(named, encoding="utf-8") as file:
        fields = file.read().split()
    if len(fields) != 3:
        raise ValueError(f"{named} must say host, port and cookie; it says {len(fields)} words.")
    if not fields[1].isdecimal():
        raise ValueError(f"{named} must say host, port and cookie; its second word is no port.")
    return fields[0], fields[1], fields[2]


def _flags(flags: Iterable[str]) -> str:
    """In one order, whatever they came in."""
    given = set(flags)
    if not given <= set(_FLAGS) or not given:
        raise ValueError("Flags must be one or more of 'rwatcx'")
    return "".join(letter for letter in _FLAGS if letter in given)


def writing(flags: Iterable[str]) -> str:
    """The flags of a file that is to be written. Raises `ValueError`."""
    letters = _flags(flags)
    if "w" not in letters:
        raise ValueError(f"'w' is not included in flags '{letters}'")
    return letters


def _strides(length: int | None, skip: int | None) -> tuple[int, int] | None:
    if length is None and skip is None:
        return None
    if length is None or skip is None:
        raise TypeError("Both stride_length and stride_skip must be specified")
    return int(length), int(skip)


def _ranges(offset: int, length: int, strides: tuple[int, int] | None) -> Iterator[tuple[int, int]]:
    """(offset, length) of what is to be read, in pieces."""
    stride, skip = strides or (length, 0)
    while length > 0:
        done = 0
        while done < min(stride, length):
            piece = min(stride - done, length - done, PIECE_BYTES)
            yield offset + done, piece
            done += piece
        length -= done
        offset += skip


def _end(offset: int, length: int, strides: tuple[int, int] | None) -> int:
    """Where the last range begins, or later."""
    stride, skip = strides or (length, 0)
    return offset + max(length, (length // stride + 1) * skip if length else 0)


def _room(size: int, offset: int, strides: tuple[int, int] | None) -> int:
    """At least how many bytes a file of `size` has to give."""
    if strides is None:
        return max(0, size - offset)
    stride, skip = strides
    return NUMBER_MAX if skip <= 0 else max(0, (size - offset + skip - 1) // skip) * stride


def _whole_strides(piece: int, stride: int) -> int:
    return max(1, piece // stride) * stride


class ReadInto(Protocol):
    def readinto(self, buffer: memoryview, /) -> int | None: ...


def read_from(file: ReadInto) -> Source:
    """A source that is a file. Its buffer is used again, as a piece is sent before the next."""
    buffer = memoryview(b"")

    def source(size: int) -> memoryview:
        nonlocal buffer
        if len(buffer) < size:
            buffer = memoryview(bytearray(size))
        filled = 0
        while filled < size:
            got = file.readinto(buffer[filled:size])
            if not got:
                break
            filled += got
        return buffer[:filled]

    return source


def _writer(file: io.FileIO) -> Write:
    def write(data: memoryview, /) -> None:
        while data:
            data = data[file.write(data) :]

    return write


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


_WORDS_SHOWN = {"set_job_attr": 2, "set_job_attr_delayed": 2, "ulog": 1}
"""How much of a request is repeated in a note of its error; all of it unless it is here."""


def _shown(part: object) -> str:
    text = _text(part) if isinstance(part, bytes) else str(part)
    return text if len(text) <= 200 else text[:200] + "…"

"""What jobs print: one file per attempt beneath one folder, read back as one log per job.

A file appears with its first byte and only grows: a writer says at which offset its bytes
belong, so sending them again changes nothing and a gap is never made. Of an attempt on this machine
the file may be the one that it prints into (`adopt`). The log of a job is the
output of all its attempts in order, with one separator line before each attempt but the first
that printed anything. Nothing is synced to disk: the database knows what happened, this is what
it looked like. All methods block on the disk and may be called from any thread.

Must not know the database: callers say which attempts there are. A hundred jobs share a folder,
so that no folder becomes long and forgetting a job looks through a short one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from roost.core.records import JobId, Moment
from roost.errors import StoreFailure, Unreadable
from roost.store import arrival

R = TypeVar("R")

DOOMED_FILE = "doomed"
"""Lists the jobs whose output is to be deleted, one id a line."""
SINCE_FILE = "times-since"
"""Holds the second from which on it is kept when output arrives; see `arrival`."""
FILE_MODE = 0o640
OPEN_FILES_MAX = 128
"""Files kept open for writing; the one not written to for longest is closed first."""

Piece = tuple[bytes | Path, int]
"""A stretch of a log: a separator line or a file, and its size in bytes."""


def separator(number: int) -> bytes:
    """The line between two attempts, given the number of the second."""
    return b"\n--- attempt %d ---\n" % number


class OutputStore:
    """Job output beneath `folder`, which is made when the first byte arrives."""

    def __init__(
        self,
        folder: Path,
        open_files_max: int = OPEN_FILES_MAX,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._open_files_max = open_files_max
        self._clock = clock
        self._since: int | None = None
        self._open: OrderedDict[tuple[JobId, int], int] = OrderedDict()
        """Descriptors by attempt, the latest used last."""
        self._lock = threading.Lock()
        """Held while a descriptor is in use, so that none is closed (and reused) meanwhile."""

    def write(self, job: JobId, number: int, offset: int, data: bytes) -> int:
        """Put bytes of an attempt at `offset`; gives the size stored after that.

        Bytes beyond a gap are not taken: the size given is then below `offset + len(data)`, and
        is where to go on. Raises `StoreFailure` when the disk refuses.
        """
        path = self._path(job, number)

        def write() -> int:
            descriptor = self._descriptor(job, number, path, create=bool(data) and offset == 0)
            if descriptor is None:
                return 0
            before = os.fstat(descriptor)
            size = before.st_size
            if offset > size:
                return size
            rest = memoryview(data)[size - offset :]
            if rest:
                arrival.note(path, before, self._clock(), self._kept_since())
            elif data and before.st_nlink > 1:  # it was adopted, and has them already
                arrival.note_ahead(path, before, offset, self._clock())
            while rest:
                written = os.pwrite(descriptor, rest, size)
                size += written
                rest = rest[written:]
            return size

        return self._with_descriptors(path, write)

    def _copy_of_descriptor(self, job: JobId, number: int, *, create: bool) -> int | None:
        path = self._path(job, number)

        def copy() -> int | None:
            descriptor = self._descriptor(job, number, path, create=create)
            if descriptor is None:
                return None
            arrival.note(path, os.fstat(descriptor), self._clock(), self._kept_since())
            return os.dup(descriptor)

        return self._with_descriptors(path, copy)

    def _with_descriptors(self, path: Path, work: Callable[[], R]) -> R:
        """Done under the lock. Where no descriptor is left, those that are kept for speed are given
        up for it. Raises `StoreFailure`."""
        try:
            with self._lock:
                try:
                    return work()
                except OSError as error:
                    if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._open:
                        raise
                    self._close_all()
                    return work()
        except OSError as error:
            raise _failure(path, error) from error

    @contextmanager
    def opened(self, job: JobId, number: int, *, create: bool) -> Iterator[int | None]:
        """A descriptor of the attempt's file for bytes that arrive now and do not pass through
        here: whoever has it makes no gap. None when there is no file and none is to be made. Raises
        `StoreFailure`."""
        descriptor = self._copy_of_descriptor(job, number, create=create)
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def adopt(self, job: JobId, number: int, file: int, offset: int, size: int) -> bool:
        """Make the file that an attempt prints into, and that is open here, its log: what it has
        and what will come is stored without being copied. `size` bytes from `offset` on are new.

        Its writer must never use the file for anything else. False, and nothing has changed, if it
        is on another file system, or is not the log that has arrived so far.
        """
        path = self._path(job, number)
        theirs = os.fstat(file)
        try:
            with self._lock:
                ours = _stat(path)
                stored = 0 if ours is None else ours.st_size
                if theirs.st_size < max(stored, offset + size) or stored < offset:
                    return False
                if ours is None or not os.path.samestat(ours, theirs):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _link(file, path)
                    if (descriptor := self._open.pop((job, number), None)) is not None:
                        os.close(descriptor)
                arrival.note_ahead(path, ours, offset, self._clock())
                return True
        except OSError:
            return False

    def size(self, job: JobId, number: int) -> int:
        """Bytes stored of one attempt."""
        try:
            return self._path(job, number).stat().st_size
        except FileNotFoundError:
            return 0

    def written_at(self, job: JobId, number: int) -> Moment | None:
        """When the latest bytes of an attempt arrived; None when there are none."""
        try:
            return Moment(self._path(job, number).stat().st_mtime_ns // 1_000_000)
        except FileNotFoundError:
            return None

    def arrived_at(self, piece: bytes | Path, offsets: Sequence[int]) -> list[int]:
        """When the bytes at these offsets of a piece arrived, in seconds since 1970; 0 where that
        is not known."""
        if isinstance(piece, bytes):
            return [0] * len(offsets)
        return arrival.seconds(piece, offsets, self._kept_since())

    def read_all(self, job: JobId, attempts: int) -> bytes:
        """The whole log of attempts 1 to `attempts`."""
        pieces = self.pieces(job, attempts)
        return read_pieces(pieces, 0, _total(pieces))

    def read_last(self, job: JobId, attempts: int, last_bytes: int) -> bytes:
        """The end of the log; costs what it returns, not what is stored."""
        pieces = self.pieces(job, attempts)
        total = _total(pieces)
        return read_pieces(pieces, max(0, total - max(0, last_bytes)), total)

    def read_range(
        self, job: JobId, attempts: int, offset: int, size_max: int
    ) -> tuple[bytes, int]:
        """At most `size_max` bytes of the log from `offset`, and the size of the log."""
        pieces = self.pieces(job, attempts)
        return read_pieces(pieces, max(0, offset), max(0, offset) + size_max), _total(pieces)

    def pieces(self, job: JobId, attempts: int, only: int | None = None) -> list[Piece]:
        """What the log of attempts 1 to `attempts` consists of now, in order; or of `only` one."""
        pieces: list[Piece] = []
        for number in range(1, attempts + 1) if only is None else (only,):
            size = self.size(job, number)
            if size:
                if pieces:
                    line = separator(number)
                    pieces.append((line, len(line)))
                pieces.append((self._path(job, number), size))
        return pieces

    def delete(self, job: JobId) -> None:
        """Forget all output of a job; it need not have any."""
        with self._lock:
            for key in [key for key in self._open if key[0] == job]:
                os.close(self._open.pop(key))
        for path in self._path(job, 0).parent.glob(f"{job}.*"):
            path.unlink(missing_ok=True)

    def doom(self, jobs: Iterable[JobId]) -> None:
        """Remember that the output of these jobs is to be deleted. Raises `StoreFailure`."""
        path = self._folder / DOOMED_FILE
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="ascii") as file:
                file.writelines(f"{job}\n" for job in jobs)
        except OSError as error:
            raise StoreFailure(
                f"The list {path} could not be written: {error.strerror}."
            ) from error

    def doomed(self) -> list[JobId]:
        """The jobs that were doomed since `clear_doomed`."""
        try:
            lines = (self._folder / DOOMED_FILE).read_text("ascii", "replace").split("\n")
        except FileNotFoundError:
            return []
        # The last line is empty, or was cut short.
        return [JobId(int(line)) for line in lines[:-1] if line.isdecimal()]

    def clear_doomed(self) -> None:
        """All of it has been deleted."""
        (self._folder / DOOMED_FILE).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of all files; writing again opens them again."""
        with self._lock:
            self._close_all()

    def _close_all(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def _kept_since(self) -> int:
        """The second from which on it is kept when output arrives."""
        if self._since is None:
            path = self._folder / SINCE_FILE
            try:
                self._since = int(path.read_text("ascii"))
            except (FileNotFoundError, ValueError):
                # A file system's clock may be some milliseconds behind.
                self._since = int(self._clock()) - 1
                # A disk that refuses this will refuse what matters, and that is told.
                with contextlib.suppress(OSError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(f"{self._since}\n", "ascii")
        return self._since

    def _path(self, job: JobId, number: int) -> Path:
        """Job 12345, attempt 2: `000/0123/12345.2.log`."""
        hundreds = job // 100
        return (
            self._folder
            / f"{hundreds // 10_000:03}"
            / f"{hundreds % 10_000:04}"
            / f"{job}.{number}.log"
        )

    def _descriptor(self, job: JobId, number: int, path: Path, *, create: bool) -> int | None:
        """An open descriptor of the attempt's file; None when there is none and none is wanted."""
        key = (job, number)
        descriptor = self._open.get(key)
        if descriptor is not None:
            self._open.move_to_end(key)
            return descriptor
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not create:
                return None
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        while len(self._open) >= self._open_files_max:
            os.close(self._open.popitem(last=False)[1])
        self._open[key] = descriptor
        return descriptor


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _link(file: int, path: Path) -> None:
    """Give an open file this name, in place of what has it. Raises `OSError`."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # With a folder, as Python asks the system to follow the link to the file only then.
        os.link(f"/proc/self/fd/{file}", new.name, dst_dir_fd=folder, follow_symlinks=True)
        os.fchmod(file, FILE_MODE)
    finally:
        os.close(folder)
    new.replace(path)


def _failure(path: Path, error: OSError) -> StoreFailure:
    return StoreFailure(f"The output file {path} could not be written: {error.strerror}.")


def _total(pieces: Sequence[Piece]) -> int:
    return sum(size for _, size in pieces)


def read_pieces(pieces: Sequence[Piece], start: int, stop: int) -> bytes:
    """The bytes from `start` to `stop` of the log that these pieces are. Raises `Unreadable`."""
    return b"".join(_parts(pieces, start, stop))


def _parts(pieces: Sequence[Piece], start: int, stop: int) -> Iterator[bytes]:
    """The bytes of a range, cut to the sizes the pieces had when they were counted."""
    for piece, size in pieces:
        low, high = max(0, start), min(size, stop)
        if low < high:
            if isinstance(piece, bytes):
                yield piece[low:high]
            else:
                try:
                    with piece.open("rb") as file:
                        file.seek(low)
                        yield file.read(high - low)
                except FileNotFoundError:
                    pass  # deleted meanwhile
                except OSError as error:
                    raise Unreadable(
                        f"The output file {piece} could not be read: {error.strerror}."
                    ) from error
        start -= size
        stop -= size

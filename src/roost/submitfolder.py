"""What Chirp does with the files of a job: every operation, on one folder and its descriptors.

`JobFiles` is one connection's view: it takes a command of `wire.chirp.COMMANDS` and gives an
`Answer`, with Chirp's numbers for failures; it never raises what the disk does. `FileLanes` runs
commands in threads, those of one connection one after the other. The server does this for jobs
whose folder is with it, the agent for folders that it sees itself: the same code and confinement.

No piece of data is larger than `PIECE_BYTES`: an answer that is longer says how long it will be
(`Answer.result`), brings its first piece, and the asker goes on from there, by the same command
with the bytes it has as a last number, or by `pread` on the descriptor that came with it. Strides
come and are given `STRIDES_MAX` at a time, so that no thread is kept by a command for long.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from msgspec import Struct

from roost.beneath import Beneath, statfs_of, walk
from roost.core.messages import ChirpOrder
from roost.wire.chirp import COMMANDS, Code, code_of_errno, format_numbers

PIECE_BYTES = 1024 * 1024
WRITE_BYTES_MAX = 1024 * 1024
"""What is written at once, and so whole among other appends to the same file."""
STRIDES_MAX = 4096
"""Read or written at once: each costs a call of the system, however few bytes it has."""
DESCRIPTORS_MAX = 256
"""Of one connection."""
THREADS = 4
"""For the folders of one file system."""
CLOSE_S_MAX = 2.0
"""So long the end of a program waits for a file system of its users that may hang."""
MEASURED_S_MAX = 10.0
"""So long a folder that is full is believed to be, if no job has made anything smaller."""


class FileRules(Struct, frozen=True):
    """What the farm's administrator allows."""

    read_only: bool = False
    umask: int = 0o022
    """Bits that no file or folder made here gets."""


class Answer(NamedTuple):
    """`result` below 0 is a `Code`. With data it is how many bytes the whole answer has."""

    result: int
    data: bytes = b""
    descriptor: int = -1
    """Where the rest of the data is, for `pread`; the asker closes it."""


_SECOND_NS = 1_000_000_000


def stat_numbers(status: os.stat_result) -> bytes:
    """The line of 13 numbers."""
    return format_numbers(
        (
            status.st_dev, status.st_ino, status.st_mode, status.st_nlink, status.st_uid,
            status.st_gid, status.st_rdev, status.st_size, status.st_blksize, status.st_blocks,
            status.st_atime_ns // _SECOND_NS, status.st_mtime_ns // _SECOND_NS,
            status.st_ctime_ns // _SECOND_NS,
        )
    )  # fmt: skip


def open_flags(letters: bytes) -> int:
    """A bag of letters; unknown ones mean nothing, and without `w` it is read-only."""
    if b"w" not in letters:
        flags = os.O_RDONLY
    else:
        flags = os.O_RDWR if b"r" in letters else os.O_WRONLY
    for letter, flag in (
        (b"c", os.O_CREAT),
        (b"t", os.O_TRUNC),
        (b"x", os.O_EXCL),
        (b"a", os.O_APPEND),
    ):
        if letter in letters:
            flags |= flag
    if flags & os.O_EXCL and not flags & os.O_CREAT:
        raise OSError(errno.EINVAL, "x without c")
    return flags


class Space:
    """How much a folder holds: counted while it is written to, and measured when that seems full
    and something in it has become smaller since, or a while has passed. To measure takes a look at
    every file."""

    def __init__(self, bytes_max: int) -> None:
        """0 is no limit."""
        self._bytes_max = bytes_max
        self._used = 0
        self._is_known = False
        """What is counted as used is, unless somebody else has removed something."""
        self._measured_at = 0.0
        self._lock = threading.Lock()

    @property
    def limited(self) -> bool:
        return self._bytes_max > 0

    def take(self, folder: Beneath, growth: int) -> None:
        """Raises `OSError` with ENOSPC."""
        if not self._bytes_max or growth <= 0:
            return
        with self._lock:
            if not self._measured_at or (self._used + growth > self._bytes_max and self._is_old()):
                self._is_known = True
                self._used = _size_of(folder)
                self._measured_at = time.monotonic()
            if self._used + growth > self._bytes_max:
                raise OSError(errno.ENOSPC, "the folder may not hold more")
            self._used += growth

    def _is_old(self) -> bool:
        return not self._is_known or time.monotonic() - self._measured_at > MEASURED_S_MAX

    def may_have_shrunk(self) -> None:
        self._is_known = False


def _size_of(folder: Beneath) -> int:
    total = 0
    linked: set[tuple[int, int]] = set()
    """Files with several names that have been counted."""
    top = folder.open(b".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for here, name, is_folder in walk(top, skips_errors=True):
            if not is_folder:
                with contextlib.suppress(OSError):
                    status = os.stat(name, dir_fd=here, follow_symlinks=False)
                    if status.st_nlink > 1:
                        if (status.st_dev, status.st_ino) in linked:
                            continue
                        linked.add((status.st_dev, status.st_ino))
                    total += status.st_size
    finally:
        os.close(top)
    return total


class _OpenFiles:
    """Descriptors that all jobs together have in this program: half of what it may have. It needs
    the others to be reached at all."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    def take(self) -> None:
        """Raises `OSError` with EMFILE."""
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        with self._lock:
            if most != resource.RLIM_INFINITY and self._count >= most // 2:
                raise OSError(errno.EMFILE, "too many open files")
            self._count += 1

    def give_back(self, count: int) -> None:
        with self._lock:
            self._count -= count


_open_files = _OpenFiles()


class JobFiles:
    """The files of a job for one connection. Not for two threads at once; close it."""

    def __init__(self, folder: Beneath, rules: FileRules, space: Space) -> None:
        """Takes the folder over. Raises `OSError`."""
        try:
            _open_files.take()
        except OSError:
            folder.close()
            raise
        self._folder = folder
        self._rules = rules
        self._space = space
        self._open: dict[int, int] = {}

    @property
    def is_lost(self) -> bool:
        """Whether the folder itself is gone, or its file server has forgotten it."""
        return self._folder.is_lost

    def move_to(self, other: JobFiles) -> None:
        """The folder of another view, which is no longer to be used; what is open stays open."""
        self._folder.close()
        self._folder = other._folder
        _open_files.give_back(1)

    def close(self) -> None:
        """Once."""
        for descriptor in self._open.values():
            os.close(descriptor)
        _open_files.give_back(1 + len(self._open))
        self._open.clear()
        self._folder.close()

    def run(
        self, command: str, words: Sequence[bytes], numbers: Sequence[int], data: bytes = b""
    ) -> Answer:
        """One command that `is_known` and has passed its gate. `data` is what is to be written."""
        try:
            if command in _WRITING and self._rules.read_only:
                return Answer(Code.NOT_AUTHORIZED)
            do = getattr(self, f"_do_{command}")
            payload = {"data": data} if command in _WITH_DATA else {}
            answer = do(*words, *numbers, **payload)
            if command in _SHRINKING:
                self._space.may_have_shrunk()
            return Answer(0) if answer is None else answer
        except OSError as error:
            return Answer(code_of_errno(error.errno))
        except (OverflowError, ValueError):  # numbers that the system does not take
            return Answer(Code.INVALID_REQUEST)
        except MemoryError:
            return Answer(Code.NO_MEMORY)

    # --- descriptors --------------------------------------------------------------------------

    def _keep(self, descriptor: int) -> int:
        try:
            if len(self._open) >= DESCRIPTORS_MAX:
                raise OSError(errno.EMFILE, "too many open files")
            _open_files.take()
        except OSError:
            os.close(descriptor)
            raise
        number = next(number for number in range(DESCRIPTORS_MAX) if number not in self._open)
        self._open[number] = descriptor
        return number

    def _descriptor(self, number: int) -> int:
        descriptor = self._open.get(number)
        if descriptor is None:
            raise OSError(errno.EBADF, "no such descriptor")
        return descriptor

    def _do_open(self, path: bytes, letters: bytes, mode: int) -> Answer:
        flags = open_flags(letters)
        if self._rules.read_only and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            return Answer(Code.NOT_AUTHORIZED)
        number = self._keep(self._folder.open(path, flags, mode & ~self._rules.umask))
        if flags & os.O_TRUNC:
            self._space.may_have_shrunk()
        return Answer(number, stat_numbers(os.fstat(self._open[number])))

    def _do_close(self, number: int) -> None:
        os.close(self._descriptor(number))
        del self._open[number]
        _open_files.give_back(1)

    def _do_fsync(self, number: int) -> None:
        os.fsync(self._descriptor(number))

    def _do_lseek(self, number: int, offset: int, whence: int) -> Answer:
        if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
            return Answer(Code.INVALID_REQUEST)
        return Answer(os.lseek(self._descriptor(number), offset, whence))

    def _do_fstat(self, number: int) -> Answer:
        return Answer(0, stat_numbers(os.fstat(self._descriptor(number))))

    def _do_fstatfs(self, number: int) -> Answer:
        return Answer(0, format_numbers(statfs_of(self._descriptor(number))))

    def _do_fchmod(self, number: int, mode: int) -> None:
        os.fchmod(self._descriptor(number), mode & 0o777)

    def _do_fchown(self, number: int, uid: int, gid: int) -> None:
        _check_owner(uid, gid)
        os.fchown(self._descriptor(number), uid, gid)

    def _do_ftruncate(self, number: int, length: int) -> None:
        descriptor = self._descriptor(number)
        self._space.take(self._folder, length - os.fstat(descriptor).st_size)
        os.ftruncate(descriptor, length)

    def _do_lend(self, number: int, length: int, offset: int, writing: int) -> Answer:
        """A descriptor for whoever moves these bytes without us, who closes it. There is room for
        all that is to be written. Not a command of Chirp."""
        descriptor = self._descriptor(number)
        if length < 0 or offset < 0:
            return Answer(Code.INVALID_REQUEST)
        if writing:
            if self._rules.read_only:
                return Answer(Code.NOT_AUTHORIZED)
            self._take_space(descriptor, offset, length)
        return Answer(os.dup(descriptor))

    # --- reading ------------------------------------------------------------------------------

    def _do_read(self, number: int, length: int) -> Answer:
        descriptor = self._descriptor(number)
        at = _position(descriptor)
        data = os.read(descriptor, _piece(length))
        return Answer(_promised(descriptor, at, length, data), data)

    def _do_pread(self, number: int, length: int, offset: int) -> Answer:
        descriptor = self._descriptor(number)
        data = os.pread(descriptor, _piece(length), offset)
        return Answer(_promised(descriptor, offset, length, data), data)

    def _do_sread(
        self, number: int, length: int, offset: int, stride: int, skip: int, done: int = 0
    ) -> Answer:
        descriptor = self._descriptor(number)
        _check_strides(length, offset, stride, skip)
        status = os.fstat(descriptor)
        total = _strided_length(length, offset, stride, skip, status.st_size)
        pieces: list[bytes] = []
        size = 0
        while size < PIECE_BYTES and done < total and len(pieces) < STRIDES_MAX:
            turn, within = divmod(done, stride)
            wanted = min(stride - within, total - done, PIECE_BYTES - size)
            piece = os.pread(descriptor, wanted, offset + turn * skip + within)
            pieces.append(piece)
            done += len(piece)
            size += len(piece)
            if len(piece) < wanted:
                break
        return Answer(total, b"".join(pieces))

    def _do_getfile(self, path: bytes) -> Answer:
        descriptor = self._folder.open(path, os.O_RDONLY)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                return Answer(Code.IS_DIR)
            data = os.pread(descriptor, min(PIECE_BYTES, status.st_size), 0)
            if len(data) == status.st_size:
                return Answer(len(data), data)
            rest = self._keep(os.dup(descriptor))
            return Answer(status.st_size, data, rest)
        finally:
            os.close(descriptor)

    def _do_getdir(self, path: bytes) -> Answer:
        names = [name + b"\n" for name in self._folder.names(path) if _can_be_said(name)]
        return self._long_answer(b"".join(names) + b"\n")

    def _do_getlongdir(self, path: bytes) -> Answer:
        lines = [
            name + b"\n" + stat_numbers(status)
            for name, status in self._folder.entries(path)
            if _can_be_said(name)
        ]
        return self._long_answer(b"".join(lines) + b"\n")

    def _long_answer(self, data: bytes) -> Answer:
        """What does not fit into one piece is kept in a file without a name."""
        if len(data) <= PIECE_BYTES:
            return Answer(len(data), data)
        descriptor = os.memfd_create("listing")
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        return Answer(len(data), data[:PIECE_BYTES], self._keep(descriptor))

    # --- writing ------------------------------------------------------------------------------

    def _do_write(self, number: int, _: int, *, data: bytes) -> Answer:
        descriptor = self._descriptor(number)
        self._take_space(descriptor, _position(descriptor), len(data))
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        return Answer(len(data))

    def _do_pwrite(self, number: int, _: int, offset: int, *, data: bytes) -> Answer:
        descriptor = self._descriptor(number)
        self._take_space(descriptor, offset, len(data))
        return Answer(write_at(descriptor, data, offset))

    def _do_swrite(
        self,
        number: int,
        length: int,
        offset: int,
        stride: int,
        skip: int,
        before: int = 0,
        *,
        data: bytes,
    ) -> Answer:
        descriptor = self._descriptor(number)
        _check_strides(length, offset, stride, skip)
        view = memoryview(data)
        done = 0
        while done < len(view):
            turn, within = divmod(before + done, stride)
            place = offset + turn * skip + within
            part = view[done : done + stride - within]
            self._take_space(descriptor, place, len(part))
            done += write_at(descriptor, part, place)
        return Answer(done)

    def _take_space(self, descriptor: int, at: int, length: int) -> None:
        if self._space.limited and length:
            size = os.fstat(descriptor).st_size
            appending = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND
            self._space.take(self._folder, (size if appending else at) + length - size)

    def _do_truncate(self, path: bytes, length: int) -> None:
        growth = length - self._folder.stat(path).st_size
        self._space.take(self._folder, growth)
        self._folder.truncate(path, length)

    # --- names --------------------------------------------------------------------------------

    def _do_stat(self, path: bytes) -> Answer:
        return Answer(0, stat_numbers(self._folder.stat(path)))

    def _do_lstat(self, path: bytes) -> Answer:
        return Answer(0, stat_numbers(self._folder.lstat(path)))

    def _do_statfs(self, path: bytes) -> Answer:
        return Answer(0, format_numbers(self._folder.statfs(path)))

    def _do_access(self, path: bytes, mode: int) -> None:
        if mode & ~7:
            raise OSError(errno.EINVAL, "no such right")
        if mode & 2 and self._rules.read_only:
            raise OSError(errno.EROFS, "read-only")
        self._folder.access(path, mode)

    def _do_chmod(self, path: bytes, mode: int) -> None:
        self._folder.chmod(path, mode)

    def _do_chown(self, path: bytes, uid: int, gid: int) -> None:
        _check_owner(uid, gid)
        self._folder.chown(path, uid, gid)

    def _do_lchown(self, path: bytes, uid: int, gid: int) -> None:
        _check_owner(uid, gid)
        self._folder.lchown(path, uid, gid)

    def _do_utime(self, path: bytes, accessed: int, modified: int) -> None:
        self._folder.utime(path, accessed, modified)

    def _do_unlink(self, path: bytes) -> None:
        self._folder.unlink(path)

    def _do_rmdir(self, path: bytes) -> None:
        self._folder.rmdir(path)

    def _do_rmall(self, path: bytes) -> None:
        self._folder.remove_all(path)

    def _do_mkdir(self, path: bytes, mode: int) -> None:
        self._folder.mkdir(path, mode & ~self._rules.umask)

    def _do_rename(self, old: bytes, new: bytes) -> None:
        self._folder.rename(old, new)

    def _do_link(self, old: bytes, new: bytes) -> None:
        self._folder.link(old, new)

    def _do_symlink(self, target: bytes, new: bytes) -> None:
        self._folder.symlink(target, new)

    def _do_readlink(self, path: bytes, length: int) -> Answer:
        if length <= 0:
            return Answer(Code.INVALID_REQUEST)
        target = self._folder.readlink(path)[:length]
        return Answer(len(target), target)

    def _do_lookup(self, path: bytes) -> Answer:
        url = b"remote:" + self._folder.absolute(path)
        return Answer(len(url), url)


def is_known(command: str, words: Sequence[bytes], numbers: Sequence[int]) -> bool:
    """Whether `JobFiles` has such a command, with so many arguments."""
    form = COMMANDS.get(command)
    if form is None or not hasattr(JobFiles, f"_do_{command}"):
        return False
    more = len(numbers) - len(form.numbers)
    return len(words) == len(form.words) and (more == 0 or (more == 1 and command in _IN_PARTS))


_IN_PARTS = frozenset(("sread", "swrite"))
"""Their last number may say how much has been done."""
_WRITING = frozenset((
    "write", "pwrite", "swrite", "ftruncate", "fchmod", "fchown", "truncate", "chmod", "chown",
    "lchown", "utime", "unlink", "rmdir", "rmall", "mkdir", "rename", "link", "symlink",
))  # fmt: skip
_SHRINKING = frozenset(("ftruncate", "truncate", "unlink", "rmall", "rename"))
_WITH_DATA = frozenset(("write", "pwrite", "swrite"))


def _piece(length: int) -> int:
    if length < 0:
        raise OSError(errno.EINVAL, "a length below 0")
    return min(length, PIECE_BYTES)


def _can_be_said(name: bytes) -> bool:
    """In a listing, a name with a line feed would be two others, which there may be as well; and
    no request can mean it."""
    return b"\n" not in name


def _position(descriptor: int) -> int:
    try:
        return os.lseek(descriptor, 0, os.SEEK_CUR)
    except OSError:  # a pipe has none
        return 0


def _promised(descriptor: int, at: int, length: int, data: bytes) -> int:
    """How much of what was asked for there is, the first piece included."""
    if len(data) < PIECE_BYTES:
        return len(data)
    size = os.fstat(descriptor).st_size
    return max(len(data), min(length, size - at))


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """All of it, however little is taken at a time; gives how much it was. Raises `OSError`."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        offset += written
        rest = rest[written:]
    return len(data)


def _check_strides(length: int, offset: int, stride: int, skip: int) -> None:
    if length < 0 or offset < 0 or stride <= 0 or skip < 0:
        raise OSError(errno.EINVAL, "no such strides")


def _strided_length(length: int, offset: int, stride: int, skip: int, size: int) -> int:
    """Bytes of `length` that lie before the first place where the file ends."""
    if skip == 0:
        return length if offset + stride <= size else min(length, max(0, size - offset))
    whole = max(0, (size - stride - offset) // skip + 1)
    return min(length, whole * stride + max(0, min(stride, size - offset - whole * skip)))


def _check_owner(uid: int, gid: int) -> None:
    """Only to whom it belongs already: nobody gives files away."""
    if uid not in (-1, os.geteuid()) or gid not in (-1, os.getegid(), *os.getgroups()):
        raise OSError(errno.EPERM, "files are not given away")


# --- threads ----------------------------------------------------------------------------------

Run = Callable[[str, Sequence[bytes], Sequence[int], bytes], Answer]
"""Does one command of a lane: name, words, numbers, data."""


class _Lane:
    def __init__(self, make: Callable[[], JobFiles]) -> None:
        self.make = make
        self.files: JobFiles | None = None
        self.waiting: deque[Callable[[_Lane], bool | None]] = deque()
        """What is to be done; True: others go on with the lane."""
        self.busy = False

    def run(
        self, command: str, words: Sequence[bytes], numbers: Sequence[int], data: bytes
    ) -> Answer:
        if self.files is None:
            try:
                self.files = self.make()
            except OSError as error:  # which may pass, as a mount comes and goes
                return Answer(code_of_errno(error.errno))
        if words and self.files.is_lost:  # and there may be another one of its name
            with contextlib.suppress(OSError):
                self.files.move_to(self.make())
        return self.files.run(command, words, numbers, data)


class FileLanes:
    """Runs commands in threads: those of one lane in order, without waiting for other lanes."""

    def __init__(self, threads: int = THREADS) -> None:
        self._works: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name="job-files", daemon=True)
            for _ in range(threads)
        ]
        self._started = False
        self._lanes: dict[Hashable, _Lane] = {}
        self._lock = threading.Lock()

    def run(
        self,
        lane: Hashable,
        make: Callable[[], JobFiles],
        command: str,
        words: Sequence[bytes],
        numbers: Sequence[int],
        data: bytes,
        answer: Callable[[Answer], None],
    ) -> None:
        """`make` opens the files when the lane is new; `answer` is called in the thread."""
        self._add(lane, make, lambda place: answer(place.run(command, words, numbers, data)))

    def lend(
        self,
        lane: Hashable,
        make: Callable[[], JobFiles],
        borrow: Callable[[Run, Callable[[], None]], None],
    ) -> None:
        """When its turn has come, at once if nothing is before it, the lane is another thread's.
        `borrow` gets what does a command in it, and what gives the lane back; whatever is added to
        it meanwhile waits for that."""

        def work(place: _Lane) -> bool:
            borrow(place.run, lambda: self.do(lambda: self._drain(place)))
            return True

        with self._lock:
            place = self._place(lane, make)
            if place.busy:
                place.waiting.append(work)
                return
            place.busy = True
        work(place)

    def close_lane(self, lane: Hashable) -> None:
        """After what it still has to do, its descriptors are closed."""

        def work(place: _Lane) -> None:
            if place.files is not None:
                place.files.close()

        with self._lock:
            place = self._lanes.pop(lane, None)
            if place is not None:
                self._append(place, work)

    def do(self, work: Callable[[], None]) -> None:
        """Anything else that waits for the disk."""
        with self._lock:
            self._do(work)

    def close(self, patience_s: float | None = None) -> None:
        """When all is done, or so much later; lanes that are lent are left as they are."""
        for lane in list(self._lanes):
            self.close_lane(lane)
        if self._started:
            for _ in self._threads:
                self._works.put(None)
            until = None if patience_s is None else time.monotonic() + patience_s
            for thread in self._threads:
                thread.join(None if until is None else max(0.0, until - time.monotonic()))
        self._threads.clear()

    def _add(
        self,
        lane: Hashable,
        make: Callable[[], JobFiles],
        work: Callable[[_Lane], bool | None],
    ) -> None:
        with self._lock:
            self._append(self._place(lane, make), work)

    def _place(self, lane: Hashable, make: Callable[[], JobFiles]) -> _Lane:
        place = self._lanes.get(lane)
        if place is None:
            place = self._lanes[lane] = _Lane(make)
        return place

    def _append(self, place: _Lane, work: Callable[[_Lane], bool | None]) -> None:
        place.waiting.append(work)
        if not place.busy:
            place.busy = True
            self._do(lambda: self._drain(place))

    def _drain(self, place: _Lane) -> None:
        while True:
            with self._lock:
                if not place.waiting:
                    place.busy = False
                    return
                work = place.waiting.popleft()
            if work(place):
                return

    def _do(self, work: Callable[[], None]) -> None:
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()
        self._works.put(work)

    def _work(self) -> None:
        while (work := self._works.get()) is not None:
            work()


class LanesOfRoots:
    """Lanes for the folders beneath each root: a file system that hangs, such as that of a file
    server that is away, keeps its own threads and holds up nobody who uses another."""

    def __init__(self) -> None:
        self._lanes: dict[Path | None, FileLanes] = {}

    def of(self, root: Path | None) -> FileLanes:
        """None is the program's own folder, without which it cannot do anything."""
        if root not in self._lanes:
            self._lanes[root] = FileLanes()
        return self._lanes[root]

    def close_lane(self, lane: Hashable) -> None:
        """Whichever root it is of."""
        for lanes in self._lanes.values():
            lanes.close_lane(lane)

    def close(self) -> None:
        """When all is done in our own folder; what others do not get done is left."""
        for root, lanes in self._lanes.items():
            lanes.close(None if root is None else CLOSE_S_MAX)


def root_of(folder: str, roots: Sequence[Path]) -> Path | None:
    """The innermost that it lies beneath by its name; where links lead is seen later."""
    above = [root for root in roots if Path(folder).is_relative_to(root)]
    return max(above, key=lambda root: len(root.parts), default=None)


def files_beneath(root: Path, order: ChirpOrder) -> JobFiles:
    """Of a job that names its folder, which lies beneath a root by its name. Raises `OSError`, also
    when it leads out of it over links."""
    with Beneath.at(root) as allowed:
        folder = allowed.below(bytes(Path(order.submit_dir).relative_to(root)))
    return files_in(folder, order, Space(0))


def files_in(folder: Beneath, order: ChirpOrder, space: Space) -> JobFiles:
    """Of a job whose folder this is, as it may use it. Takes it over. Raises `OSError`."""
    folder.virtual_root = order.virtual_root
    return JobFiles(folder, FileRules(order.read_only, order.umask), space)

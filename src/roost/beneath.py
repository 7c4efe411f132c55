"""A folder whose paths cannot lead out of it, however they are spelled and whatever changes.

`Beneath(folder)` has the file operations of Chirp as methods. Every path goes through the kernel's
`openat2` with RESOLVE_BENEATH, or, where that is missing, through a walk from descriptor to
descriptor that follows symbolic links itself; the operation then happens on the descriptor it
gave. So `..`, links that lead out, and links that are swapped meanwhile are refused by what
resolves the path, and no name is ever checked as text and used afterwards.

Names are bytes. What lies outside raises `PermissionError`; every other failure is the `OSError`
that the system gave. Nothing here blocks but on the disk: pipes are opened without waiting.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LINKS_MAX = 40
"""Symbolic links in one path, as in Linux."""

_OPENAT2 = 437
"""Its number on every architecture that has it."""
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_ALWAYS = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_LISTED = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE_BITS = 0o777
"""Files get no setuid, setgid or sticky bit: what a job writes must not gain rights."""

Opener = Callable[[int, bytes, int, int], int]
"""(folder, path beneath it, flags, mode) → descriptor."""


def _outside(path: bytes) -> PermissionError:
    return PermissionError(errno.EACCES, "leads out of the folder", path)


def _failure(number: int, path: bytes) -> OSError:
    return OSError(number, os.strerror(number), path)


# --- resolving a path -------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall


def open_by_kernel(folder: int, path: bytes, flags: int, mode: int) -> int:
    """By openat2(2). Raises `NotImplementedError` where there is none."""
    how = struct.pack("=QQQ", flags, mode, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    while True:
        descriptor: int = _syscall(_OPENAT2, folder, path, how, ctypes.c_size_t(len(how)))
        if descriptor >= 0:
            return descriptor
        number = ctypes.get_errno()
        if number == errno.EXDEV:
            raise _outside(path)
        if number == errno.ENOSYS:
            raise NotImplementedError("openat2")
        # EAGAIN: something on the way was renamed meanwhile.
        if number not in (errno.EAGAIN, errno.EINTR):
            raise _failure(number, path)


def open_by_walking(folder: int, path: bytes, flags: int, mode: int) -> int:
    """The same without openat2: one descriptor for each folder on the way."""
    if path.startswith(b"/"):
        raise _outside(path)
    ahead = path.split(b"/")[::-1]
    way = [os.dup(folder)]
    links = 0
    try:
        while True:
            name = ahead.pop()
            if name == b"..":
                if len(way) == 1:
                    raise _outside(path)
                os.close(way.pop())
            elif name not in (b"", b"."):
                target = _link_target(way[-1], name)
                follow = bool(ahead) or not flags & os.O_NOFOLLOW
                if target is not None and follow and not (flags & os.O_EXCL and not ahead):
                    links += 1
                    if links > LINKS_MAX:
                        raise _failure(errno.ELOOP, path)
                    if target.startswith(b"/"):
                        raise _outside(path)
                    ahead.extend(target.split(b"/")[::-1])
                elif not any(part not in (b"", b".") for part in ahead):
                    if ahead:
                        flags |= os.O_DIRECTORY
                    return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=way[-1])
                else:
                    way.append(os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=way[-1]))
            if not ahead:
                return os.open(b".", flags & ~os.O_CREAT | os.O_NOFOLLOW, dir_fd=way[-1])
    finally:
        for descriptor in way:
            os.close(descriptor)


def _link_target(folder: int, name: bytes) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None


def _choose_opener() -> Opener:
    folder = os.open("/", _FOLDER)
    try:
        os.close(open_by_kernel(folder, b".", _FOLDER, 0))
    except (NotImplementedError, PermissionError):  # a filter on system calls answers EPERM
        return open_by_walking
    finally:
        os.close(folder)
    return open_by_kernel


# --- a folder ---------------------------------------------------------------------------------


class Beneath:
    """The files beneath one folder. Close it, or use it as a context manager."""

    def __init__(self, folder: int, path: bytes, opener: Opener | None = None) -> None:
        """Takes the descriptor over. `path` is what the folder is called, which may lead over
        links: absolute names begin with that, or with where it really is."""
        self._folder = folder
        self._path = path.rstrip(b"/")
        self._place = os.fsencode(os.readlink(_name_of(folder))).rstrip(b"/")
        self._opener = opener or _choose_opener()
        self.virtual_root = False
        """Absolute names begin here, as the `chirp` tools expect, not at the machine's root."""

    @classmethod
    def at(cls, path: str | Path, opener: Opener | None = None) -> Beneath:
        """Raises `OSError` when there is no such folder."""
        return cls(os.open(path, _FOLDER), os.path.abspath(os.fsencode(path)), opener)

    def below(self, path: bytes) -> Beneath:
        """A folder beneath this one, with the same confinement but narrower. Raises `OSError`."""
        relative = self._relative(path)
        return Beneath(
            self._open(relative, _FOLDER), os.path.join(self._path, relative), self._opener
        )

    def close(self) -> None:
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    @property
    def is_lost(self) -> bool:
        """Whether it was removed, or its file system does not know it any more."""
        try:
            return os.fstat(self._folder).st_nlink == 0
        except OSError:
            return True

    def __enter__(self) -> Beneath:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- files and descriptors ----------------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int = 0o666) -> int:
        """As open(2); creates with `mode` under the process's umask."""
        return self._open(self._relative(path), flags, mode & _MODE_BITS)

    def truncate(self, path: bytes, length: int) -> None:
        with self._opened(path, os.O_WRONLY) as descriptor:
            os.ftruncate(descriptor, length)

    # --- asking -------------------------------------------------------------------------------

    def stat(self, path: bytes) -> os.stat_result:
        found = self._entry(path)
        if found is not None and not stat.S_ISLNK(found.st_mode):
            return found
        with self._opened(path) as descriptor:
            return os.fstat(descriptor)

    def lstat(self, path: bytes) -> os.stat_result:
        if (found := self._entry(path)) is not None:
            return found
        with self._opened(path, os.O_PATH | os.O_NOFOLLOW) as descriptor:
            return os.fstat(descriptor)

    def statfs(self, path: bytes) -> tuple[int, ...]:
        """Type, block size, blocks, free ones, those for us, inodes, free ones."""
        with self._opened(path) as descriptor:
            return statfs_of(descriptor)

    def access(self, path: bytes, mode: int) -> None:
        """`mode` as for access(2). Raises `PermissionError`."""
        with self._opened(path) as descriptor:
            if not os.access(_name_of(descriptor), mode, effective_ids=True):
                raise _failure(errno.EACCES, path)

    def readlink(self, path: bytes) -> bytes:
        with self._parent(path) as (folder, name):
            return os.readlink(name, dir_fd=folder)

    def names(self, path: bytes) -> list[bytes]:
        """Names in the order of the file system, without links that lead nowhere, as HTCondor."""
        return [name for name, _ in self._entries(path, everything=False)]

    def entries(self, path: bytes) -> list[tuple[bytes, os.stat_result]]:
        """Names with what `stat` tells; what it cannot tell of is left out, as HTCondor does."""
        return [(name, status) for name, status in self._entries(path, everything=True) if status]

    def _entries(
        self, path: bytes, *, everything: bool
    ) -> Iterator[tuple[bytes, os.stat_result | None]]:
        relative = self._relative(path)
        folder = self._open(relative, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    try:
                        if entry.is_symlink():
                            yield name, self._stat_beneath(os.path.join(relative, name))
                        else:
                            yield name, entry.stat(follow_symlinks=False) if everything else None
                    except PermissionError:
                        yield name, None
                    except OSError:
                        continue
        finally:
            os.close(folder)

    def _stat_beneath(self, relative: bytes) -> os.stat_result:
        descriptor = self._open(relative, os.O_PATH)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    # --- changing -----------------------------------------------------------------------------

    def chmod(self, path: bytes, mode: int) -> None:
        with self._opened(path) as descriptor:
            os.chmod(_name_of(descriptor), mode & _MODE_BITS)

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        with self._opened(path) as descriptor:
            os.chown(_name_of(descriptor), uid, gid)

    def lchown(self, path: bytes, uid: int, gid: int) -> None:
        with self._parent(path) as (folder, name):
            os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)

    def utime(self, path: bytes, accessed: int, modified: int) -> None:
        """Whole seconds since 1970."""
        with self._opened(path) as descriptor:
            os.utime(_name_of(descriptor), (accessed, modified))

    def unlink(self, path: bytes) -> None:
        with self._parent(path) as (folder, name):
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise _failure(errno.EISDIR, path)
            os.unlink(name, dir_fd=folder)

    def rmdir(self, path: bytes) -> None:
        with self._parent(path) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    def remove_all(self, path: bytes) -> None:
        """A folder with all that is in it; never through a link, which is removed itself."""
        with self._parent(path) as (folder, name):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                os.unlink(name, dir_fd=folder)
                return
            top = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            try:
                for here, inner, is_folder in walk(top):
                    _remove(inner, here, is_folder)
            finally:
                os.close(top)
            os.rmdir(name, dir_fd=folder)

    def mkdir(self, path: bytes, mode: int) -> None:
        with self._parent(path, creating=True) as (folder, name):
            os.mkdir(name, mode & _MODE_BITS, dir_fd=folder)

    def rename(self, old: bytes, new: bytes) -> None:
        with (
            self._parent(old) as (from_folder, from_name),
            self._parent(new, creating=True) as (to_folder, to_name),
        ):
            os.rename(from_name, to_name, src_dir_fd=from_folder, dst_dir_fd=to_folder)

    def link(self, old: bytes, new: bytes) -> None:
        """A hard link; not to what another account owns."""
        with (
            self._opened(old, os.O_PATH | os.O_NOFOLLOW) as source,
            self._parent(new, creating=True) as (folder, name),
        ):
            status = os.fstat(source)
            if status.st_uid != os.geteuid() or stat.S_ISDIR(status.st_mode):
                raise _failure(errno.EPERM, old)
            os.link(_name_of(source), name, dst_dir_fd=folder, follow_symlinks=True)

    def symlink(self, target: bytes, new: bytes) -> None:
        """The target is kept as it is given; following it never leads out."""
        with self._parent(new, creating=True) as (folder, name):
            os.symlink(target, name, dir_fd=folder)

    # --- paths --------------------------------------------------------------------------------

    def absolute(self, path: bytes) -> bytes:
        """Where a name is, without looking whether anything is there."""
        return os.path.normpath(os.path.join(self._path, self._relative(path)))

    def _entry(self, path: bytes) -> os.stat_result | None:
        """Of a name in the folder itself, itself: it cannot lead anywhere. None for other paths."""
        if b"/" in path or path in (b"", b".", b".."):
            return None
        return os.stat(path, dir_fd=self._folder, follow_symlinks=False)

    def _relative(self, path: bytes) -> bytes:
        if not path.startswith(b"/"):
            return path
        for start in (self._path, self._place):
            if path == start or path.startswith(start + b"/"):
                return path[len(start) :].lstrip(b"/") or b"."
        if self.virtual_root:
            return path.lstrip(b"/") or b"."
        raise _outside(path)

    def _open(self, relative: bytes, flags: int, mode: int = 0) -> int:
        if not flags & os.O_CREAT:
            mode = 0  # openat2 refuses a mode that means nothing
        if not flags & os.O_PATH:
            flags |= _ALWAYS
        return self._opener(self._folder, relative, flags | os.O_CLOEXEC, mode)

    @contextmanager
    def _opened(self, path: bytes, flags: int = os.O_PATH) -> Iterator[int]:
        descriptor = self.open(path, flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _parent(self, path: bytes, *, creating: bool = False) -> Iterator[tuple[int, bytes]]:
        """The folder that a name is in, and the name: for what acts on the name itself."""
        relative = self._relative(path)
        above, _, name = relative.rstrip(b"/").rpartition(b"/")
        if name in (b"", b".", b".."):
            raise _failure(errno.EEXIST if creating else errno.EINVAL, path)
        folder = self._open(above or b".", _FOLDER)
        try:
            if relative.endswith(b"/"):  # only a folder's name may
                if creating:
                    name += b"/"
                elif not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    raise _failure(errno.ENOTDIR, path)
            yield folder, name
        finally:
            os.close(folder)


# --- what is in a folder ----------------------------------------------------------------------


def walk(
    top: int, *, skips_errors: bool = False, unlocks: bool = False
) -> Iterator[tuple[int, bytes, bool]]:
    """All that is in a folder, at any depth, what is in a folder before the folder itself: the
    folder that it is in, its name, and whether it is a folder. Follows no links.

    Has one folder open at a time and calls itself never, unlike `shutil.rmtree` and `os.fwalk`: a
    job may nest its folders more deeply than there are descriptors and calls. Raises `OSError`, or
    passes over folders that cannot be listed. `unlocks`: takes all rights to a folder before it
    looks into it, as whoever has filled it may have given them up.
    """
    for here, _, name, is_folder in _steps(top, lambda error: skips_errors, unlocks=unlocks):
        yield here, name, is_folder


def walk_paths(top: int) -> Iterator[tuple[int, bytes, bool]]:
    """As `walk`, with the path from `top` in place of the name: it may be longer than the system
    takes one, so that only its last part, in the folder given, is good for opening. Folders that
    are removed or moved meanwhile are passed over; raises `OSError` for those that it may not
    list."""
    for here, way, name, is_folder in _steps(top, _is_gone, finds_back=True):
        yield here, b"/".join((*(above for above, _, _ in way), name)), is_folder


def open_folder(top: int, path: bytes, *, making: bool = False) -> int:
    """A descriptor of the folder with this path, however long that is; made, if it is wanted, with
    all above it. Raises `OSError`, also where there is a link."""
    here = os.open(b".", _LISTED, dir_fd=top)
    try:
        for name in filter(None, path.split(b"/")):
            if making:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=here)
            below = os.open(name, _LISTED, dir_fd=here)
            os.close(here)
            here = below
    except OSError:
        os.close(here)
        raise
    return here


_Way = list[tuple[bytes, tuple[int, int], list[bytes]]]
"""Of each folder on the way down: its name, which folder it is in, and what is still to be seen
there."""


def _is_gone(error: OSError) -> bool:
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def _steps(
    top: int,
    passes_over: Callable[[OSError], bool],
    *,
    finds_back: bool = False,
    unlocks: bool = False,
) -> Iterator[tuple[int, _Way, bytes, bool]]:
    """The folder a thing is in, the way there, its name, and whether it is a folder. Where the way
    back up is lost, it is looked for from the top or is an error."""
    if unlocks:
        _unlock(top)
    here = os.open(b".", _LISTED, dir_fd=top)
    way: _Way = []
    try:
        plain, folders = _sorted(here)
        while True:
            for name in plain:
                yield here, way, name, False
            plain = []
            if folders:
                name = folders.pop()
                if unlocks:
                    _unlock_below(name, here)
                try:
                    below = os.open(name, _LISTED, dir_fd=here)
                except OSError as error:
                    if not passes_over(error):
                        raise
                    yield here, way, name, True
                    continue
                way.append((name, _identity(here), folders))
                os.close(here)
                here = below
                plain, folders = _sorted(here)
            elif way:
                name, identity, folders = way.pop()
                try:
                    above = _same(os.open(b"..", _FOLDER, dir_fd=here), identity, name)
                except OSError:
                    if not finds_back:
                        raise
                    found = _found_again(top, way, identity, name, folders)
                    if found is None:
                        return
                    above, name, folders = found
                os.close(here)
                here = above
                yield here, way, name, True
            else:
                return
    finally:
        os.close(here)


def _same(folder: int, identity: tuple[int, int], name: bytes) -> int:
    """The folder, if it is the one that `name` was in before; else it is closed."""
    if _identity(folder) != identity:
        os.close(folder)
        raise _failure(errno.EAGAIN, name)  # it was moved meanwhile
    return folder


def _found_again(
    top: int, way: _Way, identity: tuple[int, int], name: bytes, folders: list[bytes]
) -> tuple[int, bytes, list[bytes]] | None:
    """The lowest folder on the way that is where it was, the name below it, and what is still to
    be seen there. The way is cut to it."""
    while True:
        try:
            folder = open_folder(top, b"/".join(above for above, _, _ in way))
            return _same(folder, identity, name), name, folders
        except OSError:
            if not way:
                return None
            name, identity, folders = way.pop()


def remove_tree(path: str | Path) -> None:
    """A folder with all that is in it, or as much of it as its owner can remove."""
    with suppress(OSError):
        top = os.open(path, _FOLDER | os.O_NOFOLLOW)
        try:
            for here, name, is_folder in walk(top, skips_errors=True, unlocks=True):
                with suppress(OSError):
                    _remove(name, here, is_folder)
        finally:
            os.close(top)
        os.rmdir(path)


def _sorted(folder: int) -> tuple[list[bytes], list[bytes]]:
    """Its names: those of all but folders, and those of folders."""
    plain: list[bytes] = []
    folders: list[bytes] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            (folders if is_folder else plain).append(os.fsencode(entry.name))
    return plain, folders


def _unlock(folder: int) -> None:
    with suppress(OSError):  # of another account
        if os.fstat(folder).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(_name_of(folder), stat.S_IRWXU)


def _unlock_below(name: bytes, folder: int) -> None:
    with suppress(OSError):  # gone meanwhile
        below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
        try:
            _unlock(below)
        finally:
            os.close(below)


def _identity(folder: int) -> tuple[int, int]:
    status = os.fstat(folder)
    return status.st_dev, status.st_ino


def _remove(name: bytes, folder: int, is_folder: bool) -> None:
    (os.rmdir if is_folder else os.unlink)(name, dir_fd=folder)


def statfs_of(descriptor: int) -> tuple[int, ...]:
    """As `Beneath.statfs`, of what is open. Asks libc, as Python does not tell the type."""
    answer = ctypes.create_string_buffer(256)
    if _libc.fstatfs(descriptor, answer) != 0:
        raise _failure(ctypes.get_errno(), b"")
    return struct.unpack_from("@7l", answer)


def _name_of(descriptor: int) -> str:
    """A name for what a descriptor is open on, for calls that do not take a descriptor opened with
    O_PATH; the kernel follows it to the file itself, without a look at any path."""
    return f"/proc/self/fd/{descriptor}"

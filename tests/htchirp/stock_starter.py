"""A strict fake of the Chirp proxy in HTCondor's starter, with the shadow behind it.

A real HTCondor needs root, half a dozen daemons and a second or more for each job, and shows little
of what it was told. So this is a second reading of what a running HTCondor 25.14 was seen to do,
written on its own: it shares no line with Roost's codec or proxy. It works over real sockets on a
real directory, and is as unforgiving as the original: it counts with 32 bits, it serves one request
at a time, and what kills, hangs or severs a starter does so here (`dead`, `hung`, `severed`).
`test_htcondor.py` asks a real one the same and compares the answers byte by byte.

`new`: with the limits that came with 25.11. Without, as 10 to 25.10 answer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
import struct
import threading
from pathlib import Path

COOKIE = "abcdefghijklmnopqrstuvwxyzabcde"
LINE_MAX = 5120
BLANKS = b" \t\r\v\f"
OPEN_FLAGS = {"c": os.O_CREAT, "t": os.O_TRUNC, "a": os.O_APPEND, "x": os.O_EXCL}

# keyword, formats of its arguments (s word, d number), gate. Tried in this order, by prefix.
GRAMMAR = [
    ("open", "ssd", "io"),
    ("close", "d", "io"),
    ("read", "dd", "io"),
    ("pread", "ddd", "io"),
    ("sread", "ddddd", "io"),
    ("write", "dd", "io"),
    ("pwrite", "ddd", "io"),
    ("swrite", "ddddd", "io"),
    ("lseek", "ddd", "io"),
    ("fsync", "d", "io"),
    ("fstatfs", "d", "io"),
    ("fstat", "d", "io"),
    ("fchmod", "dd", "io"),
    ("fchown", "ddd", "io"),
    ("ftruncate", "dd", "io"),
    ("getfile", "s", "io"),
    ("putfile", "sdd", "io"),
    ("getlongdir", "s", "io"),
    ("getdir", "s", "io"),
    ("statfs", "s", "io"),
    ("stat", "s", "io"),
    ("lstat", "s", "io"),
    ("access", "sd", "io"),
    ("chmod", "sd", "io"),
    ("chown", "sdd", "io"),
    ("lchown", "sdd", "io"),
    ("utime", "sdd", "io"),
    ("truncate", "sd", "io"),
    ("unlink", "s", "io"),
    ("rmdir", "s", "io"),
    ("mkdir", "sd", "io"),
    ("rename", "ss", "io"),
    ("rmall", "s", "io"),
    ("link", "ss", "io"),
    ("symlink", "ss", "io"),
    ("readlink", "sd", "io"),
    ("whoami", "d", "io"),
    ("whoareyou", "sd", "io"),
    ("lookup", "s", "io"),
    ("set_job_attr_delayed", "ss", "delayed"),
    ("get_job_attr", "s", "updates"),
    ("get_job_attr_delayed", "s", "delayed"),
    ("set_job_attr", "ss", "updates"),
    ("ulog", "s", "updates"),
    ("phase", "s", "phases"),
    ("version", "", "updates"),
]
# Answered by the starter alone; everything else is -17 once the shadow is away.
ALONE = {"version", "set_job_attr_delayed", "get_job_attr_delayed"}

CODES = {
    errno.EPERM: -2, errno.EACCES: -2, errno.ENOENT: -3, errno.EEXIST: -4, errno.EFBIG: -5,
    errno.ENOSPC: -6, errno.ENOMEM: -7, errno.EINVAL: -8, errno.E2BIG: -8, errno.EMFILE: -9,
    errno.EBUSY: -10, errno.ETXTBSY: -10, errno.EAGAIN: -11, errno.EBADF: -12, errno.EISDIR: -13,
    errno.ENOTDIR: -14, errno.ENOTEMPTY: -15, errno.EXDEV: -16,
}  # fmt: skip


class Killed(Exception):
    """The starter has aborted."""


class NoAnswer(Exception):
    """The starter goes on and never answers this."""


def int32(number: int) -> int:
    return struct.unpack("=i", struct.pack("=I", number & 0xFFFFFFFF))[0]


def st13(about: os.stat_result) -> bytes:
    numbers = (
        about.st_dev, about.st_ino, about.st_mode, about.st_nlink, about.st_uid, about.st_gid,
        about.st_rdev, about.st_size, about.st_blksize, about.st_blocks, int(about.st_atime),
        int(about.st_mtime), int(about.st_ctime),
    )  # fmt: skip
    return b" ".join(b"%d" % number for number in numbers) + b"\n"


class StockStarter:
    def __init__(
        self,
        root: Path,
        *,
        new: bool = True,
        io: bool = True,
        updates: bool = True,
        delayed: bool = True,
        phases: bool = False,
        transfer_max: int = 256 * 1024 * 1024,
        stat_line: bool = True,
    ) -> None:
        self.root = root
        self.new = new
        self.gates = {"io": io, "updates": updates, "delayed": delayed, "phases": phases}
        self.transfer_max = transfer_max if new else 2**31 - 1
        self.stat_line = stat_line
        self.attributes: dict[str, str] = {}
        self.pending: dict[str, str] = {}
        self.log: list[bytes] = []
        self.lines: list[bytes] = []
        """Every request that was executed, without the cookie."""
        self.connections = 0
        self.dead = self.severed = self.hung = False
        self._files: dict[int, int] = {}
        self._one_at_a_time = threading.Lock()
        self._open: set[socket.socket] = set()
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self._listener.getsockname()[1]
        self.contact = root.parent / f"chirp-{self.port}.config"
        self.contact.write_text(f"127.0.0.1 {self.port} {COOKIE}\n")
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def stop(self) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for descriptor in self._files.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)

    @property
    def descriptors(self) -> int:
        """How many files the shadow has open for us."""
        return len(self._files)

    # --- connections ------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        known = False
        try:
            while connection.recv(1, socket.MSG_PEEK):
                # From the first byte on nobody else is served.
                with self._one_at_a_time:
                    line = self._read_line(connection)
                    if line is None:
                        return
                    if known:
                        self._execute(connection, line)
                        continue
                    words = line.split()
                    known = words[:2] == [b"cookie", COOKIE.encode()] and line[:1] != b" "
                    connection.sendall(b"0\n" if known else b"-1\n")
        except Killed:
            self.dead = True
            self._over.set()
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            for other in list(self._open):
                with contextlib.suppress(OSError):
                    other.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        finally:
            self._open.discard(connection)
            connection.close()

    def _read_line(self, connection: socket.socket) -> bytes | None:
        line = b""
        while (byte := connection.recv(1)) != b"\n":
            if not byte:
                break  # half a line is executed
            line += byte
            if len(line) > LINE_MAX:
                connection.sendall(b"-5\n")
                return None
        return line.partition(b"\0")[0] if line else None

    def _read_exactly(self, connection: socket.socket, count: int) -> bytes:
        pieces = []
        while count:
            piece = connection.recv(min(count, 1 << 20))
            if not piece:
                raise OSError(errno.EINVAL, "short payload")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    # --- requests ---------------------------------------------------------------------------

    def _parse(self, line: bytes) -> tuple[str, list] | None:
        for keyword, formats, gate in GRAMMAR:
            if not self.gates[gate] or not line.startswith(keyword.encode()):
                continue
            arguments = self._scan(line[len(keyword) :], formats)
            if arguments is not None:
                return keyword, arguments
        return None

    def _scan(self, rest: bytes, formats: str) -> list | None:
        arguments: list = []
        for kind in formats:
            rest = rest.lstrip(BLANKS)
            if kind == "s":
                word, at = bytearray(), 0
                while at < len(rest) and rest[at] not in BLANKS:
                    if rest[at : at + 1] == b"\\":
                        at += 1
                    word += rest[at : at + 1]
                    at += 1
                if not word:
                    return None
                arguments.append(bytes(word))
                rest = rest[at:]
            else:
                number = re.match(rb"[+-]?\d+", rest)
                if number is None:
                    return None
                arguments.append(int32(int(number.group())))
                rest = re.sub(rb"^\S+", b"", rest)
        return arguments

    def _execute(self, connection: socket.socket, line: bytes) -> None:
        parsed = self._parse(line)
        self.lines.append(line)
        if parsed is None:
            connection.sendall(b"-8\n")
            return
        command, arguments = parsed
        if self.severed and command not in ALONE:
            if command == "open":
                raise Killed
            if command in ("write", "pwrite", "swrite"):
                self._read_exactly(connection, arguments[1])
            connection.sendall(b"-17\n")
            return
        try:
            answer = getattr(self, f"do_{command}")(connection, *arguments)
        except NoAnswer:
            return
        except OSError as error:
            answer = CODES.get(error.errno or 0, -127)
        number, data = answer if isinstance(answer, tuple) else (answer, b"")
        # Three sends, as the original.
        connection.sendall(b"%d" % number)
        connection.sendall(b"\n")
        if data:
            connection.sendall(data)

    def _path(self, name: bytes) -> bytes:
        return os.path.join(os.fsencode(self.root), name)

    def _file(self, fd: int) -> int:
        if fd not in self._files:
            raise OSError(errno.EBADF, "")
        return self._files[fd]

    def _counted(self, data: bytes) -> tuple[int, bytes]:
        return len(data), data

    # --- files ------------------------------------------------------------------------------

    def do_open(self, _, name: bytes, letters: bytes, mode: int):
        flags = os.O_RDONLY
        if b"w" in letters:
            flags = os.O_RDWR if b"r" in letters else os.O_WRONLY
        for letter, flag in OPEN_FLAGS.items():
            if letter.encode() in letters:
                flags |= flag
        if b"x" in letters and b"c" not in letters:
            return -8
        descriptor = os.open(self._path(name), flags, mode & 0o7777)
        fd = next(number for number in range(4, 10_000) if number not in self._files)
        self._files[fd] = descriptor
        return fd, st13(os.fstat(descriptor)) if self.stat_line else b"\n"

    def do_close(self, _, fd: int):
        if fd == 3:
            self.severed = True
            return -17
        os.close(self._file(fd))
        del self._files[fd]
        return 0

    def _length(self, length: int) -> None:
        if length < 0:
            raise NoAnswer
        if self.new and not 0 < length <= self.transfer_max:
            raise OSError(errno.EINVAL, "")

    def do_read(self, _, fd: int, length: int):
        self._length(length)
        return self._counted(os.read(self._file(fd), length))

    def do_pread(self, _, fd: int, length: int, offset: int):
        if length < 0:
            return -7
        self._length(length)
        return self._counted(os.pread(self._file(fd), length, offset))

    def do_sread(self, _, fd: int, length: int, offset: int, stride: int, skip: int):
        self._length(length)
        if stride <= 0:
            return -8
        data = b""
        while len(data) < length:
            piece = os.pread(self._file(fd), min(stride, length - len(data)), offset)
            if not piece:
                self.hung = True
                self._over.wait()
                raise NoAnswer
            data += piece
            offset += skip
        return self._counted(data)

    def _payload(self, connection: socket.socket, length: int) -> bytes:
        if length == 0:
            raise Killed  # Assertion ERROR on (sz > 0)
        return self._read_exactly(connection, length)

    def do_write(self, connection, fd: int, length: int):
        view = memoryview(self._payload(connection, length))
        while view:
            view = view[os.write(self._file(fd), view) :]
        return length

    def do_pwrite(self, connection, fd: int, length: int, offset: int):
        return os.pwrite(self._file(fd), self._payload(connection, length), offset)

    def do_swrite(self, connection, fd: int, length: int, offset: int, stride: int, skip: int):
        data = self._payload(connection, length)
        if stride <= 0:
            return -8
        for at in range(0, length, stride):
            os.pwrite(self._file(fd), data[at : at + stride], offset)
            offset += skip
        return length

    def do_lseek(self, _, fd: int, offset: int, whence: int):
        if whence not in (0, 1, 2):
            return -8
        return int32(os.lseek(self._file(fd), offset, whence))

    def do_fsync(self, _, fd: int):
        os.fsync(self._file(fd))
        return 0

    def do_fstat(self, _, fd: int):
        return 0, st13(os.fstat(self._file(fd)))

    do_fstatfs = do_fstat

    def do_fchmod(self, _, fd: int, mode: int):
        os.fchmod(self._file(fd), mode)
        return 0

    def do_fchown(self, _, fd: int, uid: int, gid: int):
        os.fchown(self._file(fd), uid, gid)
        return 0

    def do_ftruncate(self, _, fd: int, length: int):
        os.ftruncate(self._file(fd), length)
        return 0

    def do_getfile(self, _, name: bytes):
        descriptor = os.open(self._path(name), os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            if self.new and not 0 < size <= self.transfer_max:
                if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                    return -13
                return -5
            if int32(size) < 0:
                return -7
            return self._counted(os.read(descriptor, int32(size)))
        finally:
            os.close(descriptor)

    def do_putfile(self, connection, name: bytes, mode: int, length: int):
        if self.new and not 0 <= length <= self.transfer_max:
            return -5
        try:
            flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
            descriptor = os.open(self._path(name), flags, mode & 0o7777)
        except OSError:
            self.severed = length > 0
            raise
        try:
            connection.sendall(b"22\n")
            if length <= 0:
                raise NoAnswer
            return os.write(descriptor, self._read_exactly(connection, length))
        finally:
            os.close(descriptor)

    def _entries(self, name: bytes) -> list[tuple[bytes, bytes]]:
        found = []
        for entry in os.listdir(self._path(name)):
            with contextlib.suppress(OSError):  # dangling links are left out
                found.append((entry, st13(os.stat(os.path.join(self._path(name), entry)))))
        return found

    def do_getdir(self, _, name: bytes):
        return self._counted(b"".join(entry + b"\n" for entry, _ in self._entries(name)) + b"\n")

    def do_getlongdir(self, _, name: bytes):
        lines = [entry + b"\n" + numbers for entry, numbers in self._entries(name)]
        return self._counted(b"".join(lines) + b"\n")

    def do_stat(self, _, name: bytes):
        return 0, st13(os.stat(self._path(name)))

    def do_lstat(self, _, name: bytes):
        return 0, st13(os.lstat(self._path(name)))

    def do_statfs(self, _, name: bytes):
        about = os.statvfs(self._path(name))
        numbers = (
            61267, about.f_bsize, about.f_blocks, about.f_bfree, about.f_bavail, about.f_files,
            about.f_ffree,
        )  # fmt: skip
        return 0, b" ".join(b"%d" % number for number in numbers) + b"\n"

    def do_access(self, _, name: bytes, mode: int):
        path = self._path(name)
        os.stat(path)
        return 0 if os.access(path, mode) else -2

    def do_chmod(self, _, name: bytes, mode: int):
        os.chmod(self._path(name), mode)
        return 0

    def do_chown(self, _, name: bytes, uid: int, gid: int):
        os.chown(self._path(name), uid, gid)
        return 0

    def do_lchown(self, _, name: bytes, uid: int, gid: int):
        os.lchown(self._path(name), uid, gid)
        return 0

    def do_utime(self, _, name: bytes, accessed: int, changed: int):
        os.utime(self._path(name), (accessed, changed))
        return 0

    def do_truncate(self, _, name: bytes, length: int):
        os.truncate(self._path(name), length)
        return 0

    def do_unlink(self, _, name: bytes):
        if Path(os.fsdecode(self._path(name))).is_dir():
            return -13
        os.unlink(self._path(name))
        return 0

    def do_rmdir(self, _, name: bytes):
        os.rmdir(self._path(name))
        return 0

    def do_rmall(self, _, name: bytes):
        path = self._path(name)
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            return -14
        gone = True
        for name in os.listdir(path):
            entry = os.path.join(path, name)
            if os.path.islink(entry) and not os.path.exists(entry):
                gone = False  # what dangles is not seen, so it stays
            elif os.path.isdir(entry) and not os.path.islink(entry):
                gone = self.do_rmall(_, entry) == 0 and gone
            else:
                os.unlink(entry)
        if gone:
            os.rmdir(path)
        return 0 if gone else -15

    def do_mkdir(self, _, name: bytes, mode: int):
        os.mkdir(self._path(name), mode)
        return 0

    def do_rename(self, _, old: bytes, new: bytes):
        os.rename(self._path(old), self._path(new))
        return 0

    def do_link(self, _, old: bytes, new: bytes):
        os.link(self._path(old), self._path(new))
        return 0

    def do_symlink(self, _, target: bytes, new: bytes):
        os.symlink(target, self._path(new))
        return 0

    def do_readlink(self, _, name: bytes, length: int):
        if length <= 0 or (self.new and length > 4096):
            return -8
        return self._counted(os.readlink(self._path(name))[:length])

    def _identity(self, name: bytes, length: int):
        if self.new and length > 1024:
            return -8
        if length < 0:
            return -7
        if length < len(name):
            return -6
        return self._counted(name if length > len(name) else name[:-1] + b"\0")

    def do_whoami(self, _, length: int):
        return self._identity(b"CONDOR", length)

    def do_whoareyou(self, _, host: bytes, length: int):
        return self._identity(b"UNKNOWN", length)

    def do_lookup(self, _, name: bytes):
        return self._counted(b"remote:" + self._path(name))

    # --- attributes -------------------------------------------------------------------------

    def do_get_job_attr(self, _, name: bytes):
        found = {key.lower(): text for key, text in self.attributes.items()}
        return self._counted(found.get(name.decode().lower(), "UNDEFINED").encode())

    def do_set_job_attr(self, _, name: bytes, text: bytes):
        if not re.fullmatch(rb"[A-Za-z_]\w*", name):
            return -8 if self.new or b" " in name else -127
        if name.lower() in (b"clusterid", b"procid", b"owner"):
            return -2
        if not text.rstrip().endswith((b"+", b"-", b"*", b"/", b"=")):
            self.attributes[name.decode()] = text.decode()
        return 0

    def do_set_job_attr_delayed(self, _, name: bytes, text: bytes):
        if len(text) > 993:
            return -127
        key = name.decode()
        full = len(self.pending) >= 100 and key not in self.pending
        if not key.lower().startswith("chirp") or full:
            return 1
        if not text.rstrip().endswith((b"+", b"-", b"*", b"/", b"=")):
            self.pending[key] = text.decode()
        return 0

    def do_get_job_attr_delayed(self, _, name: bytes):
        found = {key.lower(): text for key, text in self.pending.items()}
        text = found.get(name.decode().lower())
        if text is None:
            return -3
        if re.fullmatch(r"-?\d+\.\d+", text):
            text = f"{float(text):.15E}"
        return self._counted(text.encode())

    def do_ulog(self, _, text: bytes):
        self.log.append(text[:1023])
        return 0

    def do_phase(self, _, word: bytes):
        self.log.append(b"phase " + word)
        return 0

    def do_version(self, _):
        return 2

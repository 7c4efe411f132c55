"""Chirp: what a running job says to its submit machine, one line at a time.

The client speaks first, a request a line; the answer is a decimal number, often followed by bytes.
`cookie WORD` comes first. In every command words come before numbers, so `COMMANDS` needs no more
than their names, and a `Request` keeps the two apart: `words` are bytes (names of files need not
be text), `numbers` have 64 bits.

    server                                     client
    reader = RequestReader()                   format_request("pwrite", 3, 5, 0) + b"hello"
    reader.receive(b"stat a\\\\ b\\nwri")          parse_code(b"5")
    reader.next_event() -> Request("stat"…)    parse_stat(line), parse_listing(data)
    reader.next_event() -> None: receive more

What always holds: a request is made of a whole line, never of what a lost connection left of one.
Nothing of any length is kept: a line has at most `LINE_MAX` bytes, and a payload is handed on in
the pieces in which it arrives.

Words are separated by blanks, TAB, CR, VT and FF; a backslash makes the next byte an ordinary one,
except LF, which always ends the line. Words beyond those expected are ignored, and so is text that
is glued to a number. A keyword is a whole word, only `version` is known by its beginning; the
starter of HTCondor reads every command like that, and takes `get_job_attr_delayed A` for
`get_job_attr` of `_delayed`. A line with a NUL is refused, not cut there.

Pure: bytes in, events out. Standard library only: the client inside a job is built on it too.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from enum import IntEnum, StrEnum
from typing import NamedTuple, Protocol

from roost.errors import ProtocolError

LINE_MAX = 5120
"""Bytes of a request. Readers allow them before the LF; writers count the LF too."""
PROTOCOL_VERSION = 2
NUMBER_MAX = 2**63 - 1
STAT_FIELDS = (
    "device", "inode", "mode", "nlink", "uid", "gid", "rdevice", "size", "blksize", "blocks",
    "atime", "mtime", "ctime",
)  # fmt: skip
STATFS_FIELDS = ("f_type", "f_bsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree")


# --- codes ------------------------------------------------------------------------------------


class Code(IntEnum):
    """What went wrong, as an answer's number. Numbers from 0 up are success."""

    NOT_AUTHENTICATED = -1
    NOT_AUTHORIZED = -2
    DOESNT_EXIST = -3
    ALREADY_EXISTS = -4
    TOO_BIG = -5
    NO_SPACE = -6
    NO_MEMORY = -7
    INVALID_REQUEST = -8
    TOO_MANY_OPEN = -9
    BUSY = -10
    TRY_AGAIN = -11
    BAD_FD = -12
    IS_DIR = -13
    NOT_DIR = -14
    NOT_EMPTY = -15
    CROSS_DEVICE_LINK = -16
    OFFLINE = -17
    UNKNOWN = -127


_CODES = {
    errno.EPERM: Code.NOT_AUTHORIZED,
    errno.EACCES: Code.NOT_AUTHORIZED,
    errno.EROFS: Code.NOT_AUTHORIZED,
    errno.ENOENT: Code.DOESNT_EXIST,
    errno.EEXIST: Code.ALREADY_EXISTS,
    errno.EFBIG: Code.TOO_BIG,
    errno.ENAMETOOLONG: Code.TOO_BIG,
    errno.EOVERFLOW: Code.TOO_BIG,
    errno.ENOSPC: Code.NO_SPACE,
    errno.EDQUOT: Code.NO_SPACE,
    errno.ENOMEM: Code.NO_MEMORY,
    errno.EINVAL: Code.INVALID_REQUEST,
    errno.E2BIG: Code.INVALID_REQUEST,
    errno.ELOOP: Code.INVALID_REQUEST,
    errno.ESPIPE: Code.INVALID_REQUEST,
    errno.EOPNOTSUPP: Code.INVALID_REQUEST,
    errno.ENOTSUP: Code.INVALID_REQUEST,
    errno.ENOSYS: Code.INVALID_REQUEST,
    errno.ENFILE: Code.TOO_MANY_OPEN,
    errno.EMFILE: Code.TOO_MANY_OPEN,
    errno.EMLINK: Code.TOO_MANY_OPEN,
    errno.EBUSY: Code.BUSY,
    errno.ETXTBSY: Code.BUSY,
    errno.EAGAIN: Code.TRY_AGAIN,
    errno.EINTR: Code.TRY_AGAIN,
    errno.EBADF: Code.BAD_FD,
    errno.EISDIR: Code.IS_DIR,
    errno.ENOTDIR: Code.NOT_DIR,
    errno.ENOTEMPTY: Code.NOT_EMPTY,
    errno.EXDEV: Code.CROSS_DEVICE_LINK,
    errno.ETIMEDOUT: Code.OFFLINE,
    errno.EHOSTUNREACH: Code.OFFLINE,
    errno.ENETUNREACH: Code.OFFLINE,
    errno.ECONNREFUSED: Code.OFFLINE,
    errno.ECONNRESET: Code.OFFLINE,
    errno.ENOTCONN: Code.OFFLINE,
}
_ERRNOS = {
    Code.NOT_AUTHENTICATED: errno.EACCES,
    Code.NOT_AUTHORIZED: errno.EACCES,
    Code.DOESNT_EXIST: errno.ENOENT,
    Code.ALREADY_EXISTS: errno.EEXIST,
    Code.TOO_BIG: errno.EFBIG,
    Code.NO_SPACE: errno.ENOSPC,
    Code.NO_MEMORY: errno.ENOMEM,
    Code.INVALID_REQUEST: errno.EINVAL,
    Code.TOO_MANY_OPEN: errno.EMFILE,
    Code.BUSY: errno.EBUSY,
    Code.TRY_AGAIN: errno.EAGAIN,
    Code.BAD_FD: errno.EBADF,
    Code.IS_DIR: errno.EISDIR,
    Code.NOT_DIR: errno.ENOTDIR,
    Code.NOT_EMPTY: errno.ENOTEMPTY,
    Code.CROSS_DEVICE_LINK: errno.EXDEV,
    Code.OFFLINE: errno.ETIMEDOUT,
}


def code_of_errno(number: int | None) -> Code:
    """Finer than HTCondor's, as its C clients abort at `UNKNOWN`, which is left for the rest."""
    return Code.UNKNOWN if number is None else _CODES.get(number, Code.UNKNOWN)


def errno_of_code(code: int) -> int:
    """The errno that C clients make of an answer below 0; `EIO` for those that they do not know."""
    return _ERRNOS.get(code, errno.EIO)  # type: ignore[call-overload, no-any-return]


# --- commands ---------------------------------------------------------------------------------


class Gates(Protocol):
    """Which are open for a job, as `core.messages.Gates` tells."""

    @property
    def io(self) -> bool: ...

    @property
    def updates(self) -> bool: ...

    @property
    def delayed(self) -> bool: ...


class Gate(StrEnum):
    """What a job must be allowed before a command exists for it."""

    NONE = ""
    IO = "IO"
    UPD = "UPD"
    DLY = "DLY"

    def is_open(self, gates: Gates) -> bool:
        match self:
            case Gate.IO:
                return gates.io
            case Gate.UPD:
                return gates.updates
            case Gate.DLY:
                return gates.delayed
        return True


class Form(NamedTuple):
    """How one command is written. `words` and `numbers` are the names of its arguments."""

    gate: Gate
    words: tuple[str, ...]
    numbers: tuple[str, ...]
    payload: int | None = None
    """Which of the numbers says how many bytes follow the line; None: none do."""


def _form(gate: Gate, words: str = "", numbers: str = "", *, payload: bool = False) -> Form:
    named = tuple(numbers.split())
    return Form(gate, tuple(words.split()), named, named.index("length") if payload else None)


COMMANDS: dict[str, Form] = {
    "cookie": _form(Gate.NONE, "cookie"),
    "version": _form(Gate.NONE),
    "open": _form(Gate.IO, "path flags", "mode"),
    "close": _form(Gate.IO, "", "fd"),
    "read": _form(Gate.IO, "", "fd length"),
    "pread": _form(Gate.IO, "", "fd length offset"),
    "sread": _form(Gate.IO, "", "fd length offset stride_length stride_skip"),
    "write": _form(Gate.IO, "", "fd length", payload=True),
    "pwrite": _form(Gate.IO, "", "fd length offset", payload=True),
    "swrite": _form(Gate.IO, "", "fd length offset stride_length stride_skip", payload=True),
    "lseek": _form(Gate.IO, "", "fd offset whence"),
    "fsync": _form(Gate.IO, "", "fd"),
    "fstat": _form(Gate.IO, "", "fd"),
    "fstatfs": _form(Gate.IO, "", "fd"),
    "fchmod": _form(Gate.IO, "", "fd mode"),
    "fchown": _form(Gate.IO, "", "fd uid gid"),
    "ftruncate": _form(Gate.IO, "", "fd length"),
    "getfile": _form(Gate.IO, "path"),
    # Its bytes come after a first answer, see `RequestReader.expect_payload`.
    "putfile": _form(Gate.IO, "path", "mode length"),
    "getdir": _form(Gate.IO, "path"),
    "getlongdir": _form(Gate.IO, "path"),
    "stat": _form(Gate.IO, "path"),
    "lstat": _form(Gate.IO, "path"),
    "statfs": _form(Gate.IO, "path"),
    "access": _form(Gate.IO, "path", "mode"),
    "chmod": _form(Gate.IO, "path", "mode"),
    "chown": _form(Gate.IO, "path", "uid gid"),
    "lchown": _form(Gate.IO, "path", "uid gid"),
    "utime": _form(Gate.IO, "path", "atime mtime"),
    "truncate": _form(Gate.IO, "path", "length"),
    "unlink": _form(Gate.IO, "path"),
    "rmdir": _form(Gate.IO, "path"),
    "mkdir": _form(Gate.IO, "path", "mode"),
    "rename": _form(Gate.IO, "old new"),
    "rmall": _form(Gate.IO, "path"),
    "link": _form(Gate.IO, "old new"),
    "symlink": _form(Gate.IO, "target new"),
    "readlink": _form(Gate.IO, "path", "length"),
    "whoami": _form(Gate.IO, "", "length"),
    "whoareyou": _form(Gate.IO, "host", "length"),
    "lookup": _form(Gate.IO, "path"),
    "get_job_attr": _form(Gate.UPD, "name"),
    "set_job_attr": _form(Gate.UPD, "name expression"),
    "get_job_attr_delayed": _form(Gate.DLY, "name"),
    "set_job_attr_delayed": _form(Gate.DLY, "name expression"),
    "ulog": _form(Gate.UPD, "text"),
    "constrain": _form(Gate.UPD, "expression"),
    "phase": _form(Gate.UPD, "phase"),
}
GETS = frozenset(("get_job_attr", "get_job_attr_delayed"))
"""Commands that read an attribute."""


# --- requests, as a server reads them ---------------------------------------------------------


class Request(NamedTuple):
    """One command with all of its arguments. Modes may have file type bits; lengths may be < 0."""

    command: str
    words: tuple[bytes, ...] = ()
    numbers: tuple[int, ...] = ()
    payload: int = 0
    """Bytes that follow, as `Payload` events; they come, whatever the answer will be."""

    @property
    def gate(self) -> Gate:
        return COMMANDS[self.command].gate


class Payload(NamedTuple):
    chunk: bytes
    last: bool


class _Bare:
    """An event with nothing in it; an empty tuple would be false, and equal to any other."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Blank(_Bare):
    """An empty line."""

    __slots__ = ()


class Invalid(NamedTuple):
    """A line that is no request. `keyword` is what it began with, for logs.

    It is empty when it was long, as it may be a secret in the wrong place.
    """

    keyword: str


class TooLong(_Bare):
    """More than `LINE_MAX` bytes without LF. What follows cannot be understood: close."""

    __slots__ = ()


class Ended(NamedTuple):
    """The client has closed; `cut`: in the middle of a line or of a payload."""

    cut: bool


Event = Request | Payload | Blank | Invalid | TooLong | Ended

_LF = b"\n"
_WORD = re.compile(rb"(?:[^\\\s]|\\.?)+", re.DOTALL)
_ESCAPED = re.compile(rb"\\(.?)", re.DOTALL)
_NUMBER = re.compile(rb"[+-]?[0-9]+")
_DIGITS_MAX = 19
_SHAPES = {
    name.encode(): (name, len(form.words), len(form.words) + len(form.numbers), form.payload)
    for name, form in COMMANDS.items()
}
_VERSION = b"version"
_KEYWORD = re.compile(rb"\S{1,24}(?!\S)")


class RequestReader:
    """Turns what one client sends into events, in whatever pieces it arrives.

    Ask `next_event` until it answers None before giving it more: then it holds less than a line.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        """Where in the buffer the next event begins."""
        self._searched = 0
        """There is no LF before this place."""
        self._owed = 0
        """Bytes of a payload that are still to come."""
        self._closed = False
        self._over = False

    def receive(self, data: bytes) -> None:
        """Take in what the connection gave; b"" says that it has ended."""
        if not data:
            self._closed = True
        elif self._at == len(self._buffer):
            self._buffer, self._at, self._searched = data, 0, 0
        else:
            self._searched -= self._at
            self._buffer = self._buffer[self._at :] + data
            self._at = 0

    def expect_payload(self, length: int) -> None:
        """What comes next are `length` bytes of the `putfile` just accepted, not a request."""
        assert not self._owed and length >= 0
        self._owed = length

    def payload_passed(self, length: int) -> None:
        """So much of a payload has been taken past us; there was no event left in what we had."""
        assert self._at == len(self._buffer) and length <= self._owed
        self._owed -= length

    def next_event(self) -> Event | None:
        """None: nothing more until more is received. After `TooLong` or `Ended`, always None."""
        if self._over:
            self._buffer, self._at, self._searched = b"", 0, 0
            return None
        if self._owed and self._at < len(self._buffer):
            chunk = self._buffer[self._at : self._at + self._owed]
            self._at += len(chunk)
            self._owed -= len(chunk)
            self._searched = self._at
            return Payload(chunk, not self._owed)
        if not self._owed:
            end = self._buffer.find(_LF, self._searched)
            if (len(self._buffer) if end < 0 else end) - self._at > LINE_MAX:
                self._over = True
                return TooLong()
            if end >= 0:
                line = self._buffer[self._at : end]
                self._at = self._searched = end + 1
                event = parse_line(line)
                if isinstance(event, Request):
                    self._owed = event.payload
                return event
            self._searched = len(self._buffer)
        if self._closed:
            self._over = True
            return Ended(cut=bool(self._owed) or self._at < len(self._buffer))
        return None


def parse_line(line: bytes) -> Request | Blank | Invalid:
    """One line without its LF."""
    if not line:
        return Blank()
    found = line.split() if b"\\" not in line else _words(line)
    # A blank first is no request, although one in front of any other word is nothing.
    shape = _SHAPES.get(found[0]) if found and not line[:1].isspace() else None
    if shape is None and line.startswith(_VERSION):
        shape = _SHAPES[_VERSION]
    if shape is None or b"\0" in line:
        return _invalid(line)
    command, words, end, payload = shape
    if len(found) <= end:
        return _invalid(line)
    if words == end:
        arguments = tuple(found[1 : end + 1])
        return Request(command, arguments) if b"" not in arguments else _invalid(line)
    numbers: list[int] = []
    for word in found[words + 1 : end + 1]:
        number = _number(word)
        if number is None:
            return _invalid(line)
        numbers.append(number)
    arguments = tuple(found[1 : words + 1])
    follows = 0 if payload is None else numbers[payload]
    if b"" in arguments or follows < 0:
        return _invalid(line)
    return Request(command, arguments, tuple(numbers), follows)


def _words(line: bytes) -> list[bytes]:
    keyword, *others = _WORD.findall(line) or [b""]
    return [keyword, *map(_unescaped, others)]


def _unescaped(word: bytes) -> bytes:
    if b"\\\\" not in word:
        return word.replace(b"\\", b"")
    return _ESCAPED.sub(rb"\1", word)


def _number(word: bytes) -> int | None:
    if not word.isdigit():
        matched = _NUMBER.match(word)
        if matched is None:
            return None
        word = matched.group()
    if len(word) >= _DIGITS_MAX:
        sign, digits = (word[:1], word[1:]) if word[:1] in (b"-", b"+") else (b"", word)
        word = sign + (digits.lstrip(b"0") or b"0")
        if len(word) > _DIGITS_MAX + 1:
            return None
    number = int(word)
    return number if -NUMBER_MAX - 1 <= number <= NUMBER_MAX else None


def _invalid(line: bytes) -> Invalid:
    matched = _KEYWORD.match(line)
    return Invalid(matched.group().decode("ascii", "backslashreplace") if matched else "")


# --- requests, as a client writes them --------------------------------------------------------


class Unsendable(ProtocolError):
    """A request that cannot be put into a line; `code` is what a server would have answered."""

    def __init__(self, code: Code, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


_SPECIAL = re.compile(rb"[\\ \t\r\v\f]")
_FORBIDDEN = re.compile(rb"[\n\0]")


def format_request(command: str, *arguments: str | bytes | int) -> bytes:
    """The line, with its LF. Text is sent as UTF-8; names that were not, as the bytes they were.

    Raises `Unsendable` for what no line can carry: an empty word, LF and NUL, a number beyond 64
    bits, more than `LINE_MAX` bytes.
    """
    form = COMMANDS[command]
    assert len(arguments) == len(form.words) + len(form.numbers), command
    parts = [command.encode()]
    for name, argument in zip((*form.words, *form.numbers), arguments, strict=True):
        if isinstance(argument, int):
            assert name in form.numbers, (command, name)
            if not -NUMBER_MAX - 1 <= argument <= NUMBER_MAX:
                raise Unsendable(
                    Code.INVALID_REQUEST,
                    f"The {name} of {command} is a number beyond 64 bits; give a smaller one.",
                )
            parts.append(b"%d" % argument)
        else:
            assert name in form.words, (command, name)
            parts.append(_escape(argument, f"The {name} of {command}"))
    line = b" ".join(parts) + _LF
    if len(line) > LINE_MAX:
        raise Unsendable(
            Code.TOO_BIG,
            f"That request is too big to execute: {command} with its arguments has {len(line)} "
            f"bytes, and a line has at most {LINE_MAX}.",
        )
    return line


def _escape(word: str | bytes, what: str) -> bytes:
    if isinstance(word, str):
        try:
            word = word.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            sentence = f"{what} has a lone surrogate, which no file name or text can hold."
            raise Unsendable(Code.INVALID_REQUEST, sentence) from None
    if not word:
        raise Unsendable(Code.INVALID_REQUEST, f"{what} is empty, which Chirp cannot say.")
    if _FORBIDDEN.search(word):
        sentence = f"{what} has a line feed or a NUL in it, which Chirp cannot say."
        raise Unsendable(Code.INVALID_REQUEST, sentence)
    return _SPECIAL.sub(rb"\\\g<0>", word)


# --- answers ----------------------------------------------------------------------------------

_ANSWER = re.compile(rb"\s*([+-]?[0-9]{1,19})\s*")


def format_code(code: int) -> bytes:
    """An answer that is a number alone: a `Code`, a descriptor, a count."""
    return b"%d\n" % code


def format_counted(data: bytes) -> bytes:
    """An answer that is bytes: how many, and they."""
    return b"%d\n%b" % (len(data), data)


def format_numbers(numbers: tuple[int, ...]) -> bytes:
    """The line after a good `open`, `stat` (as in `STAT_FIELDS`) or `statfs` (`STATFS_FIELDS`)."""
    return _NUMBERS[len(numbers)] % numbers


_NUMBERS = {
    len(fields): b" ".join([b"%d"] * len(fields)) + _LF for fields in (STAT_FIELDS, STATFS_FIELDS)
}


def format_listing(names: Iterable[bytes]) -> bytes:
    """What `getdir` answers, with its count. The blank line at the end belongs to it."""
    return format_counted(b"".join([name + _LF for name in names]) + _LF)


def format_long_listing(entries: Iterable[tuple[bytes, tuple[int, ...]]]) -> bytes:
    """What `getlongdir` answers, with its count."""
    lines = [name + _LF + format_numbers(numbers) for name, numbers in entries]
    return format_counted(b"".join(lines) + _LF)


def parse_code(line: bytes) -> int:
    """The number of an answer, of `Code` when below 0. Raises `ProtocolError`."""
    matched = _ANSWER.fullmatch(line)
    if matched is None:
        raise ProtocolError(f"The Chirp server answered {_shown(line)} instead of a number.")
    return int(matched.group(1))


def parse_stat(line: bytes) -> dict[str, int]:
    """The numbers of an answer, by the names in `STAT_FIELDS`. Raises `ProtocolError`."""
    return _parse_numbers(line, STAT_FIELDS)


def parse_statfs(line: bytes) -> dict[str, int]:
    """The numbers of an answer, by the names in `STATFS_FIELDS`. Raises `ProtocolError`."""
    return _parse_numbers(line, STATFS_FIELDS)


def parse_listing(data: bytes) -> list[bytes]:
    """The names in what followed the count of `getdir`: one a line, then a blank line."""
    return [name for name in data.split(_LF) if name]


def parse_long_listing(data: bytes) -> list[tuple[bytes, dict[str, int]]]:
    """What followed the count of `getlongdir`. Raises `ProtocolError`."""
    lines = data.rstrip(_LF).split(_LF) if data.strip(_LF) else []
    if len(lines) % 2:
        raise ProtocolError("The Chirp server sent a listing that ends in mid-entry.")
    return [(name, parse_stat(line)) for name, line in zip(lines[::2], lines[1::2], strict=True)]


def _parse_numbers(line: bytes, names: tuple[str, ...]) -> dict[str, int]:
    words = line.split()
    # The starter answers `fstatfs` with the line of `fstat`; clients read the first seven.
    if len(words) < len(names):
        raise ProtocolError(
            f"The Chirp server sent {_shown(line)} instead of {len(names)} numbers."
        )
    return {name: parse_code(word) for name, word in zip(names, words, strict=False)}


def _shown(line: bytes) -> str:
    return repr(line[:60])[1:]

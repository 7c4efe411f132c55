"""`condor_chirp`: Chirp for scripts, as a command and as a function.

The command has every subcommand and option of HTCondor's manual, and `mkdir`, `rename`, `phase`.
It ends with 0 or 1, as the manual promises. HTCondor's own tool ends with a number of bytes, or
with 255; with `CONDOR_CHIRP_LEGACY_EXIT_CODES=1` in the environment so does this one.

Options are looked for before the first argument and after the last one that is needed, so that
values may begin with `-`; `--` before the first argument ends the options.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from typing import IO, TYPE_CHECKING, NamedTuple, NoReturn

from roost.core.classad import Value
from roost.htchirp.client import HTChirp, read_from, writing
from roost.wire import chirp

if TYPE_CHECKING:
    from roost.htchirp.client import Source
    from roost.htchirp.connection import Write

LEGACY = "CONDOR_CHIRP_LEGACY_EXIT_CODES"
FAILED = 1
LEGACY_FAILED = 255
METER_BYTES_MIN = 8 * 1024 * 1024
"""Smaller transfers show no progress."""
METER_S = 0.2
TIMES = ("atime", "mtime", "ctime")

Options = dict[str, list[str]]


class Call(NamedTuple):
    """One command as it was typed. `meters`: show the progress of large transfers."""

    name: str
    options: Options
    arguments: list[str]
    meters: bool = False

    def number(self, option: str, place: int = 0) -> int | None:
        values = self.options.get(option)
        return _decimal(values[place]) if values else None

    def octal(self, option: str) -> int | None:
        values = self.options.get(option)
        return _octal(values[0]) if values else None


class Command(NamedTuple):
    usage: str
    does: str
    run: Callable[[HTChirp, Call], object]
    least: int
    most: int
    options: dict[str, int]
    """Options, and how many values each takes."""


def condor_chirp(chirp_args: str | Sequence[str], return_exit_code: bool = False) -> object:
    """Run one `condor_chirp` command, given as a line or as a list of words.

    Returns what the method of `HTChirp` returns, and raises what it raises; `TypeError` for what is
    no command. With `return_exit_code` it prints the result, or the error to standard error, and
    returns 0 or 1.
    """
    words = list(chirp_args)
    if isinstance(chirp_args, str):
        import shlex

        words = shlex.split(chirp_args)
    if not return_exit_code:
        call = _parse(words)
        if call is None:
            _show(_help(words))
            return None
        with HTChirp() as client:
            return COMMANDS[call.name].run(client, call)
    if not words:
        sys.stderr.write(_help(words) + "\n")
        return FAILED
    try:
        call = _parse(words)
        if call is None:
            _show(_help(words))
            return 0
        with HTChirp() as client:
            result = COMMANDS[call.name].run(client, call)
    except Exception as error:
        sys.stderr.write(f"{error}\n")
        return FAILED
    _show_result(call, result)
    return 0


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command: never returns. `arguments` are those of the process by default."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    legacy = os.environ.get(LEGACY, "0") not in ("", "0")
    try:
        code = _command(words, legacy)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has had enough; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _command(words: list[str], legacy: bool) -> int:
    try:
        call = _parse(words)
    except TypeError as error:
        if legacy:
            _show(_help([]))
            return LEGACY_FAILED
        sys.stderr.write(f"{error}\n")
        return FAILED
    if call is None:
        _show(_help(words))
        return LEGACY_FAILED if legacy else 0
    call = call._replace(meters=sys.stderr.isatty())
    connected = False
    try:
        with HTChirp() as client:
            connected = True
            result = COMMANDS[call.name].run(client, call)
    except (HTChirp.ChirpError, OSError, ValueError, RuntimeError, Warning) as error:
        if legacy and connected and call.name in ("get_job_attr", "get_job_attr_delayed"):
            _show("(null)")
            return 0
        _show_error(call, error)
        if not legacy:
            return FAILED
        return _legacy_failure(call, error) if connected else LEGACY_FAILED
    _show_result(call, result)
    return _legacy_success(call, result) if legacy else 0


# --- the words --------------------------------------------------------------------------------


def _parse(words: list[str]) -> Call | None:
    """None: help was asked for. Raises `TypeError`."""
    if not words or words[0] not in COMMANDS:
        if words and words[0] in ("-h", "--help"):
            return None
        raise TypeError("Command must be one of: " + ", ".join(COMMANDS))
    name, *rest = words
    if rest in (["-h"], ["--help"]):
        return None
    command = COMMANDS[name]
    options: Options = {}
    arguments: list[str] = []
    while rest:
        word = rest.pop(0)
        outside = not arguments or len(arguments) >= command.least
        if outside and word in command.options:
            count = command.options[word]
            if len(rest) < count:
                raise TypeError(f"{word} needs {count} more. Usage: condor_chirp {command.usage}")
            options[word] = rest[:count]
            del rest[:count]
        elif word == "--" and not arguments:
            arguments, rest = rest, []
        else:
            arguments.append(word)
    if not command.least <= len(arguments) <= command.most:
        raise TypeError(f"Usage: condor_chirp {command.usage}")
    return Call(name, options, arguments)


def _help(words: list[str]) -> str:
    if words and words[0] in COMMANDS:
        command = COMMANDS[words[0]]
        return f"usage: condor_chirp {command.usage}\n\n{command.does}"
    lines = ["usage: condor_chirp command [command-arguments]", "", "commands:"]
    for command in COMMANDS.values():
        lines += [f"  {command.usage}", f"      {command.does}"]
    lines += ["", "It ends with 0, or with 1 when something went wrong."]
    return "\n".join(lines)


# --- what is shown ----------------------------------------------------------------------------


def _show(text: str | bytes) -> None:
    """To standard output, with a line feed; names that are not UTF-8 as the bytes they are."""
    sys.stdout.flush()
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.buffer.flush()


def _show_result(call: Call, result: object) -> None:
    """As HTCondor's tool shows it. What moves files shows nothing."""
    if result is None or call.name in ("fetch", "put", "write"):
        return
    if isinstance(result, (str, bytes)):
        _show(result)
        return
    lines = list(_lines(result))
    if lines:
        _show("\n".join(lines))


def _lines(result: object, indent: str = "") -> Iterator[str]:
    if isinstance(result, dict):
        for key, value in result.items():
            if isinstance(value, dict):
                yield f"{indent}{key}"
                yield from _lines(value, indent + "\t")
            elif key != "f_free":
                yield f"{indent}{key}: {time.ctime(value) if key in TIMES else value}"
    elif isinstance(result, list):
        yield from (f"{indent}{item}" for item in result)


def _show_error(call: Call, error: BaseException) -> None:
    """`Error: ERRNO (text)` after a TAB, which scripts look for; beside the data of a fetch it
    would be taken for data.
    """
    number, text = errno.EINVAL, str(error)
    if isinstance(error, HTChirp.ChirpError):
        number = chirp.errno_of_code(min(-1, error.code)) if error.code <= 0 else errno.EACCES
        if isinstance(error, HTChirp.InvalidRequest):
            text = _closed(call.name) or text
        elif number != errno.EIO:
            text = os.strerror(number)
    elif isinstance(error, TimeoutError):
        number = errno.ETIMEDOUT
    elif isinstance(error, OSError):
        number = error.errno or errno.ECONNRESET
        text = error.strerror or str(error)
        if error.filename is not None:
            text = f"{text}: {os.fsdecode(error.filename)}"
    elif isinstance(error, Warning):
        number = errno.ENOSPC
    line = f"\tError: {number} ({text})"
    if call.name in ("fetch", "put"):
        sys.stderr.write(f"{line}\n")
    else:
        _show(line)


def _closed(command: str) -> str:
    """Why nothing of the kind is open to this job; empty if it is. Servers answer that as they do a
    mistake."""
    if command.endswith("_delayed"):
        return ""
    is_for_files = command not in ("get_job_attr", "set_job_attr", "ulog", "phase")
    try:
        with HTChirp() as client:
            if is_for_files:
                client.whoami()
            else:
                client.get_job_attr("ClusterId")
    except HTChirp.InvalidRequest:
        if is_for_files:
            return "This job may not use files; it needs the attribute WantIOProxy = true."
        return "This job may not do that; it needs the attribute WantRemoteUpdates = true."
    except (HTChirp.ChirpError, OSError, ValueError):
        pass
    return ""


def _legacy_failure(call: Call, error: BaseException) -> int:
    code = error.code if isinstance(error, HTChirp.ChirpError) else 0
    if code == chirp.Code.UNKNOWN or call.name in ("fetch", "getdir"):
        return 1
    if call.name == "put" and "-mode" not in call.options and call.arguments[0] != "-":
        return 1
    if call.name == "set_job_attr_delayed" and code > 0:
        return 1
    if call.name == "chmod" and isinstance(error, ValueError):
        return errno.EINVAL
    return LEGACY_FAILED


def _legacy_success(call: Call, result: object) -> int:
    if call.name in ("read", "whoami", "whoareyou", "readlink") and isinstance(
        result, (str, bytes)
    ):
        return len(result) & 255
    if call.name == "write" and isinstance(result, int):
        return result & 255
    if call.name == "getdir" and isinstance(result, (list, dict)):
        return _listing_bytes(result) & 255
    return 0


def _listing_bytes(listing: list[str] | dict[str, dict[str, int]]) -> int:
    """How many a server sends for it."""
    count = 1 + sum(len(os.fsencode(name)) + 1 for name in listing)
    if isinstance(listing, dict):
        count += sum(len(" ".join(map(str, about.values()))) + 1 for about in listing.values())
    return count


class _Meter:
    """Tells on standard error how far a large transfer is."""

    def __init__(self, name: str, total: int | None, shown: bool) -> None:
        self._name = name
        self._total = total
        self._shown = shown and (total is None or total >= METER_BYTES_MIN)
        self._done = 0
        self._next = 0.0
        self._wrote = False

    def add(self, size: int) -> None:
        if not self._shown:
            return
        self._done += size
        if self._done < METER_BYTES_MIN and self._total is None:
            return
        now = time.monotonic()
        if now >= self._next or self._done == self._total:
            self._next = now + METER_S
            self._wrote = True
            sys.stderr.write(f"\r{self._name}: {self._text()}\x1b[K")
            sys.stderr.flush()

    def _text(self) -> str:
        done = f"{self._done / 1e6:,.0f}"
        if self._total is None:
            return f"{done} MB"
        return f"{done} of {self._total / 1e6:,.0f} MB, {100 * self._done // self._total} %"

    def end(self) -> None:
        if self._wrote:
            sys.stderr.write("\n")


# --- the commands -----------------------------------------------------------------------------


def _fetch(client: HTChirp, call: Call) -> int:
    remote, local = call.arguments

    @contextlib.contextmanager
    def opened(total: int | None) -> Iterator[Write]:
        meter = _Meter(remote, total, call.meters)
        with _local_output(local) as file:

            def write(data: memoryview, /) -> None:
                file.write(data)
                meter.add(len(data))

            try:
                yield write
            finally:
                meter.end()

    return client._download(remote, opened)


def _put(client: HTChirp, call: Call) -> int:
    local, remote = call.arguments
    # HTCondor's manual has a b for binary, which means nothing.
    flags = writing(call.options.get("-mode", ["wct"])[0].replace("b", ""))
    mode = call.octal("-perm")
    with _local_input(local) as file:
        meter = _Meter(local, _size(file), call.meters)
        try:
            source = _metered(read_from(file), meter)
            size, written = client._upload_file(source, remote, flags, mode)
        finally:
            meter.end()
    if written < size:
        raise UserWarning(f"Only {written} bytes of {size} bytes in {local} were written")
    return written


def _read(client: HTChirp, call: Call) -> bytes:
    remote, length = call.arguments
    strides = (call.number("-stride"), call.number("-stride", 1))
    return client.read(remote, _decimal(length), call.number("-offset"), *strides)


def _write(client: HTChirp, call: Call) -> int:
    remote, local, *limit = call.arguments
    stride, skip = call.number("-stride"), call.number("-stride", 1)
    strides = None if stride is None or skip is None else (stride, skip)
    with _local_input(local) as file:
        meter = _Meter(local, None if limit else _size(file), call.meters)
        source = _metered(read_from(file), meter)
        if limit:
            source = _limited(source, _length(limit[0]))
        try:
            size, written = client._upload(
                source, remote, "w", None, sync=True, offset=call.number("-offset"), strides=strides
            )
        finally:
            meter.end()
    if written < size:
        raise UserWarning(f"Only {written} bytes of {size} bytes in {local} were written")
    return written


def _metered(source: Source, meter: _Meter) -> Source:
    def metered(size: int) -> memoryview:
        chunk = source(size)
        meter.add(len(chunk))
        return chunk

    return metered


def _limited(source: Source, left: int) -> Source:
    def limited(size: int) -> memoryview:
        nonlocal left
        chunk = source(max(0, min(size, left)))
        left -= len(chunk)
        return chunk

    return limited


def _local_input(name: str) -> FileIO:
    """Closed by its user; standard input stays open."""
    if name == "-":
        return FileIO(sys.stdin.fileno(), "rb", closefd=False)
    return FileIO(name, "rb")


@contextlib.contextmanager
def _local_output(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with open(name, "wb") as file:
            yield file


def _size(file: FileIO) -> int | None:
    """None where only its end will tell."""
    return os.fstat(file.fileno()).st_size or None


def _set(client: HTChirp, call: Call) -> None:
    name, text = call.arguments
    value: Value = text
    method = client.set_job_attr_delayed if call.name.endswith("delayed") else client.set_job_attr
    method(name, value)


def _readlink(client: HTChirp, call: Call) -> bytes:
    path, *length = call.arguments
    target = client.readlink(path)
    return target[: _length(length[0])] if length else target


def _method(*kinds: Callable[[str], object], **options: str) -> Callable[[HTChirp, Call], object]:
    """The method of the same name; `options` maps its flags to options."""

    def run(client: HTChirp, call: Call) -> object:
        given = [kind(word) for kind, word in zip(kinds, call.arguments, strict=False)]
        flags = {flag: option in call.options for flag, option in options.items()}
        return getattr(client, call.name)(*given, **flags)

    return run


def _decimal(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"'{word}' is not a whole number.") from None


def _length(word: str) -> int:
    length = _decimal(word)
    if length < 0:
        raise ValueError(f"A number of bytes must not be below 0, as {word} is.")
    return length


def _octal(word: str) -> int:
    try:
        return int(word, 8)
    except ValueError:
        raise ValueError(f"'{word}' is not an octal number, such as 644.") from None


COMMANDS: dict[str, Command] = {
    "fetch": Command(
        "fetch RemoteFileName LocalFileName",
        "Copy a file of the submit machine to this one. - is standard output.",
        _fetch, 2, 2, {},
    ),
    "put": Command(
        "put [-mode mode] [-perm UnixPerm] LocalFileName RemoteFileName",
        "Copy a file to the submit machine. - is standard input. The mode is letters of w (write), "
        "c (create),\n      t (cut first), a (append), x (fail if it exists); the permission is "
        "octal, such as 660.",
        _put, 2, 2, {"-mode": 1, "-perm": 1},
    ),
    "remove": Command("remove RemoteFileName", "Delete a file.", _method(str), 1, 1, {}),
    "get_job_attr": Command(
        "get_job_attr JobAttributeName",
        "Print a job attribute: its expression, where strings have quotes.",
        _method(str), 1, 1, {},
    ),
    "set_job_attr": Command(
        "set_job_attr JobAttributeName AttributeValue",
        "Set a job attribute. A string needs its quotes: '\"text\"'.",
        _set, 2, 2, {},
    ),
    "get_job_attr_delayed": Command(
        "get_job_attr_delayed JobAttributeName",
        "Print a job attribute, also one that was just set with set_job_attr_delayed.",
        _method(str), 1, 1, {},
    ),
    "set_job_attr_delayed": Command(
        "set_job_attr_delayed JobAttributeName AttributeValue",
        "Set a job attribute in time; cheap, and for every job. Its name must begin with Chirp.",
        _set, 2, 2, {},
    ),
    "ulog": Command("ulog Message", "Write a line into the event log.", _method(str), 1, 1, {}),
    "phase": Command("phase Phase", "Say that the job is in a phase now.", _method(str), 1, 1, {}),
    "read": Command(
        "read [-offset offset] [-stride length skip] RemoteFileName Length",
        "Print so many bytes of a file; with a stride, length bytes every skip bytes.",
        _read, 2, 2, {"-offset": 1, "-stride": 2},
    ),
    "write": Command(
        "write [-offset offset] [-stride length skip] RemoteFileName LocalFileName [numbytes]",
        "Write a file, or its first bytes, into one of the submit machine. - is standard input.",
        _write, 2, 3, {"-offset": 1, "-stride": 2},
    ),
    "mkdir": Command(
        "mkdir RemotePath [UnixPerm]", "Make a directory.", _method(str, _octal), 1, 2, {}
    ),
    "rename": Command(
        "rename OldRemotePath NewRemotePath", "Rename or move.", _method(str, str), 2, 2, {}
    ),
    "rmdir": Command(
        "rmdir [-r] RemotePath",
        "Delete a directory; with -r all that is in it too.",
        _method(str, recursive="-r"), 1, 1, {"-r": 0},
    ),
    "getdir": Command(
        "getdir [-l] RemotePath",
        "List a directory; with -l all that is known of each file.",
        _method(str, stat_dict="-l"), 1, 1, {"-l": 0},
    ),
    "whoami": Command("whoami", "Print who this job is to the server.", _method(), 0, 0, {}),
    "whoareyou": Command(
        "whoareyou RemoteHost", "Print who the server is to a host.", _method(str), 1, 1, {}
    ),
    "link": Command(
        "link [-s] OldRemotePath NewRemotePath",
        "Make a hard link; with -s a symbolic one.",
        _method(str, str, symbolic="-s"), 2, 2, {"-s": 0},
    ),
    "readlink": Command(
        "readlink RemoteFileName [Length]", "Print what a symbolic link says.", _readlink, 1, 2, {}
    ),
    "stat": Command(
        "stat RemotePath", "Print all that is known of a file.", _method(str), 1, 1, {}
    ),
    "lstat": Command("lstat RemotePath", "The same, of a link itself.", _method(str), 1, 1, {}),
    "statfs": Command(
        "statfs RemotePath", "Print what is known of a file system.", _method(str), 1, 1, {}
    ),
    "access": Command(
        "access RemotePath Mode",
        "Fail unless a file may be read (r), written (w), executed (x), or is there (f).",
        _method(str, str), 2, 2, {},
    ),
    "chmod": Command(
        "chmod RemotePath UnixPerm", "Change permissions.", _method(str, _octal), 2, 2, {}
    ),
    "chown": Command(
        "chown RemotePath UID GID", "Change the owner.", _method(str, _decimal, _decimal), 3, 3, {}
    ),
    "lchown": Command(
        "lchown RemotePath UID GID",
        "Change the owner of a link itself.",
        _method(str, _decimal, _decimal), 3, 3, {},
    ),
    "truncate": Command(
        "truncate RemoteFileName Length", "Cut a file.", _method(str, _decimal), 2, 2, {}
    ),
    "utime": Command(
        "utime RemotePath AccessTime ModifyTime",
        "Set the times of a file, in seconds since 1970.",
        _method(str, _decimal, _decimal), 3, 3, {},
    ),
}  # fmt: skip

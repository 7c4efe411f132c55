"""A real HTCondor: our client and command in its jobs, and our fake starter beside its own.

Without one (`make htcondor`) these tests are skipped, unless the variable ROOST_REQUIRE_HTCONDOR
says that it must be there. What an operation does to a starter that does not survive it is seen on
a job of its own.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import roost
from roost.htchirp.command import LEGACY

pytestmark = pytest.mark.slow

PATIENCE_S = 120
SILENCE_S = 1
IO = {"WantIOProxy": "true"}
BENCH = Path(__file__).parents[2] / "bench"
JOB = Path(__file__).with_name("starter_job.py")
SOURCES = Path(roost.__file__).parent


@pytest.fixture(scope="module")
def contact(pool: Any) -> Path:
    """Of a job that may do everything and does nothing."""
    return pool.waiting(**IO)  # type: ignore[no-any-return]


@pytest.fixture
def new(pool: Any) -> bool:
    """With the limits of 25.11."""
    return tuple(map(int, pool.version.split("."))) >= (25, 11)


@pytest.fixture
def fake(start: Callable[..., Any], new: bool) -> Callable[..., Any]:
    """Starts a fake of the same age."""
    return functools.partial(start, new=new)


@pytest.fixture(autouse=True)
def same_umask() -> Iterator[None]:
    """That of HTCondor."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def in_job(pool: Any, *commands: str) -> str:
    """What commands say in a job that finds our client on its path; they must not fail."""
    if not (pool.folder / "sources").exists():
        shutil.copytree(SOURCES, pool.folder / "sources" / "roost")
    path = f"{pool.inside(pool.folder / 'sources')}"
    lines = [
        "set -e",
        f'cp -r {path} "$_CONDOR_SCRATCH_DIR"',
        'export PYTHONPATH="$_CONDOR_SCRATCH_DIR/sources"',
        *commands,
    ]
    ended = pool.ended("\n".join(lines), Given='"text"', **IO)
    assert ended.code == 0, ended.output
    return str(ended.output)


def test_a_pool_is_gone_with_the_process_that_started_it(pool: Any, tmp_path: Path) -> None:
    start = "import condor_pool, pathlib, sys\nwith condor_pool.pool(pathlib.Path.cwd()) as pool:\n"
    with subprocess.Popen(
        [sys.executable, "-c", f"{start} print(pool.pid, flush=True)\n sys.stdin.read()"],
        env={**os.environ, "PYTHONPATH": str(BENCH)},
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        descriptor = os.pidfd_open(int(process.stdout.readline()))
        process.kill()
    try:
        assert select.select([descriptor], [], [], PATIENCE_S)[0]
    finally:
        os.close(descriptor)


# --- our client and command -----------------------------------------------------------------------


def test_every_method_of_our_client_works_in_a_job(pool: Any) -> None:
    shutil.copy(JOB, pool.folder)
    said = in_job(pool, f"python3 {pool.inside(pool.folder / JOB.name)}")
    assert said == "every method did what it should\n"
    log = (pool.submit / "job.log").read_text("utf-8")
    assert re.search(r"^008 .* a line, it's said & done\?$", log, re.M)


COMMANDS = r"""
put hello.txt f/a
put -perm 600 hello.txt f/b
put -mode wa hello.txt f/a
put -mode cwb hello.txt f/c
~put -mode wcx hello.txt f/a
fetch f/a out
fetch f/a -
~fetch f/none out
read f/a 5
read -offset 6 f/a 5
read -stride 2 4 f/a 8
read -offset 1 -stride 2 4 f/a 8
read f/none 5
write f/a hello.txt
write -offset 5 f/a hello.txt 3
write f/none hello.txt
get_job_attr Foo
set_job_attr Foo 1
get_job_attr Foo
set_job_attr Foo '"a b"'
get_job_attr Foo
set_job_attr Owner 1
set_job_attr_delayed ChirpF 1
~set_job_attr_delayed F 1
ulog 'a message'
link f/a f/h
link f/none f/x
link -s a f/s
~readlink f/a 10
access f/a rw
access f/none f
~access f/a q
chmod f/a 640
~chmod f/a 9
chmod f/none 640
chown f/a -1 -1
chown f/none -1 -1
lchown f/a -1 -1
truncate f/a 3
truncate f/none 3
utime f/a 1000000000 1500000000
utime f/none 1 2
stat f/a
lstat f/s
stat f/none
getdir f
getdir -l f
~getdir none
remove f/h
remove f/none
rmdir f
rmdir -r f
rmdir none
~nonsense
""".strip().splitlines()
"""Those with `~` end with the same and say it in other words. HTCondor's tool prints what is in its
memory after an answer to `readlink`, fails at `whoami`, and severs its starter when it is refused a
`put`."""


def test_our_command_says_and_ends_as_htcondors_own(pool: Any, new: bool) -> None:
    def told(tool: str) -> list[tuple[str, str]]:
        lines = ["mkdir f", "cd $_CONDOR_SCRATCH_DIR", "echo hello chirp 0123456789 >hello.txt"]
        lines += [f"export {LEGACY}=1", "set +e"]
        for command in COMMANDS:
            lines.append(f'{tool} {command.lstrip("~")} 2>&1; echo "<$?>"')
        return re.findall(r"(.*?)<(\d+)>\n", in_job(pool, *lines, "true"), flags=re.S)

    theirs = told("/usr/libexec/condor/condor_chirp")
    ours = told("python3 -m roost.htchirp")
    for command, expected, said in zip(COMMANDS, theirs, ours, strict=True):
        if new or command != "getdir f":  # its exit code was 1
            assert said[1] == expected[1], command
        if not command.startswith("~"):
            assert unlike(said[0]) == unlike(expected[0]), command


def unlike(text: str) -> str:
    """Without what differs from file to file, or with what has reached the disk, and the empty line
    at the end of a listing."""
    same = re.sub(r"(inode|blocks|[acm]time): .*", r"\1", text)
    return same.removesuffix("\n\n").removesuffix("\n")


# --- our fake starter -----------------------------------------------------------------------------

MARKED = b'15\n"the end of it"'
DELAYED = b"get_job_attr_delayed ChirpMark\n"


class Asked:
    """A starter that is asked byte by byte."""

    def __init__(self, contact: Path, marker: bytes = b"get_job_attr Mark\n") -> None:
        host, port, cookie = contact.read_text().split()
        self.socket = socket.create_connection((host, int(port)), PATIENCE_S)
        self.marker = marker
        self.fd = b""
        marked = f's{marker[1:-1].decode()} "the\\ end\\ of\\ it"'
        for line in (f"cookie {cookie}", marked):
            self.socket.sendall(f"{line}\n".encode())
            assert self.until(b"\n") == b"0\n"

    def ask(self, request: bytes) -> bytes:
        """All that comes before the answer to a further question. In a request `{fd}` is what was
        opened last; an answer shows no descriptors and no numbers of the machine's."""
        self.socket.sendall(request.replace(b"{fd}", self.fd) + self.marker)
        answer = self.until(MARKED).removesuffix(MARKED)
        number, _, rest = answer.partition(b"\n")
        if request.startswith((b"open ", b"putfile ")) and not number.startswith(b"-"):
            self.fd, answer = number, b"a descriptor\n" + rest
        if request.startswith(b"getlongdir ") and rest:
            assert int(number) == len(rest)
            answer = rest
        if request.startswith(b"statfs ") and rest:
            assert len(rest.split()) == 7
            answer = number
        return re.sub(rb"(-?\d+ ){12}-?\d+", of_any_machine, answer)

    def until(self, end: bytes) -> bytes:
        """What comes up to these bytes, or all until the connection is closed."""
        answer = b""
        while not answer.endswith(end) and (piece := self.socket.recv(1 << 20)):
            answer += piece
        return answer

    def is_over(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def is_silent(self) -> bool:
        return not select.select([self.socket], [], [], SILENCE_S)[0]

    def falls_silent(self) -> bool:
        """Asks for the version: what was sent first on another connection may be seen later."""
        for _ in range(100):
            self.socket.sendall(b"version\n")
            if self.is_silent():
                return True
            assert self.until(b"2\n") == b"2\n"
        return False


def of_any_machine(numbers: re.Match[bytes]) -> bytes:
    _, _, mode, links, _, _, _, size, *_ = numbers.group().split()
    return b"mode %s, %s links, %s bytes" % (mode, links, size)


@pytest.fixture
def ask() -> Iterator[Callable[..., Asked]]:
    with contextlib.ExitStack() as stack:

        def ask(*how: Any) -> Asked:
            asked = Asked(*how)
            stack.enter_context(asked.socket)
            return asked

        yield ask


def differences(
    real: Asked, fake: Asked, requests: list[bytes]
) -> list[tuple[bytes, bytes, bytes]]:
    answers = [(request, real.ask(request), fake.ask(request)) for request in requests]
    return [answer for answer in answers if answer[1] != answer[2]]


FILES = [
    b"version", b"mkdir d 493", b"mkdir d 493", b"mkdir no/d 493", b"open d/a rwct 420",
    b"write {fd} 5\nhello", b"fsync {fd}", b"fstat {fd}", b"fstatfs {fd}", b"lseek {fd} 0 0",
    b"lseek {fd} 1 2", b"lseek {fd} 1 7", b"lseek {fd} -9 0", b"lseek {fd} 0 0", b"read {fd} 9",
    b"pwrite {fd} 3 10\nxyz", b"pwrite {fd} 1 -1\nx", b"swrite {fd} 4 20 1 3\nabcd",
    b"ftruncate {fd} 12", b"fchmod {fd} 384", b"fchown {fd} -1 -1", b"close {fd}", b"close {fd}",
    b"close 77", b"read 77 1", b"fstat 77",
    b"open d/a r 420", b"read {fd} 3", b"read {fd} 0", b"read {fd} -1", b"read {fd} 268435457",
    b"read {fd} 300", b"read {fd} 5", b"pread {fd} 3 1", b"pread {fd} 3 -1", b"pread {fd} -3 1",
    b"pread {fd} 3 1000", b"pread {fd} 0 0", b"sread {fd} 4 0 2 4", b"sread {fd} 4 0 0 4",
    b"write {fd} 2\nab", b"close {fd}",
    b"open d/a wx 420", b"open d/a wcx 420", b"open d w 420", b"open none r 420",
    b"open d r 420", b"read {fd} 3", b"close {fd}", b"open d/b cr 420", b"close {fd}",
    b"open d/b rwq 420", b"write {fd} 1\nq", b"close {fd}", b"open /dev/full w 420",
    b"write {fd} 3\nabc", b"close {fd}",
    b"putfile d/p 384 6\nwhole\n", b"putfile d/empty 384 0", b"putfile d/p 420 -1",
    b"putfile d/p 420 268435457", b"getfile d/p", b"getfile d/empty", b"getfile none", b"getfile d",
    b"stat d/p", b"lstat d/p", b"stat none", b"stat d/p/x", b"statfs d", b"statfs none",
    b"symlink p d/soft", b"symlink p d/soft", b"symlink nowhere d/dangling", b"stat d/dangling",
    b"stat d/soft", b"lstat d/soft", b"readlink d/soft 100", b"readlink d/soft 0",
    b"readlink d/dangling 3", b"readlink d/dangling 4096", b"readlink d/dangling 4097",
    b"readlink d/p 10", b"readlink none 10", b"link d/p d/hard", b"link d/p d/hard",
    b"link none d/x", b"link d dd",
    b"access d/p 0", b"access d/p 6", b"access d/p 1", b"access none 0", b"chmod d/p 416",
    b"chmod none 416", b"chown d/p -1 -1", b"chown none -1 -1", b"lchown d/soft -1 -1",
    b"truncate d/p 5", b"truncate d/p -1", b"truncate none 5", b"truncate d 5",
    b"utime d/p 1000000000 1500000000", b"utime none 1 2", b"stat d/p",
    b"mkdir e 448", b"getdir e", b"getlongdir e", b"open e/one wc 420", b"close {fd}", b"getdir e",
    b"getlongdir e", b"symlink gone e/dangling", b"getdir e", b"getlongdir e", b"getdir none",
    b"getlongdir none", b"getdir d/p", b"getlongdir d/p", b"rmdir e", b"rmall e", b"getdir e",
    b"unlink e/dangling", b"rmall e", b"rmall none", b"rmall d/p", b"rmdir none", b"rmdir d/p",
    b"unlink d", b"unlink none", b"rename d/p d/z", b"rename none y", b"rename d/z no/y",
    b"rename d/z d", b"rename d d/in", b"rmdir .", b"unlink d/z",
    b"rmall d", b"unlink d/dangling", b"rmall d", b"stat d",
]  # fmt: skip
WAITS_BEFORE_25_11 = {b"putfile d/p 420 268435457"}
"""For all that was announced."""
ATTRIBUTES = [
    b"get_job_attr None", b"set_job_attr A 5", b"get_job_attr A", b"get_job_attr a",
    b'set_job_attr B "a\\ b"', b"get_job_attr B", b"set_job_attr C a b", b"get_job_attr C",
    b'set_job_attr D {\\ 1,"two",3.0\\ }', b"get_job_attr D", b"set_job_attr E 2.5",
    b"get_job_attr E", b"set_job_attr F 1\\ +", b"get_job_attr F", b"set_job_attr A 1\\ +",
    b"get_job_attr A", b"set_job_attr G undefined", b"get_job_attr G", b"set_job_attr 1Bad 1",
    b"set_job_attr Bad\\ Name 1", b"set_job_attr ClusterId 1", b"set_job_attr ProcId 1",
    b'set_job_attr Owner "x"', b"get_job_attr Bad\\ Name", b"get_job_attr ", b"set_job_attr A",
    b"get_job_attr_delayed ChirpA", b"set_job_attr_delayed ChirpA 1",
    b"set_job_attr_delayed Other 1", b"ulog hello\\ there", b"ulog ", b"phase x",
]  # fmt: skip
FORMS = [
    b"whoami 1024", b"whoami 1025", b"whoami 7", b"whoami 6", b"whoami 5", b"whoami -1",
    b"whoareyou h 1024", b"whoareyou h 1025", b"whoareyou h 8", b"whoareyou h 7", b"whoareyou h 6",
    b"nonsense", b"STAT .", b" stat .", b"   ", b"mkdir\tform\t493\t\r", b"mkdir form 493 extra",
    b"rmdirform", b"mkdir 0x 0x1ff", b"chmod 0x 448", b"rmdir 0x", b"mkdir a\\ b 493",
    b"rmdir a\\ b", b"mkdir q\\q 493", b"rmdir qq", b"mkdir caf\xe9 493", b"rmdir caf\xe9",
    b"chmod . +493", b"chmod . 493text", b"stat", b"chmod .", b"stat none\0rest", b"cookie x",
    b"stat " + b"x" * 5115,
]  # fmt: skip


@pytest.mark.parametrize(
    "requests", [FILES, ATTRIBUTES, FORMS], ids=["files", "attributes", "forms"]
)
def test_the_fake_answers_as_a_starter(
    contact: Path,
    fake: Callable[..., Any],
    ask: Callable[..., Asked],
    requests: list[bytes],
    new: bool,
) -> None:
    if not new:
        requests = [request for request in requests if request not in WAITS_BEFORE_25_11]
    lines = [request if b"\n" in request else request + b"\n" for request in requests]
    assert not differences(ask(contact), ask(fake().contact), lines)


def test_the_fake_takes_as_long_a_line_as_a_starter(
    contact: Path, fake: Callable[..., Any], ask: Callable[..., Asked]
) -> None:
    for asked in (ask(contact), ask(fake().contact)):
        asked.socket.sendall(b"x" * 5121)
        assert asked.until(b"nothing") == b"-5\n"


@pytest.mark.parametrize(
    ("attributes", "gates", "marker"),
    [
        ({}, {"io": False, "updates": False}, DELAYED),
        ({"WantRemoteUpdates": "true"}, {"io": False}, b"get_job_attr Mark\n"),
    ],
    ids=["an ordinary job", "updates"],
)
def test_the_fake_allows_what_a_starter_allows(
    pool: Any,
    fake: Callable[..., Any],
    ask: Callable[..., Asked],
    attributes: dict[str, str],
    gates: dict[str, bool],
    marker: bytes,
) -> None:
    real, fake = ask(pool.waiting(**attributes), marker), ask(fake(**gates).contact, marker)
    requests = [
        b"version", b"stat .", b"whoami 100", b"get_job_attr A", b"set_job_attr A 1", b"ulog x",
        b"set_job_attr_delayed ChirpA 2.5", b"get_job_attr_delayed ChirpA",
        b"get_job_attr_delayed chirpa", b"get_job_attr_delayed ChirpB", b"set_job_attr_delayed B 1",
        b"set_job_attr_delayed ChirpA 1\\ +", b"get_job_attr_delayed ChirpA",
        b"set_job_attr_delayed ChirpS " + b"1" * 993, b"set_job_attr_delayed ChirpS " + b"1" * 994,
    ]  # fmt: skip
    assert not differences(real, fake, [request + b"\n" for request in requests])


def test_the_fake_lets_in_whom_a_starter_lets_in(
    contact: Path, fake: Callable[..., Any], ask: Callable[..., Asked]
) -> None:
    for server in (contact, fake().contact):
        host, port, cookie = server.read_text().split()
        with socket.create_connection((host, int(port)), PATIENCE_S) as stranger:
            for line, answer in (
                (f"cookie {'x' * len(cookie)}", b"-1\n"),
                ("version", b"-1\n"),
                (f" cookie {cookie}", b"-1\n"),
                (f"cookie {cookie} more\r", b"0\n"),
                ("whoami 100", b"6\nCONDOR"),
            ):
                stranger.sendall(f"{line}\n".encode())
                told = b""
                while len(told) < len(answer):
                    told += stranger.recv(100)
                assert told == answer


# --- what a starter does not survive, each on a job of its own ------------------------------------


def test_a_refused_putfile_severs_both(
    pool: Any, fake: Callable[..., Any], ask: Callable[..., Asked], new: bool
) -> None:
    if not new:
        pytest.skip("before 25.11 it ends a few answers later, and none of them can be foretold")
    requests = [
        b"putfile none/x 420 5", b"version", b"get_job_attr A", b"stat .", b"set_job_attr A 1",
        b"ulog x", b"whoami 100", b"whoareyou h 100", b"set_job_attr_delayed ChirpA 1",
        b"set_job_attr_delayed A 1", b"get_job_attr_delayed ChirpA", b"close 4", b"nonsense",
    ]  # fmt: skip
    told = []
    for contact in (pool.waiting(**IO), fake().contact):
        asked = ask(contact)
        lines = []
        with contextlib.suppress(ConnectionError):  # a busy starter may end before it is asked all
            for request in requests:
                asked.socket.sendall(request + b"\n")
                lines.append((request, asked.until(b"\n")))
            asked.socket.sendall(b"open x r 420\n")
        assert asked.is_over()
        told.append([line for line in lines if line[1]])
    real, fake = told
    assert real[:2] == fake[:2] == [(b"putfile none/x 420 5", b"-3\n"), (b"version", b"2\n")]
    # What the shadow says of the file may be taken for the answers to the next few: its error once
    # more, or nonsense, over which the starter ends. Once it answers -17, all is foretold.
    answers = list(itertools.dropwhile(lambda line: line[1] == b"-3\n", real[2:]))
    if answers and answers[0][1] == b"-17\n":
        assert answers == fake[len(real) - len(answers) : len(real)]


def test_closing_the_shadows_own_socket_severs_both(
    pool: Any, fake: Callable[..., Any], ask: Callable[..., Asked]
) -> None:
    for contact in (pool.waiting(**IO), fake().contact):
        asked = ask(contact)
        asked.socket.sendall(b"close 3\nstat .\nversion\n")
        assert asked.until(b"2\n") == b"-17\n-17\n2\n"


def test_a_write_of_nothing_kills_both(
    pool: Any, fake: Callable[..., Any], ask: Callable[..., Asked]
) -> None:
    for contact in (pool.waiting(**IO), fake().contact):
        asked, other = ask(contact), ask(contact)
        asked.ask(b"open w wc 420\n")
        asked.socket.sendall(b"write %s 0\n" % asked.fd)
        assert asked.is_over() and other.is_over()


def test_a_strided_read_beyond_the_end_hangs_both(
    new_pool: Callable[[], Any], fake: Callable[..., Any], ask: Callable[..., Asked]
) -> None:
    # The shadow computes for ever, so it gets a pool that is over with the test.
    for contact in (new_pool().waiting(**IO), fake().contact):
        asked, other = ask(contact), ask(contact)
        asked.ask(b"open s rwc 420\n")
        asked.ask(b"write {fd} 5\nhello")
        asked.socket.sendall(b"sread %s 8 0 2 4\n" % asked.fd)
        assert other.falls_silent() and asked.is_silent()


def test_half_a_line_holds_up_all_others_of_both(
    contact: Path, fake: Callable[..., Any], ask: Callable[..., Asked]
) -> None:
    for server in (contact, fake().contact):
        slow, other = ask(server), ask(server)
        slow.socket.sendall(b"vers")
        assert other.falls_silent()
        slow.socket.sendall(b"ion\n")
        assert slow.until(b"2\n") == other.until(b"2\n") == b"2\n"

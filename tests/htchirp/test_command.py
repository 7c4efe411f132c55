"""The command `condor_chirp`, as a process against a starter, and the function beside htchirp's."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import htchirp
from roost.htchirp import HTChirp, condor_chirp
from roost.htchirp.command import COMMANDS, LEGACY

HELLO = b"hello chirp 0123456789\n"
MANUAL = [
    "fetch", "put", "remove", "get_job_attr", "set_job_attr", "get_job_attr_delayed",
    "set_job_attr_delayed", "ulog", "read", "write", "rmdir", "getdir", "whoami", "whoareyou",
    "link", "readlink", "stat", "lstat", "statfs", "access", "chmod", "chown", "lchown",
    "truncate", "utime",
]  # fmt: skip
"""The subcommands of HTCondor's manual."""

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def starter(start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """As of 25.11; the job's current directory is a folder with `hello.txt`."""
    started = start()
    job = tmp_path / "job"
    job.mkdir()
    (job / "hello.txt").write_bytes(HELLO)
    monkeypatch.chdir(job)
    return started


@pytest.fixture
def chirp(starter: Any) -> Run:
    def run(
        *words: str, code: int = 0, stdin: bytes = b"", **environment: str
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [sys.executable, "-m", "roost.htchirp", *words],
            input=stdin,
            capture_output=True,
            env={**os.environ, **environment},
            timeout=30,
            check=False,
        )
        assert done.returncode == code, done
        assert b"Traceback" not in done.stderr
        return done

    return run


def test_it_has_every_subcommand_of_the_manual_and_three_more() -> None:
    assert set(COMMANDS) == {*MANUAL, "mkdir", "rename", "phase"}


def test_files_go_up_and_come_back(chirp: Run, starter: Any) -> None:
    done = chirp("put", "-perm", "600", "hello.txt", "a")
    assert (done.stdout, done.stderr) == (b"", b"")
    assert (starter.root / "a").read_bytes() == HELLO
    assert (starter.root / "a").stat().st_mode & 0o777 == 0o600
    assert chirp("fetch", "a", "back").stdout == b""
    assert Path("back").read_bytes() == HELLO
    chirp("remove", "a")
    assert not (starter.root / "a").exists()


def test_a_dash_is_standard_input_and_output(chirp: Run, starter: Any) -> None:
    chirp("put", "-", "a", stdin=b"\0from stdin\xff")
    assert chirp("fetch", "a", "-").stdout == b"\0from stdin\xff"
    chirp("put", "-mode", "cwa", "-", "a", stdin=b"line\n")
    chirp("write", "-offset", "1", "a", "-", "4", stdin=b"FROM here")
    assert (starter.root / "a").read_bytes() == b"\0FROM stdin\xffline\n"


def test_the_mode_of_put_decides_what_happens_to_a_file_that_exists(
    chirp: Run, starter: Any
) -> None:
    chirp("put", "-mode", "cwb", "hello.txt", "a")
    chirp("put", "-mode", "wa", "hello.txt", "a")
    assert (starter.root / "a").read_bytes() == HELLO * 2
    done = chirp("put", "-mode", "wcx", "hello.txt", "a", code=1)
    assert done.stderr == b"\tError: 17 (File exists)\n"
    chirp("put", "-mode", "r", "hello.txt", "a", code=1)


def test_a_part_of_a_file_is_read(chirp: Run, starter: Any) -> None:
    (starter.root / "a").write_bytes(HELLO + b"\0\xff")
    assert chirp("read", "a", "5").stdout == b"hello\n"
    assert chirp("read", "-offset", "6", "a", "5").stdout == b"chirp\n"
    assert chirp("read", "-offset", "1", "-stride", "2", "4", "a", "8").stdout == b"el crp12\n"
    assert chirp("read", "a", "100").stdout == HELLO + b"\0\xff\n"
    assert chirp("read", "absent", "5", code=1).stdout == (
        b"\tError: 2 (No such file or directory)\n"
    )


def test_write_writes_all_of_a_file_or_as_much_as_it_is_told(chirp: Run, starter: Any) -> None:
    Path("large").write_bytes(b"0123456789" * 300_000)
    (starter.root / "a").write_bytes(b"")
    assert chirp("write", "a", "large").stdout == b""
    assert (starter.root / "a").stat().st_size == 3_000_000
    chirp("write", "-offset", "5", "a", "hello.txt", "3")
    assert (starter.root / "a").read_bytes()[:10] == b"01234hel89"
    chirp("write", "-stride", "1", "2", "a", "hello.txt", "3")
    assert (starter.root / "a").read_bytes()[:6] == b"h1e3lh"
    chirp("write", "absent", "hello.txt", code=1)


def test_attributes_are_set_and_printed_as_expressions(chirp: Run) -> None:
    assert chirp("set_job_attr", "A", "1").stdout == b""
    assert chirp("get_job_attr", "A").stdout == b"1\n"
    chirp("set_job_attr", "A", '"a string"')
    assert chirp("get_job_attr", "a").stdout == b'"a string"\n'
    assert chirp("get_job_attr", "Missing").stdout == b"UNDEFINED\n"
    assert chirp("set_job_attr", "Owner", "1", code=1).stdout == (
        b"\tError: 13 (Permission denied)\n"
    )


def test_values_may_begin_with_a_dash(chirp: Run, starter: Any) -> None:
    chirp("set_job_attr", "A", "-x")
    chirp("set_job_attr", "B", "-5")
    chirp("ulog", "-hello")
    chirp("ulog", "--", "--help")
    chirp("access", "--", "-l", "f", code=1)
    assert starter.attributes == {"A": "-x", "B": "-5"}
    assert starter.log == [b"-hello", b"--help"]


def test_options_may_also_come_last(chirp: Run, starter: Any) -> None:
    chirp("put", "hello.txt", "a", "-perm", "640")
    assert (starter.root / "a").stat().st_mode & 0o777 == 0o640
    chirp("write", "a", "hello.txt", "-offset", "3")


def test_delayed_updates_need_no_more_than_an_ordinary_job_has(
    start: Callable[..., Any], chirp: Run
) -> None:
    starter = start(io=False, updates=False)
    chirp("set_job_attr_delayed", "ChirpElapsed", "0")
    assert starter.pending == {"ChirpElapsed": "0"}
    assert chirp("get_job_attr_delayed", "ChirpElapsed").stdout == b"0\n"
    chirp("set_job_attr_delayed", "Elapsed", "0", code=1)
    assert chirp("get_job_attr_delayed", "ChirpNone", code=1).stdout == (
        b"\tError: 2 (No such file or directory)\n"
    )
    chirp("get_job_attr", "A", code=1)
    chirp("put", "hello.txt", "a", code=1)


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ("getdir .", "This job may not use files; it needs the attribute WantIOProxy = true."),
        ("ulog a", "This job may not do that; it needs the attribute WantRemoteUpdates = true."),
    ],
)
def test_a_job_is_told_what_it_needs_for_a_command(
    start: Callable[..., Any], chirp: Run, words: str, needed: str
) -> None:
    start(io=False, updates=False)
    assert chirp(*words.split(), code=1).stdout == f"\tError: 22 ({needed})\n".encode()
    start()
    invalid = b"\tError: 22 (The form of the request is invalid.)\n"
    assert chirp("readlink", ".", code=1).stdout == invalid
    assert chirp("set_job_attr", "1Bad", "1", code=1).stdout == invalid


def test_directories_and_links(chirp: Run, starter: Any) -> None:
    chirp("mkdir", "d", "750")
    assert (starter.root / "d").stat().st_mode & 0o777 == 0o750
    chirp("put", "hello.txt", "d/caf\udce9 x")
    chirp("rename", "d/caf\udce9 x", "d/f")
    chirp("link", "d/f", "d/hard")
    chirp("link", "-s", "f", "d/soft")
    assert chirp("readlink", "d/soft").stdout == b"f\n"
    assert chirp("readlink", "d/soft", "100").stdout == b"f\n"
    assert sorted(chirp("getdir", "d").stdout.split()) == [b"f", b"hard", b"soft"]
    chirp("remove", "d/hard")
    chirp("remove", "d/soft")
    assert chirp("getdir", "-l", "d").stdout.startswith(b"f\n\tdevice: ")
    chirp("rmdir", "d", code=1)
    chirp("rmdir", "-r", "d")
    chirp("mkdir", "e")
    assert chirp("getdir", "e").stdout == b""


def test_stat_is_printed_as_htcondor_prints_it(chirp: Run, starter: Any) -> None:
    chirp("put", "hello.txt", "a")
    chirp("utime", "a", "1000000000", "1500000000")
    for name in ("stat", "lstat"):
        lines = chirp(name, "a", TZ="UTC").stdout.decode().splitlines()
        assert [line.partition(":")[0] for line in lines] == [
            "device", "inode", "mode", "nlink", "uid", "gid", "rdevice", "size", "blksize",
            "blocks", "atime", "mtime", "ctime",
        ]  # fmt: skip
        assert "size: 23" in lines
        assert "mtime: Fri Jul 14 02:40:00 2017" in lines
    lines = chirp("statfs", ".").stdout.decode().splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "f_type", "f_bsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree",
    ]  # fmt: skip


def test_what_changes_a_file_changes_that_and_nothing_else(chirp: Run, starter: Any) -> None:
    chirp("put", "hello.txt", "a")
    chirp("chmod", "a", "640")
    chirp("truncate", "a", "3")
    chirp("access", "a", "rw")
    chirp("access", "a", "q", code=1)
    chirp("chmod", "a", "9", code=1)
    about = (starter.root / "a").stat()
    assert (about.st_mode & 0o777, about.st_size) == (0o640, 3)
    starter.lines.clear()
    chirp("chown", "a", "-1", "-1")
    chirp("lchown", "a", "-1", "-1")
    assert starter.lines == [b"chown a -1 -1", b"lchown a -1 -1"], "not the other way round"


def test_who_is_who_and_the_phase(chirp: Run, starter: Any) -> None:
    assert chirp("whoami").stdout == b"CONDOR\n"
    assert chirp("whoareyou", "localhost").stdout == b"UNKNOWN\n"
    assert chirp("phase", "output", code=1).stdout.startswith(b"\tError: 22 (")
    starter.gates["phases"] = True
    chirp("phase", "output")


def test_help_names_everything_and_mistakes_say_how_it_is_done(chirp: Run) -> None:
    for word in ("--help", "-h"):
        text = chirp(word).stdout.decode()
        assert all(f"\n  {name} " in text or f"\n  {name}\n" in text for name in COMMANDS)
    assert b"[-perm UnixPerm]" in chirp("put", "--help").stdout
    assert b"Command must be one of: fetch, " in chirp(code=1).stderr
    assert b"Command must be one of: fetch, " in chirp("nonsense", code=1).stderr
    assert chirp("fetch", "a", code=1).stderr == (
        b"Usage: condor_chirp fetch RemoteFileName LocalFileName\n"
    )
    assert b"-stride needs 2 more" in chirp("read", "-stride", "1", code=1).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("read a ten", "'ten' is not a whole number."),
        ("read -offset x a 5", "'x' is not a whole number."),
        ("truncate a 1.5", "'1.5' is not a whole number."),
        ("chown a ada -1", "'ada' is not a whole number."),
        ("chmod a rw", "'rw' is not an octal number, such as 644."),
        ("mkdir d 888", "'888' is not an octal number, such as 644."),
        ("write a hello.txt -5", "A number of bytes must not be below 0, as -5 is."),
        ("readlink soft -1", "A number of bytes must not be below 0, as -1 is."),
    ],
)
def test_a_number_that_is_none_is_named_and_nothing_is_done(
    chirp: Run, starter: Any, words: str, said: str
) -> None:
    (starter.root / "a").write_bytes(HELLO)
    (starter.root / "soft").symlink_to("a")
    assert chirp(*words.split(), code=1).stdout == f"\tError: 22 ({said})\n".encode()
    assert (starter.root / "a").read_bytes() == HELLO


def test_what_is_too_long_for_a_line_is_an_error_and_no_crash(chirp: Run) -> None:
    assert chirp("ulog", "x" * 6000, code=1).stdout == b"\tError: 27 (File too large)\n"


def test_without_a_server_it_says_so(chirp: Run) -> None:
    done = chirp("whoami", code=1, _CONDOR_CHIRP_CONFIG="")
    assert done.stdout == (
        b"\tError: 22 (.chirp.config must be present or you must provide a host and port)\n"
    )


def test_a_local_file_that_is_missing_is_named(chirp: Run, starter: Any) -> None:
    done = chirp("put", "absent", "a", code=1)
    assert done.stderr == b"\tError: 2 (No such file or directory: absent)\n"
    assert not starter.severed


def test_a_full_disk_is_not_taken_for_success(chirp: Run) -> None:
    assert chirp("put", "hello.txt", "/dev/full", code=1).stderr.startswith(b"\tError: ")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 255),
        ([], 255),
        (["nonsense"], 255),
        (["put", "hello.txt", "b"], 0),
        (["put", "hello.txt", "no/b"], 1),
        (["put", "-mode", "cw", "hello.txt", "no/b"], 255),
        (["fetch", "absent", "x"], 1),
        (["remove", "absent"], 255),
        (["read", "a", "5"], 5),
        (["read", "absent", "5"], 255),
        (["write", "a", "hello.txt"], 23),
        (["whoami"], 6),
        (["whoareyou", "h"], 7),
        (["getdir", "."], 3),
        (["getdir", "absent"], 1),
        (["get_job_attr", "A"], 0),
        (["set_job_attr", "Owner", "1"], 255),
        (["set_job_attr_delayed", "X", "1"], 1),
        (["chmod", "a", "x"], 22),
        (["stat", "a"], 0),
        (["stat", "absent"], 255),
    ],
)
def test_the_exit_codes_of_htcondors_tool_are_there_for_those_who_ask(
    chirp: Run, starter: Any, words: list[str], code: int
) -> None:
    (starter.root / "a").write_bytes(HELLO)
    chirp(*words, code=code, **{LEGACY: "1"})


def test_with_legacy_codes_an_attribute_that_cannot_be_read_is_null(
    start: Callable[..., Any], chirp: Run
) -> None:
    start(io=False, updates=False)
    for name in ("get_job_attr", "get_job_attr_delayed"):
        assert chirp(name, "ChirpX", **{LEGACY: "1"}).stdout == b"(null)\n"


def test_with_legacy_codes_a_long_listing_ends_with_as_many_bytes_as_it_has(
    chirp: Run, starter: Any
) -> None:
    for number in range(4):
        (starter.root / f"caf\udce9 {number}").touch()
    with HTChirp() as client:
        size = len(client._ask_bytes("getlongdir", "."))
    assert size > 256
    chirp("getdir", "-l", ".", code=size % 256, **{LEGACY: "1"})


@pytest.mark.parametrize("words", [["put", "large", "a"], ["fetch", "a", "large"]])
def test_a_terminal_shows_how_far_a_large_file_is(starter: Any, words: list[str]) -> None:
    for path in (Path("large"), starter.root / "a"):
        with path.open("wb") as file:
            file.truncate(20_000_000)
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "roost.htchirp", *words], stderr=theirs, timeout=30, check=False
        )
        shown = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    assert "20 of 20 MB, 100 %" in shown
    assert shown.endswith("\n")


def test_elsewhere_a_large_file_is_silent(chirp: Run) -> None:
    Path("large").write_bytes(bytes(20_000_000))
    assert chirp("put", "large", "a").stderr == b""


# --- the function ---------------------------------------------------------------------------------


def setting(start: Callable[..., Any]) -> Any:
    # An old starter, where htchirp can do most.
    starter = start(new=False)
    (starter.root / "f").mkdir()
    starter.attributes.update({"ProbeInt": "41", "ProbeStr": '"a string"'})
    return starter


LINES = [
    "put hello.txt f/a",
    "put -perm 600 hello.txt f/b",
    "put -mode wa hello.txt f/a",
    "put -mode wcx hello.txt f/a",
    "fetch f/a out",
    "fetch f/none out",
    "read f/a 5",
    "read -offset 6 f/a 5",
    "read -stride 2 4 f/a 8",
    "read -offset 1 -stride 2 4 f/a 8",
    "get_job_attr ProbeInt",
    "get_job_attr ProbeStr",
    "get_job_attr NoSuchAttr",
    "set_job_attr ProbeF 1",
    "set_job_attr ProbeF '\"a b\"'",
    "set_job_attr_delayed ChirpF 1",
    "get_job_attr_delayed ChirpF",
    "ulog 'a message'",
    "ulog a message",
    "link f/a f/h",
    "link -s a f/s",
    "readlink f/s",
    "access f/a rw",
    "access f/none f",
    "chmod f/a 640",
    "chown f/a -1 -1",
    "lchown f/a -1 -1",
    "truncate f/a 3",
    "utime f/a 1000000000 1500000000",
    "whoami",
    "whoareyou localhost",
    "remove f/h",
    "remove f/s",
    "remove f/none",
    "rmdir f",
    "nonsense",
    "",
    "fetch f/a",
    "rmdir -r f",
]


def results(function: Callable[..., object], *more: bool) -> list[object]:
    found: list[object] = []
    for line in LINES:
        try:
            found.append((line, function(line, *more)))
        except Exception as error:
            kind = type(error).__name__
            found.append((line, kind, "" if kind == "TypeError" else str(error)))
    return found


def test_the_function_returns_and_raises_what_htchirps_does(
    start: Callable[..., Any], starter: Any
) -> None:
    setting(start)
    theirs = results(htchirp.condor_chirp)
    setting(start)
    assert results(condor_chirp) == theirs


def test_with_an_exit_code_the_function_prints_as_htchirps_does(
    start: Callable[..., Any], starter: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    for line in LINES:
        if line.startswith("read"):
            continue  # bytes are printed as they are, and not as Python would write them
        found = []
        for function in (htchirp.condor_chirp, condor_chirp):
            setting(start)
            with HTChirp() as client:
                client.put("hello.txt", "f/a", mode=0o600)
                client.symlink("a", "f/s")
            code = function(line, True)
            sys.stdout.flush()
            out, err = capfd.readouterr()
            found.append((line, code, out, bool(err)))
        assert found[0] == found[1]


def test_the_function_prints_bytes_as_they_are(
    starter: Any, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert condor_chirp(["put", "hello.txt", "a"]) == len(HELLO)
    assert condor_chirp("read a 5", True) == 0
    assert capfdbinary.readouterr().out == b"hello\n"
    assert condor_chirp("write a hello.txt") == len(HELLO), "which htchirp cannot do"

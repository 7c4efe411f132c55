"""Every method of `HTChirp` against starters of HTCondor, and its form against PyPI's.

Results and exceptions are compared with htchirp 3.0 on the same starter; where Roost's differ, the
name of the test says how.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import htchirp
from roost.htchirp import Expression, HTChirp, condor_chirp, quote
from roost.htchirp.client import WHOLE_BYTES_MAX

PAGE = [
    "connect", "is_connected", "disconnect", "fetch", "put", "remove", "get_job_attr",
    "set_job_attr", "get_job_attr_delayed", "set_job_attr_delayed", "ulog", "phase", "read",
    "write", "rename", "unlink", "rmdir", "rmall", "mkdir", "getfile", "putfile", "getdir",
    "getlongdir", "whoami", "whoareyou", "link", "symlink", "readlink", "stat", "lstat", "statfs",
    "access", "chmod", "chown", "lchown", "truncate", "utime",
]  # fmt: skip
"""The methods of the API page, in its order."""
ADDED = {"get_job_value"}
THIRTEEN = [
    "device", "inode", "mode", "nlink", "uid", "gid", "rdevice", "size", "blksize", "blocks",
    "atime", "mtime", "ctime",
]  # fmt: skip


@pytest.fixture
def chirp(starter: Any) -> Any:
    with HTChirp() as client:
        yield client
        assert client.is_connected(), "left out of step"
        assert starter.descriptors == 0, "left files open"


def public(kind: type) -> set[str]:
    return {
        name
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_there_are_the_37_methods_of_the_page_and_one_more() -> None:
    assert len(PAGE) == 37
    assert public(HTChirp) == {*PAGE, *ADDED}
    assert public(htchirp.HTChirp) == {*PAGE} - {"phase"}, "it was dropped from htchirp"


@pytest.mark.parametrize("name", ["__init__", *PAGE])
def test_each_method_is_called_as_in_htchirp(name: str) -> None:
    def shape(kind: type) -> list[tuple[str, Any, object]]:
        parameters = inspect.signature(getattr(kind, name)).parameters.values()
        defaults = [list(p.default) if p.name == "auth" else p.default for p in parameters]
        kinds = [(p.name, p.kind) for p in parameters]
        return [(*kind, value) for kind, value in zip(kinds, defaults, strict=True)]

    if name == "phase":
        assert [parameter for parameter, _, _ in shape(HTChirp)] == ["self", "phasestring"]
    else:
        assert shape(HTChirp) == shape(htchirp.HTChirp)


def test_the_exceptions_are_those_of_htchirp() -> None:
    def errors(kind: type) -> set[str]:
        return {name for name, member in vars(kind).items() if isinstance(member, type)}

    assert errors(HTChirp) == errors(htchirp.HTChirp)
    for name in errors(HTChirp) - {"ChirpError"}:
        assert issubclass(getattr(HTChirp, name), HTChirp.ChirpError)


def test_constants_are_those_of_htchirp() -> None:
    for name in ("CHIRP_LINE_MAX", "CHIRP_VERSION", "CHIRP_AUTH_METHODS", "DEFAULT_MODE"):
        assert getattr(HTChirp, name) == getattr(htchirp.HTChirp, name)


def test_importing_it_takes_the_standard_library_and_little_of_roost() -> None:
    code = (
        "import sys; old = set(sys.modules); import roost.htchirp; print(*set(sys.modules) - old)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    modules = run.stdout.split()
    ours = {name for name in modules if name.startswith("roost")}
    assert ours == {
        "roost", "roost.core", "roost.core.classad", "roost.errors", "roost.htchirp",
        "roost.htchirp.client", "roost.htchirp.command", "roost.htchirp.connection", "roost.pace",
        "roost.wire", "roost.wire.chirp",
    }  # fmt: skip
    others = {name.partition(".")[0] for name in modules} - {"roost"}
    assert others <= set(sys.stdlib_module_names)


# --- the same calls, the same results -------------------------------------------------------------

LOCAL = b"hello chirp 0123456789\n"


def calls(local: Path) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Table A of the measurements, in its order, as far as both clients can do it."""
    hello, out = str(local / "hello.txt"), str(local / "out.txt")
    return [
        (name, arguments, named)
        for name, *rest in [
            ("mkdir", "p"),
            ("mkdir", "p"),
            ("mkdir", "p/mode", 448),
            ("mkdir", "p/none/deep"),
            ("put", hello, "p/hello.txt"),
            ("put", hello, "p/hello.txt", "wct", 416),
            ("put", hello, "p/app.txt", "wca"),
            ("put", hello, "p/app.txt", "wa"),
            ("put", hello, "p/app.txt", "wcx"),
            ("put", hello, "p/new.txt", "wcx", 384),
            ("putfile", hello, "p/name with space.txt"),
            ("putfile", hello, "p/back\\slash.txt"),
            ("putfile", hello, "p/unicode-é漢.txt"),
            ("putfile", hello, "p/mode600.txt", 384),
            ("fetch", "p/hello.txt", out),
            ("fetch", "p/name with space.txt", out),
            ("fetch", "p/absent.txt", out),
            ("fetch", "p", out),
            ("getfile", "p/hello.txt", out),
            ("read", "p/hello.txt", 5),
            ("read", "p/hello.txt", 1000),
            ("read", "p/hello.txt", 4, {"offset": 6}),
            ("read", "p/hello.txt", 4, {"offset": 1000}),
            ("read", "p/hello.txt", 8, 0, 2, 4),
            ("read", "p/hello.txt", 8, {"stride_length": 2, "stride_skip": 4}),
            ("read", "p/hello.txt", 8, 6, 3, 0),
            ("read", "p/absent.txt", 5),
            ("read", "p", 5),
            ("write", b"abc", "p/w.txt"),
            ("write", b"abcdef", "p/w.txt", "wc", 420),
            ("write", b"XY", "p/w.txt"),
            ("write", b"ZZ", "p/w.txt", {"offset": 4}),
            ("write", b"12345678", "p/w.txt", "w", None, None, 1, 2, 4),
            ("read", "p/w.txt", 100),
            ("write", b"tail", "p/w.txt", "wa"),
            ("write", b"0123456789", "p/w.txt", "wct", None, 3),
            ("read", "p/w.txt", 100),
            ("write", b"abc", "p/x1.txt", "wx"),
            ("write", b"abc", "p/x2.txt", "wcx"),
            ("write", b"abc", "p/x2.txt", "wcx"),
            ("write", b"abc", "p/w.txt", "r"),
            ("write", b"abc", "p/w.txt", "wq"),
            ("write", b"abc", "p"),
            ("rename", "p/new.txt", "p/renamed.txt"),
            ("rename", "p/absent", "p/y"),
            ("link", "p/hello.txt", "p/hard.txt"),
            ("link", "p/hello.txt", "p/hard.txt"),
            ("link", "p/absent", "p/hard2.txt"),
            ("link", "hello.txt", "p/soft.txt", True),
            ("symlink", "hello.txt", "p/soft2.txt"),
            ("symlink", "nowhere", "p/dangling"),
            ("symlink", "hello.txt", "p/soft.txt"),
            ("stat", "p/hello.txt"),
            ("stat", "p/dangling"),
            ("lstat", "p/soft.txt"),
            ("lstat", "p/absent"),
            ("statfs", "p/absent"),
            ("access", "p/hello.txt", "f"),
            ("access", "p/hello.txt", "rw"),
            ("access", "p/absent", "f"),
            ("access", "p/hello.txt", "q"),
            ("chmod", "p/hello.txt", 292),
            ("chmod", "p/hello.txt", 420),
            ("chmod", "p/absent", 420),
            ("chown", "p/hello.txt", -1, -1),
            ("chown", "p/absent", -1, -1),
            ("lchown", "p/soft.txt", -1, -1),
            ("truncate", "p/hello.txt", 5),
            ("truncate", "p/hello.txt", 50),
            ("truncate", "p/absent", 5),
            ("truncate", "p/hello.txt", -1),
            ("utime", "p/hello.txt", 1000000000, 1500000000),
            ("utime", "p/absent", 1, 2),
            ("mkdir", "p/list"),
            ("getlongdir", "p/list"),
            ("put", hello, "p/list/one"),
            ("getdir", "p/list"),
            ("getlongdir", "p/list"),
            ("getdir", "p/list", True),
            ("getdir", "p/absent"),
            ("getdir", "p/hello.txt"),
            ("remove", "p/app.txt"),
            ("remove", "p/absent"),
            ("unlink", "p/list"),
            ("rmdir", "p/list"),
            ("rmdir", "p/mode"),
            ("rmdir", "p/list", True),
            ("rmall", "p/absent"),
            ("rmall", "p/hello.txt"),
            ("get_job_attr", "NoSuchAttr"),
            ("set_job_attr", "A", "7"),
            ("get_job_attr", "a"),
            ("set_job_attr", "B", '"a \\"q\\" b"'),
            ("get_job_attr", "B"),
            ("set_job_attr", "1Bad", "1"),
            ("set_job_attr", "ClusterId", "99"),
            ("set_job_attr", "Long", '"' + "x" * 3000 + '"'),
            ("set_job_attr", "Long", '"' + "x" * 6000 + '"'),
            ("set_job_attr", "Empty", ""),
            ("set_job_attr_delayed", "ChirpA", "1"),
            ("get_job_attr_delayed", "ChirpA"),
            ("set_job_attr_delayed", "ChirpLong", '"' + "y" * 993 + '"'),
            ("ulog", "probe event"),
            ("ulog", "é漢"),
            ("ulog", ""),
            ("rmall", "p"),
            ("stat", "p"),
        ]
        for arguments, named in [
            (tuple(rest[:-1]), rest[-1])
            if rest and isinstance(rest[-1], dict)
            else (tuple(rest), {})
        ]
    ]


def outcomes(client: Any, local: Path) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name, arguments, named in calls(local):
        said = f"{name}{arguments}{named or ''}"
        try:
            result = getattr(client, name)(*arguments, **named)
        except Exception as error:
            found.append((said, (type(error).__name__, str(error))))
        else:
            if name in ("stat", "lstat", "getlongdir") or (name == "getdir" and len(arguments) > 1):
                varying = {"device", "inode", "atime", "mtime", "ctime"}
                tables = [result] if name in ("stat", "lstat") else list(result.values())
                result = [{k: v for k, v in t.items() if k not in varying} for t in tables]
            if name in ("fetch", "getfile"):
                result = (result, (local / "out.txt").read_bytes())
            found.append((said, result))
    return found


@pytest.mark.parametrize("new", [True, False], ids=["new", "old"])
def test_results_and_errors_are_those_of_htchirp(
    start: Callable[..., Any], tmp_path: Path, new: bool
) -> None:
    (tmp_path / "hello.txt").write_bytes(LOCAL)
    found = []
    for kind in (htchirp.HTChirp, HTChirp):
        start(new=new)
        with kind() as client:
            found.append(outcomes(client, tmp_path))
    theirs, ours = found
    different = [
        (call, expected, result)
        for (call, expected), (_, result) in zip(theirs, ours, strict=True)
        if expected != result
    ]
    # The texts of what never reaches the wire say more.
    assert [
        (call, expected[0], result[0])  # type: ignore[index]
        for call, expected, result in different
        if expected[0] != result[0]  # type: ignore[index]
    ] == []
    assert {call.partition("'")[0] + call.split("'")[1] for call, _, _ in different} == {
        "ulog(", "set_job_attr(Empty", "set_job_attr(Long"
    }  # fmt: skip


# --- files ----------------------------------------------------------------------------------------

SIZES = [0, 1, 23, 1024 * 1024, 3 * 1024 * 1024 + 17, 20 * 1024 * 1024 + 1]


@pytest.mark.parametrize("size", SIZES)
def test_files_of_any_size_go_up_and_come_back(
    chirp: HTChirp, starter: Any, tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    local, back = tmp_path / "local", tmp_path / "back"
    local.write_bytes(data)
    assert chirp.put(local, "remote") == size
    assert (starter.root / "remote").read_bytes() == data
    assert chirp.fetch("remote", back) == size
    assert back.read_bytes() == data
    assert chirp.putfile(local, "again") == size
    assert chirp.getfile("again", back) == size
    assert chirp.read("remote", size + 1) == data


def test_putfile_is_never_sent_because_a_refused_one_severs_the_job(
    chirp: HTChirp, starter: Any, tmp_path: Path
) -> None:
    (tmp_path / "local").write_bytes(LOCAL)
    for method in (chirp.put, chirp.putfile):
        with pytest.raises(HTChirp.DoesntExist):
            method(tmp_path / "local", "no/such/folder")
    assert not starter.severed
    assert not [line for line in starter.lines if line.startswith(b"putfile")]
    chirp.mkdir("still-there")


def test_large_files_pass_a_starter_in_pieces(chirp: HTChirp, starter: Any, tmp_path: Path) -> None:
    local = tmp_path / "local"
    with local.open("wb") as file:
        file.truncate(WHOLE_BYTES_MAX + 1)
    assert chirp.put(local, "remote") == chirp.fetch("remote", os.devnull) == WHOLE_BYTES_MAX + 1
    said = {line.split()[0] for line in starter.lines}
    assert said == {b"open", b"lseek", b"write", b"close", b"stat", b"read"}


def test_a_large_file_that_nobody_may_write_is_written_where_it_was_made(
    chirp: HTChirp, starter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HTChirp, "_counts_far", lambda *_: True)  # as Roost, which takes `putfile`
    local = tmp_path / "local"
    with local.open("wb") as file:
        file.truncate(WHOLE_BYTES_MAX + 1)
    assert chirp.put(local, "remote", mode=0o444) == WHOLE_BYTES_MAX + 1
    assert (starter.root / "remote").stat().st_mode & 0o777 == 0o444
    assert {line.split()[0] for line in starter.lines} == {b"open", b"write", b"close"}


def test_a_file_beyond_the_starters_limit_is_fetched_in_pieces(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    starter = start(transfer_max=2 * 1024 * 1024)
    data = os.urandom(5_000_000)
    (starter.root / "remote").write_bytes(data)
    with HTChirp() as chirp:
        assert chirp.fetch("remote", tmp_path / "back") == len(data)
        assert chirp.put(tmp_path / "back", "copy") == len(data)
    assert (starter.root / "copy").read_bytes() == data


def test_a_file_without_a_size_is_fetched_to_its_end(chirp: HTChirp, tmp_path: Path) -> None:
    assert chirp.fetch("/proc/version", tmp_path / "back") > 0
    assert (tmp_path / "back").read_text() == Path("/proc/version").read_text()
    assert chirp.read("/proc/version", 4096) == Path("/proc/version").read_bytes()
    assert chirp.read("/proc/version", 5, offset=1) == Path("/proc/version").read_bytes()[1:6]


def test_a_pipe_is_put_to_its_end(chirp: HTChirp, starter: Any, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", f"(echo one; echo two) > {pipe}"]):
        assert chirp.put(pipe, "remote") == 8
    assert (starter.root / "remote").read_bytes() == b"one\ntwo\n"


class Enough(Exception):
    pass


def test_a_file_of_more_than_4_gib_is_asked_for_in_pieces(chirp: HTChirp, starter: Any) -> None:
    # An old starter would answer `getfile` with the first 10 bytes, and call that all.
    with (starter.root / "sparse").open("wb") as file:
        file.truncate(2**32 + 10)
    got = 0

    def write(data: memoryview, /) -> None:
        nonlocal got
        got += len(data)
        if got > 8 * 1024 * 1024:
            raise Enough

    with pytest.raises(Enough):
        chirp._download("sparse", lambda _: contextlib.nullcontext(write))
    said = {line.split()[0] for line in starter.lines}
    assert said == {b"stat", b"open", b"lseek", b"read", b"close"}


def test_an_empty_write_opens_and_syncs_and_sends_no_write(chirp: HTChirp, starter: Any) -> None:
    assert chirp.write(b"", "new", "wc") == 0
    assert chirp.write(b"abc", "new", "w", length=0) == 0
    assert not [line for line in starter.lines if line.startswith((b"write", b"pwrite"))]
    assert not starter.dead


def test_text_is_written_as_utf_8_and_data_of_any_kind_as_it_is(
    chirp: HTChirp, starter: Any
) -> None:
    assert chirp.write("é漢", "text", "wc") == 5
    assert chirp.read("text", 10).decode() == "é漢"
    assert chirp.write(bytearray(b"ab"), "text", "wct") == 2
    assert chirp.write(memoryview(b"abcd"), "text", "wct", length=9) == 4
    assert chirp.read("text", 10) == b"abcd"


def test_large_writes_at_an_offset_and_in_strides_come_out_right(
    chirp: HTChirp, starter: Any
) -> None:
    data = os.urandom(2 * 1024 * 1024 + 5)
    assert chirp.write(data, "at", "wc", offset=7) == len(data)
    assert (starter.root / "at").read_bytes() == bytes(7) + data
    assert chirp.write(data, "strided", "wc", None, None, 1, 700_000, 700_001) == len(data)
    expected = b"".join(b"\0" + data[at : at + 700_000] for at in range(0, len(data), 700_000))
    assert (starter.root / "strided").read_bytes() == expected
    assert chirp.read("strided", len(data), 1, 700_000, 700_001) == data


def test_strides_end_with_the_file_and_a_starter_is_not_asked_for_more(
    chirp: HTChirp, starter: Any
) -> None:
    (starter.root / "f").write_bytes(LOCAL)
    expected = b"".join(LOCAL[at : at + 2] for at in range(0, len(LOCAL), 4))
    assert chirp.read("f", 1000, 0, 2, 4) == expected
    assert chirp.read("f", 10, 100, 2, 4) == b""
    assert not starter.hung
    assert not [line for line in starter.lines if line.startswith(b"sread")]


def test_reading_nothing_looks_whether_the_file_is_there(chirp: HTChirp, starter: Any) -> None:
    (starter.root / "f").write_bytes(LOCAL)
    assert chirp.read("f", 0) == b""
    assert chirp.read("f", 0, 3) == b""
    with pytest.raises(HTChirp.DoesntExist):
        chirp.read("absent", 0)
    assert not [line for line in starter.lines if line.startswith((b"read", b"pread"))]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((-1,), HTChirp.InvalidRequest),
        ((5, 0, 0, 4), HTChirp.InvalidRequest),
        ((5, 0, 2, None), TypeError),
        ((5, None, None, 2), TypeError),
        (("x",), ValueError),
    ],
)
def test_a_read_that_makes_no_sense_is_refused_before_anything_is_sent(
    chirp: HTChirp, starter: Any, arguments: tuple[Any, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        chirp.read("f", *arguments)
    assert not starter.lines


def test_a_failing_read_or_write_leaves_no_file_open(chirp: HTChirp, starter: Any) -> None:
    # The fixture looks at the descriptors.
    (starter.root / "d").mkdir()
    for call in (lambda: chirp.read("d", 5), lambda: chirp.read("d", 5, 1)):
        with pytest.raises(HTChirp.IsDir):
            call()
    with pytest.raises(HTChirp.NoSpace):
        chirp.write(b"x" * 3_000_000, "/dev/full")
    with pytest.raises(HTChirp.InvalidRequest):
        chirp.write(b"x", "f", "wc", offset=-5)


def test_offsets_beyond_2_gib_are_not_sent_to_a_starter_which_would_cut_them(
    chirp: HTChirp, starter: Any
) -> None:
    with (starter.root / "big").open("wb") as file:
        file.write(b"begin")
        file.truncate(2**32 + 10)
    with pytest.raises(HTChirp.TooBig):
        chirp.write(b"oops", "big", offset=2**32)
    with pytest.raises(HTChirp.TooBig):
        chirp.read("big", 4, 2**32, 2, 4)
    with pytest.raises(HTChirp.TooBig):
        chirp.truncate("big", 2**32 + 5)
    with (starter.root / "big").open("rb") as file:
        assert file.read(5) == b"begin"
        assert file.seek(0, 2) == 2**32 + 10


def test_reading_beyond_2_gib_goes_there_in_order(chirp: HTChirp, starter: Any) -> None:
    with (starter.root / "big").open("wb") as file:
        file.seek(2**31 + 5)
        file.write(b"far away")
    assert chirp.read("big", 100, 2**31 + 5) == b"far away"


def test_a_starter_that_tells_nothing_about_an_opened_file_is_fine(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    starter = start(stat_line=False)
    (starter.root / "f").write_bytes(LOCAL)
    with HTChirp() as chirp:
        assert chirp.read("f", 5) == LOCAL[:5]
        assert chirp.read("f", 100, 1, 2, 4) == b"".join(
            LOCAL[at : at + 2] for at in range(1, len(LOCAL), 4)
        )
        assert chirp.fetch("/dev/null", tmp_path / "out") == 0
        assert chirp.is_connected()


def test_a_local_end_that_fails_leaves_the_connection_in_step(
    chirp: HTChirp, starter: Any, tmp_path: Path
) -> None:
    (starter.root / "f").write_bytes(os.urandom(2_000_000))
    with pytest.raises(FileNotFoundError):
        chirp.fetch("f", tmp_path / "no" / "such")
    with pytest.raises(OSError, match="No space"):
        chirp.fetch("f", "/dev/full")
    with pytest.raises(FileNotFoundError):
        chirp.put(tmp_path / "absent", "x")
    with pytest.raises(IsADirectoryError):
        chirp.put(tmp_path, "x")
    chirp.stat("f")


def test_a_fetch_that_fails_leaves_the_local_file_as_it_was(
    chirp: HTChirp, starter: Any, tmp_path: Path
) -> None:
    (starter.root / "folder").mkdir()
    (starter.root / "empty").touch()
    local = tmp_path / "local"
    local.write_text("kept")
    for name, error in (("folder", HTChirp.IsDir), ("none", HTChirp.DoesntExist)):
        with pytest.raises(error):
            chirp.fetch(name, local)
        assert local.read_text() == "kept"
    assert chirp.fetch("empty", local) == 0
    assert local.read_text() == ""


def test_appending_several_lines_is_one_write_each(chirp: HTChirp, starter: Any) -> None:
    line = b"x" * 3_000_000 + b"\n"
    chirp.write(line, "log", "wca")
    chirp.write(line, "log", "wca")
    assert [ln.split()[2] for ln in starter.lines if ln.startswith(b"write")] == [b"3000001"] * 2


# --- names ----------------------------------------------------------------------------------------


def test_names_may_have_any_byte_but_lf_and_nul(chirp: HTChirp, starter: Any) -> None:
    names = [
        "a b",
        "tab\there",
        "v\vf\fr\r",
        "back\\slash",
        "per%20cent",
        "é漢",
        "caf\udce9",
        " x ",
    ]
    for name in names:
        chirp.write(b"1", name, "wc")
        assert chirp.stat(name)["size"] == 1
    assert sorted(chirp.getdir(".")) == sorted(names)
    assert sorted(chirp.getlongdir(".")) == sorted(names)
    assert sorted(path.name for path in starter.root.iterdir()) == sorted(names)
    for bad in ("a\nb", "a\0b", ""):
        with pytest.raises(HTChirp.InvalidRequest):
            chirp.stat(bad)
    assert chirp.stat(b"caf\xe9")["size"] == 1


def test_an_empty_directory_lists_as_nothing(chirp: HTChirp) -> None:
    chirp.mkdir("empty")
    assert chirp.getdir("empty") == []
    assert chirp.getlongdir("empty") == chirp.getdir("empty", stat_dict=True) == {}


def test_stat_has_13_numbers_in_their_order_and_statfs_two_names_for_the_last(
    chirp: HTChirp,
) -> None:
    assert list(chirp.stat(".")) == list(chirp.lstat(".")) == THIRTEEN
    about = chirp.statfs(".")
    assert list(about) == [
        "f_type", "f_bsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_free", "f_ffree",
    ]  # fmt: skip
    assert about["f_free"] == about["f_ffree"]


def test_identity_and_links_are_told_by_new_starters_too(chirp: HTChirp) -> None:
    assert chirp.whoami() == "CONDOR"
    assert chirp.whoareyou("localhost") == "UNKNOWN"
    chirp.symlink("some/target", "link")
    assert chirp.readlink("link") == b"some/target"
    with pytest.raises(HTChirp.InvalidRequest):
        chirp.readlink(".")


# --- attributes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [7, -1, 2.5, 3.0, True, False, None, [1, "two", 3.0], Expression("A + 1")]
)
def test_python_values_go_in_and_come_out(chirp: HTChirp, value: Any) -> None:
    chirp.set_job_attr("X", value)
    back = chirp.get_job_value("X")
    assert back == value
    assert type(back) is type(value)
    assert isinstance(chirp.get_job_attr("X"), str)


@pytest.mark.parametrize("text", ["a b", 'say "hi"', "C:\\dir", "é漢", ""])
def test_a_string_is_a_value_when_it_is_quoted(chirp: HTChirp, starter: Any, text: str) -> None:
    chirp.set_job_attr("X", quote(text))
    assert chirp.get_job_value("X") == text
    chirp.set_job_attr("X", "1 + 1")
    assert chirp.get_job_value("X") == Expression("1 + 1")


def test_a_counter_counts(chirp: HTChirp) -> None:
    for _ in range(3):
        chirp.set_job_attr("IterationNum", (chirp.get_job_value("IterationNum") or 0) + 1)
    assert chirp.get_job_attr("IterationNum") == "3"


def test_what_has_no_classad_form_is_refused(chirp: HTChirp, starter: Any) -> None:
    with pytest.raises(TypeError):
        chirp.set_job_attr("X", {"a": 1})  # type: ignore[arg-type]
    with pytest.raises(HTChirp.InvalidRequest):
        chirp.set_job_attr("X", 2**63)
    with pytest.raises(HTChirp.InvalidRequest):
        chirp.set_job_attr("X", '"a\nb"')
    assert not starter.lines


def test_a_delayed_update_that_a_starter_refuses_is_noticed(chirp: HTChirp, starter: Any) -> None:
    chirp.set_job_attr_delayed("ChirpLoss", 0.25)
    chirp.set_job_attr_delayed("ChirpText", [1, "a\nb"])
    assert starter.pending == {"ChirpLoss": "0.25", "ChirpText": '{ 1,"a\\nb" }'}
    with pytest.raises(HTChirp.NotAuthorized) as caught:
        chirp.set_job_attr_delayed("Loss", 1)
    assert caught.value.code == 1


def test_delayed_updates_are_all_that_an_ordinary_job_may_do(start: Callable[..., Any]) -> None:
    start(io=False, updates=False)
    with HTChirp() as chirp:
        chirp.set_job_attr_delayed("ChirpA", 1)
        assert chirp.get_job_attr_delayed("ChirpA") == "1"
        with pytest.raises(HTChirp.DoesntExist):
            chirp.get_job_attr_delayed("ChirpB")
        for call in (lambda: chirp.get_job_attr("A"), lambda: chirp.stat(".")):
            with pytest.raises(HTChirp.InvalidRequest):
                call()


def test_a_line_feed_in_a_message_is_refused_and_makes_no_second_command(
    chirp: HTChirp, starter: Any
) -> None:
    with pytest.raises(HTChirp.InvalidRequest):
        chirp.ulog("line one\nunlink precious")
    chirp.ulog("one  message\twith blanks")
    assert starter.log == [b"one  message\twith blanks"]


def test_phase_is_said_to_starters_that_know_it(start: Callable[..., Any]) -> None:
    starter = start(new=False, phases=True)
    with HTChirp() as chirp:
        chirp.phase("output")
    assert starter.log == [b"phase output"]
    start()
    with HTChirp() as chirp, pytest.raises(HTChirp.InvalidRequest):
        chirp.phase("output")


def test_an_error_tells_its_code_and_its_request(chirp: HTChirp) -> None:
    with pytest.raises(HTChirp.DoesntExist) as caught:
        chirp.stat("absent")
    assert str(caught.value) == "There is no object by that name."
    assert caught.value.code == -3
    assert caught.value.__notes__ == ["The request was: stat absent"]


def test_an_error_does_not_repeat_a_value_that_was_to_be_written(chirp: HTChirp) -> None:
    with pytest.raises(HTChirp.NotAuthorized) as caught:
        chirp.set_job_attr_delayed("Other", '"secret"')
    assert caught.value.__notes__ == ["The request was: set_job_attr_delayed Other"]


def test_a_read_that_starts_beyond_the_end_of_a_file_reads_nothing(
    chirp: HTChirp, starter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (starter.root / "sparse").open("wb") as file:
        file.truncate(3 * 2**30)
    monkeypatch.setattr(HTChirp, "_read_on", lambda *_: pytest.fail("it reads its way there"))
    assert chirp.read("sparse", 4, 2**32) == b""
    assert chirp.read("sparse", 4, 3 * 2**30) == b""


def test_the_function_is_the_command(starter: Any) -> None:
    assert condor_chirp("set_job_attr A 5") is None
    assert condor_chirp(["get_job_attr", "A"]) == "5"

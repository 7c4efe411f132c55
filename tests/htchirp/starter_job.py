"""A job of HTCondor that calls every method of our client, and says so when all is well.

    python starter_job.py

Runs with WantIOProxy, on the machine that it was submitted on: it knows its submit folder as its
current one. What a starter answers is here; what Roost does is in tests/e2e/jobs/every_method.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from roost.htchirp import Expression, HTChirp, condor_chirp

HELLO = b"hello chirp 0123456789\n"
scratch, submit = Path(os.environ["_CONDOR_SCRATCH_DIR"]), Path.cwd()


def refused(
    error: type[Exception] | tuple[type[Exception], ...],
    call: Callable[..., object],
    *arguments: object,
) -> None:
    try:
        call(*arguments)
    except error:
        return
    raise AssertionError(f"{arguments} was not refused with {error}")


with HTChirp(timeout=120) as chirp:  # a queue that is busy may take its time for an attribute
    assert chirp.is_connected()
    hello, back = scratch / "hello.txt", scratch / "back"
    hello.write_bytes(HELLO)

    # Whole files.
    chirp.mkdir("p")
    refused(HTChirp.AlreadyExists, chirp.mkdir, "p")
    assert chirp.put(hello, "p/a") == chirp.fetch("p/a", back) == 23
    assert back.read_bytes() == (submit / "p/a").read_bytes() == HELLO
    assert chirp.putfile(hello, "p/a name\\with blanks é漢", 0o600) == 23
    assert chirp.getfile("p/a name\\with blanks é漢", back) == 23
    assert (submit / "p/a name\\with blanks é漢").stat().st_mode & 0o777 == 0o600
    assert chirp.put(hello, "p/log", "wca") == chirp.put(hello, "p/log", "wa") == 23
    assert (submit / "p/log").read_bytes() == HELLO * 2
    refused(HTChirp.AlreadyExists, chirp.put, hello, "p/log", "wcx")
    refused(HTChirp.DoesntExist, chirp.fetch, "p/none", back)
    refused(HTChirp.IsDir, chirp.fetch, "p", back)
    for _ in range(2):  # and the shadow is still there
        refused(HTChirp.DoesntExist, chirp.put, hello, "none/a")
    for size in (0, 1, 1024 * 1024, 17 * 1024 * 1024 + 3):
        data = os.urandom(size)
        hello.write_bytes(data)
        assert chirp.put(hello, "p/sized") == chirp.fetch("p/sized", back) == size
        assert back.read_bytes() == (submit / "p/sized").read_bytes() == data
    assert chirp.fetch("/proc/version", back) > 0

    # Parts of files.
    assert chirp.read("p/a", 5) == b"hello"
    assert chirp.read("p/a", 1000) == HELLO
    assert chirp.read("p/a", 0) == b""
    assert chirp.read("p/a", 4, 6) == b"chir"
    assert chirp.read("p/a", 4, 100) == b""
    assert chirp.read("p/a", 100, 1, 2, 4) == b"el crp12569\n"
    refused(HTChirp.DoesntExist, chirp.read, "p/none", 1)
    refused(HTChirp.IsDir, chirp.read, "p", 1)
    assert chirp.write(b"0123456789", "p/w", "wct") == 10
    assert chirp.write("ab", "p/w") == 2
    assert chirp.write(b"", "p/w") == 0
    assert chirp.write(b"XYZ", "p/w", "w", None, None, 5) == 3
    assert chirp.write(b"!?!?", "p/w", "w", None, None, 8, 1, 3) == 4
    assert (submit / "p/w").read_bytes() == b"ab234XYZ!9\0?\0\0!\0\0?"
    refused(HTChirp.DoesntExist, chirp.write, b"x", "p/none")
    refused(HTChirp.NoSpace, chirp.write, b"x", "/dev/full")

    # Beyond 2 GiB, where a starter's numbers end.
    with (submit / "p/far").open("wb") as file:
        file.seek(2**31 + 5)
        file.write(b"far away")
    assert chirp.read("p/far", 100, 2**31 + 5) == b"far away"
    refused(HTChirp.TooBig, chirp.write, b"oops", "p/far", "w", None, None, 2**32)
    refused(HTChirp.TooBig, chirp.truncate, "p/far", 2**32)
    assert (submit / "p/far").stat().st_size == 2**31 + 13

    # Names.
    chirp.rename("p/w", "p/renamed")
    chirp.link("p/renamed", "p/hard")
    assert chirp.stat("p/hard")["nlink"] == 2
    chirp.link("renamed", "p/soft", symbolic=True)
    chirp.symlink("nowhere", "p/dangling")
    assert chirp.readlink("p/soft") == b"renamed"
    refused(HTChirp.InvalidRequest, chirp.readlink, "p/hard")
    assert chirp.lstat("p/dangling")["size"] == 7
    refused(HTChirp.DoesntExist, chirp.stat, "p/dangling")
    chirp.mkdir("p/d", 0o700)
    assert chirp.getdir("p/d") == []
    assert chirp.getlongdir("p/d") == {}
    chirp.put(back, "p/d/one")
    assert chirp.getdir("p/d") == ["one"]
    assert chirp.getdir("p/d", stat_dict=True)["one"] == chirp.stat("p/d/one")
    assert chirp.getlongdir("p/d")["one"]["size"] == back.stat().st_size
    refused(HTChirp.NotDir, chirp.getdir, "p/a")
    assert chirp.statfs("p")["f_bsize"] > 0

    # Rights and times.
    chirp.chmod("p/a", 0o640)
    assert chirp.stat("p/a")["mode"] & 0o7777 == 0o640
    chirp.access("p/a", "frw")
    refused(HTChirp.NotAuthorized, chirp.access, "p/a", "x")
    chirp.chown("p/a", os.getuid(), -1)
    chirp.lchown("p/soft", -1, -1)
    refused(HTChirp.NotAuthorized, chirp.chown, "p/a", 0, 0)
    chirp.utime("p/a", 1_000_000_000, 1_500_000_000)
    assert chirp.stat("p/a")["mtime"] == 1_500_000_000
    chirp.truncate("p/a", 5)
    assert chirp.read("p/a", 100) == b"hello"
    refused(HTChirp.NotAuthorized, chirp.fetch, "/etc/shadow", back)

    # Removing.
    refused(HTChirp.NotEmpty, chirp.rmdir, "p/d")
    refused(HTChirp.IsDir, chirp.unlink, "p/d")
    chirp.unlink("p/dangling")
    chirp.remove("p/soft")
    chirp.rmdir("p/d", True)
    chirp.rmall("p")
    refused(HTChirp.DoesntExist, chirp.stat, "p")
    chirp.mkdir("e")
    chirp.rmdir("e")

    # Attributes and events. A line is written by the shadow, which nobody waits for but who asks it
    # for something more.
    chirp.ulog("a line, it's said & done?")
    assert chirp.get_job_value("Given") == "text"
    assert chirp.get_job_attr("given") == '"text"'
    assert chirp.get_job_attr("NoSuchAttr") == "UNDEFINED"
    values = [7, -1, 2.5, 3.0, True, None, [1, "two", 3.0], Expression("Given")]
    for value in values:
        chirp.set_job_attr("X", value)
        assert chirp.get_job_value("X") == value, value
    chirp.set_job_attr("Text", '"a string with \\"quotes\\" é漢"')
    assert chirp.get_job_value("Text") == 'a string with "quotes" é漢'
    refused(HTChirp.NotAuthorized, chirp.set_job_attr, "Owner", '"root"')
    wrong_name = (HTChirp.InvalidRequest, HTChirp.UnknownError)  # the latter before 25.11
    refused(wrong_name, chirp.set_job_attr, "1Bad", "1")
    refused(HTChirp.InvalidRequest, chirp.set_job_attr, "X", '"a\nb"')
    chirp.set_job_attr_delayed("ChirpLater", 2.5)
    refused(HTChirp.NotAuthorized, chirp.set_job_attr_delayed, "Later", 1)
    # It is taken for get_job_attr of another name, where attributes are on.
    assert chirp.get_job_attr_delayed("ChirpLater") == "UNDEFINED"
    refused(HTChirp.InvalidRequest, chirp.ulog, "one\ntwo")
    refused(HTChirp.InvalidRequest, chirp.phase, "output")
    assert chirp.whoami() == "CONDOR"
    assert chirp.whoareyou("somewhere") == "UNKNOWN"

    chirp.disconnect()
    assert not chirp.is_connected()
    chirp.connect()
    assert chirp.whoami() == condor_chirp("whoami") == "CONDOR"

print("every method did what it should")

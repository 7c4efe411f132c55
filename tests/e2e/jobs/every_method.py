"""A job that calls every method of a Chirp client, and says so when each did what it should.

    python every_method.py MODULE    htchirp (PyPI, 2.0 or 3.0) or roost.htchirp

Runs inside a Roost job with WantIOProxy, in a new submit folder. What htchirp itself does wrong,
whatever the server, is not called here; tests/htchirp does that with ours.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

module = importlib.import_module(sys.argv[1])
ours = sys.argv[1] == "roost.htchirp"
HTChirp = module.HTChirp
scratch = Path(os.environ["_CONDOR_SCRATCH_DIR"])


def refused(error: str, call: Any, *arguments: Any, **named: Any) -> None:
    try:
        call(*arguments, **named)
    except getattr(HTChirp, error):
        return
    raise AssertionError(f"{call.__name__}{arguments} was not refused with {error}")


with HTChirp() as chirp:
    hello = scratch / "hello.txt"
    hello.write_bytes(b"hello chirp 0123456789\n")
    back = scratch / "back.txt"

    # Whole files.
    chirp.mkdir("p")
    refused("AlreadyExists", chirp.mkdir, "p")
    refused("DoesntExist", chirp.mkdir, "p/none/deep")
    assert chirp.put(str(hello), "p/hello.txt") == 23
    assert chirp.fetch("p/hello.txt", str(back)) == 23
    assert back.read_bytes() == hello.read_bytes()
    assert chirp.putfile(str(hello), "p/a name\\with blanks é漢.txt", 0o600) == 23
    assert chirp.getfile("p/a name\\with blanks é漢.txt", str(back)) == 23
    assert chirp.put(str(hello), "p/app.txt", "wca") == 23
    assert chirp.put(str(hello), "p/app.txt", "wa") == 23
    assert chirp.stat("p/app.txt")["size"] == 46
    refused("AlreadyExists", chirp.put, str(hello), "p/app.txt", "wcx")
    refused("DoesntExist", chirp.fetch, "p/absent", str(back))
    refused("DoesntExist", chirp.put, str(hello), "none/hello.txt")
    refused("IsDir", chirp.fetch, "p", str(back))
    (scratch / "empty").touch()
    assert chirp.put(str(scratch / "empty"), "p/empty") == 0
    assert chirp.fetch("p/empty", str(back)) == 0 and back.read_bytes() == b""
    big = scratch / "big"
    big.write_bytes(os.urandom(3_000_001))
    assert chirp.put(str(big), "p/big") == 3_000_001
    assert chirp.fetch("p/big", str(back)) == 3_000_001
    assert back.read_bytes() == big.read_bytes()
    chirp.put(str(big), "p/big2", "wc")
    assert chirp.read("p/big2", 5_000_000) == big.read_bytes()

    # Parts of files.
    assert chirp.read("p/hello.txt", 5) == b"hello"
    assert chirp.read("p/hello.txt", 1000) == hello.read_bytes()
    assert chirp.read("p/hello.txt", 4, offset=6) == b"chir"
    assert chirp.read("p/hello.txt", 8, stride_length=2, stride_skip=4) == b"heo ir01"
    assert chirp.read("p/hello.txt", 8, 1, 2, 4) == b"el crp12"
    assert chirp.read("p/hello.txt", 100, 1, 2, 4) == b"el crp12569\n"
    assert chirp.write(b"0123456789", "p/w", "wct") == 10
    assert chirp.write(b"ab", "p/w") == 2
    assert chirp.write(b"XYZ", "p/w", offset=5) == 3
    assert chirp.write(b"!?!?", "p/w", "w", None, None, 8, 1, 3) == 4
    assert chirp.read("p/w", 100) == b"ab234XYZ!9\0?\0\0!\0\0?"
    assert chirp.write(b"cut", "p/w", "wct", length=2) == 2
    refused("DoesntExist", chirp.write, b"x", "p/absent")
    refused("DoesntExist", chirp.read, "p/absent", 1)

    # Names.
    chirp.rename("p/w", "p/renamed")
    refused("DoesntExist", chirp.rename, "p/w", "p/x")
    chirp.link("p/renamed", "p/hard")
    assert chirp.stat("p/hard")["nlink"] == 2
    chirp.link("renamed", "p/soft", symbolic=True)
    chirp.symlink("nowhere", "p/dangling")
    assert chirp.readlink("p/soft") == b"renamed"
    refused("InvalidRequest", chirp.readlink, "p/hard")
    assert chirp.lstat("p/dangling")["size"] == 7
    refused("DoesntExist", chirp.stat, "p/dangling")
    assert list(chirp.stat("p")) == [
        "device", "inode", "mode", "nlink", "uid", "gid", "rdevice", "size", "blksize", "blocks",
        "atime", "mtime", "ctime",
    ]  # fmt: skip
    chirp.mkdir("p/d", 0o700)
    chirp.put(str(hello), "p/d/one")
    assert sorted(chirp.getdir("p/d")) == ["one"]
    assert chirp.getdir("p/d", stat_dict=True)["one"]["size"] == 23
    assert chirp.getlongdir("p/d")["one"]["mode"] & 0o777
    assert "dangling" not in chirp.getdir("p") and "soft" in chirp.getdir("p")
    refused("DoesntExist", chirp.getdir, "absent")
    refused("NotDir", chirp.getdir, "p/hello.txt")
    assert chirp.statfs("p")["f_bsize"] > 0

    # Rights and times.
    chirp.chmod("p/hello.txt", 0o640)
    assert chirp.stat("p/hello.txt")["mode"] & 0o7777 == 0o640
    chirp.access("p/hello.txt", "frw")
    refused("NotAuthorized", chirp.access, "p/hello.txt", "x")
    chirp.chown("p/hello.txt", os.getuid(), -1)
    chirp.lchown("p/soft", -1, -1)
    chirp.utime("p/hello.txt", 1_000_000_000, 4_000_000_000)
    assert chirp.stat("p/hello.txt")["mtime"] == 4_000_000_000
    chirp.truncate("p/hello.txt", 5)
    assert chirp.read("p/hello.txt", 100) == b"hello"

    # Out of the folder.
    for outside in ("../../roost.db", "/etc/passwd", "p/../../../roost.db"):
        refused("NotAuthorized", chirp.fetch, outside, str(back))
        refused("NotAuthorized", chirp.stat, outside)

    # Removing.
    refused("NotEmpty", chirp.rmdir, "p/d")
    refused("IsDir", chirp.unlink, "p/d")
    chirp.unlink("p/dangling")
    chirp.remove("p/soft")
    refused("DoesntExist", chirp.remove, "p/soft")
    chirp.rmdir("p/d", True)
    chirp.symlink("/etc", "p/out")
    chirp.rmall("p")
    refused("DoesntExist", chirp.stat, "p")

    # Attributes.
    assert chirp.get_job_attr("ClusterId") == os.environ["JOBID"]
    assert chirp.get_job_attr("clusterid") == os.environ["JOBID"]
    assert chirp.get_job_attr("Given") == '"text"'
    assert chirp.get_job_attr("NoSuchAttr") == "UNDEFINED"
    chirp.set_job_attr("IterationNum", "8")
    assert chirp.get_job_attr("iterationnum") == "8"
    chirp.set_job_attr("Text", '"a string with \\"quotes\\""')
    assert chirp.get_job_attr("Text") == '"a string with \\"quotes\\""'
    refused("NotAuthorized", chirp.set_job_attr, "Owner", '"root"')
    refused("InvalidRequest", chirp.set_job_attr, "1Bad", "1")
    refused("InvalidRequest", chirp.set_job_attr, "Bad", "1 +")
    chirp.set_job_attr_delayed("ChirpLater", "2.5")
    assert chirp.get_job_attr_delayed("chirplater") == "2.5"
    refused("NotAuthorized", chirp.set_job_attr_delayed, "Later", "1")
    refused("TooBig", chirp.set_job_attr_delayed, "ChirpLong", '"' + "x" * 1000 + '"')
    refused("DoesntExist", chirp.get_job_attr_delayed, "ChirpNone")
    chirp.ulog("a line, it's said & done?")
    assert chirp.whoami() == "CONDOR"
    assert chirp.whoareyou("somewhere") == "UNKNOWN"
    if hasattr(chirp, "phase"):
        chirp.phase("output")

print(f"every method of {sys.argv[1]} did what it should")

"""One busy client of a Chirp server: does one thing over and over, and prints how often a second.

    python bench/chirp_client.py OPERATION COUNT MIB [HOST:PORT]

Run by a job it speaks to the job's own server, as it does to the one that `_CONDOR_CHIRP_CONFIG`
names, such as a starter of HTCondor. With an address it speaks to Debian's `chirp_server` there, by
the same code: what the client costs is the same on all sides. `fetch` and `upload` move a file of
so many MiB and tell MiB per second; what is fetched goes to /dev/null.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from roost.htchirp import HTChirp
from roost.htchirp.connection import Connection

MIB = 1024 * 1024
SMALL_BYTES = 1024


class Standalone(HTChirp):
    """For `chirp_server`: it goes by the client's address, wants no cookie, and of reads knows only
    those that name their place. Whole files go its own way, in one stream, which is its fastest."""

    CHIRP_AUTH_METHODS = ["address"]

    def _log_in(self, method: str | None) -> Connection:
        connection = Connection(self.host, self.port, self.timeout)
        connection.send(f"{method}\n".encode(), answers=0)
        told = [connection.line() for _ in range(5)]
        if told[:3] != [b"yes\n"] * 3:
            raise self.NotAuthenticated(f"chirp_server does not want us: {told}")
        return connection

    def _line(self, command: str, *arguments: str | bytes | int) -> bytes:
        match command, arguments:
            case "read", (descriptor, length):  # the one read of a file that was just opened
                return super()._line("pread", descriptor, length, 0)
        return super()._line(command, *arguments)

    def fetch(self, remote_file: str, local_file: str) -> int:
        connection = self._connected()
        connection.send(self._line("getfile", remote_file))
        size = connection.counted()
        with io.FileIO(local_file, "wb") as file:
            connection.pour(file.write)
        return size

    def put(self, local_file: str, remote_file: str) -> int:  # type: ignore[override]
        connection = self._connected()
        with io.FileIO(local_file) as file:
            size = os.fstat(file.fileno()).st_size
            connection.send(self._line("putfile", remote_file, 0o777, size), answers=2)
            connection.code()
            while piece := file.read(MIB):
                connection.send(b"", piece, answers=0)
        return connection.code()


def operations(chirp: HTChirp, small: str, large: str) -> dict[str, Callable[[], object]]:
    def connect() -> None:
        chirp.disconnect()
        chirp.connect()

    return {
        "connect": connect,
        "stat": lambda: chirp.stat("small"),
        "read": lambda: chirp.read("small", SMALL_BYTES),
        "put": lambda: chirp.put(small, "put"),
        "fetch": lambda: chirp.fetch("large", "/dev/null"),
        "upload": lambda: chirp.put(large, "upload"),
        "get_job_attr": lambda: chirp.get_job_attr("ChirpFrames"),
        "set_job_attr": lambda: chirp.set_job_attr("ChirpFrames", 24),
        "get_job_attr_delayed": lambda: chirp.get_job_attr_delayed("ChirpLoss"),
        "set_job_attr_delayed": lambda: chirp.set_job_attr_delayed("ChirpLoss", 2.5),
        "ulog": lambda: chirp.ulog("a frame is done"),
    }


def prepare(chirp: HTChirp, operation: str, small: str, large: str) -> None:
    match operation:
        case "stat" | "read":
            chirp.put(small, "small")
        case "fetch":
            chirp.put(large, "large")
        case "get_job_attr":
            chirp.set_job_attr("ChirpFrames", 24)
        case "get_job_attr_delayed":
            chirp.set_job_attr_delayed("ChirpLoss", 2.5)


def main(operation: str, count: int, mib: int, address: str = "") -> None:
    host, _, port = address.partition(":")
    chirp = Standalone(host, port, ("address",)) if host else HTChirp()
    with tempfile.TemporaryDirectory() as folder, chirp:
        small, large = Path(folder) / "small", Path(folder) / "large"
        small.write_bytes(b"x" * SMALL_BYTES)
        if operation in ("fetch", "upload"):
            with large.open("wb") as file:
                for _ in range(mib):
                    file.write(b"x" * MIB)
        prepare(chirp, operation, str(small), str(large))
        do = operations(chirp, str(small), str(large))[operation]
        for _ in range(max(1, count // 10)):
            do()
        before = time.perf_counter()
        for _ in range(count):
            do()
        took = time.perf_counter() - before
    print(count * (mib if operation in ("fetch", "upload") else 1) / took)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])

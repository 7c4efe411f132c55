"""Chirp from inside a job, beside servers in C and a starter of HTCondor.

A real job asks a real agent over loopback. *Relayed*, its files are with the server, one process
further; *shared*, the agent works on the folder itself. `chirp_server` (Debian's
`coop-computing-tools`) takes turns with it, operation by operation, and is asked by the same client
(`chirp_client`). So are the starter of a job of HTCondor, with shadow and schedd behind it, and a
server in C that does nothing but answer, alone or by way of a relay: the least that an operation of
one or three processes takes on this machine.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import condor_pool
import roost
from farms import Farm, farm
from limits import chirp_floor
from report import Row

CLIENT = Path(__file__).with_name("chirp_client.py")
SOURCES = str(Path(roost.__file__).parents[1])
PROGRAM = "chirp_server"
START_S_MAX = 10
ANSWER_S_MAX = 120
FOLDERS = ("relayed", "shared")


class Operation(NamedTuple):
    name: str
    what: str
    floor: str = ""
    """Which server of `limits.chirp_floor` does it in as many processes."""
    once: bool = False
    """A large file, once: the unit is MiB/s."""


FILES = (
    Operation("connect", "connect and say who it is", "alone"),
    Operation("stat", "stat", "relayed"),
    Operation("read", "open, read and close of 1 KiB", "relayed"),
    Operation("put", "put of 1 KiB", "relayed"),
    Operation("fetch", "fetch of {mib} MiB", once=True),
    Operation("upload", "put of {mib} MiB", once=True),
)
ATTRIBUTES = (
    Operation("get_job_attr", "get_job_attr", "relayed"),
    Operation("set_job_attr", "set_job_attr"),
    Operation("get_job_attr_delayed", "get_job_attr_delayed", "alone"),
    Operation("set_job_attr_delayed", "set_job_attr_delayed", "alone"),
    Operation("ulog", "ulog", "alone"),
)
FLOORS = {
    "alone": "a process in C that answers at once",
    "relayed": "a relay in C that does nothing",
}


def operations(folder: Path, sizes: Any, repetitions: int) -> list[Row]:
    """Operations, or MiB, per second; a ratio above 1 says that Roost is faster."""
    shared = folder / "shared"
    shared.mkdir(exist_ok=True)
    roots = {"ROOST_SUBMIT_ROOTS": str(shared), "ROOST_SHARED_ROOTS": str(shared)}
    with (
        farm(folder, settings=roots) as up,
        _chirp_server(folder) as address,
        _floor(folder) as contacts,
        _starter(folder) as starter,
    ):
        contacts |= starter
        sides = Sides(up, shared, address, contacts, sizes)
        return [
            row
            for operation in (*FILES, *ATTRIBUTES)
            for row in _rows(sides, operation, repetitions)
        ]


class Sides(NamedTuple):
    up: Farm
    shared: Path
    address: str
    """Of `chirp_server`; empty without one."""
    contacts: dict[str, Path]
    """Of those that are there: `alone` and `relayed`, which do nothing, and `starter`."""
    sizes: Any

    def count(self, operation: Operation) -> int:
        return 1 if operation.once else self.sizes.chirps

    def in_job(self, operation: Operation, folder: str) -> float:
        command = self._command(operation)
        spec: dict[str, Any] = {
            "name": operation.name,
            "command": " ".join(command),
            "environment": {"PYTHONPATH": SOURCES},
            "attributes": {"WantIOProxy": True},
        }
        if folder == "shared":
            spec["submitDir"] = str(self.shared)
        job = self.up.newjob(spec)[0]
        self.up.wait(job, look_s=0.05)
        rate = float(self.up.server.getJobOutput(job))
        self.up.server.deleteJobs([job])
        return rate

    def at_peer(self, operation: Operation) -> list[float]:
        """One rate, or none where `chirp_server` has no such thing or is not there."""
        if not self.address or operation not in FILES:
            return []
        return [self._outside(operation, self.address)]

    def at(self, kind: str, operation: Operation) -> list[float]:
        """One rate, or none where there is no such contact."""
        if kind not in self.contacts:
            return []
        contact = str(self.contacts[kind])
        return [self._outside(operation, _CONDOR_CHIRP_CONFIG=contact)]

    def _outside(self, operation: Operation, *address: str, **environment: str) -> float:
        done = subprocess.run(
            [*self._command(operation), *address],
            env={**os.environ, "PYTHONPATH": SOURCES, **environment},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=ANSWER_S_MAX,
        )
        return float(done.stdout)

    def _command(self, operation: Operation) -> list[str]:
        count = str(self.count(operation))
        return [sys.executable, str(CLIENT), operation.name, count, str(self.sizes.chirp_mib)]


def _rows(sides: Sides, operation: Operation, repetitions: int) -> list[Row]:
    folders = FOLDERS if operation.name != "connect" and operation in FILES else FOLDERS[:1]
    rates: dict[str, list[float]] = {folder: [] for folder in folders}
    peer: list[float] = []
    starter: list[float] = []
    floor: list[float] = []
    for _ in range(repetitions):
        for folder in folders:
            rates[folder].append(sides.in_job(operation, folder))
        peer += sides.at_peer(operation)
        starter += sides.at("starter", operation)
        floor += sides.at(operation.floor, operation)
    what = operation.what.format(mib=sides.sizes.chirp_mib)
    unit = "MiB/s" if operation.once else "ops/s"

    def row(folder: str, beside: str, limits: Sequence[float]) -> Row:
        name = f"{what}, {folder}" if len(folders) > 1 else what
        return Row("r", f"{name}{beside}", unit, rates[folder], limits)

    rows: list[Row] = []
    if operation in FILES or not starter:
        beside = f", beside `{PROGRAM}`" if peer else ""
        rows += [row(folder, beside, peer) for folder in folders]
    if starter:
        version = condor_pool.version()
        rows.append(row(folders[0], f", beside HTCondor {version}'s starter", starter))
    if floor:
        rows.append(row(folders[0], f", beside {FLOORS[operation.floor]}", floor))
    return rows


@contextlib.contextmanager
def _starter(folder: Path) -> Iterator[dict[str, Path]]:
    """The contact file of a job of HTCondor that may do everything."""
    with contextlib.ExitStack() as stack:
        contacts: dict[str, Path] = {}
        try:
            pool = stack.enter_context(condor_pool.pool(folder))
            contacts["starter"] = pool.waiting(WantIOProxy="true")
        except (LookupError, RuntimeError) as error:
            print(f"Chirp is not measured beside a starter: {error}.", file=sys.stderr)
        yield contacts


@contextlib.contextmanager
def _floor(folder: Path) -> Iterator[dict[str, Path]]:
    with contextlib.ExitStack() as stack:
        contacts: dict[str, Path] = {}
        try:
            contacts = stack.enter_context(chirp_floor(folder))
        except LookupError as error:
            print(f"Chirp is not measured beside servers in C: {error}.", file=sys.stderr)
        yield contacts


@contextlib.contextmanager
def _chirp_server(folder: Path) -> Iterator[str]:
    """Its address, for clients on loopback, who may do everything there."""
    if shutil.which(PROGRAM) is None:
        print(f"Chirp is not measured beside {PROGRAM}: it is not installed.", file=sys.stderr)
        yield ""
        return
    place = Path(tempfile.mkdtemp(dir=folder))
    root, port, rights = place / "root", place / "port", place / "rights"
    root.mkdir()
    rights.write_text("address:127.0.0.1 rwlda\n")
    command = [PROGRAM, "-r", f"file://{root}", "-I", "127.0.0.1", "-Z", port, "-a", "address"]
    command += ["-A", rights, "-y", place, "-u", "127.0.0.1", "-E"]
    if os.geteuid() == 0:
        command += ["-i", pwd.getpwuid(0).pw_name]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S_MAX
        while not (port.exists() and port.read_text().strip()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{PROGRAM} did not start")
            time.sleep(0.05)
        yield f"127.0.0.1:{port.read_text().strip()}"
    finally:
        process.terminate()
        process.wait(10)

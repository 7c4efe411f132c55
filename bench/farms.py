"""Real farms to measure: `roost up` and `roost server` as processes, and what they cost.

Costs are read from /proc, process by process: the server, the agent, the keeper. Without /proc
there is nothing to read, and the rows that need it are left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from roost.server.app import SOCKET_FILE

CPUS = 2
DEADLINE_S = 600
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Farm:
    """A farm that is up."""

    def __init__(self, pid: int, url: str, data: Path) -> None:
        self.pid = pid
        self.url = url
        self.data = data
        self.server: Any = xmlrpc.client.ServerProxy(url, allow_none=True)

    def newjob(self, spec: dict[str, Any]) -> list[int]:
        ids: list[int] = self.server.newjob(spec)
        return ids

    def wait(self, job: int, look_s: float = 0.1) -> None:
        """Until a job has succeeded. Raises `RuntimeError` when it does not."""
        deadline = time.monotonic() + DEADLINE_S
        while (status := self.server.getJob(job, ["status"])["status"]) != "succeeded":
            if status in ("failed", "cancelled") or time.monotonic() > deadline:
                raise RuntimeError(f"job {job} is {status}")
            time.sleep(look_s)

    def run(self, job: dict[str, Any], count: int, look_s: float = 0.1) -> float:
        """Seconds from submitting a tree of so many of this job until all have succeeded."""
        children = [{"name": f"job {number}", **job} for number in range(count)]
        before = time.perf_counter()
        self.wait(self.newjob({"name": "bench", "children": children})[0], look_s)
        return time.perf_counter() - before

    def processes(self) -> dict[str, int]:
        """Process ids by part; of `roost up` all three, of `roost server` one."""
        if not Path("/proc/self/stat").exists():
            return {}
        found = {"server": self.pid}
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for child in children:
            found["agent"] = int(child)
        for lock in self.data.rglob("keeper.lock"):
            found["keeper"] = int(lock.read_text())
        return found

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds used so far, by part: its own, not that of the jobs."""
        return {part: _cpu_s(pid) for part, pid in self.processes().items()}

    def resident_bytes(self) -> int:
        return resident_bytes(self.pid)


def resident_bytes(pid: int) -> int:
    return status_bytes(pid, "VmRSS")


def status_bytes(pid: int, name: str) -> int:
    """`VmRSS`, what it has in memory, or `VmHWM`, the most it has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@contextlib.contextmanager
def farm(
    folder: Path,
    cpus: int = CPUS,
    settings: Mapping[str, str] = MappingProxyType({}),
    *,
    as_remote: bool = False,
) -> Iterator[Farm]:
    """`roost up` on free ports, ended with the block. `settings` are variables of the environment
    for those that have no option. The agent may have no more of the server than one on another
    machine: its port."""
    options = ("--agent-port", "0", "--cpus", str(cpus))
    data = Path(tempfile.mkdtemp(dir=folder))
    if as_remote:
        (data / "farm" / SOCKET_FILE / "in the way").mkdir(parents=True)
    with _running(data, "up", *options, settings=settings) as up:
        yield up


@contextlib.contextmanager
def farm_without_nodes(folder: Path) -> Iterator[Farm]:
    """`roost server` alone: whatever is submitted waits."""
    with server_on(Path(tempfile.mkdtemp(dir=folder))) as server:
        yield server


@contextlib.contextmanager
def server_on(data: Path) -> Iterator[Farm]:
    """`roost server` on what an earlier one has left in `data`."""
    with _running(data, "server") as server:
        yield server


@contextlib.contextmanager
def _running(
    data: Path, *command: str, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Farm]:
    options = ["--announce", "--port", "0", "--data", str(data / "farm"), "--log-level", "warning"]
    options += ["--exit-with-stdin"]  # whatever becomes of us
    process = subprocess.Popen(
        [sys.executable, "-m", "roost", *command, *options],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, **settings, "ROOST_ALLOW_ROOT": "true"},
    )
    assert process.stdin and process.stdout
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the farm did not start; see above")
        yield Farm(process.pid, json.loads(line)["url"], data)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()
        process.stdout.close()

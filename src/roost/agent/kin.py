"""Which processes belong to an attempt: the family tree as /proc tells it.

A process can leave its group, its session and its parent, and can wipe its environment. So the
keeper gives every attempt a *tag* as well: a number set as the soft limit of RLIMIT_LOCKS. Linux
has not enforced that limit since 2.4.25, but every child inherits it, through fork, exec, setsid
and `env -i`, and anybody may read it in /proc. It costs one system call per spawn. The session
and the environment's mark serve where a process has had its limits reset.

Standard library only. Asks and answers; signals nobody. Without /proc it finds nobody.
"""

from __future__ import annotations

import os
import resource
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MARK = "ROOST_ATTEMPT"
"""Environment variable of every process of an attempt: `<job>.<number>`."""
OWNER = "ROOST_AGENT"
"""Environment variable beside it: the installation, as farms number their jobs alike."""

_RLIMIT_LOCKS = 10
_PIECE_BYTES = 4096
_PID_BYTES_MAX = 16


class Family(NamedTuple):
    """What the processes of one attempt have in common."""

    mark: str
    owner: str
    tag: int

    @classmethod
    def of(cls, mark: str, owner: str) -> Family:
        return cls(mark, owner, tag(mark, owner))

    def claims(self, pid: int) -> bool:
        """Whether this process carries the tag or the mark."""
        return tag_of(pid) == self.tag or self._marks(pid)

    def _marks(self, pid: int) -> bool:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False
        mine = (f"{MARK}={self.mark}".encode(), f"{OWNER}={self.owner}".encode())
        return mine[0] in environment and mine[1] in environment


def tag(mark: str, owner: str) -> int:
    """A function of both names, so that it can be told again after a crash."""
    return (zlib.crc32(owner.encode()) & 0x3FFFFFFF) << 32 | zlib.crc32(mark.encode())


def own_tag() -> int:
    return resource.getrlimit(_RLIMIT_LOCKS)[0]


def set_tag(tag: int) -> None:
    """Children spawned from now on carry this tag. Without effect where the limit is fixed."""
    try:  # noqa: SIM105  (once per job)
        resource.setrlimit(_RLIMIT_LOCKS, (tag, resource.RLIM_INFINITY))
    except (ValueError, OSError):
        pass


def tag_of(pid: int) -> int | None:
    try:
        limits = Path(f"/proc/{pid}/limits").read_bytes()
    except OSError:
        return None
    at = limits.find(b"Max file locks")
    soft = limits[at + 14 : at + 48].split()[:1] if at >= 0 else []
    return int(soft[0]) if soft and soft[0].isdigit() else None


class Process(NamedTuple):
    pid: int
    state: str
    """One letter, as `ps` shows it: R, S, D, T (stopped), Z (zombie), …"""
    parent: int
    session: int


def look(pid: int) -> Process | None:
    """None when there is no such process (any more)."""
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name in brackets may itself hold spaces and brackets: count from the last one.
    fields = line[line.rindex(b")") + 2 :].split()
    return Process(pid, fields[0].decode(), int(fields[1]), int(fields[3]))


def everybody() -> Iterator[Process]:
    try:
        names = os.listdir("/proc")  # noqa: PTH208  (names are wanted, not paths)
    except OSError:
        return
    for name in names:
        if name.isdigit() and (process := look(int(name))):
            yield process


def members(leader: int, family: Family) -> list[Process]:
    """All living processes of an attempt: its session, its descendants, and whom it claims.

    Walks all of /proc (some milliseconds): for signals and for clearing up, not for every job.
    """
    mine = os.getpid()
    living = {process.pid: process for process in everybody() if process.state not in "ZX"}
    found: dict[int, bool] = {mine: False, leader: True}

    def belongs(process: Process) -> bool:
        known = found.get(process.pid)
        if known is None:
            # Before the recursion, so that a tree that changes while read cannot loop.
            found[process.pid] = False
            parent = living.get(process.parent)
            known = found[process.pid] = (
                process.session == leader
                or (parent is not None and belongs(parent))
                or family.claims(process.pid)
            )
        return known

    return [process for process in living.values() if belongs(process)]


class Children:
    """The list of our own children as Linux keeps it, in a file that stays open: it is read after
    every end of a job."""

    def __init__(self) -> None:
        try:
            self._file = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
        except OSError:
            self._file = -1

    def read(self) -> list[int] | None:
        """Their process ids, zombies included; None where Linux does not tell.

        Complete as long as only the caller reaps them: entries are added at the end of the list.
        """
        text = b""
        try:
            while True:
                piece = os.pread(self._file, _PIECE_BYTES, len(text))
                text += piece
                if len(piece) <= _PIECE_BYTES - _PID_BYTES_MAX:
                    # There was room for another one.
                    return [int(child) for child in text.split()]
        except OSError:
            return None


def boot_id() -> str:
    """Changes with every boot of the machine; empty where unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""

"""How many files this process may have open: as many as the system allows.

Connections, pages and the open files of jobs take a descriptor each, and the soft limit, mostly
1,024, is for programs that use select(). Jobs may be such programs: they keep the limit that we
were started with, so whoever is started from here to run them is given it back.
"""

from __future__ import annotations

import contextlib
import resource
import sys

_usual: tuple[int, int] | None = None
"""The limits that we were started with, once ours are others."""


def raise_limit() -> None:
    """Of this process, to the hard limit."""
    global _usual
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            _usual = (soft, hard)


def allowed() -> int:
    """How many this process may have open at a time."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def give_back(pid: int = 0) -> None:
    """The usual limits for a child that has just been started, or for ourselves."""
    if _usual is not None:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, _usual)

"""What this machine is, and how busy: the facts of a node.

Reads the machine, changes nothing. What cannot be told is 0, never an error: a node joins even
where the system keeps such things to itself.
"""

from __future__ import annotations

import contextlib
import os
import platform as machine
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psutil


def hostname() -> str:
    return socket.gethostname() or "localhost"


def address_towards(url: str) -> str:
    """The IP address of ours that this server would see; nothing is sent."""
    parts = urlsplit(url)
    with contextlib.suppress(OSError):
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    return ""


def platform() -> str:
    """An architecture name of HQueue: `linux-x86_64`, `macosx-arm64`, `windows-x86_64`, …"""
    systems = {"linux": "linux", "darwin": "macosx", "win32": "windows"}
    system = systems.get(sys.platform, sys.platform)
    name = machine.machine().lower()
    if name in ("i386", "i486", "i586", "i686", "x86"):
        name = "i686"
    elif name == "amd64":
        name = "x86_64"
    return f"{system}-{name}"


def cpus() -> int:
    """Those that we may use, which a container or a batch system may have limited."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_speed_mhz() -> int:
    # psutil raises whatever the platform's files make it raise; see the module's theory.
    with contextlib.suppress(Exception):
        frequency = psutil.cpu_freq()
        return int(frequency.max or frequency.current) if frequency else 0
    return 0


def memory_kb() -> int:
    with contextlib.suppress(Exception):
        return int(psutil.virtual_memory().total) // 1024
    return 0


def memory_used_kb() -> int:
    """What new processes could not have without others being swapped out."""
    with contextlib.suppress(Exception):
        memory = psutil.virtual_memory()
        return int(memory.total - memory.available) // 1024
    return 0


def gpus(proc: Path = Path("/proc"), sys_: Path = Path("/sys")) -> tuple[str, ...]:
    """The graphics processors' names, as their drivers tell them (NVIDIA's, and amdgpu).

    Read from files: to run a tool of the driver's takes a second and wakes the card.
    """
    names: list[str] = []
    with contextlib.suppress(OSError):
        for card in sorted(proc.glob("driver/nvidia/gpus/*/information")):
            told = dict(line.split(":", 1) for line in card.read_text().splitlines() if ":" in line)
            names.append(told.get("Model", "NVIDIA").strip())
    with contextlib.suppress(OSError):
        cards = sorted(sys_.glob("class/drm/card[0-9]*/device/product_name"))
        names.extend(card.read_text().strip() or "AMD" for card in cards)
    return tuple(names)


def load() -> float:
    """Processes that want to run, averaged over a minute."""
    with contextlib.suppress(OSError, AttributeError):
        return round(os.getloadavg()[0], 2)
    return 0.0

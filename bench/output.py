"""What jobs print: a flood from one of them, a trickle from many."""

from __future__ import annotations

import mmap
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from farms import Farm, farm, resident_bytes
from report import Row

MIB = 1024 * 1024
FILES = 2
"""That a flood fills: the job's and the server's."""
GIVEN_BACK_S = 4
"""A virtual machine with free page reporting gives memory that was free for two seconds back to its
host, and needs a moment for that."""
TRICKLE = "for i in $(seq {lines}); do echo line $i of what a renderer tells; sleep 0.1; done"


def flood(folder: Path, sizes: Any, repetitions: int) -> list[Row]:
    """One job that prints a large file, until it has succeeded and all of it is with the server:
    handed over, and sent as from another machine."""
    near: list[float] = []
    far: list[float] = []
    limits: list[float] = []
    grown: list[float] = []
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        farm(folder) as here,
        farm(folder, as_remote=True) as there,
    ):
        text = Path(place) / "text"
        line = b"a line of what a renderer tells about a frame, sixty-four bytes\n"
        text.write_bytes(line * (sizes.flood_mib * MIB // len(line)))
        for _ in range(repetitions):
            _have_memory(2 * FILES * sizes.flood_mib * MIB)
            limits.append(sizes.flood_mib / _copy(text, Path(place) / "copy"))
            for up, rates in ((here, near), (there, far)):
                _have_memory(2 * FILES * sizes.flood_mib * MIB)
                agent = up.processes()["agent"]
                memory = resident_bytes(agent)
                rates.append(sizes.flood_mib / _print(up, text))
                grown.append(max(0, resident_bytes(agent) - memory) / MIB)
    name = f"a job that prints {sizes.flood_mib:,} MiB"
    return [
        Row("o", f"{name}, beside `cat file > file`", "MiB/s", near, limits),
        Row("o", f"{name}, as on another machine, beside `cat`", "MiB/s", far, limits),
        Row("o", "growth of the agent by it", "MiB", grown),
    ]


def _print(up: Farm, text: Path) -> float:
    """Seconds until all of it was there."""
    before = time.perf_counter()
    job = up.newjob({"name": "flood", "command": f"cat {text}"})[0]
    up.wait(job, look_s=0.02)
    took = time.perf_counter() - before
    up.server.deleteJobs([job])
    return took


def _have_memory(size: int) -> None:
    """So much is free and was just in use, and nothing else is being given back: to get a page from
    the host costs ten times what it costs to fill it. About half of it is what is found again."""
    with mmap.mmap(-1, size) as memory:
        for at in range(0, size, mmap.PAGESIZE):
            memory[at] = 1
        time.sleep(GIVEN_BACK_S)


def _copy(source: Path, target: Path) -> float:
    before = time.perf_counter()
    with target.open("wb") as file:
        subprocess.run(["cat", source], stdout=file, check=True)
    took = time.perf_counter() - before
    target.unlink()
    return took


def trickle(folder: Path, sizes: Any, repetitions: int) -> list[Row]:
    """Many jobs that print ten lines a second each."""
    jobs, seconds = sizes.trickles, sizes.trickle_s
    with farm(folder, cpus=jobs) as up:
        command = TRICKLE.format(lines=10 * (seconds + 10))
        children = [{"name": f"job {n}", "command": command} for n in range(jobs)]
        root = up.newjob({"name": "trickle", "children": children})[0]
        while _running(up) < jobs:
            time.sleep(0.1)
        before = up.cpu_s()
        time.sleep(seconds)
        after = up.cpu_s()
        up.server.cancelJobs([root])
    name = f"{jobs} jobs with 10 lines a second"
    return [
        Row("p", f"CPUs of the {part}, {name}", "CPUs", [(after[part] - before[part]) / seconds])
        for part in after
    ]


def _running(up: Any) -> int:
    return len(up.server.getJobIdsByStatus(["running"]))

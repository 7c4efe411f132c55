"""The measures, one function each: a real farm on one side, the machine's limit on the other.

The two alternate, so that a busy minute of the machine falls on both. A measure returns rows and
asserts nothing about time; that all jobs succeeded it does check.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import calls
import chirp
import competition
import output
import pages
import scale
from farms import CPUS, farm, farm_without_nodes
from limits import SpawnLoop, bare_start
from report import Row

PERCENTILE = 0.99
SHELLS = {"a": "/bin/sh", "b": "/bin/bash"}
TELL_TIME = "date +%s.%N"
READER = Path(__file__).with_name("readers.py")
READERS = 8


class Sizes(NamedTuple):
    """How much is done; a quick run does less of it."""

    jobs: int = 5_000
    latencies: int = 100
    children: int = 10_000
    newjobs: int = 10
    readings: int = 200
    idle_s: int = 10
    singles: int = 5_000
    pings: int = 8_000
    answers: int = 1_000
    few: int = 1_000
    many: int = 100_000
    nodes: int = 2_000
    agents: int = 2_000
    followers: int = 100
    crowd_s: int = 30
    live: int = 200_000
    finished: int = 1_000_000
    flood_mib: int = 1_024
    trickles: int = 200
    trickle_s: int = 20
    chirps: int = 2_000
    chirp_mib: int = 256
    studio_nodes: int = 500
    studio_jobs: int = 100_000
    studio_events: int = 50
    watched_s: int = 20
    log_mb: int = 200
    cancelled: int = 10_000


def throughput(folder: Path, sizes: Sizes, repetitions: int, measure: str) -> list[Row]:
    """Jobs per second from submission until all have succeeded, beside the same in C."""
    shell = SHELLS[measure]
    loop = _loop(folder)
    rates: list[float] = []
    limits: list[float] = []
    spent: dict[str, list[float]] = {}
    job = {"command": "true", **({} if measure == "a" else {"shell": "bash"})}
    with farm(folder) as up:
        up.run(job, min(50, sizes.jobs))  # everything imported, every page touched
        for _ in range(repetitions):
            if loop:
                limits.append(loop.rate(sizes.jobs, CPUS, shell, "true"))
            before = up.cpu_s()
            rates.append(sizes.jobs / up.run(job, sizes.jobs))
            after = up.cpu_s()
            for part, seconds in after.items():
                spent.setdefault(part, []).append((seconds - before[part]) / sizes.jobs * 1e6)
    name = f"{sizes.jobs:,} jobs `{Path(shell).name} -c true`"
    rows = [Row(measure, name, "jobs/s", rates, limits)]
    rows += [Row(measure, f"CPU time of the {part}", "µs/job", spent[part]) for part in spent]
    return rows


def _loop(folder: Path) -> SpawnLoop | None:
    try:
        return SpawnLoop(folder)
    except LookupError as error:
        print(f"No ratios: {error}.")
        return None


def latency(folder: Path, sizes: Sizes, repetitions: int) -> list[Row]:
    """From the call of `newjob` to the command's own look at the clock, on an idle farm."""
    ours: list[float] = []
    bare: list[float] = []
    with farm(folder) as up:
        for number in range(sizes.latencies + 3):
            bare.append(bare_start("/bin/sh", TELL_TIME, folder / "bare.out") * 1e3)
            before = time.time()
            job = up.newjob({"name": "latency", "command": TELL_TIME})[0]
            up.wait(job, look_s=0.02)
            ours.append((float(up.server.getJobOutput(job)) - before) * 1e3)
            if number < 3:  # the first ones warm up
                ours.clear()
                bare.clear()
    return [
        Row("c", f"start of one job, {name}", "ms", [pick(ours)], [pick(bare)], False)
        for name, pick in (("median", statistics.median), ("99th percentile", _late))
    ]


def _late(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, round(len(values) * PERCENTILE))]


def _tree(children: int, **fields: Any) -> dict[str, Any]:
    jobs = [{"name": f"job {number}", "command": "true"} for number in range(children)]
    return {"name": "tree", "children": jobs, **fields}


def reading(folder: Path, sizes: Sizes, repetitions: int) -> list[Row]:
    """What a root with a crowd below it costs: to ask about it, and in memory."""
    with farm_without_nodes(folder) as server:
        root = server.newjob({"name": "root", "command": "true"})[0]
        server.newjob(_tree(100, parentIds=[root]))
        before = server.resident_bytes()
        for _ in range(sizes.newjobs):
            server.newjob(_tree(sizes.children, parentIds=[root]))
        jobs = sizes.newjobs * (sizes.children + 1)
        memory = (server.resident_bytes() - before) / jobs
        rolled_up: list[float] = []
        plain: list[float] = []
        for _ in range(sizes.readings):
            plain.append(_time(lambda: server.server.getJob(root, ["status"])))
            rolled_up.append(
                _time(lambda: server.server.getJob(root, ["uiStatus", "overallProgress", "ETA"]))
            )
    name = f"getJob with roll-ups over {jobs:,} jobs"
    return [
        Row("e", f"{name}, beside status only", "ms", rolled_up, plain, False),
        Row("f", "memory of the server per live job", "bytes", [memory]),
    ]


def _time(call: Callable[[], object]) -> float:
    before = time.perf_counter()
    call()
    return (time.perf_counter() - before) * 1e3


def reading_under_load(folder: Path, sizes: Sizes, repetitions: int) -> list[Row]:
    """What readers wait while a tree of jobs runs, beside the same readers and the same tree before
    any of it may run. Every answer is checked; one that is wrong ends the bench."""
    with farm(folder) as up:
        client = up.server.getClients()[0]["label"]
        up.server.setdisabled(client, True)
        root = up.newjob(_tree(sizes.jobs))[0]
        idle = _Readers(up.url, root)
        time.sleep(sizes.idle_s)
        before = idle.stop()
        busy = _Readers(up.url, root)
        started = time.perf_counter()
        up.server.setdisabled(client, False)
        up.wait(root, look_s=0.5)
        took = time.perf_counter() - started
        during = busy.stop()
    _print_slowest(during)
    loaded, unloaded = _all(during), _all(before)
    name = f"a call of {READERS} readers while {sizes.jobs:,} jobs run"
    rows = [
        Row("g", f"{name}, {which}", "ms", [pick(loaded)], [pick(unloaded)], False)
        for which, pick in (("median", statistics.median), ("99th percentile", _late))
    ]
    return [
        *rows,
        Row("g", f"jobs meanwhile, and {len(loaded):,} calls", "jobs/s", [sizes.jobs / took]),
    ]


class _Readers:
    """Processes that ask everything, over and over."""

    def __init__(self, url: str, root: int) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, READER, url, str(root)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(READERS)
        ]
        for process in self._processes:
            assert process.stdout
            process.stdout.readline()  # it is about to begin

    def stop(self) -> dict[str, list[float]]:
        """Milliseconds by method. Raises `RuntimeError` when one met a fault or a wrong type."""
        took: dict[str, list[float]] = {}
        told = [process.communicate("")[0] for process in self._processes]
        if any(process.returncode for process in self._processes):
            raise RuntimeError("a reader got a wrong answer; see above")
        for line in told:
            for method, values in json.loads(line).items():
                took.setdefault(method, []).extend(values)
        return took


def _all(took: dict[str, list[float]]) -> list[float]:
    return [value for values in took.values() for value in values]


def _print_slowest(took: dict[str, list[float]]) -> None:
    lates = sorted(((_late(v), max(v), method) for method, v in took.items() if v), reverse=True)
    for late, worst, method in lates[:5]:
        print(f"  {method}: 99th percentile {late:.1f} ms, worst {worst:.1f} ms", file=sys.stderr)


MEASURES: dict[str, Callable[[Path, Sizes, int], list[Row]]] = {
    "a": lambda folder, sizes, repetitions: throughput(folder, sizes, repetitions, "a"),
    "b": lambda folder, sizes, repetitions: throughput(folder, sizes, repetitions, "b"),
    "c": latency,
    "d": calls.large_submissions,
    "e": reading,
    "g": reading_under_load,
    "h": calls.single_submissions,
    "i": calls.pings,
    "j": calls.large_answers,
    "k": scale.placements,
    "l": scale.crowd,
    "m": scale.starts,
    "n": scale.history,
    "o": output.flood,
    "p": output.trickle,
    "q": competition.against_peers,
    "r": chirp.operations,
    "s": pages.in_a_browser,
}
"""`e` measures memory, `f`, on the way."""

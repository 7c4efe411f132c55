"""`make growth`: how a farm grows with the number of its jobs, and with that of its machines.

    python bench/growth.py [--quick] [--agents 1,1000] [--folder DIR]

A real server, with its file on the disk, is given so many jobs, and then so many machines on real
sockets that say of each job at once that it has started and ended. So what is measured is all that
a server does for a job, and nothing of what the job does. Prints a table; a full run also writes it
to `GROWTH.md` beside this file, and `growth.svg`. A curve that bends has a cause:
docs/explanation/performance.md tells it.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import httpx2
import msgspec
from websockets.asyncio.client import ClientConnection, connect

from farms import Farm, farm_without_nodes, status_bytes
from report import settings
from roost.core.messages import AttemptEnded, AttemptReport, AttemptStarted
from roost.core.records import AttemptCause, NodeFacts
from roost.wire import link

PAGE = Path(__file__).with_name("GROWTH.md")
CHART = PAGE.with_name("growth.svg")
CPUS = 4
CHILDREN_MAX = 10_000
"""So many jobs are one submission, and one tree."""
JOINING_AT_ONCE = 50
BEAT_S = 10.0


class Sizes(NamedTuple):
    jobs: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    jobs_with_agents: int = 20_000
    agents: tuple[int, ...] = (1, 10, 100, 1_000)
    agents_with_jobs: int = 100


QUICK = Sizes(jobs=(100, 1_000), jobs_with_agents=500, agents=(1, 10), agents_with_jobs=5)


class Point(NamedTuple):
    """One farm. Times are seconds, `cpu` of the server."""

    jobs: int
    agents: int
    submitting_s: float
    submitting_cpu_s: float
    running_s: float
    running_cpu_s: float
    agents_cpu_s: float
    """Of all agents together, while the jobs ran."""
    frames: int
    """From and to agents, while the jobs ran."""
    recalls: int
    """How many jobs agents were asked to give back."""
    idle_bytes: int
    """The server's memory before it had a job."""
    live_bytes: int
    """With all jobs submitted and none begun."""
    peak_bytes: int
    database_bytes: int

    @property
    def rate(self) -> float:
        return self.jobs / self.running_s

    def cells(self) -> tuple[str, ...]:
        return (
            f"{self.jobs:,}",
            f"{self.agents:,}",
            f"{self.jobs / self.submitting_s:,.0f}",
            f"{self.submitting_cpu_s / self.jobs * 1e6:,.0f}",
            f"{self.rate:,.0f}",
            f"{self.running_cpu_s / self.jobs * 1e6:,.0f}",
            f"{self.agents_cpu_s / self.jobs * 1e6:,.0f}",
            f"{self.frames / self.jobs:,.2f}",
            f"{self.recalls / self.jobs:,.2f}",
            f"{(self.live_bytes - self.idle_bytes) / self.jobs:,.0f}",
            f"{self.peak_bytes / 1e6:,.0f}",
            f"{self.database_bytes / self.jobs:,.0f}",
        )


COLUMNS = (
    "jobs",
    "agents",
    "submitted/s",
    "CPU µs each",
    "run/s",
    "CPU µs each",
    "agents' µs",
    "frames each",
    "recalls each",
    "bytes a live job",
    "peak MB",
    "bytes on disk a job",
)


def grow(folder: Path, sizes: Sizes) -> tuple[list[Point], list[Point]]:
    """Farms with ever more jobs, and farms with ever more agents."""
    by_jobs = [_point(folder, jobs, sizes.agents_with_jobs) for jobs in sizes.jobs]
    by_agents = [_point(folder, sizes.jobs_with_agents, agents) for agents in sizes.agents]
    return by_jobs, by_agents


def _point(folder: Path, jobs: int, agents: int) -> Point:
    with farm_without_nodes(folder) as server:
        print(f"{jobs:,} jobs on {agents:,} agents …", file=sys.stderr, flush=True)
        point = asyncio.run(_run(server, jobs, agents))
    said = (f"{what} {cell}" for what, cell in zip(COLUMNS, point.cells(), strict=True))
    print("  " + ", ".join(said), file=sys.stderr, flush=True)
    return point


async def _run(server: Farm, jobs: int, agents: int) -> Point:
    idle = server.resident_bytes()
    began, cpu = time.perf_counter(), server.cpu_s()["server"]
    await _submit(server.url, jobs)
    submitted, cpu_submitted = time.perf_counter(), server.cpu_s()["server"]
    live = server.resident_bytes()
    farm = Agents(server.url, jobs)
    await farm.join(agents)
    running, cpu_running = time.perf_counter(), server.cpu_s()["server"]
    own_cpu_running = time.process_time()
    await farm.work()
    ended, cpu_ended = time.perf_counter(), server.cpu_s()["server"]
    own_cpu = time.process_time() - own_cpu_running
    left = server.server.getJobIdsByStatus(["running", "runnable", "queued", "failed"])
    if left:
        raise RuntimeError(f"{len(left)} jobs have not succeeded")
    return Point(
        jobs,
        agents,
        submitted - began,
        cpu_submitted - cpu,
        ended - running,
        cpu_ended - cpu_running,
        own_cpu,
        farm.frames,
        farm.recalls,
        idle,
        live,
        status_bytes(server.pid, "VmHWM"),
        sum(path.stat().st_size for path in (server.data / "farm").glob("roost.db*")),
    )


async def _submit(url: str, jobs: int) -> None:
    async with httpx2.AsyncClient(base_url=url, timeout=300) as http:
        for first in range(0, jobs, CHILDREN_MAX):
            numbers = range(first, min(first + CHILDREN_MAX, jobs))
            children = [{"name": f"job {number}", "command": "true"} for number in numbers]
            tree = msgspec.json.encode({"name": f"tree {first}", "children": children})
            kind = {"Content-Type": "application/json"}
            answer = await http.post("/api/v1/jobs", content=tree, headers=kind)
            answer.raise_for_status()


class Agents:
    """Machines that are done with a job as soon as they get it."""

    def __init__(self, url: str, jobs: int) -> None:
        self._url = url.replace("http", "ws", 1) + link.PATH
        self._left = jobs
        """So many ends are not saved yet."""
        self._all_saved = asyncio.Event()
        self._sockets: list[ClientConnection] = []
        self.frames = 0
        """Both ways, since `work`."""
        self.recalls = 0

    async def join(self, agents: int) -> None:
        """What they are given from now on waits for `work`."""
        joining = asyncio.Semaphore(JOINING_AT_ONCE)

        async def one(number: int) -> None:
            async with joining:
                socket = await connect(self._url, compression=None, proxy=None, max_size=None)
                facts = NodeFacts(hostname=f"node{number}", installation=f"i{number}", cpus=CPUS)
                await socket.send(link.encode([link.Hello(link.PROTOCOL, facts)]))
                self._sockets.append(socket)

        await asyncio.gather(*map(one, range(agents)))

    async def work(self) -> None:
        """Until the server has said of all ends that they are saved."""
        tasks = [asyncio.ensure_future(self._work(socket)) for socket in self._sockets]
        tasks.append(asyncio.ensure_future(self._beat()))
        try:
            saved = asyncio.ensure_future(self._all_saved.wait())
            done, _ = await asyncio.wait([saved, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if not self._all_saved.is_set():
                raise RuntimeError("the server closed the connection of an agent")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(socket.close() for socket in self._sockets))

    async def _beat(self) -> None:
        while True:
            for socket in self._sockets:
                await socket.send(link.encode([link.Beat(CPUS, -1)]))
                self.frames += 1
                await asyncio.sleep(BEAT_S / len(self._sockets))

    async def _work(self, socket: ClientConnection) -> None:
        told = saved = 0
        async for frame in socket:
            assert isinstance(frame, bytes)
            self.frames += 1
            reports: list[AttemptReport] = []
            for message in link.decode_from_server(frame):
                if isinstance(message, link.Start):
                    key = (message.order.job, message.order.number)
                    reports.append(AttemptStarted(*key))
                    reports.append(AttemptEnded(*key, AttemptCause.EXITED, 0, ran_ms=1))
                elif isinstance(message, link.Signal):
                    self.recalls += message.action == "recall"
                elif isinstance(message, link.ReportsSaved):
                    self._left -= (message.through - saved) // 2  # a start and an end
                    saved = message.through
                    if not self._left:
                        self._all_saved.set()
            if reports:
                await socket.send(link.encode([link.Reports(told + 1, tuple(reports))]))
                told += len(reports)
                self.frames += 1


# --- the page -----------------------------------------------------------------------------------


def table(points: Sequence[Point]) -> str:
    """Aligned in a terminal, and a table in Markdown too."""
    lines = [COLUMNS, *(point.cells() for point in points)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    made = [
        "| " + " | ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    made.insert(1, "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")
    return "\n".join(made)


PANEL_WIDTH, PANEL_HEIGHT = 400, 180
MARGIN = 70
COLOURS = ("#0090ff", "#888888")


def chart(by_jobs: Sequence[Point], by_agents: Sequence[Point]) -> str:
    """An SVG: rates above, memory below; by jobs on the left, by agents on the right."""
    width, height = 2 * (PANEL_WIDTH + MARGIN) + MARGIN, 2 * (PANEL_HEIGHT + MARGIN) + MARGIN
    sides = (
        (f"jobs, {by_jobs[0].agents:,} agents", [(p.jobs, p) for p in by_jobs]),
        (f"agents, {by_agents[0].jobs:,} jobs", [(p.agents, p) for p in by_agents]),
    )
    panels = []
    for column, (by, points) in enumerate(sides):
        rates = [(size, point.rate) for size, point in points]
        by_cpu = [(size, point.jobs / point.running_cpu_s) for size, point in points]
        memory = [(size, point.peak_bytes / 1e6) for size, point in points]
        panels += [
            _panel(column, 0, f"jobs a second (blue), and a CPU second: {by}", rates, by_cpu),
            _panel(column, 1, f"peak memory of the server in MB: {by}", memory),
        ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12" role="img">\n'
        "<title>Jobs a second and memory, by the number of jobs and of agents</title>\n"
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
        + "\n".join(panels)
        + "\n</svg>\n"
    )


def _panel(column: int, row: int, what: str, *curves: Sequence[tuple[int, float]]) -> str:
    """Curves over a logarithmic axis, with the height from 0 to the next round number."""
    left = MARGIN + column * (PANEL_WIDTH + MARGIN)
    bottom = MARGIN + PANEL_HEIGHT + row * (PANEL_HEIGHT + MARGIN)
    sizes = [size for size, _ in curves[0]]
    span = math.log10(sizes[-1] / sizes[0]) or 1
    top = _round_up(max(value for curve in curves for _, value in curve))
    parts = [
        f'<text x="{left}" y="{bottom - PANEL_HEIGHT - 24}" font-weight="bold">'
        f"{html.escape(what)}</text>",
        f'<path d="M{left} {bottom - PANEL_HEIGHT}V{bottom}h{PANEL_WIDTH}" '
        'fill="none" stroke="#888"/>',
        f'<text x="{left - 6}" y="{bottom - PANEL_HEIGHT + 4}" text-anchor="end">{top:,.0f}</text>',
        f'<text x="{left - 6}" y="{bottom + 4}" text-anchor="end">0</text>',
    ]
    across = [left + math.log10(size / sizes[0]) / span * PANEL_WIDTH for size in sizes]
    for x, size in zip(across, sizes, strict=True):
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{size:,}</text>')
    for colour, curve in zip(COLOURS, curves, strict=False):
        # The first of two curves is the lower one: its numbers go beneath it.
        below = 18 if curve is curves[0] and len(curves) > 1 else -8
        at = [
            (x, bottom - value / top * PANEL_HEIGHT, value)
            for x, (_, value) in zip(across, curve, strict=True)
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in at)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>')
        for x, y, value in at:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>',
                f'<text x="{x:.1f}" y="{y + below:.1f}" text-anchor="middle">{value:,.0f}</text>',
            ]
    return "\n".join(parts)


def _round_up(value: float) -> float:
    unit = 10.0 ** math.floor(math.log10(value))
    return next(n * unit for n in (1, 2, 5, 10) if n * unit >= value)


def page(by_jobs: Sequence[Point], by_agents: Sequence[Point], known: dict[str, str]) -> str:
    facts = "\n".join(f"* {name}: {value}" for name, value in known.items())
    return (
        "# Results of `make growth`\n\n"
        "A server is given so many jobs, in trees of up to "
        f"{CHILDREN_MAX:,}, and then so many agents on real sockets, with {CPUS} CPUs each, that "
        "say of each job at once that it has run. Memory and CPU time are the server's; all agents "
        "are one process on the same machine, whose CPU time stands beside the server's. So do the "
        "frames both ways for each job, and how often agents were asked to give one back. "
        "[Performance](../docs/explanation/performance.md) tells where it goes.\n\n"
        f"{table(by_jobs)}\n\n{table(by_agents)}\n\n"
        f"![Jobs a second and memory, by jobs and agents](growth.svg)\n\n{facts}\n"
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Measure how a farm grows.")
    parser.add_argument("--quick", action="store_true", help="do less; writes no results")
    parser.add_argument(
        "--agents",
        type=lambda text: tuple(map(int, text.split(","))),
        metavar="N,…",
        help="only the farms with so many agents; writes no results",
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where the farm's data is  [default: temporary]"
    )
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else Sizes()
    if options.agents:
        sizes = sizes._replace(jobs=(), agents=options.agents)
    with tempfile.TemporaryDirectory(prefix="roost-growth-", dir=options.folder) as folder:
        by_jobs, by_agents = grow(Path(folder), sizes)
    print(*(table(points) for points in (by_jobs, by_agents) if points), sep="\n\n")
    if options.quick or options.agents:
        return 0
    PAGE.write_text(page(by_jobs, by_agents, settings(options.folder, 1, {})))
    CHART.write_text(chart(by_jobs, by_agents))
    print(f"\nWritten to {PAGE}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

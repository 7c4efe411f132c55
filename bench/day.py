"""`make day`: what a server spends on the busiest hour of ten million jobs a day.

    python bench/day.py [--minutes 5] [--jobs-a-day 10000000] [--nodes 10000] [--folder DIR]

A simulation with a clock of its own, of nodes, submissions, starts, ends and beats, on the real
core and the real record: a file of SQLite that is synchronised at each commit. While the server
works, the clock goes on by the CPU time that it took, and by what the disk needs for a commit when
nobody disturbs it, so that what arrives meanwhile is in the next commit, as it is in a server. Not
simulated are frames: they are counted, and what one costs is measured with a real server. Output of
jobs, and people, are left out. Prints what each resource was used for;
docs/explanation/performance.md tells what came of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import heapq
import itertools
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from websockets.asyncio.client import connect

from farms import farm_without_nodes, resident_bytes
from roost.core import jobspec
from roost.core.farm import Farm
from roost.core.messages import (
    AddToGroup,
    AttemptEnded,
    AttemptStarted,
    CreateGroup,
    Message,
    NodeBeat,
    NodeJoined,
    NodeReported,
    SetResource,
    StartAttempt,
    SubmitJobs,
    Tick,
)
from roost.core.records import PROGRESS_UNIT, AttemptCause, Moment, NodeFacts, NodeId
from roost.store.database import Database
from roost.wire import link
from studio import BEAT_S, FAILING, FRAMES, GROUPS, SHOTS, USERS

DAY_S = 86_400
PEAK = 1.6
"""So many times the mean of the day arrive in its busiest hour."""
CPUS = 32
WARM_S = 30.0
"""So long is simulated before it is measured; all CPUs are taken from the first moment."""
BATCH_MAX = 2_000
LATENCY_S = 0.005
SYNCS, SYNC_BYTES = 200, 65_536
START_OF_SERVER = 1_700_000_000.0
WIRE_AGENTS, WIRE_BEATS_A_SECOND, WIRE_S = 100, 1_000, 8


class Class(NamedTuple):
    """A sort of job. Jobs that tell their progress do so with every beat."""

    name: str
    share: float
    cpus: int
    mean_s: float
    tells_progress: bool


CLASSES = (
    Class("thumbnail", 0.55, 2, 20, False),
    Class("karma", 0.35, 4, 300, True),
    Class("flip_sim", 0.10, 12, 1_200, True),
)
"""67 % of 10,000 nodes of 32 CPUs by day's mean, and more than all of them in the busiest hour."""


SHARES = tuple(one.share for one in CLASSES)
WANTED = 1.3
"""So many times the CPUs that there are, by the jobs that are there at the start."""


class Spent:
    """What the server's parts took, and how often, since it was made."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self.count: dict[str, int] = {}

    def add(self, part: str, cpu_s: float, count: int = 1) -> None:
        self.cpu_s[part] = self.cpu_s.get(part, 0.0) + cpu_s
        self.count[part] = self.count.get(part, 0) + count


class World:
    """The farm's surroundings, by a clock that jumps from event to event."""

    def __init__(
        self, database: Database, sync_s: float, jobs_a_day: float, nodes: int, seed: int
    ) -> None:
        self.farm = Farm()
        self.database = database
        self.sync_s = sync_s
        self.chance = random.Random(seed)
        self.now = START_OF_SERVER
        self.spent = Spent()
        self.rate = jobs_a_day / DAY_S * PEAK
        self.nodes = [NodeId(number) for number in range(1, nodes + 1)]
        self._events: list[tuple[float, int, str, Any]] = []
        self._sequence = itertools.count()
        self._runs: dict[NodeId, dict[tuple[int, int], tuple[float, float]]] = {}
        """Of each node: when those runs began that tell their progress, and how long they take."""
        self._classes: dict[str, Class] = {one.name: one for one in CLASSES}
        self.is_warm = False

    def later(self, seconds: float, what: str, data: Any) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._sequence), what, data))

    # --- the morning ----------------------------------------------------------------------

    async def open(self) -> None:
        """Nodes, groups and licences, and as many jobs as there is room for."""
        messages: list[Message] = []
        for number in self.nodes:
            facts = NodeFacts(hostname=f"render{number:05}", installation=str(number), cpus=CPUS)
            messages.append(NodeJoined(facts, (), number))
            self.later(self.chance.random() * BEAT_S, "beat", number)
        for at, (name, share) in enumerate(GROUPS.items(), 1):
            members = tuple(node for node in self.nodes if self.chance.random() < share)
            messages += [CreateGroup(name), AddToGroup(at, members)]  # type: ignore[arg-type]
        messages.append(SetResource("houdini", len(self.nodes) * CPUS // 4))
        await self._serve(messages)
        wanted = len(self.nodes) * CPUS * WANTED
        while wanted > 0:
            # The longer they take, the more of them are met at any moment.
            spec, cpus = self._tree([one.share * one.mean_s for one in CLASSES])
            wanted -= cpus
            await self._serve([self._parsed(spec)])
        self.later(0, "submit", None)

    def _tree(self, shares: Sequence[float] = SHARES) -> tuple[dict[str, Any], int]:
        """Frames of one shot, and how many CPUs they take all together."""
        chance = self.chance
        one = chance.choices(CLASSES, shares)[0]
        frames = chance.choice(FRAMES)
        frame: dict[str, Any] = {"command": f"{one.name} $HQFRAME", "cpus": one.cpus}
        if chance.random() < 0.3:
            frame["resources"] = {"houdini": 1}
        name = f"{chance.choice(SHOTS)}_{one.name}_v{chance.randrange(1, 40):03}"
        spec = {
            "name": name,
            "submittedBy": chance.choice(USERS),
            "priority": chance.choice((0, 0, 5, 5, 8, 10)),
            "hostgroup": chance.choice(("", "", "", "linux_blades", "gpu")),
            "children": [{**frame, "name": f"{name} [{n}]"} for n in range(1, frames + 1)],
        }
        return spec, frames * one.cpus

    def _parsed(self, spec: dict[str, Any]) -> SubmitJobs:
        before = time.process_time()
        command = jobspec.parse(spec)
        self.spent.add("submissions", time.process_time() - before, len(command.jobs))
        return command

    # --- the day --------------------------------------------------------------------------

    async def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._events and (self.now < until):
            self.now = max(self.now, self._events[0][0])
            batch: list[Message] = []
            while self._events and self._events[0][0] <= self.now and len(batch) < BATCH_MAX:
                _, _, what, data = heapq.heappop(self._events)
                batch.append(self._message(what, data))
            await self._serve(batch)

    def _message(self, what: str, data: Any) -> Message:
        if what == "submit":
            spec, _ = self._tree()
            self.later(self.chance.expovariate(self.rate / len(spec["children"])), "submit", None)
            return self._parsed(spec)
        if what == "beat":
            self.later(BEAT_S, "beat", data)
            return NodeBeat(data, 20.0, -1, tuple(self._progress(data)))
        node, report = data
        if isinstance(report, AttemptEnded):
            self._runs.get(node, {}).pop((report.job, report.number), None)
        return NodeReported(node, report)

    def _progress(self, node: NodeId) -> Iterator[tuple[Any, int, int]]:
        for (job, number), (began, lasts) in self._runs.get(node, {}).items():
            share = (self.now - began) / lasts
            if 0 < share < 1:
                yield job, number, int(share * PROGRESS_UNIT)

    def _start(self, effect: StartAttempt) -> None:
        order = effect.order
        assert isinstance(order.command, str)
        one = self._classes[order.command.partition(" ")[0]]
        lasts = one.mean_s * self.chance.uniform(0.3, 1.7)
        if not self.is_warm:
            lasts *= self.chance.random()  # it began long ago
        if one.tells_progress:
            runs = self._runs.setdefault(effect.node, {})
            runs[order.job, order.number] = (self.now, lasts)
        code = 1 if self.chance.random() < FAILING else 0
        ended = AttemptEnded(
            order.job, order.number, AttemptCause.EXITED, code, ran_ms=int(lasts * 1000)
        )
        started = AttemptStarted(order.job, order.number)
        self.later(LATENCY_S, "report", (effect.node, started))
        self.later(LATENCY_S + lasts, "report", (effect.node, ended))

    # --- the server -----------------------------------------------------------------------

    async def _serve(self, batch: list[Message]) -> None:
        """One round of the server's loop; its clock goes on by what it took."""
        farm, spent = self.farm, self.spent
        took, effects = 0.0, []
        frames = len({message.node for message in batch if isinstance(message, NodeReported)})
        while True:
            at = Moment(int(self.now * 1000))
            for message in batch:
                before = time.process_time()
                effects += farm.handle(message, at).effects
                cpu = time.process_time() - before
                took += cpu
                spent.add(_PARTS[type(message)], cpu)
            before = time.process_time()
            effects += farm.handle(Tick(), at).effects
            between = time.process_time()
            changes = farm.take_changes()
            after = time.process_time()
            spent.add("placement", between - before)
            spent.add("what is to be saved", after - between)
            if changes:
                await self.database.save(changes)
                saved = time.process_time() - after
                spent.add("rows and commits", saved)
                took += saved + self.sync_s
            took += after - before
            batch = []
            if not farm.floor.has_work:
                break
        orders = [effect for effect in effects if isinstance(effect, StartAttempt)]
        spent.add("placed", 0, len(orders))
        spent.add("frames out", 0, frames + len({effect.node for effect in orders}))
        spent.add("bytes out", 0, sum(len(_encoded(effect)) for effect in orders[:1]) * len(orders))
        self.now += took
        for effect in orders:
            self._start(effect)


def _encoded(effect: StartAttempt) -> bytes:
    return link.encode([link.Start(effect.order)])


_PARTS: dict[type, str] = {
    SubmitJobs: "submissions",
    NodeBeat: "beats",
    NodeReported: "reports",
    NodeJoined: "nodes joining",
    CreateGroup: "settings",
    AddToGroup: "settings",
    SetResource: "settings",
}


# --- what is not simulated ----------------------------------------------------------------------


def cpu_of_a_frame(folder: Path) -> float:
    """Seconds of a real server for a frame with a beat, which is the smallest."""
    with farm_without_nodes(folder) as server:
        return asyncio.run(_beats(server))


async def _beats(server: Any) -> float:
    url = server.url.replace("http", "ws", 1) + link.PATH
    pause = WIRE_AGENTS / WIRE_BEATS_A_SECOND
    beats = int(WIRE_S / pause)

    async def agent(number: int) -> None:
        async with connect(url, compression=None, proxy=None) as socket:
            facts = NodeFacts(hostname=f"node{number}", installation=f"i{number}", cpus=CPUS)
            await socket.send(link.encode([link.Hello(link.PROTOCOL, facts)]))
            await socket.recv()
            joined.release()
            await begin.wait()
            await asyncio.sleep(number / WIRE_AGENTS * pause)
            for _ in range(beats):
                await socket.send(link.encode([link.Beat(20.0, -1)]))
                await asyncio.sleep(pause)

    joined, begin = asyncio.Semaphore(0), asyncio.Event()
    tasks = [asyncio.ensure_future(agent(number)) for number in range(WIRE_AGENTS)]
    for _ in tasks:
        await joined.acquire()
    before = server.cpu_s()["server"]
    begin.set()
    await asyncio.gather(*tasks)
    used: float = server.cpu_s()["server"] - before
    return used / (WIRE_AGENTS * beats)


# --- the answer ---------------------------------------------------------------------------------


async def _day(folder: Path, options: argparse.Namespace, frame_s: float) -> str:
    path = folder / "day.db"
    database = Database(f"sqlite:///{path}")
    await database.migrate()
    empty = resident_bytes(_SELF)
    sync_s = _sync_s(folder)
    world = World(database, sync_s, options.jobs_a_day, options.nodes, options.seed)
    await world.open()
    await world.run(WARM_S)
    world.is_warm = True
    world.spent = spent = Spent()
    began, written, size = world.now, _written_bytes(), _size(path)
    await world.run(options.minutes * 60)
    seconds = world.now - began
    live, memory = len(world.farm.jobs), resident_bytes(_SELF) - empty
    written, size = _written_bytes() - written, _size(path) - size
    running, waiting = len(world.farm.attempts), len(world.farm.floor.waiting)
    kinds = len(world.farm.floor.queue)
    await database.close()

    jobs, commits = spent.count["placed"], spent.count["rows and commits"]
    per_day = options.jobs_a_day / (options.jobs_a_day / DAY_S * PEAK * seconds)
    lines = [
        f"{options.nodes:,} nodes of {CPUS} CPUs, {options.jobs_a_day:,.0f} jobs a day: "
        f"{seconds / 60:.0f} minutes of the busiest hour.",
        f"{jobs / seconds:,.0f} jobs/s started, {running:,} run at the end, {waiting:,} wait "
        f"in {kinds} kinds, {live:,} are in memory.",
        "",
    ]
    rows, total = _table(spent, frame_s, seconds)
    lines += rows
    lines += [
        f"| all of it, in one interpreter | | | {total:.1%} |",
        "",
        f"* The interpreter is full at {options.jobs_a_day / total / 1e6:,.0f} million jobs a day "
        "on as many more nodes.",
        f"* Commits: {commits / seconds:,.0f} a second, of {written / commits / 1e3:,.0f} kB. At "
        f"{sync_s * 1e3:.2f} ms each the disk takes {commits * sync_s / seconds:.1%} of the time.",
        f"* Written: {written / seconds / 1e6:,.1f} MB/s, {written * per_day / 1e9:,.0f} GB a day.",
        f"* The database grows by {size / max(jobs, 1):,.0f} bytes a job, "
        f"{size * per_day / 1e9:,.1f} GB a day.",
        f"* Memory: {memory / 1e6:,.0f} MB, {memory / max(live, 1):,.0f} bytes a live job, the "
        "simulated nodes among them.",
        f"* Orders: {spent.count['bytes out'] / seconds / 1e6:,.2f} MB/s over the link.",
    ]
    return "\n".join(lines)


def _table(spent: Spent, frame_s: float, seconds: float) -> tuple[list[str], float]:
    """What each part took, the dearest first, and the share of one CPU that all took together."""
    frames = {
        "frames from agents": spent.count["beats"] + spent.count["reports"],
        "frames to agents": spent.count["frames out"],
    }
    parts = {**spent.cpu_s, **{name: count * frame_s for name, count in frames.items()}}
    counts = {**spent.count, **frames, "placement": spent.count["placed"]}
    for name in ("placed", "frames out", "bytes out"):
        parts.pop(name, None)
    rows = [
        "| what | a second | CPU µs each | of one CPU |",
        "|------|---------:|------------:|-----------:|",
    ]
    for name, cpu in sorted(parts.items(), key=lambda part: -part[1]):
        each = cpu / max(counts[name], 1) * 1e6
        rows.append(
            f"| {name} | {counts[name] / seconds:,.0f} | {each:,.0f} | {cpu / seconds:.1%} |"
        )
    return rows, sum(parts.values()) / seconds


_SELF = os.getpid()


def _sync_s(folder: Path) -> float:
    """For a commit's worth of data; the tenth percentile, as others use the disk too."""
    took = []
    with (folder / "probe").open("wb", buffering=0) as probe:
        for _ in range(SYNCS):
            probe.write(bytes(SYNC_BYTES))
            before = time.perf_counter()
            os.fdatasync(probe.fileno())
            took.append(time.perf_counter() - before)
    return statistics.quantiles(took, n=10)[0]


def _written_bytes() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


def _size(path: Path) -> int:
    """Bytes in use, wherever they are: in the file or still in its log."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        page, count, free = (
            database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count")
        )
    return int(page * (count - free))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Simulate the busiest hour of a very large farm.")
    parser.add_argument("--minutes", type=float, default=5, help="of that hour  [default: 5]")
    parser.add_argument("--jobs-a-day", type=float, default=10_000_000, metavar="N")
    parser.add_argument("--nodes", type=int, default=10_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where the database is  [default: temporary]"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="roost-day-", dir=options.folder) as folder:
        frame_s = cpu_of_a_frame(Path(folder))
        print(asyncio.run(_day(Path(folder), options, frame_s)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

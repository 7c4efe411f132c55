"""How Roost grows: many runnable jobs, many nodes, many live jobs at a start, many finished ones.

A placement is measured in the core alone, as the bench's other rows have the rest. Agents are real
connections that beat and run nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import create_engine, select
from websockets.asyncio.client import ClientConnection, connect

from calls import Caller, body_of
from farms import farm_without_nodes, server_on
from report import Row
from roost.core import jobspec
from roost.core.farm import Farm
from roost.core.messages import NodeJoined, StartAttempt, Tick
from roost.core.records import NodeFacts
from roost.store import schema
from roost.wire import link

KINDS = 50
BEAT_S = 10.0
PAGE_BEAT_S = 2.0


def placements(folder: Path, sizes: Any, repetitions: int) -> list[Row]:
    """One placement with few and with many runnable jobs, on few and on many nodes."""
    small: list[float] = []
    few: list[float] = []
    many: list[float] = []
    with_changes: list[float] = []
    for _ in range(repetitions):
        small.append(_placements_a_second(sizes.many, sizes.nodes // 10)[0])
        few.append(_placements_a_second(sizes.few, sizes.nodes)[0])
        rate, rate_with_changes = _placements_a_second(sizes.many, sizes.nodes)
        many.append(rate)
        with_changes.append(rate_with_changes)
    name = f"placements, {KINDS} kinds of jobs"
    return [
        Row("k", f"{name}, {sizes.nodes // 10:,} nodes, {sizes.many:,} runnable", "jobs/s", small),
        Row("k", f"{name}, {sizes.nodes:,} nodes, {sizes.few:,} runnable", "jobs/s", few),
        Row("k", f"the same, {sizes.many:,} runnable, beside the few", "jobs/s", many, few),
        Row("k", "the same, with what is to be saved taken out", "jobs/s", with_changes),
    ]


def _placements_a_second(jobs: int, nodes: int) -> tuple[float, float]:
    """By the time of the CPU, without and with taking out the changes."""
    farm = Farm()
    kinds = [
        {"conditions": [{"name": "hostname", "op": "!=", "value": f"other{n}"}]}
        for n in range(KINDS)
    ]
    children = [{"name": f"job {n}", "command": "x", **kinds[n % KINDS]} for n in range(jobs)]
    farm.handle(jobspec.parse({"name": "tree", "children": children}), 1_000)
    farm.take_changes()
    for number in range(nodes):
        facts = NodeFacts(hostname=f"node{number}", installation="x", cpus=2)
        farm.handle(NodeJoined(facts, (), number + 1), 1_000)
    farm.take_changes()
    placed, placing, taking = 0, 0.0, 0.0
    while farm.floor.has_work:
        before = time.process_time()
        effects = farm.handle(Tick(), 1_000).effects
        between = time.process_time()
        farm.take_changes()
        placing += between - before
        taking += time.process_time() - between
        placed += sum(isinstance(effect, StartAttempt) for effect in effects)
    return placed / placing, placed / (placing + taking)


def crowd(folder: Path, sizes: Any, repetitions: int) -> list[Row]:
    """What many idle agents, and people who look at a page, cost the server, in CPUs."""
    with farm_without_nodes(folder) as server:
        spent = asyncio.run(_idle_crowd(server, sizes.agents, sizes.followers, sizes.crowd_s))
    name = f"CPUs of a server with {sizes.agents:,} idle agents and {sizes.followers} live pages"
    return [Row("l", name, "CPUs", [spent])]


async def _idle_crowd(server: Any, agents: int, followers: int, watch_s: float) -> float:
    url = server.url.replace("http", "ws", 1) + link.PATH

    async def beat(number: int, joined: asyncio.Semaphore) -> None:
        async with joined:
            socket = await connect(url, compression=None, proxy=None)
            facts = NodeFacts(hostname=f"node{number}", installation=f"i{number}", cpus=8)
            await socket.send(link.encode([link.Hello(link.PROTOCOL, facts)]))
            await socket.recv()
        beating.append(asyncio.ensure_future(_beat(socket, number / agents)))

    beating: list[asyncio.Future[None]] = []
    joined = asyncio.Semaphore(50)
    await asyncio.gather(*(beat(number, joined) for number in range(agents)))
    async with httpx2.AsyncClient(base_url=server.url, timeout=None) as http:
        beating += [asyncio.ensure_future(_look(http)) for _ in range(followers)]
        await asyncio.sleep(2 * PAGE_BEAT_S)
        return await _spent(server, beating, watch_s)


async def _spent(server: Any, beating: list[asyncio.Future[None]], watch_s: float) -> float:
    before = server.cpu_s()["server"]
    await asyncio.sleep(watch_s)
    spent: float = (server.cpu_s()["server"] - before) / watch_s
    for task in beating:
        task.cancel()
    await asyncio.gather(*beating, return_exceptions=True)
    return spent


async def _look(http: httpx2.AsyncClient) -> None:
    """As the page of all jobs does while it is shown."""
    async with http.stream("GET", "/live?newest=0") as events:
        async for _ in events.aiter_bytes():
            pass


async def _beat(socket: ClientConnection, phase: float) -> None:
    async with socket:
        await asyncio.sleep(phase * BEAT_S)
        while True:
            await socket.send(link.encode([link.Beat(0.5, 3)]))
            await asyncio.sleep(BEAT_S)


def starts(folder: Path, sizes: Any, repetitions: int) -> list[Row]:
    """A server's start with many live jobs, beside reading their rows with SQLAlchemy Core."""
    ours: list[float] = []
    limits: list[float] = []
    with farm_without_nodes(folder) as server:
        data = server.data
        for _ in range(sizes.live // 10_000):
            children = [{"name": f"job {n}", "command": "true"} for n in range(9_999)]
            server.newjob({"name": "tree", "children": children})
    for _ in range(repetitions):
        limits.append(_read_rows(data / "farm" / "roost.db"))
        before = time.perf_counter()
        with server_on(data):
            ours.append(time.perf_counter() - before)
    name = f"start of a server with {sizes.live:,} live jobs, beside reading their rows"
    return [Row("m", name, "s", ours, limits, False)]


def _read_rows(database: Path) -> float:
    engine = create_engine(f"sqlite:///{database}")
    before = time.perf_counter()
    with engine.connect() as connection:
        for table in (schema.jobs, schema.job_specs, schema.job_edges, schema.attempts):
            connection.execute(select(table)).fetchall()
    took = time.perf_counter() - before
    engine.dispose()
    return took


FEW = 1_000


def history(folder: Path, sizes: Any, repetitions: int) -> list[Row]:
    """What is asked of a farm with very many finished jobs, in turns with one that has few. Both
    servers share a CPU: two of a virtual machine can differ by half, for minutes."""
    cpus = os.sched_getaffinity(0)
    with contextlib.ExitStack() as farms:
        farms.callback(os.sched_setaffinity, 0, cpus)
        callers = []
        for finished in (FEW, sizes.finished):
            with farm_without_nodes(folder) as server:
                server.newjob({"name": "live", "command": "true"})
            _fill(server.data / "farm" / "roost.db", finished)
            os.sched_setaffinity(0, {max(cpus)})
            callers.append(Caller(farms.enter_context(server_on(server.data)).url))
            os.sched_setaffinity(0, cpus)
        os.sched_setaffinity(0, cpus - {max(cpus)} or cpus)
        few, many = callers
        rows = []
        for name, request in _questions().items():
            by_id = name.endswith("per id")
            rounds = 1 if by_id else ROUNDS
            medians: dict[Caller, list[float]] = {few: [], many: []}
            for _ in range(repetitions):
                times: dict[Caller, list[float]] = {few: [], many: []}
                for number in range(-WARMING_UP, rounds):
                    for caller, finished in ((few, FEW), (many, sizes.finished)):
                        took = _answer_ms(caller, request(caller, FIRST_FINISHED + finished - 1))
                        if number >= 0:
                            times[caller].append(took / finished if by_id else took)
                for caller, measured in times.items():
                    medians[caller].append(statistics.median(measured))
            label = f"{name} with {sizes.finished:,} finished jobs, beside {FEW:,}"
            rows.append(Row("n", label, "ms", medians[many], medians[few], False))
    return rows


ROUNDS = 60
WARMING_UP = 3
FIRST_FINISHED = 100
"""The ids of finished jobs go on from here."""
LISTINGS = (
    "/api/v1/jobs?limit=100",
    "/api/v1/jobs?limit=100&status=failed",
    "/api/v1/jobs?limit=100&submitted_by=user3",
    "/api/v1/jobs?limit=100&roots=true",
    "/api/v1/nodes",
    "/healthz",
    "/metrics",
    "/",
    "/jobs",
    "/jobs?status=failed",
    "/jobs?status=failed&within=24h",
    "/jobs?within=1h",
    "/jobs?by=user3",
    "/jobs?every=1",
    "/jobs?sort=ended",
    "/jobs?sort=status",
    "/jobs/1",
    "/nodes",
    "/nodes/1",
    "/groups",
    "/resources",
    "/notes",
    "/activity",
    "/statistics",
    "/drawings/nodes/1/timeline",
)
CALLS: dict[str, Callable[[int], tuple[object, ...]]] = {
    "getJob": lambda newest: (newest,),
    "getJobs": lambda newest: ([*range(newest - 99, newest + 1)],),
    "getinfo": lambda newest: (newest,),
    "getstatus": lambda newest: (newest,),
    "getJobOutput": lambda newest: (newest, 1_000),
    "getPermittedClientsList": lambda newest: (newest,),
    "getRunningJobIds": lambda _: (),
    "getUnfinishedRootJobIds": lambda _: (),
    "getNumWaitingJobs": lambda _: (),
    "getClients": lambda _: (),
    "getClient": lambda _: (1,),
    "getClientErrors": lambda _: (1,),
    "getJobHistory": lambda _: (1, 100),
    "getJobIdsAssignedToClient": lambda _: (1,),
    "getClientGroups": lambda _: (),
    "getResources": lambda _: (),
    "getNoteThreadIds": lambda _: (),
    "getLatestNotes": lambda _: (),
    "getNoteThreads": lambda _: (),
    "getServerErrors": lambda _: (),
    "getFinishedRootJobIds": lambda _: (),
    "getJobIdsByStatus": lambda _: (["failed", "succeeded"],),
}
"""The methods that read what a farm has, and what each is asked with the newest job."""
PER_ID = ("getFinishedRootJobIds", "getJobIdsByStatus")
"""Their answers name all finished jobs."""


def _questions() -> dict[str, Callable[[Caller, int], bytes]]:
    """A request for each listing, page and call, by its name."""
    asked: dict[str, Callable[[Caller, int], bytes]] = {
        f"GET {path}": lambda caller, _, path=path: caller.get(path) for path in LISTINGS
    }
    for method, arguments in CALLS.items():
        name = f"{method}, per id" if method in PER_ID else method
        asked[name] = lambda caller, newest, method=method, arguments=arguments: caller.request(
            body_of(method, *arguments(newest))
        )
    return asked


def _fill(database: Path, finished: int) -> None:
    """So many finished root jobs that ran on one node, long ago; one in five failed, of ten
    submitters: a page of any listing is full in the smaller farm too."""
    connection = sqlite3.connect(database)
    names = [row[1] for row in connection.execute("PRAGMA table_info(jobs)")]
    made = {
        "id": "n",
        "name": "'old ' || n",
        "submitted_by": "'user' || (n % 10)",
        "is_root": "1",
        "status": "CASE WHEN n % 5 = 0 THEN 'failed' ELSE 'succeeded' END",
        "ui_status": "CASE WHEN n % 5 = 0 THEN 'failed' ELSE 'succeeded' END",
        "queued_at": "n",
        "started_at": "1000 + n",
        "ended_at": "2000 + n",
        "attempt": "1",
        "nodes": "'[1]'",
        "progress": "1000000",
        "overall_progress": "1000000",
        "tasks_total": "1",
        "tasks_done": "1",
        "runnable_at": "NULL",
    }
    columns = ", ".join(made.get(name, name) for name in names)
    numbers = (
        "WITH RECURSIVE numbers(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers "
        "WHERE n < :last)"
    )
    span = {"first": FIRST_FINISHED, "last": FIRST_FINISHED + finished - 1}
    with connection:
        connection.execute(
            f"{numbers} INSERT INTO jobs SELECT {columns} FROM numbers, "
            "(SELECT * FROM jobs WHERE id = 1) AS one",
            span,
        )
        connection.execute(
            f"{numbers} INSERT INTO job_specs SELECT n, spec FROM numbers, "
            "(SELECT spec FROM job_specs WHERE job = 1)",
            span,
        )
        connection.execute(
            f"{numbers} INSERT INTO attempts (job, number, nodes, assigned_at, purpose, "
            "started_at, ended_at, stopping, cause, exit_code, text, node) SELECT n, 1, '[1]', "
            "1000 + n, 'command', 1000 + n, 2000 + n, 0, 'exited', n % 5 = 0, '', 1 FROM numbers",
            span,
        )
        connection.execute(
            "INSERT INTO nodes (id, hostname, name, facts, joined_at, last_beat_at, active, "
            "disabled, leaving, description, load, idle_minutes) VALUES (1, 'node1', '', "
            """'{"hostname":"node1"}', 1000, 1000, 0, 0, 0, '', 0.0, -1)"""
        )
        connection.execute(
            "INSERT OR REPLACE INTO counters VALUES ('next_job_id', ?), ('next_node_id', 2)",
            (FIRST_FINISHED + finished,),
        )
    connection.close()


def _answer_ms(caller: Caller, request: bytes) -> float:
    before = time.perf_counter()
    caller.send(request)
    return (time.perf_counter() - before) * 1000

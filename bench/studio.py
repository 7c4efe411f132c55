"""A studio that is not there: machines on real sockets that only say that they work.

    python bench/studio.py --server URL [--nodes 500] [--jobs 100000] [--events 50] [--seed 1]

Submits trees of jobs with names, users, priorities and resources as a studio has them, joins as
so many machines, lets a part of the jobs end at once, and from then on has about so many events a
second until it is stopped. It says `ready` when the farm looks like a working day. What it does
is chosen under a seed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import sys
from typing import Any

import httpx2
from websockets.asyncio.client import ClientConnection, connect

from roost.core.messages import (
    AttemptEnded,
    AttemptPaused,
    AttemptReport,
    AttemptResumed,
    AttemptStarted,
)
from roost.core.records import PROGRESS_UNIT, AttemptCause, NodeFacts
from roost.remote import Remote
from roost.wire import link

SHOTS = ("sh010", "sh020", "sh030", "sh110", "sh200", "sq04", "sq07")
_TASKS = (
    "fx_smoke lighting_beauty karma_xpu hair_groom comp_precomp crowd_sim flip_tank "
    "pyro_sourcing denoise turntable cloth_cache usd_export"
)
USERS = ("ana", "mika", "joel", "ines", "tomas", "farm", "lena", "raj")
GROUPS = {"gpu": 0.3, "linux_blades": 0.7, "workstations": 0.15}
FAILING = 0.02
CPUS = 4
FRAMES = (24, 48, 100, 120, 240)
DONE_AT_ONCE = 0.45
"""So much of the work is over before the day begins."""
BEAT_S = 10.0
STARTS_AT_ONCE = 50


class Clock:
    """How long runs take: nothing while the morning is made up, then as is asked for."""

    def __init__(self, random_: random.Random, to_end: float, mean_s: float) -> None:
        self.random = random_
        self.mean_s = 0.0
        self.mean_s_by_day = mean_s
        self.to_end = to_end
        """So many runs end before the day begins."""
        self.ended = asyncio.Event()

    def count_end(self) -> None:
        self.to_end -= 1
        if self.to_end <= 0:
            self.mean_s = self.mean_s_by_day
            self.ended.set()

    def run_s(self) -> float:
        return self.random.uniform(0.3, 1.7) * self.mean_s


class Machine:
    """One node of the farm."""

    def __init__(self, number: int, url: str, clock: Clock) -> None:
        self.name = f"render{number:03}"
        self.url = url.replace("http", "ws", 1) + link.PATH
        self.clock = clock
        self.memory_kb = clock.random.choice((64, 128, 128, 256)) * 1_048_576
        self.id = 0
        self.socket: ClientConnection | None = None
        self.numbers = itertools.count(1)
        self.runs: dict[tuple[int, int], asyncio.TimerHandle | None] = {}
        self.began: dict[tuple[int, int], tuple[float, float]] = {}

    async def join(self) -> None:
        self.socket = await connect(self.url, compression=None, proxy=None)
        facts = NodeFacts(
            hostname=self.name,
            installation=f"studio-{self.name}",
            ip=f"10.1.{self.clock.random.randrange(8)}.{self.clock.random.randrange(1, 255)}",
            cpus=CPUS,
            cpu_speed_mhz=3200,
            memory_kb=self.memory_kb,
        )
        await self.socket.send(link.encode([link.Hello(link.PROTOCOL, facts)]))
        for message in link.decode_from_server(await self.received()):
            if isinstance(message, link.Welcome):
                self.id = message.node

    async def received(self) -> bytes:
        assert self.socket is not None
        frame = await self.socket.recv()
        assert isinstance(frame, bytes)
        return frame

    async def work(self) -> None:
        while True:
            for message in link.decode_from_server(await self.received()):
                if isinstance(message, link.Start):
                    self.start(message.order)
                elif isinstance(message, link.Signal):
                    self.signal(message)

    async def beat(self, phase: float) -> None:
        assert self.socket is not None
        loop = asyncio.get_running_loop()
        await asyncio.sleep(phase * BEAT_S)
        while True:
            progress = tuple(
                (job, number, min(int((loop.time() - at) / lasts * PROGRESS_UNIT), 990_000))
                for (job, number), (at, lasts) in self.began.items()
                if lasts > 0
            )
            load = len(self.runs) * self.clock.random.uniform(0.8, 1.2)
            await self.socket.send(link.encode([link.Beat(load, 3, progress)]))
            await asyncio.sleep(BEAT_S)

    def start(self, order: Any) -> None:
        key = (order.job, order.number)
        if key in self.runs:
            return
        lasts = self.clock.run_s()
        loop = asyncio.get_running_loop()
        failing = self.clock.random.random() < FAILING
        self.began[key] = (loop.time(), lasts)
        printed = f"{order.name}: loading scene\n" + (
            "ERROR: could not get a licence for Houdini\n" if failing else "saved 3 images\n"
        )
        self.say(link.Output(order.job, order.number, 0, printed.encode()))
        self.report(AttemptStarted(order.job, order.number))
        if lasts:
            self.runs[key] = loop.call_later(lasts, self.end, key, 3 if failing else 0)
        else:
            self.runs[key] = None
            self.end(key, 3 if failing else 0)

    def end(
        self, key: tuple[int, int], code: int | None, cause: AttemptCause = AttemptCause.EXITED
    ) -> None:
        timer = self.runs.pop(key, None)
        self.began.pop(key, None)
        if timer is not None:
            timer.cancel()
        self.clock.count_end()
        self.report(AttemptEnded(*key, cause, code, ran_ms=1000, progress=PROGRESS_UNIT))

    def signal(self, signal: link.Signal) -> None:
        key = (signal.job, signal.number)
        if key not in self.runs:
            return
        match signal.action:
            case "cancel" | "kill":
                self.end(key, None, AttemptCause.CANCELLED)
            case "eject" | "recall":
                self.end(key, None, AttemptCause.EJECTED)
            case "pause":
                self.report(AttemptPaused(*key))
            case "resume":
                self.report(AttemptResumed(*key))

    def report(self, report: AttemptReport) -> None:
        self.say(link.Reports(next(self.numbers), (report,)))

    def say(self, message: link.FromAgent) -> None:
        assert self.socket is not None
        task = asyncio.ensure_future(self.socket.send(link.encode([message])))
        _sending.add(task)
        task.add_done_callback(_sending.discard)


_sending: set[asyncio.Future[None]] = set()


def trees(jobs: int, chance: random.Random) -> list[dict[str, Any]]:
    """So many jobs, as trees of frames."""
    found: list[dict[str, Any]] = []
    total = 0
    while total < jobs:
        frames = min(chance.choice(FRAMES), max(jobs - total - 1, 1))
        first = chance.choice((1, 1001))
        name = (
            f"{chance.choice(SHOTS)}_{chance.choice(_TASKS.split())}_v{chance.randrange(1, 40):03}"
        )
        frame: dict[str, Any] = {"command": "render", "cpus": chance.choice((1, 1, 1, 2))}
        if chance.random() < 0.3:
            frame["resources"] = {"houdini": 1}
        found.append(
            {
                "name": name,
                "description": f"frames {first}-{first + frames - 1}",
                "submittedBy": chance.choice(USERS),
                "priority": chance.choice((0, 0, 5, 5, 8, 10)),
                "hostgroup": chance.choice(("", "", "linux_blades", "gpu")),
                "command": "publish",
                "children": [
                    {**frame, "name": f"{name} [{number}]"}
                    for number in range(first, first + frames)
                ],
            }
        )
        total += frames + 1
    return found


async def day(options: argparse.Namespace) -> None:
    """Make the farm look like a working day, then go on until cancelled."""
    # Each run is two events: it begins and it ends. By day all CPUs are busy.
    mean_s = options.nodes * CPUS / 1.25 / (options.events / 2)
    clock = Clock(random.Random(options.seed), DONE_AT_ONCE * options.jobs, mean_s)
    machines = [Machine(number, options.server, clock) for number in range(1, options.nodes + 1)]
    joining = asyncio.Semaphore(STARTS_AT_ONCE)

    async def join(machine: Machine) -> None:
        async with joining:
            await machine.join()

    await asyncio.gather(*map(join, machines))
    await asyncio.to_thread(_furnish, options, machines, clock.random)
    tasks = [asyncio.ensure_future(machine.work()) for machine in machines]
    tasks += [
        asyncio.ensure_future(machine.beat(number / len(machines)))
        for number, machine in enumerate(machines)
    ]
    specs = trees(options.jobs, clock.random)
    async with httpx2.AsyncClient(base_url=options.server, timeout=120) as http:
        for at in range(0, len(specs), 20):
            answer = await http.post("/api/v1/jobs", json=specs[at : at + 20])
            answer.raise_for_status()
    await clock.ended.wait()
    print("ready", flush=True)
    await asyncio.gather(*tasks)


def _furnish(options: argparse.Namespace, machines: list[Machine], chance: random.Random) -> None:
    """Groups, licences, notes, and a few machines that are out of order."""
    with Remote(options.server) as remote:
        for name, share in GROUPS.items():
            group = remote.create_group(name)
            members = [machine.id for machine in machines if chance.random() < share]
            remote.add_to_group(group, members)
        remote.set_resource("houdini", max(options.nodes, 1), per_machine=False)
        for machine in machines[-max(options.nodes // 60, 1) :]:
            remote.set_node_disabled(machine.id, True)
            remote.add_note("Fan is loud, hardware will look at it on Monday.", node=machine.id)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--events", type=float, default=50, help="a second")
    parser.add_argument("--seed", type=int, default=1)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(day(parser.parse_args(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

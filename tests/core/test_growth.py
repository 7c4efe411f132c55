"""What grows with a farm, and how fast: four times as much costs about four times the steps.

A step is a line of the core that is run, so that the same is counted on any machine however busy
it is. What is looked at is what one user or one machine can ask of a server at once, in the shapes
that users have: while it is done, the server answers nobody.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from roost import core
from roost.core import messages as m
from roost.core.explanation import explain
from roost.core.farm import Farm
from roost.core.invariants import check
from roost.core.jobspec import parse
from roost.core.records import (
    Attempt,
    AttemptCause,
    AttemptKey,
    Job,
    JobId,
    Moment,
    NodeFacts,
    NodeId,
)
from roost.core.state import Rules

CORE = str(Path(next(iter(core.__path__))))
FEW, MANY = 24, 96
GROWTH_MAX = 5.5
"""So much more may `MANY` cost than `FEW`: a little more than in proportion, for heaps and sorting,
and far from the square."""
SMALL = 600
"""What costs fewer steps than this does not matter."""

Specs = list[dict[str, Any]]
Steps = dict[str, int]


class Growing:
    """A farm, and how many steps each thing took that was done to it."""

    def __init__(self, **rules: Any) -> None:
        self.farm = Farm(Rules(**rules))
        self.now = Moment(1_000_000)
        self.steps: Steps = {}
        self.jobs: dict[JobId, Job] = {}
        self.edges: list[tuple[JobId, JobId]] = []
        self.live: dict[AttemptKey, Attempt] = {}

    def _count(self, name: str, action: Callable[[], Any]) -> Any:
        count = 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal count
            if not frame.f_code.co_filename.startswith(CORE):
                return None
            count += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            return action()
        finally:
            sys.settrace(before)
            self.steps[name] = self.steps.get(name, 0) + count

    def does(self, name: str, *messages: m.Message) -> Any:
        """Handle these in a batch each, and place what can be placed. Replies to the last one."""
        reply: object = None
        for message in messages:
            reply = self._count(name, lambda one=message: self.farm.handle(one, self.now)).reply
            self._save(name)
        while self.farm.floor.has_work:
            self._count(f"{name}: place", lambda: self.farm.handle(m.Tick(), self.now))
            self._save(f"{name}: place")
        return reply

    def _save(self, name: str) -> None:
        changes: m.Changes = self._count(f"{name}: save", self.farm.take_changes)
        self.jobs.update((job.id, job) for job, _ in (*changes.submitted, *changes.jobs))
        self.edges += changes.edges
        for attempt in changes.attempts:
            self.live[attempt.key] = attempt
            if attempt.ended_at is not None:
                del self.live[attempt.key]

    def nodes(self, count: int, cpus: int = 1) -> list[NodeId]:
        facts = [NodeFacts(f"n{one}", installation=f"n{one}", cpus=cpus) for one in range(count)]
        return [self.does("join", m.NodeJoined(one)) for one in facts]

    def submits(self, specs: Specs | dict[str, Any], name: str = "submit") -> list[JobId]:
        ids: list[JobId] = self.does(name, self._count("parse", lambda: parse(specs)))
        return ids

    def ends(self, name: str, exit_code: int = 0, cause: Any = AttemptCause.EXITED) -> None:
        """All that runs, one after another."""
        self.does(
            name,
            *(
                m.NodeReported(one.nodes[0], m.AttemptEnded(*one.key, cause, exit_code))
                for one in list(self.live.values())
            ),
        )

    def takes_back(self) -> None:
        """What has left memory."""
        if not self.farm.jobs:
            children: dict[JobId, list[JobId]] = {}
            parents: dict[JobId, tuple[JobId, ...]] = {}
            for parent, child in self.edges:
                children.setdefault(parent, []).append(child)
                parents[child] = (*parents.get(child, ()), parent)
            several = {job: above for job, above in parents.items() if len(above) > 1}
            records = m.LiveRecords(list(self.jobs.values()), children, several)
            self._count("take back", lambda: self.farm.admit(records))


def compared(story: Callable[[int], Growing]) -> dict[str, tuple[int, int]]:
    """What took too many steps more with `MANY` than with `FEW`."""
    few, farm = story(FEW).steps, story(MANY)
    check(farm.farm)
    return {
        name: (few.get(name, 0), steps)
        for name, steps in farm.steps.items()
        if steps > SMALL and steps > GROWTH_MAX * few.get(name, 0)
    }


# --- shapes of trees ----------------------------------------------------------------------------

LEAF = {"name": "leaf", "command": "x"}


def box(*children: dict[str, Any]) -> Specs:
    return [{"name": "box", "children": list(children)}]


def waiting_for(number: int, *others: object) -> dict[str, Any]:
    stubs = {"stubId": str(number), "childStubIds": [str(one) for one in others]}
    return {"name": f"frame {number}", "command": "x", **stubs}


def frames(count: int) -> Specs:
    return box(*(LEAF for _ in range(count)))


def chain(count: int) -> Specs:
    """Each frame waits for the one before it, as in a simulation."""
    return [waiting_for(0), *(waiting_for(n, n - 1) for n in range(1, count))]


def on_one_floor(count: int) -> Specs:
    """All frames wait for one preparation."""
    first = {"name": "prepare", "command": "x", "stubId": "prepare"}
    return [*(waiting_for(n, "prepare") for n in range(count)), first]


def diamonds(count: int) -> Specs:
    """Every third frame waits for two that wait for the next such one."""
    steps = {0: (1, 2), 1: (2,), 2: (1,)}
    return [
        waiting_for(n, *(n + step for step in steps[n % 3] if n + step < count))
        for n in range(count)
    ]


def slices(count: int) -> Specs:
    """Each slice of a simulation waits for all four of the frame before."""
    return [
        waiting_for(n, *(range(n - n % 4 - 4, n - n % 4) if n >= 4 else ())) for n in range(count)
    ]


def ladder(count: int) -> Specs:
    """Each frame is simulated after the one before it, and then rendered."""
    return [waiting_for(n, *([n - 1] if n % 2 else [n - 2] if n > 1 else [])) for n in range(count)]


def crossing(count: int) -> Specs:
    """Half of the frames wait for one job, and that waits for the other half."""
    middle = waiting_for(0, *range(1, count, 2))
    return [middle, *(waiting_for(n, *(() if n % 2 else (0,))) for n in range(1, count))]


def boxes(count: int) -> Specs:
    """A box in a box in a box, with one frame in each."""
    found = []
    for n in range(count):
        inner = [f"box {n + 1}"] if n + 1 < count else []
        found.append({"name": "box", "stubId": f"box {n}", "childStubIds": [str(n), *inner]})
    return [*found, *(waiting_for(n) for n in range(count))]


def cleanup(count: int) -> Specs:
    """All slices are in a box, and a job that waits for all of them is there too."""
    top = waiting_for(count, *range(count))
    whole = {"name": "box", "stubId": "box", "childStubIds": [str(n) for n in range(count + 1)]}
    return [whole, top, *(waiting_for(n) for n in range(count))]


SHAPES: dict[str, Callable[[int], Specs]] = {
    "frames": frames,
    "a chain from its first frame": chain,
    "a chain from its last frame": lambda count: chain(count)[::-1],
    "a chain in a box": lambda count: box(*chain(count)),
    "a chain in a box from its last frame": lambda count: box(*chain(count)[::-1]),
    "frames with one preparation": on_one_floor,
    "frames with one preparation in a box": lambda count: box(*on_one_floor(count)),
    "diamonds": diamonds,
    "diamonds in a box": lambda count: box(*diamonds(count)),
    "slices": slices,
    "slices in a box": lambda count: box(*slices(count)),
    "a ladder": ladder,
    "many before and many after one": crossing,
    "boxes in boxes": boxes,
    "slices with a cleanup": cleanup,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_four_times_as_many_jobs_cost_four_times_as_much_to_act_upon(shape: str) -> None:
    def story(count: int) -> Growing:
        farm = Growing()
        farm.nodes(2, cpus=count)
        ids = tuple(farm.submits(SHAPES[shape](count)))
        farm.does("explain", m.Tick())
        farm._count("explain", lambda: explain(farm.farm, ids))
        tops = tuple(job for job in ids if job not in farm.farm.tree.parents)
        for named, those in (("all", ids), ("tops", tops)):
            farm.does(f"pause {named}", m.PauseJobs(those))
            farm.does(f"resume {named}", m.ResumeJobs(those))
            farm.does(f"priority of {named}", m.SetPriority(those, len(named)))
            farm.does(f"eject {named}", m.EjectJobs(those))
            farm.does(f"cancel {named}", m.CancelJobs(those))
            farm.ends("end", cause=AttemptCause.CANCELLED)
            farm.takes_back()
            farm.does(f"reschedule {named}", m.RescheduleJobs(those))
        farm.does("cancel", m.CancelJobs(ids))
        farm.ends("end", cause=AttemptCause.CANCELLED)
        farm.takes_back()
        farm.does("delete tops", m.DeleteJobs(tops[1:]))
        if farm.farm.jobs:
            farm.does("delete all", m.DeleteJobs(ids[:1]))
        return farm

    assert compared(story) == {}


# --- other crowds -------------------------------------------------------------------------------


def many_parents_of_a_job_that_stays(count: int) -> Growing:
    farm = Growing()
    *parents, child = farm.submits(on_one_floor(count))
    farm.does("cancel", m.CancelJobs((*parents, child)))
    farm.takes_back()
    farm.does("delete", m.DeleteJobs(tuple(parents[:-1])))
    assert set(farm.farm.jobs) == set()
    return farm


def roots_that_share_a_job_and_expire(count: int) -> Growing:
    farm = Growing(expire_after_ms=1)
    ids = tuple(farm.submits(on_one_floor(count)))
    farm.does("cancel", m.CancelJobs(ids))
    farm.takes_back()
    farm.now = Moment(farm.now + 10)
    farm.does("expire", m.ExpireJobs(ids))
    return farm


def nodes_on_which_all_fails(count: int) -> Growing:
    farm = Growing(max_failures_per_client=1)
    farm.nodes(count)
    farm.submits(frames(4 * count))
    for _ in range(2):
        farm.ends("fail", exit_code=1)
    assert not farm.live
    return farm


def jobs_that_want_two_nodes_each(count: int) -> Growing:
    farm = Growing()
    farm.nodes(2 * count)
    farm.submits(box(*({**LEAF, "minHosts": 2, "maxHosts": 2} for _ in range(2 * count))))
    assert len(farm.live) == count
    farm.ends("end")
    assert len(farm.live) == count
    return farm


def jobs_that_want_as_many_nodes_as_there_are(count: int) -> Growing:
    farm = Growing()
    farm.nodes(count)
    farm.submits(box(*({**LEAF, "maxHosts": 64} for _ in range(4 * count))))
    farm.ends("end")
    return farm


def groups_of_all_nodes(count: int) -> Growing:
    """One node goes into another group, and the other groups have as many nodes as there are."""
    farm = Growing()
    node, *others = farm.nodes(count)
    groups = [farm.does("create", m.CreateGroup(f"g{one}")) for one in range(count)]
    for group in groups:
        farm.farm.handle(m.SetGroupNodes(group, tuple(others)), farm.now)
    farm.does("set", m.SetNodeGroups(node, (groups[0],)))
    return farm


CROWDS = (
    groups_of_all_nodes,
    jobs_that_want_two_nodes_each,
    jobs_that_want_as_many_nodes_as_there_are,
    nodes_on_which_all_fails,
    many_parents_of_a_job_that_stays,
    roots_that_share_a_job_and_expire,
)


@pytest.mark.parametrize("story", CROWDS, ids=lambda story: story.__name__)
def test_four_times_as_many_cost_four_times_as_much(story: Callable[[int], Growing]) -> None:
    assert compared(story) == {}

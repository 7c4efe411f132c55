"""Which runnable job goes to which node next.

Runnable jobs with equal needs wait in one `Kind`, best rank first. A pass looks only at what may
have changed since the last one: kinds that got a better first job, nodes that got room. It
starts at most `PLACEMENTS_PER_PASS` attempts and then asks to be called again. So the cost of a
placement depends on the number of kinds, not on the number of jobs.

A job that wants several hosts *holds* nodes until it has `hosts_min` of them. A hold keeps out
worse-ranked jobs only; a better-ranked one takes the room and the hold is lost. The best-ranked
multi-host job therefore always gets its nodes: two half-filled jobs cannot block each other.

A job that wants much of one machine would wait for ever while smaller ones, ranked behind it, take
every CPU that comes free. So the first of its kind holds one machine that could run it, which then
empties for it. Such a hold gives way like any other but stays, for there was no room to lose.

Jobs that are over in a moment would spend most of their time waiting for the next order. So once
jobs of a kind are known to be short, a node gets a *backlog* of them beyond its CPUs, worth
`BACKLOG_MS`, and starts them itself as others end. Only plain jobs, which need nothing but CPUs.

Resources are not held: a job takes them when it starts, and one that lacks some holds no nodes
either, for nobody knows when they come free.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping

from roost.core.matching import (
    ELIGIBLE_TESTS,
    ROOM_TESTS,
    Candidate,
    Need,
    NodeUse,
    Rank,
    obstacle,
)
from roost.core.records import Group, JobId, Node, NodeId
from roost.core.stock import Stock

PLACEMENTS_PER_PASS = 2_000
BACKLOG_MS = 150
"""A node is given about so much work ahead, so that it need not ask between two short jobs."""
BACKLOG_JOBS_PER_CPU_MAX = 64
PACES_MAX = 1_000
_PACE_WEIGHT = 8
"""A pace is a running mean over about so many runs, kept as that many times the mean."""


class Kind:
    """Runnable jobs that need the same."""

    __slots__ = ("heap", "need", "reserver")

    def __init__(self, need: Need) -> None:
        self.need = need
        self.heap: list[Rank] = []
        """Ranks of its jobs; entries of jobs that left are skipped when they come up."""
        self.reserver: JobId | None = None
        """The job that last held a machine for itself alone."""


class Floor:
    """The nodes as placement sees them, and the jobs that wait for one."""

    def __init__(self, groups: Mapping[str, Group]) -> None:
        self.groups = groups
        self.nodes: dict[NodeId, Node] = {}
        self.uses: dict[NodeId, NodeUse] = {}
        self.connected: dict[NodeId, int] = {}
        """The number of each node's connection."""
        self.off_duty: dict[NodeId, str] = {}
        """Why nodes take no jobs that their availability rules keep from it."""
        self.kinds: dict[Need, Kind] = {}
        self.waiting: dict[JobId, tuple[Rank, Kind]] = {}
        self.holds: dict[JobId, dict[NodeId, None]] = {}
        self._paces: dict[Need, int] = {}
        """Of plain kinds: how long their jobs run, see `_PACE_WEIGHT`; in milliseconds."""
        self.stock = Stock()
        self._fresh_kinds: dict[Need, None] = {}
        self._fresh_nodes: dict[NodeId, None] = {}
        self._fresh_resources: dict[str, None] = {}

    # --- the queue ------------------------------------------------------------------------

    def enqueue(self, need: Need, ranks: Iterable[Rank]) -> None:
        """Jobs that need this, by their ranks."""
        kind = self.kinds.get(need)
        if kind is None or self._first(kind) is None:
            kind = self.kinds[need] = Kind(need)
            self._fresh_kinds[need] = None
        elif self.holds:
            self._fresh_kinds[need] = None
        # Otherwise equals of these jobs wait already: what blocks them blocks these as well.
        heap, waiting = kind.heap, self.waiting
        for rank in ranks:
            job = JobId(rank[1])
            assert job not in waiting
            heapq.heappush(heap, rank)
            waiting[job] = (rank, kind)

    def withdraw(self, job: JobId) -> None:
        """The job no longer waits; what was held for it is free again."""
        if self.waiting.pop(job, None) is not None:
            self.release_holds(job)

    def release_holds(self, job: JobId, keep: Collection[NodeId] = ()) -> None:
        """Free what is held for a job, but for nodes that it can still use."""
        held = self.holds.get(job, {})
        for node in [node for node in held if node not in keep]:
            del held[node]
            del self.uses[node].holds[job]
            self.wake(node)
        if not held:
            self.holds.pop(job, None)

    def wake(self, node: NodeId) -> None:
        """Something changed there: the next pass looks at it again."""
        self._fresh_nodes[node] = None

    def wake_all(self) -> None:
        self._fresh_nodes.update(dict.fromkeys(self.nodes))

    def take(self, need: Need, nodes: Iterable[NodeId]) -> None:
        """An attempt takes its resources."""
        if need.resources:
            self.stock.take(need.resources, nodes)

    def give_back(self, need: Need, nodes: Iterable[NodeId]) -> None:
        if need.resources:
            self.stock.give_back(need.resources, nodes)
            self.restock(name for name, _ in need.resources)

    def restock(self, names: Iterable[str]) -> None:
        """There may be more of these: the next pass looks at every kind that needs one."""
        self._fresh_resources.update(dict.fromkeys(names))

    @property
    def has_work(self) -> bool:
        """A pass could find something to start."""
        return bool(self.waiting) and bool(
            self._fresh_kinds or self._fresh_nodes or self._fresh_resources
        )

    # --- asking ---------------------------------------------------------------------------

    def candidate(self, need: Need, rank: Rank, node: NodeId) -> Candidate:
        return Candidate(
            need,
            rank,
            JobId(rank[1]),
            self.nodes[node],
            self.uses[node],
            node in self.connected,
            self.off_duty.get(node),
            self.groups,
            self.stock,
            self._backlog_cpus(need, rank, node),
        )

    def _backlog_cpus(self, need: Need, rank: Rank, node: NodeId) -> int:
        pace = self._paces.get(need)
        use = self.uses[node]
        if pace is None or use.not_plain or (use.holds and use.held_before(rank)):
            return 0
        jobs = BACKLOG_MS * _PACE_WEIGHT // max(pace, 1)
        return self.nodes[node].facts.cpus * min(jobs, BACKLOG_JOBS_PER_CPU_MAX)

    def note_run(self, need: Need, ran_ms: int) -> None:
        """A job of this kind ran for so long."""
        if need.is_plain:
            pace = self._paces.get(need, ran_ms * _PACE_WEIGHT)
            self._paces[need] = pace - pace // _PACE_WEIGHT + ran_ms

    def obstacles(self, need: Need, rank: Rank) -> dict[NodeId, str | None]:
        """For each listed node the first reason against, or None if it could run the job."""
        return {
            node: obstacle(self.candidate(need, rank, node), ELIGIBLE_TESTS + ROOM_TESTS)
            for node, record in self.nodes.items()
            if not record.leaving
        }

    # --- a pass ---------------------------------------------------------------------------

    def place(self, start: Callable[[JobId, Rank, Need, tuple[NodeId, ...]], None]) -> None:
        """One pass. `start` is called for each job that got its nodes, and must occupy them."""
        fresh_kinds, fresh_nodes = self._fresh_kinds, self._fresh_nodes
        self._fresh_kinds, self._fresh_nodes = {}, {}
        fresh_resources, self._fresh_resources = self._fresh_resources, {}
        if fresh_resources:
            for need in self.kinds:
                if any(name in fresh_resources for name, _ in need.resources):
                    fresh_kinds[need] = None
        needs = list(self.kinds if fresh_nodes else fresh_kinds)
        order: list[tuple[Rank, int, Kind, _Choice]] = []
        for number, need in enumerate(needs):
            kind = self.kinds.get(need)
            rank = self._first(kind) if kind else None
            if kind and rank is not None:
                nodes: Iterable[NodeId] = self.nodes if need in fresh_kinds else fresh_nodes
                order.append((rank, number, kind, _Choice(self, need, nodes)))
        heapq.heapify(order)
        placed = 0
        while order:
            rank, number, kind, choice = order[0]
            if placed >= PLACEMENTS_PER_PASS:
                self._fresh_kinds.update(dict.fromkeys(entry[2].need for entry in order))
                self._fresh_nodes.update(fresh_nodes)
                return
            nodes_found = choice.find(rank)
            if nodes_found is None:
                heapq.heappop(order)
                continue
            job = JobId(rank[1])
            self.withdraw(job)
            self._push_out_holds(rank, kind.need, nodes_found)
            start(job, rank, kind.need, nodes_found)
            placed += 1
            following = self._first(kind)
            if following is None:
                heapq.heappop(order)
            else:
                heapq.heapreplace(order, (following, number, kind, choice))

    def _first(self, kind: Kind) -> Rank | None:
        heap = kind.heap
        while heap:
            waiting = self.waiting.get(JobId(heap[0][1]))
            if waiting is not None and waiting[1] is kind and waiting[0] == heap[0]:
                return heap[0]
            heapq.heappop(heap)
        self.kinds.pop(kind.need, None)
        if len(self._paces) > PACES_MAX:
            self._paces.pop(kind.need, None)
        return None

    def _push_out_holds(self, rank: Rank, need: Need, nodes: Iterable[NodeId]) -> None:
        """Worse-ranked jobs lose what they held on these nodes: their room is being taken."""
        for node in nodes:
            use = self.uses[node]
            for job, (held_rank, held_need) in list(use.holds.items()):
                if held_rank > rank and held_need.hosts_max > 1:
                    del use.holds[job]
                    del self.holds[job][node]
                    if not self.holds[job]:
                        del self.holds[job]
                    self._fresh_kinds[self.waiting[job][1].need] = None
                    self.wake(node)  # the taker may leave room for others

    def hold(self, rank: Rank, need: Need, nodes: Iterable[NodeId]) -> None:
        job = JobId(rank[1])
        held = self.holds.setdefault(job, {})
        for node in nodes:
            if node not in held:
                held[node] = None
                self._push_out_holds(rank, need, (node,))
                self.uses[node].holds[job] = (rank, need)


class _Choice:
    """The nodes that one kind may use in one pass, the emptiest first."""

    def __init__(self, floor: Floor, need: Need, nodes: Iterable[NodeId]) -> None:
        self.floor = floor
        self.need = need
        self.nodes = nodes
        self.heap: list[tuple[int, NodeId]] | None = None
        self.eligible: set[NodeId] = set()
        """Found so; the others in the heap are only looked at when their turn comes."""
        self.full: list[NodeId] = []
        """Eligible ones that turned out to have no room, the emptiest first."""

    def find(self, rank: Rank) -> tuple[NodeId, ...] | None:
        """The nodes for the job with this rank, or None; a multi-host job may take holds."""
        if self.need.resources and self.floor.stock.shortage(self.need.resources):
            self.floor.release_holds(JobId(rank[1]))
            return None
        if self.need.hosts_max > 1:
            return self._find_several(rank)
        floor, need = self.floor, self.need
        if self.heap is None:
            self.heap = [
                (-floor.nodes[node].facts.cpus + floor.uses[node].cpus_busy, node)
                for node in self.nodes
            ]
            heapq.heapify(self.heap)
        while self.heap:
            free_negative, node = self.heap[0]
            free_now = -floor.nodes[node].facts.cpus + floor.uses[node].cpus_busy
            if free_now != free_negative:
                heapq.heapreplace(self.heap, (free_now, node))
                continue
            candidate = floor.candidate(need, rank, node)
            if node not in self.eligible:
                if obstacle(candidate, ELIGIBLE_TESTS) is not None:
                    heapq.heappop(self.heap)
                    continue
                self.eligible.add(node)
            if obstacle(candidate, ROOM_TESTS) is None:
                return (node,)
            self.full.append(heapq.heappop(self.heap)[1])
        if need.wants_much:
            self._hold_one(rank)
        return None

    def _hold_one(self, rank: Rank) -> None:
        """Let the node empty for the job that is the first to find room there."""
        floor, job = self.floor, JobId(rank[1])
        kind = floor.waiting[job][1]
        if kind.reserver is not None and kind.reserver != job:
            floor.release_holds(kind.reserver)
        kind.reserver = job
        for held in floor.holds.get(job, ()):
            if obstacle(floor.candidate(self.need, rank, held), ELIGIBLE_TESTS) is None:
                return
        floor.release_holds(job)
        for node in self.full:
            if not floor.uses[node].held_before(rank):
                floor.hold(rank, self.need, (node,))
                return

    def _find_several(self, rank: Rank) -> tuple[NodeId, ...] | None:
        floor, need = self.floor, self.need
        eligible = [
            node
            for node in floor.nodes
            if obstacle(floor.candidate(need, rank, node), ELIGIBLE_TESTS) is None
        ]
        if len(eligible) < need.hosts_min:
            floor.release_holds(JobId(rank[1]))
            return None
        ready = [
            node
            for node in eligible
            if obstacle(floor.candidate(need, rank, node), ROOM_TESTS) is None
        ]
        held = floor.holds.get(JobId(rank[1]), {})
        ready.sort(key=lambda node: (node not in held, floor.uses[node].cpus_busy, node))
        if len(ready) >= need.hosts_min:
            ready = floor.stock.afford(need.resources, ready)
            if len(ready) >= need.hosts_min:
                return tuple(ready[: need.hosts_max])
            floor.release_holds(JobId(rank[1]))
            return None
        floor.release_holds(JobId(rank[1]), keep=set(ready))
        floor.hold(rank, need, ready)
        return None

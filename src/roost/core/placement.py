"""Which runnable job goes to which node next.

Runnable jobs with equal needs wait in one `Kind`, best rank first. A pass looks only at what may
have changed since the last one: kinds that got a better first job, nodes that got room. It
starts at most `PLACEMENTS_PER_PASS` attempts and then asks to be called again. It goes through the
`queue` of kinds and passes over those that a look at the best free node rules out. So the cost of a
placement hardly depends on the number of kinds, and not on the number of jobs.

Nor does it depend on the number of nodes, as all kinds go by one order of them: `levels` (see
`nodeset`). A node that was given something moves there once, for every kind. Which nodes may run
a kind at all is found out when their turn comes, and remembered until something of them changes.

A job that wants several hosts *holds* nodes until it has `hosts_min` of them. A hold keeps out
worse-ranked jobs only; a better-ranked one takes the room and the hold is lost. The best-ranked
multi-host job therefore always gets its nodes: two half-filled jobs cannot block each other.

A job that wants much of one machine would wait for ever while smaller ones, ranked behind it, take
every CPU that comes free. So the first of its kind holds one machine that could run it, which then
empties for it. Such a hold gives way like any other but stays, for there was no room to lose.

Jobs that are over in a moment would spend most of their time waiting for the next order. So once
jobs of a kind are known to be short, a node gets a *backlog* of them beyond its CPUs, worth
`BACKLOG_MS`, and starts them itself as others end. Only plain jobs, which need nothing but CPUs.
What of it is `stuck` behind a long job is asked back, and nothing more goes behind that job.

Resources are not held: a job takes them when it starts, and one that lacks some holds no nodes
either, for nobody knows when they come free.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain
from operator import itemgetter

from roost.core.matching import (
    ELIGIBLE_TESTS,
    ROOM_TESTS,
    Candidate,
    Need,
    NodeUse,
    Rank,
    obstacle,
)
from roost.core.nodeset import Levels, NodeSet, bit, first, members, move
from roost.core.records import AttemptKey, Group, JobId, Node, NodeId
from roost.core.stock import Stock

PLACEMENTS_PER_PASS = 2_000
BACKLOG_MS = 150
"""A node is given about so much work ahead, so that it need not ask between two short jobs."""
BACKLOG_JOBS_PER_CPU_MAX = 64
STRETCH_MS = 20
"""So much of it goes to one node before the next one gets some."""
IDLE_KINDS_MAX = 1_000
"""So many kinds of which no job waits are remembered, with their pace and what they know."""
STALE_RANKS_MAX = 64
"""Of jobs that left a kind before their turn; or as many as jobs wait there."""
_PACE_WEIGHT = 8
"""A pace is a running mean over about so many runs, kept as that many times the mean."""


class Kind:
    """Runnable jobs that need the same."""

    __slots__ = ("fit", "heap", "jobs", "least", "need", "pace", "rank", "reserver", "unfit")

    def __init__(self, need: Need) -> None:
        self.need = need
        self.heap: list[Rank] = []
        """Ranks of its jobs; entries of jobs that left are skipped when they come up."""
        self.jobs = 0
        """How many of them wait."""
        self.rank: Rank | None = None
        """That of its first job, by which it stands in the queue; None when none waits."""
        self.pace: int | None = None
        """Of plain kinds: how long their jobs run, see `_PACE_WEIGHT`; in milliseconds."""
        self.reserver: JobId | None = None
        """The job that last held a machine for itself alone."""
        self.fit: NodeSet = 0
        """Nodes known to pass its `ELIGIBLE_TESTS`; those in neither set are yet to be asked."""
        self.unfit: NodeSet = 0
        self.least = 0.0
        """A node with fewer free CPUs is nothing for it: neither to hold, nor to fill up."""
        self.look_everywhere()

    def note_run(self, ran_ms: int) -> None:
        """One of its jobs ran for so long."""
        pace = ran_ms * _PACE_WEIGHT if self.pace is None else self.pace
        self.pace = pace - pace // _PACE_WEIGHT + ran_ms
        self.look_everywhere()

    @property
    def backlog_jobs(self) -> int:
        """How many of its jobs a node may be given ahead for each of its CPUs."""
        if self.pace is None:
            return 0
        return min(BACKLOG_MS * _PACE_WEIGHT // max(self.pace, 1), BACKLOG_JOBS_PER_CPU_MAX)

    def look_everywhere(self) -> None:
        """It may have lost its hold, if it is one that holds, or has another first job."""
        need = self.need
        small = not (need.wants_much or need.hosts_max > 1 or self.backlog_jobs)
        self.least = need.cpus if small else -math.inf

    def look_for_room(self) -> None:
        """Its first job holds a machine, so it looks for nothing but room to start. One that needs
        resources looks on: it gives the machine up when another job takes them."""
        if not (self.backlog_jobs or self.need.resources):
            self.least = self.need.cpus


class Floor:
    """The nodes as placement sees them, and the jobs that wait for one."""

    def __init__(self, groups: Mapping[str, Group]) -> None:
        self.groups = groups
        self.nodes: dict[NodeId, Node] = {}
        """Set by `set_node`; which of them are connected or off duty has methods of its own too."""
        self.uses: dict[NodeId, NodeUse] = {}
        self.connected: dict[NodeId, int] = {}
        """The number of each node's connection."""
        self.off_duty: dict[NodeId, str] = {}
        """Why nodes take no jobs that their availability rules keep from it."""
        self.levels: Levels = {}
        """All nodes, by how many CPUs are free: below zero where jobs were given ahead."""
        self.kinds: dict[Need, Kind] = {}
        self.queue: list[tuple[Rank, Kind]] = []
        """Kinds with waiting jobs, by the rank of the first."""
        self._idle_kinds: dict[Kind, None] = {}
        """The others, by when their last job left."""
        self.waiting: dict[JobId, tuple[Rank, Kind]] = {}
        self.holds: dict[JobId, dict[NodeId, None]] = {}
        self.blocked: dict[JobId, NodeSet] = {}
        """By root: where too much of its tree has failed. No set is empty."""
        self.stock = Stock()
        self._fresh_kinds: dict[Kind, None] = {}
        self._woken: NodeSet = 0
        self.reviewed: NodeSet = 0
        """What kinds know of these nodes is out of date; the next pass makes them forget it."""
        self._fresh_resources: dict[str, None] = {}

    # --- the nodes ------------------------------------------------------------------------

    def set_node(self, node: Node) -> None:
        """A new node, or a new record of one."""
        before = self.nodes.get(node.id)
        self.nodes[node.id] = node
        if before is None:
            self.uses[node.id] = NodeUse()
            move(self.levels, node.id, None, self.free(node.id))
        elif before.facts.cpus != node.facts.cpus:
            busy = self.uses[node.id].cpus_busy
            move(self.levels, node.id, before.facts.cpus - busy, node.facts.cpus - busy)
        if before is None or _matters(before) != _matters(node):
            self.review(node.id)

    def connect(self, node: NodeId, connection: int) -> None:
        self.connected[node] = connection
        self.review(node)

    def disconnect(self, node: NodeId) -> None:
        if self.connected.pop(node, None) is not None:
            self.review(node)

    def set_off_duty(self, node: NodeId, why: str | None) -> None:
        """None when its availability rules do not keep jobs from it."""
        before = self.off_duty.pop(node, None)
        if why is not None:
            self.off_duty[node] = why
        if (before is None) != (why is None):
            self.review(node)

    def review(self, node: NodeId) -> None:
        """Other kinds of jobs than before may run there."""
        self.reviewed |= bit(node)
        if node in self.connected:
            self.wake(node)

    def review_all(self) -> None:
        for nodes in self.levels.values():
            self.reviewed |= nodes
            self._woken |= nodes

    def block(self, root: JobId, node: NodeId) -> None:
        """The node gets no more of this tree."""
        self.blocked[root] = self.blocked.get(root, 0) | bit(node)
        self.review(node)

    def forgive(self, root: JobId) -> bool:
        """No node is blocked for this tree any more; whether any was."""
        nodes = self.blocked.pop(root, 0)
        for node in members(nodes):
            self.review(node)
        return bool(nodes)

    def wake(self, node: NodeId) -> None:
        """There may be more room there: the next pass looks at it again."""
        self._woken |= bit(node)

    def free(self, node: NodeId) -> int:
        """CPUs; below zero where jobs were given ahead."""
        return self.nodes[node].facts.cpus - self.uses[node].cpus_busy

    def occupy(self, key: AttemptKey, rank: Rank, need: Need, nodes: Iterable[NodeId]) -> None:
        """An attempt takes its room on these nodes, and its resources."""
        for node in nodes:
            before = self.free(node)
            self.uses[node].occupy(key, rank, need)
            move(self.levels, node, before, before - need.cpus)
        if need.resources:
            self.stock.take(need.resources, nodes)

    def vacate(self, key: AttemptKey, nodes: tuple[NodeId, ...]) -> None:
        need = self.need_of(key, nodes[0])
        for node in nodes:
            before = self.free(node)
            self.uses[node].vacate(key)
            move(self.levels, node, before, before + need.cpus)
            self.wake(node)
        if need.resources:
            self.stock.give_back(need.resources, nodes)
            self.restock(name for name, _ in need.resources)

    def add_stray(self, key: AttemptKey, need: Need, node: NodeId) -> None:
        """The node still has an attempt that was given up, which keeps its room there."""
        before = self.free(node)
        self.uses[node].add_stray(key, need)
        move(self.levels, node, before, before - need.cpus)

    def remove_stray(self, key: AttemptKey, node: NodeId) -> None:
        use, before = self.uses[node], self.free(node)
        use.remove_stray(key)
        move(self.levels, node, before, self.nodes[node].facts.cpus - use.cpus_busy)
        self.wake(node)

    def need_of(self, key: AttemptKey, node: NodeId) -> Need:
        """What an attempt there was started with."""
        return self.uses[node].attempts[key][1]

    # --- the queue ------------------------------------------------------------------------

    def enqueue(self, need: Need, ranks: Iterable[Rank]) -> None:
        """Jobs that need this, by their ranks."""
        kind = self.kinds.get(need)
        if kind is None:
            kind = self.kinds[need] = Kind(need)
        if kind.rank is None or self.holds:
            self._fresh_kinds[kind] = None
        # Otherwise equals of these jobs wait already: what blocks them blocks these as well.
        heap, waiting = kind.heap, self.waiting
        before = len(waiting)
        for rank in ranks:
            job = JobId(rank[1])
            assert job not in waiting
            heapq.heappush(heap, rank)
            waiting[job] = (rank, kind)
        kind.jobs += len(waiting) - before
        if len(heap) > 2 * kind.jobs + STALE_RANKS_MAX:
            kind.heap = [rank for rank in set(heap) if waiting.get(JobId(rank[1])) == (rank, kind)]
            heapq.heapify(kind.heap)
            heap = kind.heap
        if kind.rank is None or heap[0] < kind.rank:
            self._queue_by(kind, self._first(kind))

    def withdraw(self, job: JobId) -> None:
        """The job no longer waits; what was held for it is free again."""
        rank, kind = self.waiting.pop(job, (None, None))
        if kind is not None:
            kind.jobs -= 1
            self.release_holds(job)
            if rank == kind.rank:
                self._queue_by(kind, self._first(kind))

    def _first(self, kind: Kind) -> Rank | None:
        heap = kind.heap
        while heap and self.waiting.get(JobId(heap[0][1])) != (heap[0], kind):
            heapq.heappop(heap)
        return heap[0] if heap else None

    def _queue_by(self, kind: Kind, rank: Rank | None) -> None:
        """Its first job is another one, or none waits any more."""
        if kind.rank is not None:
            del self.queue[bisect_left(self.queue, kind.rank, key=itemgetter(0))]
        kind.rank = rank
        kind.look_everywhere()
        if rank is not None:
            self.queue.insert(bisect_left(self.queue, rank, key=itemgetter(0)), (rank, kind))
            self._idle_kinds.pop(kind, None)
            return
        self._idle_kinds[kind] = None
        if len(self._idle_kinds) > IDLE_KINDS_MAX:
            oldest = next(iter(self._idle_kinds))
            del self._idle_kinds[oldest], self.kinds[oldest.need]

    def release_holds(self, job: JobId, keep: Collection[NodeId] = ()) -> None:
        """Free what is held for a job, but for nodes that it can still use."""
        held = self.holds.get(job, {})
        for node in [node for node in held if node not in keep]:
            del held[node]
            del self.uses[node].holds[job]
            self.wake(node)
        if not held and self.holds.pop(job, None) is not None and job in self.waiting:
            self.waiting[job][1].look_everywhere()

    def restock(self, names: Iterable[str]) -> None:
        """There may be more of these: the next pass looks at every kind that needs one."""
        self._fresh_resources.update(dict.fromkeys(names))

    @property
    def has_work(self) -> bool:
        """A pass could find something to start."""
        return bool(self.waiting) and bool(
            self._fresh_kinds or self._woken or self._fresh_resources
        )

    # --- asking ---------------------------------------------------------------------------

    def candidate(self, need: Need, rank: Rank, node: NodeId) -> Candidate:
        return Candidate(
            need,
            rank,
            self.nodes[node],
            self.uses[node],
            node in self.connected,
            self.off_duty.get(node),
            self.groups,
            self.stock,
            need.wary is not None and bool(self.blocked.get(need.wary, 0) >> node & 1),
            self._backlog_cpus(need, rank, node),
        )

    def _backlog_cpus(self, need: Need, rank: Rank, node: NodeId) -> int:
        kind, use = self.kinds.get(need), self.uses[node]
        if kind is None or kind.pace is None or use.not_plain:
            return 0
        if use.holds and use.held_before(rank):
            return 0
        moving = self.nodes[node].facts.cpus - use.cpus_blocked
        return max(moving, 0) * kind.backlog_jobs

    def stuck(self, node: NodeId, running: Collection[AttemptKey]) -> list[AttemptKey]:
        """Which attempts there would not be given to the node now, if it had nothing else ahead.

        `running` are those that it has said to have started. On what they, and strays, leave of its
        CPUs the others start in their order, and none is overtaken. So where the first of them has
        room, the node has just started it or is about to, and word of that is on its way: then the
        node keeps as much as it may be given ahead for the CPUs that are left.
        """
        use = self.uses[node]
        room = self.nodes[node].facts.cpus - use.cpus_of_strays
        line: list[tuple[AttemptKey, Need]] = []
        for key, (_, need) in use.attempts.items():
            if key in running:
                room -= need.cpus
            else:
                line.append((key, need))
        if line and line[0][1].cpus > room:
            return [key for key, _ in line]
        found = []
        cpus = may_have = 0
        known: Need | None = None
        for key, need in line:
            if need is not known:
                known, kind = need, self.kinds.get(need)
                may_have = room * (1 + (kind.backlog_jobs if kind is not None else 0))
            cpus += need.cpus
            if cpus > may_have:
                found.append(key)
        return found

    def note_run(self, need: Need, ran_ms: int) -> None:
        """A job of this kind ran for so long."""
        kind = self.kinds.get(need)
        if kind is not None and need.is_plain:
            kind.note_run(ran_ms)

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
        fresh_kinds, self._fresh_kinds = self._fresh_kinds, {}
        woken, self._woken = self._woken, 0
        fresh_resources, self._fresh_resources = self._fresh_resources, {}
        self._forget_reviewed()
        if fresh_resources:
            for _, kind in self.queue:
                if any(name in fresh_resources for name, _ in kind.need.resources):
                    fresh_kinds[kind] = None
        woken_levels = {
            free: found for free, all_ in self.levels.items() if (found := all_ & woken)
        }
        most_free = max(woken_levels, default=-math.inf)
        choices: dict[Kind, _Choice] = {}
        placed = at = 0
        while at < len(self.queue):
            rank, kind = self.queue[at]
            if kind not in fresh_kinds and (kind.least > most_free or not woken):
                at += 1
                continue
            if placed >= PLACEMENTS_PER_PASS:
                rest = (kind for _, kind in self.queue[at:])
                self._fresh_kinds.update((kind, None) for kind in rest if kind in fresh_kinds)
                self._woken |= woken
                return
            choice = choices.get(kind)
            if choice is None:
                levels = self.levels if kind in fresh_kinds else woken_levels
                choice = choices[kind] = _Choice(self, kind, levels)
            nodes = choice.find(rank)
            if nodes is None:
                at += 1
                continue
            job = JobId(rank[1])
            self.withdraw(job)  # and its kind goes on in the queue to where its next one stands
            self._push_out_holds(rank, kind.need, nodes)
            start(job, rank, kind.need, nodes)
            for node in nodes:
                if woken >> node & 1:
                    free = self.free(node)
                    move(woken_levels, node, free + kind.need.cpus, free)
                    most_free = max(woken_levels)
            placed += 1

    def _forget_reviewed(self) -> None:
        if self.reviewed:
            kept = ~self.reviewed
            for kind in self.kinds.values():
                kind.fit &= kept
                kind.unfit &= kept
                kind.look_everywhere()
            self.reviewed = 0

    def fits(self, kind: Kind, rank: Rank, node: NodeId) -> bool:
        """The node passes what only a change of the node or the job can alter."""
        if kind.fit >> node & 1:
            return True
        if kind.unfit >> node & 1:
            return False
        fits = obstacle(self.candidate(kind.need, rank, node), ELIGIBLE_TESTS) is None
        if fits:
            kind.fit |= bit(node)
        else:
            kind.unfit |= bit(node)
        return fits

    def has_room(self, need: Need, rank: Rank, node: NodeId) -> bool:
        return obstacle(self.candidate(need, rank, node), ROOM_TESTS) is None

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
                    self._fresh_kinds[self.waiting[job][1]] = None
                    self.wake(node)  # the taker may leave room for others

    def hold(self, rank: Rank, need: Need, nodes: Iterable[NodeId]) -> None:
        job = JobId(rank[1])
        held = self.holds.setdefault(job, {})
        for node in nodes:
            if node not in held:
                held[node] = None
                self._push_out_holds(rank, need, (node,))
                self.uses[node].holds[job] = (rank, need)


def _matters(node: Node) -> tuple[object, ...]:
    """What `ELIGIBLE_TESTS` look at of a node's record."""
    return node.facts, node.disabled, node.active, node.leaving


class _Choice:
    """The nodes that one kind may use in one pass, the emptiest first."""

    __slots__ = (
        "cpus",
        "filled",
        "floor",
        "free",
        "kind",
        "least",
        "left",
        "levels",
        "need",
        "open",
        "plenty",
    )

    def __init__(self, floor: Floor, kind: Kind, levels: Levels) -> None:
        self.floor = floor
        self.kind = kind
        self.need = kind.need
        self.levels = levels
        self.free: int | None = max(levels, default=None)
        """All above this level were asked: nodes get no emptier during a pass."""
        self.least = kind.need.cpus if not kind.backlog_jobs else None
        """Below this level no node has room; None when a backlog may go below any."""
        self.open = ~kind.unfit
        """Nodes that may have room."""
        self.cpus = max(kind.need.cpus, 1)
        self.plenty: bool | None = None
        """See `_is_plenty`; None while nobody has asked."""
        self.filled = NodeId(0)
        self.left = 0
        """How many more jobs this node is to get."""

    def find(self, rank: Rank) -> tuple[NodeId, ...] | None:
        """The nodes for the job with this rank, or None; a multi-host job may take holds."""
        floor, need, levels = self.floor, self.need, self.levels
        if need.resources and floor.stock.shortage(need.resources):
            floor.release_holds(JobId(rank[1]))
            return None
        if need.hosts_max > 1:
            return self._find_several(rank)
        if self.left:
            self.left -= 1
            if floor.has_room(need, rank, self.filled):
                return (self.filled,)
            self.left = 0
        while self.free is not None and (self.least is None or self.free >= self.least):
            while nodes := levels.get(self.free, 0) & self.open:
                node = first(nodes)
                if floor.fits(self.kind, rank, node) and floor.has_room(need, rank, node):
                    self.filled, self.left = node, self._stretch(node) - 1
                    return (node,)
                self.open ^= bit(node)
            self.free = max((free for free in levels if free < self.free), default=None)
        if need.wants_much:
            self._hold_one(rank)
        return None

    def _stretch(self, node: NodeId) -> int:
        """How many jobs the node gets in a row: each node that gets some is told, and tells what
        became of them, in messages of its own."""
        free = self.floor.free(node)
        if free >= self.cpus:
            jobs = free // self.cpus
            return jobs if jobs == 1 or self._is_plenty() else 1
        jobs_per_cpu = self.kind.backlog_jobs * STRETCH_MS // BACKLOG_MS
        return max(jobs_per_cpu * self.floor.nodes[node].facts.cpus // self.cpus, 1)

    def _is_plenty(self) -> bool:
        """There are jobs for every CPU that is free, so each node can be filled in one go."""
        if self.plenty is None:
            left = self.kind.jobs
            for free, nodes in self.levels.items():
                if free >= self.cpus and left >= 0:
                    left -= (nodes & self.open).bit_count() * (free // self.cpus)
            self.plenty = left >= 0
        return self.plenty

    def _hold_one(self, rank: Rank) -> None:
        """Let the node empty for the job that is the first to find room there."""
        floor, kind, job = self.floor, self.kind, JobId(rank[1])
        if kind.reserver is not None and kind.reserver != job:
            floor.release_holds(kind.reserver)
        kind.reserver = job

        def would_do(node: NodeId) -> bool:
            return floor.fits(kind, rank, node) and not floor.stock.shortage_on(
                self.need.resources, node
            )

        if any(map(would_do, floor.holds.get(job, ()))):
            kind.look_for_room()
            return
        floor.release_holds(job)
        for free in sorted(self.levels, reverse=True):
            for node in members(self.levels[free] & ~kind.unfit):
                if would_do(node) and not floor.uses[node].held_before(rank):
                    floor.hold(rank, self.need, (node,))
                    kind.look_for_room()
                    return

    def _find_several(self, rank: Rank) -> tuple[NodeId, ...] | None:
        floor, kind, need = self.floor, self.kind, self.need
        for nodes in floor.levels.values():
            for node in members(nodes & ~(kind.fit | kind.unfit)):
                floor.fits(kind, rank, node)
        if kind.fit.bit_count() < need.hosts_min:
            floor.release_holds(JobId(rank[1]))
            return None
        held = floor.holds.get(JobId(rank[1]), {})
        # Which of them can have what they need of resources is found out together.
        enough = math.inf if need.resources else need.hosts_max
        ready: list[NodeId] = []
        for node in chain(held, self._free_nodes(held)):
            if len(ready) >= enough:
                break
            if kind.fit >> node & 1 and floor.has_room(need, rank, node):
                ready.append(node)
            else:
                self.open &= ~bit(node)
        if len(ready) >= need.hosts_min:
            ready = floor.stock.afford(need.resources, ready)
            if len(ready) >= need.hosts_min:
                return tuple(ready[: need.hosts_max])
            floor.release_holds(JobId(rank[1]))
            return None
        if need.resources and len(floor.stock.afford(need.resources, members(kind.fit))) < (
            need.hosts_min
        ):
            floor.release_holds(JobId(rank[1]))
            return None
        floor.release_holds(JobId(rank[1]), keep=set(ready))
        floor.hold(rank, need, ready)
        return None

    def _free_nodes(self, held: Iterable[NodeId]) -> Iterator[NodeId]:
        """Those that may have room for a job that holds these, the emptiest first."""
        levels, fit = self.floor.levels, self.kind.fit
        for node in held:
            fit &= ~bit(node)
        for free in sorted(levels, reverse=True):
            if free < self.need.cpus:
                return
            yield from members(levels[free] & fit & self.open)

"""May this node run this job? One chain of tests, each giving a reason or nothing.

Placement takes the first node without an obstacle; `explain` collects all obstacles. Both walk
the same chain, so they cannot disagree, and `waitingFor`, `roost why` and the API show the very
sentences written here.

Jobs with equal `Need` are interchangeable for placement and share one queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from msgspec import Struct

from roost.core.jobspec import show
from roost.core.records import (
    AttemptKey,
    Condition,
    Group,
    Job,
    JobId,
    JobSpec,
    Node,
    NodeFacts,
)
from roost.core.stock import Amounts, Stock

Rank = tuple[int, int]
"""Order of runnable jobs: higher priority first, then the older one."""

CONDITIONS_KEPT = 256
"""For so many conditions it is kept how their values are looked up."""
SINGLE = "single"
NOBODY = Condition("hostname", "in", "")
"""What an empty list of permitted clients is saved as (decision 14)."""


def rank_of(job: Job) -> Rank:
    return (-job.priority, job.id)


class Need(Struct, frozen=True):
    """All that matters of a job for where it may run."""

    conditions: tuple[Condition, ...]
    cpus: int
    single: bool
    """Wants the machine for itself."""
    unlike: frozenset[str]
    """Tags such as `single:1`: never two running jobs with the same one on a machine."""
    platforms: frozenset[str] | None
    """Platforms it has a command for; None when any will do."""
    hosts_min: int
    hosts_max: int
    resources: Amounts
    wary: JobId | None
    """The root of its tree, if too much of that has failed on some node."""

    @property
    def is_plain(self) -> bool:
        """It asks for CPUs only, so its node can tell by itself when it may start."""
        return not (self.single or self.unlike or self.resources) and self.hosts_max == 1

    @property
    def wants_much(self) -> bool:
        """A CPU that comes free somewhere is not enough for it."""
        return self.cpus > 1 or self.single or bool(self.unlike)


def need_of(
    spec: JobSpec,
    conditions: tuple[Condition, ...],
    wary: JobId | None = None,
) -> Need:
    """What a job with this spec needs, given what its tree has in force for it."""
    command = spec.command
    return Need(
        conditions=conditions,
        cpus=spec.cpus,
        single=SINGLE in spec.tags,
        unlike=frozenset(tag for tag in spec.tags if tag.startswith(SINGLE) and tag != SINGLE),
        platforms=frozenset(command) if isinstance(command, dict) else None,
        hosts_min=spec.min_hosts,
        hosts_max=spec.max_hosts,
        resources=tuple(sorted((n, amount) for n, amount in spec.resources.items() if amount)),
        wary=wary,
    )


def need_of_stray(cpus: int) -> Need:
    """What is known of an attempt whose job is not in memory."""
    return Need((), cpus, False, frozenset(), None, 1, 1, (), None)


def need_alike(one: JobSpec, other: JobSpec) -> bool:
    """Whether jobs of one tree with these specs need the same: all that `need_of` looks at."""
    command, other_command = one.command, other.command
    return (
        one.conditions == other.conditions
        and one.cpus == other.cpus
        and one.tags == other.tags
        and one.min_hosts == other.min_hosts
        and one.max_hosts == other.max_hosts
        and one.resources == other.resources
        and (
            command == other_command
            or (isinstance(command, str) and isinstance(other_command, str))
        )
    )


class NodeUse:
    """What occupies a node right now: running attempts, strays, and holds for jobs that want
    much."""

    __slots__ = (
        "attempts",
        "blocking",
        "cpus_busy",
        "holds",
        "not_plain",
        "singles",
        "strays",
        "unlike",
    )

    def __init__(self) -> None:
        self.attempts: dict[AttemptKey, tuple[Rank, Need]] = {}
        self.strays: dict[AttemptKey, Need] = {}
        """Attempts that the farm has given up and the node still has; counted below as well."""
        self.cpus_busy = 0
        self.singles = 0
        self.not_plain = 0
        self.unlike: dict[str, int] = {}
        self.holds: dict[JobId, tuple[Rank, Need]] = {}
        self.blocking: set[AttemptKey] = set()
        """Attempts behind which others waited too long."""

    def occupy(self, key: AttemptKey, rank: Rank, need: Need) -> None:
        assert key not in self.attempts
        self.attempts[key] = (rank, need)
        self._take(need)

    def vacate(self, key: AttemptKey) -> None:
        _, need = self.attempts.pop(key)
        self.blocking.discard(key)
        self._give_back(need)

    def add_stray(self, key: AttemptKey, need: Need) -> None:
        assert key not in self.attempts and key not in self.strays
        self.strays[key] = need
        self._take(need)

    def remove_stray(self, key: AttemptKey) -> None:
        self._give_back(self.strays.pop(key))

    def _take(self, need: Need) -> None:
        self.cpus_busy += need.cpus
        self.singles += need.single
        self.not_plain += not need.is_plain
        for tag in need.unlike:
            self.unlike[tag] = self.unlike.get(tag, 0) + 1

    def _give_back(self, need: Need) -> None:
        self.cpus_busy -= need.cpus
        self.singles -= need.single
        self.not_plain -= not need.is_plain
        for tag in need.unlike:
            self.unlike[tag] -= 1
            if not self.unlike[tag]:
                del self.unlike[tag]

    @property
    def cpus_blocked(self) -> int:
        """How many CPUs are busy with attempts behind which nothing more should wait."""
        return sum(self.attempts[key][1].cpus for key in self.blocking) + self.cpus_of_strays

    @property
    def cpus_of_strays(self) -> int:
        return sum(need.cpus for need in self.strays.values())

    def held_before(self, rank: Rank) -> list[tuple[Rank, Need]]:
        """What better-ranked jobs keep here; worse-ranked holds give way."""
        return [(held_rank, need) for held_rank, need in self.holds.values() if held_rank < rank]

    def cpus_behind(self, rank: Rank) -> int:
        """How many CPUs are busy with jobs ranked behind this one."""
        return sum(need.cpus for other, need in self.attempts.values() if other > rank)


class Candidate(Struct, frozen=True):
    """One question: this need, of a job with this rank, on this node."""

    need: Need
    rank: Rank
    node: Node
    use: NodeUse
    connected: bool
    off_duty: str | None
    """Why its availability rules keep jobs from the node, or None."""
    groups: Mapping[str, Group]
    stock: Stock
    blocked: bool = False
    """Too much of its tree has failed there."""
    backlog_cpus: int = 0
    """CPUs of jobs that the node may be given beyond those it has, to start as others end."""


Test = Callable[[Candidate], str | None]


def _is_enabled(c: Candidate) -> str | None:
    if c.node.leaving:
        return "is leaving the farm"
    return "is disabled" if c.node.disabled else None


def _is_active(c: Candidate) -> str | None:
    if not c.node.active:
        return "is silent for longer than the active timeout"
    return None if c.connected else "is not connected at the moment"


def _is_on_duty(c: Candidate) -> str | None:
    return c.off_duty


def _has_platform(c: Candidate) -> str | None:
    platforms, system = c.need.platforms, c.node.facts.operating_system
    if platforms is None or system in platforms:
        return None
    return f"runs {system}, and the job has a command for {', '.join(sorted(platforms))} only"


def _passes_conditions(c: Candidate) -> str | None:
    for condition in c.need.conditions:
        if condition == NOBODY:
            return "may not run it: the list of clients permitted for the job is empty"
        if not condition_holds(condition, c.node, c.groups):
            return f"fails the condition {condition.name} {condition.op} {show(condition.value)}"
    return None


def _is_big_enough(c: Candidate) -> str | None:
    needed, there = c.need.cpus, c.node.facts.cpus
    return f"has {_cpus(there)}, and the job needs {needed}" if needed > there else None


def _has_free_cpus(c: Candidate) -> str | None:
    free = c.node.facts.cpus - c.use.cpus_busy
    if c.need.cpus > free + c.backlog_cpus:
        return f"is busy: {_cpus(max(free, 0))} free, and the job needs {c.need.cpus}"
    if c.use.holds and c.need.cpus > free - _cpus_kept(c):
        return "has room that is kept for a job that comes first"
    return None


def _cpus_kept(c: Candidate) -> int:
    """How many of the free CPUs are for better-ranked jobs that hold the node.

    One that waits for the node to empty keeps as many as it needs by then: others may use what it
    leaves, together and for as long as they like.
    """
    better = c.use.held_before(c.rank)
    if not better:
        return 0
    kept = sum(need.cpus for _, need in better)
    if any(need.hosts_max > 1 for _, need in better):
        return kept
    not_behind = c.use.cpus_busy - c.use.cpus_behind(min(rank for rank, _ in better))
    return max(kept - not_behind, 0)


def _shares_machine(c: Candidate) -> str | None:
    use = c.use
    better_holds = [need for _, need in use.held_before(c.rank)] if use.holds else []
    if use.singles:
        return "is given to a job that wants it for itself"
    if any(need.single for need in better_holds):
        return "is kept for a job that comes first and wants it for itself"
    if c.need.single and (use.attempts or use.strays or better_holds):
        return "runs other jobs, and the job wants a machine for itself (tag single)"
    for tag in sorted(c.need.unlike):
        if tag in use.unlike or any(tag in need.unlike for need in better_holds):
            return f"runs another job with the tag {tag}"
    return None


def _has_resources(c: Candidate) -> str | None:
    return c.stock.shortage_on(c.need.resources, c.node.id) if c.need.resources else None


def _is_not_blocked(c: Candidate) -> str | None:
    if not c.blocked:
        return None
    return "is blocked: more runs of its tree failed there than max_failures_per_client allows"


ELIGIBLE_TESTS: tuple[Test, ...] = (
    _is_enabled,
    _is_active,
    _is_on_duty,
    _has_platform,
    _passes_conditions,
    _is_big_enough,
    _is_not_blocked,
)
"""What only a change of the node or the job can alter."""

ROOM_TESTS: tuple[Test, ...] = (_has_free_cpus, _shares_machine, _has_resources)
"""What alters whenever something starts or ends. Before them goes `Stock.shortage`, which does not
depend on the node."""


def obstacle(candidate: Candidate, tests: Iterable[Test]) -> str | None:
    """The first reason against, as the end of a sentence that starts with the node's name."""
    for test in tests:
        reason = test(candidate)
        if reason is not None:
            return reason
    return None


def permitted(
    conditions: Iterable[Condition], nodes: Iterable[Node], groups: Iterable[Group]
) -> list[Node]:
    """Those of the nodes that pass all of a job's conditions, whatever else keeps it from them."""
    by_name = {group.name: group for group in groups}
    rules = tuple(conditions)
    return [node for node in nodes if all(condition_holds(c, node, by_name) for c in rules)]


def condition_holds(condition: Condition, node: Node, groups: Mapping[str, Group]) -> bool:
    """Decision 11: names ignore case, a short hostname equals its full one, an empty value
    matches nothing for `==`/`in` and everything for `!=`/`not_in`."""
    facts = node.facts
    if condition.name == "group":
        whole = condition.value.strip()
        # A name may hold a comma (decision 12).
        values = (whole,) if whole in groups else _values(condition)
        is_among = any(value in groups and node.id in groups[value].members for value in values)
    elif condition.name == "os":
        system = facts.operating_system.casefold()
        is_among = any(value.casefold() == system for value in _values(condition))
    else:
        is_among = facts in _machines(condition)
    return is_among if condition.op in ("==", "in", "any") else not is_among


@lru_cache(CONDITIONS_KEPT)
def _values(condition: Condition) -> tuple[str, ...]:
    if condition.op in ("==", "!="):
        whole = condition.value.strip()
        return (whole,) if whole else ()
    return tuple(split_values(condition.value))


def split_values(text: str) -> list[str]:
    """The members of a list value: separated by commas or semicolons, trimmed."""
    return [part for part in (p.strip() for p in text.replace(";", ",").split(",")) if part]


class _Machines:
    """Those that a condition on `hostname` or `hostname:name` lists. Looking one up costs the same
    however many there are: a list may name each of a thousand machines."""

    def __init__(self, condition: Condition) -> None:
        hosts: list[str] = []
        clients: dict[str, list[str]] = {}
        self._labels: set[str] = set()
        for value in _values(condition):
            host, colon, client = value.partition(":")
            if not colon:
                hosts.append(host)
            elif condition.name == "hostname":
                self._labels.add(value.casefold())
            else:
                clients.setdefault(client.casefold(), []).append(host)
        self._hosts = Hosts(hosts)
        self._clients = {client: Hosts(of_client) for client, of_client in clients.items()}

    def __contains__(self, facts: NodeFacts) -> bool:
        hosts = self._clients.get(facts.name.casefold())
        return (
            facts.hostname in self._hosts
            or facts.label.casefold() in self._labels
            or (hosts is not None and facts.hostname in hosts)
        )


_machines = lru_cache(CONDITIONS_KEPT)(_Machines)


class Hosts:
    """Host names, without case; a short name equals the full name it starts."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.casefold() for name in names}
        self._short = {name.partition(".")[0] for name in self._names}

    def __contains__(self, name: str) -> bool:
        name = name.casefold()
        short, dot, _ = name.partition(".")
        return name in self._names or short in (self._names if dot else self._short)


def short_name(host: str) -> str:
    """The part of a name that all names of a host share, in lower case."""
    return host.casefold().partition(".")[0]


def _cpus(count: int) -> str:
    return "1 CPU" if count == 1 else f"{count} CPUs"

"""What a front end may do: ask a command, run a query, follow what changes.

The vocabulary between the front ends (`hqueue`, `api`, later `web`) and the rest. `server.app`
fulfils it from the engine and the store; tests fulfil it with a plain object. A wish that cannot
be said here is a change here, not a way around it. Everything returned is plain data.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextvars import ContextVar
from enum import Enum
from typing import Protocol

from msgspec import Struct

from roost.core.lifecycle import ON_NODE
from roost.core.messages import Command
from roost.core.records import (
    HOUR_MS,
    MINUTE_MS,
    PROGRESS_UNIT,
    Activity,
    Attempt,
    Attribute,
    AttributePoint,
    Condition,
    Event,
    Group,
    GroupId,
    Job,
    JobId,
    JobStatus,
    Moment,
    Node,
    NodeId,
    Note,
    Reason,
    Resource,
    Rollup,
    ThreadId,
)

ACTING: ContextVar[str] = ContextVar("acting", default="")
"""On whose behalf a front end asks: through what and from where. Empty for the server itself."""


class Part(Enum):
    """What of a job costs an extra read and is only fetched when asked for."""

    SPEC = "spec"
    PARENTS = "parents"
    CHILDREN = "children"
    EVENTS = "events"
    ATTEMPTS = "attempts"
    CONDITIONS = "conditions"
    REASONS = "reasons"
    HOLDS = "holds"
    NOTES = "notes"
    ATTRIBUTES = "attributes"
    SIGNS = "signs"


ALL_PARTS = frozenset(Part)


SILENT_MS = HOUR_MS
"""A run that gives no sign for so long is worth a look, if nothing else tells what is usual."""
SILENT_MS_MIN = MINUTE_MS
"""Below, silence is not worth a word, however short such runs usually are."""


class JobView(Struct, frozen=True):
    """A job as a reader sees it. Parts that were not asked for are empty."""

    job: Job
    """Without `Part.SPEC` its spec holds the name only."""
    rollup: Rollup
    parents: tuple[JobId, ...] = ()
    children: tuple[JobId, ...] = ()
    events: tuple[Event, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    reasons: tuple[Reason, ...] = ()
    conditions: tuple[Condition, ...] = ()
    """Those in force: its own, or the ones inherited from its root (decision 13)."""
    held_nodes: tuple[NodeId, ...] = ()
    """Nodes kept for it until it has `minHosts` of them."""
    latest_note: Note | None = None
    """The newest of its thread; None when there is no thread."""
    attributes: tuple[Attribute, ...] = ()
    """All of its own: those it was submitted with, and what was set since."""
    sign_at: Moment | None = None
    """When it last printed something or made progress, or began; None unless it runs."""
    usual_ms: int | None = None
    """What its siblings that have succeeded took, in the median; None when there are none."""

    def is_silent(self, now: Moment) -> bool:
        """It runs, and has given no sign for longer than such a run takes altogether."""
        if self.sign_at is None:
            return False
        usual_ms = SILENT_MS if self.usual_ms is None else max(self.usual_ms, SILENT_MS_MIN)
        return now - self.sign_at > usual_ms

    @property
    def waiting_for(self) -> str:
        """The reasons as one text; empty when the job does not wait."""
        return " ".join(reason.text for reason in self.reasons)

    def remaining_ms(self, now: Moment) -> int | None:
        """How long it will take if it goes on as it went so far (decision 26); None when that
        says nothing."""
        progress, started = self.rollup.overall_progress, self.job.started_at
        if not progress or started is None or not self.rollup.ui_status.startswith("running"):
            return None
        return max(now - started, 0) * (PROGRESS_UNIT - progress) // progress


class NodeView(Struct, frozen=True):
    node: Node
    connected: bool
    available: bool
    """Enabled, active and inside its availability rules: it may get jobs now."""
    off_duty: str = ""
    """Why its availability rules keep jobs away, after the node's name; empty if they do not."""
    time_zone: str = "UTC"
    """By whose clocks its availability rules go."""
    utc_offset_minutes: int = 0
    """How far those clocks are ahead of UTC now."""
    groups: tuple[int, ...] = ()
    running: tuple[JobId, ...] = ()
    cpus_busy: int = 0
    needs_upgrade: bool = False
    """It runs another Roost than the server."""
    latest_note: Note | None = None
    """The newest of its thread; None when there is no thread."""

    @property
    def state(self) -> str:
        """One of `NODE_STATES`."""
        if not self.node.active or not self.connected:
            return "offline"
        if self.node.disabled:
            return "draining" if self.running else "disabled"
        if self.off_duty:
            return "outside its hours"
        return "running" if self.running else "available"

    def allows(self, action: str, group: GroupId | None = None) -> bool:
        """Whether one of `actions.NODE_ACTIONS` would change it."""
        match action:
            case "drain":
                return not self.node.disabled
            case "enable":
                return self.node.disabled
            case "upgrade":
                return self.needs_upgrade
            case "add_to_group":
                return group not in self.groups
            case "take_out_of_group":
                return group in self.groups
        return True


NODE_STATES = ("available", "running", "draining", "disabled", "outside its hours", "offline")


class NodeFilter(Struct, frozen=True):
    """Which nodes are meant. Empty fields do not filter."""

    states: tuple[str, ...] = ()
    """Of `NODE_STATES`."""
    words: str = ""
    """In the label or the description, without regard to case."""
    group: GroupId | None = None

    def passes(self, view: NodeView) -> bool:
        text = f"{view.node.facts.label} {view.node.description}"
        return (
            (not self.states or view.state in self.states)
            and self.words.casefold() in text.casefold()
            and (self.group is None or self.group in view.groups)
        )


class ResourceView(Struct, frozen=True):
    resource: Resource
    in_use: int


class ServerError(Struct, frozen=True):
    """Something that went wrong inside the server and was nobody's mistake but ours."""

    id: int
    at: Moment
    text: str


class ServerErrors(Struct, frozen=True):
    """`errors` holds the latest, newest first; `total` counts all since the server started."""

    total: int
    errors: tuple[ServerError, ...] = ()


class ThreadView(Struct, frozen=True):
    """A thread of notes, and what it is about."""

    id: ThreadId
    job: JobId | None
    node: NodeId | None
    notes: tuple[Note, ...]
    """Oldest first; only the latest when no more was asked for. Never empty."""


class OutputPart(Struct, frozen=True):
    """A piece of a job's output log, all attempts in order with separator lines between them."""

    offset: int
    data: bytes
    total: int
    """Bytes stored so far."""
    complete: bool
    """True when nothing more can come: the job is finished and all is stored."""


SORTS = ("id", "name", "submitted_by", "status", "priority", "progress", "failed", "ended")
"""What a listing can be sorted by."""


class OutputLines(Struct, frozen=True):
    """Some lines of a job's output log, or of the output of one attempt. Counted from 1."""

    first: int
    """The number of the first line in `texts`."""
    texts: list[str]
    """Without the newlines, as a terminal would be left with them; long ones are cut."""
    total: int
    """Lines there are so far, an unfinished last one included."""
    is_open: bool
    """The last line has no end yet: there may be more of it."""
    size: int
    """Bytes stored so far."""
    complete: bool = False
    """True when nothing more can come."""
    times: list[int] = []
    """When each line began to arrive at the server, in seconds since 1970, 0 where that is not
    known; empty when it was not asked for."""


class OutputMatches(Struct, frozen=True):
    """The lines of an output log that match a pattern."""

    numbers: list[int]
    """Ascending."""
    searched_to: int
    """All lines up to this one have been looked at."""


class AttemptView(Struct, frozen=True):
    attempt: Attempt
    job_name: str


class JobFilter(Struct, frozen=True):
    """Which jobs a listing shows, and in which order. Empty fields do not filter."""

    statuses: tuple[JobStatus, ...] = ()
    roots_only: bool = False
    parent: JobId | None = None
    name_contains: str = ""
    name_excludes: str = ""
    submitted_by: str = ""
    submitted_after: Moment | None = None
    ended_after: Moment | None = None
    before: JobId | None = None
    """Only ids below this one: the next page of a listing by id."""
    after: JobId | None = None
    """Only ids above this one: what has come since."""
    sort: str = "id"
    """One of `SORTS`; equals go by id."""
    descending: bool = True
    skip: int = 0
    """Leave out as many: the next page of a listing by something else than the id."""
    limit: int = 50


class JobStanding(Struct, frozen=True):
    """What has to be known of a job to offer actions on it."""

    id: JobId
    name: str
    status: JobStatus
    priority: int
    tasks_failed: int


class Acted(Struct, frozen=True):
    """What became of a wish that several jobs should be treated in the same way."""

    applied: tuple[JobId, ...]
    left_out: tuple[JobId, ...]
    """Unknown, or in a state that does not allow it; newest first."""
    undo: str = ""
    """What `Gateway.undo` takes; empty when it cannot be undone."""


class NodesActed(Struct, frozen=True):
    """What became of a wish that several nodes should be treated in the same way."""

    applied: tuple[NodeId, ...]
    left_out: tuple[NodeId, ...]
    """Those that were so already."""
    jobs: tuple[JobId, ...] = ()
    """That were submitted to do it."""
    undo: str = ""
    """What `Gateway.undo` takes; empty when it cannot be undone."""


class Undone(Struct, frozen=True):
    """What was taken back."""

    jobs: tuple[JobId, ...] = ()
    nodes: tuple[NodeId, ...] = ()
    undo: str = ""
    """To do it again after all."""


class FarmChange(Struct, frozen=True):
    """What changed since the last one, merged while the reader was busy."""

    jobs: tuple[JobId, ...] = ()
    """Which of the jobs that are followed have changed."""
    submitted: bool = False
    """There are new jobs."""
    counts: bool = False
    """Some job or other began, ended or changed."""
    nodes: bool = False
    """Some node, group or resource changed."""


class FarmCounts(Struct, frozen=True):
    """The numbers of the farm as a whole, for /healthz, /metrics and headlines."""

    jobs: dict[str, int]
    """Live jobs by status."""
    nodes: int
    nodes_busy: int
    """Active ones that run something."""
    nodes_active: int
    cpus: int
    cpus_busy: int

    @property
    def running(self) -> int:
        """Jobs that are on a node."""
        return sum(self.jobs.get(status.value, 0) for status in ON_NODE)

    @property
    def waiting(self) -> int:
        """Jobs that wait for a node or for their children."""
        return self.jobs.get("runnable", 0) + self.jobs.get("queued", 0)


class Pace(Struct, frozen=True):
    """What was counted since the server started, and how long jobs waited of late."""

    ended: int = 0
    """Runs that are over."""
    failed: int = 0
    """Those of them that failed."""
    wait_p50_ms: int = 0
    wait_p90_ms: int = 0
    wait_p99_ms: int = 0
    """Percentiles over the jobs that began in the last whole minute."""
    failed_an_hour: int = 0
    """Runs that failed in the last hour."""


class Sample(Struct, frozen=True):
    """The farm's numbers at a moment, and what happened in the minute before."""

    at: Moment
    running: int
    waiting: int
    cpus: int
    cpus_busy: int
    nodes: int
    nodes_active: int
    nodes_busy: int
    ended: int
    failed: int
    wait_p50_ms: int
    wait_p90_ms: int
    wait_p99_ms: int
    failed_an_hour: int = 0
    """Runs that failed in the hour before; made of the samples in it."""


class Kind(Struct, frozen=True):
    """Jobs whose names differ in numbers only, of those that ended last."""

    name: str
    jobs: int
    failed: int
    run_ms: int
    """What one took, in the mean."""


class Headline(Struct, frozen=True):
    """What is to be seen at the top of every page."""

    counts: FarmCounts
    failed_today: int
    """Root jobs that failed since midnight by the farm's clocks; counting stops at 10,000."""


class Gateway(Protocol):
    """Every method raises `Refused` for what cannot be, and nothing else."""

    def ask(self, command: Command) -> Awaitable[object]:
        """Have the core decide; gives its reply once the change is on disk."""
        ...

    async def act(
        self,
        action: str,
        which: JobFilter | None = None,
        ids: Sequence[JobId] = (),
        priority: int | None = None,
    ) -> Acted:
        """Do what `core.actions` names to all jobs that pass a filter, up to its limit, or to
        these: as one command, all of it or nothing."""
        ...

    async def act_on_nodes(
        self,
        action: str,
        which: NodeFilter | None = None,
        ids: Sequence[NodeId] = (),
        group: GroupId | None = None,
    ) -> NodesActed:
        """Do one of `actions.NODE_ACTIONS` to all nodes that pass a filter, or to these: as one
        command, all of it or nothing. Raises `NotFound` for an unknown one, and what
        `upgrade_nodes` raises."""
        ...

    async def undo(self, token: str) -> Undone:
        """Take back what was done, for exactly those jobs or nodes that it changed, and as they
        were before. Each token is good once; raises `NotFound` for one that is not (any more)."""
        ...

    async def job_views(self, ids: Sequence[JobId], parts: frozenset[Part]) -> list[JobView]:
        """In the order of `ids`; unknown ids are left out."""
        ...

    async def attribute_points(self, job: JobId) -> dict[str, list[AttributePoint]]:
        """What is kept of the history of a job's numeric attributes, by folded name."""
        ...

    async def child_statuses(self, job: JobId) -> list[tuple[JobId, JobStatus]]:
        """The children of a job in their order; none for an unknown job."""
        ...

    async def attempts_on_node(self, node: NodeId, since: Moment, limit: int) -> list[AttemptView]:
        """The attempts that ran on this node at some time since then, the latest first; also those
        that could not be started, not those that were taken back before they began."""
        ...

    async def attempts_of_family(self, job: JobId, limit: int) -> list[AttemptView]:
        """The attempts of a job and of its children, the latest first; the same ones."""
        ...

    async def list_jobs(self, which: JobFilter, parts: frozenset[Part]) -> list[JobView]: ...

    async def count_jobs(self, which: JobFilter, count_max: int) -> dict[JobStatus, int]:
        """How many jobs pass the filter, by status; counting stops at `count_max` for each. The
        order and the bounds of the page do not matter."""
        ...

    async def standings(
        self, which: JobFilter | None = None, ids: Sequence[JobId] = ()
    ) -> list[JobStanding]:
        """Of all jobs that pass the filter, up to its limit, or of these; newest first."""
        ...

    async def job_ids(
        self, statuses: Sequence[JobStatus] | None = None, *, roots_only: bool = False
    ) -> list[JobId]:
        """Ids in ascending order; `statuses=None` means any."""
        ...

    async def count_waiting(
        self, runnable_before: Moment, priority_min: int | None, priority_max: int | None
    ) -> int:
        """How many jobs are runnable since before that moment, bounds inclusive."""
        ...

    async def nodes(self, *, with_former: bool = False) -> list[NodeView]:
        """All listed nodes, by id; `with_former` adds those that have left the farm."""
        ...

    def node_labels(self) -> dict[NodeId, str]:
        """The labels of all nodes, also of those that have left but were not removed."""
        ...

    async def upgrade_nodes(self, ids: Sequence[NodeId]) -> list[JobId]:
        """Make a job for each of these nodes that runs another Roost than the server; gives their
        ids. Nodes that are unknown, up to date, or have such a job are left out. Raises
        `Forbidden` when there would be one and upgrades are off."""
        ...

    async def job_history(self, node: NodeId, limit: int) -> list[JobId]:
        """The jobs that most recently ended on this node, the latest first; each once."""
        ...

    async def start_failures(self, node: NodeId, limit: int) -> tuple[int, list[Attempt]]:
        """How many attempts could not be started on this node, and the latest of them first."""
        ...

    async def groups(self) -> list[Group]:
        """All client groups, by id, with those of their members that are listed."""
        ...

    async def resources(self) -> list[ResourceView]:
        """The table of resources, by id."""
        ...

    async def thread_ids(self) -> list[ThreadId]:
        """The ids of all threads, ascending."""
        ...

    async def threads(
        self, ids: Sequence[ThreadId] | None = None, *, latest_only: bool = False
    ) -> list[ThreadView]:
        """In the order of `ids`, unknown ones left out; None means all, by id."""
        ...

    async def output(self, job: JobId, last_bytes: int | None = None) -> bytes:
        """The whole log or its end, as stored. Raises `NotFound` for an unknown job."""
        ...

    async def output_part(self, job: JobId, offset: int, size_max: int) -> OutputPart:
        """Raises `NotFound` for an unknown job."""
        ...

    async def output_lines(
        self, job: JobId, first: int, count: int, attempt: int | None = None, *, timed: bool = False
    ) -> OutputLines:
        """At most `count` lines of the log, or of one attempt, from number `first` on; or the last
        `-first` when that is negative; with their times, if they are wanted. Raises `NotFound` for
        an unknown job or attempt."""
        ...

    async def output_end(
        self, job: JobId, bytes_max: int, attempt: int | None = None
    ) -> tuple[list[str], int]:
        """The lines of the last bytes of the log, or of one attempt, and its size in bytes; without
        their numbers, which nobody knows before the whole log has been read once. Raises `NotFound`
        as `output_lines` does."""
        ...

    async def search_output(
        self, job: JobId, pattern: str, first: int, matches_max: int, attempt: int | None = None
    ) -> OutputMatches:
        """Which lines from number `first` on match a regular expression, as far as that is known
        in a few seconds. Raises `NotFound` as `output_lines` does, `Invalid` for the pattern."""
        ...

    def follow(self, jobs: Sequence[JobId]) -> AsyncIterator[tuple[JobId, ...]]:
        """Yields the ids among `jobs` that changed (state, progress, roll-up or output), as it
        happens, merged while the reader is busy; once at the start with all of them."""
        ...

    def revision(self) -> int:
        """Grows with every change that can be read; what is read later is at least as new."""
        ...

    def watch(self, jobs: Sequence[JobId], seen: int = 0) -> AsyncIterator[FarmChange]:
        """As `follow`, with what else changed in the farm. It begins with what has changed since
        revision `seen`, at once and even if that is nothing; with everything if that is too long
        ago to be known."""
        ...

    async def counts(self) -> FarmCounts: ...

    def pace(self) -> Pace: ...

    async def samples(self, since: Moment, count_max: int) -> list[Sample]:
        """Oldest first; when there are more, several become one: what was counted is added up,
        the largest wait is kept, the rest is the mean."""
        ...

    async def kinds(self, roots_max: int) -> list[Kind]:
        """What the last `roots_max` root jobs to end were; the kind with most jobs first."""
        ...

    async def activities(
        self, limit: int, before: int | None = None, words: str = ""
    ) -> list[tuple[int, Activity]]:
        """What people did, the latest first, with numbers that tell where to go on; `words` is
        looked for in who, what and the text."""
        ...

    async def headline(self) -> Headline:
        """May be a second old: it is shared by all who look."""
        ...

    def note_error(self, text: str) -> None:
        """Remember an unexpected error, in one sentence."""
        ...

    def server_errors(self) -> ServerErrors: ...

    def config(self, key: str) -> str | None:
        """A setting under HQueue's key name; None when unknown or secret."""
        ...

    def now(self) -> Moment: ...

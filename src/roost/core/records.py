"""What a farm consists of: jobs, attributes, attempts, nodes, groups, resources, notes, events.

Records are frozen; a change replaces the record. They know nothing of each other beyond ids:
who is whose child lives in `tree`, who runs where in `farm`. Moments are integer milliseconds
since 1970 in UTC, durations end in `_ms`.

Those of which there are many are hidden from the garbage collector (`gc=False`): they hold no
cycles, and to look through a million of them stops a server for a second.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, NewType

from msgspec import Struct
from msgspec.structs import force_setattr

JobId = NewType("JobId", int)
NodeId = NewType("NodeId", int)
GroupId = NewType("GroupId", int)
ResourceId = NewType("ResourceId", int)
ThreadId = NewType("ThreadId", int)
NoteId = NewType("NoteId", int)
NoticeId = NewType("NoticeId", int)
Moment = NewType("Moment", int)

AttemptKey = tuple[JobId, int]
"""A job and the number of one of its attempts: the name of everything that ever ran."""

PROGRESS_UNIT = 1_000_000
"""Progress is counted in whole millionths, so that sums over a tree are exact."""
DAY_MINUTES = 24 * 60
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


class JobStatus(StrEnum):
    """The thirteen words of HQueue."""

    QUEUED = "queued"
    RUNNABLE = "runnable"
    WAITING = "waiting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    EJECTING = "ejecting"
    EJECTED = "ejected"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"


class Condition(Struct, frozen=True, gc=False):
    """One placement rule of a job; all of a job's conditions must hold."""

    name: str
    """`hostname`, `hostname:name`, `group` or `os`."""
    op: str
    """`==`, `!=`, `in`, `not_in`, or `any` (deprecated spelling of `in`)."""
    value: str
    type: str = "client"


class JobSpec(Struct, frozen=True, gc=False, omit_defaults=True):
    """What the submitter asked for, after coercion (decision 5)."""

    name: str
    command: str | dict[str, str] = ""
    """One shell command set, or one per platform: `linux`, `windows`, `macosx`."""
    shell: str = ""
    cwd: str = ""
    """Working directory on the node; empty means the node's own work folder. Roost's own key."""
    description: str = ""
    submitted_by: str = ""
    environment: dict[str, str] = {}
    conditions: tuple[Condition, ...] = ()
    """Own conditions, those made of `host` and `hostgroup` included."""
    tags: tuple[str, ...] = ()
    cpus: int = 1
    min_hosts: int = 1
    max_hosts: int = 1
    max_time_ms: int | None = None
    resources: dict[str, int] = {}
    on_cancel: str = ""
    on_error: str = ""
    on_success: str = ""
    on_child_error: str = ""
    cleanup: str = ""
    email_to: str = ""
    email_reasons: str = ""
    attributes: dict[str, str] = {}
    """ClassAd attributes it begins with: name, as it was spelled, and expression."""
    submit_dir: str = ""
    """Absolute folder that its Chirp files are relative to; empty means one of its root job."""

    @property
    def has_command(self) -> bool:
        return bool(self.command)


NOTHING: dict[str, Any] = {}
"""Of all specifications in memory that have nothing in one of their dictionaries, as most have in
all three: one for each would be an eighth of what a live job takes."""


def lean(spec: JobSpec) -> JobSpec:
    """This one, which has just been read, with `NOTHING` where it has nothing."""
    if not spec.environment:
        force_setattr(spec, "environment", NOTHING)
    if not spec.resources:
        force_setattr(spec, "resources", NOTHING)
    if not spec.attributes:
        force_setattr(spec, "attributes", NOTHING)
    return spec


class Job(Struct, frozen=True, gc=False, omit_defaults=True):
    """A job's own state. Times are None until they have happened."""

    id: JobId
    spec: JobSpec
    status: JobStatus
    queued_at: Moment
    priority: int = 0
    tries_left: int = 0
    progress: int = 0
    """Millionths of the command done; stays 0 without a command."""
    attempt: int = 0
    """Number of the latest attempt; 0 before the first."""
    nodes: tuple[NodeId, ...] = ()
    """Every node that runs or has run it, latest last."""
    runnable_at: Moment | None = None
    started_at: Moment | None = None
    """When it or one of its descendants first started."""
    command_started_at: Moment | None = None
    command_ended_at: Moment | None = None
    ended_at: Moment | None = None
    command_outcome: str = ""
    """`succeeded` or `failed` once the own command has ended while children remain (decision 6)."""
    failures: tuple[tuple[NodeId, int], ...] = ()
    """Of a root: on which nodes runs of its tree failed, and how many did (decision 43)."""
    blocked_warning: bool = False
    """Shown to people: some node gets no more of these jobs, as too many failed there."""


class Rollup(Struct, frozen=True, gc=False, array_like=True):
    """What a job shows of itself and its descendants; kept current, not computed on reads."""

    ui_status: str
    overall_progress: int
    """Millionths, the mean over leaf and command jobs (decision 25)."""
    tasks_total: int
    tasks_done: int
    tasks_failed: int
    clients_assigned: int


class AttemptCause(StrEnum):
    """Why an attempt is over."""

    EXITED = "exited"
    CANCELLED = "cancelled"
    EJECTED = "ejected"
    TIME_LIMIT = "time limit"
    NOT_STARTED = "not started"
    """The command could not be run at all; the text says why. Counts as a failure."""
    LOST = "lost"
    """The node no longer has it and cannot say how it ended."""
    FENCED = "fenced"
    """The server gave up on the node; whatever the attempt still reports is ignored."""


class Attempt(Struct, frozen=True, gc=False):
    """One run of a job: the unit that is started, signalled and ended."""

    job: JobId
    number: int
    nodes: tuple[NodeId, ...]
    """Its nodes; the first runs the command, the others are reserved (decision 28)."""
    assigned_at: Moment
    purpose: str = "command"
    """`command`, or `child error` for the onChildError script alone."""
    started_at: Moment | None = None
    ended_at: Moment | None = None
    stopping: bool = False
    """A cancel or eject is on its way; its result can no longer change the job."""
    cause: AttemptCause | None = None
    exit_code: int | None = None
    """As `subprocess` counts: negative for a signal."""
    text: str = ""
    last_entry: int = 0
    """Of the lines that it added to its job's story, the number of the latest."""
    paused: bool = False
    """It was asked to pause and not to resume, whether its node has done so, or is lost meanwhile:
    without it, its job waits until it is resumed."""

    @property
    def key(self) -> AttemptKey:
        return (self.job, self.number)


class NodeFacts(Struct, frozen=True):
    """What a machine says of itself when it joins."""

    hostname: str
    name: str = ""
    installation: str = ""
    """Made once per data folder: tells a returning agent from a second one with the same name."""
    ip: str = ""
    port: int = 0
    platform: str = "linux-x86_64"
    """As HQueue names architectures; the part before the dash selects a command."""
    cpus: int = 1
    cpu_speed_mhz: int = 0
    memory_kb: int = 0
    version: str = ""
    gpus: tuple[str, ...] = ()
    """The names of its graphics processors."""

    @property
    def label(self) -> str:
        """`hostname`, or `hostname:name` when the name is not empty (API page)."""
        return f"{self.hostname}:{self.name}" if self.name else self.hostname

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same node when it joins again; letter case does not."""
        return (self.hostname.casefold(), self.name.casefold())

    @property
    def operating_system(self) -> str:
        return self.platform.partition("-")[0]


class AvailabilityRule(Struct, frozen=True, omit_defaults=True):
    """One of the rules by which a node takes jobs; see `availability`."""

    id: int = 0
    """Its number among the rules of the node, from 1 on; 0 before it has one."""
    type: Literal["time", "idle"] = "time"
    enabled: bool = True
    day: str = "any"
    """On which days it begins: a key of `availability.DAYS`."""
    start: int = 0
    """When it begins, in minutes after midnight by the farm's clock."""
    end: int = 0
    """When it ends, the same way: when the clock next shows this, tomorrow if need be."""
    idle_minutes: int = 0
    """Of an idle rule: for how long nobody may have used the node."""

    @property
    def anytime(self) -> bool:
        """It always holds."""
        return self.type == "time" and self.day == "any" and self.start == self.end


class Node(Struct, frozen=True):
    """A machine of the farm, as the server sees it."""

    id: NodeId
    facts: NodeFacts
    joined_at: Moment
    last_beat_at: Moment
    active: bool = True
    """False once it has been silent for longer than the active timeout."""
    disabled: bool = False
    leaving: bool = False
    """It said farewell and only finishes what it runs; no longer listed."""
    description: str = ""
    load: float = 0.0
    idle_minutes: int = -1
    """For how long nobody has used it; -1 when unknown."""
    availability: tuple[AvailabilityRule, ...] = ()
    """When it takes jobs; always, if there are none."""
    memory_used_kb: int = 0
    """What is not available to others; 0 when unknown. Not on disk: the next beat tells it."""


class Group(Struct, frozen=True, dict=True):
    """Nodes under one name, for conditions of jobs. A node may be in several groups."""

    id: GroupId
    name: str
    nodes: tuple[NodeId, ...] = ()

    @cached_property
    def members(self) -> frozenset[NodeId]:
        """The same, for asking about one of thousands."""
        return frozenset(self.nodes)


class Resource(Struct, frozen=True):
    """A named amount that jobs need while they run, such as licences."""

    id: ResourceId
    name: str
    max: int | None = None
    """None when there is no limit."""
    per_machine: bool = False
    """One unit serves all jobs on a machine; else each job takes what it asks for."""


class Thread(Struct, frozen=True):
    """Notes that belong together, about a job, about a node, or about neither."""

    id: ThreadId
    job: JobId | None = None
    node: NodeId | None = None
    notes: tuple[NoteId, ...] = ()
    """Oldest first; the later ones are replies."""


class Note(Struct, frozen=True):
    """What somebody wrote; it is never changed."""

    id: NoteId
    thread: ThreadId
    at: Moment
    text: str


class Event(Struct, frozen=True, gc=False, array_like=True):
    """A line of a job's story: the `logs` of the API (decision 15)."""

    job: JobId
    at: Moment
    status: str
    message: str = ""


class Attribute(Struct, frozen=True, gc=False):
    """What a job's attribute became after it was submitted; see `attributes`."""

    job: JobId
    name: str
    """As it was first spelled; case does not matter."""
    text: str
    """A ClassAd expression."""
    at: Moment
    """When it was last set."""
    count: int = 0
    """How many numbers it has been set to: points of its history, most of them forgotten."""


class AttributePoint(Struct, frozen=True, gc=False):
    """A number that an attribute was set to."""

    job: JobId
    name: str
    """Folded: see `attributes.fold`."""
    number: int
    """Counts from 0 through all points that there ever were."""
    at: Moment
    value: float


class Notice(Struct, frozen=True, gc=False):
    """Something that somebody is to be told of a job; see `notices`."""

    id: NoticeId
    channel: str
    """`notices.MAIL` or `notices.WEBHOOK`."""
    target: str
    """Addresses with commas between, or a URL."""
    job: JobId
    name: str
    reason: str
    at: Moment
    text: str = ""


class Activity(Struct, frozen=True):
    """What somebody did to the farm, for whoever asks later; see `activity`."""

    at: Moment
    by: str
    """Through what and from where: `page from 10.0.0.7`."""
    action: str
    text: str = ""
    jobs: tuple[JobId, ...] = ()
    """The first of the jobs it was done to."""
    jobs_total: int = 0
    node: NodeId | None = None


class Reason(Struct, frozen=True):
    """Why a job does not run, in one sentence; per node where it differs."""

    text: str
    nodes: tuple[NodeId, ...] = ()
    """The nodes it holds for; empty when it does not depend on the node."""

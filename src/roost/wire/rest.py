"""The bodies of /api/v1 as structs: what the server encodes is what `roost.remote` decodes.

Knows names, types and units of the JSON, and nothing else: no routes, no records, no rules. Keys
are snake_case. Moments are integer milliseconds since 1970 in UTC and end in `_at`; progress is a
number between 0 and 1; node and job ids are integers. A job specification appears under HQueue's
own key names, so that what was read can be submitted again.

Always holds: a field is only ever added, with a default, so that older scripts keep reading newer
servers. The OpenAPI description is made from these structs (`roost.api.openapi`).
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

PREFIX = "/api/v1"

FOLLOWED_JOBS_MAX = 1_000
"""Jobs that one stream tells of."""
EVENT_CHANGE = "job"
EVENT_END = "end"
"""Names of the server-sent events of /jobs/events: a `JobChange`, and "all are finished"."""

HEADER_OFFSET = "roost-offset"
HEADER_TOTAL = "roost-total"
HEADER_COMPLETE = "roost-complete"
"""Headers of an output part: where it begins, bytes stored so far, `true` if nothing can come."""


class ErrorDetail(Struct, frozen=True):
    status: int
    message: str


class ErrorBody(Struct, frozen=True):
    """Every answer of 400 and above."""

    error: ErrorDetail


class Ids(Struct, frozen=True):
    """Job ids: those created, or those to act on."""

    ids: list[Annotated[int, Meta(ge=1, le=2**53 - 1)]]


class JobMatch(Struct, frozen=True, kw_only=True):
    """All jobs that a listing with the same words would show."""

    status: list[str] = []
    roots_only: bool = False
    parent: int | None = None
    name_contains: str = ""
    name_excludes: str = ""
    submitted_by: str = ""
    submitted_after: int | None = None
    ended_after: int | None = None


class Selection(Struct, frozen=True, kw_only=True):
    """Jobs to act on: either these or all that match."""

    ids: list[Annotated[int, Meta(ge=1, le=2**53 - 1)]] | None = None
    match: JobMatch | None = None


class Priority(Selection, frozen=True, kw_only=True):
    """A priority for jobs; higher goes first."""

    priority: Annotated[int, Meta(ge=0, le=2**53 - 1)]


class PermittedNodes(Struct, frozen=True):
    """Which nodes may run a job.

    To be set as `hostname` for all nodes there, `hostname:name`, or `hostname:` for the one
    without a name; null permits any. Read as the labels of the nodes that may run it now.
    """

    nodes: list[str] | None


class BlockedWarning(Struct, frozen=True):
    """Whether people are shown that some nodes get no more of a job's tree."""

    shown: bool


class Done(Struct, frozen=True):
    """The wish is stored. What it changes shows in the jobs and nodes themselves."""

    done: bool = True


class Acted(Done, frozen=True, kw_only=True):
    """What became of a wish for several jobs."""

    applied: list[int] = []
    """Jobs that the action applied to. Of what is below them, only what was ejected, or rescheduled
    as failed, is listed."""
    skipped: list[int] = []
    """Unknown, or in a state that does not allow it; nothing below them was acted on either where
    that is listed."""
    undo: str = ""
    """To be sent to `/undo` to take it back; empty when it cannot be."""


class JobChange(Struct, frozen=True, kw_only=True):
    """Where a job stands: the data of a server-sent event."""

    id: int
    status: str
    ui_status: str
    progress: float
    overall_progress: float
    tasks_total: int
    tasks_done: int
    tasks_failed: int
    clients_assigned: int
    finished: bool
    """Succeeded, failed or cancelled. An abandoned job is not: it may go on or run again."""


class JobSummary(JobChange, frozen=True, kw_only=True):
    """A row of a list of jobs."""

    name: str
    priority: int
    submitted_by: str
    queued_at: int
    started_at: int | None
    ended_at: int | None
    nodes: list[int]
    sign_at: int | None = None
    """When it last printed something or made progress, or began; null unless it runs."""
    usual_ms: int | None = None
    """What its siblings that have succeeded took, in the median; null when there are none."""
    silent: bool = False
    """It runs, and has given no sign for longer than such a run takes altogether."""


class JobPage(Struct, frozen=True):
    jobs: list[JobSummary]
    next: str | None = None
    """Path and query of the next page; None on the last."""


class OutputLines(Struct, frozen=True, kw_only=True):
    """Some lines of a job's output log, as people read them, and when they came."""

    first: int
    """The number of the first one here; lines are counted from 1."""
    texts: list[str]
    """Of what overwrites itself by carriage returns the last; of a long line the beginning."""
    arrived_at: list[int | None]
    """When the server had the first of each, to the second; null where that is not known."""
    total: int
    """Lines there are so far, an unfinished last one included."""
    is_open: bool
    """The last line has no end yet: there may be more of it."""
    size: int
    """Bytes stored so far."""
    complete: bool
    """Nothing more can come."""


class JobEvent(Struct, frozen=True):
    at: int
    status: str
    message: str


class JobAttempt(Struct, frozen=True, kw_only=True):
    number: int
    purpose: str
    nodes: list[int]
    assigned_at: int
    started_at: int | None
    ended_at: int | None
    cause: str | None
    exit_code: int | None
    text: str


class JobReason(Struct, frozen=True):
    """Why a job does not run; `nodes` is empty when it does not depend on the node."""

    text: str
    nodes: list[int]


class Reasons(Struct, frozen=True):
    reasons: list[JobReason]


class JobDetail(JobSummary, frozen=True, kw_only=True):
    """All that is known of a job. `spec` and `conditions` have HQueue's key names."""

    spec: dict[str, Any]
    tries_left: int
    attempt: int
    runnable_at: int | None
    command_started_at: int | None
    command_ended_at: int | None
    parents: list[int]
    children: list[int]
    conditions: list[dict[str, str]]
    """Those in force, inherited ones included."""
    held_nodes: list[int]
    events: list[JobEvent]
    attempts: list[JobAttempt]
    reasons: list[JobReason]
    blocked_warning: bool = False
    """Some node gets no more of this job's tree, because too much of it failed there."""
    attributes: dict[str, Any] = {}
    """Its own attributes by name; values as in `JobAttribute`."""


class JobAttribute(Struct, frozen=True, kw_only=True):
    """An attribute of a job: a name, without regard to case, and a ClassAd expression."""

    name: str
    value: Any
    """A number, bool, null, text or list of these; `{"expr": text}` for what is no literal."""
    text: str
    """The expression as jobs read it: texts have their quotes."""
    set_at: int
    """When it was last set; when the job was submitted, if it was never set since."""
    history: list[tuple[int, float]] = []
    """Moments and values of one that is set to numbers, oldest first; a long one is thinned."""


class JobAttributes(Struct, frozen=True):
    """A job's own attributes: those it was submitted with, and what was set since."""

    attributes: list[JobAttribute]


class AttributeValues(Struct, frozen=True):
    """Attributes to set: all of these or none. Values as in `JobAttribute`."""

    attributes: dict[str, Any]


class AvailabilityRule(Struct, frozen=True):
    """A rule by which a node takes jobs."""

    rule: str
    """As people write it: `weekdays 20:00-07:00`, `weekends`, `any 18:00-08:00` or `idle 15`, by
    the clocks of the farm's time zone."""
    enabled: bool = True
    id: Annotated[int, Meta(ge=0, le=2**53 - 1)] = 0
    """Its number among the rules of the node; 0 for a new one, which is given a number."""


class Availability(Struct, frozen=True):
    """All rules of a node. Any enabled one is enough; without rules it may always take jobs."""

    rules: list[AvailabilityRule]


class NodeDescription(Struct, frozen=True):
    """What people say of a node; empty takes it away."""

    description: str


class NodeDetail(Struct, frozen=True, kw_only=True):
    id: int
    label: str
    hostname: str
    name: str
    ip: str
    platform: str
    version: str
    cpus: int
    cpus_busy: int
    cpu_speed_mhz: int
    memory_kb: int
    load: float
    idle_minutes: int
    connected: bool
    available: bool
    active: bool
    disabled: bool
    description: str
    groups: list[int]
    running: list[int]
    joined_at: int
    last_beat_at: int
    gpus: list[str] = []
    """The names of its graphics processors."""
    needs_upgrade: bool = False
    """It runs another Roost than the server."""
    availability: list[AvailabilityRule] = []
    off_duty: str = ""
    """Why its rules keep jobs away now, after the node's name; empty if they do not."""
    time_zone: str = ""
    """By whose clocks the rules go."""
    memory_used_kb: int = 0
    """What is not available to others; 0 when unknown."""
    state: str = ""
    """`available`, `running`, `draining`, `disabled`, `outside its hours` or `offline`."""


class Nodes(Struct, frozen=True):
    nodes: list[NodeDetail]


class FarmError(Struct, frozen=True, kw_only=True):
    """Something that went wrong; `node` and `job` tell where, when it was not the server."""

    at: int
    text: str
    node: int | None = None
    job: int | None = None


class FarmErrors(Struct, frozen=True):
    """The latest errors, newest first, and how many there were."""

    total: int
    errors: list[FarmError]


class NewNote(Struct, frozen=True, kw_only=True):
    """A note about a job, about a node, in a thread, or, with none of them, in a new thread."""

    text: str
    job: Annotated[int, Meta(ge=1, le=2**53 - 1)] | None = None
    node: Annotated[int, Meta(ge=1, le=2**53 - 1)] | None = None
    thread: Annotated[int, Meta(ge=1, le=2**53 - 1)] | None = None


class NoteDetail(Struct, frozen=True):
    id: int
    at: int
    text: str


class NoteThread(Struct, frozen=True):
    """Notes that belong together, oldest first; about a job, a node, or neither."""

    id: int
    job: int | None
    node: int | None
    notes: list[NoteDetail]


class NoteThreads(Struct, frozen=True):
    threads: list[NoteThread]


class NewGroup(Struct, frozen=True):
    """A client group to be made."""

    name: str


class NewId(Struct, frozen=True):
    """The id of what was made."""

    id: int


class NodeIds(Struct, frozen=True):
    """Nodes by their ids."""

    nodes: list[Annotated[int, Meta(ge=1, le=2**53 - 1)]]


class GroupIds(Struct, frozen=True):
    """Client groups by their ids."""

    groups: list[Annotated[int, Meta(ge=1, le=2**53 - 1)]]


class NodeMatch(Struct, frozen=True, kw_only=True):
    """All nodes that are like this; with nothing said, all there are."""

    state: list[str] = []
    """As in `NodeDetail`."""
    words: str = ""
    """In the label or the description, without regard to case."""
    group: Annotated[int, Meta(ge=1, le=2**53 - 1)] | None = None


class NodeSelection(Struct, frozen=True, kw_only=True):
    """Nodes to act on: either these or all that match."""

    nodes: list[Annotated[int, Meta(ge=1, le=2**53 - 1)]] | None = None
    match: NodeMatch | None = None


class NodesActed(Done, frozen=True, kw_only=True):
    """What became of a wish for several nodes."""

    applied: list[int] = []
    skipped: list[int] = []
    """Those that were so already."""
    ids: list[int] = []
    """The jobs that were submitted to do it, for `upgrade`."""
    undo: str = ""
    """To be sent to `/undo` to take it back; empty when it cannot be."""


class Undo(Struct, frozen=True):
    """What the answer to an action gave as `undo`."""

    undo: str


class Undone(Done, frozen=True, kw_only=True):
    """The jobs or nodes that were put back."""

    jobs: list[int] = []
    nodes: list[int] = []
    undo: str = ""
    """To do it again after all."""


class GroupDetail(Struct, frozen=True):
    id: int
    name: str
    nodes: list[int]


class Groups(Struct, frozen=True):
    groups: list[GroupDetail]


class ResourceLimit(Struct, frozen=True):
    """What an administrator says of a resource; `max` null means that there is no limit."""

    max: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None
    per_machine: bool


class ResourceDetail(Struct, frozen=True):
    id: int
    name: str
    max: int | None
    per_machine: bool
    in_use: int


class Resources(Struct, frozen=True):
    resources: list[ResourceDetail]


class JobKind(Struct, frozen=True):
    """Root jobs whose names differ in numbers only, of those that ended last."""

    name: str
    jobs: int
    failed: int
    run_ms: int
    """What one took, in the mean."""


class Statistics(Struct, frozen=True):
    """The farm's numbers over time, and what kinds of jobs there were of late."""

    at: list[int]
    series: dict[str, list[int]]
    """By name, a number for each moment; those with `ms` are milliseconds."""
    kinds: list[JobKind]


class Deed(Struct, frozen=True, kw_only=True):
    """What somebody did to the farm."""

    id: int
    at: int
    by: str
    """Through what and from where: `page from 10.0.0.7`."""
    action: str
    text: str
    jobs: list[int]
    """The first of the jobs it was done to."""
    jobs_total: int
    node: int | None


class ActivityPage(Struct, frozen=True):
    activities: list[Deed]


class ConfigValue(Struct, frozen=True):
    key: str
    value: str | None


class Health(Struct, frozen=True, kw_only=True):
    """`status` is `ok`, or `unavailable` with the reason in `message`."""

    status: str
    version: str
    message: str = ""
    jobs: dict[str, int] = {}
    nodes: int = 0
    nodes_busy: int = 0
    nodes_active: int = 0
    cpus: int = 0
    cpus_busy: int = 0

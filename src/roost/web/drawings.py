"""What the drawn elements of the pages ask for, as JSON under /drawings: lines of output, the
children of a job, the nodes, attempts over time, attributes over time.

Each answer has the form that its element draws (`static/roost-log.js` and its like), and is as
small as that allows; it is no API for others, and changes with the elements. Must not decide
anything about a job or a node.

Always holds: whatever is refused is answered as `{"error": {"status", "message"}}`. An answer that
is asked for again and again has an ETag, and costs nothing on the wire while it stays the same.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Annotated, Any, TypeVar, cast

import msgspec
from msgspec import Meta, Struct
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from roost.core import attributes
from roost.core.jobspec import WHOLE_MAX
from roost.core.records import HOUR_MS, Attempt, AttemptCause, JobId, JobStatus, Moment, NodeId
from roost.errors import Invalid, NotFound, Refused
from roost.gateway import AttemptView, Gateway, NodeView, OutputLines, Part
from roost.web import presenters
from roost.web.presenters import node_mark, outcome, tone
from roost.web.site import id_in_path
from roost.wire.rest import ErrorBody, ErrorDetail

LINES = 500
LINES_MAX = 2_000
MATCHES_MAX = 10_000
DOWNLOAD_PART_BYTES = 1 << 20
JOBS_MAX = 100
ATTEMPTS_MAX = 2_000
HOURS_MAX = 24 * 31
FOLLOW_PAUSE_S = 0.1
"""At most ten pieces a second are sent to one who follows, however fast a job prints."""

S = JobStatus
C = AttemptCause

LETTERS = {status: chr(ord("a") + number) for number, status in enumerate(JobStatus)}
"""One for each status, for answers that hold thousands."""
LEGEND = {letter: (status.value, tone(status)) for status, letter in LETTERS.items()}
CAUSE_TONES = {
    C.CANCELLED: S.CANCELLED,
    C.EJECTED: S.EJECTING,
    C.TIME_LIMIT: S.FAILED,
    C.NOT_STARTED: S.FAILED,
    C.LOST: S.ABANDONED,
    C.FENCED: S.ABANDONED,
}

Whole = Annotated[int, Meta(ge=1, le=WHOLE_MAX)]
T = TypeVar("T", bound=Struct)

# --- questions -----------------------------------------------------------------------------------


class LinesAsked(Struct):
    first: Annotated[int, Meta(ge=-WHOLE_MAX, le=WHOLE_MAX)] = -LINES
    """Negative: that many from the end."""
    count: Annotated[int, Meta(ge=0, le=LINES_MAX)] = LINES
    attempt: Whole | None = None
    times: bool = False


class SearchAsked(Struct):
    pattern: Annotated[str, Meta(min_length=1)]
    first: Whole = 1
    attempt: Whole | None = None


class HoursAsked(Struct):
    hours: Annotated[float, Meta(gt=0, le=HOURS_MAX)] = 24


def _asked(request: Request, type_: type[T]) -> T:
    """The query string; raises `Invalid` naming what is wrong. Empty values are left out."""
    given = {name: value for name, value in request.query_params.items() if value}
    try:
        return msgspec.convert(given, type_, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"The address is not as wanted: {error}.") from None


# --- output --------------------------------------------------------------------------------------


async def output(gateway: Gateway, request: Request) -> OutputLines:
    """Lines of the log of a job or of one attempt, by number; the last ones unless told."""
    asked = _asked(request, LinesAsked)
    return await gateway.output_lines(
        JobId(id_in_path(request)), asked.first, asked.count, asked.attempt, timed=asked.times
    )


class Mistake(Struct, frozen=True):
    """A pattern that is none, while somebody types. It is an answer like others, as browsers
    complain to their console of each that is refused."""

    mistake: str


async def search_output(gateway: Gateway, request: Request) -> Struct:
    """Numbers of the lines that match a regular expression, as far as a few seconds go."""
    asked = _asked(request, SearchAsked)
    try:
        return await gateway.search_output(
            JobId(id_in_path(request)), asked.pattern, asked.first, MATCHES_MAX, asked.attempt
        )
    except Invalid as error:
        return Mistake(str(error))


async def follow_output(gateway: Gateway, request: Request) -> Response:
    """Server-sent events: lines as they are printed, from number `first` on.

    Each `lines` event carries `OutputLines`, and begins with the line that was last and open in
    the one before. One who is behind by more than a screenful gets the last lines only. An `end`
    event tells that nothing more can come. The id of an event is where the next one begins, so
    that a reader who comes back goes on from there.
    """
    job = JobId(id_in_path(request))
    asked = _asked(request, LinesAsked)
    latest = request.headers.get("last-event-id", "")
    first = int(latest) if latest.isdecimal() and int(latest) <= WHOLE_MAX else asked.first
    # Refuse while there still is a status to send.
    await gateway.output_lines(job, 1, 0, asked.attempt)
    return EventSourceResponse(_lines_as_printed(gateway, job, first, asked))


async def _lines_as_printed(
    gateway: Gateway, job: JobId, first: int, asked: LinesAsked
) -> AsyncIterator[ServerSentEvent]:
    async def lines(first: int) -> OutputLines:
        return await gateway.output_lines(job, first, LINES, asked.attempt, timed=asked.times)

    sent = -1
    async with aclosing(cast("Any", gateway.follow((job,)))) as changes:
        async for _ in changes:
            try:
                part = await lines(first)
                if part.total >= part.first + LINES:
                    part = await lines(-LINES)
            except NotFound:
                yield ServerSentEvent("{}", event="end")  # deleted meanwhile
                return
            first = max(part.total + (0 if part.is_open else 1), 1)
            if part.size != sent:
                sent = part.size
                yield ServerSentEvent(_json(part).decode(), event="lines", id=str(first))
            if part.complete:
                yield ServerSentEvent("{}", event="end", id=str(first))
                return
            await asyncio.sleep(FOLLOW_PAUSE_S)


async def download_output(gateway: Gateway, request: Request) -> Response:
    """The whole log as it is now, as a file."""
    job = JobId(id_in_path(request))
    total = (await gateway.output_part(job, 0, 1)).total

    async def parts() -> AsyncIterator[bytes]:
        offset = 0
        while offset < total:
            size_max = min(DOWNLOAD_PART_BYTES, total - offset)
            data = (await gateway.output_part(job, offset, size_max)).data
            if not data:
                return  # deleted meanwhile
            offset += len(data)
            yield data

    headers = {
        "content-type": "text/plain; charset=utf-8",
        "content-disposition": f'attachment; filename="job-{job}.log"',
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }
    return StreamingResponse(parts(), headers=headers)


# --- jobs ----------------------------------------------------------------------------------------


class Children(Struct, frozen=True):
    """All children of a job, in their order."""

    ids: list[JobId]
    statuses: str
    """A letter for each."""
    legend: dict[str, tuple[str, str]]
    """The status that a letter stands for, and the one it is drawn as."""


class JobFacts(Struct, frozen=True):
    """What is told of a job where the pointer rests on it."""

    id: JobId
    name: str
    status: str
    nodes: list[str]
    started_at: Moment | None
    ended_at: Moment | None


async def children(gateway: Gateway, request: Request) -> Children:
    found = await gateway.child_statuses(JobId(id_in_path(request)))
    letters = "".join(LETTERS[status] for _, status in found)
    return Children([job for job, _ in found], letters, LEGEND)


async def job_facts(gateway: Gateway, request: Request) -> list[JobFacts]:
    """Of the jobs in `?ids=1,2,3`; unknown ones are left out."""
    words = [word for word in request.query_params.get("ids", "").split(",") if word]
    try:
        ids = [JobId(msgspec.convert(word, Whole, strict=False)) for word in words]
    except msgspec.ValidationError as error:
        raise Invalid(f"ids: {error}.") from None
    if len(ids) > JOBS_MAX:
        raise Invalid(f"ids: give at most {JOBS_MAX}.")
    views = await gateway.job_views(ids, frozenset())
    labels = await _labels(gateway)
    return [
        JobFacts(
            id=view.job.id,
            name=view.job.spec.name,
            status=view.job.status.value,
            nodes=[labels[node] for node in view.job.nodes if node in labels],
            started_at=view.job.started_at,
            ended_at=view.job.ended_at,
        )
        for view in views
    ]


async def _labels(gateway: Gateway) -> dict[NodeId, str]:
    nodes = await gateway.nodes(with_former=True)
    return {view.node.id: view.node.facts.label for view in nodes}


# --- nodes ---------------------------------------------------------------------------------------


class NodeSquare(Struct, frozen=True):
    id: NodeId
    label: str
    state: str
    """A colour: `--node-…` in the style sheets."""
    word: str
    load: float
    cpus: int
    cpus_busy: int
    memory_kb: int
    memory_used_kb: int
    groups: tuple[int, ...]


class GroupName(Struct, frozen=True):
    id: int
    name: str


class Grid(Struct, frozen=True):
    nodes: list[NodeSquare]
    groups: list[GroupName]


async def nodes(gateway: Gateway, request: Request) -> Grid:
    """All nodes by label, and the groups they may be in."""
    squares = [_square(view) for view in await gateway.nodes()]
    squares.sort(key=lambda one: (one.label.casefold(), one.id))
    groups = [GroupName(group.id, group.name) for group in await gateway.groups()]
    return Grid(squares, groups)


def _square(view: NodeView) -> NodeSquare:
    node, facts = view.node, view.node.facts
    mark = node_mark(view)
    return NodeSquare(
        id=node.id,
        label=facts.label,
        state=mark.tone,
        word=mark.word,
        load=node.load,
        cpus=facts.cpus,
        cpus_busy=view.cpus_busy,
        memory_kb=facts.memory_kb,
        memory_used_kb=node.memory_used_kb,
        groups=view.groups,
    )


# --- attempts ------------------------------------------------------------------------------------


class Bar(Struct, frozen=True):
    """One attempt."""

    job: JobId
    attempt: int
    name: str
    nodes: list[str]
    start: Moment
    end: Moment | None
    """None while it runs."""
    tone: str
    """The status it is drawn as."""
    outcome: str


class Timeline(Struct, frozen=True):
    start: Moment
    end: Moment
    bars: list[Bar]
    """The latest first."""
    is_cut: bool
    """There are more than could be given."""


async def node_timeline(gateway: Gateway, request: Request) -> Timeline:
    """The attempts on a node in the last `?hours=24`."""
    end = gateway.now()
    start = Moment(end - int(_asked(request, HoursAsked).hours * HOUR_MS))
    found = await gateway.attempts_on_node(NodeId(id_in_path(request)), start, ATTEMPTS_MAX + 1)
    return await _timeline(gateway, found, start, end)


async def job_timeline(gateway: Gateway, request: Request) -> Timeline:
    """The attempts of a job and of its children, from the first one to the last."""
    end = gateway.now()
    found = await gateway.attempts_of_family(JobId(id_in_path(request)), ATTEMPTS_MAX + 1)
    ends = [view.attempt.ended_at for view in found]
    latest = end if None in ends else max((at for at in ends if at), default=end)
    start = min((view.attempt.assigned_at for view in found), default=end)
    return await _timeline(gateway, found, start, latest)


async def _timeline(
    gateway: Gateway, found: list[AttemptView], start: Moment, end: Moment
) -> Timeline:
    labels = await _labels(gateway)
    bars = [_bar(view, labels) for view in found[:ATTEMPTS_MAX]]
    return Timeline(start, end, bars, len(found) > ATTEMPTS_MAX)


def _bar(view: AttemptView, labels: dict[NodeId, str]) -> Bar:
    attempt = view.attempt
    return Bar(
        job=attempt.job,
        attempt=attempt.number,
        name=view.job_name,
        nodes=_known(attempt.nodes, labels),
        start=attempt.started_at or attempt.assigned_at,
        end=attempt.ended_at,
        tone=_tone(attempt).value,
        outcome=outcome(attempt) or "running",
    )


def _known(nodes: Iterable[NodeId], labels: dict[NodeId, str]) -> list[str]:
    return [labels.get(node, f"node {node}") for node in nodes]


def _tone(attempt: Attempt) -> JobStatus:
    """The status that an attempt is drawn as."""
    if attempt.cause is None:
        return S.RUNNING
    if attempt.cause is C.EXITED:
        return S.FAILED if attempt.exit_code else S.SUCCEEDED
    return CAUSE_TONES[attempt.cause]


class AttemptChoice(Struct, frozen=True):
    """An attempt as it can be picked to read its output."""

    number: int
    nodes: list[str]
    start: Moment
    end: Moment | None
    tone: str
    outcome: str


async def attempts(gateway: Gateway, request: Request) -> list[AttemptChoice]:
    """The attempts of a job that can have printed something, the latest first."""
    job = JobId(id_in_path(request))
    views = await gateway.job_views((job,), frozenset({Part.ATTEMPTS}))
    if not views:
        raise NotFound(f"There is no job {job}; it may have been deleted.")
    labels = await _labels(gateway)
    begun = filter(presenters.has_begun, reversed(views[0].attempts))
    bars = [_bar(AttemptView(one, ""), labels) for one in begun]
    return [
        AttemptChoice(bar.attempt, bar.nodes, bar.start, bar.end, bar.tone, bar.outcome)
        for bar in bars
    ]


# --- attributes ----------------------------------------------------------------------------------


class Series(Struct, frozen=True):
    """What a chart draws: moments, and for each of them a number, or None, of every series."""

    at: list[Moment]
    series: dict[str, list[float | None]]


async def attribute(gateway: Gateway, request: Request) -> Series:
    """The history of a numeric attribute of a job."""
    job, name = JobId(id_in_path(request)), attributes.fold(request.path_params["name"])
    views = await gateway.job_views((job,), frozenset({Part.ATTRIBUTES}))
    if not views:
        raise NotFound(f"There is no job {job}; it may have been deleted.")
    for one in views[0].attributes:
        if attributes.fold(one.name) == name:
            kept = (await gateway.attribute_points(job)).get(name, ())
            points = attributes.history(one, kept)
            return Series([at for at, _ in points], {one.name: [value for _, value in points]})
    return Series([], {request.path_params["name"]: []})


# --- serving it ----------------------------------------------------------------------------------


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


def _endpoint(
    gateway: Gateway, function: Callable[[Gateway, Request], Awaitable[object]]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            answer = await function(gateway, request)
        except Refused as error:
            body = _json(ErrorBody(ErrorDetail(error.status, str(error))))
            return Response(body, error.status, media_type="application/json")
        if isinstance(answer, Response):
            return answer
        body = _json(answer)
        tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        # To be asked for each time, and kept by the browser for when it has not changed.
        headers = {"etag": tag, "cache-control": "no-cache", "x-content-type-options": "nosniff"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/json")

    return endpoint


def routes(gateway: Gateway) -> list[Route]:
    """All of /drawings, for GET."""
    jobs = "/drawings/jobs"
    table: dict[str, Callable[[Gateway, Request], Awaitable[object]]] = {
        jobs: job_facts,
        f"{jobs}/{{id:int}}/output": output,
        f"{jobs}/{{id:int}}/output/search": search_output,
        f"{jobs}/{{id:int}}/output/follow": follow_output,
        f"{jobs}/{{id:int}}/output/download": download_output,
        f"{jobs}/{{id:int}}/attempts": attempts,
        f"{jobs}/{{id:int}}/children": children,
        f"{jobs}/{{id:int}}/timeline": job_timeline,
        f"{jobs}/{{id:int}}/attributes/{{name}}": attribute,
        "/drawings/nodes": nodes,
        "/drawings/nodes/{id:int}/timeline": node_timeline,
    }
    return [
        Route(path, _endpoint(gateway, function), methods=["GET"])
        for path, function in table.items()
    ]

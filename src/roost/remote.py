"""A farm from outside: /api/v1 as a Python object, for the command line and people's scripts.

Knows the paths of /api/v1 and the bodies of `wire.rest`. Must not know how the server works, and
never decides: every rule is the server's, every refusal is its sentence.

Always holds: a method returns what was asked or raises a `RoostError`: the subclass of `Refused`
that the server raised, or `Unreachable` naming the address when nothing answers. Only what follows
tries again by itself, with bounded waits, because it can continue where it was; a submission is
never sent twice.

    with Remote("http://farm:5000") as farm:
        ids = farm.submit({"name": "hello", "command": "echo hello"})
        for change in farm.follow(ids):
            print(change.status)
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from roost import __version__, errors
from roost.errors import ProtocolError, Refused, RoostError, Unreachable
from roost.settings import check_address
from roost.wire import rest

ACTIONS = ("cancel", "pause", "resume", "reschedule", "reschedule_failed", "eject", "delete")

CONNECT_S_MAX = 10.0
ANSWER_S_MAX = 60.0
"""Silence that ends a request; a stream is then resumed."""
GRACE_S = 1.0
"""How much later than asked a stream may end by itself."""
RECONNECT_WAITS_S = (0.1, 0.3, 1.0, 3.0, *(5.0,) * 24)
"""Waits between attempts to resume a stream: about two minutes, enough for a restart."""

T = TypeVar("T")

_REFUSALS: dict[int, type[Refused]] = {
    kind.status: kind
    for kind in (
        errors.NotFound,
        errors.Invalid,
        errors.Conflict,
        errors.Forbidden,
        errors.TooLarge,
        errors.Unavailable,
    )
}


class Remote:
    """The farm at `url`, such as `http://farm:5000`; `http://user:password@farm:5000` signs in.

    Usable as a context manager; otherwise call `close`. Not for several threads at once.
    """

    def __init__(
        self,
        url: str,
        *,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connects on first use. Raises `errors.Invalid` for what is no URL."""
        timeout = httpx2.Timeout(ANSWER_S_MAX, connect=CONNECT_S_MAX)
        headers = {"user-agent": f"roost/{__version__}"}
        check_address(url)
        try:
            address = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise errors.Invalid(f"{url!r} is no address of a server: {error}.") from None
        self.url = str(address.copy_with(userinfo=b"")).rstrip("/")
        self._sleep = sleep
        self._clock = clock
        self._http = httpx2.Client(
            base_url=address, timeout=timeout, headers=headers, transport=transport
        )

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # --- jobs ------------------------------------------------------------------------------------

    def submit(
        self, spec: dict[str, Any] | list[dict[str, Any]] | str | bytes, parent: int | None = None
    ) -> list[int]:
        """Submit a specification, a list of them, or JSON text; the new ids, breadth first.

        `parent` is an existing job that becomes the parent. Raises `errors.Invalid`.
        """
        if isinstance(spec, str):
            body = spec.encode()
        else:
            body = spec if isinstance(spec, bytes) else self._encoded(spec)
        query = {} if parent is None else {"parent": parent}
        return self._send("POST", "/jobs", rest.Ids, body=body, params=query).ids

    def jobs(
        self,
        *,
        statuses: Sequence[str] = (),
        roots_only: bool = False,
        parent: int | None = None,
        name_contains: str = "",
        submitted_by: str = "",
        before: int | None = None,
        limit: int = 50,
    ) -> rest.JobPage:
        """One page of the list of jobs, newest first; `before` its last id gives the next."""
        query: dict[str, Any] = {
            "status": ",".join(statuses),
            "roots_only": "true" if roots_only else "",
            "parent": parent,
            "name_contains": name_contains,
            "submitted_by": submitted_by,
            "before": before,
            "limit": limit,
        }
        given = {name: value for name, value in query.items() if value not in ("", None)}
        return self._send("GET", "/jobs", rest.JobPage, params=given)

    def job(self, job_id: int) -> rest.JobDetail:
        """All that is known of a job. Raises `errors.NotFound`."""
        return self._send("GET", f"/jobs/{job_id}", rest.JobDetail)

    def reasons(self, job_id: int) -> list[rest.JobReason]:
        """Why a job does not run; empty when nothing holds it. Raises `errors.NotFound`."""
        return self._send("GET", f"/jobs/{job_id}/reasons", rest.Reasons).reasons

    def act(
        self, action: str, ids: Iterable[int] | None = None, match: rest.JobMatch | None = None
    ) -> rest.Acted:
        """Do one of `ACTIONS` to these jobs, or to all that match, and what is linked to them;
        unknown ids are skipped."""
        if action not in ACTIONS:
            raise errors.Invalid(
                f"There is no action {action!r}: it can be one of {', '.join(ACTIONS)}."
            )
        body = msgspec.json.encode(
            rest.Selection(ids=None if ids is None else list(ids), match=match)
        )
        return self._send("POST", f"/jobs/{action}", rest.Acted, body=body)

    def set_priority(self, ids: Iterable[int], priority: int) -> rest.Acted:
        """Higher goes first; unknown ids are skipped. Raises `errors.Invalid` below 0."""
        body = msgspec.json.encode(rest.Priority(ids=list(ids), priority=priority))
        return self._send("POST", "/jobs/priority", rest.Acted, body=body)

    def permitted_nodes(self, job_id: int) -> list[str]:
        """The labels of the nodes that pass a job's conditions. Raises `errors.NotFound`."""
        return self._send("GET", f"/jobs/{job_id}/permitted", rest.PermittedNodes).nodes or []

    def set_permitted_nodes(self, job_id: int, nodes: Iterable[str] | None) -> None:
        """Let only these nodes run a job, or any (None), in place of all its own conditions.

        Each is `hostname`, `hostname:name`, or `hostname:` for the node without a name. Raises
        `errors.NotFound`, `errors.Invalid`.
        """
        wish = rest.PermittedNodes(None if nodes is None else list(nodes))
        body = msgspec.json.encode(wish)
        self._send("PUT", f"/jobs/{job_id}/permitted", rest.Done, body=body)

    def set_blocked_warning(self, job_id: int, shown: bool) -> None:
        """Show or hide `JobDetail.blocked_warning`. Raises `errors.NotFound`."""
        body = msgspec.json.encode(rest.BlockedWarning(shown))
        self._send("PUT", f"/jobs/{job_id}/blocked-warning", rest.Done, body=body)

    def attributes(self, job_id: int) -> list[rest.JobAttribute]:
        """A job's own attributes, numbers with their history. Raises `errors.NotFound`."""
        return self._send("GET", f"/jobs/{job_id}/attributes", rest.JobAttributes).attributes

    def set_attributes(self, job_id: int, values: Mapping[str, Any]) -> None:
        """Set attributes of a job, all of these or none; see `rest.JobAttribute` for values.

        Raises `errors.NotFound`, `Forbidden` for what cannot be set, `Invalid`, `TooLarge`.
        """
        body = self._encoded({"attributes": dict(values)})
        self._send("PATCH", f"/jobs/{job_id}/attributes", rest.Done, body=body)

    def output(self, job_id: int, offset: int = 0, *, last: int | None = None) -> bytes:
        """The output log stored so far, from `offset` on, or its `last` bytes."""
        parts: list[bytes] = []
        while True:
            part, total, _ = self._output_part(job_id, offset, last)
            parts.append(part.content)
            offset, last = int(part.headers[rest.HEADER_OFFSET]) + len(part.content), None
            if not part.content or offset >= total:
                return b"".join(parts)

    def follow_output(self, job_id: int, offset: int = 0) -> Iterator[bytes]:
        """The output log from `offset` on as it grows, until it is complete.

        Continues after a restart of the server. Raises `errors.NotFound`, `Unreachable`.
        """
        waits = iter(RECONNECT_WAITS_S)
        while True:
            received = False
            try:
                # A stream also ends well when the server stops: only the log itself can tell.
                _, total, complete = self._output_part(job_id, offset, None, limit=1)
                if complete and offset >= total:
                    return
                waits = iter(RECONNECT_WAITS_S)
                with self._stream(f"/jobs/{job_id}/output/follow", {"offset": offset}) as answer:
                    for chunk in answer.iter_bytes():
                        offset += len(chunk)
                        received = received or bool(chunk)
                        yield chunk
            except (Unreachable, errors.Unavailable):
                received = False
            if not received:
                self._wait(waits)

    def output_lines(
        self, job_id: int, first: int = 1, count: int = 500, *, attempt: int | None = None
    ) -> rest.OutputLines:
        """At most `count` lines of the output log from number `first` on, or the last `-first`
        when it is negative, with when they came. Raises `errors.NotFound`."""
        query = {"first": first, "count": count, "attempt": attempt}
        given = {name: value for name, value in query.items() if value is not None}
        return self._send("GET", f"/jobs/{job_id}/output/lines", rest.OutputLines, params=given)

    def timed_output(
        self, job_id: int, *, follow: bool = False
    ) -> Iterator[tuple[int | None, str]]:
        """All lines of the output log, each after when it came, in milliseconds since 1970, or
        None where that is not known; see `rest.OutputLines`.

        With `follow` as they are written, whole ones only, until the log is complete; it then
        continues after a restart of the server. Raises `errors.NotFound`, `Unreachable`.
        """
        part = self.output_lines(job_id)
        news = self.follow_output(job_id, part.size) if follow else iter(())
        while True:
            growing = follow and not part.complete
            ready = part.total - (part.is_open and growing)
            texts = part.texts[: ready - part.first + 1]
            yield from zip(part.arrived_at, texts, strict=False)
            following = part.first + len(texts)
            if following > ready:
                if not growing:
                    return
                # When there is no more news, what is there now is all.
                follow = next(news, None) is not None
            ask = partial(self.output_lines, job_id, following)
            part = self._patiently(ask) if follow else ask()

    def _patiently(self, ask: Callable[[], T]) -> T:
        waits = iter(RECONNECT_WAITS_S)
        while True:
            try:
                return ask()
            except (Unreachable, errors.Unavailable):
                self._wait(waits)

    def _output_part(
        self, job_id: int, offset: int, last: int | None, limit: int | None = None
    ) -> tuple[httpx2.Response, int, bool]:
        query = {"offset": offset, "last": last, "limit": limit}
        given = {name: value for name, value in query.items() if value is not None}
        answer = self._request("GET", f"/jobs/{job_id}/output", params=given)
        headers = answer.headers
        return answer, int(headers[rest.HEADER_TOTAL]), headers[rest.HEADER_COMPLETE] == "true"

    def follow(
        self, ids: Iterable[int], *, seconds: float | None = None
    ) -> Iterator[rest.JobChange]:
        """A snapshot of each job now and whenever it changes, until all are finished.

        With `seconds` it also ends after that time. Continues after a restart of the server, then
        repeating where the jobs stand. More than `rest.FOLLOWED_JOBS_MAX` jobs are followed in
        turns. Raises `errors.NotFound`, `Unreachable`.
        """
        left = iter(ids)
        end = None if seconds is None else self._clock() + seconds
        while batch := list(islice(left, rest.FOLLOWED_JOBS_MAX)):
            yield from self._follow(batch, end)

    def _follow(self, ids: Sequence[int], end: float | None) -> Iterator[rest.JobChange]:
        query: dict[str, Any] = {"ids": ",".join(map(str, ids))}
        waits = iter(RECONNECT_WAITS_S)
        first = True
        while True:
            left: float | None = None
            if end is not None:
                left = max(end - self._clock(), 0.0)
                if not left and not first:
                    return
                query["seconds"] = f"{left:.3f}"
            first = False
            try:
                with self._stream("/jobs/events", query, left) as answer:
                    for event in httpx2.EventSource(answer):
                        if event.event == rest.EVENT_END:
                            return
                        if event.event == rest.EVENT_CHANGE:
                            yield self._decoded(event.data.encode(), rest.JobChange)
                            waits = iter(RECONNECT_WAITS_S)
            except (Unreachable, errors.Unavailable):
                pass
            if end is None or self._clock() < end:
                self._wait(waits, end)

    # --- nodes and the server --------------------------------------------------------------------

    def nodes(self) -> list[rest.NodeDetail]:
        """All nodes of the farm."""
        return self._send("GET", "/nodes", rest.Nodes).nodes

    def node(self, node_id: int) -> rest.NodeDetail:
        """All that is known of a node. Raises `errors.NotFound`."""
        return self._send("GET", f"/nodes/{node_id}", rest.NodeDetail)

    def set_availability(self, node_id: int, rules: Iterable[rest.AvailabilityRule]) -> None:
        """Replace all availability rules of a node; what it runs goes on.

        Raises `errors.NotFound`, or `errors.Invalid` for what is no rule.
        """
        body = msgspec.json.encode(rest.Availability(list(rules)))
        self._send("PUT", f"/nodes/{node_id}/availability", rest.Done, body=body)

    def describe_node(self, node_id: int, description: str) -> None:
        """Say what a node is. Raises `errors.NotFound`."""
        body = msgspec.json.encode(rest.NodeDescription(description))
        self._send("PUT", f"/nodes/{node_id}/description", rest.Done, body=body)

    def upgrade_nodes(self, nodes: Sequence[int]) -> list[int]:
        """Give them the server's own Roost; the ids of the jobs that do it, none for nodes that
        are up to date. Raises `Forbidden` where the server does not do that."""
        return self.act_on_nodes("upgrade", nodes).ids

    def act_on_nodes(
        self,
        action: str,
        nodes: Iterable[int] | None = None,
        match: rest.NodeMatch | None = None,
    ) -> rest.NodesActed:
        """Do `drain`, `enable`, `upgrade` or `remove` to these nodes, or to all that match: all
        of it or nothing. Raises `errors.NotFound` for an unknown one."""
        chosen = rest.NodeSelection(nodes=None if nodes is None else list(nodes), match=match)
        body = msgspec.json.encode(chosen)
        return self._send("POST", f"/nodes/{action}", rest.NodesActed, body=body)

    def undo(self, undo: str) -> rest.Undone:
        """Take back what an answer to an action gave as `undo`. Raises `errors.NotFound` when it
        is too late."""
        return self._send("POST", "/undo", rest.Undone, body=msgspec.json.encode(rest.Undo(undo)))

    def set_node_disabled(self, node_id: int, disabled: bool) -> None:
        """Drain a node, or let it take jobs again. Raises `errors.NotFound`."""
        action = "disable" if disabled else "enable"
        self._send("POST", f"/nodes/{node_id}/{action}", rest.Done, body=b"{}")

    def remove_node(self, node_id: int) -> None:
        """Take a node out of the farm; what it runs is abandoned. Raises `errors.NotFound`."""
        self._send("DELETE", f"/nodes/{node_id}", rest.Done)

    def node_history(self, node_id: int, limit: int = 50) -> list[rest.JobSummary]:
        """The jobs that most recently ended on a node, the latest first. Raises `NotFound`."""
        params = {"limit": limit}
        return self._send("GET", f"/nodes/{node_id}/history", rest.JobPage, params=params).jobs

    def node_errors(self, node_id: int) -> rest.FarmErrors:
        """The runs that could not be started on a node. Raises `errors.NotFound`."""
        return self._send("GET", f"/nodes/{node_id}/errors", rest.FarmErrors)

    def notes(
        self,
        *,
        job: int | None = None,
        node: int | None = None,
        thread: int | None = None,
        latest: bool = False,
    ) -> list[rest.NoteThread]:
        """All threads of notes, or that of one job or node, or one; perhaps its latest note only.

        Raises `errors.NotFound`. A job or node without notes has no thread.
        """
        query = {"job": job, "node": node, "thread": thread, "latest": "true" if latest else None}
        given = {name: value for name, value in query.items() if value is not None}
        return self._send("GET", "/notes", rest.NoteThreads, params=given).threads

    def add_note(
        self,
        text: str,
        *,
        job: int | None = None,
        node: int | None = None,
        thread: int | None = None,
    ) -> int:
        """Add a note about a job or a node, to a thread, or in a new thread; its id.

        Raises `errors.NotFound`, `errors.Invalid`.
        """
        body = msgspec.json.encode(rest.NewNote(text=text, job=job, node=node, thread=thread))
        return self._send("POST", "/notes", rest.NewId, body=body).id

    def remove_note(self, note_id: int) -> None:
        """Raises `errors.NotFound`, or `errors.Conflict` for one that has replies."""
        self._send("DELETE", f"/notes/{note_id}", rest.Done)

    def remove_thread(self, thread_id: int) -> None:
        """Remove a thread with all of its notes. Raises `errors.NotFound`."""
        self._send("DELETE", f"/threads/{thread_id}", rest.Done)

    def groups(self) -> list[rest.GroupDetail]:
        """All client groups."""
        return self._send("GET", "/groups", rest.Groups).groups

    def create_group(self, name: str) -> int:
        """The id of a new client group. Raises `errors.Conflict` when the name is taken."""
        body = msgspec.json.encode(rest.NewGroup(name))
        return self._send("POST", "/groups", rest.NewId, body=body).id

    def delete_group(self, group_id: int) -> None:
        """Raises `errors.NotFound`. Conditions that name it match no node from then on."""
        self._send("DELETE", f"/groups/{group_id}", rest.Done)

    def add_to_group(self, group_id: int, nodes: Iterable[int]) -> rest.NodesActed:
        """Raises `errors.NotFound`."""
        body = msgspec.json.encode(rest.NodeIds(list(nodes)))
        return self._send("POST", f"/groups/{group_id}/add", rest.NodesActed, body=body)

    def remove_from_group(self, group_id: int, nodes: Iterable[int]) -> rest.NodesActed:
        """Raises `errors.NotFound`."""
        body = msgspec.json.encode(rest.NodeIds(list(nodes)))
        return self._send("POST", f"/groups/{group_id}/remove", rest.NodesActed, body=body)

    def set_group_nodes(self, group_id: int, nodes: Iterable[int]) -> None:
        """Have exactly these nodes in a group. Raises `errors.NotFound`."""
        body = msgspec.json.encode(rest.NodeIds(list(nodes)))
        self._send("PUT", f"/groups/{group_id}/nodes", rest.Done, body=body)

    def set_node_groups(self, node_id: int, groups: Iterable[int]) -> None:
        """Have a node in exactly these groups. Raises `errors.NotFound`."""
        body = msgspec.json.encode(rest.GroupIds(list(groups)))
        self._send("PUT", f"/nodes/{node_id}/groups", rest.Done, body=body)

    def resources(self) -> list[rest.ResourceDetail]:
        """All resources that jobs may need, and how much of each is in use."""
        return self._send("GET", "/resources", rest.Resources).resources

    def set_resource(self, name: str, maximum: int | None, *, per_machine: bool) -> int:
        """Enter a resource, or change it; without a maximum there is no limit. Its id.

        Raises `errors.Conflict` while too much of it is in use.
        """
        body = msgspec.json.encode(rest.ResourceLimit(maximum, per_machine))
        return self._send("PUT", f"/resources/{quote(name, safe='')}", rest.NewId, body=body).id

    def remove_resource(self, name: str) -> None:
        """Raises `errors.NotFound`, or `errors.Conflict` while some of it is in use."""
        self._send("DELETE", f"/resources/{quote(name, safe='')}", rest.Done)

    def errors(self) -> rest.FarmErrors:
        """What went wrong inside the server since it started."""
        return self._send("GET", "/errors", rest.FarmErrors)

    def config(self, key: str) -> str | None:
        """A setting under HQueue's key name; None when unknown or secret."""
        return self._send("GET", f"/config/{key}", rest.ConfigValue).value

    def health(self) -> rest.Health:
        """The state of the server, also when it does not take work. Raises `Unreachable`."""
        with self._reaching():
            answer = self._http.get("/healthz")
        if answer.status_code not in (200, 503):
            raise self._refusal(answer)
        return self._decoded(answer.content, rest.Health)

    # --- one request -----------------------------------------------------------------------------

    def _send(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        body: bytes | None = None,
        params: dict[str, Any] | None = None,
    ) -> T:
        return self._decoded(self._request(method, path, body=body, params=params).content, answer)

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        params: dict[str, Any] | None = None,
    ) -> httpx2.Response:
        headers = {} if body is None else {"content-type": "application/json"}
        with self._reaching():
            answer = self._http.request(
                method, rest.PREFIX + path, content=body, params=params, headers=headers
            )
        if answer.status_code >= 400:
            raise self._refusal(answer)
        return answer

    @contextmanager
    def _stream(
        self, path: str, params: dict[str, Any], seconds: float | None = None
    ) -> Iterator[httpx2.Response]:
        """`seconds` is when the server is to end it, and is not waited for much longer."""
        silence = ANSWER_S_MAX if seconds is None else min(seconds + GRACE_S, ANSWER_S_MAX)
        timeout = httpx2.Timeout(silence, connect=min(silence, CONNECT_S_MAX))
        path = rest.PREFIX + path
        with self._reaching():
            with self._http.stream("GET", path, params=params, timeout=timeout) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    raise self._refusal(answer)
                yield answer

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn every way in which a connection fails into `Unreachable`."""
        try:
            yield
        except httpx2.TransportError as error:
            reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
            raise Unreachable(
                f"Nothing answers at {self.url} ({reason}): "
                "check the address, and whether the server runs there."
            ) from None

    def _refusal(self, answer: httpx2.Response) -> RoostError:
        """The server's refusal as the exception it was there."""
        status = answer.status_code
        try:
            message = msgspec.json.decode(answer.content, type=rest.ErrorBody).error.message
        except (msgspec.MsgspecError, UnicodeError):
            message = f"{self.url} answered {status} {answer.reason_phrase}; is it a Roost server?"
        kind = _REFUSALS.get(status)
        if kind is None:
            kind = errors.Invalid if 400 <= status < 500 else None
        return kind(message) if kind else RoostError(message)

    def _encoded(self, spec: object) -> bytes:
        try:
            return msgspec.json.encode(spec)
        except UnicodeEncodeError as error:
            raise errors.Invalid(f"{error.object!r} is not text in UTF-8.") from None
        except (TypeError, ValueError, OverflowError) as error:
            raise errors.Invalid(f"A job specification must be plain JSON data: {error}.") from None

    def _decoded(self, content: bytes, type_: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=type_)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise ProtocolError(
                f"{self.url} answered in a way this version does not read: {error}."
            ) from None

    def _wait(self, waits: Iterator[float], end: float | None = None) -> None:
        wait = next(waits, None)
        if wait is None:
            raise Unreachable(
                f"{self.url} has not answered for too long: "
                "check whether the server runs there, and follow again."
            )
        self._sleep(wait if end is None else min(wait, max(end - self._clock(), 0)))

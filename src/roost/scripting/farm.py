"""`connect` and `Farm`: a farm from a script or a notebook.

Turns what reads well in Python into specifications and calls of `roost.remote`, and answers with
`Job` and `Node`. Decides nothing: every rule is the farm's, and every refusal an exception of
`roost.errors` with its sentence.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Unpack, overload

from roost import ranges, settings
from roost.errors import Invalid
from roost.frames import Spec, frame_spec
from roost.remote import Remote
from roost.scripting import nodes
from roost.scripting.jobs import Job, listed, wait_for
from roost.scripting.nodes import Node
from roost.scripting.submission import (
    Command,
    Properties,
    job_spec,
    with_properties,
)
from roost.wire import rest

MIXTURE = "Submit a command, the words of one, or job specifications; not a mixture, nor nothing."


def connect(url: str | None = None) -> Farm:
    """The farm at `url`, such as `http://farm:5000`; `http://user:password@farm:5000` signs in.

    Without one, the farm that the `roost` command talks to: inside a job the one that runs it,
    else the setting `server` (ROOST_SERVER, the settings file, or this machine). Nothing is sent
    before it is used. Raises `errors.Invalid` for what is no address.
    """
    return Farm(Remote(settings.load().values.server if url is None else url))


class Farm:
    """A farm. Usable as a context manager; otherwise call `close`. Not for several threads."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        """/api/v1 itself, for what has no method here."""

    @property
    def url(self) -> str:
        """Its address, without a password."""
        return self.remote.url

    def close(self) -> None:
        self.remote.close()

    def __enter__(self) -> Farm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Farm {self.url}>"

    # --- submitting -------------------------------------------------------------------------------

    @overload
    def submit(
        self,
        what: Command | Spec | None = None,
        *,
        parent: Job | int | None = None,
        **properties: Unpack[Properties],
    ) -> Job: ...
    @overload
    def submit(self, what: Sequence[Spec], *, parent: Job | int | None = None) -> list[Job]: ...
    def submit(
        self,
        what: Command | Spec | Sequence[Spec] | None = None,
        *,
        parent: Job | int | None = None,
        **properties: Unpack[Properties],
    ) -> Job | list[Job]:
        """Give the farm a job, or several at once; all are created or none.

        `what` is a line for the shell, a list of words that are kept as they are, a specification
        under HQueue's key names, or a list of specifications, which gives a list of jobs. The
        properties say what the job is like. `parent` is an existing job that waits for the new
        one. Raises `errors.Invalid` for what the farm does not understand.
        """
        parent_id = parent.id if isinstance(parent, Job) else parent
        if isinstance(what, Sequence) and (
            specs := [_signed(each) for each in what if isinstance(each, Mapping)]
        ):
            if len(specs) != len(what):
                raise Invalid(MIXTURE)
            if properties:
                raise Invalid("Properties are for one job; write them into each specification.")
            ids = self.remote.submit(specs, parent_id)
            return [self._new_job(number, spec) for number, spec in zip(ids, specs, strict=False)]
        if isinstance(what, Mapping):
            spec = with_properties(what, properties)
        else:
            spec = job_spec(_command(what), **properties)
        return self._submitted(spec, parent_id)

    def submit_frames(
        self,
        command: Command,
        frames: str | Iterable[int],
        *,
        parent: Job | int | None = None,
        **properties: Unpack[Properties],
    ) -> Job:
        """Give the farm a job for each frame, beneath one that is done when all of them are.

        The frame stands for `{frame}` in the command, and is in `$FRAME` while it runs. `frames`
        are numbers, or text such as `1-100`, `1-100x2` or `1-10,20`. Returns the job above. The
        properties say what each frame's job is like; mail is about the job above.
        """
        numbers = ranges.parse(frames) if isinstance(frames, str) else list(dict.fromkeys(frames))
        if not numbers:
            raise Invalid("There are no frames: give numbers, or a range such as 1-100.")
        spec = frame_spec(job_spec(command, **properties), numbers)
        return self._submitted(spec, parent.id if isinstance(parent, Job) else parent)

    def _submitted(self, spec: Spec, parent: int | None) -> Job:
        spec = _signed(spec)
        return self._new_job(self.remote.submit(spec, parent)[0], spec)

    def _new_job(self, number: int, spec: Spec) -> Job:
        return Job(self.remote, number, name=str(spec.get("name") or ""))

    # --- jobs -------------------------------------------------------------------------------------

    def job(self, job_id: int) -> Job:
        """The job with this id, as it is now. Raises `errors.NotFound`."""
        return Job(self.remote, job_id).refresh()

    def jobs(
        self,
        *,
        status: str | Iterable[str] = (),
        roots_only: bool = True,
        parent: Job | int | None = None,
        name_contains: str = "",
        submitted_by: str = "",
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Jobs, newest first; they are fetched as they are asked for, so that `next` is cheap.

        `status` is one status or several. With `parent` its children, without `roots_only` those
        at every depth. Raises `errors.Invalid` for a status that does not exist.
        """
        return listed(
            self.remote,
            statuses=[status] if isinstance(status, str) else list(status),
            roots_only=roots_only and parent is None,
            parent=parent.id if isinstance(parent, Job) else parent,
            name_contains=name_contains,
            submitted_by=submitted_by,
            limit=limit,
        )

    def wait(
        self,
        jobs: Iterable[Job],
        progress: bool | None = None,
        timeout: float | None = None,
        *,
        check: bool = False,
    ) -> list[Job]:
        """Wait until all of these jobs have finished; see `Job.wait`. Returns them."""
        waited = list(jobs)
        wait_for(self.remote, waited, progress, timeout, check=check)
        return waited

    # --- machines and what is arranged ------------------------------------------------------------

    def nodes(self) -> list[Node]:
        """All machines of the farm."""
        return [Node(self.remote, details) for details in self.remote.nodes()]

    def node(self, name: str | int) -> Node:
        """The machine with this label (`hostname` or `hostname:name`), or else this id.

        Raises `errors.NotFound`.
        """
        return Node(self.remote, nodes.find(self.remote.nodes(), [str(name)])[0])

    def groups(self) -> list[rest.GroupDetail]:
        """All client groups."""
        return self.remote.groups()

    def resources(self) -> list[rest.ResourceDetail]:
        """All resources that jobs may need, and how much of each is in use."""
        return self.remote.resources()

    def notes(self) -> list[rest.NoteThread]:
        """All threads of notes."""
        return self.remote.notes()


def _command(what: Command | Sequence[Spec] | None) -> Command | None:
    if what is None or isinstance(what, str):
        return what
    words: Sequence[Any] = list(what)
    if not words or not all(isinstance(word, str) for word in words):
        raise Invalid(MIXTURE)
    return words


def _signed(spec: Mapping[str, Any]) -> Spec:
    """A copy that says who submits it."""
    made = dict(spec)
    if not made.get("submittedBy"):
        # A user may have no name; the job then has no submitter.
        with suppress(OSError, KeyError, ImportError):
            made["submittedBy"] = getpass.getuser()
    return made

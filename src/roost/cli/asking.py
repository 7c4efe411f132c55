"""`roost jobs`, `job`, `output`, `why`, `wait`, `doctor`, the six actions and `undo`.

Every command asks `roost.remote` and shows the answer. What `--json` prints is the record of
`roost.wire.rest`, with its keys; lists stand under a key, so that a document can grow.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from roost import ranges
from roost.cli import completion, options, tables, watching
from roost.cli.submitting import submit

if TYPE_CHECKING:
    from roost.remote import Remote
    from roost.wire.rest import Acted, JobDetail, JobSummary

VALUE_SHOWN_MAX = 100
"""Characters of an attribute's value."""
LOOKED_UP_MAX = 100
"""With more ids than this, an action does not first look whether all of them exist."""
LEFT_OUT = {
    "eject": "nothing there is on a machine",
    "reschedule_failed": "nothing there has failed",
}
"""Why an action that also looks beneath the jobs does nothing."""

job_id = click.argument(
    "number", metavar="ID", type=options.Whole(min=1), shell_complete=completion.jobs()
)


def job_ids(action: str = "") -> Callable[[Any], Any]:
    """Tab offers those to which the action applies."""
    offered = completion.jobs(action)
    return click.argument("texts", metavar="IDS…", nargs=-1, required=True, shell_complete=offered)


@contextmanager
def farm() -> Iterator[Remote]:
    """The farm that `--server`, ROOST_SERVER or the settings file names."""
    from roost.remote import Remote

    url = options.load().values.server
    with Remote(url, sleep=tables.patience(url)) as remote:
        yield remote


def _statuses(begun: str) -> list[str]:
    from roost.core.records import JobStatus

    return [status for status in JobStatus if status.startswith(begun)]


@click.command()
@options.server_url
@click.option(
    "--all", "everything", is_flag=True, help="Children too, not only jobs without parent."
)
@click.option(
    "--parent",
    type=options.Whole(min=1),
    metavar="ID",
    shell_complete=completion.jobs(),
    help="Only children of this job.",
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    shell_complete=lambda context, parameter, begun: _statuses(begun),
    help="Only jobs in this status. Repeatable.",
)
@click.option("--name", "name_contains", metavar="TEXT", help="Only jobs with this in their name.")
@options.limit
@options.as_json
def jobs(
    everything: bool,
    parent: int | None,
    statuses: tuple[str, ...],
    name_contains: str | None,
    limit: int,
    as_json: bool,
    **_: object,
) -> None:
    """List jobs, newest first."""
    with farm() as remote:
        page = remote.jobs(
            statuses=statuses,
            roots_only=not everything and parent is None,
            parent=parent,
            name_contains=name_contains or "",
            limit=limit,
        )
        if parent is not None and not page.jobs:
            remote.job(parent)  # says so when there is no such job
    if as_json:
        tables.document(page)
        return
    columns = ("ID", "NAME", "STATUS", "DONE", "TASKS", "PRIO", "SUBMITTED", "TOOK")
    tables.table(columns, [job_row(job) for job in page.jobs], numbers="ID DONE TASKS PRIO TOOK")
    if not page.jobs and sys.stdout.isatty():
        click.echo("No jobs. Give the farm one: roost submit --wait -- echo hello", err=True)


def job_row(job: JobSummary) -> tuple[str, ...]:
    return (
        str(job.id),
        job.name,
        job.ui_status,
        tables.percent(job.overall_progress),
        f"{job.tasks_done}/{job.tasks_total}",
        str(job.priority),
        tables.moment(job.queued_at),
        tables.duration(job.started_at, job.ended_at),
    )


@click.command()
@job_id
@options.server_url
@options.as_json
def job(number: int, as_json: bool, **_: object) -> None:
    """Show all that is known of one job: state, attempts, story."""
    with farm() as remote:
        found = remote.job(number)
        labels = {} if as_json else {node.id: node.label for node in remote.nodes()}
    if as_json:
        tables.document(found)
    else:
        show_job(found, labels)


def show_job(found: JobDetail, labels: dict[int, str]) -> None:
    def names(nodes: Sequence[int]) -> str:
        return ", ".join(labels.get(node, f"node {node}") for node in nodes)

    command = found.spec.get("command") or ""
    tables.facts(
        [
            ("job", f"{found.id}  {found.name}"),
            ("status", found.ui_status),
            ("done", tables.percent(found.overall_progress)),
            ("tasks", tasks_in_words(found)),
            ("waits because", "\n               ".join(reason.text for reason in found.reasons)),
            ("command", command if isinstance(command, str) else "one for each platform"),
            ("folder", str(found.spec.get("cwd") or "")),
            ("priority", str(found.priority)),
            ("tries left", str(found.tries_left or "")),
            ("submitted", f"{tables.moment(found.queued_at)} {found.submitted_by}".strip()),
            ("started", tables.moment(found.started_at)),
            ("ended", tables.moment(found.ended_at)),
            ("parents", ", ".join(map(str, found.parents))),
            ("children", compact(found.children)),
            ("attributes", "\n               ".join(attributes_in_words(found.attributes))),
        ]
    )
    if found.attempts:
        click.echo()
        rows = [
            (
                str(attempt.number),
                names(attempt.nodes),
                tables.moment(attempt.started_at),
                tables.duration(attempt.started_at, attempt.ended_at),
                attempt.cause or "running",
                "" if attempt.exit_code is None else str(attempt.exit_code),
                attempt.text,
            )
            for attempt in found.attempts
        ]
        columns = ("ATTEMPT", "NODES", "STARTED", "TOOK", "ENDED BY", "CODE", "")
        tables.table(columns, rows, numbers="ATTEMPT TOOK CODE")
    if found.events:
        click.echo()
        events = [(tables.moment(e.at), e.status, e.message) for e in found.events]
        tables.table(("WHEN", "WHAT", ""), events)


def attributes_in_words(values: dict[str, Any]) -> list[str]:
    """As ClassAds write them, a line for each and long ones cut."""
    from roost.core import attributes

    lines = []
    for name, value in values.items():
        text = " ".join(attributes.text_of(name, value).split())
        cut = text if len(text) <= VALUE_SHOWN_MAX else text[:VALUE_SHOWN_MAX] + "…"
        lines.append(f"{name} = {cut}")
    return lines


def tasks_in_words(found: JobDetail) -> str:
    """How the jobs beneath fare; empty for a job that stands alone."""
    if found.tasks_total <= 1:
        return ""
    failed = f", {found.tasks_failed} failed" if found.tasks_failed else ""
    return f"{found.tasks_done} of {found.tasks_total} done{failed}"


def compact(numbers: Sequence[int]) -> str:
    """`1-4, 7`: runs of consecutive ids as ranges, readable by `ranges.parse` again."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


@click.command(short_help="Print what a job wrote.")
@job_id
@options.server_url
@click.option("-f", "--follow", is_flag=True, help="Go on as the job writes, until it has ended.")
@click.option("--last", type=options.Whole(min=0), metavar="BYTES", help="Only the end of it.")
@click.option(
    "-t", "--timestamps", is_flag=True, help="Put the time before each line at which it came."
)
@options.as_json
def output(
    number: int,
    follow: bool,
    last: int | None,
    timestamps: bool,
    as_json: bool,
    **_: object,
) -> None:
    """Print what a job wrote, all attempts in order, exactly as it wrote it.

    With --json as text within a document, where bytes that are not UTF-8 are replaced. With
    --timestamps line by line, as a terminal would be left with it and long lines cut; the time is
    when the server had the beginning of the line, or - where that is not known.
    """
    if follow and (as_json or last is not None):
        raise click.UsageError("--follow goes with neither --json nor --last.")
    if timestamps and last is not None:
        raise click.UsageError("--timestamps goes without --last.")
    with farm() as remote:
        if follow:
            remote.health()  # whoever follows is patient with a server, which must be one
        if timestamps:
            lines = remote.timed_output(number, follow=follow)
            if as_json:
                timed = [{"arrived_at": at, "text": text} for at, text in lines]
                tables.document({"id": number, "lines": timed})
                return
            for at, text in lines:
                click.echo(f"{tables.timestamp(at)} {text}")
            return
        if as_json:
            text = remote.output(number, last=last).decode("utf-8", "replace")
            tables.document({"id": number, "output": text})
            return
        pieces = remote.follow_output(number) if follow else [remote.output(number, last=last)]
        for piece in pieces:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


@click.command()
@job_id
@options.server_url
@options.as_json
def why(number: int, as_json: bool, **_: object) -> None:
    """Say why a job does not run, in the scheduler's own words."""
    with farm() as remote:
        reasons = remote.reasons(number)
        found = remote.job(number)
        labels = {node.id: node.label for node in remote.nodes()} if reasons else {}
    if as_json:
        document = {"id": number, "status": found.status, "reasons": reasons}
        tables.document(document)
        return
    if not reasons:
        click.echo(f"Job {number} waits for nothing; its status is {found.ui_status}.")
    for reason in reasons:
        nodes = ", ".join(labels.get(node, f"node {node}") for node in reason.nodes)
        click.echo(f"{reason.text}" + (f" ({nodes})" if nodes else ""))


@click.command()
@job_ids()
@options.server_url
@options.as_json
def wait(texts: tuple[str, ...], as_json: bool, **_: object) -> int:
    """Draw the progress of jobs until all have ended.

    The exit code is their fate: 0 all succeeded, 1 one failed or was abandoned, 3 one was
    cancelled. Ctrl-C leaves the jobs running.
    """
    ids = ranges.parse_ids(texts)
    with farm() as remote:
        remote.health()  # whoever follows is patient with a server, which must be one
        statuses = watching.wait(remote, ids)
    if as_json:
        tables.document({"statuses": {str(number): text for number, text in statuses.items()}})
    return watching.exit_code(statuses.values())


@click.command(short_help="Check this machine and the farm, and say what to do.")
@options.server_url
@click.option("--data", type=options.FOLDER, help="Folder of the farm to look at.")
@options.as_json
def doctor(as_json: bool, **_: object) -> int:
    """Check this machine and the farm, and say what to do where something is wrong.

    The exit code is 1 when something is broken, 0 when all is well or only doubtful.
    """
    from roost.cli import checkup

    found = options.load()
    findings = list(checkup.examine(found))
    healthy = all(finding.state != "fail" for finding in findings)
    if as_json:
        in_force = checkup.settings_in_force(found)
        tables.document({"healthy": healthy, "findings": findings, "settings": in_force})
    else:
        checkup.show(findings, found)
    return 0 if healthy else 1


def _action(name: str, done: str, text: str, short: str = "") -> click.Command:
    help = f"{text}\n\nIDS are ids and ranges: 3 7-12 20,22."

    @click.command(name, help=help, short_help=short or text)
    @job_ids(name)
    @options.server_url
    @options.as_json
    def act(
        texts: tuple[str, ...],
        as_json: bool,
        yes: bool = False,
        failed: bool = False,
        **_: object,
    ) -> None:
        ids = ranges.parse_ids(texts)
        action = "reschedule_failed" if failed else name
        if name == "delete" and not yes and sys.stdin.isatty():
            what = counted(ids, "job")
            click.confirm(f"Delete {what} and all beneath, with output, for ever?", abort=True)
        with farm() as remote:
            if len(ids) <= LOOKED_UP_MAX:
                for number in ids:
                    # The farm skips what it does not know; a person wants to hear of a slip.
                    remote.job(number)
            acted = remote.act(action, ids)
        if as_json:
            outcome = {"applied": acted.applied, "skipped": acted.skipped, "undo": acted.undo}
            tables.document({"action": action, "ids": ids, **outcome})
        else:
            tell_acted(done, acted, LEFT_OUT.get(action, ""))

    if name == "delete":
        act = click.option("--yes", is_flag=True, help="Do not ask.")(act)
    if name == "reschedule":
        act = click.option(
            "--failed",
            is_flag=True,
            help="Only what failed, was cancelled or abandoned, of IDS and all beneath them; also "
            "while the rest still runs.",
        )(act)
    return act


def counted(ids: Sequence[int], noun: str) -> str:
    """`job 7`, `3 jobs`."""
    return f"{noun} {ids[0]}" if len(ids) == 1 else f"{len(ids)} {noun}s"


def tell_acted(done: str, acted: Acted, why: str = "") -> None:
    """What became of an action on jobs, after a word such as `Paused`; `why` it did nothing."""
    if acted.applied:
        tell_done(f"{done} {counted(acted.applied, 'job')}", acted.undo)
    if len(acted.skipped) == 1:
        why = why or "its status does not allow it"
        click.echo(f"Job {acted.skipped[0]} was left out: {why}.", err=True)
    elif acted.skipped:
        why = why or "their status does not allow it"
        if len(acted.skipped) + len(acted.applied) > LOOKED_UP_MAX:
            why += ", or there is no such job"
        click.echo(f"Jobs {compact(sorted(acted.skipped))} were left out: {why}.", err=True)


def tell_done(text: str, undo: str) -> None:
    """What has been done, and how it is taken back if it can be."""
    click.echo(f"{text}; roost undo {undo} takes it back." if undo else f"{text}.", err=True)


@click.command(short_help="Take back what an action did.")
@click.argument("token")
@options.server_url
@options.as_json
def undo(token: str, as_json: bool, **_: object) -> None:
    """Take back what an action did: pause, resume, priority, drain, enable, groups.

    The action said which TOKEN is its own. Exactly the jobs or machines that it changed are put
    back to what they were. Each is good once, for the last actions since the server was started.
    """
    with farm() as remote:
        undone = remote.undo(token)
    if as_json:
        tables.document(undone)
        return
    many = [
        counted(found, noun)
        for found, noun in ((undone.jobs, "job"), (undone.nodes, "machine"))
        if found
    ]
    again = f" roost undo {undone.undo} does it again." if undone.undo else ""
    click.echo(f"Undone: {' and '.join(many)} as before.{again}", err=True)


ACTIONS = (
    _action("cancel", "Cancelled", "Stop jobs and all beneath them."),
    _action("pause", "Paused", "Halt running jobs, hold waiting ones; resume goes on."),
    _action("resume", "Resumed", "Let paused jobs go on."),
    _action(
        "reschedule",
        "Rescheduled",
        "Run finished jobs again, and beneath them what has not succeeded.",
        "Run finished jobs again, and what failed beneath them.",
    ),
    _action(
        "eject",
        "Ejected",
        "Take running jobs, and those beneath them, off their machines, to run elsewhere.",
        "Take running jobs off their machines, to run elsewhere.",
    ),
    _action("delete", "Deleted", "Remove finished jobs with all beneath them and their output."),
)

COMMANDS: tuple[click.Command, ...] = (
    submit,
    jobs,
    job,
    output,
    why,
    wait,
    *ACTIONS,
    undo,
    doctor,
)

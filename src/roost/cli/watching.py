"""Waiting for jobs: their progress as it happens, and their fate as an exit code.

On a terminal a bar for each job, elsewhere a line whenever something changed that is worth a line;
both on standard error, as standard output belongs to ids and documents. Waiting is only watching:
it can stop at any moment and the jobs do not care, which is what a person who presses Ctrl-C is
told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from rich.console import Console

    from roost.wire.rest import JobChange

FATES = {"succeeded": 0, "failed": 1, "abandoned": 1, "cancelled": 3}
"""Exit code of a waiting command, by the status a job ends in."""
LINE_EVERY = 0.1
"""Without a terminal, progress is told in steps of this size."""


class Follower(Protocol):
    """What waiting needs of `roost.remote.Remote`."""

    def follow(self, ids: Sequence[int]) -> Iterator[JobChange]: ...


def wait(remote: Follower, ids: Sequence[int]) -> dict[int, str]:
    """Show the progress of these jobs until all have ended; returns their statuses."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    try:
        if console.is_terminal:
            last = _draw(remote.follow(ids), ids, console)
        else:
            last = _tell(remote.follow(ids))
    except KeyboardInterrupt:
        text = " ".join(str(number) for number in ids)
        click.echo(
            f"\nNot waiting any longer; the work goes on. roost job {ids[0]} shows it, "
            f"roost cancel {text} stops it.",
            err=True,
        )
        raise
    for change in last.values():
        click.echo(f"Job {change.id} {change.status}.{_hint(change)}", err=True)
    return {number: change.status for number, change in last.items()}


def exit_code(statuses: Iterable[str]) -> int:
    """The worst fate: a failure counts more than a cancellation."""
    codes = {FATES.get(status, 1) for status in statuses}
    return 1 if 1 in codes else max(codes, default=0)


def _hint(change: JobChange) -> str:
    """Where to look after a failure."""
    if change.status != "failed":
        return ""
    if change.tasks_total > 1:
        return f" roost jobs --parent {change.id} --status failed lists what failed beneath it."
    return f" roost output {change.id} shows what it wrote."


def _draw(
    changes: Iterable[JobChange], ids: Sequence[int], console: Console
) -> dict[int, JobChange]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    last: dict[int, JobChange] = {}
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[standing]}"),
        console=console,
    ) as progress:
        tasks = {
            number: progress.add_task(f"job {number}", total=1.0, standing="") for number in ids
        }
        for change in changes:
            last[change.id] = change
            progress.update(
                tasks[change.id], completed=change.overall_progress, standing=standing(change)
            )
    return last


def _tell(changes: Iterable[JobChange]) -> dict[int, JobChange]:
    last: dict[int, JobChange] = {}
    told: dict[int, tuple[str, int, int]] = {}
    for change in changes:
        last[change.id] = change
        worth = (change.ui_status, change.tasks_failed, int(change.overall_progress / LINE_EVERY))
        if told.get(change.id) != worth:
            told[change.id] = worth
            click.echo(
                f"job {change.id}: {change.overall_progress:4.0%}  {standing(change)}", err=True
            )
    return last


def standing(change: JobChange) -> str:
    """Status and tasks in a few words."""
    text = change.ui_status
    if change.tasks_total > 1:
        text += f", {change.tasks_done}/{change.tasks_total} tasks done"
    if change.tasks_failed:
        text += f", {change.tasks_failed} failed"
    return text

"""Waiting for jobs: their progress as it happens, and their fate as an exit code.

The progress is drawn by `roost.scripting.progress`, on standard error, as standard output belongs
to ids and documents. Waiting is only watching: it can stop at any moment and the jobs do not care,
which is what a person who presses Ctrl-C is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from roost.wire.rest import JobChange

FATES = {"succeeded": 0, "failed": 1, "abandoned": 1, "cancelled": 3}
"""Exit code of a waiting command, by the status a job ends in."""


class Follower(Protocol):
    """What waiting needs of `roost.remote.Remote`."""

    def follow(self, ids: Sequence[int]) -> Iterator[JobChange]: ...


def wait(remote: Follower, ids: Sequence[int]) -> dict[int, str]:
    """Show the progress of these jobs until all have ended; returns their statuses."""
    from roost.scripting import progress

    try:
        last = progress.watch(remote.follow(ids), ids)
    except KeyboardInterrupt:
        text = " ".join(str(number) for number in ids)
        click.echo(
            f"\nNot waiting any longer; the work goes on. roost job {ids[0]} shows it, "
            f"roost cancel {text} stops it.",
            err=True,
        )
        raise
    for line in _told(list(last.values())):
        click.echo(line, err=True)
    return {number: change.status for number, change in last.items()}


def _told(ended: Sequence[JobChange]) -> list[str]:
    """How each ended, or how many in which way when they were shown as one."""
    from roost.scripting.progress import ROWS_MAX

    if len(ended) <= ROWS_MAX:
        return [f"Job {change.id} {change.status}.{_hint(change)}" for change in ended]
    counts = Counter(change.status for change in ended)
    lines = [f"{len(ended)} jobs: {', '.join(f'{n} {status}' for status, n in counts.items())}."]
    failed = next((change.id for change in ended if change.status == "failed"), None)
    return lines if failed is None else [*lines, f"The first that failed: roost job {failed}"]


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

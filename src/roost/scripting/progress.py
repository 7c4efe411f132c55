"""The progress of jobs, shown as it happens: in a notebook, on a terminal, or line by line.

Knows three ways of showing and where each is right. Must not know where the changes come from, nor
what is done when they end. Everything goes to standard error, as standard output belongs to
results; in a notebook it goes beneath the cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from roost.wire.rest import JobChange

LINE_EVERY = 0.1
"""Without a terminal, progress is told in steps of this size."""
ROWS_MAX = 20
"""More jobs than this are shown as one."""

Row = tuple[str, float, str]
"""What it is, how much of it is done (0 to 1), and where it stands."""


def watch(
    changes: Iterable[JobChange], ids: Sequence[int], progress: bool | None = True
) -> dict[int, JobChange]:
    """Show the changes of these jobs until there are no more; the last change of each.

    `progress` None shows them where somebody looks: on a terminal and in a notebook.
    """
    if progress is False:
        return {change.id: change for change in changes}
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if console.is_jupyter:
        return _draw_in_notebook(changes, ids)
    if console.is_terminal:
        return _draw(changes, ids, console)
    return watch(changes, ids, False) if progress is None else _tell(changes, ids, console)


class Watched:
    """Where jobs stand, kept change by change: with many of them, each change tells of all."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = ids
        self.last: dict[int, JobChange] = {}
        self._done = self._failed = 0
        self._share = 0.0

    def take(self, change: JobChange) -> None:
        for one, sign in ((self.last.get(change.id), -1), (change, 1)):
            if one is not None:
                self._done += sign * one.finished
                self._failed += sign * (one.status == "failed")
                self._share += sign * one.overall_progress
        self.last[change.id] = change

    @property
    def as_one(self) -> bool:
        return len(self.ids) > ROWS_MAX

    def rows(self) -> list[Row]:
        """One for each job, or one for all when they are many."""
        if self.as_one:
            text = f"{self._done}/{len(self.ids)} done"
            text += f", {self._failed} failed" if self._failed else ""
            return [(f"{len(self.ids)} jobs", self._share / len(self.ids), text)]
        return [
            (f"job {number}", self.last[number].overall_progress, standing(self.last[number]))
            if number in self.last
            else (f"job {number}", 0.0, "")
            for number in self.ids
        ]


def standing(change: JobChange) -> str:
    """Status and tasks in a few words."""
    text = change.ui_status
    if change.tasks_total > 1:
        text += f", {change.tasks_done}/{change.tasks_total} tasks done"
        text += f", {change.tasks_failed} failed" if change.tasks_failed else ""
    return text


def _draw(
    changes: Iterable[JobChange], ids: Sequence[int], console: Console
) -> dict[int, JobChange]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    watched = Watched(ids)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[standing]}"),
        console=console,
    ) as bars:
        tasks = [bars.add_task(name, total=1.0, standing="") for name, _, _ in watched.rows()]
        for change in changes:
            watched.take(change)
            for task, (_, share, text) in zip(tasks, watched.rows(), strict=True):
                bars.update(task, completed=share, standing=text)
    return watched.last


def _draw_in_notebook(changes: Iterable[JobChange], ids: Sequence[int]) -> dict[int, JobChange]:
    # rich would need ipywidgets for this, which a notebook may lack. Only a notebook gets here,
    # so there is an IPython, which Roost itself does not depend on.
    ipython: Any = import_module("IPython.display")
    watched = Watched(ids)
    shown = ipython.display(ipython.HTML(as_html(watched.rows())), display_id=True)
    for change in changes:
        watched.take(change)
        shown.update(ipython.HTML(as_html(watched.rows())))
    return watched.last


def as_html(shown: Sequence[Row]) -> str:
    """A table with a bar in each row."""
    cells = "".join(
        f"<tr><td>{escape(name)}</td>"
        f'<td><progress max="1" value="{share:.4f}"></progress></td>'
        f"<td>{share:.0%}</td><td>{escape(text)}</td></tr>"
        for name, share, text in shown
    )
    return f"<table>{cells}</table>"


def _tell(
    changes: Iterable[JobChange], ids: Sequence[int], console: Console
) -> dict[int, JobChange]:
    watched = Watched(ids)
    told: dict[str, tuple[str, int, int]] = {}
    for change in changes:
        watched.take(change)
        if watched.as_one:
            [(name, share, text)] = watched.rows()
            worth = ("", 0, int(share / LINE_EVERY))
        else:
            name, share, text = f"job {change.id}", change.overall_progress, standing(change)
            worth = (change.ui_status, change.tasks_failed, int(share / LINE_EVERY))
        if told.get(name) != worth:
            told[name] = worth
            console.print(f"{name}: {share:4.0%}  {text}", markup=False, soft_wrap=True)
    return watched.last

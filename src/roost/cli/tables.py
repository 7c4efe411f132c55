"""Records for people: tables, times, durations.

On a terminal a table that fits its width, where long names are cut and long texts have several
lines; elsewhere the same columns with tabs between them and nothing cut, for `cut` and `awk`.
Colours only say again what a word says already.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime

import click
import msgspec

TOLD_WAIT_S = 1.0
"""A server that restarts is often back before such a wait between two attempts."""

SHORT_CHARS = 20
"""A column of such texts, as a moment is, keeps its width."""
SQUEEZED_CHARS = 12
"""What a longer column is left with at least."""
CUT = ("NAME", "STATUS")
"""Where these have no room they are cut, so that a row stays a line; other columns get lines."""
GAP_CHARS = 2

COLOURS = {
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "abandoned": "red",
    "cancelled": "yellow",
    "paused": "yellow",
    "ready": "green",
    "gone": "red",
    "drained": "yellow",
    "off duty": "yellow",
    "disconnected": "yellow",
}


def document(value: object) -> None:
    """Print one JSON document: a record, or plain data."""
    click.echo(msgspec.json.format(msgspec.json.encode(value)))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: str = "") -> None:
    """Print rows of text; the columns named in `numbers` (space between) are set to the right."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            click.echo("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))
        return
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    least = GAP_CHARS * (len(columns) - 1)
    for number, column in enumerate(columns):
        width = max(cell_len(cell) for cell in (column, *(row[number] for row in rows)))
        is_short = width <= (SQUEEZED_CHARS if column in CUT else SHORT_CHARS)
        least += width if is_short else SQUEEZED_CHARS
        side = "right" if column in numbers.split() else "left"
        shown.add_column(column, justify=side, no_wrap=is_short)  # type: ignore[arg-type]
    for row in rows:
        # As Text, so that brackets in a job's name are not taken for markup.
        cells = [
            Text(
                " ".join(cell.split()) if column in CUT else cell,
                style=COLOURS.get(cell.partition(" (")[0], ""),
                no_wrap=column in CUT or None,
                overflow="ellipsis",
            )
            for column, cell in zip(columns, row, strict=True)
        ]
        shown.add_row(*cells)
    console = Console(highlight=False)
    # What cannot be had in less is for the terminal to break, rather than cut into nothing.
    console.width = max(console.width, least)
    console.print(shown)


def patience(url: str) -> Callable[[float], None]:
    """How a command waits for a server that does not answer: a short while in silence, then it
    says so once each time."""
    last = 0.0

    def wait(seconds: float) -> None:
        nonlocal last
        if last < TOLD_WAIT_S <= seconds:
            click.echo(f"{url} does not answer; trying again for two minutes.", err=True)
        last = seconds
        time.sleep(seconds)

    return wait


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one pair a line; pairs without a value are left out."""
    width = max((len(name) for name, value in pairs if value), default=0)
    for name, value in pairs:
        if value:
            click.echo(f"{name:{width}}  {value}")


def moment(milliseconds: int | None) -> str:
    """As a local date and time; empty for None."""
    if milliseconds is None:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000).strftime("%Y-%m-%d %H:%M:%S")


def timestamp(milliseconds: int | None) -> str:
    """As one word, `2026-05-04T03:02:01+02:00`, in local time; `-` for None."""
    if milliseconds is None:
        return "-"
    return datetime.fromtimestamp(milliseconds / 1000).astimezone().isoformat(timespec="seconds")


def duration(started: int | None, ended: int | None) -> str:
    """Between two moments, in at most two units; empty when one is missing."""
    if started is None or ended is None:
        return ""
    seconds = max(0, ended - started) / 1000
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours < 24 else f"{hours // 24}d {hours % 24:02}h"


def percent(share: float) -> str:
    # Never 100 before it is done.
    return f"{int(share * 100)}%"

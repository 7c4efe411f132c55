"""Rows of results, the table they make, and what has to be known to read them.

A row has one value per repetition and, where there is a physical limit, the limit measured right
before or after it. Ratios are taken pair by pair, so that whatever else the machine does in one
minute falls on both.
"""

from __future__ import annotations

import html
import os
import platform
import sqlite3
import statistics
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import roost

COLUMNS = ("", "what", "measured", "spread", "limit", "ratio")


class Row(NamedTuple):
    measure: str
    what: str
    unit: str
    values: Sequence[float]
    limits: Sequence[float] = ()
    more_is_better: bool = True
    """Ratios say how much of the limit is reached: for durations it is limit / value."""

    def ratios(self) -> list[float]:
        pairs = zip(self.values, self.limits, strict=False)
        return [v / m if self.more_is_better else m / v for v, m in pairs if v and m]

    def cells(self) -> tuple[str, ...]:
        values, ratios = self.values, self.ratios()
        spread = f"{_number(min(values))} to {_number(max(values))}" if len(values) > 1 else ""
        limit = f"{_number(statistics.median(self.limits))} {self.unit}" if self.limits else ""
        ratio = f"{statistics.median(ratios):.3f}" if ratios else ""
        value = f"{_number(statistics.median(values))} {self.unit}"
        return (self.measure, self.what, value, spread, limit, ratio)


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(rows: Sequence[Row]) -> str:
    """Aligned in a terminal, and a table in Markdown too."""
    return _table([row.cells() for row in rows])


def _table(cells: Sequence[tuple[str, ...]]) -> str:
    lines = [COLUMNS, *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    made = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]
    made.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(made)


BAR = 24
BARS_MAX = 24
"""Of one measure."""
Bar = tuple[str, str, float]
"""Measure, what, ratio."""
CHART_WIDTH = 960
LABEL_WIDTH = 560
RATIO_DRAWN_MAX = 5.0
"""A longer bar would make all others short; its number is beside it."""


def chart(rows: Sequence[Row]) -> str:
    """An SVG with a bar for every ratio; the line is where Roost does what its limit does."""
    return _chart([row.cells() for row in rows])


def _chart(cells: Sequence[tuple[str, ...]]) -> str:
    shown = _drawn([(measure, what, float(ratio)) for measure, what, *_, ratio in cells if ratio])
    longest = min(RATIO_DRAWN_MAX, max([1.0, *(ratio for *_, ratio in shown)]))
    scale = (CHART_WIDTH - LABEL_WIDTH - 60) / longest
    height = BAR * len(shown) + 2 * BAR
    line = LABEL_WIDTH + scale
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{CHART_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12" role="img">',
        "<title>What Roost reaches of each limit; longer is better</title>",
        f'<rect width="{CHART_WIDTH}" height="{height}" fill="white"/>',
    ]
    for place, (measure, what, ratio) in enumerate(shown):
        top, width = BAR * (place + 1), min(ratio, longest) * scale
        label = html.escape(f"{measure}  {what}"[:92])
        parts += [
            f'<text x="{LABEL_WIDTH - 8}" y="{top + 16}" text-anchor="end">{label}</text>',
            f'<rect x="{LABEL_WIDTH}" y="{top + 4}" width="{width:.1f}" '
            f'height="{BAR - 8}" fill="#0090ff"/>',
            f'<text x="{LABEL_WIDTH + width + 6:.1f}" y="{top + 16}">{ratio:.2f}</text>',
        ]
    parts += [
        f'<line x1="{line:.1f}" x2="{line:.1f}" y1="{BAR / 2}" y2="{height - BAR / 2}" '
        'stroke="black" stroke-dasharray="4 3"/>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _drawn(bars: Sequence[Bar]) -> list[Bar]:
    """Of a measure with very many rows the lowest; all of them are in the table."""
    lowest: dict[str, list[float]] = {}
    for measure, _, ratio in bars:
        lowest.setdefault(measure, []).append(ratio)
    kept = {measure: sorted(ratios)[:BARS_MAX][-1] for measure, ratios in lowest.items()}
    return [bar for bar in bars if bar[2] <= kept[bar[0]]]


def settings(
    folder: Path | None,
    repetitions: int,
    numbers: dict[str, int],
    beside: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """What was measured on what; `beside` are the versions of the programs measured beside it."""
    return {
        "Roost": roost.__version__,
        "Python": f"{platform.python_implementation()} {platform.python_version()} ({_build()})",
        **(beside or {}),
        "SQLite": f"{sqlite3.sqlite_version} (WAL, synchronous=FULL)",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} CPUs",
        "file system of the data": _file_system(folder or Path(tempfile.gettempdir())),
        "repetitions": str(repetitions),
        **{name: f"{number:,}" for name, number in numbers.items()},
    }


def _build() -> str:
    """How the interpreter says it was compiled. With profile guided optimisation it is faster by a
    tenth to a third; not every one that has it says so: Debian's does not."""
    flags = str(sysconfig.get_config_var("PY_CFLAGS") or "").split()
    level = [flag for flag in flags if flag.startswith("-O")][-1:] or ["unknown flags"]
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    profile = ", with a profile" if "--enable-optimizations" in arguments else ""
    return f"compiled with {level[0]}{profile}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _file_system(folder: Path) -> str:
    """The type of the innermost mount, and whether it is an ext4 without a journal: there, making
    a file takes the longer the more were deleted in the last minutes."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    here = folder.resolve()
    above = [mount for mount in mounts if here.is_relative_to(mount[1])]
    kind = max(above, key=lambda mount: len(mount[1]))[2] if above else "unknown"
    journals = Path("/proc/fs/jbd2")
    bare = kind == "ext4" and not (journals.exists() and any(journals.iterdir()))
    return f"{kind} without a journal" if bare else kind


def page(rows: Sequence[Row], known: dict[str, str]) -> str:
    """The text of `RESULTS.md`."""
    facts = "\n".join(f"* {name}: {value}" for name, value in known.items())
    return (
        "# Results of `make bench`\n\n"
        f"Measured on {datetime.now(UTC):%Y-%m-%d}. Medians over the repetitions, with the lowest "
        "and the highest; the limit is what the machine did for the same work without Roost in the "
        "same run, and the ratio (the median of the pairs) how much of it Roost reaches. Compare "
        "ratios: the numbers themselves belong to this machine.\n\n"
        f"{table(rows)}\n\n![What Roost reaches of each limit](results.svg)\n\n{facts}\n"
    )


def recorded(earlier: str, rows: Sequence[Row], repetitions: int) -> tuple[str, str]:
    """An earlier page, and its chart, with these rows in the place of those of their measures."""
    lines = earlier.splitlines()
    of_table = [number for number, line in enumerate(lines) if line.startswith("|")]
    first, end = of_table[0], of_table[-1] + 1
    measures = sorted({row.measure for row in rows})
    held = [tuple(map(str.strip, line.split("|")[1:-1])) for line in lines[first + 2 : end]]
    kept = [cells for cells in held if cells[0] not in measures]
    cells = sorted([*kept, *(row.cells() for row in rows)], key=lambda cells: cells[0])
    said = tuple(f"* {measure} was measured on " for measure in measures)
    facts = [line for line in lines[end:] if not line.startswith(said)]
    facts += [f"{line}{datetime.now(UTC):%Y-%m-%d}, {repetitions} repetitions" for line in said]
    return "\n".join([*lines[:first], _table(cells), *facts]) + "\n", _chart(cells)

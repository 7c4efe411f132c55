"""Numbers as people write them: `1-10,20,30-50x5`.

A piece is a number, or a range with both ends included and perhaps a step after `x`. A range may
run downwards. Numbers come out in the order written, each once. `--frames` and job ids use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from roost.errors import Invalid

COUNT_MAX = 100_000
"""Nobody means more; it is a slip of the finger that would fill the farm."""

_PIECE = re.compile(r"(-?\d+)(?:-(-?\d+)(?:x(\d+))?)?", re.ASCII)


def parse(text: str) -> list[int]:
    """The numbers of `text`. Raises `Invalid` and names the piece that cannot be read."""
    numbers: dict[int, None] = {}
    for piece in text.split(","):
        match = _PIECE.fullmatch(piece.strip())
        if match is None:
            raise Invalid(
                f"{piece.strip()!r} is neither a number nor a range like 1-10 or 1-100x5."
            )
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        step = int(match[3]) if match[3] else 1
        if step == 0:
            raise Invalid(f"The step of {piece.strip()!r} must be at least 1.")
        span = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
        if len(span) + len(numbers) > COUNT_MAX:
            raise Invalid(f"{text!r} are more than {COUNT_MAX} numbers.")
        numbers.update(dict.fromkeys(span))
    return list(numbers)


def parse_ids(texts: Iterable[str]) -> list[int]:
    """Job ids from several arguments. Raises `Invalid` also for numbers that are no ids."""
    ids = list(dict.fromkeys(number for text in texts for number in parse(text)))
    for number in ids:
        if number < 1:
            raise Invalid(f"{number} is not a job id.")
    return ids

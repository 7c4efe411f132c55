"""Hours of a week, as ticked in a grid, and the availability rules that mean the same.

Pure. The grid has whole hours; rules may be finer, or about idleness. Those are shown as text and
kept, and only what the grid can say is changed by it.
"""

from __future__ import annotations

from collections.abc import Iterable

from roost.core import availability
from roost.core.availability import DAYS
from roost.core.records import DAY_MINUTES, AvailabilityRule

HOURS = 24
WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

Cell = tuple[int, int]
"""Day of the week from 0 for Monday, and hour."""

EVERYTHING = frozenset((day, hour) for day in range(7) for hour in range(HOURS))


def fits(rule: AvailabilityRule) -> bool:
    """Whether the grid can show the rule."""
    return rule.enabled and rule.type == "time" and not (rule.start % 60 or rule.end % 60)


def cells(rules: Iterable[AvailabilityRule]) -> frozenset[Cell]:
    """The hours in which one of these rules holds, of those that fit the grid."""
    found: set[Cell] = set()
    for rule in filter(fits, rules):
        length = (rule.end - rule.start) % DAY_MINUTES or DAY_MINUTES
        for day in DAYS[rule.day]:
            for hour in range(length // 60):
                at = rule.start // 60 + hour
                found.add(((day + at // HOURS) % 7, at % HOURS))
    return frozenset(found)


def rules(ticked: Iterable[Cell]) -> list[str]:
    """The fewest rules, as people write them, that mean these hours: days alike share one."""
    hours_of: dict[int, tuple[int, ...]] = dict.fromkeys(range(7), ())
    for day, hour in sorted(set(ticked)):
        hours_of[day] += (hour,)
    texts: list[str] = []
    left = set(range(7))
    for name in ("any", "weekdays", "weekends", *WEEK):
        days = DAYS[name]
        if days <= left and len({hours_of[day] for day in days}) == 1:
            texts += [f"{name} {span}".strip() for span in _spans(hours_of[min(days)])]
            left -= days
    return [availability.show(availability.parse(text)) for text in texts]


def _spans(hours: tuple[int, ...]) -> list[str]:
    if len(hours) == HOURS:
        return [""]
    found: list[str] = []
    start: int | None = None
    for hour in range(HOURS + 1):
        if hour in hours and start is None:
            start = hour
        elif hour not in hours and start is not None:
            found.append(f"{start:02}:00-{hour:02}:00")
            start = None
    return found

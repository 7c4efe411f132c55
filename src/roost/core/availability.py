"""When a node may take jobs: by the clock on the wall, or once nobody uses it.

A time rule begins at a minute of certain days and lasts until the clock next shows another: friday
20:00-06:00 ends on saturday, and a rule that ends when it begins lasts a whole day. An idle rule
holds once nobody has touched the machine for so many minutes; when that is not known, it does not.
Any enabled rule is enough. Without rules a node may always take jobs, with only disabled ones it
never may.

Clocks are those of the farm's time zone, which is handed in. Where they are put forward or back,
rules go by what the clock shows: an hour that is left out never comes, one that comes twice counts
twice.

People write a rule as `weekdays 20:00-07:00`, `weekends` or `idle 15`; `parse` and `show` are the
only two that know this form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo

from msgspec.structs import replace

from roost.core.records import DAY_MINUTES, DAY_MS, MINUTE_MS, AvailabilityRule, Moment
from roost.errors import Invalid

Rules = Sequence[AvailabilityRule]

DAYS: dict[str, frozenset[int]] = {
    "any": frozenset(range(7)),
    "weekdays": frozenset(range(5)),
    "weekends": frozenset((5, 6)),
    "monday": frozenset((0,)),
    "tuesday": frozenset((1,)),
    "wednesday": frozenset((2,)),
    "thursday": frozenset((3,)),
    "friday": frozenset((4,)),
    "saturday": frozenset((5,)),
    "sunday": frozenset((6,)),
}
"""Kinds of days, and the days of the week that each means; Monday is 0."""

RULES_MAX = 100
IDLE_MINUTES_MAX = 7 * DAY_MINUTES
LOOKED_AHEAD_MS = 15 * DAY_MS
"""Two weeks and a day: every day of the week comes twice, once surely without a clock change."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WEEKDAY_OF_EPOCH = 3
_SPAN = re.compile(r"(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)")


# --- may it take jobs? ------------------------------------------------------------------------


def is_available(rules: Rules, now: Moment, zone: tzinfo, idle_minutes: int) -> bool:
    """Do the rules let the node take jobs? `idle_minutes` below 0 means unknown."""
    if not rules or _holds_by_time(rules, now, zone):
        return True
    return any(rule.idle_minutes <= idle_minutes for rule in _enabled(rules, "idle"))


def next_change(rules: Rules, now: Moment, zone: tzinfo) -> Moment | None:
    """When the time rules begin or cease to hold next; None when they never do."""
    marks = {minute for rule in _enabled(rules, "time") for minute in (rule.start, rule.end)}
    if not marks:
        return None
    before = _holds_by_time(rules, now, zone)
    at = now
    while at < now + LOOKED_AHEAD_MS:
        at = _next_look(at, marks, zone)
        if _holds_by_time(rules, at, zone) != before:
            return at
    return None


def follows_idleness(rules: Rules) -> bool:
    """Does it matter how long nobody has used the node?"""
    return any(True for _ in _enabled(rules, "idle"))


def why_off_duty(rules: Rules, now: Moment, zone: tzinfo, idle_minutes: int) -> str | None:
    """Why the rules keep jobs away, as the end of a sentence that starts with the node's name;
    None when they do not."""
    if is_available(rules, now, zone, idle_minutes):
        return None
    enough = min((rule.idle_minutes for rule in _enabled(rules, "idle")), default=None)
    if any(True for _ in _enabled(rules, "time")):
        until = next_change(rules, now, zone)
        text = "is outside its availability rules"
        text += f" until {_local(until, zone):%a %H:%M}" if until is not None else ""
        return text if enough is None else f"{text}, or until it is idle for {_minutes(enough)}"
    if enough is None:
        return "has availability rules, and all of them are disabled"
    if idle_minutes < 0:
        return f"takes jobs when idle for {_minutes(enough)}, and cannot tell for how long it is"
    return f"is in use: idle for {_minutes(idle_minutes)}, and it takes jobs after {enough}"


def _enabled(rules: Rules, kind: str) -> Iterable[AvailabilityRule]:
    return (rule for rule in rules if rule.enabled and rule.type == kind)


def _holds_by_time(rules: Rules, now: Moment, zone: tzinfo) -> bool:
    day, minute = divmod((now + _offset_ms(now, zone)) // MINUTE_MS, DAY_MINUTES)
    today, yesterday = (day + _WEEKDAY_OF_EPOCH) % 7, (day + _WEEKDAY_OF_EPOCH - 1) % 7
    for rule in _enabled(rules, "time"):
        days = DAYS[rule.day]
        past_midnight = rule.end <= rule.start
        if today in days and rule.start <= minute and (past_midnight or minute < rule.end):
            return True
        if past_midnight and yesterday in days and minute < rule.end:
            return True
    return False


def _next_look(at: Moment, marks: Iterable[int], zone: tzinfo) -> Moment:
    """The first moment after this one at which the clock shows one of the minutes, or is put
    forward or back."""
    offset = _offset_ms(at, zone)
    since_midnight = (at + offset) % DAY_MS
    wait = min((mark * MINUTE_MS - since_midnight) % DAY_MS or DAY_MS for mark in marks)
    same, other = at, Moment(at + wait)
    if _offset_ms(other, zone) == offset:
        return other
    while other - same > 1:
        middle = Moment((same + other) // 2)
        if _offset_ms(middle, zone) == offset:
            same = middle
        else:
            other = middle
    return other


def _local(at: Moment, zone: tzinfo) -> datetime:
    return (_EPOCH + timedelta(milliseconds=at)).astimezone(zone)


def _offset_ms(at: Moment, zone: tzinfo) -> int:
    offset = _local(at, zone).utcoffset()
    assert offset is not None
    return offset // timedelta(milliseconds=1)


def offset_minutes(at: Moment, zone: tzinfo) -> int:
    """How far the zone's clocks are ahead of UTC at that moment."""
    return _offset_ms(at, zone) // MINUTE_MS


def midnight(at: Moment, zone: tzinfo) -> Moment:
    """When the day began in which that moment is, by the zone's clocks."""
    day = datetime.fromtimestamp(at / 1000, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    return Moment(round(day.timestamp()) * 1000)


# --- as people write it -----------------------------------------------------------------------


def parse(text: str) -> AvailabilityRule:
    """The rule that a text such as `friday 20:00-06:00` means, without a number yet.

    A day alone means the whole of it, times alone mean every day. Raises `Invalid`.
    """
    words = text.casefold().split()
    if len(words) == 2 and words[0] == "idle" and words[1].isdecimal():
        return checked(AvailabilityRule(type="idle", idle_minutes=int(words[1][:9])))
    day = _day(words.pop(0)) if words and not _SPAN.fullmatch(words[0]) else "any"
    span = _SPAN.fullmatch(words[0]) if words else None
    if day is None or len(words) > 1 or (words and span is None) or not text.strip():
        raise Invalid(
            f"{text!r} is no availability rule: write it like "
            "'weekdays 20:00-07:00', 'weekends' or 'idle 15'."
        )
    if span is None:
        return AvailabilityRule(day=day)
    start, end = (60 * int(span[place]) + int(span[place + 1]) for place in (1, 3))
    for hour, minute in ((span[1], span[2]), (span[3], span[4])):
        if int(minute) > 59 or 60 * int(hour) + int(minute) > DAY_MINUTES:
            raise Invalid(f"{text!r} has a time that no clock shows: {hour}:{minute}.")
    return AvailabilityRule(day=day, start=start % DAY_MINUTES, end=end % DAY_MINUTES)


def show(rule: AvailabilityRule) -> str:
    """What `parse` reads; whether the rule is enabled is not in it."""
    if rule.type == "idle":
        return f"idle {rule.idle_minutes}"
    if not rule.start and not rule.end:
        return rule.day
    # A day ends at 24:00, not at the 0:00 with which it began.
    return f"{rule.day} {_clock(rule.start)}-{_clock(rule.end or DAY_MINUTES)}"


def _day(word: str) -> str | None:
    """A kind of days by its name; the three letters of a day of the week do."""
    for name in DAYS:
        if word == name or (word == name[:3] and name.endswith("day")):
            return name
    return None


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _minutes(count: int) -> str:
    return "1 minute" if count == 1 else f"{count} minutes"


# --- before they are kept ---------------------------------------------------------------------


def checked(rule: AvailabilityRule) -> AvailabilityRule:
    """The rule itself. Raises `Invalid` when it makes no sense."""
    if rule.type == "idle" and not 1 <= rule.idle_minutes <= IDLE_MINUTES_MAX:
        raise Invalid(f"An idle rule needs 1 to {IDLE_MINUTES_MAX} minutes.")
    if rule.day not in DAYS:
        raise Invalid(f"{rule.day!r} is no kind of day; it can be one of {', '.join(DAYS)}.")
    if not (0 <= rule.start < DAY_MINUTES and 0 <= rule.end < DAY_MINUTES):
        raise Invalid(f"A time of day is 0 to {DAY_MINUTES - 1} minutes after midnight.")
    return rule


def numbered(rules: Rules, before: Rules) -> tuple[AvailabilityRule, ...]:
    """The rules that follow `before`, in their order, the new ones with numbers of their own.

    Raises `Invalid` for a rule that makes no sense, a number that no rule before had or that two
    have, or too many.
    """
    if len(rules) > RULES_MAX:
        raise Invalid(f"A node can have {RULES_MAX} availability rules, not {len(rules)}.")
    left = {rule.id for rule in before}
    following = max(left, default=0) + 1
    kept = []
    for rule in map(checked, rules):
        if rule.id == 0:
            rule = replace(rule, id=following)
            following += 1
        elif rule.id in left:
            left.remove(rule.id)
        else:
            raise Invalid(
                f"There is no availability rule {rule.id} to keep, or it is named twice; "
                "a new rule has the number 0."
            )
        kept.append(rule)
    return tuple(kept)

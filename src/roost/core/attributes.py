"""Attributes of jobs: names and values, and what a job may do with Chirp because of them.

A job carries attributes in HTCondor's sense: a name, without regard to case, and a ClassAd
expression as text. Some it was submitted with, others are set while it runs; all nodes of an
attempt share them. The standard ones (`ClusterId`, `JobStatus`, …) are answered from the job and
cannot be set; `blackboard` does both. Here are the rules that need no farm: which names and texts
are taken, which values leave a history and which points of it are kept, the gates of Chirp, and how
much is kept of a line that a job writes into its story.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from msgspec import Struct

from roost.core.classad import Expression, canonical, format_value, is_name, parse_value
from roost.core.messages import Gates
from roost.core.records import Attribute, AttributePoint, JobId, Moment
from roost.errors import Forbidden, Invalid, TooLarge

NAMES_MAX = 1_000
"""Attributes of one job."""
NAME_CHARACTERS_MAX = 255
TEXT_BYTES_MAX = 64 * 1024
ALL_BYTES_MAX = 1024 * 1024
"""Names and texts of one job together: the server has them in memory."""
DELAYED_NAMES_MAX = 100
"""Different names that one job may set with delay (Chirp decision 8)."""
DELAYED_BYTES_MAX = 993
"""Length of a value set with delay."""
POINTS_MAX = 256
"""How many moments of a numeric attribute are remembered, the latest included."""
ENTRIES_MAX = 10_000
"""What one run may add to the story, as far as this server, or this agent, has seen it: a loop that
logs is stopped before nobody can read the story any more."""
ENTRY_BYTES_MAX = 1023
"""How much is kept of a line that a job writes into its story, as HTCondor does with `ulog`."""

PROGRESS = "Progress"
"""Setting it moves the job's progress, as a progress line in its output does."""
PRIORITY = "JobPrio"
"""Setting it sets the job's priority; it is not kept as an attribute."""
STANDARD = (
    "ClusterId", "ProcId", "Owner", "Iwd", "Cmd", "JobStatus", PRIORITY, "RequestCpus", "MinHosts",
    "MaxHosts", "CurrentHosts", "NumJobStarts", "RemoteHost", "LastRemoteHost", "QDate",
    "JobStartDate", "JobCurrentStartDate", "CompletionDate", "JobTransferringOutput", PROGRESS,
)  # fmt: skip
"""What is answered from the job itself; `blackboard.value_of` says how."""
IMMUTABLE = (
    "Owner", "ClusterId", "JobUniverse", "ProcId", "MyType", "TargetType", "User", "OsUser",
)  # fmt: skip
"""Nobody may set these: HTCondor's own list."""
TRANSFER_TIME = "JobTransferringOutputTime"
"""When the job said that it transfers its output (Chirp decision 2), in seconds since 1970."""


def fold(name: str) -> str:
    """What makes two names the same."""
    return name.lower()


_PROTECTED = {fold(name) for name in (*STANDARD, *IMMUTABLE)} - {fold(PROGRESS), fold(PRIORITY)}


# --- names and texts --------------------------------------------------------------------------


def check_name(name: str) -> None:
    """Raises `Invalid` for what is no name, `Forbidden` for one that is not for jobs to set."""
    if not is_name(name) or len(name) > NAME_CHARACTERS_MAX:
        shown = ascii(name[:40])[1:-1]
        raise Invalid(
            f'"{shown}" cannot be the name of an attribute: give letters, digits and _, at most '
            f"{NAME_CHARACTERS_MAX}, not a digit first, and no word of ClassAds such as true."
        )
    if fold(name) in _PROTECTED:
        raise Forbidden(f"The attribute {name} tells about the job itself and cannot be set.")


def checked_text(name: str, text: str) -> str:
    """The text in the form in which it is kept. Raises `Invalid`, `TooLarge`."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Invalid(f"The value of {name} must be valid Unicode text.") from None
    if size > TEXT_BYTES_MAX:
        raise TooLarge(f"The value of {name} is larger than {TEXT_BYTES_MAX} bytes.")
    if "\0" in text:
        raise Invalid(f"The value of {name} must not hold a NUL character.")
    try:
        kept = canonical(text)
        value = parse_value(kept)
    except Invalid as error:
        raise Invalid(f"The value of {name} cannot be taken. {error}") from None
    if fold(name) == fold(PROGRESS) and not is_share(value):
        raise Invalid(f"{PROGRESS} must be a number from 0 to 1.")
    if fold(name) == fold(PRIORITY) and (type(value) is not int or abs(value) >= 2**53):
        raise Invalid(f"{PRIORITY} must be a whole number.")
    return kept


def is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def number_of(text: str) -> int | float | None:
    """The value of a text that is a number, and finite."""
    value = parse_value(text)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def as_data(text: str) -> Any:
    """A text as plain data: a number, bool, None, str or list of these; `{"expr": text}` for an
    expression that is not a literal, and for a number that JSON does not know."""
    value = parse_value(text)
    if isinstance(value, Expression) or (isinstance(value, float) and not math.isfinite(value)):
        return {"expr": text}
    return value


def text_of(name: str, data: object) -> str:
    """The text for plain data: the reverse of `as_data`. Raises `Invalid`, `TooLarge`."""
    if isinstance(data, dict):
        text = data.get("expr")
        if len(data) != 1 or not isinstance(text, str):
            raise Invalid(f'The value of {name} must be plain, or {{"expr": "an expression"}}.')
        return checked_text(name, text)
    try:
        text = format_value(data)  # type: ignore[arg-type]
    except Invalid as error:
        raise Invalid(f"The value of {name} cannot be taken. {error}") from None
    return checked_text(name, text)


def check_room(texts: Mapping[str, str]) -> None:
    """May a job have all of these attributes? Raises `TooLarge`."""
    if len(texts) > NAMES_MAX:
        raise TooLarge(f"A job can have {NAMES_MAX} attributes.")
    if sum(len(name) + len(text.encode()) for name, text in texts.items()) > ALL_BYTES_MAX:
        raise TooLarge(
            f"The attributes of a job can have {ALL_BYTES_MAX} bytes together; keep what is larger "
            "in a file."
        )


def spelled(attributes: Mapping[str, str], name: str) -> str | None:
    """How a name is spelled there, without regard to case; None if it is not there."""
    if name in attributes:
        return name
    folded = fold(name)
    return next((key for key in attributes if fold(key) == folded), None)


def own(
    job: JobId, submitted: Mapping[str, str], at: Moment, changed: Mapping[str, Attribute]
) -> dict[str, Attribute]:
    """All of a job's own attributes by folded name: those it was submitted with, at that moment,
    and what became of them."""
    first = {fold(name): Attribute(job, name, text, at) for name, text in submitted.items()}
    return {**first, **changed}


# --- history ----------------------------------------------------------------------------------


def stride(count: int) -> int:
    """Of `count` values, numbered from 0, those whose number is a multiple of this are kept.

    It is the least power of two that keeps room for the latest one. So whenever the history is
    full every second point goes, and what is left always covers the whole time evenly.
    """
    step = 1
    while -(-count // step) > POINTS_MAX - 1:
        step *= 2
    return step


def history(attribute: Attribute, kept: Iterable[AttributePoint]) -> list[tuple[Moment, float]]:
    """The points that are kept, oldest first, and the present value last."""
    points = [(point.number, point.at, point.value) for point in kept]
    number = number_of(attribute.text)
    if (
        number is not None
        and attribute.count
        and (not points or points[-1][0] != attribute.count - 1)
    ):
        points.append((attribute.count - 1, attribute.at, float(number)))
    return [(at, value) for _, at, value in points]


# --- Chirp ------------------------------------------------------------------------------------


class ChirpRules(Struct, frozen=True):
    """The farm's switches: HTCondor's ENABLE_CHIRP and its kin."""

    enabled: bool = True
    io: bool = True
    updates: bool = True
    delayed: bool = True
    delayed_prefix: str = "Chirp*"
    """CHIRP_DELAYED_UPDATE_PREFIX: names that may be set with delay; see `matches_prefix`."""
    read_only: bool = False
    """Jobs change no files."""
    umask: int = 0o022
    """Rights that files made through Chirp do not get."""


NO_GATES = Gates(False, False, False)


SWITCHES = ("wantioproxy", "wantremoteupdates", "wantdelayedupdates", "wantvirtualroot")
"""Folded names of all that decides what of Chirp is open to a job."""


def gates(attributes: Mapping[str, Attribute], rules: ChirpRules) -> Gates:
    """What of Chirp is open to a job with these own attributes, by folded name."""
    if not rules.enabled:
        return NO_GATES
    io = rules.io and wish(attributes, "WantIOProxy", False)
    return Gates(
        io=io,
        updates=rules.updates and wish(attributes, "WantRemoteUpdates", io),
        delayed=rules.delayed and wish(attributes, "WantDelayedUpdates", True),
    )


def wish(attributes: Mapping[str, Attribute], name: str, default: bool) -> bool:
    """A switch among the attributes: a bool, or a number that is not 0. Anything else, such as
    an expression, is as good as not given."""
    attribute = attributes.get(fold(name))
    value = None if attribute is None else parse_value(attribute.text)
    return bool(value) if isinstance(value, bool | int | float) else default


_SEPARATORS = re.compile(r"[,\s]+")


def matches_prefix(name: str, prefixes: str) -> bool:
    """Is it one of these names? They are separated by commas or blanks, `*` stands for anything,
    and case does not matter."""
    return _pattern(prefixes).fullmatch(name) is not None


@lru_cache
def _pattern(prefixes: str) -> re.Pattern[str]:
    patterns = [
        ".*".join(map(re.escape, pattern.split("*")))
        for pattern in _SEPARATORS.split(prefixes)
        if pattern
    ]
    return re.compile("|".join(patterns) or "(?!)", re.IGNORECASE)


def entry(text: str) -> str:
    """The part of a line that is kept, cut between characters."""
    return text.encode()[:ENTRY_BYTES_MAX].decode(errors="ignore")

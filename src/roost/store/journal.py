"""What was submitted and has no rows yet.

The rows of a job and their indexes are in a dozen places of the file. So a save that brings new
jobs is first put down here, as text in one table, and is durable and can be answered then; its rows
are written later, those of many jobs together. Nobody may look at the other tables, nor change
them, before `expand` has been called: `store.database` sees to that, so that all others can do as
if this did not exist.

An entry is one save, in pieces none of which holds up the interpreter for long; the last one is
marked. Entries are expanded whole and in order, so that what has rows is always what once was; some
together, since pieces and entries are simply joined. What another Roost has left here is read by
the rules of JSON: a field is only added, with a default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import IntegrityError

from roost.core.messages import Changes
from roost.core.records import JobSpec
from roost.store import schema
from roost.store.rows import Bulk, save_changes

PIECE_JOBS = 1_000
SHOWN_JOBS_MAX = 5

_LONG = ("submitted", "edges", "events")
_SHORT = ("jobs", "specs", "attempts", "notices", "activities")
_COUNTERS = ("next_job_id", "next_notice_id")
_others = attrgetter(
    *(name for name in Changes.__struct_fields__ if name not in (*_LONG, *_SHORT, *_COUNTERS))
)
_long = attrgetter(*_LONG)
_LEFT_OUT = JobSpec(name="")
"""Stands for the specification of a known job, which is in its row."""

_INSERT = Bulk(("is_last", "text"), lambda dialect: insert(schema.journal))
_PIECES = select(schema.journal).order_by(schema.journal.c.number)
_FORGET = delete(schema.journal)
_PUT_ASIDE = Bulk(("reason", "text"), lambda dialect: insert(schema.journal_refused))

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Changes).decode


def takes(changes: Changes) -> bool:
    """Whether this may be put down here: new jobs, and at most what comes with them."""
    return bool(changes.submitted) and not any(_others(changes))


def entry(changes: Changes) -> list[tuple[int, str]]:
    """A save that is of this kind, as rows for `append`."""
    if changes.jobs:
        known = [(replace(job, spec=_LEFT_OUT), rollup) for job, rollup in changes.jobs]
        changes = replace(changes, jobs=known)
    if max(map(len, _long(changes))) <= PIECE_JOBS:
        return [(1, _encode(changes).decode())]
    texts = [_encode(piece).decode() for piece in _pieces(changes)]
    return [(int(n == len(texts)), text) for n, text in enumerate(texts, 1)]


def append(connection: Connection, entry: list[tuple[int, str]]) -> None:
    """Put down a save, with a statement for each row."""
    _INSERT.run(connection, entry)


def _pieces(changes: Changes) -> Iterator[Changes]:
    rest: dict[str, Any] = {name: getattr(changes, name) for name in (*_SHORT, *_COUNTERS)}
    for start in range(0, max(map(len, _long(changes))), PIECE_JOBS):
        some = {name: getattr(changes, name)[start : start + PIECE_JOBS] for name in _LONG}
        yield Changes(**some, **rest)
        rest = {}


def expand(
    connection: Connection,
    complain: Callable[[str], object],
    jobs_max: int | None = None,
) -> int:
    """Write the rows of all entries, or of the oldest ones until they have that many new jobs, and
    forget them. How many new jobs got rows. Entries that the tables refuse are put aside, and
    `complain` gets a sentence about each: it is true once this transaction is committed."""
    whole = Changes()
    last = 0
    try:
        with connection.execute(_PIECES) as found:
            for number, is_last, text in found:
                _join(whole, text)
                last = number
                if is_last and jobs_max is not None and len(whole.submitted) >= jobs_max:
                    break
        if last:
            _save_whole(connection, whole)
    except _refusals(connection):
        return _expand_one_by_one(connection, complain)
    if last:
        connection.execute(_FORGET.where(schema.journal.c.number <= last))
    return len(whole.submitted)


def _expand_one_by_one(connection: Connection, complain: Callable[[str], object]) -> int:
    jobs = last = 0
    texts: list[str] = []
    for number, is_last, text in connection.execute(_PIECES).all():
        texts.append(text)
        if not is_last:
            continue
        entry = Changes()
        try:
            for piece in texts:
                _join(entry, piece)
            _save_whole(connection, entry)
            jobs += len(entry.submitted)
        except _refusals(connection) as error:
            complain(_put_aside(connection, texts, entry, str(error)))
        texts = []
        last = number
    connection.execute(_FORGET.where(schema.journal.c.number <= last))
    return jobs


def _put_aside(connection: Connection, texts: list[str], entry: Changes, reason: str) -> str:
    _PUT_ASIDE.run(connection, [(reason, text) for text in texts])
    # The numbers of these jobs were told to somebody, and are not given out again.
    save_changes(connection, Changes(**{name: getattr(entry, name) for name in _COUNTERS}))
    jobs = ", ".join(str(job.id) for job, _ in entry.submitted[:SHOWN_JOBS_MAX]) or "of a save"
    more = " …" if len(entry.submitted) > SHOWN_JOBS_MAX else ""
    return f"The record refuses the new jobs {jobs}{more}; they were put aside: {reason}."


def _join(whole: Changes, text: str) -> None:
    piece = _decode(text)
    for name in (*_LONG, *_SHORT):
        getattr(whole, name).extend(getattr(piece, name))
    for name in _COUNTERS:
        if (value := getattr(piece, name)) is not None:
            setattr(whole, name, value)


def _save_whole(connection: Connection, changes: Changes) -> None:
    """All rows, or none if one of them is refused."""
    connection.exec_driver_sql("SAVEPOINT rows")
    try:
        save_changes(connection, changes)
    except _refusals(connection):
        connection.exec_driver_sql("ROLLBACK TO rows")
        raise
    connection.exec_driver_sql("RELEASE rows")


def _refusals(connection: Connection) -> tuple[type[Exception], ...]:
    """What says that it is the entry that is wrong, and not the disk."""
    driver = connection.dialect.loaded_dbapi
    return (driver.IntegrityError, IntegrityError, OverflowError, msgspec.DecodeError)

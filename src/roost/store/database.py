"""The engine, the one writer and the readers: who touches the database file, and when.

Exactly one connection writes; a save is one transaction and is on disk when it returns. A small one
is done at once, on the loop, as long as the disk is quick; others have a thread. A few reader
threads have connections that cannot write; each read sees one moment of the database from its first
statement to its last. Reads never wait for a save (WAL), nor it for them. What SQLite needs in
particular, pragmas, its log and its spelling of BEGIN, stands in `_sqlite_engines`,
`_lengthen_log`, `_begin_writing` and `_end_writing`: another database is other such functions.

New jobs are put down in the journal first, where a save of them is one small write; their rows are
written, many at a time, before anybody reads or changes rows, and at the latest after some seconds.

Must not know what is saved or asked: that is `rows` and `queries`. Every failure of the database
leaves here as `StoreFailure`, with the transaction rolled back; the caller may try again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool

from roost.core.messages import Changes
from roost.errors import Invalid, StoreFailure, Unavailable, Unreadable
from roost.store import journal
from roost.store.rows import save_changes, save_probe

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

READERS = 4
SMALL_JOBS_MAX = 100
QUICK_SAVE_S = 0.003
"""When small saves take longer, on the average of the last few, none holds up the loop."""
_MEMORY = 8
"""How many saves, roughly, that average goes back."""
CLOSE_MS_MAX = 300
"""How long `close` waits for readers that are busy computing rather than reading."""
_INTERRUPT_MS = 10

EXPAND_AFTER_S = 1.0
"""How long nothing must have come into the journal until it is worked on."""
JOURNALED_JOBS_MAX = 50_000
QUIET_TRIES = 10
"""With more jobs in it, or after so many times as long, it is worked on in any case."""
STEP_JOBS = 1_000
"""How many jobs then get their rows at a time; a save that comes meanwhile waits so long."""

LOG_PAGES = 4_000
"""What SQLite's log holds when it is begun anew: fewer, larger checkpoints than its own 1,000."""
LOG_DISK_SHARE = 16
"""The log is made that long at once only if so many times as much is free on the disk."""

_BOTH = ("busy_timeout = 5000", "foreign_keys = ON", "temp_store = MEMORY")
_WRITER = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "cache_size = -65536",  # KiB
    f"wal_autocheckpoint = {LOG_PAGES}",
    "journal_size_limit = 67108864",
)
_READER = ("query_only = ON", "cache_size = -16384")


_FAILURES = (SQLAlchemyError, sqlite3.Error)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
ADVICE_WHEN_DAMAGED = (
    "Put a copy in its place, such as one of roost export, or what sqlite3 can .recover of it."
)


class Database:
    """The durable record behind a URL such as `sqlite:////var/lib/roost/roost.db`.

    Opens nothing before the first use; call `migrate` first. What it finds wrong by itself goes
    to the log and to `complain`, which is called on the loop that called `migrate`. Raises
    `Invalid` for a URL of a database that Roost cannot use.
    """

    def __init__(
        self,
        url: str,
        readers: int = READERS,
        complain: Callable[[str], object] | None = None,
    ) -> None:
        parsed = _checked(url)
        self._complain = complain
        self._complaints: list[str] = []
        """What the transaction that is under way has to complain of."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self.place = parsed.database
        self._writer_engine, self._reader_engine = _sqlite_engines(parsed, readers)
        event.listen(self._reader_engine, "before_cursor_execute", self._refuse_when_closing)
        self._writer_thread = ThreadPoolExecutor(1, "store-writer")
        self._reader_threads = ThreadPoolExecutor(readers, "store-reader")
        self._pen: Connection | None = None
        """The writer's connection; one save at a time touches it."""
        self._small_save_s = 0.0
        """What a small save took, as a running mean."""
        self._journaled = 0
        """How many new jobs are in the journal and have no rows yet."""
        self._expansion: asyncio.Task[None] | None = None
        self._writes: set[Future[Any]] = set()
        """What is under way in the writer's thread."""
        self._reads: set[Future[Any]] = set()
        self._reading: set[sqlite3.Connection] = set()
        """Connections in use by readers, to be interrupted on close."""
        self._closing = False

    async def migrate(self) -> bool:
        """Bring the tables to the form this program knows, creating them when there are none, which
        is answered with True.

        Raises `StoreFailure` when the database was written by a newer program.
        """
        self._loop = asyncio.get_running_loop()
        is_new = await self._in_writer(_upgrade, self.place)
        await self._in_writer(self._write_rows)
        return is_new

    def lengthen_log(self) -> None:
        """Give the log its full size, soon: a commit that lengthens it waits twice as long for the
        disk as one that writes over what is there."""
        self._in_thread(lambda: self._write(_lengthen_log))

    async def save(self, changes: Changes) -> None:
        """Write all of it or none; on disk when this returns. Raises `StoreFailure`."""
        is_small = not changes.deleted and _is_small(len(changes.submitted) + len(changes.jobs))
        if journal.takes(changes):
            await self._in_turn(partial(self._put_down, changes), is_small)
            if self._expansion is None or self._expansion.done():
                self._expansion = asyncio.create_task(self._expand_in_steps())
        else:
            is_small = is_small and _is_small(self._journaled)
            await self._in_turn(lambda: self._write(lambda c: save_changes(c, changes)), is_small)

    async def write(
        self, function: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run `function(connection, …)` as one transaction of the writer. Raises `StoreFailure`,
        `Unavailable` while closing."""
        if self._closing:
            raise _stopping()
        return await self._in_writer(function, *args, **kwargs)

    async def probe(self) -> None:
        """Write something harmless. Raises `StoreFailure` while the disk does not take it."""
        await self._in_writer(save_probe)

    async def read(
        self, function: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run `function(connection, …)` in a reader thread on one consistent view of the data.

        Raises `Unreadable` when the database cannot be read, `Unavailable` while closing.
        """
        if self._closing:
            raise _stopping()
        if self._journaled:
            try:
                await self._in_turn(self._expand, _is_small(self._journaled))
            except StoreFailure as failure:
                raise self._unreadable(str(failure)) from failure
        future = self._reader_threads.submit(self._read, lambda c: function(c, *args, **kwargs))
        self._reads.add(future)
        future.add_done_callback(self._reads.discard)
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Finish the saves that were asked for, interrupt the reads, let go of the file."""
        if self._closing:
            return
        self._closing = True
        if self._expansion is not None:
            self._expansion.cancel()
        await asyncio.wrap_future(self._writer_thread.submit(self._finish))
        self._writer_thread.shutdown()
        for _ in range(CLOSE_MS_MAX // _INTERRUPT_MS):
            if not self._reads:
                break
            # Again and again: one that comes just before a statement begins does nothing.
            for connection in tuple(self._reading):
                connection.interrupt()
            await asyncio.to_thread(wait, tuple(self._reads), _INTERRUPT_MS / 1000)
        self._reader_threads.shutdown(wait=False)
        pool = self._reader_engine.pool
        for read in tuple(self._reads):  # one that still computes gives its connection back later
            read.add_done_callback(lambda _: pool.dispose())
        pool.dispose()
        self._writer_engine.dispose()

    # --- in the writer thread, or instead of it -------------------------------------------------

    async def _in_writer(
        self, function: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        work = self._in_thread(lambda: self._write(lambda c: function(c, *args, **kwargs)))
        return await asyncio.wrap_future(work)

    def _in_thread(self, work: Callable[[], R]) -> Future[R]:
        assert not self._closing, "a save after close"
        future = self._writer_thread.submit(work)
        self._writes.add(future)
        future.add_done_callback(self._writes.discard)
        return future

    async def _in_turn(self, work: Callable[[], None], is_small: bool) -> None:
        """Do it at once if it is small and nothing is under way, else in the thread."""
        if not is_small:
            await asyncio.wrap_future(self._in_thread(work))
            return
        before = time.monotonic()
        if self._small_save_s < QUICK_SAVE_S and not self._writes:
            # To wake a thread costs more than a small commit on a quick disk.
            work()
        else:
            await asyncio.wrap_future(self._in_thread(work))
        self._small_save_s += (time.monotonic() - before - self._small_save_s) / _MEMORY

    async def _expand_in_steps(self) -> None:
        for _ in range(QUIET_TRIES):
            before = self._journaled
            await asyncio.sleep(EXPAND_AFTER_S)
            if self._journaled == before or self._journaled > JOURNALED_JOBS_MAX:
                break
        # Should it fail, whoever reads next will try again, and hears of it.
        with contextlib.suppress(StoreFailure):
            while self._journaled:
                await asyncio.wrap_future(self._in_thread(lambda: self._expand(STEP_JOBS)))

    def _put_down(self, changes: Changes) -> None:
        entry = journal.entry(changes)
        self._transact(partial(journal.append, entry=entry), is_one_statement=len(entry) == 1)
        self._journaled += len(changes.submitted)

    def _expand(self, jobs_max: int | None = None) -> None:
        """Write the rows of what is in the journal, or of some of it.

        Without waiting for the disk: should this be lost, the journal is not, and it is on disk.
        What is committed later is written behind it, so that can only be there with it.
        """
        if not self._journaled:
            return
        jobs = self._transact(lambda c: self._write_rows(c, jobs_max), awaits_disk=False)
        self._journaled = self._journaled - jobs if jobs and jobs_max is not None else 0

    def _write_rows(self, connection: Connection, jobs_max: int | None = None) -> int:
        return journal.expand(connection, self._complaints.append, jobs_max)

    def _finish(self) -> None:
        with contextlib.suppress(StoreFailure):  # what is in the journal stays there
            self._expand()
        self._drop_pen()

    def _write(self, function: Callable[[Connection], R]) -> R:
        """One transaction, which begins with the rows of what is in the journal."""

        def work(connection: Connection) -> R:
            if self._journaled:
                self._write_rows(connection)
            return function(connection)

        result = self._transact(work)
        self._journaled = 0
        return result

    def _transact(
        self,
        function: Callable[[Connection], R],
        *,
        awaits_disk: bool = True,
        is_one_statement: bool = False,
    ) -> R:
        """All of the function or nothing; one statement is that by itself."""
        try:
            pen = self._pen
            if pen is None:
                pen = self._pen = self._writer_engine.connect()
                # Never ended: its part in one for each save would be a tenth of a small one.
                pen.begin()
            if is_one_statement:
                return function(pen)
            driver = _driver(pen)
            _begin_writing(driver, awaits_disk)
            result = function(pen)
            _end_writing(driver, awaits_disk)
            self._tell_complaints()
            return result
        except BaseException as error:
            self._complaints.clear()
            # A new connection knows nothing of the failed transaction, whatever went wrong in it.
            self._drop_pen()
            if isinstance(error, _FAILURES):
                raise self._failure("written", error) from error
            raise

    def _tell_complaints(self) -> None:
        for sentence in self._complaints:
            log.error(sentence)
            if self._loop is not None and self._complain is not None:
                self._loop.call_soon_threadsafe(self._complain, sentence)
        self._complaints.clear()

    def _drop_pen(self) -> None:
        pen, self._pen = self._pen, None
        if pen is not None:
            pen.close()

    # --- in a reader thread -------------------------------------------------------------------

    def _read(self, function: Callable[[Connection], R]) -> R:
        try:
            with self._reader_engine.connect() as connection:
                driver = _driver(connection)
                self._reading.add(driver)
                try:
                    with connection.begin():
                        return function(connection)
                finally:
                    self._reading.discard(driver)
        except _FAILURES as error:
            if self._closing:
                raise _stopping() from error
            raise self._unreadable(str(self._failure("read", error))) from error

    def _refuse_when_closing(self, *_: object) -> None:
        # An interrupt ends the running statement only; this ends the read that would go on.
        if self._closing:
            raise _stopping()

    def _unreadable(self, sentence: str) -> Unreadable:
        """Those who ask are told, and nobody takes it for a bug: so the log is, too."""
        log.error(sentence)
        return Unreadable(sentence)

    def _failure(self, done: str, error: SQLAlchemyError | sqlite3.Error) -> StoreFailure:
        """A failure of the database in our own words: which file, and why."""
        reason = error.orig if isinstance(error, DBAPIError) else error
        advice = ""
        if getattr(reason, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            advice = f" {ADVICE_WHEN_DAMAGED}"
        return StoreFailure(f"The database {self.place} could not be {done}: {reason}.{advice}")


def _is_small(jobs: int) -> bool:
    return jobs <= SMALL_JOBS_MAX


def _stopping() -> Unavailable:
    return Unavailable("The server is stopping; ask again when it is back.")


def _checked(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise Invalid(f"{url!r} is not a database URL such as sqlite:////path/roost.db.") from error
    kind = parsed.get_backend_name()
    if kind != "sqlite":
        raise Invalid(f"Roost cannot keep its record in {kind}; use sqlite:////path/roost.db.")
    if parsed.database in (None, "", ":memory:"):
        raise Invalid("Roost's record must be a file: use sqlite:////path/roost.db.")
    return parsed


def _sqlite_engines(url: URL, readers: int) -> tuple[Engine, Engine]:
    """An engine that writes and one that cannot."""
    # One thread at a time uses a connection, but not always the one that opened it.
    anywhere = {"check_same_thread": False}
    writer = create_engine(url, poolclass=NullPool, connect_args=anywhere)
    reader = create_engine(
        url, poolclass=QueuePool, pool_size=readers, max_overflow=0, connect_args=anywhere
    )
    _prepare(writer, (*_BOTH, *_WRITER))
    _prepare(reader, (*_BOTH, *_READER))
    event.listen(reader, "begin", lambda connection: _driver(connection).execute("BEGIN").close())
    return writer, reader


def _begin_writing(driver: sqlite3.Connection, awaits_disk: bool) -> None:
    """Without waiting for the disk, a transaction that is lost with the power is as if it had not
    been."""
    if not awaits_disk:
        driver.execute("PRAGMA synchronous = NORMAL").close()
    driver.execute("BEGIN IMMEDIATE").close()


def _end_writing(driver: sqlite3.Connection, awaits_disk: bool) -> None:
    driver.commit()
    if not awaits_disk:
        driver.execute("PRAGMA synchronous = FULL").close()


def _lengthen_log(connection: Connection) -> None:
    """Zeros behind all that has been written, where SQLite expects what is left of earlier rounds
    and tells it by the checksums. Whoever has begun to write has the end of the log to himself; and
    no lock of SQLite's is on this file, so none is lost when another descriptor of it is closed."""
    driver = _driver(connection)
    (page,) = driver.execute("PRAGMA page_size").fetchone()
    (_, _, place) = driver.execute("PRAGMA database_list").fetchone()
    size = _LOG_HEAD + LOG_PAGES * (_LOG_PAGE_HEAD + page)
    if shutil.disk_usage(place).free < LOG_DISK_SHARE * size:
        return
    with contextlib.suppress(OSError), Path(f"{place}-wal").open("r+b") as log:
        missing = size - log.seek(0, os.SEEK_END)
        log.write(bytes(max(missing, 0)))
        log.flush()
        os.fsync(log.fileno())  # or the next save would wait for it, on the loop


_LOG_HEAD, _LOG_PAGE_HEAD = 32, 24


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _prepare(engine: Engine, pragmas: tuple[str, ...]) -> None:
    """Settings for each new connection; transactions begin when we say so, not the driver."""

    def on_connect(driver: sqlite3.Connection, record: object) -> None:
        driver.isolation_level = None
        for pragma in pragmas:
            driver.execute(f"PRAGMA {pragma}").close()

    event.listen(engine, "connect", on_connect)


def migrate_to_head(url: str) -> None:
    """Make the tables in a database that nobody uses yet."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            _upgrade(connection, make_url(url).database)
    finally:
        engine.dispose()


def head_revision() -> str:
    """The revision of the tables that this program knows. Each has a file, whose name begins with
    it."""
    versions = Path(__file__).with_name("migrations") / "versions"
    return max(file.name for file in versions.glob("[0-9]*.py")).partition("_")[0]


def _upgrade(connection: Connection, place: str | None) -> bool:
    """Whether there were no tables."""
    present = _revision(connection)
    if present != head_revision():
        _migrate(connection, place)
    return present is None


def _migrate(connection: Connection, place: str | None) -> None:
    # Alembic takes as long to import as the rest of the store; only a new form needs it.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "roost.store:migrations")
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    present = _revision(connection)
    if present is not None and present not in known:
        raise StoreFailure(
            f"The database {place} was written by a newer Roost (its form is {present!r}); "
            "start that version or a later one, or restore an older copy."
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    """The revision of the tables that are there; None when there are none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

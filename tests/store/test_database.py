"""The database as a whole: what a save promises, what a reader sees, how both fail and stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from roost.core.messages import Changes
from roost.core.records import Event, JobId, Moment
from roost.errors import Invalid, StoreFailure, Unavailable
from roost.store import queries
from roost.store.database import LOG_PAGES, Database


def pragma(connection: Connection, name: str) -> Any:
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


async def test_what_is_saved_is_read(database: Database, make: Any) -> None:
    await database.save(make.submitted(make.job(1)))
    assert await database.read(queries.job_ids, roots_only=True) == [1]


async def test_every_commit_reaches_the_disk_before_save_returns(database: Database) -> None:
    assert await database._in_writer(pragma, "journal_mode") == "wal"
    assert await database._in_writer(pragma, "synchronous") == 2
    assert await database._in_writer(pragma, "foreign_keys") == 1


async def test_a_small_save_does_not_touch_the_connection_while_another_write_has_it(
    database: Database, make: Any
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: Connection) -> None:
        begun.set()
        assert go_on.wait(10)

    writing = asyncio.create_task(database.write(slow))
    assert await asyncio.to_thread(begun.wait, 10)
    saving = asyncio.create_task(database.save(make.submitted(make.job(1))))
    await asyncio.sleep(0)
    go_on.set()
    await writing
    await saving
    assert await database.read(queries.job_ids, roots_only=True) == [1]


async def test_readers_cannot_write(database: Database) -> None:
    def write(connection: Connection) -> None:
        connection.execute(text("DELETE FROM jobs"))

    with pytest.raises(StoreFailure, match="readonly"):
        await database.read(write)


async def test_a_reader_sees_one_moment_whatever_is_saved_meanwhile(
    database: Database, make: Any
) -> None:
    await database.save(make.submitted(make.job(1)))
    first, go_on = threading.Event(), threading.Event()

    def twice(connection: Connection) -> tuple[list[JobId], list[JobId]]:
        before = queries.job_ids(connection)
        first.set()
        assert go_on.wait(10)
        return before, queries.job_ids(connection)

    reading = asyncio.create_task(database.read(twice))
    assert await asyncio.to_thread(first.wait, 10)
    await database.save(make.submitted(make.job(2)))
    go_on.set()
    assert await reading == ([1], [1])
    assert await database.read(queries.job_ids) == [1, 2]


async def test_a_save_is_all_or_nothing_and_the_next_one_works(
    database: Database, file: Path, make: Any
) -> None:
    await database.save(make.submitted(make.job(1)))
    stray = Event(JobId(99), Moment(1), "running")
    with pytest.raises(StoreFailure) as failure:
        await database.save(make.changed(make.job(1, priority=2), events=[stray]))
    assert str(failure.value) == (
        f"The database {file} could not be written: FOREIGN KEY constraint failed."
    )
    with pytest.raises(OverflowError):
        await database.save(make.changed(make.job(1, priority=2**70)))
    await database.save(make.submitted(make.job(3)))
    found = await database.read(queries.job_views, [1, 2, 3])
    assert [(view.job.id, view.job.priority) for view in found] == [(1, 0), (3, 0)]


async def test_a_full_disk_is_a_store_failure_and_what_is_saved_stays_readable(
    database: Database, make: Any
) -> None:
    def allow_pages(connection: Connection, count: int) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {count}")

    await database.save(make.submitted(make.job(1)))
    pages = await database._in_writer(pragma, "page_count")
    await database._in_writer(allow_pages, pages + 2)
    many = [make.job(number, name="x" * 500) for number in range(2, 500)]
    with pytest.raises(StoreFailure, match="database or disk is full"):
        await database.save(make.submitted(*many))
    assert await database.read(queries.job_ids) == [1]
    await database.save(make.submitted(*many))  # there is room again
    assert len(await database.read(queries.job_ids)) == 499


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(mount, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a small disk")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


async def test_a_disk_that_is_truly_full(small_disk: Path, make: Any) -> None:
    database = Database(f"sqlite:///{small_disk / 'roost.db'}")
    await database.migrate()
    await database.save(make.submitted(make.job(1)))
    many = [make.job(number, name="x" * 2000) for number in range(2, 1000)]
    for _ in range(2):
        with pytest.raises(StoreFailure, match=r"disk is full|disk I/O error"):
            await database.save(make.submitted(*many))
    assert await database.read(queries.job_ids) == [1]
    await database.save(make.submitted(make.job(2)))
    assert await database.read(queries.job_ids) == [1, 2]
    await database.close()


async def test_another_writer_is_waited_for_and_then_named(
    database: Database, file: Path, make: Any
) -> None:
    def be_impatient(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA busy_timeout = 1")

    await database._in_writer(be_impatient)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreFailure, match="database is locked"):
        await database.save(make.submitted(make.job(1)))
    other.close()
    await database.save(make.submitted(make.job(1)))


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database, whatever its length may be" * 100)
    database = Database(f"sqlite:///{file}")
    with pytest.raises(StoreFailure, match=r"notes\.txt could not be written: file is not a data"):
        await database.migrate()
    with pytest.raises(StoreFailure, match=r"notes\.txt could not be read") as failure:
        await database.read(queries.job_ids)
    assert isinstance(failure.value, Unavailable), "whoever asked is refused"
    await database.close()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://farm/roost", "cannot keep its record in mysql; use sqlite:"),
        ("postgresql://farm/roost", "cannot keep its record in postgresql"),
        ("sqlite://", "must be a file"),
        ("roost.db", "is not a database URL such as sqlite:"),
    ],
)
def test_a_database_that_roost_cannot_use_is_refused_by_name(url: str, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        Database(url)


# --- stopping ---------------------------------------------------------------------------------

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


def is_open(file: Path) -> bool:
    return str(file) in [one.path for one in psutil.Process().open_files()]


async def test_closing_interrupts_readers_at_once(file: Path) -> None:
    database = Database(f"sqlite:///{file}")
    begun = threading.Event()

    def stubborn(connection: Connection) -> None:
        begun.set()
        for _ in range(3):
            try:
                connection.exec_driver_sql(ENDLESS)
            except OperationalError:
                continue

    reading = asyncio.create_task(database.read(stubborn))
    assert await asyncio.to_thread(begun.wait, 10)
    await database.close()
    with pytest.raises(Unavailable):
        await reading
    with pytest.raises(Unavailable):
        await database.read(queries.job_ids)
    await database.close()


async def test_closing_does_not_wait_for_a_reader_that_computes(file: Path) -> None:
    database = Database(f"sqlite:///{file}")
    begun, go_on = threading.Event(), threading.Event()

    def thinker(connection: Connection) -> str:
        begun.set()
        assert go_on.wait(10)
        return "thought"

    reading = asyncio.create_task(database.read(thinker))
    assert await asyncio.to_thread(begun.wait, 10)
    await database.close()
    assert is_open(file)
    go_on.set()
    assert await reading == "thought"
    await asyncio.to_thread(database._reader_threads.shutdown)
    assert not is_open(file)


async def test_saves_asked_for_before_close_are_made(file: Path, make: Any) -> None:
    database = Database(f"sqlite:///{file}")
    saves = [asyncio.create_task(database.save(make.submitted(make.job(n)))) for n in range(1, 9)]
    await asyncio.sleep(0)
    await database.close()
    await asyncio.gather(*saves)
    assert not file.with_name("roost.db-wal").exists()
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (8,)
    connection.close()


SAVER = textwrap.dedent(
    """
    import asyncio, sys
    from roost.core.messages import Changes
    from roost.core.records import Job, JobId, JobSpec, JobStatus, Moment, Rollup
    from roost.store.database import LOG_PAGES, Database

    async def main():
        database = Database(sys.argv[1])
        number = 0
        while True:
            number += 1
            job = Job(JobId(number), JobSpec("x"), JobStatus.RUNNABLE, Moment(1))
            await database.save(
                Changes(submitted=[(job, Rollup("", 0, 0, 0, 0, 0))], next_job_id=number + 1)
            )
            print(number, flush=True)

    asyncio.run(main())
    """
)


def save_until_killed(file: Path) -> int:
    """How many saves the killed process had said were made."""
    process = subprocess.Popen(
        [sys.executable, "-c", SAVER, f"sqlite:///{file}"], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        for _ in range(25):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split()
    return int(rest[-1]) if rest else 25


async def test_a_reply_is_durable_once_save_returns(file: Path, database: Database) -> None:
    """Killed at any moment, a process has lost nothing that it said was saved."""
    said = await asyncio.to_thread(save_until_killed, file)
    await database.migrate()
    ids = await database.read(queries.job_ids)
    assert ids in (list(range(1, said + 1)), list(range(1, said + 2)))
    await database.save(Changes(deleted=ids))


async def test_a_log_is_lengthened_behind_all_that_is_in_it(
    file: Path, database: Database, make: Any
) -> None:
    await database.save(make.submitted(make.job(1)))
    database.lengthen_log()
    await database.save(make.submitted(make.job(2)))
    log = file.with_name(f"{file.name}-wal")
    assert log.stat().st_size == 32 + LOG_PAGES * (24 + 4096)
    copy = file.with_name("copy.db")  # what a crash would leave, as nothing has been closed
    shutil.copy(file, copy)
    shutil.copy(log, copy.with_name("copy.db-wal"))
    with contextlib.closing(sqlite3.connect(copy)) as crashed:
        assert crashed.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        counts = [crashed.execute(f"SELECT count(*) FROM {it}") for it in ("jobs", "journal")]
        assert [count.fetchone() for count in counts] == [(1,), (1,)]


async def test_a_log_of_zeros_is_an_empty_one(file: Path, make: Any) -> None:
    database = Database(f"sqlite:///{file}")
    await database.migrate()
    await database.save(make.submitted(make.job(1)))
    await database.close()
    file.with_name(f"{file.name}-wal").write_bytes(bytes(1_000_000))
    database = Database(f"sqlite:///{file}")
    await database.migrate()
    assert await database.read(queries.job_ids, roots_only=True) == [1]
    await database.close()

"""The journal: durable at once, rows before anybody looks, and the same rows as without it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine

from roost.core.farm import Farm
from roost.core.jobspec import parse
from roost.core.messages import CancelJobs, Changes, Message, NodeJoined, Tick
from roost.core.records import JobId, Moment, NodeFacts
from roost.errors import StoreFailure, Unreadable
from roost.store import archive, journal, queries, schema
from roost.store import database as store
from roost.store.database import Database
from roost.store.rows import save_changes


def rows_in(file: Path, table: str) -> list[Any]:
    """As another program finds them now."""
    with sqlite3.connect(file) as disk:
        found = disk.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
    disk.close()
    return found


@pytest.fixture
def fresh(template: Path, tmp_path: Path) -> Iterator[Callable[[str], Connection]]:
    """Connections to new databases."""
    with contextlib.ExitStack() as ends:

        def make(name: str) -> Connection:
            engine = create_engine(f"sqlite:///{shutil.copy(template, tmp_path / name)}")
            ends.callback(engine.dispose)
            connection = ends.enter_context(engine.connect())
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
            return connection

        yield make


def everything(connection: Connection) -> dict[str, list[Any]]:
    return {
        name: [*connection.exec_driver_sql(f"SELECT * FROM {name} ORDER BY 1, 2")]
        for name in schema.metadata.tables
    }


async def test_new_jobs_are_on_disk_before_they_have_rows(
    database: Database, file: Path, make: Any
) -> None:
    await database.save(make.submitted(make.job(1), make.job(2)))
    assert len(rows_in(file, "journal")) == 1 and rows_in(file, "jobs") == []
    assert await database.read(queries.job_ids) == [1, 2]
    assert rows_in(file, "journal") == [] and len(rows_in(file, "jobs")) == 2


async def test_whatever_is_saved_next_finds_the_rows(database: Database, make: Any) -> None:
    await database.save(make.submitted(make.job(1), make.job(2)))
    await database.save(make.changed(make.job(1, "succeeded"), deleted=[JobId(2)]))
    (view,) = await database.read(queries.job_views, [1, 2])
    assert view.job.status == "succeeded"


async def test_what_a_killed_server_left_in_the_journal_gets_rows_at_the_next_start(
    database: Database, file: Path, make: Any
) -> None:
    await database.save(make.submitted(make.job(1)))
    copy = Path(shutil.copytree(file.parent, file.parent.with_name("killed"))) / file.name
    again = Database(f"sqlite:///{copy}")
    await again.migrate()
    assert await again.read(queries.job_ids) == [1]
    await again.close()


async def test_rows_are_written_after_a_moment_and_on_close(
    database: Database, file: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "EXPAND_AFTER_S", 0)
    await database.save(make.submitted(make.job(1)))
    async with asyncio.timeout(10):
        while not rows_in(file, "jobs"):  # noqa: ASYNC110
            await asyncio.sleep(0)
    monkeypatch.setattr(store, "EXPAND_AFTER_S", 3_600)
    await database.save(make.submitted(make.job(2)))
    await database.close()
    assert len(rows_in(file, "jobs")) == 2 and rows_in(file, "journal") == []


def test_entries_get_rows_whole_and_in_order(
    fresh: Callable[[str], Connection], make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "PIECE_JOBS", 2)
    connection = fresh("steps.db")
    for first in (1, 6, 11):
        changes = make.submitted(*(make.job(number) for number in range(first, first + 5)))
        journal.append(connection, journal.entry(changes))
    assert len(everything(connection)["journal"]) == 9
    assert journal.expand(connection, pytest.fail, 6) == 10
    assert queries.job_ids(connection) == [*range(1, 11)]
    assert len(everything(connection)["journal"]) == 3
    assert [journal.expand(connection, pytest.fail) for _ in range(2)] == [5, 0]
    assert queries.job_ids(connection) == [*range(1, 16)]


async def test_a_reader_is_refused_rather_than_told_that_a_new_job_is_unknown(
    database: Database, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Connection) -> None:
        raise sqlite3.OperationalError("disk is full")

    await database.save(make.submitted(make.job(1)))
    with monkeypatch.context() as patch, pytest.raises(StoreFailure, match="disk is full"):
        patch.setattr(journal, "expand", lambda connection, *_: broken(connection))
        await database.read(queries.job_ids)
    assert await database.read(queries.job_ids) == [1]


@pytest.mark.parametrize(
    "rest", [{"deleted": [JobId(1)]}, {"edges_removed": [(JobId(1), JobId(2))]}]
)
def test_only_what_brings_jobs_and_takes_nothing_away_is_put_down(rest: Any, make: Any) -> None:
    assert journal.takes(make.submitted(make.job(1), edges=[(JobId(1), JobId(2))]))
    assert not journal.takes(make.submitted(make.job(1), **rest))
    assert not journal.takes(make.changed(make.job(1)))


FRAMES: list[object] = [{"name": f"frame {n}", "command": "true"} for n in range(2_500)]
SUBMISSIONS: list[object] = [
    {"name": "small", "children": [{"name": "é", "command": {"linux": "true"}}]},
    {"name": "late", "command": "true", "parentIds": [1]},
    [
        {"name": "a", "stubId": "a", "childStubIds": ["c"], "command": "true"},
        {"name": "b", "childStubIds": ["c"], "conditions": [], "maxTime": 5},
        {"name": "c", "stubId": "c", "command": "true", "attributes": {"Shot": "x"}},
    ],
    {"name": "adopts", "childrenIds": [3], "tags": ["single"], "environment": {"A": "ö\n"}},
    {"name": "large", "children": FRAMES},
]


def test_rows_are_the_same_as_without_the_journal(fresh: Callable[[str], Connection]) -> None:
    direct, journaled = fresh("direct.db"), fresh("journaled.db")
    farm = Farm()
    joined = NodeJoined(NodeFacts("render1", cpus=2), connection=1)
    submitted = [parse(one) for one in SUBMISSIONS]
    messages: list[Message] = [*submitted[:2], joined, *submitted[2:], CancelJobs((JobId(1),))]
    put_down: list[bool] = []
    for at, message in enumerate(messages, 1):
        farm.handle(message, Moment(at))
        farm.handle(Tick(), Moment(at))
        changes: Changes = farm.take_changes()
        save_changes(direct, changes)
        put_down.append(journal.takes(changes))
        if put_down[-1]:
            journal.append(journaled, journal.entry(changes))
        else:
            journal.expand(journaled, pytest.fail)
            save_changes(journaled, changes)
    assert put_down == [True, True, False, True, True, True, False]
    assert everything(journaled) == everything(direct)


async def test_an_archive_holds_what_is_in_the_journal(
    template: Path, tmp_path: Path, make: Any
) -> None:
    farm, moved = tmp_path / "farm", tmp_path / "moved"
    farm.mkdir()
    shutil.copy(template, farm / "roost.db")
    database = Database(f"sqlite:///{farm / 'roost.db'}")
    await database.save(make.submitted(make.job(1)))
    archive.write(farm, None, tmp_path / "farm.tar.gz")
    await database.close()
    archive.read(tmp_path / "farm.tar.gz", moved)
    database = Database(f"sqlite:///{moved / 'roost.db'}")
    await database.migrate()
    assert await database.read(queries.job_ids) == [1]
    await database.close()


# --- what the tables refuse -------------------------------------------------------------------

NOBODY_S_PROGRESS = 2_000_000
"""More than there is: it takes a bug in the core."""


async def test_what_the_tables_refuse_is_put_aside_and_told_once_and_all_else_goes_on(
    database: Database, file: Path, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await database.save(make.submitted(make.job(1)))
    bad = make.job(2, progress=NOBODY_S_PROGRESS)
    await database.save(make.submitted(bad, make.job(3), next_job_id=JobId(4)))
    beneath = make.submitted(make.job(4), edges=[(JobId(2), JobId(4))])
    await database.save(beneath)
    await database.save(make.submitted(make.job(5)))
    assert await database.read(queries.job_ids) == [1, 5]
    assert await database.read(queries.job_ids) == [1, 5]
    assert rows_in(file, "journal") == []
    [(_, why, text), (_, why_beneath, _)] = rows_in(file, "journal_refused")
    assert "progress" in why and "FOREIGN KEY" in why_beneath
    assert [job.id for job, _ in journal._decode(text).submitted] == [2, 3]
    told, told_beneath = [record.getMessage() for record in caplog.records]
    assert "the new jobs 2, 3;" in told and "the new jobs 4;" in told_beneath
    assert ("next_job_id", 4) in rows_in(file, "counters"), "these numbers are in use"


async def test_what_was_put_aside_is_told_on_the_loop_and_only_once_that_is_committed(
    file: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    told: list[tuple[str, object]] = []
    database = Database(
        f"sqlite:///{file}",
        complain=lambda text: told.append((text, asyncio.get_running_loop())),
    )
    await database.migrate()
    await database.save(make.submitted(make.job(1, progress=NOBODY_S_PROGRESS)))
    with monkeypatch.context() as patch, pytest.raises(Unreadable, match="disk is full"):
        patch.setattr(store, "_end_writing", full)
        await database.read(queries.job_ids)
    assert told == []
    await database.read(queries.job_ids)
    await database.close()
    [(text, loop)] = told
    assert text.startswith("The record refuses the new jobs 1;")
    assert loop is asyncio.get_running_loop()


async def test_a_server_starts_with_what_the_tables_refuse_or_nobody_can_read(
    database: Database, file: Path, make: Any
) -> None:
    await database.save(make.submitted(make.job(1)))
    await database.save(make.submitted(make.job(2, progress=NOBODY_S_PROGRESS)))
    killed = file.parent.with_name(f"{file.parent.name}_killed")
    copy = Path(shutil.copytree(file.parent, killed)) / file.name
    with sqlite3.connect(copy) as disk:
        disk.execute("INSERT INTO journal (is_last, text) VALUES (1, '{\"submitted\": 7}')")
    disk.close()
    again = Database(f"sqlite:///{copy}")
    await again.migrate()
    assert await again.read(queries.job_ids) == [1]
    assert len(rows_in(copy, "journal_refused")) == 2
    await again.close()


async def test_an_entry_is_not_to_blame_for_a_full_disk(
    database: Database, file: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk cannot be had here: the driver is made to say what it says then."""

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    await database.save(make.submitted(make.job(1)))
    with monkeypatch.context() as patch, pytest.raises(StoreFailure, match="disk is full"):
        patch.setattr(journal, "save_changes", full)
        await database.read(queries.job_ids)
    assert rows_in(file, "journal_refused") == []
    assert await database.read(queries.job_ids) == [1]

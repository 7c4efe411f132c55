"""The tables refuse what the core would never decide, and the migrations make exactly them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, insert, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateIndex, CreateTable

from roost.errors import StoreFailure
from roost.store import schema
from roost.store.database import Database, head_revision


@pytest.fixture
def connection(template: Path, tmp_path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{shutil.copy(template, tmp_path / 'schema.db')}")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        yield connection
    engine.dispose()


LEGAL: dict[str, dict[str, Any]] = {
    "jobs": {
        "id": 1, "name": "a", "submitted_by": "", "is_root": 1, "status": "queued",
        "queued_at": 1, "priority": 0, "tries_left": 0, "progress": 0, "attempt": 0,
        "nodes": "[]", "command_outcome": "", "ui_status": "", "overall_progress": 0,
        "tasks_total": 0, "tasks_done": 0, "tasks_failed": 0, "clients_assigned": 0,
    },
    "attempts": {
        "job": 1, "number": 1, "nodes": "[]", "assigned_at": 1, "purpose": "command",
        "stopping": 0, "text": "",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("table", "wrong"),
    [
        ("jobs", {"status": "finished"}),
        ("jobs", {"status": "succeeded"}),
        ("jobs", {"status": "failed", "ended_at": None}),
        ("jobs", {"status": "running", "ended_at": 5}),
        ("jobs", {"status": "abandoned", "ended_at": 5}),
        ("jobs", {"progress": -1}),
        ("jobs", {"progress": 1_000_001}),
        ("jobs", {"overall_progress": 1_000_001}),
        ("jobs", {"attempt": -1}),
        ("jobs", {"command_outcome": "maybe"}),
        ("jobs", {"is_root": 2}),
        ("jobs", {"name": None}),
        ("jobs", {"priority": "high"}),
        ("attempts", {"number": 0}),
        ("attempts", {"cause": "exited"}),
        ("attempts", {"ended_at": 4}),
        ("attempts", {"stopping": 7}),
        ("attempts", {"job": 2}),
    ],
)
def test_an_illegal_row_is_refused(
    connection: Connection, table: str, wrong: dict[str, Any]
) -> None:
    if table != "jobs":
        connection.execute(insert(schema.jobs), LEGAL["jobs"])
    with pytest.raises(IntegrityError):
        connection.execute(insert(schema.metadata.tables[table]), LEGAL[table] | wrong)
    connection.execute(insert(schema.metadata.tables[table]), LEGAL[table])


def test_a_job_is_neither_its_own_child_nor_twice_the_same_child(connection: Connection) -> None:
    connection.execute(insert(schema.jobs), [LEGAL["jobs"] | {"id": number} for number in (1, 2)])
    add = insert(schema.job_edges)
    with pytest.raises(IntegrityError, match="no_loop"):
        connection.execute(add, {"parent": 1, "child": 1})
    connection.execute(add, {"parent": 1, "child": 2})
    with pytest.raises(IntegrityError, match="UNIQUE"):
        connection.execute(add, {"parent": 1, "child": 2})
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        connection.execute(add, {"parent": 1, "child": 3})


# --- migrations -------------------------------------------------------------------------------


def test_migrations_lead_to_the_schema(connection: Connection) -> None:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    assert compare_metadata(context, schema.metadata) == []


def test_migrations_lead_to_the_schema_to_the_letter(connection: Connection) -> None:
    """Alembic does not compare CHECK constraints, STRICT and the conditions of indexes."""

    def written(connection: Connection) -> dict[str, list[str]]:
        rows = connection.execute(
            text("SELECT name, sql FROM sqlite_master WHERE sql <> '' AND name NOT LIKE 'alembic%'")
        )
        return {name: sorted(re.split(r",\s*\n\s*", sql)) for name, sql in rows}

    engine = create_engine("sqlite://")
    with engine.connect() as fresh:
        schema.metadata.create_all(fresh)
        ours, theirs = written(fresh), written(connection)
    engine.dispose()
    assert {name: _clauses(sql) for name, sql in theirs.items()} == {
        name: _clauses(sql) for name, sql in ours.items()
    }


def test_a_farm_of_the_first_form_is_brought_along() -> None:
    config = Config()
    config.set_main_option("script_location", "roost.store:migrations")
    config.set_main_option("path_separator", "os")
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for table in ("jobs", "attempts"):
            columns = ", ".join(LEGAL[table])
            values = ", ".join(f":{name}" for name in LEGAL[table])
            row = LEGAL[table] | ({"nodes": "[7, 8]"} if table == "attempts" else {})
            connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({values})"), row)
        connection.execute(
            text(
                "INSERT INTO attempts (job, number, nodes, assigned_at, purpose, stopping, text,"
                " ended_at, cause) VALUES (1, 2, '[7, 9, 8]', 1, 'command', 0, '', 5, 'exited')"
            )
        )
        command.upgrade(config, "0013")
        connection.execute(text("UPDATE jobs SET status = 'paused'"))
        connection.execute(
            text("UPDATE attempts SET ended_at = NULL, cause = NULL WHERE number = 1")
        )
        command.upgrade(config, "head")
        assert connection.scalars(text("SELECT node FROM attempts")).all() == [7, 7]
        assert connection.scalars(text("SELECT paused FROM attempts")).all() == [1, 0]
        others = connection.execute(text("SELECT job, number, node, ended_at FROM secondary_nodes"))
        assert sorted(others) == [(1, 2, 8, 5), (1, 2, 9, 5)]
        assert connection.execute(text("SELECT failures, blocked_warning FROM jobs")).one() == (
            "[]",
            0,
        )
    engine.dispose()


def _clauses(parts: list[str]) -> list[str]:
    """The order of constraints within a table is nobody's promise."""
    words = " ".join(" ".join(parts).split())
    head = re.match(r"CREATE TABLE \w+ ?\(", words)
    body = words.replace(head.group(), "") if head else words
    return sorted(re.findall(r"CONSTRAINT \w+ \w+|'\w*'|\w+", body))


def test_the_schema_can_be_said_in_postgresql() -> None:
    dialect = postgresql.dialect()
    for table in schema.metadata.sorted_tables:
        assert "BIGINT" in str(CreateTable(table).compile(dialect=dialect)) or table.name
        for index in table.indexes:
            CreateIndex(index).compile(dialect=dialect)


async def test_migrating_twice_changes_nothing(database: Database) -> None:
    await database.migrate()
    await database.migrate()


def test_the_head_is_told_without_alembic_as_alembic_tells_it(connection: Connection) -> None:
    present = MigrationContext.configure(connection).get_current_revision()
    assert head_revision() == present


async def test_a_database_of_a_newer_program_is_refused(database: Database) -> None:
    def become_newer(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    await database._in_writer(become_newer)
    with pytest.raises(StoreFailure, match=r"written by a newer Roost \(its form is '9999'\)"):
        await database.migrate()

"""A farm comes out of its file as it went in, or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import sqlite3
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from roost import beneath
from roost.errors import Conflict, Invalid, StoreFailure
from roost.store import archive, schema
from roost.store.database import migrate_to_head
from roost.store.rows import save_changes


@pytest.fixture
def farm(tmp_path: Path, make: Any) -> Path:
    """A folder with three jobs, output and a submit folder."""
    data = tmp_path / "farm"
    (data / "output" / "0").mkdir(parents=True)
    (data / "jobs" / "2" / "deep").mkdir(parents=True)
    (data / "output" / "0" / "1.1.log").write_bytes(b"line\n\xff")
    (data / "jobs" / "2" / "deep" / "tool").write_text("#!/bin/sh\n")
    (data / "jobs" / "2" / "deep" / "tool").chmod(0o755)
    (data / "jobs" / "2" / "link").symlink_to("deep/tool")
    url = f"sqlite:///{data / 'roost.db'}"
    migrate_to_head(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        save_changes(connection, make.submitted(*(make.job(number) for number in (1, 2, 3))))
    engine.dispose()
    return data


@contextlib.contextmanager
def opened(top: Path, path: bytes, *, making: bool = False) -> Iterator[int]:
    """A folder whose path may be longer than the system takes one."""
    above = os.open(top, os.O_RDONLY)
    folder = beneath.open_folder(above, path, making=making)
    yield folder
    os.close(folder)
    os.close(above)


def tables_of(data: Path) -> dict[str, list[Any]]:
    with sqlite3.connect(data / "roost.db") as disk:
        found = {
            name: disk.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()
            for name in schema.metadata.tables
        }
    disk.close()
    return found


def test_every_table_and_file_comes_back(farm: Path, tmp_path: Path) -> None:
    file = tmp_path / "farm.tar.gz"
    seen: list[str] = []
    written = archive.write(farm, None, file, lambda what, _: seen.append(what))
    assert file.stat().st_mode & 0o777 == 0o600
    assert written.tables["jobs"].rows == 3 and written.files == 3 and "jobs" in seen
    other = tmp_path / "other"
    assert archive.read(file, other) == written
    assert tables_of(other) == tables_of(farm) and len(tables_of(other)["jobs"]) == 3
    assert (other / "output" / "0" / "1.1.log").read_bytes() == b"line\n\xff"
    tool = other / "jobs" / "2" / "link"
    assert tool.is_symlink() and tool.stat().st_mode & 0o777 == 0o755
    assert not (other / ".importing").exists()


def test_folders_nested_more_deeply_than_calls_come_back(farm: Path, tmp_path: Path) -> None:
    depth = 2 * sys.getrecursionlimit()
    for top in (farm, tmp_path / "other"):
        top.mkdir(exist_ok=True)
    with opened(farm, b"jobs/2" + b"/d" * depth, making=True) as below:
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=below))
    written = archive.write(farm, None, tmp_path / "farm.tar.gz")
    assert written.files == 4
    assert archive.read(tmp_path / "farm.tar.gz", tmp_path / "other") == written
    with opened(tmp_path / "other", b"jobs/2" + b"/d" * depth) as below:
        assert [entry.name for entry in os.scandir(below)] == ["file"]
    for top in (farm, tmp_path / "other"):
        beneath.remove_tree(top)


def test_a_folder_that_cannot_be_listed_is_no_farm_without_it(
    farm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, *more: Any, **named: Any) -> int:
        if path == b"deep":
            raise PermissionError(errno.EACCES, "Permission denied")
        return opening(path, *more, **named)  # type: ignore[arg-type]

    opening = os.open
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreFailure, match="Permission denied"):
        archive.write(farm, None, tmp_path / "farm.tar.gz")
    assert not (tmp_path / "farm.tar.gz").exists()


def test_a_farm_that_is_there_is_not_touched_unless_told(farm: Path, tmp_path: Path) -> None:
    file = tmp_path / "farm.tar.gz"
    archive.write(farm, None, file)
    before = tables_of(farm)
    with pytest.raises(Conflict, match="--replace"):
        archive.read(file, farm)
    (farm / "output" / "0" / "1.1.log").write_text("newer")
    archive.read(file, farm, replace=True)
    assert tables_of(farm) == before
    assert (farm / "output" / "0" / "1.1.log").read_bytes() == b"line\n\xff"
    (aside,) = farm.glob("before-import-*")
    assert (aside / "output" / "0" / "1.1.log").read_text() == "newer"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("cut short", "not a whole archive"),
        ("garbled", "not a whole archive"),
        ("changed", "is damaged"),
        ("a table less", "is damaged"),
        ("evil", "it has a file 'output/../../evil'"),
        ("behind a link", "'output/0/evil' is behind a link"),
        ("newer", "was written by Roost"),
        ("text", "not a whole archive"),
    ],
)
def test_what_is_no_whole_archive_changes_nothing(
    farm: Path, tmp_path: Path, damage: str, reason: str
) -> None:
    file = tmp_path / "farm.tar.gz"
    archive.write(farm, None, file)
    if damage == "cut short":
        file.write_bytes(file.read_bytes()[:-200])
    elif damage == "garbled":
        data = file.read_bytes()
        file.write_bytes(data[:100] + bytes(200) + data[300:])
    elif damage == "text":
        file.write_text("no archive")
    else:
        rewrite(file, damage)
    other = tmp_path / "other"
    with pytest.raises(Invalid, match=rf"farm\.tar\.gz .*{reason}"):
        archive.read(file, other)
    assert not list(other.glob("*")) and not (tmp_path / "evil").exists()


def rewrite(file: Path, damage: str) -> None:
    new = file.with_suffix(".new")
    with tarfile.open(file) as old, tarfile.open(new, "w:gz") as archive_file:
        for member in old:
            source = old.extractfile(member) if member.isreg() else None
            data = source.read() if source else b""
            if damage == "changed" and member.name == "tables/jobs.jsonl":
                data = data.replace(b"1", b"7", 1)
            if damage == "a table less" and member.name == "tables/jobs.jsonl":
                continue
            if damage == "evil" and member.name.startswith("output"):
                member.name = "output/../../evil"
            if damage == "behind a link" and member.name.endswith(".log"):
                member.name, source, data = "output/0", None, b""
                member.type, member.linkname = tarfile.SYMTYPE, str(file.parent)
            if damage == "behind a link" and member.name.endswith("tool"):
                member.name = "output/0/evil"
            if damage == "newer" and member.name == archive.MANIFEST:
                data = json.dumps({**json.loads(data), "schema": "9999"}).encode()
            member.size = len(data)
            archive_file.addfile(member, io.BytesIO(data) if source else None)
    shutil.move(new, file)


def test_without_a_farm_there_is_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="There is no farm"):
        archive.write(tmp_path, None, tmp_path / "x.tar.gz")
    assert not list(tmp_path.iterdir())

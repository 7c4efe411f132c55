"""A whole farm as one file, and back: to keep, or to move it to another server.

The file is a tar archive, compressed by gzip, that anything can read:

    tables/NAME.jsonl   a JSON list of the column names, then one list of values a line
    output/…, jobs/…    what jobs have printed, and the submit folders of the server's own
    manifest.json       comes last: format, schema, and rows and SHA-256 of each table

Nothing in it depends on the database it came from. Tables are read in one transaction, so they fit
together although the server goes on; output is as far as it was when its file was reached, and is
sent again from there by the agents. Memory stays flat: rows and files pass in pieces.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Table, create_engine, insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from roost import __version__, beneath
from roost.errors import Conflict, Invalid, StoreFailure
from roost.store import schema
from roost.store.database import head_revision, migrate_to_head

FORMAT = 1
MANIFEST = "manifest.json"
FOLDERS = ("output", "jobs")
DATABASE_FILES = ("roost.db", "roost.db-wal", "roost.db-shm")
ROWS_AT_ONCE = 1_000
PIECE_BYTES = 1024 * 1024
DAMAGES = (tarfile.TarError, EOFError, zlib.error, ValueError, KeyError, TypeError)

Progress = Callable[[str, int], None]
"""Told what is being worked on, and how many rows or files of it are done."""


class TableEntry(Struct, frozen=True):
    rows: int
    sha256: str


class Manifest(Struct, frozen=True):
    """What an archive says of itself."""

    format: int
    schema: str
    """Revision of the tables."""
    roost: str
    at: int
    """Milliseconds since 1970."""
    tables: dict[str, TableEntry]
    files: int = 0


def _no_progress(_: str, __: int) -> None: ...


# --- out --------------------------------------------------------------------------------------


def write(data: Path, url: str | None, target: Path, progress: Progress = _no_progress) -> Manifest:
    """Put the farm in the folder `data` into the file `target`, which only its owner can read.

    `url` is its database, if that is not SQLite in `data`. Raises `StoreFailure` when something
    cannot be read or written, and leaves nothing then; `Invalid` when there is no farm.
    """
    if url is None and not (data / DATABASE_FILES[0]).exists():
        raise Invalid(f"There is no farm in {data}: name its folder with --data.")
    part = target.with_name(target.name + ".part")
    try:
        with contextlib.ExitStack() as stack:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            file = stack.enter_context(os.fdopen(descriptor, "wb"))
            stack.callback(part.unlink, missing_ok=True)
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=5) as archive:
                manifest = _write_all(archive, data, url, progress)
            file.flush()
            os.fsync(file.fileno())
            part.rename(target)
    except OSError as error:
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        reason = f"{where}{error.strerror or error}"
        raise StoreFailure(f"The farm cannot be exported to {target}: {reason}.") from error
    except SQLAlchemyError as error:
        raise StoreFailure(f"The database cannot be read: {error}.") from error
    return manifest


def _write_all(
    archive: tarfile.TarFile, data: Path, url: str | None, progress: Progress
) -> Manifest:
    tables = {}
    with _reading(url or f"sqlite:///{data / DATABASE_FILES[0]}") as connection:
        revision = str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar())
        if revision != head_revision():
            raise Invalid(
                f"The tables are of revision {revision} and this program knows {head_revision()}: "
                "start the server once with this version, or export with the one that wrote them."
            )
        for table in schema.metadata.sorted_tables:
            tables[table.name] = _write_table(archive, connection, table, progress)
    files = sum(_write_folder(archive, data, folder, progress) for folder in FOLDERS)
    now = time.time_ns() // 1_000_000
    manifest = Manifest(FORMAT, revision, __version__, now, tables, files)
    with tempfile.TemporaryFile() as spool:
        spool.write(msgspec.json.encode(manifest))
        _add(archive, MANIFEST, spool)
    return manifest


@contextlib.contextmanager
def _reading(url: str) -> Iterator[Connection]:
    engine = create_engine(url)
    try:
        # Python's SQLite begins no transaction to read; this one sees one moment of all tables.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("BEGIN"))
            yield connection
            connection.execute(text("ROLLBACK"))
    finally:
        engine.dispose()


def _write_table(
    archive: tarfile.TarFile, connection: Connection, table: Table, progress: Progress
) -> TableEntry:
    digest = hashlib.sha256()
    rows = 0
    with tempfile.TemporaryFile() as spool:

        def line(values: list[Any]) -> None:
            data = json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
            digest.update(data)
            spool.write(data)

        line([column.name for column in table.columns])
        statement = select(table).order_by(*table.primary_key.columns)
        found = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(statement)
        for batch in found.partitions():
            for row in batch:
                line(list(row))
            rows += len(batch)
            progress(table.name, rows)
        _add(archive, f"tables/{table.name}.jsonl", spool)
    return TableEntry(rows, digest.hexdigest())


def _write_folder(archive: tarfile.TarFile, data: Path, folder: str, progress: Progress) -> int:
    """Plain files and links; what is made or goes away meanwhile may be missing. Raises `OSError`
    for what cannot be read."""
    count = 0
    try:
        top = os.open(data / folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return count
    try:
        for here, path, is_folder in beneath.walk_paths(top):
            if not is_folder and _write_file(archive, f"{folder}/{os.fsdecode(path)}", here):
                count += 1
                progress(folder, count)
    finally:
        os.close(top)
    return count


def _write_file(archive: tarfile.TarFile, name: str, folder: int) -> bool:
    """A plain file or a link that is in the open folder; False for anything else, or nothing."""
    last = name.rpartition("/")[2]
    try:
        status = os.stat(last, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, os.readlink(last, dir_fd=folder)
            member.mode, member.mtime = 0o777, int(status.st_mtime)
            archive.addfile(member)
        elif stat.S_ISREG(status.st_mode):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            with open(os.open(last, flags, dir_fd=folder), "rb") as file:  # noqa: PTH123
                _add(archive, name, file)
        else:
            return False
    except FileNotFoundError:
        return False
    except OSError as error:
        # Of its path, the system was told the end alone.
        raise OSError(error.errno, error.strerror, name) from None
    return True


def _add(archive: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    """A file under this name, with as many bytes as it has now."""
    member = tarfile.TarInfo(name)
    member.size = os.fstat(file.fileno()).st_size if name.startswith(FOLDERS) else file.tell()
    member.mode = os.fstat(file.fileno()).st_mode & 0o777
    member.mtime = int(time.time())
    file.seek(0)
    archive.addfile(member, file)


# --- in ---------------------------------------------------------------------------------------


def read(
    source: Path, data: Path, *, replace: bool = False, progress: Progress = _no_progress
) -> Manifest:
    """Make the farm of an archive in the folder `data`, in which no server works.

    The archive is read through and held against its manifest before anything changes; what is there
    already is refused, or moved aside with `replace`. Raises `Invalid` for what is no whole archive
    or one of another version, `Conflict`, `StoreFailure`; a failure leaves the folder as it was.
    """
    try:
        manifest = _verified(source, progress)
    except OSError as error:
        raise Invalid(f"{source} cannot be read: {error.strerror}.") from error
    there = [name for name in (*DATABASE_FILES, *FOLDERS) if (data / name).exists()]
    if there and not replace:
        raise Conflict(
            f"There is a farm in {data} already: choose another folder with --data, or move it "
            "aside with --replace."
        )
    new = data / ".importing"
    beneath.remove_tree(new)
    try:
        new.mkdir(parents=True)
        _unpack(source, new, progress)
        if there:
            aside = data / time.strftime("before-import-%Y%m%d-%H%M%S")
            aside.mkdir()
            for name in there:
                (data / name).rename(aside / name)
        # The database last: without it there is no farm.
        for name in (*FOLDERS, *reversed(DATABASE_FILES)):
            if (new / name).exists():
                (new / name).rename(data / name)
    except OSError as error:
        raise StoreFailure(f"The farm cannot be put into {data}: {error}.") from error
    except SQLAlchemyError as error:
        raise Invalid(f"{source} does not fit together: {error}.") from error
    finally:
        beneath.remove_tree(new)
    return manifest


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(source, "r:gz") as archive:
            yield archive
    except FileNotFoundError:
        raise Invalid(f"There is no file {source}.") from None
    except (*DAMAGES, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not of gzip
            raise
        raise Invalid(f"{source} is not a whole archive of a farm: {error}.") from error


def _verified(source: Path, progress: Progress) -> Manifest:
    digests: dict[str, TableEntry] = {}
    files = 0
    manifest: Manifest | None = None
    with _opened(source) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            if member.name == MANIFEST and file is not None:
                manifest = msgspec.json.decode(file.read(), type=Manifest)
            elif member.name.startswith("tables/") and file is not None:
                name = PurePosixPath(member.name).stem
                digests[name] = _digest(file)
                progress(f"checking {name}", digests[name].rows)
            else:
                _checked_name(member)
                files += 1
        if manifest is None:
            raise ValueError("it has no manifest, so its end is missing")
    if manifest.format != FORMAT or manifest.schema != head_revision():
        raise Invalid(
            f"{source} was written by Roost {manifest.roost} (format {manifest.format}, tables "
            f"{manifest.schema}); this one reads format {FORMAT} with tables {head_revision()}: "
            "import it with the version that wrote it, and let that farm be upgraded."
        )
    if digests != manifest.tables or files != manifest.files:
        raise Invalid(f"{source} is damaged: its contents are not what its manifest says.")
    return manifest


def _digest(file: IO[bytes]) -> TableEntry:
    digest = hashlib.sha256()
    lines = 0
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
        lines += piece.count(b"\n")
    return TableEntry(lines - 1, digest.hexdigest())


def _checked_name(member: tarfile.TarInfo) -> None:
    parts = PurePosixPath(member.name).parts
    kind_is_known = member.isreg() or member.issym()
    if not parts or parts[0] not in FOLDERS or ".." in parts or not kind_is_known:
        raise ValueError(f"it has a file {member.name!r}")


def _unpack(source: Path, new: Path, progress: Progress) -> None:
    url = f"sqlite:///{new / DATABASE_FILES[0]}"
    migrate_to_head(url)
    engine = create_engine(url)
    try:
        with engine.begin() as connection, _opened(source) as archive:
            for table in schema.metadata.sorted_tables:
                connection.execute(table.delete())
            files = 0
            for member in archive:
                if member.name.startswith("tables/"):
                    file = archive.extractfile(member)
                    assert file is not None
                    name = PurePosixPath(member.name).stem
                    _fill(connection, schema.metadata.tables[name], file, progress)
                elif member.name != MANIFEST:
                    _read_file(archive, member, new)
                    files += 1
                    progress("files", files)
    finally:
        engine.dispose()


def _read_file(archive: tarfile.TarFile, member: tarfile.TarInfo, new: Path) -> None:
    """A plain file or a link, with the rights that its owner had, in a folder that is made."""
    above, _, name = os.fsencode(member.name).rpartition(b"/")
    top = os.open(new, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            folder = beneath.open_folder(top, above, making=True)
        except NotADirectoryError:
            raise ValueError(f"its file {member.name!r} is behind a link") from None
        try:
            if member.issym():
                os.symlink(member.linkname, name, dir_fd=folder)
                return
            source = archive.extractfile(member)
            assert source is not None
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(os.open(name, flags, dir_fd=folder), "wb") as file:  # noqa: PTH123
                shutil.copyfileobj(source, file, PIECE_BYTES)
                os.fchmod(file.fileno(), member.mode & 0o755)
        finally:
            os.close(folder)
    finally:
        os.close(top)


def _fill(connection: Connection, table: Table, file: IO[bytes], progress: Progress) -> None:
    columns = json.loads(file.readline())
    batch: list[dict[str, Any]] = []
    rows = 0
    for line in file:
        batch.append(dict(zip(columns, json.loads(line), strict=True)))
        if len(batch) == ROWS_AT_ONCE:
            connection.execute(insert(table), batch)
            rows += len(batch)
            batch.clear()
            progress(table.name, rows)
    if batch:
        connection.execute(insert(table), batch)

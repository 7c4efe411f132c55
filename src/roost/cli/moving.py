"""`roost export`, `roost import`: the whole farm as one file, and back."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from roost.cli import options

ARCHIVE = click.Path(path_type=Path, dir_okay=False)


@click.command("export", short_help="Write the whole farm into a file.")
@click.argument("file", type=ARCHIVE)
@click.option("--data", type=options.FOLDER, help="Folder of the farm.")
@click.option("--database-url", metavar="URL", help="Its database, if that is not in --data.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def export(file: Path, force: bool, **_: object) -> None:
    """Write the whole farm into FILE: jobs, output, machines, groups, notes and all else.

    The server may go on meanwhile. FILE is a .tar.gz that only you can read.
    """
    from roost.store import archive

    found = options.load()
    if file.exists() and not force:
        raise click.UsageError(f"{file} exists already; --force replaces it.")
    manifest = archive.write(found.values.data, found.values.database_url, file, _progress())
    jobs = manifest.tables["jobs"].rows
    _clear()
    click.echo(f"Wrote {jobs} jobs and {manifest.files} files to {file}.", err=True)


@click.command("import", short_help="Make a farm out of a file that export wrote.")
@click.argument("file", type=ARCHIVE)
@click.option("--data", type=options.FOLDER, help="Folder of the new farm.")
@click.option("--replace", is_flag=True, help="Move the farm that is there aside.")
def import_(file: Path, replace: bool, **_: object) -> None:
    """Make the farm in FILE, with all its ids, in a folder where no server works.

    FILE is checked before anything changes. Jobs that ran when it was written are waited for, and
    run again if their machines do not come back.
    """
    from roost.folder import lock_folder
    from roost.store import archive

    data = options.load().values.data
    lock = lock_folder(data, "server")
    try:
        manifest = archive.read(file, data, replace=replace, progress=_progress())
    finally:
        os.close(lock)
    _clear()
    click.echo(f"The farm of {file}, {manifest.tables['jobs'].rows} jobs, is in {data}.", err=True)


def _progress() -> Callable[[str, int], None]:
    def tell(what: str, count: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\033[K{what}: {count}", nl=False, err=True)

    return tell


def _clear() -> None:
    if sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)


COMMANDS = (export, import_)

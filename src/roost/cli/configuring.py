"""`roost settings`: which settings are in force and who said so; those of HQueue as Roost's own."""

from __future__ import annotations

from pathlib import Path

import click

from roost import inifiles, settings
from roost.cli import options, tables


@click.group("settings", short_help="Show the settings in force, or convert those of HQueue.")
def group() -> None:
    """Show the settings in force, or turn those of HQueue into Roost's."""


@group.command("show")
@click.option("--all", "everything", is_flag=True, help="Those that have their default, too.")
@options.as_json
def show(everything: bool, as_json: bool, **_: object) -> None:
    """List settings with where each comes from. Secrets are not shown."""
    from roost.cli import checkup

    found = options.load()
    lines = checkup.settings_in_force(found)
    if as_json:
        tables.document({"settings": lines, "ignored": list(found.ignored)})
        return
    shown = [line for line in lines if everything or line["source"] != "default"]
    rows = [(line["name"], line["value"], line["source"]) for line in shown]
    tables.table(("NAME", "VALUE", "SOURCE"), rows)
    for sentence in found.ignored:
        click.echo(sentence, err=True)


@group.command("convert")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True)
)
def convert(files: tuple[Path, ...]) -> None:
    """Print hqserver.ini and hqnode.ini as one settings file of Roost."""
    click.echo(inifiles.convert(settings.read_inis(files)), nl=False)


COMMANDS = (group,)

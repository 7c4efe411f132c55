"""What `roost up`, `server` and `agent` are started with."""

from __future__ import annotations

from pathlib import Path

import click

from roost.cli import cli, options, running


def test_options_of_a_server_are_its_settings_and_say_nothing_unless_given(
    tmp_path: Path,
) -> None:
    file = tmp_path / "roost.toml"
    file.write_text('enable_chirp = false\nfarm_name = "Farm"\n')
    root = click.Context(cli, obj=options.Files(file, ()), **cli.context_settings)
    arguments = ["--no-enable-chirp-io", "--farm-colour", "orange", "--enable-chirp-updates"]
    with running.server.make_context("server", arguments, parent=root):
        found = options.load()
    values = found.values
    assert (values.farm_name, values.farm_colour) == ("Farm", "orange")
    assert (values.enable_chirp, values.enable_chirp_io) == (False, False)
    assert values.enable_chirp_updates and values.enable_chirp_delayed
    assert found.sources["enable_chirp_updates"] == "command line"
    assert found.sources["enable_chirp_delayed"] == "default"

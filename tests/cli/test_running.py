"""What `roost up`, `server` and `agent` are started with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

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


def roost(
    tmp_path: Path, *arguments: str | bytes, closed: str = "", **variables: str
) -> tuple[int, str]:
    """Run the command in a process of its own; its exit code and what it said."""
    line = f'exec "$@" {closed}'
    words = ["sh", "-c", line, "sh", sys.executable, "-m", "roost", *arguments]
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "PATH": os.environ["PATH"], **variables}
    ended = subprocess.run(words, env=environment, capture_output=True, timeout=60)
    return ended.returncode, (ended.stdout + ended.stderr).decode()


@pytest.mark.parametrize("closed", [">&-", "<&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_obstacle(tmp_path: Path, closed: str) -> None:
    code, said = roost(tmp_path, "settings", "show", closed=closed)
    assert code == 0 and "Traceback" not in said
    code, said = roost(tmp_path, "submit", "-", closed=closed)
    assert code == 2 and "Traceback" not in said


def test_letters_that_the_terminal_lacks_are_spelled_out(tmp_path: Path) -> None:
    code, said = roost(tmp_path, "submit", "--help", PYTHONIOENCODING="latin-1")
    assert code == 0 and r"COMMAND\u2026" in said


def test_bytes_that_are_no_text_are_refused_in_a_sentence(tmp_path: Path) -> None:
    for arguments in (["groups", "create", b"b\xff"], ["jobs", "--server", b"b\xff"]):
        code, said = roost(tmp_path, *arguments, PYTHONUTF8="1")
        assert code == 2
        assert said.startswith("roost: ") and said.count("\n") == 1
        assert "is not text in UTF-8" in said

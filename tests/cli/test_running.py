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


@pytest.mark.parametrize("url", ["farm", "farm:5000", "http://", "http://farm:99999", "ftp://farm"])
def test_neither_agent_nor_command_looks_for_what_is_no_address(tmp_path: Path, url: str) -> None:
    agent = ["agent", "--allow-root", "--port", "0", "--data", str(tmp_path / "agent")]
    for arguments in (agent, ["jobs"]):
        code, said = roost(tmp_path, *arguments, ROOST_SERVER=url)
        assert code == 2
        assert (
            said == f"roost: {url!r} is no address of a server: write it like http://farm:5000.\n"
        )


@pytest.mark.parametrize("command", ["server", "agent"])
def test_a_folder_that_cannot_be_is_named_with_what_to_do(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "below"
    code, said = roost(
        tmp_path, command, "--port", "0", "--data", str(folder), ROOST_ALLOW_ROOT="1"
    )
    assert code == 2
    assert said.startswith(
        f"roost: The {command} cannot work in {folder}: Not a directory. Give it"
    )


def test_the_doctor_says_of_a_folder_what_is_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, said = roost(tmp_path, "doctor", "--data", str(tmp_path / "file" / "below"))
    assert code == 1
    assert f"fail  data folder: Nothing can be written into {tmp_path / 'file'}" in said


def test_letters_that_the_terminal_lacks_are_spelled_out(tmp_path: Path) -> None:
    code, said = roost(tmp_path, "submit", "--help", PYTHONIOENCODING="latin-1")
    assert code == 0 and r"COMMAND\u2026" in said


def test_bytes_that_are_no_text_are_refused_in_a_sentence(tmp_path: Path) -> None:
    for arguments in (["groups", "create", b"b\xff"], ["jobs", "--server", b"b\xff"]):
        code, said = roost(tmp_path, *arguments, PYTHONUTF8="1")
        assert code == 2
        assert said.startswith("roost: ") and said.count("\n") == 1
        assert "is not text in UTF-8" in said

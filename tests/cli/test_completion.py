"""Tab: what is offered for a word that is being typed, and that it never disturbs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete, get_completion_class
from msgspec.structs import replace

from roost.cli import cli
from roost.core.actions import ACTIONS


def offered(line: str) -> list[str]:
    """For the last word of a command line, which a space before it begins."""
    *words, begun = line.split(" ")
    completer = ShellComplete(cli, {}, "roost", "_ROOST_COMPLETE")
    return [item.value for item in completer.get_completions(words, begun)]


@pytest.mark.parametrize(
    "command",
    [
        "job",
        "output",
        "cancel",
        "wait",
        "attribute",
        "event-log",
        "permit",
        "priority 3",
        "jobs --parent",
        "submit --parent",
        "notes --job",
        "reschedule",
    ],
)
def test_ids_of_jobs_are_offered(farm: Any, known: Any, command: str) -> None:
    farm.known = {21: known(21), 3: known(3)}
    assert offered(f"{command} ") == ["21", "3"]
    assert offered(f"{command} 2") == ["21"]


def test_an_action_is_offered_jobs_that_it_applies_to(farm: Any) -> None:
    offered("resume ")
    assert set(farm.listed["statuses"]) == ACTIONS["resume"].applies
    assert farm.listed["roots_only"]


def test_jobs_below_others_are_offered_once_a_digit_is_there(farm: Any) -> None:
    offered("job 1")
    assert not farm.listed["roots_only"]


@pytest.mark.parametrize(
    "command",
    [
        "nodes show",
        "nodes drain",
        "nodes rules",
        "history",
        "permit 3",
        "groups add a",
        "groups create a",
        "notes --node",
        "errors --node",
    ],
)
def test_names_of_machines_are_offered(farm: Any, command: str) -> None:
    farm.machines[2] = replace(farm.machines[1], id=2, label="big")
    assert offered(f"{command} ") == ["tiny:a", "big"]


def test_what_is_there_already_is_not_offered_again(farm: Any) -> None:
    assert offered("nodes drain tiny:a ") == []


@pytest.mark.parametrize("line", ["groups delete ", "groups add ", "nodes drain --group "])
def test_names_of_groups_are_offered(farm: Any, line: str) -> None:
    assert offered(line) == ["fast"]


def test_names_of_resources_are_offered(farm: Any) -> None:
    assert offered("resources set ") == ["nuke", "houdini"]


def test_the_farm_is_the_one_that_the_command_line_names(farm: Any, tmp_path: Path) -> None:
    offered("nodes --server http://b:1 show ")
    assert farm.url == "http://b:1"
    file = tmp_path / "roost.toml"
    file.write_text('server = "http://c:1"\n')
    offered(f"--config {file} nodes show ")
    assert farm.url == "http://c:1"


def test_a_name_with_spaces_is_one_word_for_bash(
    farm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.machines[1] = replace(farm.machines[1], label="a b")
    monkeypatch.setenv("COMP_WORDS", "roost nodes show ")
    monkeypatch.setenv("COMP_CWORD", "3")
    kind = get_completion_class("bash")
    assert kind is not None
    assert kind(cli, {}, "roost", "_ROOST_COMPLETE").complete() == "plain,'a b'"


def test_nothing_is_offered_and_nothing_said_when_no_server_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for server in (f"http://127.0.0.1:{port}", "http://127.0.0.1:1", "no address"):
            variables = {
                "XDG_CONFIG_HOME": str(tmp_path),
                "PATH": os.environ["PATH"],
                "ROOST_SERVER": server,
                "_ROOST_COMPLETE": "bash_complete",
                "COMP_WORDS": "roost nodes drain ",
                "COMP_CWORD": "3",
            }
            words = [sys.executable, "-c", "from roost.cli import main; main()"]
            ended = subprocess.run(words, env=variables, capture_output=True, timeout=30)
            assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"\n", b"")

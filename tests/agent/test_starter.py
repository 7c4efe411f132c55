"""Command lines, by platform and by what the order asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from roost.agent.starter import Starter
from roost.core.messages import AttemptOrder


def argv(folder: Path, platform: str, shell: str = "") -> list[str]:
    starter = Starter(server="http://farm:5000", platform=platform, folder=folder)
    order = AttemptOrder(1, 1, "job", command="render 1", environment={"PATH": ""}, shell=shell)
    return starter.argv(order, "command")


@pytest.mark.parametrize(
    ("platform", "shell", "expected"),
    [
        ("linux-x86_64", "", ["/bin/sh", "-c", "render 1"]),
        ("macosx-arm64", "", ["/bin/sh", "-c", "render 1"]),
        ("windows-x86_64", "", ["cmd", "/c", "render 1"]),
        ("linux-x86_64", "/usr/bin/tcsh", ["/usr/bin/tcsh", "-c", "render 1"]),
        ("windows-x86_64", "bash", ["bash", "-c", "render 1"]),
    ],
)
def test_a_command_is_given_to_the_shell_of_the_order_or_of_the_platform(
    tmp_path: Path, platform: str, shell: str, expected: list[str]
) -> None:
    assert argv(tmp_path, platform, shell) == expected


def test_a_shell_is_looked_for_again_when_it_is_gone(tmp_path: Path) -> None:
    starter = Starter(server="http://farm:5000", platform="linux-x86_64", folder=tmp_path)
    path = f"{tmp_path}/first:{tmp_path}/second"
    order = AttemptOrder(1, 1, "job", "x", environment={"PATH": path}, shell="myshell")
    assert starter.argv(order, "command")[0] == "myshell"
    shells = [tmp_path / folder / "myshell" for folder in ("first", "second")]
    for shell in shells:
        shell.parent.mkdir()
        shell.touch(0o755)
    assert starter.argv(order, "command")[0] == str(shells[0])
    shells[0].unlink()
    assert starter.argv(order, "command")[0] == str(shells[1])

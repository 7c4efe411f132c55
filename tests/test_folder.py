"""The folder that a server or an agent works in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from roost.errors import Conflict, Invalid
from roost.folder import lock_folder


def rights(folder: Path) -> int:
    return folder.stat().st_mode & 0o777


def test_a_folder_that_is_made_is_its_owner_s_alone(tmp_path: Path) -> None:
    folder = tmp_path / "farm" / "agent"
    os.close(lock_folder(folder, "agent"))
    assert rights(folder) == 0o700
    assert rights(folder.parent) == 0o700


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "farm").mkdir()
    (tmp_path / "farm").chmod(0o755)
    os.close(lock_folder(tmp_path / "farm" / "agent", "agent"))
    os.close(lock_folder(tmp_path / "farm", "server"))
    assert rights(tmp_path / "farm") == 0o755


def test_a_folder_can_be_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "farm").symlink_to(tmp_path / "disk")
    os.close(lock_folder(tmp_path / "farm", "server"))
    assert (tmp_path / "disk" / "server.lock").exists()


@pytest.mark.parametrize("name", ["file", "file/farm", "nowhere", "nowhere/farm"])
def test_what_is_no_folder_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    with pytest.raises(Invalid, match=name):
        lock_folder(tmp_path / name, "server")


def test_a_folder_has_one_server(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path, "server")
    with pytest.raises(Conflict, match=f"process {os.getpid()}"):
        lock_folder(tmp_path, "server")
    os.close(lock)
    os.close(lock_folder(tmp_path, "server"))

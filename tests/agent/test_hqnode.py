"""The files that an agent keeps in its folder as HQueue did."""

import errno
from pathlib import Path

import pytest

from roost.agent import hqnode
from roost.agent.hqnode import Folder

FULL = "/dev/full"
"""What is written there finds no room."""


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_full_disk_leaves_no_pid_file_and_no_lock(tmp_path):
    folder = Folder(tmp_path)
    (tmp_path / "hqnode.log").symlink_to(FULL)
    folder.log("Running job 1")
    folder.flush_log()
    folder.log("Stopped")
    folder.close()
    assert not (tmp_path / "hqnode.pid").exists()
    Folder(tmp_path).close()


def test_the_log_goes_on_when_there_is_room_again(tmp_path, monkeypatch):
    monkeypatch.setattr(hqnode, "LOG_BYTES_MAX", 10)
    folder = Folder(tmp_path)
    (tmp_path / "hqnode.log").symlink_to(FULL)
    folder.log("nobody reads this")
    folder.flush_log()
    (tmp_path / "hqnode.log").unlink()
    folder.log("but this")
    folder.close()
    assert "but this" in (tmp_path / "hqnode.log.1").read_text()


@pytest.mark.parametrize("name", ["hqnode.pid", "hqnode.port", "installation.fresh"])
def test_a_full_disk_is_told_with_the_file_that_found_no_room(tmp_path, name):
    (tmp_path / name).symlink_to(FULL)
    before = open_files()
    with pytest.raises(OSError) as told:
        folder = Folder(tmp_path)
        try:
            folder.write_port(5001)
            folder.installation()
        finally:
            folder.close()
    assert told.value.errno == errno.ENOSPC
    assert told.value.filename == str(tmp_path / name)
    assert open_files() == before

"""One process per data folder: a lock that ends with the process, however it ends.

The lock file holds the owner's process id, for the sentence that refuses a second one. A file
left over from a process that is gone is no obstacle. A folder that is made here is for its owner
alone, as XDG's base directories are, since jobs' environments and output may hold secrets.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from roost.errors import Conflict, Invalid


def lock_folder(folder: Path, name: str) -> int:
    """Make the folder and take it for the role `name` (such as `server`).

    Returns the descriptor that holds the lock. Raises `Conflict` naming the pid of the process
    that has it, and `Invalid` when the folder cannot be made or written.
    """
    try:
        _make(folder)
        descriptor = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Invalid(
            f"The {name} cannot work in {folder}: {error.strerror}. "
            "Give it a folder that it may write, or choose another with --data."
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 32).decode().strip() or "unknown"
        os.close(descriptor)
        raise Conflict(
            f"Another {name}, process {owner}, works in {folder}: "
            "stop it first, or give this one a data folder of its own with --data."
        ) from None
    with contextlib.suppress(OSError):  # the lock holds on a full disk too
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _make(folder: Path) -> None:
    """If it is not there, with all that is missing above it. Raises `OSError`."""
    try:
        folder.mkdir(0o700)
    except FileNotFoundError:
        _make(folder.parent)
        folder.mkdir(0o700, exist_ok=True)
    except FileExistsError:
        if not folder.is_dir():
            raise

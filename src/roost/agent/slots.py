"""The slots of an agent: places for the output and the scratch folder of an attempt, used again.

Making and removing a file and a folder for every attempt costs more than running a short command.
So an attempt gets a numbered slot (see `plan`), and leaves it as it found it: an empty output file,
a scratch folder with nothing but a contact file whose cookie is good no more. What an attempt has
not left clean, what a process of it may still have open, and what takes long to empty is removed
and made anew.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from collections.abc import Iterable
from pathlib import Path

TRUNCATE_BYTES_MAX = 4 * 1024 * 1024
"""A file that is larger is removed: to free a gigabyte takes 0.1 s, and nobody waits for that."""


class Slots:
    def __init__(self, folder: Path) -> None:
        """Makes `output` and `scratch` in the agent's folder. Raises `OSError`."""
        self.outputs = folder / "output"
        """Where the output files are, and nothing else."""
        self.scratch = folder / "scratch"
        self.outputs.mkdir(parents=True, exist_ok=True)
        self.scratch.mkdir(mode=0o700, exist_ok=True)

    def output(self, slot: int) -> str:
        """Path of the file that the attempt in this slot writes to; it may not exist yet."""
        return f"{self.outputs}{os.sep}{slot}"

    def folder(self, slot: int) -> str:
        """Path of its scratch folder; it may not exist yet."""
        return f"{self.scratch}{os.sep}{slot}"

    def spare_outputs(self, in_use: Iterable[int]) -> list[str]:
        """Paths of all output files but those of these slots. Raises `OSError`."""
        kept = {str(slot) for slot in in_use}
        names = os.listdir(self.outputs)  # noqa: PTH208  (names are wanted, not paths)
        return [f"{self.outputs}{os.sep}{name}" for name in names if name not in kept]


def clear_output(path: str) -> None:
    """Leave an empty file that nobody else has open, or none. A file with another name is the log
    of a job by now. Raises `OSError` when what is in it stays."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError:  # such as for want of descriptors
        os.unlink(path)  # noqa: PTH108
        return
    close = os.close
    try:
        # The kernel grants this lease only while nobody else has the file open.
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        found = os.fstat(file)
        if found.st_nlink > 1:
            os.unlink(path)  # noqa: PTH108  (once per job)
        elif found.st_size > TRUNCATE_BYTES_MAX:
            os.unlink(path)  # noqa: PTH108
            close = _free
        elif found.st_size:
            os.ftruncate(file, 0)
    except OSError:
        os.unlink(path)  # noqa: PTH108  (once per job)
    finally:
        close(file)


def _free(fd: int) -> None:
    """Close the last descriptor of a removed file, which gives its blocks and pages back."""
    try:
        threading.Thread(target=os.close, args=(fd,), name="free").start()
    except RuntimeError:  # an account has only so many threads
        os.close(fd)


def changed_at(folder: str) -> int:
    """When a name in it was last made or removed, in nanoseconds; 0 if it cannot be told. Only the
    kernel sets it, in steps of some milliseconds."""
    try:
        return os.stat(folder).st_ctime_ns  # noqa: PTH116  (once per job)
    except OSError:
        return 0


def holds_only(folder: str, name: str, size: int) -> bool:
    """Whether all there is in a folder is one plain file of this name and size, with no other
    name."""
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return False
    return names == [name] and is_plain(f"{folder}{os.sep}{name}", size)


def is_plain(path: str, size: int) -> bool:
    """Whether it is a plain file of this size, with no other name."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_size == size

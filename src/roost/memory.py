"""What the C library does with memory that was freed: keep some, for the next piece of data.

By default glibc gives the top of the heap back to the system whenever 128 KiB of it are free. A
program that moves data in pieces larger than that gets, clears and gives back its pages for every
one of them, which costs several times as much as the copying.
"""

from __future__ import annotations

import contextlib
import ctypes

KEPT_BYTES_MAX = 32 * 1024 * 1024
"""So much freed memory stays with the process."""
PIECE_BYTES_MAX = 8 * 1024 * 1024
"""Larger pieces are given back at once."""
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed() -> None:
    """Have this process keep freed memory from now on. Without effect where it is not on glibc."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES_MAX)
        mallopt(_M_MMAP_THRESHOLD, PIECE_BYTES_MAX)

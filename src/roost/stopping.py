"""When a program that serves is told to stop: by signals, or as whoever started it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping


@contextlib.contextmanager
def on_signals(calls: Mapping[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    """Each call is made, on the running loop, when its signal comes."""
    loop = asyncio.get_running_loop()
    installed = []
    for number, call in calls.items():
        # Outside the main thread there is no such thing, and whoever runs us there stops us.
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
            loop.add_signal_handler(number, call)
            installed.append(number)
    try:
        yield
    finally:
        for number in installed:
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def on_end_of_stdin(call: Callable[[], None]) -> Iterator[None]:
    """`call` is made, on the running loop, when a pipe or terminal has no more to be read. A file
    or /dev/null cannot be waited on, and never ends in this sense."""
    loop = asyncio.get_running_loop()
    stdin = 0

    def read() -> None:
        if not os.read(stdin, 4096):
            loop.remove_reader(stdin)
            call()

    with contextlib.suppress(OSError):
        loop.add_reader(stdin, read)
    try:
        yield
    finally:
        loop.remove_reader(stdin)

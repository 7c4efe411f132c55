"""When a program that serves is told to stop, on either event loop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from roost import stopping

uvloop = pytest.importorskip("uvloop")


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


@pytest.fixture
def stdin_of() -> Iterator[Callable[[int], None]]:
    """Gives this process another standard input."""
    before = os.dup(0)

    def become(file: int) -> None:
        os.dup2(file, 0)
        os.close(file)

    yield become
    os.dup2(before, 0)
    os.close(before)


def test_the_end_of_a_pipe_is_told(runner: asyncio.Runner, stdin_of: Callable[[int], None]) -> None:
    reader, writer = os.pipe()
    stdin_of(reader)

    async def main() -> None:
        told = asyncio.Event()
        with stopping.on_end_of_stdin(told.set):
            os.write(writer, b"not the end")
            os.close(writer)
            await told.wait()

    runner.run(main())


def test_a_device_that_cannot_be_waited_on_never_ends(
    runner: asyncio.Runner, stdin_of: Callable[[int], None]
) -> None:
    stdin_of(os.open(os.devnull, os.O_RDONLY))

    async def main() -> None:
        told = asyncio.Event()
        with stopping.on_end_of_stdin(told.set):
            await asyncio.sleep(0)
        assert not told.is_set()

    runner.run(main())


def test_a_signal_is_told_while_it_is_waited_for(runner: asyncio.Runner) -> None:
    async def main() -> None:
        told = asyncio.Event()
        with stopping.on_signals({signal.SIGHUP: told.set}):
            os.kill(os.getpid(), signal.SIGHUP)
            await told.wait()

    runner.run(main())
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL

"""A Redis of our own: on a socket in a folder, as its package sets it up, without a port."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Gives the path of its socket."""
    socket = folder / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--dir", str(folder)]
    server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            if server.poll() is not None:
                raise RuntimeError("redis-server did not start")
            time.sleep(0.02)
        yield str(socket)
    finally:
        server.terminate()
        server.wait()

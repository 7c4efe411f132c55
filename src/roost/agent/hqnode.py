"""The node as HQueue knew it: port 5001 with `wakeup` and `terminate`, and its three files.

`hqnode.pid`, `hqnode.port` and `hqnode.log` lie in the data folder because scripts around farms
read them, and some write the port beforehand. The log's phrases about jobs are parsed by
others and do not change. Whether the folder is in use is told by a lock, so a stale pid file does
no harm, and one that a container start removes is not missed.

Translates; what the two calls do is decided in `daemon`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from roost.body import whole_body
from roost.core.jobspec import show
from roost.errors import Conflict, ProtocolError, TooLarge
from roost.folder import lock_folder
from roost.sameorigin import SameOrigin
from roost.wire import xmlrpc

DEFAULT_PORT = 5001
BODY_BYTES_MAX = 64 * 1024
LOG_BYTES_MAX = 10 * 1024 * 1024
PATHS = ("/", "/RPC2", "/xmlrpc")


class Folder:
    """An agent's data folder, locked for as long as this object is open."""

    def __init__(self, path: Path) -> None:
        """Raises `Conflict` when another agent has it, `OSError` when it cannot be made."""
        self.path = path.absolute()
        self._lock = lock_folder(self.path, "agent")
        self._lines: list[str] = []
        try:
            self._write("hqnode.pid", f"{os.getpid()}\n")
        except OSError:
            os.close(self._lock)
            raise

    def close(self) -> None:
        self.flush_log()
        with contextlib.suppress(OSError):  # such as on a file system that is now read-only
            (self.path / "hqnode.pid").unlink()
        os.close(self._lock)

    def installation(self) -> str:
        """Made once per folder: who we are, whatever our host is called."""
        file = self.path / "installation"
        with contextlib.suppress(FileNotFoundError):
            if name := file.read_text().strip():
                return name
        fresh = file.with_suffix(".fresh")
        self._write(fresh.name, f"{uuid.uuid4().hex}\n")
        fresh.replace(file)
        return file.read_text().strip()

    def wanted_port(self) -> int:
        """What the port file asks for, else HQueue's own."""
        with contextlib.suppress(OSError, ValueError):
            port = int((self.path / "hqnode.port").read_text())
            if 0 < port < 65536:
                return port
        return DEFAULT_PORT

    def write_port(self, port: int) -> None:
        self._write("hqnode.port", f"{port}\n")

    def _write(self, name: str, text: str) -> None:
        """Raises `OSError` that names the file; of itself, a full disk does not say what it is."""
        path = self.path / name
        try:
            path.write_text(text)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error

    def log(self, text: str) -> None:
        """One line with the time; on disk after `flush_log`."""
        self._lines.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def flush_log(self) -> None:
        if not self._lines:
            return
        text = "".join(self._lines)
        self._lines.clear()
        path = self.path / "hqnode.log"
        with contextlib.suppress(OSError):  # a full disk does not end jobs
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(file, text.encode())
                is_long = os.fstat(file).st_size > LOG_BYTES_MAX
            finally:
                os.close(file)
            if is_long:
                path.replace(self.path / "hqnode.log.1")


def listen(host: str, port: int) -> socket.socket:
    """Port 0 means a free one. Raises `Conflict` when the port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise Conflict(
            f"The agent cannot listen on {host} port {port} ({reason}): give it another port, "
            "with --port, or --agent-port of roost up."
        ) from error
    return listener


def application(calls: dict[str, Callable[[], None]], host: str) -> ASGIApp:
    """An XML-RPC server, at `host`, of methods that take nothing and answer None."""

    async def answer(request: Request) -> Response:
        if not xmlrpc.is_content_type(request.headers.get("content-type", "")):
            return Response("An XML-RPC call is text/xml.\n", 415)
        try:
            body = await whole_body(request, BODY_BYTES_MAX)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is left to read it
        except TooLarge as error:
            return Response(f"{error}\n", 413)
        return Response(_call(calls, body), media_type="text/xml")

    app = Starlette(routes=[Route(path, answer, methods=["POST"]) for path in PATHS])
    return SameOrigin(app, host, setting="agent_host")


def _call(calls: dict[str, Callable[[], None]], body: bytes) -> bytes:
    try:
        method = xmlrpc.decode_call(body).method
    except ProtocolError as error:
        return xmlrpc.encode_fault(xmlrpc.Fault(400, str(error)))
    call = calls.get(method)
    if call is None:
        return xmlrpc.encode_fault(
            xmlrpc.Fault(
                0, f"There is no method {show(method)} on a node; it has {' and '.join(calls)}."
            )
        )
    call()
    return xmlrpc.encode_answer(None)


class Server:
    """Serves these calls on a socket between `start` and `close`.

    Uses uvicorn's own steps without its main loop, which would take the process's signals and
    wake an idle agent ten times a second.
    """

    def __init__(self, calls: dict[str, Callable[[], None]], host: str) -> None:
        self._config = uvicorn.Config(
            application(calls, host),
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(self._config)

    async def start(self, listener: socket.socket) -> None:
        self._config.load()
        self._server.lifespan = self._config.lifespan_class(self._config)
        await self._server.startup(sockets=[listener])

    async def close(self) -> None:
        await self._server.shutdown()

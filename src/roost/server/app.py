"""The composition root of the server: puts the parts together, starts and stops them in order.

HTTP is uvicorn's, but for plain calls of HQueue's API (see `connection`) and for the connections of
agents: links and data channels leave it with their first request.

Start: lock the folder, migrate and load the record, then listen. Stop: listen no more, drain and
save the inbox, close the sessions, close the store; two seconds at the most, with open clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from roost import package, stopping, timezone
from roost.api import routes as api
from roost.core.attributes import ChirpRules
from roost.core.messages import Changes
from roost.core.notices import HookRules, NoticeRules
from roost.core.records import JobId
from roost.core.state import Rules
from roost.errors import Conflict, Invalid
from roost.folder import lock_folder
from roost.hqueue import dispatch as hqueue
from roost.hqueue.folders import hq_root
from roost.server.access import Access, Upgrades
from roost.server.agents import Agents
from roost.server.chirp import Desk, SubmitFolders
from roost.server.connection import Connection, connection_class
from roost.server.engine import Engine
from roost.server.expiry import Expiry
from roost.server.local import LocalSocket
from roost.server.postman import Postman
from roost.server.removal import Removal
from roost.server.sameorigin import SameOrigin
from roost.server.websocket import websocket_class
from roost.settings import ServerOptions, ServerReady
from roost.store import queries
from roost.store.database import Database
from roost.store.output import OutputStore
from roost.web import pages
from roost.web.site import Look, Site
from roost.websocket import WebSocket
from roost.wire import link

STOP_SECONDS_MAX = 1
TURN_S = 0.001
"""How long a thread keeps the interpreter that another one wants: while a large call is read in a
thread, small ones have several turns each."""
COLLECT_AFTER = 10_000
"""So many more objects than before make Python look for cycles among them. What stays for each
connected agent is looked through too, so that must be rare."""
OUTPUT_FOLDER = "output"
JOBS_FOLDER = "jobs"
"""Submit folders of root jobs that name none."""
DATABASE_FILE = "roost.db"
SOCKET_FILE = "channel.sock"
"""For data channels of agents on this machine; see `local`."""

log = structlog.get_logger(__name__)


async def run_server(options: ServerOptions, on_ready: Callable[[ServerReady], None]) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    Raises `Conflict` when the folder or the port is taken, `StoreFailure` when the record cannot
    be read, `Invalid` for a host, a database URL or a time zone that cannot be used.
    """
    sys.setswitchinterval(TURN_S)
    gc.set_threshold(COLLECT_AFTER)
    lock = lock_folder(options.data, "server")
    try:
        return await _serve(options, on_ready)
    finally:
        os.close(lock)


async def _serve(options: ServerOptions, on_ready: Callable[[ServerReady], None]) -> int:
    rules = _rules(options)
    listener = _listen(options.host, options.port)
    database = Database(
        options.database_url or f"sqlite:///{options.data / DATABASE_FILE}",
        complain=lambda text: access.note_error(text),
    )
    output = OutputStore(options.data / OUTPUT_FOLDER)
    local = LocalSocket(options.data.resolve() / SOCKET_FILE)
    try:
        bytes_max = options.chirp_folder_bytes_max
        folders = SubmitFolders(Path(rules.submit_folder), options.submit_roots, bytes_max)
        desk = Desk(lambda: engine, folders)
        removal = Removal(output)

        def delete_output(jobs: Sequence[JobId]) -> None:
            removal.add(jobs)
            for job in jobs:
                desk.forget(job)

        agents = Agents(
            lambda: engine,
            output,
            options.heartbeat_ms,
            lambda job: access.job_changed(job),
            delete_output,
            desk,
            local.path,
            lambda system: hq_root(options.config.get, system, is_client=True),
        )
        engine = Engine(database, rules, agents.act, lambda changes: saved(changes), agents.cut_off)
        access = Access(
            engine,
            database,
            output,
            options.config,
            Upgrades(options.upgrades, options.upgrade_priority),
        )
        postman = Postman(
            options.mail,
            options.webhooks,
            options.public_url or _url_of(options.host, listener),
            lambda done: engine.tell(done),
            access.note_error,
        )

        def saved(changes: Changes) -> None:
            access.publish(changes)
            postman.take(changes.notices)

        if await database.migrate():
            _set_aside(options.data, (OUTPUT_FOLDER, JOBS_FOLDER))
        await engine.load()
        database.lengthen_log()
        postman.take(await database.read(queries.notices))
        site = Site(access, Look(options.farm_name, options.farm_colour, options.shown))
        routes = [*_routes(), *pages.routes(site), *api.routes(access)]
        others = Starlette(routes=routes, exception_handlers={404: site.nothing_here})
        app = hqueue.Endpoint(access, others, options.body_bytes_max)
        guarded = SameOrigin(app, options.host, options.public_url)
        http = connection_class(agents.open_channel, app.respond, options.body_bytes_max)
        links = websocket_class(link.PATH, link.FRAME_BYTES_MAX, agents.open_session)
        server = _Server(_configuration(guarded, http, links))
        running = asyncio.ensure_future(engine.run())
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        running.add_done_callback(lambda _: server.stop())
        await local.serve(agents.open_channel)
        expiry = Expiry(engine, database, options.expire_after_ms)
        parts = (removal.run, expiry.run, access.statistics.run)
        tidying = asyncio.gather(*map(_logged, parts))
        with contextlib.ExitStack() as stack:
            stops = dict.fromkeys((signal.SIGTERM, signal.SIGINT), server.stop)
            stack.enter_context(stopping.on_signals(stops))
            if options.exit_with_stdin:
                stack.enter_context(stopping.on_end_of_stdin(server.stop))
            await server.listening(serving)
            on_ready(ServerReady(_url_of(options.host, listener), os.getpid()))
            await server.stopping.wait()
            tidying.cancel()
            await asyncio.gather(tidying, return_exceptions=True)
            access.stop_following()
            engine.stop()
            await running
            await postman.close()
            agents.cut_off()
            await serving
            desk.close()
        return 0
    finally:
        listener.close()
        local.close()
        output.close()
        await database.close()


def _set_aside(data: Path, folders: Sequence[str]) -> None:
    """A new record numbers its jobs from 1 again, and files of an earlier one are not theirs."""
    found = [folder for folder in folders if (data / folder).is_dir()]
    if found:
        aside = data / time.strftime("before-new-record-%Y%m%d-%H%M%S")
        aside.mkdir()
        for folder in found:
            (data / folder).rename(aside / folder)
        log.warning("the record is new, files of an earlier one were moved", to=str(aside))


def _routes() -> list[BaseRoute]:
    async def own_package(request: Request) -> Response:
        return Response(await asyncio.to_thread(package.archive), media_type="application/zip")

    return [Route(package.PATH, own_package, methods=["GET"])]


def _configuration(app: ASGIApp, http: type[Connection], links: type[WebSocket]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=http,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws=links,
        timeout_graceful_shutdown=STOP_SECONDS_MAX,
        server_header=False,
    )


def _rules(options: ServerOptions) -> Rules:
    """Raises `Invalid`."""
    return Rules(
        options.active_timeout_ms,
        options.requeue_after_gone_ms,
        options.max_failures_per_client,
        timezone.find(options.time_zone),
        ChirpRules(*msgspec.structs.astuple(options.chirp)),
        notices=NoticeRules(
            bool(options.mail.host),
            tuple(HookRules(h.url, h.events, h.every_job) for h in options.webhooks),
        ),
        expire_after_ms=options.expire_after_ms,
        submit_folder=str(options.data.resolve() / JOBS_FOLDER),
        submit_roots=tuple(map(str, options.submit_roots)),
    )


class _Server(uvicorn.Server):
    """A uvicorn that is stopped by us: signals are ours, since the engine stops first."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()
        self._listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening.set()

    async def listening(self, serving: asyncio.Future[Any]) -> None:
        """Returns when connections are accepted; raises what kept it from that."""
        waiting: asyncio.Future[Any] = asyncio.ensure_future(self._listening.wait())
        await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if serving.done():
            serving.result()

    def stop(self) -> None:
        self.should_exit = True
        self.stopping.set()


async def _logged(part: Callable[[], Any]) -> None:
    """Of what ends a part of the server that nobody waits for, the log has to tell."""
    try:
        await part()
    except Exception:
        log.exception("a part of the server has ended")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=2048)
        # Inherited by every connection. asyncio's own loop sets it only where the socket names its
        # protocol; without it, an answer on a kept connection waits 40 ms for the peer's ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except socket.gaierror as error:
        reason = error.strerror
        raise Invalid(f"The host {host!r} is not an address of this machine: {reason}.") from None
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        if error.errno == errno.EADDRNOTAVAIL:
            raise Invalid(
                f"The host {host!r} is not an address of this machine: {reason}."
            ) from None
        raise Conflict(
            f"Port {port} on {host} cannot be used: {reason}. "
            "Stop what listens there, or choose another with --port (0 picks a free one)."
        ) from None


def _url_of(asked: str, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{_url_host(asked, host)}:{port}"


def _url_host(asked: str, bound: str) -> str:
    """The name to reach us by: what was asked for, unless that means every address."""
    if bound in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{bound}]" if ":" in bound else asked

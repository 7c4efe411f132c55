"""Keeps what other sites' pages do in somebody's browser away from the farm and from its nodes.

Without a login, whoever reaches a port is trusted. A browser reaches it for every page that it
shows, so what a browser sends is looked at: whatever changes something must come from a page of
ours, and the name by which we are asked must be one that strangers cannot have. A page of
evil.example whose name begins to mean 127.0.0.1 (DNS rebinding) is of the same origin as a server
that would listen to any name.

Programs are left alone: they send neither an origin nor the language that their reader prefers,
both of which a page can set to something else, but cannot leave out. (Node's `fetch` sends a
language, and of what browsers say of a page's request only the mode, never where it is from.)
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

BROWSERS_FIELDS = frozenset({b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"accept-language"})
NODES_FIELDS = frozenset({b"sec-fetch-mode", b"accept-language"})
READING = frozenset({"GET", "HEAD", "OPTIONS"})
PRIVATE_SUFFIXES = (".localhost", ".local", ".lan", ".home", ".corp", ".internal", ".intranet",
                    ".private", ".home.arpa")  # fmt: skip
"""What names end with that nobody can register."""
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
"""Browsers leave them out."""
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]/@\s]+)(:\d*)?")


class SameOrigin:
    """An application before which another one's pages stand still. The server is known by the name
    in `public_url`, and by `name`, besides its addresses and the machine's own name. Its pages come
    from there also where a proxy before it changes by which name it is asked. `setting` is where
    people give it another name."""

    def __init__(
        self, app: ASGIApp, name: str = "", public_url: str = "", setting: str = "public_url"
    ) -> None:
        self._app = app
        self._setting = setting
        public = urlsplit(public_url.casefold())
        self._names = {name.casefold(), public.hostname}
        host = public.netloc.removesuffix(DEFAULT_PORTS.get(public.scheme, ""))
        self._origin = f"{public.scheme}://{host}"
        self._own_name = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            fields = {name: value for name, value in scope["headers"] if name in BROWSERS_FIELDS}
            is_browser = fields.keys() - NODES_FIELDS or fields.keys() == {b"accept-language"}
            if is_browser and (refusal := await self._refusal(scope, fields)):
                headers = {"x-content-type-options": "nosniff"}
                answer = PlainTextResponse(f"{refusal}\n", 403, headers)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _refusal(self, scope: Scope, fields: dict[bytes, bytes]) -> str:
        given = next((value for name, value in scope["headers"] if name == b"host"), b"")
        host = given.decode("latin-1").casefold()
        found = _HOST.fullmatch(host)
        name = found[1].rstrip(".") if found else ""
        if not (name and await self._is_known(name)):
            return (
                f'This server does not know itself as "{name[:80]}". If that is its name, say so '
                f"in its setting {self._setting}; else use its address."
            )
        if scope["method"] not in READING and not self._is_own(host, fields):
            return "This was sent by a page of another site, which may not act here."
        return ""

    async def _is_known(self, name: str) -> bool:
        """As one of ours. The machine's full name is asked for when it matters, as that may take a
        while."""
        if is_private(name) or name in self._names:
            return True
        if not self._own_name:
            self._own_name = (await asyncio.to_thread(socket.getfqdn)).casefold()
        return name == self._own_name

    def _is_own(self, host: str, fields: dict[bytes, bytes]) -> bool:
        """Browsers say how far away the page is, but by plain HTTP only to the same machine."""
        fetched_from = fields.get(b"sec-fetch-site")
        if fetched_from is not None:
            return fetched_from in (b"same-origin", b"none")
        origin = fields.get(b"origin", b"").decode("latin-1").casefold()
        return not origin or origin == self._origin or origin.partition("://")[2] == host


def is_private(name: str) -> bool:
    """A host by address, or by a name that only those have who own the network."""
    if "." not in name and ":" not in name:
        return bool(name)
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name.endswith(PRIVATE_SUFFIXES)
    return True

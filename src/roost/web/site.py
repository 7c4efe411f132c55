"""What all pages share: the frame around them, how they refuse, and the policy sent with them.

Knows templates, headers and forms. Must not decide anything about the farm: pages ask the gateway
what to show, and every form becomes a command that the JSON API has as well.

Always holds: a page answers a GET and changes nothing; a form answers a POST, which another
site's page cannot send (`sameorigin`), and leads back by a redirect, so that reloading does
not do it again. No page contains a script or a style of its own, and the
policy sent with it forbids any that is not a file of ours.
"""

from __future__ import annotations

import functools
import gzip
import mimetypes
import re
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import jinja2
import msgspec
import structlog
from msgspec import Struct
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.datastructures import ImmutableMultiDict, QueryParams
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from roost import __version__, package
from roost.body import whole_body
from roost.core.jobspec import WHOLE_MAX
from roost.errors import Invalid, NotFound, Refused
from roost.gateway import Gateway, Headline
from roost.web import presenters
from roost.web.fragments import Fragments

FOLDER = Path(__file__).parent
FORM_BYTES_MAX = 4 * 1024 * 1024
SAID = "roost-said"
"""Cookie with the outcome of a form, shown once by the page it leads to."""
SAID_BYTES_MAX = 3_500
"""Browsers drop a cookie of more than 4 KiB."""
REFRESH = "roost-refresh"
"""Header of a request by which a shown page renews itself."""
THEME = "roost-theme"
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-cache",
}
STATIC_S = 365 * 24 * 3600

# A level further costs twice the time and saves a tenth. Streams of events are left as they are.
_COMPRESSED = Middleware(GZipMiddleware, minimum_size=1000, compresslevel=4)

_log = structlog.get_logger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]


class Number(IntegerConvertor):
    """Ids in addresses. Python reads no number of thousands of digits."""

    regex = "[0-9]{1,100}"


register_url_convertor("int", Number())


class Form(ImmutableMultiDict[str, str]):
    """The fields of a posted form."""

    def text(self, name: str) -> str:
        return self.get(name, "").strip()

    def number(self, name: str, default: int | None = None) -> int:
        """Raises `Invalid` naming the field."""
        text = self.text(name)
        if not text and default is not None:
            return default
        return _number(name, text)

    def numbers(self, name: str) -> list[int]:
        """Raises `Invalid` naming the field."""
        return [_number(name, text) for text in self.getlist(name)]

    def query(self, name: str) -> QueryParams:
        """Of an address."""
        return QueryParams(self.text(name).partition("?")[2])


def _number(name: str, text: str) -> int:
    """No larger than what the farm can keep."""
    try:
        number = int(text)
    except ValueError:
        raise Invalid(f"{name}: {text[:40]!r} is not a whole number.") from None
    if abs(number) > WHOLE_MAX:
        raise Invalid(f"{name}: must be a number up to {WHOLE_MAX}.")
    return number


class Said(Struct, frozen=True):
    """What came of a form, for the page that it leads to."""

    text: str = ""
    kind: str = "done"
    """Or `refused`."""
    link: str = ""
    """Where those are that it was not done to."""
    undo: str = ""
    """What `Gateway.undo` takes."""


class Look(Struct, frozen=True):
    """How a farm presents itself, so that test and production are not mistaken."""

    name: str = ""
    colour: str = "blue"
    settings: tuple[tuple[str, str, str], ...] = ()
    """The server's settings, their values, and who said so; without secrets."""


class Site:
    """The frame. Pages are methods of nobody: functions that take the site and a request."""

    def __init__(self, gateway: Gateway, look: Look) -> None:
        self.gateway = gateway
        self.look = look
        self._headline: Headline | None = None
        self._headline_html = ""
        self.assets = f"/static/{package.version()}"
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
        )
        self._templates.globals.update(
            Fragments(self.assets).globals(),
            p=presenters,
            look=look,
            assets=self.assets,
            version=__version__,
            site=package.version(),
            modules_of=modules_of,
        )
        self._templates.policies["json.dumps_kwargs"] = {"sort_keys": False}

    # --- answering ------------------------------------------------------------------------

    async def page(
        self, request: Request, template: str, *, status: int = 200, live: str = "", **shown: Any
    ) -> Response:
        """A whole page in the frame. `live` is the query of the stream that keeps it fresh."""
        said = _said(request)
        response = self.html(
            template,
            status,
            request=request,
            path=request.url.path,
            here=_here(request),
            headline=await self.gateway.headline(),
            now=self.gateway.now(),
            theme=request.cookies.get(THEME, ""),
            live=f"{live or '?'}&seen={request.state.seen}",
            said=said,
            **shown,
        )
        if said.text:
            response.delete_cookie(SAID)
        return response

    async def headline(self) -> str:
        """The counters at the top. Made once for all pages that look."""
        headline = await self.gateway.headline()
        if headline is not self._headline:
            self._headline, self._headline_html = (
                headline,
                self.part("headline.html", headline=headline),
            )
        return self._headline_html

    def part(self, template: str, **shown: Any) -> str:
        """A piece of a page."""
        return self._templates.get_template(template).render(now=self.gateway.now(), **shown)

    def html(self, template: str, status: int = 200, **shown: Any) -> Response:
        shown.setdefault("now", self.gateway.now())
        return HTMLResponse(self._templates.get_template(template).render(**shown), status)

    def back(self, form: Form, default: str, said: str | Said) -> Response:
        """To the page that the form was on, which says what came of it."""
        return self.to(local(form.text("back")) or default, said)

    def to(self, address: str, said: str | Said = "") -> Response:
        response = RedirectResponse(address, 303)
        told = Said(said) if isinstance(said, str) else said
        if told.text:
            value = quote(msgspec.json.encode(told))
            while len(value) > SAID_BYTES_MAX and told.text:
                # The end of a long sentence is its least interesting part.
                text = told.text[: min(len(told.text) * 3 // 4, SAID_BYTES_MAX)]
                told = msgspec.structs.replace(told, text=text)
                value = quote(msgspec.json.encode(told))
            response.set_cookie(SAID, value, max_age=60, httponly=True, samesite="strict")
        return response

    # --- routes ---------------------------------------------------------------------------

    def get(self, path: str, function: Callable[[Site, Request], Awaitable[Response]]) -> Route:
        endpoint = self._guarded(functools.partial(function, self))
        return Route(path, endpoint, methods=["GET"], middleware=[_COMPRESSED])

    def post(
        self, path: str, function: Callable[[Site, Request, Form], Awaitable[Response]]
    ) -> Route:
        async def posted(request: Request) -> Response:
            form = await _form(request)
            try:
                return await function(self, request, form)
            except Refused as error:
                if back := local(form.text("back")):
                    return self.to(back, Said(str(error), "refused"))
                raise

        return Route(path, self._guarded(posted), methods=["POST"], middleware=[_COMPRESSED])

    def static(self) -> Route:
        return Route("/static/{version}/{path:path}", _file, methods=["GET", "HEAD"])

    async def nothing_here(self, request: Request, _: Exception) -> Response:
        """The answer at an address that leads nowhere."""

        async def refuse(request: Request) -> Response:
            raise NotFound(f"There is no page {request.url.path[:200]}.")

        return await self._guarded(refuse)(request)

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            # Before anything is read: what changes from here on is told by the page's stream.
            request.state.seen = self.gateway.revision()
            try:
                response = await endpoint(request)
            except Refused as error:
                response = await self._refusal(request, error.status, str(error))
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception:
                error_id = uuid.uuid4().hex[:12]
                _log.exception("page failed", path=request.url.path, error_id=error_id)
                where = f"failed inside the server; its log tells more under error id {error_id}."
                self.gateway.note_error(f"The page {request.url.path} {where}")
                response = await self._refusal(request, 500, f"This page {where}")
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return answer

    async def _refusal(self, request: Request, status: int, text: str) -> Response:
        try:
            return await self.page(
                request, "error.html", status=status, text=text, title="Not possible"
            )
        except Refused:  # the farm is not even able to tell its numbers
            return self.html("bare.html", status, text=text)


@functools.cache
def modules_of(script: str) -> list[str]:
    """The modules that a script of ours imports, and they in turn: a browser that is told of all at
    once does not have to read one to learn of the next."""
    found: dict[str, None] = {}
    coming = [script]
    while coming:
        text = (FOLDER / "static" / coming.pop()).read_text("utf-8")
        for module in re.findall(r'(?m)^import .*"\./([\w./-]+\.js)";$', text):
            if module not in found:
                found[module] = None
                coming.append(module)
    return list(found)


async def _file(request: Request) -> Response:
    """A file that may be kept for ever: another version of Roost has another address for it."""
    found = _packed(request.path_params["path"])
    if found is None:
        return Response(status_code=404)
    plain, packed, media_type = found
    headers = {
        "cache-control": f"public, max-age={STATIC_S}, immutable",
        "x-content-type-options": "nosniff",
        "vary": "accept-encoding",
    }
    if packed and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(
            packed, headers={**headers, "content-encoding": "gzip"}, media_type=media_type
        )
    return Response(plain, headers=headers, media_type=media_type)


@functools.cache
def _files() -> dict[str, Path]:
    """Whatever is not among these is not served, however it is asked for."""
    folder = FOLDER / "static"
    return {
        file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()
    }


@functools.cache
def _packed(path: str) -> tuple[bytes, bytes, str] | None:
    """A file as it is and compressed, the latter empty where it would not help; and its type."""
    file = _files().get(path)
    if file is None:
        return None
    plain = file.read_bytes()
    packed = b"" if file.suffix == ".woff2" else gzip.compress(plain, 9, mtime=0)
    return plain, packed, mimetypes.guess_type(file.name)[0] or "application/octet-stream"


async def _form(request: Request) -> Form:
    body = await whole_body(request, FORM_BYTES_MAX)
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=50_000)
    except (UnicodeDecodeError, ValueError):
        raise Invalid("The form cannot be read.") from None
    return Form([(name, value) for name, values in fields.items() for value in values])


def _said(request: Request) -> Said:
    """Not for a page that renews itself: it may be another one of the same browser."""
    if REFRESH in request.headers:
        return Said()
    try:
        told = msgspec.json.decode(unquote(request.cookies.get(SAID, "")), type=Said)
    except (msgspec.MsgspecError, UnicodeError):
        return Said()
    return msgspec.structs.replace(told, link=local(told.link))


def _here(request: Request) -> str:
    """The address of this page on this server."""
    return f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path


def id_in_path(request: Request) -> int:
    """The id that an address names. Of one that is too large for any, another that nothing has."""
    return min(int(request.path_params["id"]), WHOLE_MAX)


def local(address: str) -> str:
    """The address if it leads to this server, else nothing: a form must not send people away."""
    is_local = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if is_local and address.isprintable() else ""

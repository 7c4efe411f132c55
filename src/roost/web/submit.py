"""The page for submitting: a form for the usual, and a specification for everything else.

Both end in the parser that scripts use (`core.jobspec`), so that what is possible and what is
refused is the same everywhere. A mistake is shown where it is.
"""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roost import ranges
from roost.core import jobspec
from roost.core.records import JobId
from roost.errors import Invalid, Refused
from roost.frames import Spec, command_spec, frame_spec
from roost.gateway import Part
from roost.web import presenters, views
from roost.web.site import Form, Site

EXCERPT_LINES = 3
EXAMPLE = """{
  "name": "film",
  "command": "echo all frames are there",
  "children": [
    {"name": "frame 1", "command": "echo rendering 1", "cpus": 1},
    {"name": "frame 2", "command": "echo rendering 2", "cpus": 1}
  ]
}"""


def routes(site: Site) -> list[Route]:
    return [
        site.get("/submit", show_form),
        site.post("/submit", submit),
        site.post("/submit/spec", submit_spec),
    ]


class Mistake(Struct, frozen=True):
    """A sentence, and the lines around the place it is about."""

    text: str
    first_line: int = 0
    lines: tuple[str, ...] = ()
    marked: int = -1
    """Which of these lines."""


async def show_form(site: Site, request: Request) -> Response:
    spec = EXAMPLE
    like = views.whole(request.query_params.get("like", ""))
    if like:
        for view in await site.gateway.job_views((JobId(like),), frozenset({Part.SPEC})):
            spec = _pretty(jobspec.unparse(view.job, view.job.spec.conditions))
    return await _page(site, request, spec=spec, as_spec=bool(like))


async def _page(
    site: Site,
    request: Request,
    form: Form = Form(),  # noqa: B008  (immutable)
    spec: str = EXAMPLE,
    mistake: Mistake | None = None,
    as_spec: bool = False,
) -> Response:
    return await site.page(
        request,
        "submit.html",
        title="Submit",
        status=400 if mistake else 200,
        form=form,
        spec=spec,
        mistake=mistake,
        as_spec=as_spec,
        groups=await site.gateway.groups(),
        resources=await site.gateway.resources(),
        condition_names=jobspec.CONDITION_NAMES,
        condition_ops=jobspec.CONDITION_OPS[:-1],
    )


async def submit(site: Site, request: Request, form: Form) -> Response:
    try:
        ids = await _submitted(site, _spec_of(form))
    except Refused as error:
        return await _page(site, request, form, mistake=Mistake(str(error)))
    return _to_the_new(site, ids)


async def submit_spec(site: Site, request: Request, form: Form) -> Response:
    text = form.get("spec", "")
    try:
        ids = await _submitted(site, text)
    except Refused as error:
        mistake = locate(text, str(error))
        return await _page(site, request, form, text, mistake, as_spec=True)
    return _to_the_new(site, ids)


async def _submitted(site: Site, spec: object) -> list[int]:
    return list(cast("list[int]", await site.gateway.ask(jobspec.parse(spec))))


def _to_the_new(site: Site, ids: list[int]) -> Response:
    many = f" with {presenters.count(len(ids) - 1)} below it" if len(ids) > 1 else ""
    return site.to(f"/jobs/{ids[0]}", f"Job {ids[0]} is submitted{many}.")


def _spec_of(form: Form) -> Spec:
    """What the fields say, under HQueue's names. Raises `Invalid`."""
    command = form.get("command", "").replace("\r\n", "\n").strip()
    if not command:
        raise Invalid("A job needs a command.")
    spec: dict[str, Any] = command_spec(command)
    for key in ("name", "description", "submittedBy", "hostgroup", "host", "cwd", "emailTo"):
        if text := form.text(key):
            spec[key] = text
    for key in ("priority", "cpus", "triesLeft", "maxTime"):
        if form.text(key):
            spec[key] = form.number(key)
    if spec.get("emailTo"):
        spec["emailReasons"] = "succeeded,failed,cancelled"
    if form.text("single"):
        spec["tags"] = ["single"]
    if form.text("condition_value"):
        spec["conditions"] = [
            {
                "type": "client",
                "name": form.text("condition_name"),
                "op": form.text("condition_op"),
                "value": form.text("condition_value"),
            }
        ]
    if resources := form.text("resources"):
        spec["resources"] = _amounts(resources)
    if frames := form.text("frames"):
        return frame_spec(spec, ranges.parse(frames))
    return spec


def _amounts(text: str) -> dict[str, int]:
    """`houdini, nuke=2` as names and amounts. Raises `Invalid`."""
    amounts: dict[str, int] = {}
    for piece in text.split(","):
        name, equals, amount = (part.strip() for part in piece.partition("="))
        if not name:
            continue
        if equals and not amount.isdecimal():
            raise Invalid(f"Resources: {piece.strip()!r} is not of the form name=number.")
        amounts[name] = int(amount) if equals else 1
    return amounts


def _pretty(spec: object) -> str:
    return msgspec.json.format(msgspec.json.encode(spec), indent=2).decode()


def locate(text: str, sentence: str) -> Mistake:
    """The mistake with its place: where JSON ends to be JSON, or the key that is named."""
    lines = text.splitlines() or [""]
    try:
        json.loads(text)
        line: int | None = _line_of_key(lines, sentence)
        said = sentence
    except json.JSONDecodeError as error:
        line = error.lineno - 1
        said = f"This is not JSON: {error.msg}, line {error.lineno}, column {error.colno}."
    except (ValueError, RecursionError):
        line, said = None, sentence
    if line is None:
        return Mistake(said)
    first = max(line - EXCERPT_LINES, 0)
    excerpt = tuple(lines[first : line + EXCERPT_LINES + 1])
    return Mistake(said, first + 1, excerpt, line - first)


def _line_of_key(lines: list[str], sentence: str) -> int | None:
    """Refusals begin with the job's name in quotes and the key: `job "film": cpus must be …`."""
    where, _, rest = sentence.partition(": ")
    key = rest.split(" ", 1)[0]
    name = where.split('"')[1] if where.count('"') >= 2 else ""
    start = next((i for i, line in enumerate(lines) if name and f'"{name}"' in line), 0)
    around: list[int] = [*range(start, len(lines)), *range(start - 1, -1, -1)]
    for wanted in (f'"{key}"', f'"{name}"' if name else ""):
        for number in around:
            if wanted and wanted in lines[number]:
                return number
    return None

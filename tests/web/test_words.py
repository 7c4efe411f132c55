"""Words on screen are those of the API and of the docs, and what a button does the API does too."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from roost.api.routes import OPERATIONS
from roost.core import actions
from roost.core.lifecycle import TRANSITIONS
from roost.core.records import JobStatus
from roost.gateway import NODE_STATES
from roost.web import jobs, nodes, pages, presenters
from roost.web.site import Look, Site

World = Any

DOCS = Path(__file__).parents[2] / "docs"
API = "/api/v1"
FORMS = {
    "/jobs/confirm": None,  # asks, and changes nothing
    "/jobs/act": ("POST", "/jobs/cancel"),
    "/jobs/{id:int}/permitted": ("PUT", "/jobs/{id:int}/permitted"),
    "/jobs/{id:int}/warning": ("PUT", "/jobs/{id:int}/blocked-warning"),
    "/jobs/{id:int}/attributes": ("PATCH", "/jobs/{id:int}/attributes"),
    "/jobs/{id:int}/notes": ("POST", "/notes"),
    "/undo": ("POST", "/undo"),
    "/nodes/confirm": None,  # asks, and changes nothing
    "/nodes/act": ("POST", "/nodes/drain"),
    "/nodes/{id:int}/description": ("PUT", "/nodes/{id:int}/description"),
    "/nodes/{id:int}/hours": ("PUT", "/nodes/{id:int}/availability"),
    "/nodes/{id:int}/groups": ("PUT", "/nodes/{id:int}/groups"),
    "/nodes/{id:int}/notes": ("POST", "/notes"),
    "/groups/create": ("POST", "/groups"),
    "/groups/{id:int}": ("PUT", "/groups/{id:int}/nodes"),
    "/resources/set": ("PUT", "/resources/{name:path}"),
    "/resources/remove": ("DELETE", "/resources/{name:path}"),
    "/notes/add": ("POST", "/notes"),
    "/notes/remove": ("DELETE", "/notes/{id:int}"),
    "/submit": ("POST", "/jobs"),
    "/submit/spec": ("POST", "/jobs"),
}
"""Each form, and the operation by which a program does the same."""


class Nobody:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def routes(method: str) -> set[str]:
    served = pages.routes(Site(Nobody(), Look()))  # type: ignore[arg-type]
    return {
        route.path
        for route in served
        if isinstance(route, Route)
        and method in (route.methods or ())
        and not route.path.startswith("/static")
    }


def test_whatever_a_form_does_the_api_does_too() -> None:
    served = {(one.method, one.path) for one in OPERATIONS}
    assert routes("POST") == set(FORMS)
    for form, operation in FORMS.items():
        if operation is not None:
            method, path = operation
            assert (method, API + path) in served, form


def test_every_action_is_called_as_in_the_api() -> None:
    served = {one.path for one in OPERATIONS}
    for button in jobs.buttons():
        assert f"{API}/jobs/{button.name}" in served
        assert button.label == button.name.replace("_", " ").capitalize()
    assert {button.name for button in jobs.buttons()} == {*actions.ACTIONS, "reschedule_failed"}


def test_every_action_on_clients_is_called_as_in_the_api() -> None:
    served = {one.path for one in OPERATIONS}
    for button in nodes.buttons():
        assert f"{API}/nodes/{button.name}" in served
        assert button.label == button.name.capitalize()
    grouping = {"add_to_group", "take_out_of_group"}
    assert {button.name for button in nodes.buttons()} == set(actions.NODE_ACTIONS) - grouping
    assert set(presenters.NODE_TONES) == set(NODE_STATES)


def test_every_status_a_job_can_have_is_a_filter_under_its_own_word() -> None:
    possible = {status for status in JobStatus if TRANSITIONS[status]}
    assert set(presenters.SHOWN) == possible


@pytest.mark.parametrize("page", ["/", "/jobs", "/nodes", "/nodes/1", "/nodes/1?tab=hours",
                                  "/groups", "/resources", "/notes", "/activity", "/statistics",
                                  "/submit", "/jobs/1", "/jobs/1?tab=nodes"])  # fmt: skip
async def test_pages_say_client_as_hqueue_does(world: World, page: str) -> None:
    await world.node("render1")
    await world.submit({"name": "a", "command": "true", "cpus": 99})
    seen = Seen()
    seen.feed(await world.page(page))
    assert not re.search(r"\bnodes?\b", " ".join(seen.words), re.IGNORECASE)


class Seen(HTMLParser):
    """What people read of a page: its text, and what is said on hover or aloud."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        told = dict(attributes)
        self.words += [told.get(name) or "" for name in ("title", "aria-label", "placeholder")]


def test_the_how_to_names_every_page_and_no_other() -> None:
    text = (DOCS / "howto/pages.md").read_text()
    table = text[text.index("| page |") : text.index("HQueue's addresses")]
    named = {re.sub(r"/12$", "/{id:int}", path) for path in re.findall(r"`(/[^`]*)`", table)}
    old = {"/clients", "/clients/view/{id:int}", "/clientgroups", "/resources/view",
           "/jobs/view", "/jobs/view/{id:int}", "/jobs/list"}  # fmt: skip
    parts = {"/live", "/jobs/{id:int}/glance", "/jobs/{id:int}/output", "/nodes/{id:int}",
             "/settings"}  # fmt: skip
    served = {path for path in routes("GET") if not path.startswith("/drawings")}
    assert served - old - parts == named - parts


def test_the_keys_that_are_told_are_the_keys_that_work() -> None:
    script = (Path(pages.__file__).parent / "static/keys.js").read_text()
    told = set(re.findall(r'^  \["([^"]+)",', script, re.MULTILINE))
    handled = set(re.findall(r'case "([^"]+)":', script))
    single = {key for keys in told for key in re.split(r"[ ,]+", keys) if len(key) == 1}
    arrows = {"↓", "↑", "+"}
    elsewhere = {"h", "n", "f", "N", "g", "j", "m", "M", "i"} | arrows  # after g, or in an output
    assert single - handled - elsewhere == set()

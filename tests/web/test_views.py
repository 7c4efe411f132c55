"""An address is a view: what it says is shown, and it survives being written down."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from starlette.datastructures import QueryParams

from roost.core.records import HOUR_MS, JobStatus, Moment
from roost.web import views
from roost.web.views import JobsView, parse

NOW = Moment(1_760_000_000_000)


def of(text: str) -> JobsView:
    return parse(QueryParams(parse_qsl(text, keep_blank_values=True)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "status=failed,running",
        "q=smoke&exclude=test&by=ana&every=1",
        "sort=name&up=1&dense=1&columns=id,name",
        "within=24h&status=failed&before=12",
        "ids=3,1&every=1",
    ],
)
def test_a_view_and_its_address_are_the_same(text: str) -> None:
    view = of(text)
    assert of(view.query(before=view.before).removeprefix("?")) == view


def test_nonsense_is_left_out() -> None:
    text = "status=broken,failed&sort=colour&within=ever&before=-3&columns=x&ids=a,0,5&skip=9e9"
    assert of(text) == JobsView(status=("failed",), ids=(5,))


def test_within_means_ended_for_what_has_ended_and_submitted_for_the_rest() -> None:
    ended = of("status=failed&within=1h").filter(NOW)
    assert (ended.ended_after, ended.submitted_after) == (NOW - HOUR_MS, None)
    mixed = of("status=failed,running&within=1h").filter(NOW)
    assert (mixed.ended_after, mixed.submitted_after) == (None, NOW - HOUR_MS)
    assert mixed.statuses == (JobStatus.FAILED, JobStatus.RUNNING)


def test_a_change_of_the_view_begins_at_its_first_page() -> None:
    view = of("q=a&before=50")
    assert view.query(by="ana") == "?q=a&by=ana"
    assert view.query(before=20) == "?q=a&before=20"


def test_a_form_keeps_what_it_does_not_ask() -> None:
    view = of("q=a&sort=name&up=1&ids=3,1&columns=id,name&before=9")
    kept = view.fields("columns", "dense", "before", "skip")
    assert kept == [("q", "a"), ("ids", "3,1"), ("sort", "name"), ("up", "1")]


def test_a_chip_adds_its_status_or_takes_it_away() -> None:
    assert of("status=failed").toggled("running") == "?status=failed,running"
    assert of("status=failed,running").toggled("failed") == "?status=running"


def test_a_header_sorts_and_asked_again_turns_round() -> None:
    columns = {column.key: column for column in views.COLUMNS}
    assert of("").sorted_by(columns["name"]) == "?sort=name&up=1"
    assert of("sort=name&up=1").sorted_by(columns["name"]) == "?sort=name"
    assert of("").sorted_by(columns["priority"]) == "?sort=priority"

"""`roost attribute` and `event-log`: what is asked and what is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from roost.wire import rest


@pytest.fixture
def noted(farm: Any, known: Any) -> Any:
    """Job 3, with a number that has a history, and a text."""
    farm.known = {
        3: known(3, attributes={"Loss": 0.25, "Scene": "a b", "Twice": {"expr": "2 * x"}})
    }
    farm.attribute_list = [
        rest.JobAttribute(
            name="Loss",
            value=0.25,
            text="0.25",
            set_at=2_000,
            history=[(1_000, 0.5), (2_250, 0.25)],
        ),
        rest.JobAttribute(name="Scene", value="a b", text='"a b"', set_at=1_000),
    ]
    return farm


def test_attributes_are_listed_as_jobs_read_them(noted: Any, run: Any) -> None:
    code, out, _ = run("attribute", "3")
    rows = [line.split("\t")[:2] for line in out.splitlines()]
    assert (code, rows) == (0, [["NAME", "VALUE"], ["Loss", "0.25"], ["Scene", '"a b"']])
    document = json.loads(run("attribute", "3", "--json")[1])
    assert document["id"] == 3
    assert document["attributes"][0]["history"] == [[1_000, 0.5], [2_250, 0.25]]


def test_attributes_are_set_together(noted: Any, run: Any) -> None:
    code, out, err = run("attribute", "3", "JobPrio=5", "Scene=c d", "Late:=Loss > 1")
    assert (code, out, err) == (0, "", "Set JobPrio, Scene, Late of job 3.\n")
    values = {"JobPrio": 5, "Scene": "c d", "Late": {"expr": "Loss > 1"}}
    assert noted.arranged == [("attributes", 3, values)]
    assert run("attribute", "3", "Scene")[0] == 2
    assert run("attribute", "3", "A=1", "--history", "A")[0] == 2
    assert len(noted.arranged) == 1


def test_a_history_is_a_table_of_moments(noted: Any, run: Any) -> None:
    code, out, _ = run("attribute", "3", "--history", "LOSS")
    rows = [line.split("\t") for line in out.splitlines()]
    assert (code, rows[0]) == (0, ["WHEN", "VALUE"])
    assert [(when[-6:], value) for when, value in rows[1:]] == [
        ("01.000", "0.5"),
        ("02.250", "0.25"),
    ]
    assert run("attribute", "3", "--history", "Nothing")[0] == 4


def test_a_job_is_shown_with_its_attributes(noted: Any, run: Any) -> None:
    out = run("job", "3")[1]
    for text in ("Loss = 0.25", 'Scene = "a b"', "Twice = 2 * x"):
        assert text in out
    shown = json.loads(run("job", "3", "--json")[1])["attributes"]
    assert shown == {"Loss": 0.25, "Scene": "a b", "Twice": {"expr": "2 * x"}}


def test_an_event_log_names_jobs_by_their_root(farm: Any, run: Any, known: Any) -> None:
    told = [rest.JobEvent(0, "queued", "")]
    farm.known = {
        1: known(1, events=told),
        2: known(2, parents=[1], events=told),
        3: known(3, parents=[2, 9], events=told),
        7: known(7, events=told),
    }
    code, out, _ = run("event-log", "2-3", "7", "1")
    heads = [line[4:17] for line in out.splitlines() if line.startswith("000")]
    assert (code, heads) == (
        0, ["(001.002.000)", "(001.003.000)", "(007.000.000)", "(001.000.000)"],
    )  # fmt: skip
    assert "Job submitted from host: <127.0.0.1:5000>" in out
    assert run("event-log", "99")[0] == 4

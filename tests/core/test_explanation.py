"""Why a job does not run: one sentence each, and silent exactly when it would be placed."""

from __future__ import annotations

from typing import Any

import pytest
from play import Play

LEAF = {"name": "leaf", "command": "x"}


def on(host: str) -> list[dict[str, str]]:
    return [{"type": "client", "name": "hostname", "op": "==", "value": host}]


def test_without_nodes(play: Play) -> None:
    assert play.why(play.submit()) == "No machine has joined the farm."


def test_waiting_for_children(play: Play) -> None:
    top, *_ = play.submit({"name": "p", "command": "y", "children": [LEAF, LEAF]})
    assert play.why(top) == "It waits for 2 of its 2 children."


def test_paused(play: Play) -> None:
    job = play.submit()
    play.pause(job)
    assert play.why(job) == "It is paused; resume it to let it run."


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"conditions": on("z")}, 'n fails the condition hostname == "z".'),
        ({"cpus": 8}, "n has 2 CPUs, and the job needs 8."),
        ({"cpus": 2}, "n is busy: 1 CPU free, and the job needs 2."),
        (
            {"command": {"windows": "x"}},
            "n runs linux, and the job has a command for windows only.",
        ),
        (
            {"tags": ["single"]},
            "n runs other jobs, and the job wants a machine for itself (tag single).",
        ),
        ({"minHosts": 2}, "It needs 2 machines at once, and 1 can take it."),
    ],
)
def test_what_stands_against_a_node(play: Play, spec: dict[str, Any], text: str) -> None:
    play.joins("n", cpus=2)
    play.submit()
    assert play.why(play.submit(**spec)) == text


def test_a_condition_that_names_many_machines_is_not_repeated_whole(play: Play) -> None:
    play.joins("n")
    play.joins("o")
    names = ",".join(f"render{number}" for number in range(1_000))
    why = play.why(play.submit(host=names))
    assert why.startswith("Each of n and o fails the condition hostname in ")
    assert len(why) < 120


def test_nodes_with_the_same_obstacle_are_named_together(play: Play) -> None:
    for number in range(6):
        play.joins(f"n{number}")
    job = play.submit(cpus=2)
    assert play.why(job) == "Each of n0, n1, n2, n3 and 2 more has 1 CPU, and the job needs 2."


def test_silent_for_what_runs_and_what_is_over(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    assert play.why(job) == ""
    play.ends(job)
    assert play.why(job) == play.why(99) == ""

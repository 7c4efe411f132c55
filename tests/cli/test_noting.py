"""`roost notes`, `errors` and `history`: what is asked and what is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from roost.wire import rest


def test_notes_are_listed_with_what_they_are_about(farm: Any, run: Any) -> None:
    farm.threads = [
        rest.NoteThread(1, 7, None, [rest.NoteDetail(20, 0, "slow")]),
        rest.NoteThread(2, None, 1, [rest.NoteDetail(21, 0, "hot")]),
        rest.NoteThread(3, None, None, [rest.NoteDetail(22, 0, "hello")]),
    ]
    rows = [line.split("\t") for line in run("notes")[1].splitlines()[1:]]
    assert [(row[0], row[1], row[2], row[4]) for row in rows] == [
        ("1", "20", "job 7", "slow"),
        ("2", "21", "tiny:a", "hot"),
        ("3", "22", "", "hello"),
    ]
    assert farm.listed == {"job": None, "node": None, "latest": True}
    assert json.loads(run("notes", "--json")[1])["threads"][0]["notes"][0]["text"] == "slow"


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (("--job", "7"), {"job": 7, "node": None, "latest": False}),
        (("--node", "TINY:A"), {"job": None, "node": 1, "latest": False}),
        (("thread", "3"), {"thread": 3, "latest": False}),
    ],
)
def test_about_one_thing_all_notes_are_shown(
    farm: Any, run: Any, arguments: tuple[str, ...], asked: dict[str, Any]
) -> None:
    assert run("notes", *arguments)[0] == 0
    assert farm.listed == asked


def test_notes_are_written_and_removed(farm: Any, run: Any) -> None:
    assert run("notes", "add", "a", "--job", "7") == (0, "9\n", "")
    assert run("notes", "add", "b", "--node", "1")[0] == 0
    assert run("notes", "add", "c", "--thread", "3")[0] == 0
    assert run("notes", "add", "d")[0] == 0
    assert run("notes", "add", "e", "--job", "7", "--thread", "3")[0] == 2
    assert run("notes", "add", "f", "--node", "huge")[0] == 4
    assert run("notes", "remove", "4-5")[2] == "Removed 2 notes.\n"
    assert run("notes", "remove", "3", "--threads")[2] == "Removed thread 3.\n"
    assert farm.arranged == [
        ("note", "a", {"job": 7}),
        ("note", "b", {"node": 1}),
        ("note", "c", {"thread": 3}),
        ("note", "d", {}),
        ("remove note", 4),
        ("remove note", 5),
        ("remove thread", 3),
    ]


def test_errors_are_those_of_the_server_and_of_machines_latest_first(farm: Any, run: Any) -> None:
    rows = [line.split("\t")[1:] for line in run("errors")[1].splitlines()[1:]]
    assert rows == [["tiny:a", "No folder."], ["server", "Oops."]]
    one = json.loads(run("errors", "--node", "tiny:a", "--json")[1])["errors"]
    assert one == [{"at": 3000, "text": "No folder.", "node": 1, "job": 4}]
    assert run("errors", "--node", "huge")[0] == 4


def test_the_history_of_a_machine_is_a_list_of_jobs(farm: Any, run: Any, known: Any) -> None:
    farm.known = {3: known(3, "succeeded")}
    row = run("history", "tiny:a", "--limit", "7")[1].splitlines()[1].split("\t")
    assert row[:3] == ["3", "job 3", "succeeded"]
    assert farm.listed == {"node": 1, "limit": 7}
    assert run("history", "huge")[0] == 4

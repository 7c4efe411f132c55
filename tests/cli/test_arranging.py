"""`roost groups` and `roost resources`: list, and change what is named by name or id."""

from __future__ import annotations

import json
from typing import Any

from roost.wire import rest


def test_groups_are_listed_with_the_labels_of_their_nodes(farm: Any, run: Any) -> None:
    code, out, _ = run("groups")
    assert (code, out.splitlines()) == (0, ["ID\tNAME\tNODES", "4\tfast\ttiny:a, node 8"])
    document = json.loads(run("groups", "--json")[1])
    assert document == {"groups": [{"id": 4, "name": "fast", "nodes": [1, 8]}]}


def test_groups_and_nodes_are_named_by_name_or_id(farm: Any, run: Any) -> None:
    assert run("groups", "create", "slow", "TINY:A")[0] == 0
    assert run("groups", "add", "fast", "1")[0] == 0
    assert run("groups", "remove", "4", "tiny:a")[0] == 0
    assert run("groups", "set", "fast", "1")[0] == 0
    assert run("groups", "--server", "http://b:1", "delete", "fast")[0] == 0
    assert farm.url == "http://b:1"
    assert farm.arranged == [
        ("create", "slow"),
        ("add", 5, [1]),
        ("add", 4, [1]),
        ("remove", 4, [1]),
        ("be", 4, [1]),
        ("delete", 4),
    ]


def test_an_unknown_name_is_told_and_nothing_is_changed(farm: Any, run: Any) -> None:
    assert run("groups", "create", "slow", "huge") == (
        4,
        "",
        "roost: There is no node 'huge'; roost nodes lists them.\n",
    )
    assert run("groups", "delete", "9")[0] == 4
    assert farm.arranged == []
    assert isinstance(farm.groups()[0], rest.GroupDetail)


def test_resources_are_listed(farm: Any, run: Any) -> None:
    lines = ["NAME\tIN USE\tMAX\tPER", "nuke\t3\t4\tjob", "houdini\t0\tno limit\tmachine"]
    assert run("resources")[1].splitlines() == lines
    assert run("resources", "list")[1].splitlines() == lines
    assert json.loads(run("resources", "list", "--json")[1])["resources"][0]["in_use"] == 3


def test_setting_a_resource_leaves_what_is_not_given(farm: Any, run: Any) -> None:
    for arguments in (
        ("nuke", "--max", "5"),
        ("nuke", "--per-machine"),
        ("nuke", "--no-limit"),
        ("houdini", "--max", "0"),
        ("new",),
    ):
        assert run("resources", "set", *arguments)[0] == 0
    assert run("resources", "remove", "nuke")[0] == 0
    assert farm.arranged == [
        ("set", "nuke", 5, False),
        ("set", "nuke", 4, True),
        ("set", "nuke", None, False),
        ("set", "houdini", 0, True),
        ("set", "new", None, False),
        ("remove", "nuke"),
    ]
    assert run("resources", "set", "nuke", "--max", "1", "--no-limit")[0] == 2


def test_the_priority_of_jobs_is_set_unless_one_is_unknown(farm: Any, run: Any, known: Any) -> None:
    farm.known = {3: known(3), 4: known(4)}
    assert run("priority", "7", "3-4") == (0, "", "Priority 7 for 2 jobs.\n")
    assert run("priority", "7", "3", "9")[0] == 4
    assert run("priority", "-1", "3")[0] == 2
    assert farm.arranged == [("priority", [3, 4], 7)]


def test_the_machines_that_may_run_a_job_are_listed_and_chosen(
    farm: Any, run: Any, known: Any
) -> None:
    farm.known = {3: known(3)}
    assert run("permit", "3") == (0, "NODE\ntiny:a\n", "")
    assert run("permit", "3", "big")[1] == "NODE\nbig\n"
    assert json.loads(run("permit", "3", "--any", "--json")[1]) == {"nodes": ["tiny:a", "big"]}
    assert farm.arranged == [("permit", 3, ["big"]), ("permit", 3, None)]
    assert run("permit", "3", "big", "--any")[0] == 2
    assert run("permit", "9")[0] == 4

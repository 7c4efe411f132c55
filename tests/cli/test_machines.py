"""`roost nodes`: what machines do, and saying when they may do it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from roost.wire import rest

NIGHT = rest.AvailabilityRule("any 20:00-07:00", True, 2)
IDLE = rest.AvailabilityRule("idle 15", False, 5)


@pytest.fixture
def two(farm: Any) -> Any:
    """A farm with a node without rules and one with two, both in the group `fast`."""
    other = {"id": 8, "label": "desk", "hostname": "desk", "name": "", "running": []}
    farm.machines[8] = replace(
        farm.machines[1], **other, available=False, availability=[NIGHT, IDLE],
        off_duty="is outside its availability rules until Mon 20:00", description="Ann's",
        time_zone="Europe/Berlin", cpu_speed_mhz=3000, memory_kb=8 * 1024**2, groups=[4],
        idle_minutes=3,
    )  # fmt: skip
    return farm


@pytest.mark.parametrize("command", [("nodes",), ("nodes", "list")])
def test_nodes_show_their_state_and_what_they_run(two: Any, run: Any, command: Any) -> None:
    rows = [line.split("\t") for line in run(*command)[1].splitlines()[1:]]
    assert rows[0][:6] == ["1", "tiny:a", "ready", "1/2", "0.5", "4-6, 9"]
    assert rows[1][:3] == ["8", "desk", "off duty"]
    assert json.loads(run(*command, "--json")[1])["nodes"][0]["label"] == "tiny:a"


def test_one_node_is_shown_with_all_that_is_known(two: Any, run: Any) -> None:
    code, out, _ = run("nodes", "show", "DESK")
    assert code == 0
    shown = {line[:11].strip(): line[13:] for line in out.splitlines()}
    expected = {
        "node": "8  desk", "description": "Ann's", "state": "off duty", "idle for": "3 min",
        "takes jobs": "any 20:00-07:00, idle 15 (disabled)", "time zone": "Europe/Berlin",
        "off duty": "is outside its availability rules until Mon 20:00", "groups": "fast",
        "CPU speed": "3000 MHz", "memory": "8.0 GiB",
    }  # fmt: skip
    assert {name: shown[name] for name in expected} == expected
    assert "always" in run("nodes", "show", "1")[1]
    assert json.loads(run("nodes", "show", "8", "--json")[1])["availability"][1] == {
        "rule": "idle 15", "enabled": False, "id": 5,
    }  # fmt: skip


def test_nodes_are_named_one_by_one_or_by_their_group(two: Any, run: Any) -> None:
    assert run("nodes", "drain", "desk", "1")[0] == 0
    assert run("nodes", "enable", "8", "--group", "fast")[0] == 0
    assert run("nodes", "remove", "desk", "--yes")[0] == 0
    assert run("nodes", "describe", "desk", "Ann's machine")[0] == 0
    assert two.arranged == [
        ("drain", [8, 1]), ("enable", [8, 1]), ("remove", [8]),
        ("describe", 8, "Ann's machine"),
    ]  # fmt: skip
    assert run("nodes", "drain")[0] == 2
    assert run("nodes", "drain", "desk", "huge")[0] == 4
    assert len(two.arranged) == 4


def test_rules_are_listed(two: Any, run: Any) -> None:
    code, out, err = run("nodes", "rules")
    assert (code, err) == (0, "Times are those of Europe/Berlin.\n")
    assert out.splitlines() == [
        "NODE\tID\tTAKES JOBS\tENABLED",
        "tiny:a\t\talways\t",
        "desk\t2\tany 20:00-07:00\tyes",
        "desk\t5\tidle 15\tno",
    ]
    of_desk = [line for line in out.splitlines() if not line.startswith("tiny")]
    assert run("nodes", "rules", "desk")[1].splitlines() == of_desk
    (one,) = json.loads(run("nodes", "rules", "tiny:a", "--json")[1])["nodes"]
    assert (one["id"], one["rules"]) == (1, [])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--always", []),
        ("--set|weekends|--set|fri 20:00-6:00",
         [(0, "weekends", True), (0, "friday 20:00-06:00", True)]),
        ("--add|idle 5", [(2, NIGHT.rule, True), (5, "idle 15", False), (0, "idle 5", True)]),
        ("--remove|2|--enable|5", [(5, "idle 15", True)]),
        ("--disable|2", [(2, NIGHT.rule, False), (5, "idle 15", False)]),
        ("--remove|2|--remove|5|--add|any", [(0, "any", True)]),
    ],
)  # fmt: skip
def test_rules_are_changed(two: Any, run: Any, options: str, expected: Any) -> None:
    assert run("nodes", "rules", "desk", *options.split("|"))[0] == 0
    assert two.arranged == [("rules", 8, expected)]


@pytest.mark.parametrize(
    ("options", "code"),
    [("--always|--add|any", 2), ("--set|any|--remove|2", 2), ("--remove|9", 4),
     ("--set|now", 2), ("--enable|2|--group|slow", 4)],
)  # fmt: skip
def test_nothing_is_changed_when_something_is_wrong(
    two: Any, run: Any, options: str, code: int
) -> None:
    assert run("nodes", "rules", "desk", *options.split("|"))[0] == code
    assert run("nodes", "rules", *options.split("|"))[0] in (2, code)
    assert two.arranged == []


def test_rules_of_several_nodes_are_changed_together(two: Any, run: Any) -> None:
    assert run("nodes", "rules", "--group", "fast", "--set", "weekends")[0] == 0
    assert two.arranged == [("rules", n, [(0, "weekends", True)]) for n in (1, 8)]
    two.arranged.clear()
    assert run("nodes", "rules", "desk", "1", "--remove", "2")[0] == 4
    assert two.arranged == []

"""A farm that is a plain object, in place of the one behind HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import roost.remote
from roost.cli import main
from roost.errors import NotFound, Unreachable
from roost.wire import rest


def change(number: int, status: str, **more: Any) -> rest.JobChange:
    """Where a job stands, with only what matters said."""
    defaults: dict[str, Any] = {
        "ui_status": status,
        "progress": 0.0,
        "overall_progress": 1.0 if status == "succeeded" else 0.0,
        "tasks_total": 1,
        "tasks_done": int(status == "succeeded"),
        "tasks_failed": 0,
        "clients_assigned": 0,
        "finished": status in ("succeeded", "failed", "cancelled", "abandoned"),
    }
    return rest.JobChange(id=number, status=status, **{**defaults, **more})


def detail(number: int, status: str = "running", **more: Any) -> rest.JobDetail:
    """All of a job, with only what matters said."""
    standing = change(number, status)
    defaults: dict[str, Any] = {
        **{name: getattr(standing, name) for name in standing.__struct_fields__},
        "name": f"job {number}",
        "priority": 0,
        "submitted_by": "",
        "queued_at": 1_000,
        "started_at": None,
        "ended_at": None,
        "nodes": [],
        "spec": {"name": f"job {number}", "command": "true"},
        "tries_left": 0,
        "attempt": 0,
        "runnable_at": None,
        "command_started_at": None,
        "command_ended_at": None,
        "parents": [],
        "children": [],
        "conditions": [],
        "held_nodes": [],
        "events": [],
        "attempts": [],
        "reasons": [],
    }
    return rest.JobDetail(**{**defaults, **more})


NODE = rest.NodeDetail(
    id=1,
    label="tiny:a",
    hostname="tiny",
    name="a",
    ip="",
    platform="linux-x86_64",
    version="",
    cpus=2,
    cpus_busy=1,
    cpu_speed_mhz=0,
    memory_kb=0,
    load=0.5,
    idle_minutes=-1,
    connected=True,
    available=True,
    active=True,
    disabled=False,
    description="",
    groups=[],
    running=[4, 5, 6, 9],
    joined_at=0,
    last_beat_at=2_000,
)


class FakeFarm:
    """Remembers what it was asked; answers with what the test has laid ready."""

    def __init__(self) -> None:
        self.url = ""
        self.known: dict[int, rest.JobDetail] = {}
        self.submitted: list[tuple[Any, int | None]] = []
        self.acted: list[tuple[str, list[int]]] = []
        self.arranged: list[tuple[object, ...]] = []
        self.listed: dict[str, Any] = {}
        self.machines = {1: NODE}
        self.changes: list[rest.JobChange | BaseException] = []
        self.log = b""
        self.permitted = ["tiny:a"]
        self.threads: list[rest.NoteThread] = []
        self.attribute_list: list[rest.JobAttribute] = []
        self.down = False
        self.token = ""
        """What takes back an action."""

    def __enter__(self) -> FakeFarm:
        if self.down:
            raise Unreachable(f"Nothing answers at {self.url}.")
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def health(self) -> rest.Health:
        return rest.Health(status="ok", version="")

    def submit(self, spec: Any, parent: int | None = None) -> list[int]:
        self.submitted.append((spec, parent))
        specs = spec if isinstance(spec, list) else [spec]
        count = len(specs) + sum(len(top.get("children", ())) for top in specs)
        return list(range(11, 11 + count))

    def jobs(self, **which: Any) -> rest.JobPage:
        self.listed = which
        return rest.JobPage(list(self.known.values()), None)

    def job(self, number: int) -> rest.JobDetail:
        if number not in self.known:
            raise NotFound(f"There is no job {number}.")
        return self.known[number]

    def reasons(self, number: int) -> list[rest.JobReason]:
        return self.job(number).reasons

    def act(self, action: str, ids: Sequence[int]) -> rest.Acted:
        self.acted.append((action, list(ids)))
        return self._outcome(ids)

    def _outcome(self, ids: Sequence[int]) -> rest.Acted:
        applied = [number for number in ids if not self.known[number].finished]
        skipped = [number for number in ids if self.known[number].finished]
        return rest.Acted(applied=applied, skipped=skipped, undo=self.token if applied else "")

    def undo(self, token: str) -> rest.Undone:
        if token != self.token:
            raise NotFound("That cannot be undone any more.")
        return rest.Undone(jobs=[3, 5], nodes=[1], undo="again")

    def output(self, number: int, offset: int = 0, *, last: int | None = None) -> bytes:
        self.job(number)
        return self.log[-last:] if last else self.log

    def follow_output(self, number: int) -> Iterator[bytes]:
        yield from (self.log[:3], self.log[3:])

    def timed_output(
        self, number: int, *, follow: bool = False
    ) -> Iterator[tuple[int | None, str]]:
        self.job(number)
        self.listed = {"follow": follow}
        yield from ((None, "one"), (1_700_000_000_000, "two"))

    def follow(self, ids: Sequence[int]) -> Iterator[rest.JobChange]:
        for step in self.changes:
            if isinstance(step, BaseException):
                raise step
            yield step

    def groups(self) -> list[rest.GroupDetail]:
        return [rest.GroupDetail(4, "fast", [1, 8])]

    def create_group(self, name: str) -> int:
        self.arranged.append(("create", name))
        return 5

    def delete_group(self, group: int) -> None:
        self.arranged.append(("delete", group))

    def add_to_group(self, group: int, nodes: Sequence[int]) -> rest.NodesActed:
        self.arranged.append(("add", group, list(nodes)))
        return rest.NodesActed(undo=self.token)

    def remove_from_group(self, group: int, nodes: Sequence[int]) -> rest.NodesActed:
        self.arranged.append(("remove", group, list(nodes)))
        return rest.NodesActed(undo=self.token)

    def set_group_nodes(self, group: int, nodes: Sequence[int]) -> None:
        self.arranged.append(("be", group, list(nodes)))

    def resources(self) -> list[rest.ResourceDetail]:
        return [
            rest.ResourceDetail(1, "nuke", 4, False, 3),
            rest.ResourceDetail(2, "houdini", None, True, 0),
        ]

    def set_resource(self, name: str, maximum: int | None, *, per_machine: bool) -> int:
        self.arranged.append(("set", name, maximum, per_machine))
        return 3

    def remove_resource(self, name: str) -> None:
        self.arranged.append(("remove", name))

    def set_priority(self, ids: Sequence[int], priority: int) -> rest.Acted:
        self.arranged.append(("priority", list(ids), priority))
        return self._outcome(ids)

    def set_permitted_nodes(self, number: int, nodes: Sequence[str] | None) -> None:
        self.job(number)
        self.permitted = ["tiny:a", "big"] if nodes is None else list(nodes)
        self.arranged.append(("permit", number, nodes and list(nodes)))

    def permitted_nodes(self, number: int) -> list[str]:
        self.job(number)
        return self.permitted

    def notes(self, *, latest: bool = False, **about: int | None) -> list[rest.NoteThread]:
        self.listed = {"latest": latest, **about}
        return self.threads

    def add_note(self, text: str, **about: int | None) -> int:
        self.arranged.append(("note", text, {k: v for k, v in about.items() if v is not None}))
        return 9

    def remove_note(self, number: int) -> None:
        self.arranged.append(("remove note", number))

    def remove_thread(self, number: int) -> None:
        self.arranged.append(("remove thread", number))

    def attributes(self, number: int) -> list[rest.JobAttribute]:
        self.job(number)
        return self.attribute_list

    def set_attributes(self, number: int, values: dict[str, Any]) -> None:
        self.arranged.append(("attributes", number, values))

    def errors(self) -> rest.FarmErrors:
        return rest.FarmErrors(1, [rest.FarmError(at=2_000, text="Oops.")])

    def node_errors(self, node: int) -> rest.FarmErrors:
        return rest.FarmErrors(1, [rest.FarmError(at=3_000, text="No folder.", node=node, job=4)])

    def node_history(self, node: int, limit: int) -> list[rest.JobDetail]:
        self.listed = {"node": node, "limit": limit}
        return list(self.known.values())

    def nodes(self) -> list[rest.NodeDetail]:
        return list(self.machines.values())

    def node(self, number: int) -> rest.NodeDetail:
        return self.machines[number]

    def set_availability(self, node: int, rules: Sequence[rest.AvailabilityRule]) -> None:
        self.arranged.append(("rules", node, [(r.id, r.rule, r.enabled) for r in rules]))
        self.machines[node] = replace(self.machines[node], availability=list(rules))

    def describe_node(self, node: int, text: str) -> None:
        self.arranged.append(("describe", node, text))

    def act_on_nodes(self, action: str, nodes: Sequence[int]) -> rest.NodesActed:
        self.arranged.append((action, list(nodes)))
        return rest.NodesActed(undo=self.token)


@pytest.fixture
def farm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeFarm:
    fake = FakeFarm()

    def connect(url: str, **_: object) -> FakeFarm:
        fake.url = url
        return fake

    monkeypatch.setattr(roost.remote, "Remote", connect)
    for name in ("ROOST_SERVER", "ROOST_CONFIG", "HQSERVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return fake


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command as the shell would: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def standing() -> Callable[..., rest.JobChange]:
    return change


@pytest.fixture
def known() -> Callable[..., rest.JobDetail]:
    return detail

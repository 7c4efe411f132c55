"""People: they submit trees of every shape and change their minds at bad moments.

They remember what the server has promised them, for the oracle to hold it to.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from roost.core import messages as m
from roost.core.records import (
    DAY_MINUTES,
    AvailabilityRule,
    Condition,
    JobId,
    JobSpec,
    NodeId,
    NoteId,
    ThreadId,
)
from roost.errors import Refused

if TYPE_CHECKING:
    from sim.world import World

ACTIONS: tuple[type, ...] = (
    m.CancelJobs,
    m.PauseJobs,
    m.ResumeJobs,
    m.ResumeJobs,
    m.RescheduleJobs,
    m.RescheduleJobs,
    m.DeleteJobs,
    m.ExpireJobs,
    m.EjectJobs,
)


GROUPS = ("fast", "slow")
RESOURCES = ("licence", "sidefx.license.render")


class Users:
    def __init__(self, world: World) -> None:
        self.world = world
        self.active = True
        self.promised: dict[JobId, None] = {}
        """Jobs whose submission was acknowledged and which nobody has asked to delete."""
        self.cancelled: dict[JobId, None] = {}
        """Jobs whose cancelling was acknowledged, and nobody rescheduled anything since they asked
        for it."""
        self._rescheduled = 0
        """How often they have asked for that."""
        self._known: list[JobId] = []
        self._undo: list[m.Command] = []
        """What takes back what they did."""
        self._pause_ms = world.random.choice((150, 500, 2_000))
        self._submits = world.random.choice((0.15, 0.3, 0.6))
        self._rules = world.random.choice((0.0, 0.1, 0.3))
        self._arranges = world.random.choice((0.0, 0.1, 0.3))

    def act(self) -> None:
        if not self.active:
            return
        random = self.world.random
        if not self._known or random.random() < self._submits:
            self._submit()
        elif random.random() < 0.1:
            self._ask(m.SetPriority(self._some_jobs(), random.randint(0, 9)))
        elif random.random() < 0.1:
            self._discuss()
        elif random.random() < 0.1:
            self.world.chirp.set_from_outside(self._some_jobs()[0])
        elif random.random() < self._rules:
            self._set_rules()
        elif random.random() < self._arranges:
            self._arrange()
        elif self._undo and random.random() < 0.1:
            self._ask(self._undo.pop(random.randrange(len(self._undo))))
        else:
            ids = self._some_jobs()
            self._command(random.choice(ACTIONS)(ids))
            if random.random() < 0.15:
                self._command(random.choice(ACTIONS)(ids))  # in the same batch
        self.world.after(1 + int(random.expovariate(1 / self._pause_ms)), self.act)

    def _some_jobs(self) -> tuple[JobId, ...]:
        random = self.world.random
        recent = self._known[-12:] if random.random() < 0.8 else self._known
        return tuple(random.choice(recent) for _ in range(random.choice((1, 1, 1, 2, 3))))

    # --- commands -------------------------------------------------------------------------

    def _ask(self, command: m.Command) -> None:
        name = type(command).__name__
        rescheduled = self._rescheduled

        def done(reply: object, refusal: Refused | None) -> None:
            if refusal is not None:
                self.world.note(f"users: {name} refused: {refusal}")
            elif isinstance(command, m.SubmitJobs):
                assert isinstance(reply, list)
                self._known.extend(reply)
                self.promised.update(dict.fromkeys(reply))
                self.world.note(f"users: got {marks(reply)}")
            elif isinstance(reply, m.Inverse):
                self._undo.append(reply)
            elif isinstance(command, m.CancelJobs) and rescheduled == self._rescheduled:
                is_cancelled = self.world.oracle.is_cancelled
                self.cancelled.update(dict.fromkeys(filter(is_cancelled, command.ids)))

        self.world.server.tell(command, done)

    def _command(self, command: m.Command) -> None:
        ids: tuple[JobId, ...] = command.ids  # type: ignore[union-attr]
        self.world.note(f"users: {type(command).__name__} {marks(ids)}")
        if isinstance(command, m.RescheduleJobs):
            self.cancelled.clear()
            self._rescheduled += 1
        if isinstance(command, m.DeleteJobs | m.ExpireJobs):
            self.world.oracle.may_vanish(ids)
        self._ask(command)

    def switch_node(self) -> None:
        nodes = list(self.world.server.farm.nodes)
        if nodes:
            node = self.world.random.choice(nodes)
            self._ask(m.SetNodesDisabled((node,), self.world.random.random() < 0.5))

    def _set_rules(self) -> None:
        """For a node: times that begin or end within minutes, and idle rules."""
        random, farm = self.world.random, self.world.server.farm
        if farm.nodes:
            node = random.choice(list(farm.nodes))
            rules = tuple(self._rule() for _ in range(random.choice((0, 0, 1, 1, 2))))
            self.world.note(f"users: node {node} gets {len(rules)} rules")
            self._ask(m.SetAvailability(node, rules))

    def _rule(self) -> AvailabilityRule:
        random = self.world.random
        enabled = random.random() < 0.8
        if random.random() < 0.3:
            return AvailabilityRule(
                type="idle", enabled=enabled, idle_minutes=random.randint(1, 40)
            )
        ahead = self.world.server.rules.zone.utcoffset(None)
        assert ahead is not None
        minute = self.world.now // 60_000 + ahead // timedelta(minutes=1)
        start, end = (
            (minute + random.choice((-600, -1, 0, 1, 1, 2, 3))) % DAY_MINUTES for _ in range(2)
        )
        day = random.choice(("any", "any", "weekdays", "thursday", "weekends"))
        return AvailabilityRule(enabled=enabled, day=day, start=start, end=end)

    def enable_nodes(self) -> None:
        """All of them, and half may work at any time."""
        for node in list(self.world.server.farm.nodes):
            self._ask(m.SetNodesDisabled((node,), False))
            if self.world.random.random() < 0.5:
                self._ask(m.SetAvailability(node, ()))

    def remove_node(self) -> None:
        nodes = list(self.world.server.farm.nodes)
        if nodes:
            self._ask(m.RemoveNodes((NodeId(self.world.random.choice(nodes)),)))

    def _arrange(self) -> None:
        """Change what waits for what: groups, resources, the conditions of a job."""
        random, farm = self.world.random, self.world.server.farm
        job, name = self._some_jobs()[0], random.choice(RESOURCES)
        nodes = tuple(node for node in farm.nodes if random.random() < 0.5)
        group = farm.groups.get(random.choice(GROUPS))
        kind = random.randint(0, 9)
        command: m.Command
        if kind == 0:
            maximum = random.choice((None, 0, 1, 2, 3))
            command = m.SetResource(name, maximum, per_machine=random.random() < 0.4)
        elif kind == 1:
            command = m.RemoveResource(name)
        elif kind == 2:
            command = m.SetConditions(job, random.choice(((), self._conditions())))
        elif kind == 3:
            command = m.SetBlockedWarning(job, random.random() < 0.5)
        elif kind == 4:
            ids = dict.fromkeys(self._some_jobs())
            command = m.SetPriorities(tuple((one, random.randint(-1, 9)) for one in ids))
        elif group is None:
            command = m.CreateGroup(random.choice(GROUPS))
        elif kind == 5:
            command = m.AddToGroup(group.id, nodes)
        elif kind == 6:
            command = m.RemoveFromGroup(group.id, nodes)
        elif kind == 7:
            command = m.SetGroupNodes(group.id, nodes)
        elif kind == 8 and nodes:
            wanted = tuple(one.id for one in farm.groups.values() if random.random() < 0.5)
            command = m.SetNodeGroups(nodes[0], wanted)
        else:
            command = m.DeleteGroup(group.id)
        self.world.note(f"users: {command}")
        self._ask(command)

    def _discuss(self) -> None:
        """Say something about a job, which may be gone, or a node; or clear some of it away."""
        random, board = self.world.random, self.world.server.farm.board
        if random.random() < 0.6:
            node = NodeId(random.randint(1, 5)) if random.random() < 0.3 else None
            self._ask(m.AddNote("looks odd", job=self._some_jobs()[0], node=node))
        elif random.random() < 0.7:
            self._ask(m.RemoveNotes((NoteId(random.randint(1, board.next_note_id)),)))
        else:
            self._ask(m.RemoveThreads((ThreadId(random.randint(1, board.next_thread_id)),)))

    # --- submissions ----------------------------------------------------------------------

    def _submit(self) -> None:
        random = self.world.random
        if self.world.haste > 1 and random.random() < 0.5:
            self._submit_row()
            return
        count = random.choice((1, 1, 2, 3, 5, 8))
        jobs = tuple(self._new_job(index, count) for index in range(count))
        first = jobs[0]
        links = f" under {marks(first.parent_ids)}" if first.parent_ids else ""
        links += f" over {marks(first.child_ids)}" if first.child_ids else ""
        self.world.note(f"users: submit {count} jobs{links}")
        self._ask(m.SubmitJobs(jobs))

    def _submit_row(self) -> None:
        """Equal plain jobs: nodes are given them ahead once they are known to be short."""
        count = self.world.random.randint(8, 24)
        self.world.note(f"users: submit a row of {count} jobs")
        job = m.NewJob(JobSpec(name="row", command="work", cpus=1), where="a row", tries_left=0)
        self._ask(m.SubmitJobs((job,) * count))

    def _new_job(self, index: int, count: int) -> m.NewJob:
        random = self.world.random
        parents: dict[int, None] = {}
        for _ in range(random.choice((0, 1, 1, 2))):
            # Mostly earlier ones, as in a nested document; a later one may close a cycle.
            among = count if random.random() < 0.05 else index
            if among and (parent := random.randrange(among)) != index:
                parents[parent] = None
        late = self._known and index == 0
        hosts_min = random.choice((1, 1, 1, 1, 2, 3))
        return m.NewJob(
            self._spec(index, hosts_min),
            where=f"job {index}",
            priority=random.choice((0, 0, 0, 5)),
            tries_left=random.choice((0, 0, 1, 2)),
            parents=tuple(parents),
            parent_ids=self._some_jobs()[:2] if late and random.random() < 0.3 else (),
            child_ids=self._some_jobs()[:2] if late and random.random() < 0.15 else (),
        )

    def _spec(self, index: int, hosts_min: int) -> JobSpec:
        random = self.world.random
        command = random.choice(
            ("work", "work", "work", "", {"linux": "work"}, {"windows": "work"})
        )
        script = random.choice(("", "", "script"))
        return JobSpec(
            name=f"job {index}",
            command=command,
            cpus=random.choice((0, 1, 1, 1, 2, 3)),
            tags=random.choice(((), (), (), ("single",), ("single:1",), ("excludeProgress",))),
            conditions=random.choice(((), (), (), (), self._conditions())),
            min_hosts=hosts_min,
            max_hosts=hosts_min + random.choice((0, 0, 1)),
            resources=random.choice(({}, {}, {}, {random.choice(RESOURCES): random.randint(1, 2)})),
            max_time_ms=random.choice((None, None, None, 3_000)),
            on_cancel=script,
            on_error=random.choice(("", script)),
            on_success=random.choice(("", script)),
            on_child_error=random.choice(("", "", "script")),
            cleanup=random.choice(("", script)),
        )

    def _conditions(self) -> tuple[Condition, ...]:
        random = self.world.random
        name = random.choice(self.world.machines).name
        if random.random() < 0.3:
            return (Condition("group", random.choice(("==", "!=")), random.choice(GROUPS)),)
        return (
            Condition("hostname", random.choice(("==", "!=", "in")), name),
            *((Condition("os", "==", "linux"),) if random.random() < 0.3 else ()),
        )


def marks(ids: tuple[JobId, ...] | list[JobId]) -> str:
    return " ".join(f"#{job}" for job in ids)

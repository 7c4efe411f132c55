"""What holds of any farm, whatever is asked of it.

The roll-ups of random graphs equal a count from scratch; random histories break no invariant,
give the same outcome twice, survive a restart at any moment, and leave no job waiting that
`explain` cannot explain. The simulator in `tests/sim` does this with machines, links and a store.
"""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from play import Play

from roost.core import messages as m
from roost.core.explanation import explain
from roost.core.lifecycle import FINAL, FINISHED
from roost.core.records import AttemptCause, Condition, Job, JobId, JobSpec, JobStatus, Moment
from roost.core.tree import Tally, Tree, share_of
from roost.errors import Refused

S = JobStatus

# --- trees --------------------------------------------------------------------------------------

COUNT = 9
CONDITIONS: tuple[tuple[Condition, ...], ...] = (
    (),
    (),
    (Condition("group", "==", "g"),),
    (Condition("group", "!=", "g"),),
    (Condition("hostname", "in", "a,b"),),
)


def made(number: int, random: Random) -> Job:
    tags = random.choice(((), (), ("excludeProgress",)))
    spec = JobSpec(f"job {number}", command=random.choice(("", "x")), tags=tags)
    status = random.choice([s for s in S if s not in (S.WAITING, S.EJECTED)])
    return Job(JobId(number), spec, status, Moment(0), progress=random.randint(0, 1_000_000))


def recounted(tree: Tree, parent: JobId) -> tuple[object, ...]:
    tally = Tally()
    for job in tree.descendants(parent):
        tally.add(share_of(tree.jobs[job], job in tree.children))
        tally.add_nodes(tree.assigned.get(job, ()))
    children = [tree.jobs[child] for child in tree.children[parent]]
    tally.children_open = sum(child.status not in FINAL for child in children)
    tally.children_failed = sum(child.status in (S.FAILED, S.CANCELLED) for child in children)
    return tally.as_tuple()


def in_order(edge: tuple[int, int]) -> tuple[JobId, JobId]:
    return JobId(min(edge)), JobId(max(edge))


@settings(max_examples=60, deadline=None)
@given(
    edges=st.lists(st.tuples(st.integers(1, COUNT), st.integers(1, COUNT)), max_size=20),
    seed=st.integers(0, 1 << 32),
)
def test_tallies_equal_a_recount_after_every_change(
    edges: list[tuple[int, int]], seed: int
) -> None:
    random = Random(seed)
    jobs = {JobId(number): made(number, random) for number in range(1, COUNT + 1)}
    tree = Tree(jobs)

    def agree() -> None:
        tree.settle()
        assert set(tree.tallies) == set(tree.children)
        for parent, tally in tree.tallies.items():
            assert tally.as_tuple() == recounted(tree, parent)
            is_shared = any(len(tree.parents[job]) > 1 for job in tree.descendants(parent))
            assert tally.shared or not is_shared

    pairs = [pair for pair in dict.fromkeys(map(in_order, edges)) if pair[0] != pair[1]]
    parents: dict[JobId, tuple[JobId, ...]] = {}
    while pairs:
        some = random.randint(1, len(pairs))
        tree.link_pairs(pairs[:some])
        agree()
        for parent, child in pairs[:some]:
            parents[child] = (*parents.get(child, ()), parent)
        assert tree.parents == parents
        del pairs[:some]
    for _ in range(6):
        old = jobs[JobId(random.randint(1, COUNT))]
        new = msgspec.structs.replace(made(old.id, random), spec=old.spec)
        jobs[old.id] = new
        tree.job_changed(old, new)
        tree.set_assigned(old.id, random.choice(((), (1,), (1, 2))))  # type: ignore[arg-type]
        if random.random() < 0.5:
            agree()  # or else the next change rises together with this one
    while jobs:
        doomed = random.sample(sorted(jobs), random.randint(1, min(3, len(jobs))))
        tree.remove(doomed)
        for job in doomed:
            del jobs[job]
        agree()


# --- histories ----------------------------------------------------------------------------------


class History:
    """A seed's worth of messages to a farm, with three nodes that report what they please, and
    people who change groups, conditions and resources beneath what waits and runs."""

    def __init__(self, seed: int, steps: int, *, restarting: bool = False) -> None:
        self.random = Random(seed)
        self.play = Play(
            active_timeout_ms=5_000,
            requeue_after_gone_ms=self.random.choice((0, 3_000)),
            max_failures_per_client=self.random.choice((0, 1)),
            expire_after_ms=1_000,
        )
        self.log: list[object] = []
        self.undo: list[m.Command] = []
        """What takes back what people did."""
        for _ in range(steps):
            self._step()
            if restarting and self.random.random() < 0.1:
                self.play.later(ms=1)  # what was not saved yet is
                self.play.restarts()
        self.play.later(ms=1)

    def _step(self) -> None:
        play, random = self.play, self.random
        play.in_batch = random.random() < 0.3
        play.now = Moment(play.now + random.choice((0, 1, 10, 500)))
        try:
            kinds = (
                self._submit,
                self._command,
                self._node,
                self._report,
                self._report,
                self._edit,
            )
            random.choice(kinds)()
            self.log.append([play.effects, [(j, s.value) for j, s in self._statuses()]])
        except Refused as refusal:
            self.log.append(str(refusal))

    def _statuses(self) -> list[tuple[int, JobStatus]]:
        return [(job.id, job.status) for job in self.play.farm.jobs.values()]

    def _some(self) -> tuple[JobId, ...]:
        known = list(self.play.records)[-15:] or [JobId(1)]
        return tuple(self.random.choice(known) for _ in range(self.random.randint(1, 3)))

    def _submit(self) -> None:
        random = self.random
        count = random.randint(1, 5)
        late = self._some()
        self.play.revive(*late)
        jobs = []
        for index in range(count):
            hosts = random.choice((1, 1, 1, 2, 3))
            spec = JobSpec(
                f"job {index}",
                command=random.choice(("x", "x", "")),
                cpus=random.choice((0, 1, 2)),
                tags=random.choice(((), (), ("single",), ("single:1",))),
                min_hosts=hosts,
                max_hosts=hosts + random.choice((0, 1)),
                conditions=random.choice(CONDITIONS),
                resources=random.choice(({}, {}, {"a": 1}, {"b": 2}, {"a": 2, "b": 1})),
                on_child_error=random.choice(("", "report")),
            )
            jobs.append(
                m.NewJob(
                    spec,
                    f"job {index}",
                    priority=random.choice((0, 0, 5)),
                    tries_left=random.choice((0, 1)),
                    parents=(random.randrange(index),) if index else (),
                    parent_ids=late[:1] if not index and random.random() < 0.4 else (),
                    child_ids=late[1:] if not index and random.random() < 0.2 else (),
                )
            )
        self.play.send(m.SubmitJobs(tuple(jobs)))

    def _command(self) -> None:
        play, random, ids = self.play, self.random, self._some()
        if random.random() < 0.7:
            kinds = (play.cancel, play.pause, play.resume, play.reschedule, play.delete, play.eject)
            random.choice(kinds)(*ids)
            return
        play.revive(*ids)
        commands: tuple[m.Command, ...] = (
            m.ExpireJobs(ids),
            m.SetPriority(ids, random.randint(-1, 9)),
            m.SetPriorities(tuple((job, random.randint(0, 9)) for job in dict.fromkeys(ids))),
            m.SetBlockedWarning(ids[0], random.random() < 0.5),
            m.PauseJobs(ids, alone=True),
            m.ResumeJobs(ids, alone=True),
            m.SetAttributes(ids[0], {random.choice("XY"): str(random.randint(0, 9))}),
            m.AddNote("odd", job=ids[0]),
            *self.undo[-3:],
        )
        self._ask(random.choice(commands))

    def _ask(self, command: m.Command) -> None:
        reply = self.play.send(command)
        if isinstance(reply, m.Inverse):
            self.undo.append(reply)

    def _node(self) -> None:
        play, name = self.play, self.random.choice("abc")
        if name in play.node_ids and self.random.random() < 0.4:
            play.disconnects(name)
        elif name in play.node_ids and self.random.random() < 0.2:
            node = play.node_ids[name]
            leaves: tuple[m.Message, ...] = (m.NodeLeft(node), m.RemoveNodes((node,)))
            disabled = m.SetNodesDisabled((node,), self.random.random() < 0.5)
            play.send(self.random.choice((*leaves, disabled)))
        elif name in play.node_ids and self.random.random() < 0.2:
            keys = [key for key in play.farm.attempts if self.random.random() < 0.7]
            progress = [(*key, self.random.randint(0, 1_000_000)) for key in keys]
            play.beats(name, *progress, idle=self.random.choice((-1, 0, 20)))
        elif name in play.farm.node_names and self.random.random() < 0.1:
            play.rules(name, *self.random.choice(((), ("idle 10",), ("22:00-06:00",), ("any",))))
        elif self.random.random() < 0.1:
            play.later(ms=self.random.choice((5_000, 9_000)))
        else:
            held = [
                (*key, self.random.choice(("running", "paused", "ended")))
                for key, attempt in play.farm.attempts.items()
                if attempt.nodes[0] == play.node_ids.get(name) and self.random.random() < 0.9
            ]
            held += [
                (*attempt.key, "running", self.random.choice((-1, 0, 1, 2)))
                for attempt in list(play.attempts.values())[-12:]
                if attempt.ended_at and attempt.nodes[0] == play.node_ids.get(name)
                if self.random.random() < 0.3
            ]
            installation = self.random.choice((name, name, f"{name} anew"))
            cpus = self.random.choice((2, 2, 4, 1))
            play.joins(name, cpus=cpus, installation=installation, held=held)

    def _edit(self) -> None:
        play, random = self.play, self.random
        name = random.choice("ab")
        job = self._some()[0]
        kind = random.randint(0, 3)
        if kind == 0:
            play.send(m.SetResource(name, random.choice((None, 0, 1, 2, 3)), random.random() < 0.3))
        elif kind == 1 and random.random() < 0.3:
            play.send(m.RemoveResource(name))
        elif kind == 2 and (group := play.farm.groups.get("g")):
            nodes = [node for node in play.node_ids.values() if random.random() < 0.5]
            known = tuple(node for node in nodes if node in play.farm.nodes)
            commands: tuple[m.Command, ...] = (
                m.SetGroupNodes(group.id, known),
                m.AddToGroup(group.id, known),
                m.RemoveFromGroup(group.id, known),
                m.DeleteGroup(group.id),
                *(m.SetNodeGroups(node, (group.id,) * random.randint(0, 1)) for node in known),
            )
            self._ask(random.choice(commands))
        elif kind == 2:
            play.send(m.CreateGroup("g"))
        elif job in play.farm.jobs:
            play.send(m.SetConditions(job, random.choice(CONDITIONS)))

    def _report(self) -> None:
        if not (running := list(self.play.attempts.values())[-12:]):
            return
        attempt = self.random.choice(running)
        key = attempt.key
        report: m.AttemptReport = self.random.choice(
            (
                m.AttemptStarted(*key),
                m.AttemptPaused(*key),
                m.AttemptResumed(*key),
                m.AttemptEnded(*key, AttemptCause.EXITED, self.random.choice((0, 1))),
                m.AttemptEnded(*key, self.random.choice(list(AttemptCause))),
                m.EntryReported(*key, self.random.randint(1, 9), "ulog", "a line"),
            )
        )
        self.play.send(m.NodeReported(attempt.nodes[0], report))


@pytest.mark.parametrize("seed", range(6))
def test_a_waiting_job_is_explained_and_only_a_waiting_job(seed: int) -> None:
    play = History(seed, 80).play
    while play.farm.floor.has_work:
        play.later(ms=1)
    for job in play.farm.jobs.values():
        is_waiting = job.status in (S.QUEUED, S.RUNNABLE, S.PAUSED)
        assert bool(explain(play.farm, [job.id])[job.id]) == is_waiting, job


@pytest.mark.parametrize("seed", range(40, 60))
def test_what_people_paused_does_not_run_until_they_say_so_or_its_node_is_lost(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, held = Play.send, frozenset({S.PAUSING, S.PAUSED})
    may_follow = held | FINISHED
    say_so = (m.ResumeJobs, m.EjectJobs, m.RescheduleJobs)

    def watched(play: Play, message: m.Message) -> object:
        paused = [job.id for job in play.farm.jobs.values() if job.status in held]
        reply = send(play, message)
        left = [play.farm.jobs[job] for job in paused if job in play.farm.jobs]
        if not isinstance(message, say_so):
            assert all(job.status in may_follow for job in left), (message, left)
        return reply

    monkeypatch.setattr(Play, "send", watched)
    History(seed, 80)


@pytest.mark.parametrize("seed", range(12))
def test_jobs_explained_together_are_told_what_each_is_told_alone(seed: int) -> None:
    farm = History(seed, 60).play.farm
    alone = {job: explain(farm, [job])[job] for job in farm.jobs}
    assert explain(farm, farm.jobs) == alone


@pytest.mark.parametrize("seed", range(6, 10))
def test_the_same_messages_give_the_same_outcome(seed: int) -> None:
    encode = msgspec.json.encode
    assert encode(History(seed, 60).log) == encode(History(seed, 60).log)


@pytest.mark.parametrize("seed", range(10, 16))
def test_a_server_may_start_anew_at_any_moment(seed: int) -> None:
    # `Play` checks the whole state after each message, also after those to the loaded farm.
    History(seed, 80, restarting=True)

"""The plan, given events, seen through its actions. No process, no clock."""

from itertools import count

import msgspec
import pytest

from roost.agent import plan
from roost.agent.plan import (
    DrainOutput,
    Forget,
    KeeperJoined,
    KeptRun,
    Leaving,
    Limits,
    OrderReceived,
    OutputSent,
    Plan,
    ReportsSaved,
    RunEnded,
    RunSignalled,
    RunStarted,
    RunWithdrawn,
    SendReport,
    SignalReceived,
    SignalRun,
    StartRun,
    TimePassed,
    Unwanted,
    Welcomed,
    WithdrawRun,
)
from roost.core import attributes
from roost.core.messages import (
    AttemptEnded,
    AttemptOrder,
    AttemptPaused,
    AttemptResumed,
    AttemptStarted,
    EntryReported,
    HeldAttempt,
)
from roost.core.records import AttemptCause

SCRIPTS = {
    "on_cancel": "c",
    "on_error": "e",
    "on_success": "s",
    "cleanup": "u",
}


class Play:
    """A plan, a moment, and everything it has asked for."""

    def __init__(self, limits: Limits = Limits(100, 200, 1_000)) -> None:  # noqa: B008
        self.plan = Plan(limits=limits)
        self.now = 1_000
        self.notes: dict[plan.RunKey, str] = {}
        self.actions: list[plan.Action] = []

    def tell(self, event: plan.Event) -> list[plan.Action]:
        self.actions = self.plan.handle(event, self.now)
        for action in self.actions:
            if isinstance(action, StartRun | plan.KeepNote):
                self.notes[action.run] = action.note
        return [a for a in self.actions if not isinstance(a, plan.KeepNote)]

    def order(self, job: int = 1, number: int = 1, **more: object) -> list[plan.Action]:
        more = {"command": "x", **more}
        return self.tell(OrderReceived(AttemptOrder(job, number, "", environment={}, **more)))

    def signal(self, action: str, job: int = 1, number: int = 1) -> list[plan.Action]:
        return self.tell(SignalReceived(job, number, action))

    def started(self, purpose: str = "command", job: int = 1, number: int = 1):
        return self.tell(RunStarted((job, number, purpose), self.now))

    def ended(self, exit_code: int | None = 0, purpose: str = "command", text: str = "", **key):
        run = (key.get("job", 1), key.get("number", 1), purpose)
        return self.tell(RunEnded(run, self.now, exit_code, text))

    def runs_through(self, exit_code: int | None = 0, text: str = "") -> list[str]:
        """Ends the run under way and then every script; returns the purposes of the scripts."""
        purposes = []
        actions = self.ended(exit_code, text=text)
        while starts := [action for action in actions if isinstance(action, StartRun)]:
            purposes.append(starts[0].run[2])
            self.started(purposes[-1])
            actions = self.ended(9, purposes[-1])
        assert actions[-1] == DrainOutput((1, 1))
        return purposes

    def end_report(self, job: int = 1, number: int = 1) -> AttemptEnded:
        [sent] = self.tell(OutputSent((job, number), 500))
        assert isinstance(sent, SendReport) and isinstance(sent.report, AttemptEnded)
        return sent.report

    def reports(self) -> list[object]:
        return [action.report for action in self.actions if isinstance(action, SendReport)]


@pytest.fixture
def play() -> Play:
    return Play()


@pytest.fixture
def running(play: Play) -> Play:
    play.order(**SCRIPTS)
    play.started()
    return play


def test_what_is_over_at_once_is_reported_once(play):
    play.order()
    run = (1, 1, "command")
    assert play.tell(RunEnded(run, play.now + 5, 3, started_at=play.now)) == [DrainOutput((1, 1))]
    report = play.end_report()
    assert report == AttemptEnded(1, 1, AttemptCause.EXITED, 3, "", 5, 500, started=True)
    assert play.tell(ReportsSaved(1)) == [Forget((1, 1), (run,))]


def test_what_was_to_be_taken_back_and_is_over_at_once_is_cancelled_with_its_scripts(play):
    play.order(**SCRIPTS)
    play.signal("cancel")
    run = (1, 1, "command")
    [start] = play.tell(RunEnded(run, play.now + 5, 0, started_at=play.now))
    assert start.run[2] == "on_cancel"


def test_an_attempt_from_order_to_oblivion(play):
    [start] = play.order()
    assert start.run == (1, 1, "command")
    assert play.started() == [SendReport(1, AttemptStarted(1, 1))]
    play.now += 70
    assert play.ended(3) == [DrainOutput((1, 1))]
    report = play.end_report()
    assert report == AttemptEnded(1, 1, AttemptCause.EXITED, 3, "", 70, 500, started=True)
    assert play.tell(ReportsSaved(1)) == []
    assert not play.plan.idle
    assert play.tell(ReportsSaved(2)) == [Forget((1, 1), ((1, 1, "command"),))]
    assert play.plan.idle


@pytest.mark.parametrize(
    ("exit_code", "text", "last_try", "cause", "scripts"),
    [
        (0, "", True, AttemptCause.EXITED, ["on_success", "cleanup"]),
        (1, "", True, AttemptCause.EXITED, ["on_error", "cleanup"]),
        (-9, "", True, AttemptCause.EXITED, ["on_error", "cleanup"]),
        (1, "", False, AttemptCause.EXITED, ["cleanup"]),
        (None, "no shell", True, AttemptCause.NOT_STARTED, ["on_error", "cleanup"]),
        (None, "", True, AttemptCause.LOST, []),
    ],
)
def test_scripts_follow_the_command(play, exit_code, text, last_try, cause, scripts):
    play.order(**SCRIPTS, last_try=last_try)
    if not text:
        play.started()
    assert play.runs_through(exit_code, text) == scripts
    report = play.end_report()
    assert (report.cause, report.exit_code) == (cause, exit_code)


@pytest.mark.parametrize(
    ("action", "cause", "scripts"),
    [
        ("cancel", AttemptCause.CANCELLED, ["on_cancel", "cleanup"]),
        ("eject", AttemptCause.EJECTED, []),
    ],
)
def test_stopping(running, action, cause, scripts):
    assert running.signal(action) == [SignalRun((1, 1, "command"), "interrupt")]
    assert running.runs_through(-2) == scripts
    assert running.end_report().cause is cause


def test_escalation(running):
    run = (1, 1, "command")
    running.signal("cancel")
    for wait, signal in ((100, "terminate"), (200, "kill")):
        running.now += wait - 1
        assert running.tell(TimePassed()) == []
        running.now += 1
        assert running.plan.next_deadline() == running.now
        assert running.tell(TimePassed()) == [SignalRun(run, signal)]
    assert running.plan.next_deadline() is None


def test_repeated_cancel_changes_nothing(running):
    running.signal("cancel")
    assert running.signal("cancel") == []
    running.ended(-2)
    assert running.signal("cancel") == [], "onCancel goes on"


def test_cancel_outranks_eject_but_not_the_other_way(running):
    running.signal("eject")
    running.signal("cancel")
    running.signal("eject")
    assert running.runs_through(-2) == ["on_cancel", "cleanup"]
    assert running.end_report().cause is AttemptCause.CANCELLED


def test_cancel_while_a_script_runs_stops_the_script(running):
    running.ended(0)
    running.started("on_success")
    assert running.signal("cancel") == [SignalRun((1, 1, "on_success"), "interrupt")]
    [start] = running.ended(-2, "on_success")
    assert start.run[2] == "on_cancel"


def test_cancel_before_anything_ran_runs_no_scripts(play):
    play.order(**SCRIPTS)
    play.signal("cancel")
    assert play.runs_through(None, "no shell") == []
    assert play.end_report().cause is AttemptCause.CANCELLED


def test_kill_is_at_once_and_nothing_but_the_end_is_reported(running):
    assert running.signal("kill") == [SignalRun((1, 1, "command"), "kill")]
    assert running.plan.unsaved == []
    forget, report = running.ended(-9)[-2:]
    assert forget == Forget((1, 1), ((1, 1, "command"),))
    assert report.report == AttemptEnded(1, 1, AttemptCause.FENCED)
    running.tell(ReportsSaved(report.number))
    assert running.plan.idle


def test_what_is_killed_is_held_until_it_is_gone(running):
    running.signal("kill")
    assert running.plan.held() == (HeldAttempt(1, 1, "running", 1),)
    running.ended(-9)
    assert running.plan.held() == ()


def test_a_server_that_refuses_an_agent_is_not_told_what_was_killed_there(running):
    running.tell(Unwanted())
    running.ended(-9)
    assert running.plan.idle


def test_pause_and_resume_are_reported_when_they_have_happened(running):
    run = (1, 1, "command")
    assert running.signal("pause") == [SignalRun(run, "stop")]
    assert running.tell(RunSignalled(run, "stop")) == [SendReport(2, AttemptPaused(1, 1))]
    assert running.plan.held() == (HeldAttempt(1, 1, "paused", 1),)
    running.signal("pause")
    assert running.reports() == [AttemptPaused(1, 1)]
    assert running.signal("resume") == [SignalRun(run, "continue")]
    assert running.tell(RunSignalled(run, "continue")) == [SendReport(4, AttemptResumed(1, 1))]


def test_a_paused_attempt_is_continued_to_hear_the_interrupt(running):
    run = (1, 1, "command")
    running.signal("pause")
    assert running.signal("cancel") == [SignalRun(run, "interrupt"), SignalRun(run, "continue")]


def test_time_limit_does_not_count_pauses(play):
    play.order(max_time_ms=1_000, on_cancel="c")
    play.started()
    play.now += 600
    play.signal("pause")
    assert play.plan.next_deadline() is None
    play.now += 5_000
    play.signal("resume")
    assert play.plan.next_deadline() == play.now + 400
    play.now += 400
    assert play.tell(TimePassed()) == [SignalRun((1, 1, "command"), "interrupt")]
    assert play.runs_through(-2) == ["on_cancel"]
    report = play.end_report()
    assert (report.cause, report.ran_ms) == (AttemptCause.TIME_LIMIT, 1_000)


def test_a_script_has_a_time_limit_and_does_not_change_the_result(running):
    running.ended(0)
    running.started("on_success")
    running.now += 1_000
    assert running.tell(TimePassed()) == [SignalRun((1, 1, "on_success"), "interrupt")]
    running.ended(-2, "on_success")
    running.ended(0, "cleanup")
    assert running.end_report().cause is AttemptCause.EXITED


def test_a_repeated_order_is_answered_with_the_present_state(running):
    assert running.order(**SCRIPTS) == [SendReport(2, AttemptStarted(1, 1))]
    running.signal("pause")
    running.order(**SCRIPTS)
    assert running.reports() == [AttemptStarted(1, 1), AttemptPaused(1, 1)]


def test_an_order_for_an_older_attempt_is_ignored(play):
    play.order(number=2)
    assert play.order(number=1) == []


def test_a_newer_attempt_waits_until_the_older_one_is_gone(running):
    assert running.order(number=2) == [SignalRun((1, 1, "command"), "kill")]
    assert running.order(number=2) == []
    assert running.ended(-9)[-1].run == (1, 2, "command")


def test_an_attempt_that_waits_can_be_cancelled(running):
    running.order(number=2)
    running.signal("cancel", number=2)
    [report] = running.reports()
    assert (report.number, report.cause) == (2, AttemptCause.CANCELLED)
    assert not any(isinstance(action, StartRun) for action in running.ended(-9))


@pytest.mark.parametrize("action", ["cancel", "eject", "pause", "resume"])
def test_a_signal_for_what_is_not_here_is_answered(play, action):
    play.signal(action)
    [report] = play.reports()
    assert report.cause is AttemptCause.LOST


def test_kill_for_what_is_not_here_is_not_answered(play):
    assert play.signal("kill") == []


def test_what_has_been_forgotten_is_not_started_again(play):
    play.order()
    play.started()
    play.ended()
    play.end_report()
    play.tell(ReportsSaved(2))
    play.order()
    [report] = play.reports()
    assert report.cause is AttemptCause.LOST


def test_after_a_break_the_end_follows_the_rest_of_the_output_again(running):
    running.order(2)
    running.ended(0, job=2)
    running.end_report(2)
    actions = running.tell(Welcomed(frozenset({(1, 1), (2, 1)})))
    assert actions == [SendReport(1, AttemptStarted(1, 1)), DrainOutput((2, 1))]
    [sent] = running.tell(OutputSent((2, 1)))
    assert sent.number == 3


def test_after_a_break_what_is_not_wanted_goes(running):
    running.order(2)
    running.ended(0, job=2)
    actions = running.tell(Welcomed(frozenset()))
    assert SignalRun((1, 1, "command"), "kill") in actions
    assert Forget((2, 1), ((2, 1, "command"),)) in actions


def test_nothing_is_wanted_any_more(running):
    assert running.tell(Unwanted()) == [SignalRun((1, 1, "command"), "kill")]


def test_leaving_cancels_what_is_paused_and_takes_nothing_new(running):
    running.order(2)
    running.started(job=2)
    running.signal("pause", 2)
    actions = running.tell(Leaving())
    assert actions[0] == SignalRun((2, 1, "command"), "interrupt")
    assert all(action.run[0] == 2 for action in actions)
    running.order(3)
    [report] = running.reports()
    assert (report.job, report.cause) == (3, AttemptCause.EJECTED)


# --- restarts ---------------------------------------------------------------------------------


def returned(play: Play, *runs: tuple[plan.RunKey, RunEnded | None]) -> Play:
    """A new agent, told by the keeper of these runs."""
    after = Play()
    after.now = play.now
    after.notes = play.notes
    kept = [KeptRun(run, play.notes[run], 1_000, ended) for run, ended in runs]
    after.tell(KeeperJoined(tuple(kept)))
    return after


def test_a_new_agent_goes_on_with_what_runs(running):
    after = returned(running, ((1, 1, "command"), None))
    assert after.plan.held() == (HeldAttempt(1, 1, "running", 1),)
    assert after.runs_through(0) == ["on_success", "cleanup"]


def test_a_new_agent_goes_on_after_what_has_ended(running):
    run = (1, 1, "command")
    after = returned(running, (run, RunEnded(run, 2_000, 7)))
    assert [a.run[2] for a in after.actions if isinstance(a, StartRun)] == ["on_error"]
    after.ended(0, "on_error")
    after.ended(0, "cleanup")
    report = after.end_report()
    assert (report.exit_code, report.cause) == (7, AttemptCause.EXITED)


def test_a_new_agent_knows_the_result_when_a_script_runs(running):
    running.ended(7)
    run = (1, 1, "on_error")
    after = returned(running, ((1, 1, "command"), None), (run, RunEnded(run, 2_000, 0)))
    assert [a.run[2] for a in after.actions if isinstance(a, StartRun)] == ["cleanup"]


def test_a_new_agent_goes_on_cancelling(running):
    running.signal("cancel")
    after = returned(running, ((1, 1, "command"), None))
    assert SignalRun((1, 1, "command"), "interrupt") in after.actions
    assert after.plan.next_deadline() is not None
    assert after.runs_through(-2) == ["on_cancel", "cleanup"]
    assert after.end_report().cause is AttemptCause.CANCELLED


def test_a_new_agent_keeps_what_is_paused(running):
    running.signal("pause")
    after = returned(running, ((1, 1, "command"), None))
    assert after.plan.held() == (HeldAttempt(1, 1, "paused", 1),)


def test_a_new_keeper_gets_the_starts_that_the_old_one_never_got(running):
    running.order(2)
    [start] = running.tell(KeeperJoined((KeptRun((1, 1, "command"), "", 1_000),)))
    assert start.run == (2, 1, "command")


def test_a_note_of_another_version_is_killed_and_no_result_reported(play):
    actions = play.tell(KeeperJoined((KeptRun((1, 1, "command"), "rubbish", 1_000),)))
    assert actions[0] == SignalRun((1, 1, "command"), "kill")
    play.tell(Welcomed(frozenset({(1, 1)})))
    play.ended(-9)
    assert play.reports() == [AttemptEnded(1, 1, AttemptCause.FENCED)]


def test_notes_are_small(play):
    play.order(**SCRIPTS)
    order = AttemptOrder(1, 1, "", "x", {}, **SCRIPTS)
    assert len(play.notes[1, 1, "command"]) < len(msgspec.json.encode(order)) + 60


def test_memory_of_the_forgotten_is_bounded(play, monkeypatch):
    monkeypatch.setattr(plan, "FORGOTTEN_MAX", 10)
    play.order(1)
    numbers = count(1)
    for job in range(2, 100):
        play.order(job)
        play.ended(job=job)
        play.end_report(job)
        play.tell(ReportsSaved(next(numbers)))
    assert len(play.plan._latest) <= 12
    assert play.plan._latest[1] == 1, "what is here is never forgotten"


# --- handed over and not started yet ----------------------------------------------------------


@pytest.fixture
def ahead() -> Play:
    """Job 1 runs, job 2 is with the keeper."""
    play = Play()
    play.order(1)
    play.started(job=1)
    play.order(2, **SCRIPTS)
    return play


def withdrawn(play: Play, job: int = 2) -> list[plan.Action]:
    return play.tell(RunWithdrawn((job, 1, "command")))


@pytest.mark.parametrize(
    ("action", "cause"),
    [
        ("cancel", AttemptCause.CANCELLED),
        ("eject", AttemptCause.EJECTED),
        ("pause", AttemptCause.EJECTED),
        ("recall", AttemptCause.EJECTED),
    ],
)
def test_what_has_not_started_is_given_back(ahead: Play, action: str, cause: AttemptCause):
    assert ahead.signal(action, job=2) == [WithdrawRun((2, 1, "command"))]
    assert DrainOutput((2, 1)) in withdrawn(ahead)
    assert ahead.end_report(2).cause is cause
    assert ahead.plan.ahead == set()


@pytest.mark.parametrize(
    ("action", "after"),
    [
        ("cancel", [SignalRun((2, 1, "command"), "interrupt")]),
        ("eject", [SignalRun((2, 1, "command"), "interrupt")]),
        ("pause", [SignalRun((2, 1, "command"), "stop")]),
        ("recall", []),
    ],
)
def test_what_starts_before_it_is_withdrawn_is_signalled(ahead: Play, action: str, after):
    ahead.signal(action, job=2)
    assert ahead.started(job=2) == [SendReport(2, AttemptStarted(2, 1)), *after]


def test_a_cancel_follows_a_recall_but_nothing_follows_a_cancel(ahead: Play):
    ahead.signal("recall", job=2)
    assert ahead.signal("cancel", job=2) == [WithdrawRun((2, 1, "command"))]
    assert ahead.signal("eject", job=2) == []
    withdrawn(ahead)
    assert ahead.end_report(2).cause is AttemptCause.CANCELLED


def test_what_is_killed_before_it_starts_is_withdrawn_and_its_end_reported(ahead: Play):
    run = (2, 1, "command")
    assert ahead.signal("kill", job=2) == [WithdrawRun(run), SignalRun(run, "kill")]
    assert Forget((2, 1), (run,)) in withdrawn(ahead)
    assert ahead.reports() == [AttemptEnded(2, 1, AttemptCause.FENCED)]


def test_a_recall_leaves_alone_what_has_started(ahead: Play):
    assert ahead.signal("recall", job=1) == []
    assert ahead.signal("recall", job=99) == []


def test_after_a_break_what_had_not_started_goes_on(ahead: Play):
    assert ahead.plan.held() == (HeldAttempt(1, 1, "running", 1), HeldAttempt(2, 1, "running", 1))
    ahead.tell(Welcomed(frozenset({(1, 1), (2, 1)})))
    assert ahead.started(job=2)[0].report == AttemptStarted(2, 1)


def test_leaving_gives_back_what_has_not_started(ahead: Play):
    assert WithdrawRun((2, 1, "command")) in ahead.tell(Leaving())
    withdrawn(ahead)
    assert ahead.end_report(2).text == "The node is leaving."


def test_what_was_being_withdrawn_is_not_handed_to_the_next_keeper(ahead: Play):
    ahead.signal("eject", job=2)
    actions = ahead.tell(KeeperJoined((KeptRun((1, 1, "command"), "", 1_000),)))
    assert not any(isinstance(action, StartRun) for action in actions)
    assert ahead.end_report(2).cause is AttemptCause.EJECTED


def test_what_was_forgotten_stays_forgotten_when_a_keeper_remembers_it(running: Play):
    note = running.notes[1, 1, "command"]
    running.runs_through()
    running.end_report()
    running.tell(ReportsSaved(2))
    run = (1, 1, "command")
    kept = KeptRun(run, note, 1_000, RunEnded(run, 1_000, 0))
    assert running.tell(KeeperJoined((kept,))) == [Forget((1, 1), (run,))]


def test_cpus_are_freed_by_the_end_of_the_run_or_after_the_last_script(play: Play):
    [start] = play.order(1, cpus=2)
    assert (start.cpus, start.frees) == (2, True)
    [start] = play.order(2, cpus=2, cleanup="u")
    assert (start.cpus, start.frees) == (2, False)
    [script] = play.ended(job=2)
    assert (script.cpus, script.frees) == (0, False)
    assert play.ended(0, "cleanup", job=2) == [plan.FreeCpus((2, 1)), DrainOutput((2, 1))]


def test_slots_are_used_again_the_lowest_first_and_never_twice(play: Play):
    slots = {job: play.order(job)[0].slot for job in range(1, 4)}
    assert list(slots.values()) == [0, 1, 2]
    for job in (3, 1):
        play.ended(job=job)
        play.end_report(job)
    play.tell(ReportsSaved(2))
    assert [play.order(job)[0].slot for job in (4, 5, 6)] == [0, 2, 3]


def test_a_new_agent_leaves_the_slots_that_are_in_use(running: Play):
    running.order(2)
    after = returned(running, ((2, 1, "command"), None))
    assert [after.order(job)[0].slot for job in (3, 4)] == [0, 2]


# --- lines for the story ----------------------------------------------------------------------


def write(play: Play, text: str, job: int = 1) -> list[object]:
    assert play.plan.may_write((job, 1))
    play.tell(plan.EntryWritten((job, 1), "ulog", text))
    return play.reports()


def test_lines_are_numbered_along_their_attempt_and_reported_before_its_end(running: Play):
    assert write(running, "a") == [EntryReported(1, 1, 1, "ulog", "a")]
    assert write(running, "b") == [EntryReported(1, 1, 2, "ulog", "b")]
    running.order(2)
    assert write(running, "c", job=2) == [EntryReported(2, 1, 1, "ulog", "c")]
    running.runs_through()
    running.end_report()
    assert not running.plan.may_write((1, 1))
    assert [type(r.report) for r in running.plan.unsaved] == [
        AttemptStarted, EntryReported, EntryReported, EntryReported, AttemptEnded,
    ]  # fmt: skip


def test_lines_that_are_not_saved_are_reported_again_as_they_were(running: Play):
    for text in "abc":
        write(running, text)
    running.tell(ReportsSaved(2))
    running.tell(Welcomed(frozenset({(1, 1)})))
    assert [(report.entry, report.text) for report in running.reports()] == [(2, "b"), (3, "c")]


def test_another_agent_never_uses_a_number_again(running: Play):
    write(running, "a")
    numbers = [1]
    for text in "bc":
        note = running.notes[(1, 1, "command")]
        running = Play()
        running.tell(KeeperJoined((KeptRun((1, 1, "command"), note, 1_000),)))
        [report] = write(running, text)
        numbers.append(report.entry)
    assert numbers == [1, plan.ENTRIES_OF_AGENT + 1, 2 * plan.ENTRIES_OF_AGENT + 1]


def test_a_run_that_floods_the_story_may_write_no_more(running: Play, monkeypatch):
    monkeypatch.setattr(attributes, "ENTRIES_MAX", 2)
    write(running, "a")
    write(running, "b")
    assert not running.plan.may_write((1, 1))


def test_nobody_is_told_what_an_unwanted_attempt_writes(running: Play):
    write(running, "a")
    running.tell(Unwanted())
    assert not running.plan.may_write((1, 1))
    assert running.plan.unsaved == []

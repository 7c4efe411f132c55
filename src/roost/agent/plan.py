"""The plan of an agent: what has happened to its attempts, and so what to do next.

Events go in with a moment, actions come out; the shell around it (`daemon`, or a simulator) does
them in order. An attempt is a row of *runs*, each one process tree: the command, then the scripts
of the job that apply. All of it is one `Course`, which travels as a note with every run, so that
the keeper can tell it to the next agent: after a restart the same events are replayed on it.

An order is handed to the keeper at once; the keeper starts it when CPUs are free, so that the next
job begins without a word between the two. Until then it can be *withdrawn*, if the keeper is quick
enough: what has started by then is signalled instead.

Every attempt has a *slot*, a small number: the place of its output file and its scratch folder,
which the next attempt uses again.

Lines that a job writes into its story are numbered along its attempt, and no number comes twice,
whichever agent leads it: so the server knows a line that is reported again.

What always holds: an attempt is started at most once and a job has at most one living attempt; no
two attempts have one slot; a script's exit status changes nothing; `AttemptEnded` is reported when
nothing of the attempt lives and all of its output has been sent; a report is kept until the server
has saved it; an attempt is forgotten when its end has been saved, or when nobody wants it.

Pure: no clock, no process, no file.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Literal, assert_never

import msgspec
from msgspec import Struct, field

from roost.core import attributes
from roost.core.messages import (
    AttemptEnded,
    AttemptOrder,
    AttemptPaused,
    AttemptReport,
    AttemptResumed,
    AttemptStarted,
    AttributesReported,
    EntryKind,
    EntryReported,
    HeldAttempt,
    SignalAction,
)
from roost.core.records import AttemptCause, AttemptKey, JobId, Moment

Purpose = Literal["command", "on_success", "on_error", "on_cancel", "on_child_error", "cleanup"]
SignalName = Literal["interrupt", "terminate", "kill", "stop", "continue"]
RunKey = tuple[JobId, int, Purpose]

ENTRIES_OF_AGENT = 1 << 32
"""An agent that takes an attempt over numbers its lines from the next multiple of this."""
FORGOTTEN_MAX = 4096
"""So many attempts are remembered by number alone, against orders that come late."""


class Limits(Struct, frozen=True):
    """How patient the plan is; milliseconds."""

    interrupt_ms: int = 5_000
    """Between the interrupt and the terminate signal."""
    terminate_ms: int = 5_000
    """Between the terminate and the kill signal."""
    script_ms_max: int = 600_000
    """A script that runs for longer is stopped; the result stays what it was."""


# --- events -----------------------------------------------------------------------------------


class OrderReceived(Struct, frozen=True):
    order: AttemptOrder


class SignalReceived(Struct, frozen=True):
    job: JobId
    number: int
    action: SignalAction


class RunStarted(Struct, frozen=True):
    run: RunKey
    at: Moment


class RunEnded(Struct, frozen=True):
    """`exit_code` is None with a text when it never ran, and without one when it was lost."""

    run: RunKey
    at: Moment
    exit_code: int | None = None
    text: str = ""
    started_at: Moment | None = None
    """When it started, if it was over before that was told."""


class RunWithdrawn(Struct, frozen=True):
    """It had not started, and will not."""

    run: RunKey


class RunSignalled(Struct, frozen=True):
    run: RunKey
    signal: SignalName


class OutputSent(Struct, frozen=True):
    """All output of an attempt has been handed to the link, as `DrainOutput` had asked."""

    key: AttemptKey
    progress: int = 0
    """The last progress it showed, in millionths."""


class AttributesSet(Struct, frozen=True):
    """What an attempt has set with delay since the last time."""

    key: AttemptKey
    attributes: tuple[tuple[str, str], ...]


class EntryWritten(Struct, frozen=True):
    """An attempt writes a line into its job's story, as it may (`may_write`)."""

    key: AttemptKey
    kind: EntryKind
    text: str


class ReportsSaved(Struct, frozen=True):
    through: int


class Welcomed(Struct, frozen=True):
    """The link is up again. `wanted`: which of the attempts in `held()` the server wants."""

    wanted: frozenset[AttemptKey]


class Unwanted(Struct, frozen=True):
    """The server wants nothing of what is here."""


class Leaving(Struct, frozen=True):
    """The agent was told to terminate: what is paused is cancelled, what runs may finish."""


class KeptRun(Struct, frozen=True):
    """What the keeper remembers of a run; `ended` is None while it lives."""

    run: RunKey
    note: str
    started_at: Moment | None = None
    ended: RunEnded | None = None


class KeeperJoined(Struct, frozen=True):
    """All runs of the keeper, in the order of their starts; those of an attempt in theirs."""

    runs: tuple[KeptRun, ...]


class TimePassed(Struct, frozen=True):
    """`next_deadline` has been reached. Too early does no harm."""


Event = (
    OrderReceived
    | SignalReceived
    | RunStarted
    | RunEnded
    | RunWithdrawn
    | RunSignalled
    | OutputSent
    | AttributesSet
    | EntryWritten
    | ReportsSaved
    | Welcomed
    | Unwanted
    | Leaving
    | KeeperJoined
    | TimePassed
)

# --- actions ----------------------------------------------------------------------------------


class StartRun(Struct, frozen=True):
    """Start the text that `order` has for this purpose, as soon as its CPUs are free, in the order
    of asking; a script of an attempt has them already. Repeated for a run that is known to the
    keeper it changes nothing."""

    run: RunKey
    order: AttemptOrder
    note: str
    slot: int
    cpus: int
    """0 for what follows the first run: the attempt has its CPUs by then."""
    frees: bool
    """Its end frees the CPUs; else `FreeCpus` does."""


class WithdrawRun(Struct, frozen=True):
    """Do not start it, and say so; if it has been started, do nothing."""

    run: RunKey


class FreeCpus(Struct, frozen=True):
    """No more runs of this attempt follow."""

    key: AttemptKey


class SignalRun(Struct, frozen=True):
    """`stop`, `continue` and `kill` are for all processes of the run, the others for its group."""

    run: RunKey
    signal: SignalName


class KeepNote(Struct, frozen=True):
    run: RunKey
    note: str


class DrainOutput(Struct, frozen=True):
    """Nothing more will be written: send what is left of the output, then say `OutputSent`."""

    key: AttemptKey


class SendReport(Struct, frozen=True):
    """Kept until the server says that it is saved."""

    number: int
    report: AttemptReport


class Forget(Struct, frozen=True):
    """The keeper may forget these runs of the attempt, and its slot is free."""

    key: AttemptKey
    runs: tuple[RunKey, ...]


Action = (
    StartRun | WithdrawRun | SignalRun | FreeCpus | KeepNote | DrainOutput | SendReport | Forget
)

# --- the state of an attempt ------------------------------------------------------------------


class Course(Struct, omit_defaults=True):
    """One attempt on its way. As JSON it is the note that the keeper holds."""

    order: AttemptOrder
    purpose: Purpose
    """What the run under way, or the last one, is for."""
    slot: int
    ahead: list[Purpose] = []
    """Scripts still to run after it."""
    done: list[Purpose] = []
    """Runs before it."""
    started_at: Moment | None = None
    """When its first run started; None before."""
    run_started_at: Moment | None = None
    run_ended: bool = False
    wish: SignalAction | None = None
    """It is being withdrawn for this; if it has started by then, this is done to it."""
    over: bool = False
    """Nothing runs and nothing will."""
    ended_at: Moment | None = None
    paused_since: Moment | None = None
    paused_ms: int = 0
    """How long earlier pauses took, all together."""
    stopping: AttemptCause | None = None
    """It was cancelled, ejected, or ran out of time: this becomes its cause."""
    step: SignalName | None = None
    """The last signal of the escalation that the present run was sent."""
    step_at: Moment | None = None
    cause: AttemptCause | None = None
    """Set when the command (or the onChildError script) has ended."""
    exit_code: int | None = None
    text: str = ""
    unwanted: bool = False
    """Killed: nobody wants to know more of it than when it is gone."""
    entries: int = 0
    """The number of the last line that it wrote into the story."""

    @property
    def key(self) -> AttemptKey:
        return (self.order.job, self.order.number)

    @property
    def run(self) -> RunKey:
        return (self.order.job, self.order.number, self.purpose)

    @property
    def is_ahead(self) -> bool:
        """Handed to the keeper, and as far as is known not started."""
        return not (self.started_at or self.done or self.run_ended or self.over)

    def note(self) -> str:
        return _encode(self).decode()

    def ran_ms(self, now: Moment) -> int:
        """Wall time since its start, without pauses."""
        if self.started_at is None:
            return 0
        end = self.paused_since if self.paused_since is not None else now
        return max(0, end - self.started_at - self.paused_ms)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Course).decode


class Plan(Struct):
    """All attempts of an agent. `handle` is the only way in."""

    limits: Limits = Limits()
    courses: dict[AttemptKey, Course] = field(default_factory=dict)
    waiting: dict[JobId, AttemptOrder] = field(default_factory=dict)
    """Orders that cannot be handed on yet: an older attempt of the job still lives here."""
    unsaved: list[SendReport] = field(default_factory=list)
    """Reports that the server has not saved, in order. Resent as they are after a break."""
    leaving: bool = False
    refused: bool = False
    """The server has not let this agent join, and keeps no room for what is killed here."""
    ahead: set[AttemptKey] = field(default_factory=set)
    """Those that are with the keeper and have not started yet."""
    _ends_told: set[AttemptKey] = field(default_factory=set)
    """Whose end is among the unsaved reports."""
    _slots: int = 0
    """How many there are, in use and free."""
    _slots_free: list[int] = field(default_factory=list)
    """A heap: the lowest is used again first, as its files are warm."""
    _latest: dict[JobId, int] = field(default_factory=dict)
    _reports: int = 0
    _actions: list[Action] = field(default_factory=list)

    # --- what the shell asks ------------------------------------------------------------------

    def handle(self, event: Event, now: Moment) -> list[Action]:
        """Take an event in; returns what is to be done about it, in order."""
        match event:
            case EntryWritten(key, kind, text):
                assert self.may_write(key)
                self.courses[key].entries += 1
                self._report(EntryReported(*key, self.courses[key].entries, kind, text))
            case OrderReceived(order):
                self._on_order(order)
            case SignalReceived(job, number, action):
                self._on_signal((job, number), action, now)
            case RunStarted(run, at):
                self._on_run_started(run, at, now)
            case RunEnded():
                self._on_run_ended(event, now)
            case RunWithdrawn(run):
                self._on_run_withdrawn(run, now)
            case RunSignalled(run, signal):
                self._on_run_signalled(run, signal)
            case OutputSent(key, progress):
                self._on_output_sent(key, progress)
            case AttributesSet(key, attributes):
                if key in self.courses and not self.courses[key].unwanted:
                    self._report(AttributesReported(*key, attributes))
            case ReportsSaved(through):
                self._on_reports_saved(through)
            case Welcomed(wanted):
                self._on_welcomed(wanted)
            case Unwanted():
                self.refused = True
                self.waiting.clear()
                for course in list(self.courses.values()):
                    self._discard(course)
            case Leaving():
                self._on_leaving(now)
            case KeeperJoined(runs):
                self._on_keeper_joined(runs, now)
            case TimePassed():
                self._on_time_passed(now)
            case _:
                assert_never(event)
        actions, self._actions = self._actions, []
        return actions

    def next_deadline(self) -> Moment | None:
        """When to send `TimePassed` at the latest."""
        moments = [
            self._deadline(course)
            for key, course in self.courses.items()
            if not (course.over or key in self.ahead)
        ]
        return min((moment for moment in moments if moment is not None), default=None)

    def held(self) -> tuple[HeldAttempt, ...]:
        """What to tell a server of, in `Hello`."""
        return tuple(
            HeldAttempt(*key, _state(course), 0 if course.over else course.order.cpus)
            for key, course in self.courses.items()
        )

    def may_write(self, key: AttemptKey) -> bool:
        """Whether an attempt may add another line to its job's story."""
        course = self.courses.get(key)
        if course is None or course.unwanted or key in self._ends_told:
            return False
        return course.entries % ENTRIES_OF_AGENT < attributes.ENTRIES_MAX

    @property
    def idle(self) -> bool:
        """Nothing is running here, nothing is to be reported."""
        return not self.courses and not self.waiting and not self.unsaved

    # --- orders and signals -------------------------------------------------------------------

    def _on_order(self, order: AttemptOrder) -> None:
        key = (order.job, order.number)
        known = self._latest.get(order.job, 0)
        course = self.courses.get(key)
        if course is not None:
            self._report_state(course)
        elif order.number < known or self.waiting.get(order.job) == order:
            return
        elif order.number == known:
            self._report(AttemptEnded(*key, AttemptCause.LOST, text="It has ended here before."))
        elif self.leaving:
            self._report_leaving(order)
        else:
            self._learn(key)
            living = self._living_of(order.job) if known else []
            for course in living:
                self._discard(course)
            if living:
                self.waiting[order.job] = order
            else:
                self._begin(order)

    def _living_of(self, job: JobId) -> list[Course]:
        return [c for c in self.courses.values() if c.order.job == job and not c.over]

    def _begin(self, order: AttemptOrder) -> None:
        alone = order.on_child_error and not order.command
        course = Course(order, "on_child_error" if alone else "command", self._take_slot())
        self.courses[course.key] = course
        self.ahead.add(course.key)
        self._start(course)

    def _start(self, course: Course) -> None:
        order = course.order
        cpus = 0 if course.done else order.cpus
        frees = _frees_cpus(order)
        note = course.note()
        self._actions.append(StartRun(course.run, order, note, course.slot, cpus, frees))

    def _take_slot(self) -> int:
        if self._slots_free:
            return heapq.heappop(self._slots_free)
        self._slots += 1
        return self._slots - 1

    def _on_signal(self, key: AttemptKey, action: SignalAction, now: Moment) -> None:
        waiting = self.waiting.get(key[0])
        if waiting is not None and waiting.number == key[1]:
            if action != "resume":
                del self.waiting[key[0]]
                if action != "kill":
                    cause = _CAUSES.get(action, AttemptCause.EJECTED)
                    self._report(AttemptEnded(*key, cause, text=self._not_started_text()))
            return
        course = self.courses.get(key)
        if course is not None and course.is_ahead and action != "kill":
            if action != "resume" and course.wish in (None, "recall"):
                self._withdraw(course, action)
            return
        if action == "recall":
            return  # it has started, or ended
        if course is None:
            if action != "kill":
                text = "The node does not have it."
                self._report(AttemptEnded(*key, AttemptCause.LOST, text=text))
            return
        if action == "kill":
            self._discard(course)
        elif course.over:
            return  # its end is on the way
        elif action == "pause":
            if course.paused_since is not None:
                self._report(AttemptPaused(*key))
            elif course.stopping is None:
                course.paused_since = now
                self._keep(course)
                self._actions.append(SignalRun(course.run, "stop"))
        elif action == "resume":
            if course.paused_since is None:
                self._report(AttemptResumed(*key))
            else:
                self._resume(course, now)
                self._keep(course)
        else:
            self._stop(course, _CAUSES[action], now)

    def _withdraw(self, course: Course, wish: SignalAction) -> None:
        course.wish = wish
        self._keep(course)
        self._actions.append(WithdrawRun(course.run))

    def _on_run_withdrawn(self, run: RunKey, now: Moment) -> None:
        course = self._course_of(run)
        if course is not None and course.is_ahead:
            course.cause = _CAUSES.get(course.wish or "", AttemptCause.EJECTED)
            course.text = self._not_started_text()
            self._finish(course, now)

    def _not_started_text(self) -> str:
        return "The node is leaving." if self.leaving else "It had not started yet."

    def _stop(self, course: Course, cause: AttemptCause, now: Moment) -> None:
        """Cancel outranks the others, as its script has to run; otherwise the first one counts."""
        if course.stopping is cause:
            return
        if course.stopping is not None and cause is not AttemptCause.CANCELLED:
            return
        if course.stopping is not None and course.step is None:
            return  # what runs is a script that belongs to the stopping itself
        course.stopping = cause
        if course.cause is not None:
            course.cause = cause  # the command had ended, a script of it was running
        course.ahead = self._scripts_after_stop(course)
        if course.step is None:
            self._escalate(course, "interrupt", now)
        self._keep(course)

    def _escalate(self, course: Course, signal: SignalName, now: Moment) -> None:
        course.step, course.step_at = signal, now
        self._actions.append(SignalRun(course.run, signal))
        if course.paused_since is not None:
            # A stopped process acts on no signal but the last.
            self._resume(course, now)

    def _resume(self, course: Course, now: Moment) -> None:
        if course.paused_since is not None:
            course.paused_ms += max(0, now - course.paused_since)
            course.paused_since = None
        self._actions.append(SignalRun(course.run, "continue"))

    def _discard(self, course: Course) -> None:
        """Nobody wants it: kill it if it lives, report when that is done, and forget it."""
        self._take_back_reports(course.key)
        if course.over:
            self._forget(course)
        elif not course.unwanted:
            course.unwanted = True
            self._keep(course)
            if course.is_ahead:
                self._actions.append(WithdrawRun(course.run))
            self._actions.append(SignalRun(course.run, "kill"))

    # --- runs ---------------------------------------------------------------------------------

    def _on_run_started(self, run: RunKey, at: Moment, now: Moment) -> None:
        course = self._course_of(run)
        if course is None or course.run_started_at is not None:
            return
        course.run_started_at = at
        if course.started_at is not None:
            return
        course.started_at = at
        self.ahead.discard(course.key)
        if course.unwanted:
            return
        self._report(AttemptStarted(*course.key))
        if course.wish is not None:
            self._on_signal(course.key, course.wish, now)

    def _on_run_ended(self, event: RunEnded, now: Moment) -> None:
        course = self._course_of(event.run)
        if course is None:
            return
        if course.is_ahead and course.stopping is None:
            course.stopping = _CAUSES.get(course.wish or "")
        if event.started_at is not None and course.run_started_at is None:
            course.run_started_at = event.started_at
            course.started_at = course.started_at or event.started_at
        course.run_ended = True
        self.ahead.discard(course.key)
        if course.paused_since is not None:
            course.paused_ms += max(0, event.at - course.paused_since)
            course.paused_since = None
        if course.cause is None:
            self._settle(course, event)
        if not course.unwanted and course.ahead:
            self._start_script(course)
        else:
            self._finish(course, event.at)

    def _settle(self, course: Course, event: RunEnded) -> None:
        """The command has ended: this is the result, and these are the scripts that follow."""
        course.exit_code, course.text = event.exit_code, event.text
        lost = event.exit_code is None and not event.text
        if course.stopping is not None:
            course.cause = course.stopping
        elif lost:
            course.cause, course.text = AttemptCause.LOST, "Its exit status is not known."
        elif event.exit_code is None:
            course.cause = AttemptCause.NOT_STARTED
        else:
            course.cause = AttemptCause.EXITED
        if course.stopping is not None:
            course.ahead = self._scripts_after_stop(course)
        elif not lost and course.purpose == "command":
            succeeded = event.exit_code == 0
            after: list[Purpose] = ["on_success"] if succeeded else []
            if not succeeded and course.order.last_try:
                after = ["on_error"]
            course.ahead = _given(course.order, [*after, "cleanup"])

    def _scripts_after_stop(self, course: Course) -> list[Purpose]:
        """onCancel and then cleanup, except after an eject, or when nothing has run yet."""
        if course.stopping is AttemptCause.EJECTED or course.started_at is None:
            return []
        past = [*course.done, course.purpose]
        scripts: list[Purpose] = ["on_cancel"]
        if "command" in past:
            scripts.append("cleanup")
        return _given(course.order, [script for script in scripts if script not in past])

    def _start_script(self, course: Course) -> None:
        course.done.append(course.purpose)
        course.purpose = course.ahead.pop(0)
        course.run_started_at = course.step = course.step_at = None
        course.run_ended = False
        self._start(course)

    def _finish(self, course: Course, at: Moment) -> None:
        course.over, course.ended_at = True, at
        course.step = course.step_at = None
        self.ahead.discard(course.key)
        if not _frees_cpus(course.order):
            self._actions.append(FreeCpus(course.key))
        if course.unwanted:
            self._forget(course)
            if not self.refused:
                self._report(AttemptEnded(*course.key, AttemptCause.FENCED))
        else:
            self._actions.append(DrainOutput(course.key))
        if (order := self.waiting.pop(course.order.job, None)) is not None:
            self._begin(order)

    def _on_run_signalled(self, run: RunKey, signal: SignalName) -> None:
        course = self._course_of(run)
        if course is None or course.unwanted or course.stopping is not None:
            return
        if signal == "stop" and course.paused_since is not None:
            self._report(AttemptPaused(*course.key))
        elif signal == "continue" and course.paused_since is None:
            self._report(AttemptResumed(*course.key))

    def _course_of(self, run: RunKey) -> Course | None:
        """The attempt whose present run this is."""
        course = self.courses.get(run[:2])
        if course is None or course.purpose != run[2] or course.over:
            return None
        return course

    # --- time ---------------------------------------------------------------------------------

    def _on_time_passed(self, now: Moment) -> None:
        for course in list(self.courses.values()):
            deadline = self._deadline(course)
            if deadline is None or deadline > now:
                continue
            match course.step:
                case "interrupt":
                    self._escalate(course, "terminate", now)
                case "terminate":
                    self._escalate(course, "kill", now)
                case None if course.cause is None:
                    self._stop(course, AttemptCause.TIME_LIMIT, now)
                case None:
                    self._escalate(course, "interrupt", now)

    def _deadline(self, course: Course) -> Moment | None:
        if course.over or course.unwanted or course.run_ended:
            return None
        if course.step_at is not None:
            grace = {"interrupt": self.limits.interrupt_ms, "terminate": self.limits.terminate_ms}
            wait = grace.get(course.step or "")
            return None if wait is None else Moment(course.step_at + wait)
        if course.run_started_at is None or course.paused_since is not None:
            return None
        if course.cause is not None:
            return Moment(course.run_started_at + self.limits.script_ms_max)
        if course.order.max_time_ms is None or course.started_at is None:
            return None
        return Moment(course.started_at + course.paused_ms + course.order.max_time_ms)

    # --- reports ------------------------------------------------------------------------------

    def _on_output_sent(self, key: AttemptKey, progress: int) -> None:
        course = self.courses.get(key)
        if course is None or not course.over or course.unwanted or key in self._ends_told:
            return
        assert course.cause is not None and course.ended_at is not None
        self._ends_told.add(key)
        self._report(
            AttemptEnded(
                *key,
                course.cause,
                course.exit_code,
                course.text,
                course.ran_ms(course.ended_at),
                progress,
                started=course.started_at is not None,
            )
        )

    def _on_reports_saved(self, through: int) -> None:
        saved = 0
        for reported in self.unsaved:
            if reported.number > through:
                break
            saved += 1
            if isinstance(reported.report, AttemptEnded):
                course = self.courses.get((reported.report.job, reported.report.number))
                if course is not None:
                    self._forget(course)
        del self.unsaved[:saved]

    def _on_welcomed(self, wanted: frozenset[AttemptKey]) -> None:
        self.refused = False
        # What has not started the server orders again, if it still wants it.
        for order in self.waiting.values():
            self._latest[order.job] = order.number - 1
        self.waiting.clear()
        for key, course in list(self.courses.items()):
            if key not in wanted:
                self._discard(course)
        # Ends wait until what the server lacks of the output has been sent again.
        self.unsaved = [
            reported
            for reported in self.unsaved
            if not isinstance(reported.report, AttemptEnded)
            or (reported.report.job, reported.report.number) not in self.courses
        ]
        self._ends_told.clear()
        self._actions.extend(self.unsaved)
        for key, course in self.courses.items():
            if course.over:
                self._actions.append(DrainOutput(key))

    def _on_leaving(self, now: Moment) -> None:
        self.leaving = True
        for course in list(self.courses.values()):
            if course.is_ahead and not course.unwanted:
                self._withdraw(course, "eject")
            elif course.paused_since is not None:
                self._stop(course, AttemptCause.CANCELLED, now)
        for order in self.waiting.values():
            self._report_leaving(order)
        self.waiting.clear()

    def _report_leaving(self, order: AttemptOrder) -> None:
        """Not a failure of the job: it goes back to the queue."""
        text = self._not_started_text()
        self._report(AttemptEnded(order.job, order.number, AttemptCause.EJECTED, text=text))

    def _report_state(self, course: Course) -> None:
        if course.started_at is None or course.over or course.unwanted:
            return  # it will be reported
        self._report(AttemptStarted(*course.key))
        if course.paused_since is not None:
            self._report(AttemptPaused(*course.key))

    def _report(self, report: AttemptReport) -> None:
        self._reports += 1
        sent = SendReport(self._reports, report)
        self.unsaved.append(sent)
        self._actions.append(sent)

    def _take_back_reports(self, key: AttemptKey) -> None:
        self.unsaved = [r for r in self.unsaved if (r.report.job, r.report.number) != key]

    # --- memory -------------------------------------------------------------------------------

    def _on_keeper_joined(self, runs: Iterable[KeptRun], now: Moment) -> None:
        """After a start of the agent, or of the keeper: go on from what the keeper remembers."""
        kept = {run.run: run for run in runs}
        last = {run.run[:2]: run for run in kept.values()}
        for key, run in last.items():
            if key in self.courses:
                continue
            if self._latest.get(key[0], 0) >= key[1]:
                # The keeper ended before it could write down that this was forgotten.
                self._actions.append(Forget(key, tuple(r for r in kept if r[:2] == key)))
            else:
                self._take_over(key, run)
        self._recount_slots()
        for course in list(self.courses.values()):
            if not course.over:
                self._catch_up(course, kept.get(course.run), now)

    def _take_over(self, key: AttemptKey, run: KeptRun) -> None:
        """Lead an attempt that an earlier agent led; this is the latest run of it."""
        try:
            course = _decode(run.note)
        except msgspec.MsgspecError:
            # Written by another version: better ended without a word than run for ever.
            order = AttemptOrder(*key, name="", command="", environment={})
            course = Course(order, run.run[2], -1, unwanted=True)
            self._actions.append(SignalRun(run.run, "kill"))
        else:
            course.entries += ENTRIES_OF_AGENT - course.entries % ENTRIES_OF_AGENT
            self._keep(course)
        self.courses[key] = course
        self._learn(key)
        if course.is_ahead:
            self.ahead.add(key)

    def _catch_up(self, course: Course, known: KeptRun | None, now: Moment) -> None:
        """Go on from what the keeper knows of the present run, if it knows the run at all."""
        if known is None:
            if course.is_ahead and course.wish is not None:
                self._on_run_withdrawn(course.run, now)
            elif course.unwanted:
                self._finish(course, now)
            else:
                # The start was under way when the keeper ended: it never happened.
                self._start(course)
            return
        if known.started_at is not None:
            self._on_run_started(course.run, known.started_at, now)
        if known.ended is not None:
            self._on_run_ended(known.ended, now)
        elif course.unwanted:
            self._actions.append(SignalRun(course.run, "kill"))
        elif course.is_ahead and course.wish is not None:
            self._actions.append(WithdrawRun(course.run))
        elif course.step is not None:
            self._actions.append(SignalRun(course.run, course.step))
        elif course.paused_since is not None:
            self._actions.append(SignalRun(course.run, "stop"))

    def _recount_slots(self) -> None:
        used = {course.slot for course in self.courses.values()}
        self._slots = max(used, default=-1) + 1
        self._slots_free = [slot for slot in range(self._slots) if slot not in used]

    def _keep(self, course: Course) -> None:
        self._actions.append(KeepNote(course.run, course.note()))

    def _forget(self, course: Course) -> None:
        key = course.key
        del self.courses[key]
        self._ends_told.discard(key)
        if course.slot >= 0:
            heapq.heappush(self._slots_free, course.slot)
        runs = tuple((*key, purpose) for purpose in [*course.done, course.purpose])
        self._actions.append(Forget(key, runs))

    def _learn(self, key: AttemptKey) -> None:
        self._latest.pop(key[0], None)
        self._latest[key[0]] = key[1]
        while len(self._latest) > FORGOTTEN_MAX + len(self.courses):
            job, number = next(iter(self._latest.items()))
            del self._latest[job]
            if (job, number) in self.courses:
                self._latest[job] = number  # what is here is never forgotten


_CAUSES: dict[str, AttemptCause] = {
    "cancel": AttemptCause.CANCELLED,
    "eject": AttemptCause.EJECTED,
}

SCRIPT_OF: dict[Purpose, Callable[[AttemptOrder], str]] = {
    "command": lambda order: order.command,
    "on_success": lambda order: order.on_success,
    "on_error": lambda order: order.on_error,
    "on_cancel": lambda order: order.on_cancel,
    "on_child_error": lambda order: order.on_child_error,
    "cleanup": lambda order: order.cleanup,
}
"""What a run of each purpose executes."""


def _frees_cpus(order: AttemptOrder) -> bool:
    """Whether nothing can follow its first run."""
    return not (order.on_success or order.on_error or order.on_cancel or order.cleanup)


def _given(order: AttemptOrder, purposes: list[Purpose]) -> list[Purpose]:
    return [purpose for purpose in purposes if SCRIPT_OF[purpose](order)]


def _state(course: Course) -> Literal["running", "paused", "ended"]:
    if course.over:
        return "ended"
    return "running" if course.paused_since is None else "paused"

"""The jobs page as its address says it: which jobs, in which order, which columns.

Pure. The address is the view: whoever opens it sees the same, and a saved view is a saved
address. Words that mean nothing are left out rather than refused, as addresses are typed and
mailed by people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct
from msgspec.structs import asdict, replace

from roost.core.jobspec import WHOLE_MAX
from roost.core.lifecycle import FINAL
from roost.core.records import DAY_MS, HOUR_MS, JobId, JobStatus, Moment
from roost.gateway import SORTS, JobFilter

PERIODS = {
    "1h": HOUR_MS,
    "8h": 8 * HOUR_MS,
    "24h": DAY_MS,
    "7d": 7 * DAY_MS,
    "30d": 30 * DAY_MS,
}
PAGE_JOBS = 100
IDS_MAX = 200


class Column(Struct, frozen=True):
    key: str
    label: str
    sort: str = ""
    """One of `SORTS`; empty when it cannot be sorted by."""
    is_number: bool = False


COLUMNS = (
    Column("id", "Id", "id", is_number=True),
    Column("name", "Name", "name"),
    Column("by", "By", "submitted_by"),
    Column("priority", "Priority", "priority", is_number=True),
    Column("status", "Status", "status"),
    Column("progress", "Progress", "progress"),
    Column("tasks", "Tasks", "failed", is_number=True),
    Column("time", "Time", is_number=True),
    Column("eta", "ETA", is_number=True),
    Column("silent", "Silent for", is_number=True),
    Column("submitted", "Submitted", "id"),
    Column("ended", "Ended", "ended"),
    Column("about", "Why, where, notes"),
)
USUAL = ("id", "name", "by", "priority", "status", "progress", "tasks", "time", "eta", "submitted",
         "about")  # fmt: skip
_KNOWN = {column.key: column for column in COLUMNS}
_STATUSES = {status.value for status in JobStatus} - {"waiting", "ejected"}


class JobsView(Struct, frozen=True):
    """What an address of the jobs page asks for."""

    status: tuple[str, ...] = ()
    q: str = ""
    exclude: str = ""
    by: str = ""
    within: str = ""
    """One of `PERIODS`: ended within it if only ended jobs are asked for, else submitted."""
    every: bool = False
    """Also jobs below others."""
    ids: tuple[int, ...] = ()
    sort: str = "id"
    up: bool = False
    columns: tuple[str, ...] = ()
    dense: bool = False
    before: int = 0
    skip: int = 0

    @property
    def shown(self) -> tuple[Column, ...]:
        return tuple(_KNOWN[key] for key in self.columns or USUAL)

    @property
    def is_narrowed(self) -> bool:
        """It leaves jobs out that the plain page would show."""
        return bool(self.status or self.q or self.exclude or self.by or self.within or self.ids)

    def filter(self, now: Moment, limit: int = PAGE_JOBS) -> JobFilter:
        statuses = tuple(JobStatus(word) for word in self.status)
        since = Moment(now - PERIODS[self.within]) if self.within else None
        ended = bool(statuses) and FINAL.issuperset(statuses)
        return JobFilter(
            statuses=statuses,
            roots_only=not self.every,
            name_contains=self.q,
            name_excludes=self.exclude,
            submitted_by=self.by,
            submitted_after=None if ended else since,
            ended_after=since if ended else None,
            before=JobId(self.before) if self.before else None,
            sort=self.sort,
            descending=not self.up,
            skip=self.skip,
            limit=limit,
        )

    def query(self, **changes: Any) -> str:
        """The address with some of it changed, from `?` on; it begins at the first page again
        unless the page is what changes."""
        first = {} if {"before", "skip"} & changes.keys() else {"before": 0, "skip": 0}
        pairs = replace(self, **first, **changes).fields()
        return f"?{urlencode(pairs, safe=',')}" if pairs else "?"

    def fields(self, *left_out: str) -> list[tuple[str, str]]:
        """What the address says, for a form that says the rest."""
        pairs = []
        for name, value in asdict(self).items():
            if value == _DEFAULTS[name] or name in left_out:
                continue
            if isinstance(value, tuple):
                value = ",".join(map(str, value))
            pairs.append((name, "1" if value is True else str(value)))
        return pairs

    def toggled(self, status: str) -> str:
        """The address with one status more, or less."""
        return self.query(status=self._with_other(status))

    def toggled_only(self, status: str) -> str:
        """The statuses then, with commas between."""
        return ",".join(self._with_other(status))

    def _with_other(self, status: str) -> tuple[str, ...]:
        left = tuple(word for word in self.status if word != status)
        return left if status in self.status else (*left, status)

    def sorted_by(self, column: Column) -> str:
        """The address of the other order, or that of this column."""
        up = column.sort in ("name", "submitted_by", "status")
        return self.query(sort=column.sort, up=not self.up if self.sort == column.sort else up)


_DEFAULTS = asdict(JobsView())


def parse(query: Mapping[str, str]) -> JobsView:
    """Never fails."""
    sort = query.get("sort", "id")
    within = query.get("within", "")
    columns = [key for key in _words(query, "columns") if key in _KNOWN]
    ids = [number for word in _words(query, "ids") if (number := whole(word))]
    view = JobsView(
        status=tuple(dict.fromkeys(w for w in _words(query, "status") if w in _STATUSES)),
        q=query.get("q", "").strip(),
        exclude=query.get("exclude", "").strip(),
        by=query.get("by", "").strip(),
        within=within if within in PERIODS else "",
        every=query.get("every", "") in ("1", "true", "on"),
        ids=tuple(dict.fromkeys(ids))[:IDS_MAX],
        sort=sort if sort in SORTS else "id",
        up=query.get("up", "") in ("1", "true", "on"),
        columns=tuple(dict.fromkeys(columns)),
        dense=query.get("dense", "") in ("1", "true", "on"),
        before=whole(query.get("before", "")),
        skip=whole(query.get("skip", "")),
    )
    return replace(view, columns=()) if view.columns == USUAL else view


def _words(query: Mapping[str, str], name: str) -> Iterable[str]:
    values = query.getlist(name) if hasattr(query, "getlist") else [query.get(name, "")]
    return [word.strip() for text in values for word in text.split(",") if word.strip()]


def whole(text: str) -> int:
    """0 for what is no number that an id or a place in a list can be."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
    return number if number <= WHOLE_MAX else 0

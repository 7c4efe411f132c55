"""The small pieces of which pages are full: marks, bars, times, icons.

They are functions rather than macros, since a list of a hundred jobs has a thousand of them.
"""

from __future__ import annotations

from typing import Any

import jinja2
from markupsafe import Markup

from roost.core.records import Moment
from roost.gateway import JobView
from roost.web import presenters
from roost.web.presenters import Mark

_ICON = Markup('<svg class="icon" aria-hidden="true"><use href="{}/vendor/icons.svg#{}"/></svg>')
_NAMED_ICON = Markup(
    '<svg class="icon" role="img" aria-label="{}"><use href="{}/vendor/icons.svg#{}"/></svg>'
)
_MARK = Markup(
    '<span class="state tone-{}"{}><svg class="shape" aria-hidden="true">'
    '<use href="{}/marks.svg#{}"/></svg><span>{}</span></span>'
)
_TITLE = Markup(' title="{}"')
_BAR = Markup(
    '<svg class="bar" viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" '
    'aria-label="{}"><rect class="ground" width="1000" height="10"/>{}</svg>'
)
_METER = Markup(
    '<svg class="meter" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
    '<rect class="ground" width="100" height="10"/>'
    '<rect class="fill-{}" width="{}" height="10"/></svg>'
)
_SEGMENT = Markup('<rect class="fill-{}" x="{}" width="{}" height="10"/>')
_TIME = Markup('<time datetime="{}" data-at="{}">{}</time>')
_SINCE = Markup('<time datetime="{}" data-at="{}" data-for class="since{}" title="{}">{}</time>')
_EXACT_TIME = Markup('<time datetime="{}" data-at="{}" data-exact>{} UTC</time>')


class Fragments:
    """For the templates of one site; `assets` is where its files are."""

    def __init__(self, assets: str) -> None:
        self.assets = assets

    def globals(self) -> dict[str, Any]:
        """What templates call them."""
        return {
            "icon": self.icon,
            "mark": self.mark,
            "status_mark": self.status_mark,
            "bar": bar,
            "meter": meter,
            "time": time,
            "moment": moment,
            "since": since,
        }

    def icon(self, name: str, label: str = "") -> Markup:
        if label:
            return _NAMED_ICON.format(label, self.assets, name)
        return _ICON.format(self.assets, name)

    def mark(self, it: Mark) -> Markup:
        """A status as shape and word."""
        title = _TITLE.format(it.detail) if it.detail else ""
        return _MARK.format(it.tone, title, self.assets, it.tone, it.word)

    def status_mark(self, word: str, tone: str) -> Markup:
        return self.mark(Mark(word, tone))


def bar(job: JobView) -> Markup:
    """How far a job is, as a bar and in words."""
    words = f"{presenters.share(job.rollup.overall_progress)} done"
    if job.rollup.tasks_failed:
        words += f", {job.rollup.tasks_failed} failed"
    parts = (
        _SEGMENT.format(one.tone, one.start, one.size)
        for one in presenters.segments(job.job, job.rollup)
    )
    return _BAR.format(words, Markup("").join(parts))


def meter(share: float, most: float) -> Markup:
    """A share as a small bar; red above `most`. The number stands beside it, in words."""
    tone = "failed" if share > most else "running"
    return _METER.format(tone, round(100 * max(0.0, min(share, 1.0))))


@jinja2.pass_context
def time(context: jinja2.runtime.Context, at: Moment | None) -> Markup:
    """How long ago, which the browser keeps current."""
    if at is None:
        return Markup("")
    return _TIME.format(presenters.iso(at), at, presenters.ago(at, context["now"]))


@jinja2.pass_context
def since(
    context: jinja2.runtime.Context, at: Moment, usual_ms: int | None, is_long: bool
) -> Markup:
    """For how long there was no sign of a job, which the browser keeps current."""
    text = presenters.about(context["now"] - at).removeprefix("~")
    usually = f"; such a run takes {presenters.about(usual_ms)}" if usual_ms is not None else ""
    title = f"No output and no progress{usually}"
    return _SINCE.format(presenters.iso(at), at, " long" if is_long else "", title, text)


def moment(at: Moment | None) -> Markup:
    """Exactly, by the viewer's clocks once the browser has seen it."""
    if at is None:
        return Markup("")
    text = presenters.iso(at).replace("T", " ").removesuffix("+00:00")
    return _EXACT_TIME.format(presenters.iso(at), at, text)

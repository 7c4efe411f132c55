"""A submitted job specification, in any form callers send, becomes one checked `SubmitJobs`.

Knows every key of HQueue's job specification ("The Job Specification" of its manual), the
undocumented forms seen in real submitters, and the leniency decided on for them (decisions 5, 11,
12, 39). Must not know which jobs, nodes or groups exist: ids that point out of the submission are
checked by the core, and so are cycles.

Always holds: everything or nothing. The first fault found raises `Invalid` with one sentence that
names the job and the key; no half-read submission leaves this module. Jobs come out breadth first
(decision 1): the submitted specs in their order, then their descendants. Nothing here recurses,
so that the depth of a document is a rule (`DEPTH_MAX`) and not an accident of the stack.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from roost.core import attributes
from roost.core.messages import NewJob, SubmitJobs
from roost.core.records import Condition, Job, JobId, JobSpec, lean
from roost.errors import Invalid, Refused

JOBS_PER_SUBMISSION_MAX = 200_000
DEPTH_MAX = 200
"""Levels of `children` within `children`."""
WHOLE_MAX = 2**53 - 1
"""Largest number taken: JSON readers keep it exactly, and as milliseconds it fits 64 bits."""
TEXT_BYTES_MAX = 128 * 1024 - 1
"""Of one text, such as a command: Linux gives no process a longer one. With the next, it keeps an
order well within a frame of the agent link."""
ENVIRONMENT_BYTES_MAX = 1024 * 1024
"""Names and values of all variables of a job."""
SHOWN_CHARS_MAX = 40
"""How much of a name or value a refusal repeats."""

CONDITION_NAMES = ("hostname", "hostname:name", "group", "os")
CONDITION_OPS = ("==", "!=", "in", "not_in", "any")
PLATFORMS = ("linux", "windows", "macosx")

UTF8_BYTES_MAX = 4
"""What one character takes at most."""

_LEADING_WHOLE = re.compile(r"\s*([+-]?[0-9]{1,18})(?:\.0+)?(?!\w|\.[0-9])")
"""The integer a label such as `5 (Medium)` starts with; `5.5` and `5x` do not have one."""
_TAG_SEPARATORS = re.compile(r"[,\s]+")
_HOST_SEPARATORS = re.compile(r"[,;\s]+")


def parse(
    raw: object, parent_id: JobId | None = None, child_ids: Sequence[JobId] = ()
) -> SubmitJobs:
    """Read a submission.

    `raw` is a specification (dict), a list of them, or JSON text of either (`str` or `bytes`).
    `parent_id` becomes a parent, and `child_ids` become children, of every submitted job that
    has no parent within the submission. Raises `Invalid`.
    Source: `newjob` of HQueue's Python API page.
    """
    if isinstance(raw, str | bytes | bytearray):
        raw = _json(raw)
    submitted = raw if isinstance(raw, list | tuple) else [raw]
    if not submitted:
        raise Invalid("the submission holds no job: give one specification, or a list of them.")
    drafts = _walk(submitted)
    _join_stubs(drafts)
    if len(drafts) > 1:
        _inherit_submitters(drafts)
    outer_parents, outer_children = () if parent_id is None else (parent_id,), tuple(child_ids)
    return SubmitJobs(tuple([_new_job(draft, outer_parents, outer_children) for draft in drafts]))


def anonymous(command: object) -> SubmitJobs:
    """The one nameless job that runs `command`: `runcmd` of the API page. Raises `Invalid`."""
    try:
        read = _command(command)
    except Invalid as error:
        raise Invalid(f"the command {error}.") from None
    if not read:
        raise Invalid("the command must not be empty.")
    return SubmitJobs((NewJob(JobSpec(name="", command=read), where="the anonymous job"),))


def unparse(job: Job, conditions: Iterable[Condition]) -> dict[str, Any]:
    """The job's specification under HQueue's key names; `parse` reads it back to the same.

    `conditions` are those to show. No value is None except `resources`, which the API page
    wants so when there are none: callers without `allow_none` send these back in new specs.
    """
    spec = job.spec
    return {
        "name": spec.name,
        "command": spec.command,
        "shell": spec.shell,
        "cwd": spec.cwd,
        "description": spec.description,
        "submittedBy": spec.submitted_by,
        "environment": spec.environment,
        "conditions": conditions_as_dicts(conditions),
        "tags": list(spec.tags),
        "cpus": spec.cpus,
        "minHosts": spec.min_hosts,
        "maxHosts": spec.max_hosts,
        "maxTime": seconds_or_unlimited(spec.max_time_ms),
        "resources": spec.resources or None,
        "onCancel": spec.on_cancel,
        "onError": spec.on_error,
        "onSuccess": spec.on_success,
        "onChildError": spec.on_child_error,
        "cleanup": spec.cleanup,
        "emailTo": spec.email_to,
        "emailReasons": spec.email_reasons,
        "attributes": {name: attributes.as_data(text) for name, text in spec.attributes.items()},
        "submitDir": spec.submit_dir,
        "priority": job.priority,
        "triesLeft": job.tries_left,
    }


def conditions_as_dicts(conditions: Iterable[Condition]) -> list[dict[str, str]]:
    """The four-key form, as callers send and expect it."""
    return [{"type": c.type, "name": c.name, "op": c.op, "value": c.value} for c in conditions]


def permitted(clients: Iterable[str]) -> Condition:
    """The one condition by which exactly these clients may run a job (decision 14).

    Each is `hostname` for all clients there, `hostname:name`, or `hostname:` for the unnamed one.
    An empty list lets nobody run it. Raises `Invalid`.
    """
    names = list(dict.fromkeys(client.strip() for client in clients))
    for name in names:
        if not name.partition(":")[0].strip() or not set(name).isdisjoint(",;"):
            raise Invalid(
                f"{show(name)} names no client: give hostname, hostname:name, or hostname: for "
                "the client without a name."
            )
    kind = "hostname:name" if any(":" in name for name in names) else "hostname"
    return Condition(kind, "in", ",".join(names))


def seconds_or_unlimited(duration_ms: int | None) -> int:
    """`maxTime` in seconds; -1 for no limit, as the specification allows it to be written."""
    return -1 if duration_ms is None else duration_ms // 1000


def whole(value: object) -> int:
    """An integer from an int, an integral float, or text that starts with one (decision 5).

    Raises `Invalid` with the rest of a sentence: "must be a whole number, not ...".
    """
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    elif isinstance(value, str) and (match := _LEADING_WHOLE.match(value)):
        number = int(match[1])
    if number is None:
        raise Invalid(f"must be a whole number, not {show(value)}")
    if not -WHOLE_MAX <= number <= WHOLE_MAX:
        raise Invalid(f"must be a number up to {WHOLE_MAX}")
    return number


def show(value: object) -> str:
    """A value as a refusal names it: short, and without walking into it."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        shown = value[: SHOWN_CHARS_MAX + 1]
        if not shown.isprintable():
            # Escaped, so that control characters and lone surrogates are visible.
            shown = ascii(shown)[1:-1]
        return f'"{shown}"' if len(shown) <= SHOWN_CHARS_MAX else f'"{shown[:SHOWN_CHARS_MAX]}…"'
    if isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if -WHOLE_MAX <= value <= WHOLE_MAX else "a number that large"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    return f"a value of type {type(value).__name__}"


# --- one value each: read it or say what it must be ----------------------------------------------


def _text(value: object) -> str:
    if isinstance(value, str):
        if not value.isprintable():
            _check_characters(value)
        if len(value) > TEXT_BYTES_MAX // UTF8_BYTES_MAX:
            _check_length(value)
        return value
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value) if isinstance(value, float) else str(whole(value))
    raise Invalid(f"must be text, not {show(value)}")


def _check_characters(value: str) -> None:
    # Neither processes nor databases can take these; both come out of JSON escapes only.
    if "\0" in value:
        raise Invalid("must not hold a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Invalid("must be valid Unicode text, without lone surrogates") from None


def _check_length(value: str) -> None:
    if len(value.encode()) > TEXT_BYTES_MAX:
        raise Invalid(f"must be at most {TEXT_BYTES_MAX} bytes long")


def _list(value: object) -> Sequence[object]:
    if isinstance(value, list | tuple):
        return value
    if _is_empty(value):
        return ()
    raise Invalid(f"must be a list, not {show(value)}")


def _dict(value: object) -> Mapping[object, object]:
    if isinstance(value, dict):
        return value
    if _is_empty(value):
        return {}
    raise Invalid(f"must be an object, not {show(value)}")


def _is_empty(value: object) -> bool:
    """What forms and languages without a null send for "nothing"."""
    return value is None or value in ("", [], (), {})


def _at_least_zero(value: object) -> int:
    number = whole(value)
    if number < 0:
        raise Invalid(f"must be 0 or more, not {number}")
    return number


def _at_least_one(value: object) -> int:
    """Zero means "unknown" where callers write it back and so becomes one."""
    return max(_at_least_zero(value), 1)


def _max_time_ms(value: object) -> int | None:
    seconds = whole(value)
    return None if seconds < 0 else seconds * 1000


def _command(value: object) -> str | dict[str, str]:
    if not isinstance(value, dict):
        return _text(value)
    commands: dict[str, str] = {}
    for key, text in value.items():
        platform = "macosx" if key == "macos" else key
        if platform not in PLATFORMS:
            raise Invalid(f"has no platform {show(key)}: it can be one of {', '.join(PLATFORMS)}")
        if command := _text(text):
            if key == "macos":
                commands.setdefault(platform, command)
            else:
                commands[platform] = command
    return {platform: commands[platform] for platform in PLATFORMS if platform in commands} or ""


def _environment(value: object) -> dict[str, str]:
    variables: dict[str, str] = {}
    for key, item in _dict(value).items():
        name = _text(key)
        if not name or "=" in name:
            raise Invalid(f"cannot hold a variable named {show(name)}")
        try:
            variables[name] = str(item) if isinstance(item, bool) else _text(item)
        except Invalid as error:
            raise Invalid(f"variable {show(name)} {error}") from None
    characters = sum(map(len, variables)) + sum(map(len, variables.values()))
    if characters > ENVIRONMENT_BYTES_MAX // UTF8_BYTES_MAX:
        _check_room(variables)
    return variables


def _check_room(variables: Mapping[str, str]) -> None:
    if len("".join((*variables, *variables.values())).encode()) > ENVIRONMENT_BYTES_MAX:
        raise Invalid(f"must be at most {ENVIRONMENT_BYTES_MAX} bytes, names and values together")


def _resources(value: object) -> dict[str, int]:
    amounts: dict[str, int] = {}
    for key, item in _dict(value).items():
        try:
            amounts[_text(key)] = _at_least_zero(item)
        except Invalid as error:
            raise Invalid(f"amount of {show(key)} {error}") from None
    return amounts


def _attributes(value: object) -> dict[str, str]:
    """Name to ClassAd text; values are plain, or `{"expr": "an expression"}`."""
    texts: dict[str, str] = {}
    try:
        for key, item in _dict(value).items():
            name = _text(key)
            attributes.check_name(name)
            if attributes.fold(name) == attributes.fold(attributes.PRIORITY):
                raise Invalid(f"{name} has a key of its own, priority.")
            if attributes.spelled(texts, name) is not None:
                raise Invalid(f"{name} is there twice; case does not matter.")
            texts[name] = attributes.text_of(name, item)
        attributes.check_room(texts)
    except Refused as error:
        raise Invalid(f"cannot be taken: {str(error).rstrip('.')}") from None
    return texts


def _folder(value: object) -> str:
    """An absolute folder, without doubled slashes or dots in it."""
    parts = _text(value).strip().split("/")
    if parts[0] or ".." in parts:
        raise Invalid(f"must be an absolute path without .., not {show(value)}")
    return "/" + "/".join(part for part in parts if part not in ("", "."))


def _tags(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        tags: Iterable[str] = _TAG_SEPARATORS.split(_text(value))
    else:
        tags = [_text(tag).strip() for tag in _list(value)]
    return tuple(dict.fromkeys(tag for tag in tags if tag))


def _addresses(value: object) -> str:
    """Comma-separated words, also when they come as a list."""
    if isinstance(value, list | tuple):
        return ",".join(_text(item) for item in value)
    return _text(value)


def _conditions(value: object) -> tuple[Condition, ...]:
    return tuple(_condition(item) for item in _list(value))


def _condition(value: object) -> Condition:
    if not isinstance(value, dict):
        raise Invalid(f'must hold objects such as {{"name": "hostname", …}}, not {show(value)}')
    texts = {}
    for key in ("type", "name", "op", "value"):
        try:
            texts[key] = _text(value.get(key))
        except Invalid as error:
            raise Invalid(f"have a {key} that {error}") from None
    kind = texts["type"].strip() or "client"
    name = texts["name"].strip()
    op = texts["op"].strip()
    if kind != "client":
        raise Invalid(f'have no type {show(kind)}: it is always "client"')
    if name not in CONDITION_NAMES:
        raise Invalid(f"have no name {show(name)}: it can be one of {', '.join(CONDITION_NAMES)}")
    if op not in CONDITION_OPS:
        raise Invalid(f"have no op {show(op)}: it can be one of {', '.join(CONDITION_OPS)}")
    return Condition(name, op, texts["value"], kind)


def _hosts(value: object) -> str:
    """Names, comma-separated (decision 12)."""
    parts = [_text(item) for item in value] if isinstance(value, list | tuple) else [_text(value)]
    return ",".join(name for part in parts for name in _HOST_SEPARATORS.split(part) if name)


def _groups(value: object) -> str:
    """As it came: a group's name may hold any separator, and only matching knows the groups."""
    return _addresses(value).strip()


def _ids(value: object) -> tuple[JobId, ...]:
    return tuple(dict.fromkeys(job_id(item) for item in _list(value)))


def job_id(value: object) -> JobId:
    """The id of an existing job, as an int or as text (from `$JOBID`). Raises `Invalid`."""
    number = whole(value)
    if number < 1:
        raise Invalid(f"must be a job id, not {number}")
    return JobId(number)


def _stubs(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_text(item) for item in _list(value)))


# --- the table: HQueue's key, the field it fills, how it is read ---------------------------------

_Reader = Callable[[object], Any]

PROPERTIES: dict[str, tuple[str, _Reader]] = {
    "name": ("name", _text),
    "command": ("command", _command),
    "shell": ("shell", _text),
    "cwd": ("cwd", _text),
    "description": ("description", _text),
    "submittedBy": ("submitted_by", _text),
    "environment": ("environment", _environment),
    "tags": ("tags", _tags),
    "conditions": ("conditions", _conditions),
    "host": ("host", _hosts),
    "hostgroup": ("hostgroup", _groups),
    "cpus": ("cpus", _at_least_one),
    "minHosts": ("min_hosts", _at_least_one),
    "maxHosts": ("max_hosts", whole),
    "maxTime": ("max_time_ms", _max_time_ms),
    "resources": ("resources", _resources),
    "onCancel": ("on_cancel", _text),
    "onError": ("on_error", _text),
    "onSuccess": ("on_success", _text),
    "onChildError": ("on_child_error", _text),
    "cleanup": ("cleanup", _text),
    "emailTo": ("email_to", _addresses),
    "emailReasons": ("email_reasons", _addresses),
    "attributes": ("attributes", _attributes),
    "submitDir": ("submit_dir", _folder),
    "priority": ("priority", whole),
    "triesLeft": ("tries_left", _at_least_zero),
    "children": ("children", _list),
    "childrenIds": ("child_ids", _ids),
    "parentIds": ("parent_ids", _ids),
    "stubId": ("stub", _text),
    "childStubIds": ("child_stubs", _stubs),
}
"""Whatever a reader is not called for keeps the default of the record it goes into."""

_SHARED_FIELDS = frozenset(
    ("environment", "tags", "conditions", "resources", "command", "attributes")
)
"""Mostly the same for all frames of a job: equal ones are kept once."""
_OTHER_FIELDS = frozenset(field for field, _ in PROPERTIES.values()).difference(
    JobSpec.__struct_fields__
)
"""What is read and does not go into a `JobSpec` as it is; most children have nothing of it."""


class Place(Struct, frozen=True, gc=False):
    """Where a job stands in the submitted document, in the words of a refusal."""

    noun: str
    number: int | None
    name: object
    above: str | None
    """The name of the job that has it among its children."""

    def __str__(self) -> str:
        """`job "comp"`, `job 2 ("comp")`, `child 3 ("frame 7") of job "comp"`, or `child 3 of
        job "comp"` without a name."""
        words = self.noun
        named = isinstance(self.name, str) and self.name
        if self.number is not None:
            words += f" {self.number} ({show(self.name)})" if named else f" {self.number}"
        elif named:
            words += f" {show(self.name)}"
        return words if self.above is None else f"{words} of job {show(self.above)}"


class _Draft(Struct, gc=False):
    """A specification that has been read, while its relations are still being worked out."""

    fields: dict[str, Any]
    """Of `JobSpec`."""
    where: Place
    parents: tuple[int, ...]
    """Indexes, in the order in which they claimed it; the first one is what it inherits from."""
    priority: int = 0
    tries_left: int = 0
    parent_ids: tuple[JobId, ...] = ()
    child_ids: tuple[JobId, ...] = ()
    stub: str = ""
    child_stubs: tuple[str, ...] = ()


def _json(text: str | bytes | bytearray) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Invalid(f"the specification is not valid JSON: {error}.") from None
    except RecursionError:
        raise Invalid("the specification is nested too deeply.") from None


def _walk(submitted: Sequence[object]) -> list[_Draft]:
    """Read all specs breadth first, each knowing its parent by index."""
    drafts: list[_Draft] = []
    kept: dict[object, Any] = {}
    level: list[tuple[Sequence[object], int | None]] = [(submitted, None)]
    """The children of each job of the level above, with the index of that job."""
    depth, width = 0, len(submitted)
    while level:
        if len(drafts) + width > JOBS_PER_SUBMISSION_MAX:
            raise Invalid(f"a submission can hold at most {JOBS_PER_SUBMISSION_MAX} jobs.")
        if depth > DEPTH_MAX:
            raise Invalid(f"children can be nested at most {DEPTH_MAX} levels deep.")
        below: list[tuple[Sequence[object], int | None]] = []
        width = 0
        for specs, parent in level:
            noun, above = "job", None
            parents: tuple[int, ...] = ()
            if parent is not None:
                noun, above, parents = "child", drafts[parent].fields["name"], (parent,)
            is_alone = parent is None and len(specs) == 1
            for number, raw in enumerate(specs, 1):
                name = raw.get("name") if isinstance(raw, dict) else None
                where = Place(noun, None if is_alone else number, name, above)
                draft, children = _read(raw, where, parents, kept)
                if children:
                    below.append((children, len(drafts)))
                    width += len(children)
                drafts.append(draft)
        level = below
        depth += 1
    return drafts


def _read(
    raw: object, where: Place, parents: tuple[int, ...], kept: dict[object, Any]
) -> tuple[_Draft, Sequence[object]]:
    if not isinstance(raw, dict):
        raise Invalid(f"{where} must be an object, not {show(raw)}.")
    fields: dict[str, Any] = {}
    for key, value in raw.items():
        # Nothing, and the blank text of an unfilled form, leave the default (decision 5).
        if value is not None and value != "" and (entry := PROPERTIES.get(key)):
            field, read = entry
            try:
                value = read(value)
            except Invalid as error:
                raise Invalid(f"{where}: {key} {error}.") from None
            if field in _SHARED_FIELDS:
                mark = (field, *value.items()) if isinstance(value, dict) else (field, value)
                value = kept.setdefault(mark, value)
            fields[field] = value
    if not fields.get("name"):
        raise Invalid(f"{where}: name must be given and not be empty.")
    if fields.keys().isdisjoint(_OTHER_FIELDS):
        draft, children = _Draft(fields, where, parents), ()
    else:
        for field, condition in (("host", "hostname"), ("hostgroup", "group")):
            if names := fields.pop(field, ""):
                own = (*fields.get("conditions", ()), Condition(condition, "in", names))
                fields["conditions"] = kept.setdefault(("conditions", own), own)
        children = fields.pop("children", ())
        others = {field: fields.pop(field) for field in _OTHER_FIELDS & fields.keys()}
        draft = _Draft(fields, where, parents, **others)
        draft.priority = max(draft.priority, 0)
    if "max_hosts" in fields or "min_hosts" in fields:
        fields["max_hosts"] = max(fields.get("max_hosts", 1), fields.get("min_hosts", 1))
    return draft, children


def _join_stubs(drafts: list[_Draft]) -> None:
    """Turn `childStubIds` into parents, in whichever order the specs were listed."""
    places: dict[str, int] = {}
    for index, draft in enumerate(drafts):
        if draft.stub and places.setdefault(draft.stub, index) != index:
            other = drafts[places[draft.stub]].where
            raise Invalid(f"{draft.where}: stubId {show(draft.stub)} is already that of {other}.")
    parents: dict[int, dict[int, None]] = {}
    for index, draft in enumerate(drafts):
        for stub in draft.child_stubs:
            if stub not in places:
                raise Invalid(
                    f"{draft.where}: childStubIds names {show(stub)}, "
                    "which is no stubId of this submission."
                )
            place = places[stub]
            parents.setdefault(place, dict.fromkeys(drafts[place].parents))[index] = None
    for place, those in parents.items():
        drafts[place].parents = tuple(those)


def _inherit_submitters(drafts: list[_Draft]) -> None:
    """Give each job without `submittedBy` that of its nearest first parent that has one."""
    if not any("submitted_by" in draft.fields for draft in drafts):
        return
    settled: set[int] = set()
    for start in range(len(drafts)):
        path: list[int] = []
        index, submitter = start, ""
        while index not in settled:
            settled.add(index)  # at once: stubs may form a cycle, which the core will refuse
            path.append(index)
            draft = drafts[index]
            if draft.fields.get("submitted_by") or not draft.parents:
                break
            index = draft.parents[0]
        submitter = drafts[index].fields.get("submitted_by", "")
        if submitter:
            for index in path:
                drafts[index].fields["submitted_by"] = submitter


def _new_job(
    draft: _Draft, outer_parents: tuple[JobId, ...], outer_children: tuple[JobId, ...]
) -> NewJob:
    parent_ids, child_ids = draft.parent_ids, draft.child_ids
    if not draft.parents and (outer_parents or outer_children):
        parent_ids = tuple(dict.fromkeys(outer_parents + parent_ids))
        child_ids = tuple(dict.fromkeys(child_ids + outer_children))
    return NewJob(
        lean(JobSpec(**draft.fields)),
        draft.where,
        draft.priority,
        draft.tries_left,
        draft.parents,
        parent_ids,
        child_ids,
    )

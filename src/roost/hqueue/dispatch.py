"""HQueue's API over HTTP: one table of methods, and the way from a request to its answer.

Knows, in `METHODS`, every method's arguments, defaults and answer; `system.listMethods`,
`system.methodHelp`, `system.methodSignature` and the reference page are made from it. Must not
know what a method does.

Always holds: a well-formed request gets HTTP 200 and an answer or a Fault. Faults carry the
number of the refusal (`roost.errors`), 0 for an unknown method as callers of HQueue expect, and
500 with an error id, never a stack trace, for a bug. Arguments are coerced before the function is
called (decision 5), wrong ones are faults, surplus ones are ignored (decision 3). What is large is
read and written in a thread, so that other callers are served meanwhile.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

import structlog
from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from roost.body import whole_body
from roost.core import jobspec
from roost.errors import Invalid, ProtocolError, Refused, TooLarge
from roost.gateway import ACTING, Gateway
from roost.hqueue import clients, folders, groups, jobs, notes, resources, service
from roost.wire import xmlrpc
from roost.wire.xmlrpc import Call, Fault

FRONT_PAGE = "/"
PATHS = ("/RPC2", FRONT_PAGE, "/xmlrpc")
"""The first is what `xmlrpc.client` posts to unless told otherwise."""
BODY_BYTES_MAX = 64 * 1024 * 1024
"""Default limit of a request; HQueue took 4 MiB, Houdini sends more."""
BODY_BYTES_INLINE_MAX = 64 * 1024
"""Larger requests are read in a thread."""
CALLS_PER_MULTICALL_MAX = 10_000

UNKNOWN_METHOD = 0
INTERNAL_ERROR = 500

_log = structlog.get_logger(__name__)

# --- arguments -----------------------------------------------------------------------------------


class Kind(Struct, frozen=True):
    """A sort of argument: its XML-RPC type for signatures, and how it is read.

    `read` raises `Invalid` with the rest of a sentence that starts with the argument's name.
    """

    type: str
    read: Callable[[object], Any]


def _number(value: object) -> float:
    if isinstance(value, float) and abs(value) <= jobspec.WHOLE_MAX:
        return value
    return jobspec.whole(value)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise Invalid(f"must be text, not {jobspec.show(value)}")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in (0, 1):
        return bool(value)
    raise Invalid(f"must be True or False, not {jobspec.show(value)}")


def _list_of(read: Callable[[object], object]) -> Callable[[object], tuple[object, ...]]:
    def read_list(value: object) -> tuple[object, ...]:
        if not isinstance(value, list | tuple):
            raise Invalid(f"must be a list, not {jobspec.show(value)}")
        try:
            return tuple(read(item) for item in value)
        except Invalid as error:
            raise Invalid(f"holds an item that {error}") from None

    return read_list


def _names(value: object) -> tuple[object, ...]:
    return (value,) if isinstance(value, str) else _list_of(_text)(value)


def _or_nothing(kind: Kind) -> Kind:
    """The same kind, where nil and empty text stand for "not given"."""
    return Kind(kind.type, lambda value: None if value in (None, "") else kind.read(value))


def _child_ids(value: object) -> tuple[object, ...]:
    return () if value in (None, "") else _list_of(jobspec.job_id)(value)


JOB: Final = Kind("int", jobspec.whole)
JOBS: Final = Kind("array", _list_of(jobspec.whole))
CLIENT: Final = Kind("int", jobspec.whole)
CLIENTS: Final = Kind("array", _list_of(jobspec.whole))
GROUP: Final = Kind("int", jobspec.whole)
GROUPS: Final = Kind("array", _list_of(jobspec.whole))
THREAD: Final = Kind("int", jobspec.whole)
THREADS: Final = Kind("array", _list_of(jobspec.whole))
NOTE: Final = Kind("int", jobspec.whole)
NOTES: Final = Kind("array", _list_of(jobspec.whole))
RESOURCES: Final = Kind("array", _list_of(jobspec.whole))
NUMBER: Final = Kind("int", jobspec.whole)
MINUTES: Final = Kind("double", _number)
TEXT: Final = Kind("string", _text)
FLAG: Final = Kind("boolean", _flag)
NAMES: Final = Kind("array", _names)
SPEC: Final = Kind("struct", lambda value: value)
PARENT: Final = _or_nothing(Kind("int", jobspec.job_id))
CHILDREN: Final = Kind("array", _child_ids)


class Required(Struct, frozen=True):
    """Stands in for the default of a parameter that has none."""


class Parameter(Struct, frozen=True):
    name: str
    kind: Kind
    default: object = Required()

    @property
    def required(self) -> bool:
        return isinstance(self.default, Required)

    def __str__(self) -> str:
        default = list(self.default) if isinstance(self.default, tuple) else self.default
        return self.name if self.required else f"{self.name}={default!r}"


ATTRIBS: Final = Parameter("attribs", _or_nothing(NAMES), None)


class Method(Struct, frozen=True):
    """A method as callers see it. `answer` is its type in the words of XML-RPC."""

    function: Callable[..., Awaitable[object]]
    answer: str
    parameters: tuple[Parameter, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def help(self) -> str:
        lines = (self.function.__doc__ or "").strip().splitlines()
        return "\n".join(line.strip() for line in lines)

    def arguments(self, name: str, given: Sequence[object]) -> list[object]:
        """The coerced arguments in order. Raises `Invalid`."""
        arguments: list[object] = []
        count = len(given)
        for place, parameter in enumerate(self.parameters):
            if place < count:
                try:
                    arguments.append(parameter.kind.read(given[place]))
                except Invalid as error:
                    raise Invalid(f"{name}: {parameter.name} {error}.") from None
            elif isinstance(parameter.default, Required):
                raise Invalid(
                    f"{name} needs the argument {parameter.name}: call {self.usage(name)}."
                )
            else:
                arguments.append(parameter.default)
        if count > len(self.parameters):
            _log.debug("surplus arguments ignored", method=name, given=count)
        return arguments

    def usage(self, name: str) -> str:
        """As the API page writes it: `getJob(job_id, attribs=None)`."""
        return f"{name}({', '.join(str(parameter) for parameter in self.parameters)})"


# --- the table -----------------------------------------------------------------------------------

_JOB_IDS = Parameter("job_ids", JOBS)
_JOB_ID = Parameter("job_id", JOB)
_CLIENT_ID = Parameter("client_id", CLIENT)
_GROUP_ID = Parameter("group_id", GROUP)
_THREAD_ID = Parameter("thread_id", THREAD)
_THREAD_IDS_OR_ALL = Parameter("thread_ids", _or_nothing(THREADS), None)

METHODS: dict[str, Method] = {
    # Server
    "ping": Method(service.ping, "boolean"),
    "getVersion": Method(service.get_version, "string"),
    "getServerTime": Method(service.get_server_time, "dateTime.iso8601"),
    "getServerErrors": Method(service.get_server_errors, "struct"),
    "getHQRoot": Method(
        folders.get_hq_root,
        "string",
        (Parameter("platform", TEXT), Parameter("is_client", FLAG, True)),
        aliases=("getEnvRoot",),  # served until 19.0; what it returned is not documented
    ),
    "getNetworkFolders": Method(folders.get_network_folders, "array"),
    "getConfig": Method(service.get_config, "string", (Parameter("key", TEXT),)),
    # Submitting
    "newjob": Method(
        jobs.newjob,
        "array",
        (
            Parameter("jobspec", SPEC),
            Parameter("parent_id", PARENT, None),
            Parameter("child_ids", CHILDREN, ()),
        ),
    ),
    "runcmd": Method(jobs.runcmd, "int", (Parameter("cmd", SPEC),)),
    # Acting on jobs
    "cancelJobs": Method(jobs.cancel_jobs, "nil", (_JOB_IDS,)),
    "pauseJobs": Method(jobs.pause_jobs, "nil", (_JOB_IDS,)),
    "resumeJobs": Method(jobs.resume_jobs, "nil", (_JOB_IDS,)),
    "rescheduleJobs": Method(jobs.reschedule_jobs, "nil", (_JOB_IDS,)),
    "deleteJobs": Method(jobs.delete_jobs, "nil", (_JOB_IDS,)),
    "ejectJobs": Method(jobs.eject_jobs, "nil", (_JOB_IDS,)),
    "ejectJobFromClient": Method(jobs.eject_job_from_client, "nil", (_JOB_ID,)),
    "setJobPriority": Method(
        jobs.set_job_priority, "nil", (_JOB_IDS, Parameter("priority", NUMBER))
    ),
    "savePermittedClientsList": Method(
        jobs.save_permitted_clients_list,
        "nil",
        (_JOB_ID, Parameter("clients_list", NAMES)),
        aliases=("savePermittedClientList",),  # as the news of Houdini 15 have it
    ),
    "setShowBlockedClientsWarning": Method(
        jobs.set_show_blocked_clients_warning, "nil", (_JOB_ID, Parameter("state", FLAG))
    ),
    # Asking about jobs
    "getPermittedClientsList": Method(
        jobs.get_permitted_clients_list,
        "array",
        (_JOB_ID,),
        aliases=("getPermittedClientList",),
    ),
    "getJob": Method(jobs.get_job, "struct", (_JOB_ID, ATTRIBS)),
    "getJobs": Method(jobs.get_jobs, "array", (_JOB_IDS, ATTRIBS)),
    "getinfo": Method(jobs.getinfo, "struct", (_JOB_ID,)),
    "getstatus": Method(jobs.getstatus, "string", (_JOB_ID,)),
    "getJobOutput": Method(
        jobs.get_job_output,
        "string",
        (_JOB_ID, Parameter("max_last_chars", _or_nothing(NUMBER), None)),
    ),
    "getJobIdsByStatus": Method(
        jobs.get_job_ids_by_status,
        "array",
        (Parameter("statuses", NAMES),),
        aliases=("getJobIdsBySatus",),  # as the API page misspells it
    ),
    "getFinishedRootJobIds": Method(jobs.get_finished_root_job_ids, "array"),
    "getUnfinishedRootJobIds": Method(jobs.get_unfinished_root_job_ids, "array"),
    "getRunningJobIds": Method(jobs.get_running_job_ids, "array"),
    "getNumWaitingJobs": Method(
        jobs.get_num_waiting_jobs,
        "int",
        (
            Parameter("wait_time", MINUTES, 0),
            Parameter("min_priority", NUMBER, -1),
            Parameter("max_priority", NUMBER, -1),
        ),
    ),
    # Clients
    "getClients": Method(
        clients.get_clients,
        "array",
        (Parameter("client_ids", _or_nothing(CLIENTS), None), ATTRIBS),
    ),
    "getClient": Method(clients.get_client, "struct", (_CLIENT_ID, ATTRIBS)),
    "getClientByName": Method(
        clients.get_client_by_name,
        "struct",
        (Parameter("clientname", TEXT), ATTRIBS),
        aliases=("getClientByHostname",),
    ),
    "getClientsByName": Method(
        clients.get_clients_by_name,
        "array",
        (Parameter("clientnames", NAMES), ATTRIBS),
        aliases=("getClientsByHostname",),
    ),
    "setdisabled": Method(
        clients.setdisabled, "boolean", (Parameter("clientname", TEXT), Parameter("disabled", FLAG))
    ),
    "upgradeClients": Method(clients.upgrade_clients, "nil", (Parameter("client_ids", CLIENTS),)),
    "getClientErrors": Method(clients.get_client_errors, "struct", (_CLIENT_ID,)),
    "getJobHistory": Method(
        clients.get_job_history, "array", (_CLIENT_ID, Parameter("limit", NUMBER, 5))
    ),
    "getJobIdsAssignedToClient": Method(
        clients.get_job_ids_assigned_to_client, "array", (_CLIENT_ID,)
    ),
    # Client groups
    "getClientGroups": Method(
        groups.get_client_groups,
        "array",
        (Parameter("group_ids", _or_nothing(GROUPS), None), ATTRIBS),
    ),
    "getClientGroup": Method(groups.get_client_group, "struct", (_GROUP_ID, ATTRIBS)),
    "getClientGroupByName": Method(
        groups.get_client_group_by_name, "struct", (Parameter("name", TEXT), ATTRIBS)
    ),
    "createClientGroup": Method(groups.create_client_group, "int", (Parameter("name", TEXT),)),
    "deleteClientGroup": Method(groups.delete_client_group, "nil", (_GROUP_ID,)),
    "addClientToGroup": Method(groups.add_client_to_group, "nil", (_GROUP_ID, _CLIENT_ID)),
    "removeClientFromGroup": Method(
        groups.remove_client_from_group, "nil", (_GROUP_ID, _CLIENT_ID)
    ),
    # Notes
    "addNote": Method(
        notes.add_note,
        "boolean",
        (
            Parameter("note_text", TEXT),
            Parameter("thread_id", _or_nothing(THREAD), None),
            Parameter("job_id", _or_nothing(JOB), None),
            Parameter("client_id", _or_nothing(CLIENT), None),
        ),
    ),
    "getLatestNotes": Method(notes.get_latest_notes, "array", (_THREAD_IDS_OR_ALL, ATTRIBS)),
    "getNoteThreadIds": Method(notes.get_note_thread_ids, "array"),
    "getNoteThreads": Method(
        notes.get_note_threads,
        "array",
        (
            _THREAD_IDS_OR_ALL,
            Parameter("thread_attribs", _or_nothing(NAMES), None),
            Parameter("note_attribs", _or_nothing(NAMES), None),
        ),
    ),
    "removeNotes": Method(notes.remove_notes, "array", (Parameter("note_ids", NOTES),)),
    "removeSingleNote": Method(notes.remove_single_note, "boolean", (Parameter("note_id", NOTE),)),
    "removeSingleThread": Method(notes.remove_single_thread, "boolean", (_THREAD_ID,)),
    "removeThreads": Method(notes.remove_threads, "array", (Parameter("thread_ids", THREADS),)),
    "threadExists": Method(notes.thread_exists, "boolean", (_THREAD_ID,)),
    # Resources
    "getResources": Method(
        resources.get_resources,
        "array",
        (Parameter("resource_ids", _or_nothing(RESOURCES), None),),
    ),
    # Lists of names
    "getAllJobStatusNames": Method(service.get_all_job_status_names, "array"),
    "getSucceededStatusNames": Method(service.get_succeeded_status_names, "array"),
    "getFailedJobStatusNames": Method(service.get_failed_job_status_names, "array"),
    "getFinishedJobStatusNames": Method(service.get_finished_job_status_names, "array"),
    "getUnfinishedJobStatusNames": Method(service.get_unfinished_job_status_names, "array"),
    "getRunningJobStatusNames": Method(service.get_running_job_status_names, "array"),
    "getPausedJobStatusNames": Method(service.get_paused_job_status_names, "array"),
    "getWaitingJobStatusNames": Method(service.get_waiting_job_status_names, "array"),
    "getStartedJobEventNames": Method(service.get_started_job_event_names, "array"),
    "getRescheduledEventNames": Method(service.get_rescheduled_event_names, "array"),
    "getResumedEventNames": Method(service.get_resumed_event_names, "array"),
    "getPriorityChangedEventNames": Method(service.get_priority_changed_event_names, "array"),
}


# --- introspection -------------------------------------------------------------------------------


async def list_methods(gateway: Gateway) -> object:
    """Return the names of all methods."""
    return [*sorted(_BY_NAME), "system.multicall"]


async def method_help(gateway: Gateway, name: str) -> object:
    """Return how to call a method, and what it does."""
    if name == "system.multicall":
        return "system.multicall(calls)\n\nCall each {methodName, params}; return all answers."
    method = _known(name)
    return f"{method.usage(name)}\n\n{method.help}"


async def method_signature(gateway: Gateway, name: str) -> object:
    """Return the possible signatures of a method: the type of its answer, then its arguments'."""
    if name == "system.multicall":
        return [["array", "array"]]
    method = _known(name)
    types = [parameter.kind.type for parameter in method.parameters]
    needed = sum(parameter.required for parameter in method.parameters)
    return [[method.answer, *types[:count]] for count in range(needed, len(types) + 1)]


def reference() -> str:
    """The reference page of the API, in Markdown, one section per method of `METHODS`."""
    sections = [
        "# HQueue API\n\n"
        "Where HQueue's own page leaves something open, or Roost differs, the number of the\n"
        "[decision](../explanation/decisions.md) is given.\n"
    ]
    for name, method in METHODS.items():
        also = f"\n\nAlso served as {', '.join(f'`{a}`' for a in method.aliases)}."
        sections.append(
            f"## `{method.usage(name)}` → `{method.answer}`\n\n"
            f"{method.help}{also if method.aliases else ''}\n"
        )
    return "\n".join(sections)


_NAME = Parameter("name", TEXT)

_BY_NAME: dict[str, Method] = {
    **METHODS,
    **{alias: method for method in METHODS.values() for alias in method.aliases},
    "system.listMethods": Method(list_methods, "array"),
    "system.methodHelp": Method(method_help, "string", (_NAME,)),
    "system.methodSignature": Method(method_signature, "array", (_NAME,)),
}


class UnknownMethod(Refused):
    """A method that is not served: fault 0, by which callers recognise older servers."""

    status = UNKNOWN_METHOD


def _known(name: str) -> Method:
    if method := _BY_NAME.get(name):
        return method
    raise UnknownMethod(
        f"There is no method {jobspec.show(name)}; system.listMethods tells which there are."
    )


# --- from a request to its answer ----------------------------------------------------------------


async def answer(gateway: Gateway, call: Call) -> object:
    """The method's answer, or a `Fault`; raises nothing."""
    try:
        if call.method == "system.multicall":
            return await _multicall(gateway, call)
        method = _known(call.method)
        return await method.function(gateway, *method.arguments(call.method, call.params))
    except Refused as error:
        return Fault(error.status, str(error))
    except Exception:
        return _bug(gateway, call.method)


def _bug(gateway: Gateway, method: str) -> Fault:
    """Log the exception at hand under an id, and tell the caller no more than that."""
    error_id = uuid.uuid4().hex[:12]
    _log.exception("method failed", method=method, error_id=error_id)
    text = f"{method} failed inside the server; its log tells more under error id {error_id}."
    gateway.note_error(text)
    return Fault(INTERNAL_ERROR, text)


async def _multicall(gateway: Gateway, call: Call) -> object:
    """The calls in their order; each answer in a list of one, or a fault's dictionary."""
    calls = call.params[0] if call.params else None
    if not isinstance(calls, list):
        raise Invalid("system.multicall needs a list of {methodName, params}.")
    if len(calls) > CALLS_PER_MULTICALL_MAX:
        raise Invalid(f"system.multicall takes at most {CALLS_PER_MULTICALL_MAX} calls.")
    return [await _one_of_many(gateway, each) for each in calls]


async def _one_of_many(gateway: Gateway, each: object) -> object:
    name = each.get("methodName") if isinstance(each, dict) else None
    params = each.get("params", []) if isinstance(each, dict) else None
    if not isinstance(name, str) or not isinstance(params, list):
        return Fault(400, "Each call must be {methodName: text, params: list}.").as_dict()
    if name == "system.multicall":
        return Fault(400, "system.multicall cannot be called by itself.").as_dict()
    result = await answer(gateway, Call(name, tuple(params)))
    return result.as_dict() if isinstance(result, Fault) else [result]


async def respond(gateway: Gateway, body: bytes) -> bytes:
    """A `methodCall` document in, a `methodResponse` document out."""
    try:
        if len(body) > BODY_BYTES_INLINE_MAX:
            call = await asyncio.to_thread(xmlrpc.decode_call, body)
        else:
            call = xmlrpc.decode_call(body)
    except ProtocolError as error:
        return xmlrpc.encode_fault(Fault(400, str(error)))
    result = await answer(gateway, call)
    if isinstance(result, Fault):
        return xmlrpc.encode_fault(result)
    try:
        if xmlrpc.is_heavy(result):
            return await asyncio.to_thread(xmlrpc.encode_answer, result)
        return xmlrpc.encode_answer(result)
    except Exception:
        return xmlrpc.encode_fault(_bug(gateway, call.method))


class Endpoint:
    """Takes calls by POST on the three paths that callers use, as an ASGI application;
    leaves the rest to another one, which therefore costs calls nothing.

    A body of another type is answered with 415, one above `body_bytes_max` with 413 before it
    has been read whole.
    """

    def __init__(
        self, gateway: Gateway, others: ASGIApp, body_bytes_max: int = BODY_BYTES_MAX
    ) -> None:
        self._gateway = gateway
        self._others = others
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            ACTING.set(_acting(scope))
        if scope["type"] != "http" or scope["path"] not in PATHS:
            await self._others(scope, receive, send)
        elif scope["method"] == "POST":
            response = await self._answer(Request(scope, receive))
            await response(scope, receive, send)
        elif scope["path"] == FRONT_PAGE:
            await self._others(scope, receive, send)
        else:
            only_calls = PlainTextResponse("Method Not Allowed", 405, {"allow": "POST"})
            await only_calls(scope, receive, send)

    def respond(self, body: bytes, host: str | None) -> Coroutine[Any, Any, bytes]:
        """The answer to the body of a call from there; to be awaited at once."""
        ACTING.set(_from("HQueue API", host))
        return respond(self._gateway, body)

    async def _answer(self, request: Request) -> Response:
        if not xmlrpc.is_content_type(request.headers.get("content-type", "")):
            return PlainTextResponse("XML-RPC calls must be sent as text/xml.\n", 415)
        try:
            body = await whole_body(request, self._body_bytes_max)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is left to read it
        except TooLarge as error:
            # The rest of the body is not worth receiving.
            return PlainTextResponse(f"{error}\n", 413, {"connection": "close"})
        return Response(await respond(self._gateway, body), media_type="text/xml")


def _acting(scope: Scope) -> str:
    """Who asks, as well as it can be told without accounts: through what and from where."""
    if scope["path"].startswith("/api/"):
        through = "JSON API"
    else:
        is_call = scope["method"] == "POST" and scope["path"] in PATHS
        through = "HQueue API" if is_call else "page"
    client = scope.get("client")
    return _from(through, client[0] if client else None)


def _from(through: str, host: str | None) -> str:
    return f"{through} from {host}" if host else through


if __name__ == "__main__":
    print(reference())

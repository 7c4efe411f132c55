"""`hqserver.ini` and `hqnode.ini` as HQueue left them, read as settings of Roost.

A key of theirs becomes a setting, is kept for `getConfig` alone, or is ignored for a reason that
`roost doctor` tells; nothing is refused because it is not known here. Roost's own form is TOML,
which `convert` writes. Pure: text in, settings out.
"""

from __future__ import annotations

import configparser
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import Struct

from roost.errors import Invalid

SECRET_KEYS = re.compile(r"(?i)sqlalchemy|password|secret|database")
"""What `getConfig` answers nothing for (decision 44)."""
_PASSED_OVER = re.compile(r"(?i)loggers?|handlers?|formatters?|logger_.*|handler_.*|formatter_.*")
"""Sections about Python's logging."""


class Ini(Struct, frozen=True):
    """What a file says."""

    values: dict[str, object] = {}
    """By the names of Roost's settings, in the units that people write."""
    ignored: tuple[str, ...] = ()
    """One sentence for each key that changes nothing."""


class _Target(NamedTuple):
    setting: str
    convert: Callable[[str], object]


def _minutes(text: str) -> float:
    return float(text) * 60


def _debug(text: str) -> str:
    return "debug" if _flag(text) else "info"


def _flag(text: str) -> bool:
    return text.strip().lower() in ("1", "true", "yes", "on")


_SERVER: dict[str, _Target] = {
    "port": _Target("port", int),
    "hqserver.port": _Target("port", int),
    "host": _Target("host", str),
    "debug": _Target("log_level", _debug),
    "hqserver.activetimeout": _Target("active_timeout", _minutes),
    "active_timeout": _Target("active_timeout", _minutes),
    "hqserver.expirejobsdays": _Target("expire_jobs_days", float),
    "smtp_server": _Target("mail_host", str),
    "error_email_from": _Target("mail_sender", str),
    "hqserver.upgradepriority": _Target("upgrade_priority", int),
}
_NODE: dict[str, _Target] = {
    "name": _Target("agent_name", str),
    "cpus": _Target("cpus", int),
    "sharednetwork.mount": _Target("shared_folder", str),
}
_IGNORED = {
    "job_logs_dir": "the output of jobs is in the data folder",
    "sqlalchemy.default.url": "Roost has a database of its own; see database_url",
    "sqlalchemy.default.pool_size": "Roost needs no pool of connections",
    "sqlalchemy.default.max_overflow": "Roost needs no pool of connections",
    "email_to": "errors of the server are listed by roost errors",
    "auto_upgrade": "machines are upgraded when somebody says so: roost nodes upgrade",
}


def read(text: str, here: str, name: str) -> Ini:
    """`here` is the folder of the file, `name` tells it apart in messages.

    A file with `server` in `[main]`, or with a section `[job_environment]`, is a node's. Raises
    `Invalid` for what is no INI file, for a number that is none, and for two ports that differ.
    """
    sections = _parsed(text, name)
    is_node = "job_environment" in sections or "server" in sections.get("main", {})
    environment = _expanded(sections.pop("job_environment", {}), here)
    keys: dict[str, str] = {}
    for title, entries in sections.items():
        if not _PASSED_OVER.fullmatch(title):
            keys.update(_expanded(entries, here))
    return _node(keys, environment, name) if is_node else _server(keys, name)


def _parsed(text: str, name: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(strict=False, default_section="", allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise Invalid(
            f"{name} is not a valid INI file: {str(error).splitlines()[0].rstrip('.')}."
        ) from None
    return {title: dict(parser[title]) for title in parser.sections()}


def _expanded(entries: dict[str, str], here: str) -> dict[str, str]:
    return {
        key: (value or "").replace("%(here)s", here).replace("%%", "%")
        for key, value in entries.items()
    }


def _server(keys: dict[str, str], name: str) -> Ini:
    values, ignored = _translated(keys, _SERVER, name)
    if len({keys[key] for key in ("port", "hqserver.port") if key in keys}) > 1:
        raise Invalid(f"{name} has two ports that differ: port and hqserver.port must be equal.")
    values["hqueue"] = {key: value for key, value in keys.items() if not SECRET_KEYS.search(key)}
    return Ini(values, tuple(ignored))


def _node(keys: dict[str, str], environment: dict[str, str], name: str) -> Ini:
    server, port = keys.pop("server", ""), keys.pop("port", "")
    values, ignored = _translated(keys, _NODE, name)
    if server:
        values["server"] = f"http://{server}:{port or 5000}"
    if environment:
        values["job_environment"] = environment
    return Ini(values, tuple(ignored))


def _translated(
    keys: dict[str, str], targets: dict[str, _Target], name: str
) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    ignored = []
    for key, text in keys.items():
        target = targets.get(key.lower())
        if target is None:
            if not key.startswith("hqserver.sharedNetwork"):
                reason = _IGNORED.get(key.lower(), "Roost has no such setting")
                ignored.append(f"{key} of {name} changes nothing: {reason}.")
        elif text.strip():
            try:
                values[target.setting] = target.convert(text.strip())
            except ValueError:
                raise Invalid(f"{key} = {text!r} in {name} must be a number.") from None
    return values, ignored


def folders(text: str, name: str) -> dict[str, str]:
    """`network_folders.ini`: the paths of HQROOT, under the keys that older files had for it."""
    paths = _parsed(text, name).get("HQROOT", {})
    return {
        f"hqserver.sharedNetwork.mount.{platform}": paths[platform]
        for platform in ("linux", "windows", "macosx")
        if paths.get(platform)
    }


def convert(found: Ini) -> str:
    """The same as Roost's own settings file, with what has no equal as comments."""
    lines = [f"# {sentence}" for sentence in found.ignored]
    tables = {key: value for key, value in found.values.items() if isinstance(value, dict)}
    lines += [
        f"{key} = {json.dumps(value)}" for key, value in found.values.items() if key not in tables
    ]
    for title, entries in tables.items():
        if entries:
            lines += ["", f"[{title}]"]
            lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in entries.items()]
    return "\n".join(lines) + "\n"

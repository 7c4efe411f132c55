"""`roost doctor`: what this machine has and lacks for running or reaching a farm.

Each check looks at one thing and answers with a finding: fine, doubtful or broken, in one
sentence, and what to do about it. A check never raises and never changes anything. The exit code
is 1 when something is broken; doubts do not count.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import shutil
import socket
import sqlite3
import sys
import tempfile
import xmlrpc.client
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import click
from msgspec import Struct

import roost
from roost import settings, timezone
from roost.errors import RoostError
from roost.settings import Settings

DISK_BYTES_LOW = 1024**3
OPEN_FILES_LOW = 4096
CLOCKS_APART_MAX = timedelta(seconds=5)
_PR_GET_CHILD_SUBREAPER = 37

State = Literal["ok", "warn", "fail"]


class Finding(Struct, frozen=True):
    check: str
    state: State
    text: str
    advice: str = ""
    """What to do; empty when all is well."""


def show(findings: Sequence[Finding], found: Settings) -> None:
    """For people: what was found, and which settings somebody has made."""
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for finding in findings:
        mark = f"{finding.state:4}"
        mark = click.style(mark, colours[finding.state], bold=True) if coloured else mark
        click.echo(f"{mark}  {finding.check}: {finding.text}")
        if finding.advice:
            click.echo(f"      {finding.advice}")
    changed = [line for line in settings_in_force(found) if line["source"] != "default"]
    if changed:
        click.echo("\nSettings that are not the default:")
    else:
        click.echo(f"\nAll settings have their defaults; {found.file} can change them.")
    for line in changed:
        click.echo(f"      {line['name']} = {line['value']}  ({line['source']})")


def examine(found: Settings) -> Iterator[Finding]:
    """All checks, the machine first and the farm last."""
    yield python_version()
    for sentence in found.ignored:
        yield Finding("settings", "warn", sentence)
    yield data_folder(found.values.data)
    yield free_space(found.values.data)
    yield sqlite_version()
    yield process_supervision()
    yield open_files()
    yield time_zone(found.values.time_zone)
    agent_port = 5001 if found.values.agent_port is None else found.values.agent_port
    for name, host, port in (
        ("server port", found.values.host, found.values.port),
        ("agent port", found.values.agent_host, agent_port),
    ):
        yield listening_port(name, host, port)
    yield from farm(found.values.server)


def settings_in_force(found: Settings) -> list[dict[str, str]]:
    """Every setting with its value as text and where it comes from; secrets are not shown."""
    lines = []
    for name, source in found.sources.items():
        is_hidden = name in settings.SECRETS and getattr(found.values, name)
        shown = "(hidden)" if is_hidden else found.text(name)
        lines.append({"name": name, "value": shown, "source": source})
    return lines


def python_version() -> Finding:
    version = platform.python_version()
    if sys.implementation.name != "cpython":
        text = f"This is {platform.python_implementation()} {version}."
        return Finding("python", "warn", text, "Roost is tested on CPython only.")
    return Finding("python", "ok", f"Python {version} with Roost {roost.__version__}.")


def data_folder(folder: Path) -> Finding:
    """Can it be written, or made? Looks at the nearest folder that exists and leaves no trace."""
    existing = _nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Finding(
            "data folder",
            "fail",
            f"Nothing can be written into {existing}: {error.strerror}.",
            "Give yourself write permission, or choose another folder with --data.",
        )
    state = "is writable" if existing == folder else "does not exist yet and can be made"
    return Finding("data folder", "ok", f"{folder} {state}.")


def _nearest(folder: Path) -> Path:
    """The folder itself, or the one above that would hold it. One that cannot be looked at counts
    as there."""
    for path in (folder, *folder.absolute().parents):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            pass
        return path
    return Path("/")


def free_space(folder: Path) -> Finding:
    existing = _nearest(folder)
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        text = f"How much is free at {existing} cannot be told: {error.strerror}."
        return Finding("disk space", "warn", text)
    text = f"{free / 1024**3:.1f} GiB are free at {existing}."
    if free < DISK_BYTES_LOW:
        advice = "Make room: with a full disk the server stops taking work."
        return Finding("disk space", "warn", text, advice)
    return Finding("disk space", "ok", text)


def sqlite_version() -> Finding:
    text = f"SQLite {sqlite3.sqlite_version}."
    if sqlite3.sqlite_version_info < (3, 37):
        advice = "Use a Python built with SQLite 3.37 or newer: Roost needs strict tables."
        return Finding("sqlite", "fail", text, advice)
    return Finding("sqlite", "ok", text)


def process_supervision() -> Finding:
    """What the keeper of jobs stands on: exits told by pidfd, orphans handed to it."""
    missing = []
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        missing.append("pidfd (Linux 5.3)")
    try:
        answer = ctypes.c_int()
        if ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0):
            missing.append("child subreaper (Linux 3.4)")
    except (AttributeError, OSError):
        missing.append("child subreaper (Linux 3.4)")
    if missing:
        return Finding(
            "processes",
            "warn",
            f"This system lacks {' and '.join(missing)}.",
            "An agent here may lose sight of processes that leave their job.",
        )
    return Finding("processes", "ok", "The kernel can watch and adopt the processes of jobs.")


def open_files() -> Finding:
    """How many descriptors a server started here could have: it takes what it may."""
    try:
        import resource
    except ImportError:
        return Finding("open files", "ok", "This system has no such limit.")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return Finding("open files", "ok", "A server here may open any number of files.")
    text = f"A server here may open {hard:,} files."
    if hard < OPEN_FILES_LOW:
        advice = (
            "Enough for a small farm; for more than 100 machines raise the hard limit, "
            "such as LimitNOFILE=65536 in a unit of systemd."
        )
        return Finding("open files", "warn", text, advice)
    return Finding("open files", "ok", text)


def time_zone(name: str) -> Finding:
    """By whose clocks a server started here takes availability rules."""
    try:
        zone = timezone.find(name)
    except RoostError as error:
        return Finding("time zone", "fail", str(error), "A server would not start with it.")
    clock = f"{datetime.now(zone):%H:%M}"
    return Finding("time zone", "ok", f"A server here goes by {zone}, where it is {clock}.")


def listening_port(name: str, host: str, port: int) -> Finding:
    if port == 0:
        return Finding(name, "ok", "A free one is chosen at the start.")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno == errno.EADDRINUSE:
                advice = "Fine if that is Roost itself; else choose another port."
                return Finding(name, "warn", f"{host}:{port} is taken.", advice)
            advice = "Choose an address of this machine and a port that you may use."
            text = f"Nothing here can listen on {host}:{port}: {reason}."
            return Finding(name, "warn", text, advice)
    return Finding(name, "ok", f"{host}:{port} is free.")


def farm(url: str) -> Iterator[Finding]:
    """Is there a server, does it fit this command, and do the clocks agree?"""
    from roost.remote import Remote

    try:
        with Remote(url) as remote:
            health = remote.health()
    except RoostError as error:
        advice = "Start one with roost up, or name the right one with --server or ROOST_SERVER."
        yield Finding("farm", "warn", str(error), advice)
        return
    if health.status != "ok":
        advice = "The server's log tells more."
        yield Finding("farm", "fail", f"{url} takes no work: {health.message}", advice)
        return
    version = health.version
    if version == roost.__version__:
        yield Finding("farm", "ok", f"{url} answers with Roost {version}.")
    else:
        text = f"{url} runs Roost {version}, this command is {roost.__version__}."
        yield Finding("farm", "warn", text, "Use the same version on both sides.")
    yield clocks(url)


def clocks(url: str) -> Finding:
    """The server tells its time in whole seconds, somewhere between our two looks at ours."""
    try:
        with xmlrpc.client.ServerProxy(url, use_builtin_types=True) as server:
            before = datetime.now(UTC)
            answer = server.getServerTime()
            after = datetime.now(UTC)
    except (OSError, xmlrpc.client.Error) as error:
        return Finding("clocks", "warn", f"The server does not tell its time: {error}.")
    assert isinstance(answer, datetime)
    theirs = answer.replace(tzinfo=UTC)
    apart = max(before - theirs - timedelta(seconds=1), theirs - after, timedelta())
    if apart > CLOCKS_APART_MAX:
        text = f"This machine's clock and the server's are {apart.total_seconds():.0f} s apart."
        return Finding("clocks", "warn", text, "Set both by NTP: jobs show the server's time.")
    return Finding("clocks", "ok", "This machine and the server agree on the time.")

"""Where a setting comes from, and what the server is started with.

Every setting has one name. `active_timeout` is `--active-timeout` on the command line (where there
is such an option), `ROOST_ACTIVE_TIMEOUT` in the environment and `active_timeout = 300` in the TOML
file; the first of these that says something wins, else the default. Each value remembers who said
it, so that `roost doctor` can tell and a refusal can name the culprit.

People write seconds and bytes; the options handed to the server hold milliseconds. The `[hqueue]`
table of the file holds settings under HQueue's own key names for `getConfig`; it is
passed on and not understood here. This module reads files and the environment and knows neither
the command line's syntax nor the farm.

Files of HQueue (`hqserver.ini`, `hqnode.ini`) are read as they are, and rank below Roost's own.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
import platformdirs
from msgspec import Struct

from roost import inifiles
from roost.errors import Invalid

SECRETS = frozenset({"database_url", "mail_password", "webhooks"})
"""Settings whose value is shown to nobody."""


class ChirpSwitches(Struct, frozen=True, kw_only=True):
    """What jobs may use of Chirp at all; HTCondor's settings of the same names."""

    enable_chirp: bool = True
    enable_chirp_io: bool = True
    enable_chirp_updates: bool = True
    enable_chirp_delayed: bool = True
    chirp_delayed_prefix: str = "Chirp*"
    """Names that may be set with delay."""
    chirp_read_only: bool = False
    chirp_umask: int = 0o022


class MailOptions(Struct, frozen=True, kw_only=True):
    """How mail is sent; not at all without a host."""

    host: str = ""
    port: int = 25
    sender: str = "roost@localhost"
    security: Literal["none", "starttls", "tls"] = "none"
    user: str = ""
    password: str = ""
    ca_file: str = ""
    """Certificates to trust besides the system's; empty for those alone."""


class WebhookOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One receiver of what happens."""

    url: str
    secret: str = ""
    """Signs what is sent, so that the receiver knows who sent it."""
    events: tuple[str, ...] = ()
    every_job: bool = False


class ServerOptions(Struct, frozen=True, kw_only=True):
    """All that `roost.server.app.run_server` has to know."""

    data: Path
    """Holds the database, the output of jobs and the lock; made when missing."""
    host: str = "127.0.0.1"
    port: int = 5000
    """0 takes a free one; `ServerReady` tells which."""
    database_url: str | None = None
    """None means SQLite inside `data`."""
    active_timeout_ms: int = 300_000
    requeue_after_gone_ms: int = 300_000
    """How long after a node went silent its jobs are given to others; 0 means never."""
    max_failures_per_client: int = 0
    """A node where more runs of one job tree failed gets no more of it; 0 means never."""
    time_zone: str = ""
    """IANA name of the zone by whose clocks availability rules go; empty means the machine's."""
    chirp: ChirpSwitches = ChirpSwitches()
    submit_roots: tuple[Path, ...] = ()
    """Folders that jobs may name as their submit folder, with all beneath them."""
    chirp_folder_bytes_max: int = 0
    """What a root job's own submit folder may hold; 0 is no limit."""
    mail: MailOptions = MailOptions()
    webhooks: tuple[WebhookOptions, ...] = ()
    public_url: str = ""
    """Where people find the farm; empty means where it listens."""
    upgrades: bool = False
    """Whether nodes may be given this server's own package."""
    upgrade_priority: int = 0
    expire_after_ms: int = 0
    """How long after its root ended a tree of jobs is deleted; 0 means never."""
    farm_name: str = ""
    """What the pages call the farm."""
    farm_colour: str = "blue"
    shown: tuple[tuple[str, str, str], ...] = ()
    """Settings, their values, and who said so, for people to see; without secrets."""
    heartbeat_ms: int = 10_000
    body_bytes_max: int = 64 * 1024 * 1024
    config: dict[str, str] = {}
    """Settings under HQueue's key names, for `getConfig`."""
    exit_with_stdin: bool = False
    """End when standard input does: how a parent makes sure it leaves nobody behind."""


class ServerReady(Struct, frozen=True):
    """The server listens."""

    url: str
    pid: int


class Values(Struct, frozen=True, kw_only=True):
    """Every setting, typed, with its default. Durations are in seconds."""

    server: str = "http://127.0.0.1:5000"
    """The farm that the client commands and the agent talk to."""
    data: Path = Path(platformdirs.user_data_dir("roost"))
    host: str = "127.0.0.1"
    port: int = 5000
    database_url: str | None = None
    active_timeout: float = 300.0
    requeue_after: float = 300.0
    max_failures_per_client: int = 0
    time_zone: str = ""
    """By whose clocks availability rules go; empty means those of the server's machine."""
    enable_chirp: bool = True
    enable_chirp_io: bool = True
    enable_chirp_updates: bool = True
    enable_chirp_delayed: bool = True
    """What jobs may use of Chirp: anything, files, attributes at once, attributes with delay."""
    chirp_delayed_prefix: str = "Chirp*"
    """Names of attributes that may be set with delay, with commas between; `*` is anything."""
    submit_roots: tuple[Path, ...] = ()
    """Folders on the server in which jobs may have their submit folder (`submitDir`)."""
    chirp_read_only: bool = False
    """Jobs read the files of their submit folder and change none."""
    chirp_umask: int = 0o022
    """Rights that files made by jobs through Chirp do not get."""
    chirp_folder_bytes_max: int = 0
    """What a submit folder that the server made for a job may hold; 0 is no limit."""
    mail_host: str = ""
    """The server that takes mail for `emailTo`; without it nothing is sent."""
    mail_port: int = 25
    mail_sender: str = "roost@localhost"
    mail_security: Literal["none", "starttls", "tls"] = "none"
    mail_user: str = ""
    mail_password: str = ""
    mail_ca_file: str = ""
    webhooks: tuple[WebhookOptions, ...] = ()
    public_url: str = ""
    """Where people find the farm, for links; empty means where it listens."""
    upgrades: bool = False
    """Whether nodes may be upgraded from here; the package travels as safely as the network is."""
    upgrade_priority: int = 0
    """Of the jobs that do it."""
    shared_roots: tuple[Path, ...] = ()
    """Folders that this machine sees as the server does: jobs' files there need no detour."""
    farm_name: str = ""
    """What the pages call the farm; empty means Roost."""
    farm_colour: Literal["blue", "green", "red", "orange", "violet"] = "blue"
    """A line in this colour tells one farm's pages from another's."""
    expire_jobs_days: float = 0.0
    """Never by default: nobody should lose the record of a job who has not asked for that."""
    heartbeat: float = 10.0
    body_bytes_max: int = 64 * 1024 * 1024
    agent_name: str = ""
    agent_host: str = "127.0.0.1"
    agent_port: int | None = None
    """None means what the file `hqnode.port` of its folder says, else 5001."""
    agent_data: Path | None = None
    """None means the folder `agent` inside `data`."""
    cpus: int | None = None
    """None means all the machine has."""
    shared_folder: str = ""
    """The farm's shared folder as this machine sees it: HQROOT in jobs. Empty: what the server's
    `hqserver.ini` has for this platform."""
    job_environment: dict[str, str] = {}
    """Variables for every job on this machine."""
    allow_root: bool = False
    """Whether an agent of root's may run jobs, which are root's then."""
    log: str = ""
    """`json` or `console`; empty means console on a terminal, JSON elsewhere."""
    log_level: str = "info"
    hqueue: dict[str, str] = {}


TYPES = {field.name: field.type for field in msgspec.structs.fields(Values)}
JOB_VARIABLES = {"server": "HQSERVER"}
"""Variables that a job finds: a script inside it means the farm that runs it."""
ALIKE_MIN = 0.85
"""From 0 to 1: how much a variable must be like a setting to be taken for a slip."""
TABLES = frozenset({"hqueue", "job_environment", "webhooks"})
"""Settings that only the file can hold, as tables of names and texts."""


BOUNDS: dict[str, tuple[float, float | None]] = {
    **dict.fromkeys(("port", "agent_port", "mail_port"), (0, 65535)),
    **dict.fromkeys(("active_timeout", "requeue_after"), (0, 1_000_000_000)),
    "heartbeat": (0.001, 1_000_000),
    "expire_jobs_days": (0, 100_000),
    "body_bytes_max": (1, None),
    "chirp_umask": (0, 0o777),
}
"""The least and the most that a number can be; others can be anything that is not negative."""
WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict[str, str]: "a table of texts",
    tuple[Path, ...]: "a list of folders",
    Path: "the name of a folder",
    str: "text",
}


class Settings(Struct, frozen=True):
    """The values in force, and for each the place it comes from."""

    values: Values
    sources: dict[str, str]
    file: Path
    """The TOML file that is looked at, whether it exists or not."""
    inis: tuple[Path, ...] = ()
    """Files of HQueue that were read as well."""
    ignored: tuple[str, ...] = ()
    """What these, and variables, say that changes nothing, in sentences."""

    def server_options(self, *, exit_with_stdin: bool = False) -> ServerOptions:
        """Raises `Invalid`."""
        values = self.values
        if values.public_url and not _is_address(values.public_url):
            raise Invalid(
                f"Setting public_url = {values.public_url!r} from {self.sources['public_url']} "
                "is no address of a server: write it like http://farm:5000."
            )
        return ServerOptions(
            data=values.data,
            host=values.host,
            port=values.port,
            database_url=values.database_url,
            active_timeout_ms=round(values.active_timeout * 1000),
            requeue_after_gone_ms=round(values.requeue_after * 1000),
            max_failures_per_client=values.max_failures_per_client,
            time_zone=values.time_zone,
            chirp=ChirpSwitches(
                **{name: getattr(values, name) for name in ChirpSwitches.__struct_fields__}
            ),
            submit_roots=values.submit_roots,
            mail=MailOptions(
                **{name: getattr(values, f"mail_{name}") for name in MailOptions.__struct_fields__}
            ),
            webhooks=values.webhooks,
            public_url=values.public_url,
            upgrades=values.upgrades,
            upgrade_priority=values.upgrade_priority,
            chirp_folder_bytes_max=values.chirp_folder_bytes_max,
            expire_after_ms=round(values.expire_jobs_days * 24 * 3600 * 1000),
            farm_name=values.farm_name,
            farm_colour=values.farm_colour,
            shown=self.shown(),
            heartbeat_ms=round(values.heartbeat * 1000),
            body_bytes_max=values.body_bytes_max,
            config=values.hqueue,
            exit_with_stdin=exit_with_stdin,
        )

    def shown(self) -> tuple[tuple[str, str, str], ...]:
        """Every setting, its value as text, and where that comes from. What is secret is only
        said to be set."""
        found = []
        for name in sorted(TYPES):
            if name in SECRETS or name in TABLES:
                text = "set" if getattr(self.values, name) else "not set"
            else:
                text = self.text(name)
            found.append((name, text, self.sources[name]))
        return tuple(found)

    def text(self, name: str) -> str:
        """A value as it could be written into the environment; empty for None."""
        value = getattr(self.values, name)
        if isinstance(value, tuple):
            return os.pathsep.join(map(str, value))
        return "" if value is None else str(value)

    @property
    def agent_data(self) -> Path:
        return self.values.agent_data or self.values.data / "agent"


def load(
    command_line: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
    inis: Sequence[Path] = (),
) -> Settings:
    """Read all places and weigh them. A `None` on the command line means "not given".

    Raises `Invalid` for a value of the wrong type, an unknown name in the file, a file that is
    not TOML, or a named file that does not exist.
    """
    environment = os.environ if environment is None else environment
    given: dict[str, tuple[object, str]] = {}
    if file is None and environment.get("ROOST_CONFIG"):
        file = Path(environment["ROOST_CONFIG"])
    chosen = file or Path(platformdirs.user_config_dir("roost")) / "roost.toml"
    named = environment.get("ROOST_INI", "").split(os.pathsep)
    inis = inis or [Path(each) for each in named if each]
    ignored: list[str] = []
    for ini in inis:
        read = _read_ini(ini)
        given.update({name: (value, str(ini)) for name, value in read.values.items()})
        ignored += read.ignored
    for name, value in _read(chosen, required=file is not None).items():
        if name not in TYPES:
            raise Invalid(f"{chosen} has an unknown setting {name!r}.")
        if name == "hqueue" and isinstance(value, dict) and name in given:
            value = {**given[name][0], **value}  # type: ignore[dict-item]
        given[name] = (value, str(chosen))
    for name in TYPES:
        for variable in (JOB_VARIABLES.get(name, ""), f"ROOST_{name.upper()}"):
            if environment.get(variable) and name not in TABLES:
                given[name] = (environment[variable], variable)
    ignored += _slips(environment)
    for name, value in (command_line or {}).items():
        if value is not None:
            given[name] = (value, "command line")
    typed = {name: _convert(name, value, source) for name, (value, source) in given.items()}
    sources = {name: given[name][1] if name in given else "default" for name in TYPES}
    return Settings(Values(**typed), sources, chosen, tuple(inis), tuple(ignored))


def _slips(environment: Mapping[str, str]) -> Iterator[str]:
    """About variables that look like settings and are none; jobs and agents have others."""
    names = {f"ROOST_{name.upper()}": name for name in TYPES}
    for variable in sorted(environment):
        if names.get(variable) in TABLES:
            yield f"{variable} is ignored: {names[variable]} can only be in the settings file."
        elif variable.startswith("ROOST_") and variable not in names:
            import difflib  # seldom needed, and every command would pay for it

            for meant in difflib.get_close_matches(variable, names, 1, ALIKE_MIN):
                yield f"{variable} is no setting and is ignored; did you mean {meant}?"


def read_inis(files: Sequence[Path]) -> inifiles.Ini:
    """Several files of HQueue as one; a later one wins. Raises `Invalid`."""
    read = [_read_ini(file) for file in files]
    values = {name: value for ini in read for name, value in ini.values.items()}
    return inifiles.Ini(values, tuple(sentence for ini in read for sentence in ini.ignored))


def check_address(url: str) -> None:
    """Raises `Invalid` for what cannot be the address of a server."""
    if not _is_address(url):
        raise Invalid(f"{url!r} is no address of a server: write it like http://farm:5000.")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return False
    return bool(is_one) and url.isprintable()


def _read_ini(file: Path) -> inifiles.Ini:
    """With the file about network folders that newer versions have beside it."""
    try:
        found = inifiles.read(file.read_text(encoding="utf-8"), str(file.parent), str(file))
        beside = file.with_name("network_folders.ini")
        if isinstance(config := found.values.get("hqueue"), dict) and beside.is_file():
            config.update(inifiles.folders(beside.read_text(encoding="utf-8"), str(beside)))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise Invalid(f"{file} cannot be read: {reason}.") from None
    return found


def _read(file: Path, *, required: bool) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise Invalid(f"There is no settings file {file}.") from None
        return {}
    except UnicodeDecodeError:
        raise Invalid(f"{file} is not valid TOML: it is not text in UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{file} is not valid TOML: {error}.") from None
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}.") from None


def _convert(name: str, value: object, source: str) -> Any:
    """As its type; text is read as a number where one is wanted (the environment has only text)."""
    kind = TYPES[name]
    if isinstance(value, str):
        if kind == tuple[Path, ...]:
            value = [part for part in value.split(os.pathsep) if part]
        elif kind not in (Path, Path | None) and not _is_text(value):
            raise Invalid(f"Setting {name} = {value!r} from {source} is not text in UTF-8.")
    shown = "" if name in SECRETS else f" = {value!r}"
    try:
        converted = msgspec.convert(value, kind, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        wanted = _in_words(kind)
        what = f"must be {wanted}" if wanted else f"is not usable: {error}"
        raise Invalid(f"Setting {name}{shown} from {source} {what}.") from None
    if isinstance(converted, int | float):
        least, most = BOUNDS.get(name, (0, None))
        if converted != converted:
            raise Invalid(f"Setting {name}{shown} from {source} must be a number.")
        if converted < least:
            text = f"must be at least {least}" if least else "must not be negative"
            raise Invalid(f"Setting {name}{shown} from {source} {text}.")
        if most is not None and converted > most:
            raise Invalid(f"Setting {name}{shown} from {source} must be at most {most:,}.")
    return converted


def _is_text(value: str) -> bool:
    """What bytes become that are not UTF-8 can be in the name of a file and nowhere else."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _in_words(kind: Any) -> str:
    """What a value of this type is; empty where only msgspec can say."""
    if get_origin(kind) is Literal:
        *most, last = get_args(kind)
        return f"{', '.join(most)} or {last}"
    kinds = set(get_args(kind)) or {kind}
    return next((words for each, words in WORDS.items() if each in kinds or each == kind), "")


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str | Path):
        return Path(value).expanduser()
    raise TypeError("expected a path")

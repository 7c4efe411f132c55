"""How an agent becomes another Roost: the server's package, fetched, checked, tried, put to use.

`python -m roost.agent.upgrade VERSION SHA256` is what the built-in "Upgrade" job runs on a node. It
fetches the package from the farm that the job belongs to, holds it against both hashes, unpacks it
into `packages/VERSION` of the agent's folder, tries whether it can be imported here, and only then
asks the agent, by SIGHUP, to go on as that (`switch`). Whatever goes wrong before leaves the agent
as it is and is said in the job's output.

`packages/current` says which package replaced which. An agent that is started anew takes that step
again, unless somebody has installed another Roost meanwhile: then that one counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import httpx2

from roost import openfiles, package
from roost.errors import ProtocolError, RoostError, Unreachable

ARCHIVE_BYTES_MAX = 64 * 1024 * 1024
UNPACKED_BYTES_MAX = 256 * 1024 * 1024
CONNECT_S_MAX = 30.0
TRY_S_MAX = 60
TRIAL = (
    "import roost.cli.running, roost.agent.daemon, roost.package; print(roost.package.version())"
)
INSTALLED = "ROOST_INSTALLED"
"""In the environment of an agent that was switched: the version that it had been started as."""


def main(arguments: list[str]) -> int:
    """In a job: see the module's text."""
    version, digest = arguments
    folder = Path(os.environ["ROOST_AGENT_FOLDER"])
    try:
        install(folder, os.environ["HQSERVER"], version, digest)
        agent = int((folder / "hqnode.pid").read_text())
        os.kill(agent, signal.SIGHUP)
    except (RoostError, OSError, ValueError) as error:
        print(f"The agent stays as it is. {error}", file=sys.stderr)
        return 1
    print(f"The agent goes on as Roost {version}.")
    return 0


def install(folder: Path, server: str, version: str, digest: str) -> None:
    """Put the server's package into the agent's folder, ready for `switch`.

    Raises `Unreachable`, `ProtocolError` for a package that is not what was announced or does not
    run here, `OSError` when the disk refuses.
    """
    packages = folder / "packages"
    place = packages / version
    if not (place / package.FOLDER).is_dir():
        new = packages / f"{version}.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        try:
            unpack(fetch(server, digest), new)
            found = package.version_of(new / package.FOLDER)
            if found != version:
                raise ProtocolError(f"The package is Roost {found}, and {version} was announced.")
            _try(new, version)
            new.rename(place)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    else:
        _try(place, version)
    current = packages / "current.new"
    current.write_text(f"{_installed()} {version}\n")
    current.rename(packages / "current")


def fetch(server: str, digest: str) -> bytes:
    """The archive, if it has this SHA-256. Raises `Unreachable` or `ProtocolError`."""
    url = server.rstrip("/") + package.PATH
    data = bytearray()
    try:
        with httpx2.stream("GET", url, timeout=CONNECT_S_MAX) as answer:
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                data += piece
                if len(data) > ARCHIVE_BYTES_MAX:
                    raise ProtocolError(f"{url} is larger than any Roost.")
    except httpx2.HTTPError as error:
        raise Unreachable(f"{url} cannot be fetched: {error}.") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise ProtocolError(f"{url} is not the package that the server announced.")
    return bytes(data)


def unpack(archive: bytes, folder: Path) -> None:
    """Nothing of it leaves the folder. Raises `ProtocolError` for names that would, or too much."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            entries = packed.infolist()
            if sum(entry.file_size for entry in entries) > UNPACKED_BYTES_MAX:
                raise ProtocolError("The package is larger than any Roost.")
            for entry in entries:
                parts = PurePosixPath(entry.filename).parts
                inside = parts[:1] == (package.FOLDER,) and ".." not in parts
                if not inside or "\\" in entry.filename or entry.is_dir():
                    raise ProtocolError(f"The package has a file {entry.filename!r}.")
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(packed.read(entry))
    except zipfile.BadZipFile as error:
        raise ProtocolError(f"The package cannot be unpacked: {error}.") from error


def _try(place: Path, version: str) -> None:
    """A package that needs a library which is not here must not replace one that works."""
    environment = {**os.environ, "PYTHONPATH": _path(place)}
    try:
        tried = subprocess.run(
            [sys.executable, "-c", TRIAL],
            env=environment,
            capture_output=True,
            text=True,
            timeout=TRY_S_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProtocolError(
            f"Roost {version} does not run here: after {TRY_S_MAX} s it has not been imported."
        ) from None
    if tried.stdout.strip() != version:
        reason = (tried.stderr.strip().splitlines() or ["it does not say why"])[-1]
        raise ProtocolError(f"Roost {version} does not run here: {reason}.")


def switch(folder: Path) -> None:
    """Go on as the package in `packages/current`, if it replaced this one: then this does not
    return. The process stays, with its arguments."""
    packages = folder / "packages"
    with contextlib.suppress(OSError, ValueError):
        replaced, version = (packages / "current").read_text().split()
        place = packages / version
        usable = _installed() == replaced and (place / package.FOLDER).is_dir()
        if usable and version != package.version():
            environment = {**os.environ, "PYTHONPATH": _path(place), INSTALLED: replaced}
            openfiles.give_back()
            os.execve(sys.executable, [sys.executable, "-m", "roost", *sys.argv[1:]], environment)


def _installed() -> str:
    return os.environ.get(INSTALLED) or package.version()


def _path(place: Path) -> str:
    """Instead of an earlier package of ours, before everything else."""
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [each for each in before if each and Path(each).parent != place.parent]
    return os.pathsep.join([str(place), *kept])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

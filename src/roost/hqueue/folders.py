"""HQueue's methods about the shared network folder, which jobs know as HQROOT.

Knows the keys of `hqserver.ini` that describe it: the machine that serves it, its path there, and
where each platform mounts it. Must not look at any disk; what is configured is what is answered.

Always holds: `getHQRoot` and the folder HQROOT of `getNetworkFolders` say the same (decision 22),
and a platform other than the documented three is None (decision 23). Jobs have the same as HQROOT,
unless their machine has been told another one.
"""

from __future__ import annotations

from collections.abc import Callable

from roost.core.jobspec import PLATFORMS
from roost.gateway import Gateway

PREFIX = "hqserver.sharedNetwork"
HQROOT = "HQROOT"


Config = Callable[[str], str | None]
"""The value of a key of `hqserver.ini`."""


def _mount(config: Config, platform: str) -> str:
    return config(f"{PREFIX}.mount.{platform}") or ""


def _unc(config: Config) -> str:
    """The folder as Windows names it on the network; empty when that is not configured."""
    host = config(f"{PREFIX}.host")
    path = config(f"{PREFIX}.path.windows")
    if not host or not path:
        return ""
    path = path.replace("/", "\\")
    if path.startswith(r"\\"):
        return path
    share = path.strip("\\")
    return rf"\\{host}\{share}"


def hq_root(config: Config, platform: str, *, is_client: bool) -> str:
    """HQROOT on a platform; empty where there is none."""
    if platform not in PLATFORMS:
        return ""
    if platform == "windows" and is_client and (unc := _unc(config)):
        return unc
    return _mount(config, platform)


async def get_hq_root(gateway: Gateway, platform: str, is_client: bool) -> object:
    """Return the value of $HQROOT as it appears on a machine of the given platform.

    `linux`, `windows` or `macosx`; None for any other, and where no folder is configured. For a
    client on Windows it is the UNC path, if the server that shares the folder is configured.
    """
    return hq_root(gateway.config, platform, is_client=is_client) or None


async def get_network_folders(gateway: Gateway) -> object:
    """Return a list of the registered network folders: name, linux, windows and macosx.

    A path is empty where the folder is not mounted (decision 22).
    """
    paths = {platform: _mount(gateway.config, platform) for platform in PLATFORMS}
    return [{"name": HQROOT, **paths}] if any(paths.values()) else []

"""HQueue's methods about the shared network folder, which jobs know as HQROOT.

Knows the keys of `hqserver.ini` that describe it (spec §10.1): the machine that serves it, its
path there, and where each platform mounts it. Must not look at any disk; what is configured is
what is answered.

Always holds: `getHQRoot` and the folder HQROOT of `getNetworkFolders` say the same (decision 22),
and a platform other than the documented three is None (decision 23).
"""

from __future__ import annotations

from roost.core.jobspec import PLATFORMS
from roost.gateway import Gateway

PREFIX = "hqserver.sharedNetwork"
HQROOT = "HQROOT"


def _mount(gateway: Gateway, platform: str) -> str:
    return gateway.config(f"{PREFIX}.mount.{platform}") or ""


def _unc(gateway: Gateway) -> str:
    """The folder as Windows names it on the network; empty when that is not configured."""
    host = gateway.config(f"{PREFIX}.host")
    path = gateway.config(f"{PREFIX}.path.windows")
    if not host or not path:
        return ""
    path = path.replace("/", "\\")
    if path.startswith(r"\\"):
        return path
    share = path.strip("\\")
    return rf"\\{host}\{share}"


async def get_hq_root(gateway: Gateway, platform: str, is_client: bool) -> object:
    """Return the value of $HQROOT as it appears on a machine of the given platform.

    `linux`, `windows` or `macosx`; None for any other, and where no folder is configured. For a
    client on Windows it is the UNC path, if the server that shares the folder is configured.
    """
    if platform not in PLATFORMS:
        return None
    if platform == "windows" and is_client and (unc := _unc(gateway)):
        return unc
    return _mount(gateway, platform) or None


async def get_network_folders(gateway: Gateway) -> object:
    """Return a list of the registered network folders: name, linux, windows and macosx.

    A path is empty where the folder is not mounted (decision 22).
    """
    paths = {platform: _mount(gateway, platform) for platform in PLATFORMS}
    return [{"name": HQROOT, **paths}] if any(paths.values()) else []

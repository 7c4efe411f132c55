"""From an order to a process: the command line, the environment and the folder of a run.

What all attempts of an agent have in common is made once (`Starter.common`) and given to the
keeper when it is joined; a single start carries only what is its own. Nothing is started here and
nothing is checked: a shell or folder that does not exist is an error of the start itself, which
the keeper writes into the job's output.
"""

from __future__ import annotations

import os
import shutil
import sys
from functools import lru_cache
from pathlib import Path

import roost
from roost.agent.plan import SCRIPT_OF, Purpose
from roost.core.messages import AttemptOrder

DEFAULT_SHELL = "/bin/sh"
DEFAULT_SHELL_OF_WINDOWS = "cmd"
SHELLS_MAX = 100
"""How many are remembered, with the place where they were found."""


class Starter:
    """Knows the agent's own surroundings; `argv` and `cwd` are asked for every run."""

    def __init__(
        self,
        *,
        server: str,
        platform: str,
        folder: Path,
        root: str = "",
        job_environment: dict[str, str] | None = None,
    ) -> None:
        """`server` is the farm's URL, `folder` the agent's data folder, `root` the shared one.

        Makes the folder that jobs start in. Raises `OSError`.
        """
        self._found: dict[tuple[str, str | None], str] = {}
        """Shells by name and PATH."""
        is_windows = platform.startswith("windows")
        self._default_shell = DEFAULT_SHELL_OF_WINDOWS if is_windows else DEFAULT_SHELL
        work = folder / "work"
        work.mkdir(parents=True, exist_ok=True)
        self._cwd = str(work)
        package = Path(roost.__file__).parent if roost.__file__ else folder
        self.common = {
            **os.environ,
            **(job_environment or {}),
            # Scripts cut off the first seven characters to find the host.
            "HQSERVER": server.rstrip("/"),
            "HQCLIENT": str(package),
            "HQCLIENTARCH": platform,
            "ROOST_PYTHON": sys.executable,
            "ROOST_AGENT_FOLDER": str(folder),
            **({"HQROOT": root} if root else {}),
        }
        """Environment of everything that is started; orders add to it and win."""

    def argv(self, order: AttemptOrder, purpose: Purpose) -> list[str]:
        """The shell of the order, found on the job's own PATH, with the text for this purpose."""
        shell = order.shell or self._default_shell
        if os.sep not in shell:
            shell = self._find(shell, order.environment.get("PATH", self.common.get("PATH")))
        return [shell, _option(shell), SCRIPT_OF[purpose](order)]

    def _find(self, shell: str, path: str | None) -> str:
        """Where it was found the last time, if it still is there."""
        found = self._found.get((shell, path))
        if found is not None and os.access(found, os.X_OK):
            return found
        found = shutil.which(shell, path=path)
        if found is None:
            return shell
        if len(self._found) >= SHELLS_MAX:
            self._found.clear()
        self._found[shell, path] = found
        return found

    def cwd(self, order: AttemptOrder) -> str:
        return order.cwd or self._cwd


@lru_cache(SHELLS_MAX)
def _option(shell: str) -> str:
    """What comes before the text that it is to run."""
    return "/c" if Path(shell).stem.lower() == "cmd" else "-c"

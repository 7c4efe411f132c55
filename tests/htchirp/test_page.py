"""The page for people who write jobs is true: its blocks run, in order, as one job.

They are marked `py` and `bash` there, as they need no farm but a job with Chirp; a starter of
HTCondor offers it here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roost.htchirp.command import COMMANDS

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "chirp.md"
REFERENCE = PAGE.parents[1] / "reference" / "chirp.md"


@pytest.mark.parametrize("new", [True, False], ids=["new", "old"])
def test_the_blocks_of_the_page_run(start: Callable[..., Any], tmp_path: Path, new: bool) -> None:
    starter = start(new=new)
    (starter.root / "scene.txt").write_text("a scene")
    job = tmp_path / "job"
    job.mkdir()
    command = job / "condor_chirp"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m roost.htchirp "$@"\n')
    command.chmod(0o755)
    blocks = re.findall(r"^```(py|bash)\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) >= 5
    for language, body in blocks:
        words = [sys.executable] if language == "py" else ["bash", "-euo", "pipefail"]
        done = subprocess.run(
            [*words, "-c", body],
            cwd=job,
            env={**os.environ, "PATH": f"{job}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), f"{body}\n{done}"
    assert (starter.root / "result.txt").read_text() == "A SCENE"
    assert (starter.root / "state.txt").read_text() == "5 0.03125"
    assert starter.pending == {"ChirpLoss": "0.03125"}
    assert starter.attributes == {"ChirpFrames": "25", "ChirpArtist": '"Grace"'}


def test_commands_in_the_text_exist() -> None:
    found = re.findall(r"condor_chirp (\w+)", PAGE.read_text("utf-8"))
    assert found
    assert set(found) <= set(COMMANDS)

"""A budget of simulated worlds, those that once found a bug, and the promise of replay.

More of them: `python tests/sim/run.py --seeds 1-1000`; one of them: `make sim SEED=4711`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from roost.core.state import RECALL_AFTER_MS
from sim.world import World

SEEDS = range(1, 17)

KEPT_SEEDS = {
    50: "a tree brought back in the middle of a batch made the batch forget what it had to save",
    21: "a job deleted in a batch was brought back by a later message of the same batch",
    261: "a failed child was deleted before its parent ran onChildError: an empty command ran",
    412: "a waiting job kept the conditions of a root that it had no longer",
    23: "a machine that came back with a run that was given up got jobs for the CPUs of that",
    144: "a machine was kept for a job that lacked a unit per machine, and others waited for ever",
    225: "jobs were asked back from nodes before a late server had heard what these had said",
}
"""What each found, with the simulator as it was then; chance has taken other turns since."""


@pytest.mark.parametrize("seed", [*SEEDS, *KEPT_SEEDS])
def test_a_world_keeps_its_promises(seed: int) -> None:
    world = World(seed)
    try:
        world.run()
    except AssertionError as error:
        last = "\n".join(world.trace.lines[-30:])
        pytest.fail(f"{last}\n\n{error}\nreplay it with: make sim SEED={seed}", pytrace=False)


def test_worlds_have_servers_that_hear_late_jobs_that_are_asked_back_and_strays() -> None:
    missing = {"late and asked back", "strays"}
    for seed in range(23, 60):
        world = World(seed)
        world.run()
        if world.oracle.late_ms >= RECALL_AFTER_MS and world.oracle.recalls:
            missing.discard("late and asked back")
        if world.oracle.strays:
            missing.discard("strays")
        if not missing:
            return
    pytest.fail(f"in none of the worlds: {missing}")


def test_a_seed_is_one_history_in_any_process() -> None:
    digests = {_digest(hash_seed) for hash_seed in ("1", "2")}
    assert len(digests) == 1


def _digest(hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("run.py")), "--seed", "7", "--steps", "600"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[0]

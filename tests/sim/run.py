"""Replays simulated worlds: `python tests/sim/run.py --seed 4711`, or `--seeds 1-500`.

A failure prints the last events, the story of the job it names, and the command to replay it.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import traceback
from pathlib import Path

# Run as a script, this folder is the first place to import from, and its modules are `sim.…`.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from sim.world import World  # noqa: E402

LINES_SHOWN = 40


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="the world to replay")
    parser.add_argument("--seeds", metavar="A-B", help="all of these worlds")
    parser.add_argument("--steps", type=int, help="length of the trouble, instead of the seed's")
    parser.add_argument("--verbose", action="store_true", help="print every event")
    options = parser.parse_args()
    if options.seeds:
        first, _, last = options.seeds.partition("-")
        seeds = range(int(first), int(last or first) + 1)
    else:
        seeds = range(options.seed or 1, (options.seed or 1) + 1)
    began, steps, failed = time.perf_counter(), 0, []
    for seed in seeds:
        world = World(seed, steps=options.steps, echo=options.verbose)
        try:
            world.run()
        except Exception as error:
            failed.append(seed)
            report(world, error)
        else:
            if len(seeds) == 1:
                print(f"seed {seed}: {world.steps} steps, digest {world.trace.digest}")
        steps += world.steps
    spent = time.perf_counter() - began
    print(f"{len(seeds)} worlds, {steps} steps, {steps / spent:.0f} steps/s; failed: {failed}")
    return bool(failed)


def report(world: World, error: Exception) -> None:
    print("".join(f"{line}\n" for line in world.trace.lines[-LINES_SHOWN:]))
    traceback.print_exception(error, limit=-8)
    if named := re.search(r"#\(?(\d+)", str(error)):
        print(f"\nThe story of job {named[1]}:")
        print("\n".join(world.trace.story(int(named[1]))[-LINES_SHOWN:]))
    print(f"\nseed {world.seed} failed after {world.steps} steps: {error}")
    print(f"replay it with: make sim SEED={world.seed}\n")


if __name__ == "__main__":
    sys.exit(main())

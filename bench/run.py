"""`make bench`: Roost against the machine's own limits, as ratios within one run.

    python bench/run.py [--quick] [--only a,b] [--record] [--repetitions N] [--folder DIR]

Prints a table; a full run also writes it to `RESULTS.md` beside this file, and `results.svg`, and
`--record` puts what was measured in the place of earlier rows of the same measures. What the
letters mean is in `measures`, what the numbers mean in docs/explanation/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from pathlib import Path

import condor_pool
from measures import MEASURES, Sizes
from report import Row, chart, page, recorded, settings, table

RESULTS = Path(__file__).with_name("RESULTS.md")
CHART = RESULTS.with_name("results.svg")
QUICK = Sizes(
    jobs=500,
    latencies=20,
    children=1_000,
    newjobs=3,
    readings=50,
    idle_s=3,
    singles=200,
    pings=500,
    answers=100,
    few=500,
    many=5_000,
    agents=50,
    followers=10,
    crowd_s=3,
    live=10_000,
    finished=10_000,
    flood_mib=50,
    trickles=20,
    trickle_s=2,
    chirps=100,
    chirp_mib=8,
    studio_nodes=10,
    studio_jobs=1_000,
    studio_events=10,
    watched_s=2,
    log_mb=5,
    cancelled=300,
)


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of every `finally`
    sizes = QUICK if options.quick else Sizes()
    if options.jobs:
        sizes = sizes._replace(jobs=options.jobs)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="roost-bench-", dir=options.folder) as folder:
        for letter in options.only:
            print(f"measuring {letter} …", file=sys.stderr, flush=True)
            rows += MEASURES[letter](Path(folder), sizes, options.repetitions)
    print(table(rows))
    if not options.quick and options.only == list(MEASURES):
        beside = {}
        with contextlib.suppress(LookupError):
            beside["HTCondor"] = condor_pool.version()
        known = settings(options.folder, options.repetitions, sizes._asdict(), beside)
        RESULTS.write_text(page(rows, known))
        CHART.write_text(chart(rows))
    elif options.record:
        text, svg = recorded(RESULTS.read_text(), rows, options.repetitions)
        RESULTS.write_text(text)
        CHART.write_text(svg)
    else:
        return 0
    print(f"\nWritten to {RESULTS}.")
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure Roost against the machine's own limits.")
    parser.add_argument("--quick", action="store_true", help="do less; writes no results")
    parser.add_argument(
        "--only",
        type=lambda text: [letter.strip() for letter in text.split(",")],
        default=list(MEASURES),
        metavar="a,b,…",
        help=f"of {', '.join(MEASURES)}; memory (f) comes with e",
    )
    parser.add_argument("--record", action="store_true", help="write what --only measures, too")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="[default: 5]")
    parser.add_argument("--jobs", type=int, metavar="N", help="so many jobs in a, b and g")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where the farm's data is  [default: temporary]"
    )
    options = parser.parse_args(arguments)
    options.only = ["e" if letter == "f" else letter for letter in options.only]
    if options.quick and options.record:
        parser.error("a quick run is nothing to record")
    if unknown := set(options.only).difference(MEASURES):
        parser.error(f"there is no measure {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

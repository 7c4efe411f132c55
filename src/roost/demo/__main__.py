"""Start a farm, have it compute a picture, and check the picture: `python -m roost.demo`.

Everything goes the way a stranger's script would: the farm is the `roost up` command in a process
of its own, the jobs go in through plain `xmlrpc.client`, and the only proof accepted in the end is
the assembled file, read back and compared with tiles rendered here. The exit code is 0 only then.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from roost.demo import picture

DEADLINE_S = 240
LOOK_S = 0.25
ENDED = ("succeeded", "failed", "cancelled", "abandoned")
SAMPLE = (0, 9, 23)
"""Tiles that are rendered again here to be compared."""


class DemoFailed(Exception):
    """The sentence to end with."""


def main() -> int:
    """Run the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m roost.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("demo-farm"), help="for the images")
    parser.add_argument("--keep", action="store_true", help="leave the farm running until Ctrl-C")
    options = parser.parse_args()
    console = Console(highlight=False)
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    try:
        with tempfile.TemporaryDirectory(prefix="roost-demo-") as data, farm(Path(data)) as address:
            console.print(f"A farm of one machine is up at {address}", soft_wrap=True)
            server = xmlrpc.client.ServerProxy(address, allow_none=True)
            ids: list[int] = server.newjob(tree(folder))  # type: ignore[assignment]
            console.print(f"Submitted job {ids[0]} with {len(ids) - 1} children.")
            watch(server, ids, console)
            check(folder)
            console.print(
                f"\n{picture.TILES} tiles in {folder}\n"
                f"The picture: {folder / picture.RESULT} "
                f"({picture.WIDTH} x {picture.HEIGHT} pixels, checked)\n"
                f"The farm:    {address} (XML-RPC) and {address}/api/v1/jobs (JSON)",
                soft_wrap=True,
            )
            if options.keep:
                console.print("The farm stays up until Ctrl-C.")
                signal.pause()
    except DemoFailed as error:
        console.print(f"The demonstration failed: {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 0 if options.keep else 130
    return 0


@contextlib.contextmanager
def farm(data: Path) -> Iterator[str]:
    """A `roost up` on free ports, ended with the block. Yields its address."""
    log = data / "up.log"
    free_ports = ("--port", "0", "--agent-port", "0")
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "roost",
                "up",
                "--announce",
                "--allow-root",
                *free_ports,
                "--data",
                str(data),
            ],
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    assert process.stdout
    try:
        line = process.stdout.readline()
        if not line:
            process.wait()
            raise DemoFailed(f"the farm did not start:\n{log.read_text(errors='replace').strip()}")
        yield json.loads(line)["url"]
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def tree(folder: Path) -> dict[str, Any]:
    """The job specification: one child for each tile, and their parent that assembles them."""

    def command(*arguments: str) -> str:
        return shlex.join([sys.executable, "-m", "roost.demo.picture", *arguments, str(folder)])

    return {
        "name": "Mandelbrot",
        "command": command("assemble"),
        "children": [
            {"name": f"tile {index:02}", "command": command("tile", str(index))}
            for index in range(picture.TILES)
        ],
    }


def watch(server: xmlrpc.client.ServerProxy, ids: list[int], console: Console) -> None:
    """Draw the tree's progress until its root has ended; raises `DemoFailed` unless it did well."""
    root, *children = ids
    deadline = time.monotonic() + DEADLINE_S
    columns = (TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn())
    shown = -1
    with Progress(
        *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("tiles", total=len(children))
        while True:
            jobs: list[dict[str, Any]] = server.getJobs(ids, ["id", "name", "status"])  # type: ignore[assignment]
            status = {job["id"]: job["status"] for job in jobs}
            done = sum(status[child] == "succeeded" for child in children)
            running = sum(status[child] == "running" for child in children)
            progress.update(task, completed=done, description=f"tiles, {running} running")
            if not console.is_terminal and done != shown:
                console.print(f"{done}/{len(children)} tiles done, {running} running")
                shown = done
            if status[root] in ENDED:
                break
            if time.monotonic() > deadline:
                raise DemoFailed(f"job {root} was not done after {DEADLINE_S} seconds.")
            time.sleep(LOOK_S)
    if status[root] != "succeeded":
        failed = next((job for job in jobs[1:] if job["status"] != "succeeded"), jobs[0])
        output = str(server.getJobOutput(failed["id"])).strip()
        raise DemoFailed(f"job {failed['id']} ({failed['name']}) {failed['status']}:\n{output}")


def check(folder: Path) -> None:
    """Believe the file, not the status: right size, made of the tiles, and the tiles are true."""
    try:
        whole = picture.read_png(folder / picture.RESULT)
        expected = picture.assemble(folder)
        samples = [picture.read_png(picture.tile_file(folder, index)) for index in SAMPLE]
    except (OSError, ValueError) as error:
        raise DemoFailed(f"a result is missing or damaged: {error}") from None
    if (len(whole[0]) // 3, len(whole)) != (picture.WIDTH, picture.HEIGHT):
        raise DemoFailed(f"the picture is {len(whole[0]) // 3} x {len(whole)} pixels.")
    if whole != expected:
        raise DemoFailed("the picture is not made of the tiles.")
    for index, sample in zip(SAMPLE, samples, strict=True):
        if sample != picture.render(index):
            raise DemoFailed(f"tile {index} is not what rendering it again gives.")


if __name__ == "__main__":
    sys.exit(main())

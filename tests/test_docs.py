"""The documentation is true: its commands run, its links lead somewhere, the reference is fresh.

Fences marked `sh` and `python` are run, page by page and from top to bottom, in a folder of their
own and against one real farm; `python` fences with no `sh` between them are one program. Lines
beginning with `$` in fences marked `console` are too big for that (they install, or never end) and
are looked at instead, as are lines that units of systemd start: verbs, commands and options must
exist.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from roost import settings
from roost.cli import cli, reference
from roost.core import jobspec
from roost.hqueue import clients as hqueue_clients
from roost.hqueue import dispatch
from roost.hqueue import jobs as hqueue_jobs

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], key=lambda page: str(page))
DEFAULT_SERVER = settings.Values().server
PAGE_S_MAX = 120


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def fences(page: Path, *languages: str) -> list[tuple[str, str]]:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(language, body) for language, body in found if language in languages]


def programs(page: Path) -> list[tuple[str, str]]:
    """What is run: each `sh` fence, and `python` fences as far as they follow each other."""
    found: list[tuple[str, str]] = []
    for language, body in fences(page, "sh", "python"):
        if found and language == found[-1][0] == "python":
            body = f"{found.pop()[1]}\n{body}"
        found.append((language, body))
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the farm."""
    return tmp_path_factory.mktemp("farm")


@pytest.fixture(scope="module")
def farm(data: Path) -> Iterator[str]:
    """The address of a farm with four CPUs."""
    options = ["--port", "0", "--agent-port", "0", "--cpus", "4", "--log-level", "warning"]
    process = subprocess.Popen(
        [sys.executable, "-m", "roost", "up", "--announce", *options, "--data", str(data)],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    assert process.stdout
    with process.stdout:
        line = process.stdout.readline()
        assert line, "the farm did not start; see standard error"
        yield json.loads(line)["url"]
        process.terminate()
        process.wait(10)


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if fences(p, "sh", "python")], ids=name_of)
def test_the_commands_of_a_page_run(page: Path, farm: str, data: Path, tmp_path: Path) -> None:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("ROOST_")}
    environment |= {
        "ROOST_SERVER": farm,
        "ROOST_DATA": str(data),
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_COLOR": "1",
    }
    environment.pop("XDG_CONFIG_HOME", None)
    for language, body in programs(page):
        if language == "sh":
            arguments = ["bash", "-euo", "pipefail", "-c", body]
        else:
            assert DEFAULT_SERVER in body, "an example must talk to the default farm"
            arguments = [sys.executable, "-c", body.replace(DEFAULT_SERVER, farm)]
        run = subprocess.run(
            arguments,
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PAGE_S_MAX,
            check=False,
        )
        said = f"{body}\n--- exit code {run.returncode}\n{run.stdout}\n{run.stderr}"
        assert run.returncode == 0, said
        assert "Traceback" not in run.stderr, said


TRANSCRIPT_COMMANDS = [
    pytest.param(command, id=f"{name_of(page)}: {command}")
    for page in PAGES
    for _, body in fences(page, "console")
    for line in body.splitlines()
    if line.startswith("$ ")
    for command in re.split(r" && | \| ", line[2:])
] + [
    pytest.param(command, id=f"{name_of(page)}: {command}")
    for page in PAGES
    for _, body in fences(page, "ini")
    for command in re.findall(r"^ExecStart=/opt/roost/bin/(.*)$", body, re.MULTILINE)
]


@pytest.mark.parametrize("command", TRANSCRIPT_COMMANDS)
def test_the_commands_of_a_transcript_exist(command: str) -> None:
    program, *arguments = [word for word in shlex.split(command) if "=" not in word]
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        for verb in arguments:
            assert re.search(rf"^{verb}:", makefile, re.MULTILINE), f"make has no {verb}"
    elif program == "roost":
        context = click.Context(cli, info_name="roost")
        found = cli.get_command(context, arguments[0])
        assert found is not None, f"roost has no {arguments[0]}"
        known = {option for parameter in found.params for option in parameter.opts}
        for word in arguments[1 : arguments.index("--") if "--" in arguments else None]:
            assert not word.startswith("-") or word in known, f"{arguments[0]} has no {word}"
    else:
        assert program in {"git", "cd", "python3", "pip", "."}, f"{program} is not looked at"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, heading = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{name_of(page)} links to {target}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", there.read_text("utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert heading in anchors, f"{name_of(page)} links to {target}"


def test_the_api_reference_is_fresh() -> None:
    page = (ROOT / "docs/reference/hqueue-api.md").read_text(encoding="utf-8")
    assert page == dispatch.reference() + "\n", "run make docs"


def test_the_command_reference_is_fresh() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    assert page == reference.page() + "\n", "run make docs"


def decisions(text: str) -> set[tuple[str, int]]:
    """Those that a text cites: "decision 13", "decisions 2, 35, 36", "Chirp decisions 6 to 8"."""
    cited: set[tuple[str, int]] = set()
    for about, numbers in re.findall(
        r"(?i:\b(Chirp )?decisions?)\s+(\d+(?:(?:,| and| to)\s+\d+)*)", text
    ):
        for first, last in re.findall(r"(\d+)(?:\s+to\s+(\d+))?", numbers):
            cited |= {
                (about.strip() or "HQueue", n) for n in range(int(first), int(last or first) + 1)
            }
    return cited


def test_every_decision_that_is_cited_is_told_and_no_other() -> None:
    page = (ROOT / "docs/explanation/decisions.md").read_text(encoding="utf-8")
    told: set[tuple[str, int]] = set()
    for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        about = part.partition("\n")[0]
        told |= {(about, int(n)) for n in re.findall(r"^\| (\d+) \|", part, re.MULTILINE)}
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    files += (ROOT / "tests/e2e/chirp").glob("*.txt")
    cited = set().union(*(decisions(file.read_text("utf-8")) for file in files))
    assert told == cited


def test_every_setting_is_explained_with_its_default() -> None:
    page = (ROOT / "docs/howto/settings.md").read_text(encoding="utf-8")
    for name in settings.TYPES:
        assert f"`{name}`" in page or f"[{name}]" in page, f"{name} is not explained"


def test_every_attribute_and_property_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/attributes.md").read_text(encoding="utf-8")
    of_jobs, of_clients, properties = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    for part, names in (
        (of_jobs, hqueue_jobs.ATTRIBUTES),
        (of_clients, hqueue_clients.ATTRIBUTES),
        (properties, jobspec.PROPERTIES),
    ):
        missing = [name for name in names if f"`{name}`" not in part]
        assert not missing, f"not in {part.splitlines()[0]!r}: {missing}"

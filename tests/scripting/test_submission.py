"""From a command and properties to a specification."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from roost.core import jobspec
from roost.frames import command_spec, frame_spec
from roost.scripting.submission import KEYS, Properties, job_spec


def test_every_property_has_a_key_that_the_farm_understands_and_every_key_a_property() -> None:
    assert set(KEYS) | {"children"} == set(Properties.__annotations__)
    relations = {"children", "childrenIds", "parentIds", "stubId", "childStubIds"}
    assert set(KEYS.values()) | {"command"} | relations == set(jobspec.PROPERTIES)


def test_a_command_names_its_job_in_short() -> None:
    assert command_spec("x" * 200)["name"] == "x" * 59 + "…"
    assert job_spec("render", name="film")["name"] == "film"


def test_paths_become_text() -> None:
    folder = PurePosixPath("/shots/7")
    spec = job_spec("render", cwd=folder, environment={"SHOT": folder, "N": 7})
    assert (spec["cwd"], spec["environment"]) == ("/shots/7", {"SHOT": "/shots/7", "N": 7})
    assert job_spec(["ls", str(Path("a b"))])["command"] == "ls 'a b'"


def test_frames_become_children_with_their_number_in_the_environment() -> None:
    spec = {"name": "film", "command": "r", "cpus": 2, "priority": 5, "environment": {"A": "1"}}
    assert frame_spec(spec, [1, 3]) == {
        "name": "film",
        "priority": 5,
        "children": [
            {**spec, "name": "film [1]", "environment": {"A": "1", "FRAME": "1"}},
            {**spec, "name": "film [3]", "environment": {"A": "1", "FRAME": "3"}},
        ],
    }


@pytest.mark.parametrize(
    ("command", "made"),
    [
        ("render {frame} to {frame}.exr", "render 7 to 7.exr"),
        ("render ${frame} $FRAME {frames}", "render ${frame} $FRAME {frames}"),
    ],
)
def test_a_frame_stands_in_the_command(command: str, made: str) -> None:
    spec: Any = frame_spec(command_spec(command), [7])
    assert spec["children"][0]["command"] == made


def test_mail_is_about_all_frames_and_not_about_each() -> None:
    spec: Any = frame_spec(job_spec("r", email_to="ann@example.org"), [1, 2])
    assert spec["emailTo"] == "ann@example.org"
    assert all("emailTo" not in child for child in spec["children"])

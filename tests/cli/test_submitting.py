"""roost submit: what reaches the farm, what is printed, and how it ends."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from roost.cli.submitting import apply_options
from roost.errors import Invalid


def test_words_are_quoted_and_a_single_one_is_a_line_for_the_shell(farm: Any, run: Any) -> None:
    run("submit", "--", "echo", "a b", "$HOME")
    run("submit", "--", "echo $FRAME | cat")
    assert [spec["command"] for spec, _ in farm.submitted] == [
        "echo 'a b' '$HOME'",
        "echo $FRAME | cat",
    ]


def test_options_that_were_given_say_what_the_job_is_like() -> None:
    spec: dict[str, Any] = {"name": "a", "cpus": 1, "environment": {"A": "1"}}
    apply_options(spec, cpus=4, tries=2, max_time=9, environment=["B=x=y", "C="], tags=["single"])
    assert spec == {
        "name": "a",
        "cpus": 4,
        "triesLeft": 2,
        "maxTime": 9,
        "environment": {"A": "1", "B": "x=y", "C": ""},
        "tags": ["single"],
    }


def test_attributes_are_literals_texts_or_expressions() -> None:
    spec: dict[str, Any] = {"attributes": {"Old": 1}}
    given = ["A=7", "B=2.5", "C=true", 'D="7"', "E=some words", "F:=A + 1", "G=x=y", "H="]
    apply_options(spec, attributes=given, submit_dir="/shots")
    assert spec == {
        "attributes": {
            "Old": 1, "A": 7, "B": 2.5, "C": True, "D": "7", "E": "some words",
            "F": {"expr": "A + 1"}, "G": "x=y", "H": "",
        },
        "submitDir": "/shots",
    }  # fmt: skip
    with pytest.raises(Invalid):
        apply_options(spec, attributes=["A"])


def test_the_id_is_all_there_is_on_standard_output(farm: Any, run: Any) -> None:
    code, out, err = run("submit", "--frames", "1-3", "--parent", "5", "--", "render", "$FRAME")
    (spec, parent) = farm.submitted[0]
    assert (code, out, parent) == (0, "11\n", 5)
    assert "job 11" in err
    assert "3 jobs" in err
    assert [child["environment"]["FRAME"] for child in spec["children"]] == ["1", "2", "3"]
    assert spec["children"][0]["cwd"] == str(Path.cwd())


def test_what_follows_the_dashes_belongs_to_the_job(farm: Any, run: Any) -> None:
    run("submit", "--cpus", "2", "--", "render", "--cpus", "--", "8")
    assert farm.submitted[0][0]["command"] == "render --cpus -- 8"


def test_a_file_is_sent_as_it_is_apart_from_options(farm: Any, run: Any, tmp_path: Path) -> None:
    file = tmp_path / "tree.json"
    file.write_text('{"name": "a", "odd": [1], "children": [{"name": "b"}]}')
    assert run("submit", str(file), "--priority", "3")[:2] == (0, "11\n")
    assert farm.submitted[0][0] == {
        "name": "a",
        "odd": [1],
        "children": [{"name": "b"}],
        "priority": 3,
    }


def test_a_list_prints_the_id_of_each_root(
    farm: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = io.TextIOWrapper(io.BytesIO(b'[{"name": "a"}, {"name": "b"}]'))
    monkeypatch.setattr(sys, "stdin", text)
    code, out, _ = run("submit", "-")
    assert (code, out) == (0, "11\n12\n")


@pytest.mark.parametrize("text", ["{", "[]", "7", '["a"]', "\xff"])
def test_a_file_that_holds_no_job_is_refused(
    farm: Any, run: Any, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "wrong.json"
    file.write_bytes(text.encode("latin-1"))
    code, out, err = run("submit", str(file))
    assert (code, out) == (2, "")
    assert "wrong.json" in err
    assert farm.submitted == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--"],
        ["-", "--", "true"],
        ["-", "--frames", "1-2"],
        ["--frames", "a", "--", "true"],
        ["--cpus", "0", "--", "true"],
        ["--env", "A", "--", "true"],
        ["true"],
    ],
)
def test_wrong_usage_ends_with_2_and_submits_nothing(
    farm: Any, run: Any, arguments: list[str]
) -> None:
    code, out, err = run("submit", *arguments)
    assert (code, out) == (2, "")
    assert err
    assert "Traceback" not in err
    assert farm.submitted == []


@pytest.mark.parametrize(
    ("status", "code"), [("succeeded", 0), ("failed", 1), ("abandoned", 1), ("cancelled", 3)]
)
def test_waiting_ends_with_the_fate_of_the_job(
    farm: Any, run: Any, standing: Any, status: str, code: int
) -> None:
    farm.changes = [standing(11, "running"), standing(11, status)]
    found, out, err = run("submit", "--wait", "--", "true")
    assert (found, out) == (code, "11\n")
    assert f"Job 11 {status}." in err


def test_waiting_as_json_is_one_document(farm: Any, run: Any, standing: Any) -> None:
    farm.changes = [standing(11, "failed")]
    code, out, _ = run("submit", "--wait", "--json", "--", "true")
    assert code == 1
    assert json.loads(out) == {"id": 11, "roots": [11], "ids": [11], "statuses": {"11": "failed"}}


def test_ctrl_c_leaves_the_job_running_and_says_so(farm: Any, run: Any, standing: Any) -> None:
    farm.changes = [standing(11, "running"), KeyboardInterrupt()]
    code, out, err = run("submit", "--wait", "--", "true")
    assert (code, out) == (130, "11\n")
    assert "roost cancel 11" in err
    assert farm.acted == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[" * 100_000, "is nested too deeply."),
        (b'{"name": "x", "cpus": NaN}', "NaN is not a number that JSON has."),
        (b'{"name": "x", "cpus": 1e999}', "1e999 is not a number that JSON has."),
        (b'{"name": "\xff"}', "it is not text in UTF-8."),
    ],
)
def test_what_is_no_specification_is_refused_in_a_sentence(
    farm: Any, run: Any, tmp_path: Path, text: bytes, said: str
) -> None:
    file = tmp_path / "job.json"
    file.write_bytes(text)
    code, out, err = run("submit", str(file))
    assert (code, out, farm.submitted) == (2, "", [])
    assert err.startswith(f"roost: {file} is ") and err.endswith(f"{said}\n")


def test_a_folder_that_is_gone_is_told_of(
    farm: Any, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, _, err = run("submit", "--", "true")
    assert code == 2 and err.startswith("roost: The folder that you are in has been removed")
    assert run("submit", "--cwd", "/", "--", "true")[0] == 0
    monkeypatch.chdir("/")

"""Callers that are not Python: two Perl libraries, each with its own reader and writer of XML-RPC.

Which values they cannot read is a fact about them and is told here: Frontier::RPC knows neither
`<nil/>` nor `<i8>`, so its users name the attributes they want and take the None of an action for
the error that their library makes of it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CLIENTS = Path(__file__).with_name("clients")
PACKAGES = {"RPC::XML": "librpc-xml-perl", "Frontier::Client": "libfrontier-rpc-perl"}
TIME = r"\d{8}T\d\d:\d\d:\d\d"


@pytest.fixture(scope="module")
def up(new_farm: Any) -> Iterator[Any]:
    with new_farm() as farm:
        farm.start_up("--cpus", "2")
        yield farm


def run(script: str, module: str, url: str) -> dict[str, Any]:
    perl = shutil.which("perl")
    if (
        perl is None
        or subprocess.run([perl, f"-M{module}", "-e", "1"], capture_output=True).returncode
    ):
        reason = f"Perl's {module} is not installed (Debian: apt install {PACKAGES[module]})"
        if os.environ.get("ROOST_REQUIRE_PEERS"):
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run([perl, CLIENTS / script, url], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_perl_s_rpc_xml_reads_every_type(up: Any) -> None:
    seen = run("rpc_xml.pl", "RPC::XML", up.url)
    assert seen["ping"] == ["boolean", 1]
    root, child = seen["ids"]
    assert len(seen["json"]) == len(seen["none"]) == 1
    assert seen["status"] == "succeeded"
    assert seen["job"] == {"name": "größe", "children": [child], "overallProgress": "1.0"}
    assert seen["output"] == "äöü€ 🦉 <&>\n"
    assert seen["types"] == {
        "id": "int",
        "name": "string",
        "progress": "double",
        "queueTime": "dateTime.iso8601",
        "endTime": "dateTime.iso8601",
        "resources": "nil",
        "children": "array",
        "showBlockedClientsWarning": "boolean",
    }
    assert seen["times"]["resources"] is None
    with up.rpc as rpc:
        told = rpc.getJob(root, ["queueTime", "endTime"])
    for name in ("queueTime", "endTime"):
        # The library writes it in its own way; the digits are those that were sent.
        assert re.sub(r"\D", "", seen["times"][name])[:14] == re.sub(r"\D", "", str(told[name]))
    assert seen["large"] == ["i8", str(2**40)]
    assert [available for _, available in seen["clients"]] == [1]
    assert [set(client) for client in seen["some"]] == [{"id"}]
    assert seen["nothing"] == "nil"
    is_fault, code, text = seen["fault"]
    assert (is_fault, int(code)) == (1, 0) and "makeCoffee" in text


def test_perl_s_frontier_does_all_that_needs_neither_nil_nor_i8(up: Any) -> None:
    seen = run("frontier.pl", "Frontier::Client", up.url)
    _, child = seen["ids"]
    assert seen["ping"] == 1 and seen["status"] == "succeeded" and len(seen["json"]) == 1
    assert seen["job"] == {"name": "root", "children": [child], "progress": "0.0"}
    assert seen["output"] == "ä€ <&>"
    assert re.fullmatch(TIME, seen["time"])
    assert seen["labels"] == [up.node("")["label"]]
    assert "fault code 0" in seen["fault"] and "makeCoffee" in seen["fault"]
    # What the library does not know: the call was made, and its answer is not understood.
    assert "nil" in seen["none"]

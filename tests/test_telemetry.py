"""Logs: one JSON object a line where nobody watches, and never a secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from roost import telemetry
from roost.errors import Invalid


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_logs_are_json_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.set_up()
    structlog.get_logger("here").info("job started", job=7)
    logging.getLogger("library").warning("odd: %s", "thing")
    out, err = capsys.readouterr()
    ours, theirs = map(json.loads, err.splitlines())
    assert out == ""
    assert (ours["event"], ours["job"], ours["level"], ours["logger"]) == (
        "job started",
        7,
        "info",
        "here",
    )
    assert theirs["event"] == "odd: thing"


def test_the_level_holds_back_what_is_less(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.set_up("console", "warning")
    structlog.get_logger("here").info("chatter")
    structlog.get_logger("here").warning("trouble")
    err = capsys.readouterr().err
    assert "trouble" in err
    assert "chatter" not in err


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("password", "x", telemetry.HIDDEN),
        ("join_token", "x", telemetry.HIDDEN),
        ("Authorization", "Bearer x", telemetry.HIDDEN),
        ("url", "postgresql://me:x@host/db", "postgresql://me:(hidden)@host/db"),
        ("url", "http://host:5000/a@b", "http://host:5000/a@b"),
        ("job", 7, 7),
    ],
)
def test_secrets_are_replaced(name: str, value: object, shown: object) -> None:
    assert telemetry.hide_secrets(None, "info", {name: value}) == {name: shown}


@pytest.mark.parametrize("arguments", [("yaml",), ("json", "loud")])
def test_an_unknown_form_or_level_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(Invalid, match="none of"):
        telemetry.set_up(*arguments)

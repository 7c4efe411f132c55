"""Settings: the nearest place wins, and every value knows who said it."""

from __future__ import annotations

from pathlib import Path

import pytest

from roost import settings
from roost.errors import Invalid


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "roost.toml"
    file.write_text('port = 1\nheartbeat = 5\n[hqueue]\n"smtp_server" = "mail"\n')
    return file


def test_the_nearest_place_wins_and_is_remembered(file: Path) -> None:
    found = settings.load(
        {"port": 3, "host": None},
        {"ROOST_PORT": "2", "ROOST_HOST": "::1", "ROOST_CONFIG": str(file)},
    )
    assert (found.values.port, found.sources["port"]) == (3, "command line")
    assert (found.values.host, found.sources["host"]) == ("::1", "ROOST_HOST")
    assert (found.values.heartbeat, found.sources["heartbeat"]) == (5.0, str(file))
    assert (found.values.active_timeout, found.sources["active_timeout"]) == (300.0, "default")


def test_a_script_inside_a_job_means_the_farm_that_runs_it(tmp_path: Path) -> None:
    file = tmp_path / "roost.toml"
    file.write_text('server = "http://a:1"')
    inside = {"HQSERVER": "http://b:1"}
    found = settings.load({}, inside, file)
    assert (found.values.server, found.sources["server"]) == ("http://b:1", "HQSERVER")
    assert settings.load({}, {}, file).values.server == "http://a:1"
    told = settings.load({}, {**inside, "ROOST_SERVER": "http://c:1"}, file)
    assert told.values.server == "http://c:1"


def test_server_options_count_in_milliseconds_and_carry_the_legacy_keys(file: Path) -> None:
    options = settings.load({"requeue_after": 0.25}, {}, file).server_options()
    assert options.heartbeat_ms == 5_000
    assert options.requeue_after_gone_ms == 250
    assert options.config == {"smtp_server": "mail"}


def test_the_agent_lives_in_the_farm_s_folder_unless_told_otherwise() -> None:
    assert settings.load({"data": Path("a")}, {}).agent_data == Path("a/agent")
    assert settings.load({"agent_data": Path("b")}, {}).agent_data == Path("b")


def test_a_path_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert settings.load({}, {"ROOST_DATA": "~/farm"}).values.data == Path("/somewhere/farm")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"ROOST_PORT": "many"}, ["port", "'many'", "ROOST_PORT"]),
        ({"ROOST_REQUEUE_AFTER": "-1"}, ["requeue_after", "negative"]),
        ({"ROOST_CPUS": "1.5"}, ["cpus", "ROOST_CPUS", "must be a whole number"]),
        ({"ROOST_ENABLE_CHIRP": "no"}, ["enable_chirp", "must be true or false"]),
        ({"ROOST_FARM_COLOUR": "mauve"}, ["must be blue, green, red, orange or violet"]),
        ({"ROOST_PORT": "99999"}, ["port", "must be at most 65,535"]),
        ({"ROOST_HEARTBEAT": "nan"}, ["heartbeat", "must be a number"]),
        ({"ROOST_ACTIVE_TIMEOUT": "inf"}, ["active_timeout", "must be at most"]),
        ({"ROOST_BODY_BYTES_MAX": "0"}, ["body_bytes_max", "must be at least 1"]),
        ({"ROOST_HOST": "b\udcff"}, ["host", "not text in UTF-8"]),
    ],
)
def test_a_wrong_value_names_its_setting_and_its_source(
    environment: dict[str, str], said: list[str]
) -> None:
    with pytest.raises(Invalid) as refusal:
        settings.load({}, environment)
    for word in said:
        assert word in str(refusal.value)


@pytest.mark.parametrize("text", ["speed = 1\n", "port = \n", '[hqueue]\n"a" = 1\n'])
def test_a_wrong_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(Invalid, match=r"wrong\.toml"):
        settings.load({}, {}, file)


def test_only_a_file_that_was_asked_for_must_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "none.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    settings.load({}, {})
    for environment, file in (({}, missing), ({"ROOST_CONFIG": str(missing)}, None)):
        with pytest.raises(Invalid, match=r"There is no settings file .*none\.toml"):
            settings.load({}, environment, file)


def test_a_secret_is_not_repeated_in_a_refusal() -> None:
    with pytest.raises(Invalid) as refusal:
        settings.load({"database_url": 17})
    assert "17" not in str(refusal.value)


def test_values_are_shown_as_they_could_be_written() -> None:
    found = settings.load({"submit_roots": "/a:/b", "heartbeat": 2}, {})
    assert (found.text("submit_roots"), found.text("heartbeat")) == ("/a:/b", "2.0")
    assert found.text("cpus") == ""


def test_a_variable_that_is_nearly_a_setting_is_told_of() -> None:
    variables = {"ROOST_CPUZ": "3", "ROOST_WEBHOOKS": "x", "ROOST_ATTEMPT": "1", "ROOST_PORT": "1"}
    assert settings.load({}, variables).ignored == (
        "ROOST_CPUZ is no setting and is ignored; did you mean ROOST_CPUS?",
        "ROOST_WEBHOOKS is ignored: webhooks can only be in the settings file.",
    )


@pytest.mark.parametrize("address", ["farm.example", "http://[", "ftp://farm.example"])
def test_the_public_address_of_a_server_is_one(address: str) -> None:
    found = settings.load({}, {"ROOST_PUBLIC_URL": address})
    with pytest.raises(Invalid) as refusal:
        found.server_options()
    for word in ("public_url", repr(address), "ROOST_PUBLIC_URL", "http://farm:5000"):
        assert word in str(refusal.value)

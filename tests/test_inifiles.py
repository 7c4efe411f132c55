"""Files of HQueue are read as they are; what cannot count is said, not refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from roost import inifiles, settings
from roost.errors import Invalid

SERVER = r"""
[DEFAULT]
debug = true
email_to = you@yourdomain.example
smtp_server = localhost

[server:main]
use = egg:Paste#http
host = 0.0.0.0
port = 5005

[app:main]
hqserver.port = 5005
hqserver.activeTimeout = 10
hqserver.upgradePriority = 50
hqserver.expireJobsDays = 30
hqserver.sharedNetwork.host = fileserver
hqserver.sharedNetwork.path.linux = %(here)s/shared
hqserver.sharedNetwork.mount.linux = /mnt/hq
hqserver.sharedNetwork.mount.windows = H:
sqlalchemy.default.url = mysql://root:secret@localhost/hqueue
job_logs_dir = %(here)s/job_logs

[loggers]
keys = root
"""
NEWER = """
[main]
port = 5006
active_timeout = 2
"""
NODE = """
[main]
server = farm
port = 5001
name = second
cpus = 3
auto_upgrade = 1
sharedNetwork.mount = /mnt/hq

[job_environment]
OCIO = /mnt/hq/config.ocio
Mixed_Case = 100%
"""


def test_a_server_s_file_becomes_settings() -> None:
    found = inifiles.read(SERVER, "/opt/hqueue", "hqserver.ini")
    config = found.values.pop("hqueue")
    assert found.values == {
        "host": "0.0.0.0", "port": 5005, "log_level": "debug", "active_timeout": 600.0,
        "upgrade_priority": 50, "mail_host": "localhost",
        "expire_jobs_days": 30.0,
    }  # fmt: skip
    assert isinstance(config, dict)
    assert config["hqserver.sharedNetwork.path.linux"] == "/opt/hqueue/shared"
    assert config["hqserver.port"] == "5005" and config["job_logs_dir"] == "/opt/hqueue/job_logs"
    assert not [key for key in config if "sqlalchemy" in key]
    assert not any("secret" in sentence for sentence in found.ignored)
    assert any(s.startswith("job_logs_dir of hqserver.ini changes nothing") for s in found.ignored)
    assert not any("sharedNetwork" in sentence or "keys" in sentence for sentence in found.ignored)


def test_newer_files_have_one_section() -> None:
    found = inifiles.read(NEWER, "/", "hqserver.ini").values
    assert (found["port"], found["active_timeout"]) == (5006, 120.0)


def test_a_node_s_file_becomes_settings() -> None:
    found = inifiles.read(NODE, "/", "hqnode.ini")
    assert found.values == {
        "server": "http://farm:5001", "agent_name": "second", "cpus": 3,
        "shared_folder": "/mnt/hq",
        "job_environment": {"OCIO": "/mnt/hq/config.ocio", "Mixed_Case": "100%"},
    }  # fmt: skip
    assert found.ignored == (
        "auto_upgrade of hqnode.ini changes nothing: machines are upgraded when somebody says so: "
        "roost nodes upgrade.",
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("port = 5000", "is not a valid INI file"),
        ("[main]\nport = many", "port = 'many' in x.ini must be a number"),
        ("[a]\nport = 1\n[b]\nhqserver.port = 2", "must be equal"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        inifiles.read(text, "/", "x.ini")


def test_roost_s_own_settings_go_before_those_of_hqueue(tmp_path: Path) -> None:
    ini = tmp_path / "hqserver.ini"
    ini.write_text(SERVER)
    own = tmp_path / "roost.toml"
    own.write_text('port = 1\n[hqueue]\n"hqserver.sharedNetwork.mount.linux" = "/other"\n')
    (tmp_path / "network_folders.ini").write_text("[HQROOT]\nmacosx = /Volumes/hq\n")
    found = settings.load({"host": "::1"}, {"ROOST_ACTIVE_TIMEOUT": "7"}, own, [ini])
    values = found.values
    assert (values.port, values.host, values.active_timeout) == (1, "::1", 7)
    assert values.log_level == "debug" and found.sources["log_level"] == str(ini)
    assert values.hqueue["hqserver.sharedNetwork.mount.linux"] == "/other"
    assert values.hqueue["hqserver.sharedNetwork.mount.windows"] == "H:"
    assert values.hqueue["hqserver.sharedNetwork.mount.macosx"] == "/Volumes/hq"
    assert settings.load({}, {"ROOST_INI": str(ini)}, own).values.log_level == "debug"
    with pytest.raises(Invalid, match="cannot be read"):
        settings.load({}, {}, own, [tmp_path / "none.ini"])


def test_converted_files_say_the_same(tmp_path: Path) -> None:
    for text in (SERVER, NODE):
        found = inifiles.read(text, "/opt/hqueue", "x.ini")
        converted = inifiles.convert(found)
        assert tomllib.loads(converted) == found.values
        assert all(f"# {sentence}" in converted for sentence in found.ignored)

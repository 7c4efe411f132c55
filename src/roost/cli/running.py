"""`roost up`, `server`, `agent`: the commands that run a farm, and stay.

Each weighs its settings, sets up the logs, and hands over to `upkeep`, `roost.server` or
`roost.agent`. What these need is imported only then, as every other command would pay for it.
"""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import click

from roost.cli import options
from roost.errors import Invalid
from roost.settings import check_address

if TYPE_CHECKING:
    from roost.agent.daemon import AgentReady
    from roost.settings import ServerReady, Settings


@click.command()
@options.serving
@click.option(
    "--agent-port", type=options.PORT, metavar="N", help="0 takes a free one.  [default: 5001]"
)
@options.cpus
@options.allow_root
@options.announce
@options.log_level
@options.exit_with_stdin
def up(announce: bool, exit_with_stdin: bool, **_: object) -> int:
    """Run a whole farm on this machine: a server and an agent.

    Ctrl-C ends both. Jobs that run then keep running, and are found again at the next start.
    """
    found = options.load()
    options.set_up_logs(found)
    refuse_root(found)
    from roost.cli import upkeep

    return upkeep.run(upkeep.up(found, announce=announce, exit_with_stdin=exit_with_stdin))


@click.command()
@options.serving
@options.announce
@options.log_level
@options.exit_with_stdin
def server(announce: bool, exit_with_stdin: bool, **_: object) -> int:
    """Run a farm's server; agents on other machines join it."""
    found = options.load()
    options.set_up_logs(found)
    gc.disable()  # until the farm is loaded: nothing of what is imported becomes garbage
    from roost.cli import upkeep
    from roost.server.app import run_server

    def ready(server: ServerReady) -> None:
        text = (
            f"Roost's server is up at {server.url}\n"
            f"  join a machine:  roost agent --server {server.url}"
        )
        upkeep.say(announce, {"url": server.url, "pid": server.pid}, text)

    return upkeep.run(run_server(found.server_options(exit_with_stdin=exit_with_stdin), ready))


@click.command()
@options.server_url
@click.option("--name", "agent_name", help="Tells several agents on one machine apart.")
@click.option("--host", "agent_host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port",
    "agent_port",
    type=options.PORT,
    metavar="N",
    help="0 takes a free one.  [default: 5001]",
)
@click.option(
    "--data",
    "agent_data",
    type=options.FOLDER,
    help="Folder of this agent; each agent needs its own.",
)
@options.cpus
@options.allow_root
@options.announce
@options.log_level
@options.exit_with_stdin
def agent(announce: bool, exit_with_stdin: bool, **_: object) -> int:
    """Offer this machine to a farm.

    Jobs outlive the agent: stop it and they keep running, start it and it finds them again.
    """
    found = options.load()
    options.set_up_logs(found)
    refuse_root(found)
    check_address(found.values.server)
    from roost.agent import upgrade
    from roost.agent.daemon import RESTART, AgentOptions, run_agent
    from roost.cli import upkeep

    upgrade.switch(found.agent_data)
    values = found.values

    def ready(agent: AgentReady) -> None:
        line = {"url": values.server, "agent_url": agent.url, "pid": agent.pid}
        upkeep.say(announce, line, f"This machine works for {values.server} until Ctrl-C.")

    agent_options = AgentOptions(
        server=values.server,
        data=found.agent_data,
        name=values.agent_name,
        host=values.agent_host,
        port=values.agent_port,
        cpus=values.cpus,
        job_environment=values.job_environment,
        root=values.shared_folder,
        shared_roots=values.shared_roots,
        exit_with_stdin=exit_with_stdin,
    )
    while (code := upkeep.run(run_agent(agent_options, ready))) == RESTART:
        upgrade.switch(found.agent_data)
    return code


def refuse_root(found: Settings) -> None:
    """Raises `Invalid` where jobs would be root's and nobody has allowed that (decision 40)."""
    if hasattr(os, "geteuid") and os.geteuid() == 0 and not found.values.allow_root:
        raise Invalid(
            "Jobs run as the user who starts the agent, and that is root. Start it as another "
            "user, or say --allow-root (allow_root = true) if everybody who can submit jobs may be."
        )


COMMANDS = (up, server, agent)

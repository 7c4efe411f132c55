"""A personal HTCondor to measure and to test against: master, schedd, startd, shadow and starter.

`make htcondor` makes a Debian with it in `.htcondor`. A pool is daemons of that in namespaces of
mounts and processes of their own, whose first process is a shell that ends with its standard input.
So all of it is gone with the `with` block, or with the process that was in it, and nothing is left
mounted. The tree itself stays as it is: whatever a pool writes is in a folder of its own, which its
daemons see as `/srv`, so several pools may run at once. Everything listens on loopback only.

Jobs are those of an ordinary user. What they have to tell comes through a FIFO, as an event.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TREE = Path(__file__).parents[1] / ".htcondor"
INSIDE = Path("/srv")
"""Where daemons and jobs see the folder of their pool."""
USER = "tester"
SLOTS = 8
PATIENCE_S = 300
"""For what must happen, on a slow and busy machine too; never a measure of speed."""
END_S_MAX = 10
FOLDERS = dict.fromkeys(("execute", "lock", "log", "run", "spool"), "condor") | {"submit": USER}
"""Of a pool, and whose they are."""
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "CONDOR_CONFIG": str(INSIDE / "condor_config"),
}
CONFIGURATION = f"""\
include : /etc/condor/condor_config
LOCAL_CONFIG_DIR =
LOCAL_CONFIG_FILE =
use security:recommended_v9_0
LOCAL_DIR = {INSIDE}
LOG = $(LOCAL_DIR)/log
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
RUN = $(LOCAL_DIR)/run
LOCK = $(LOCAL_DIR)/lock
DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR SCHEDD STARTD
CONDOR_HOST = 127.0.0.1
NETWORK_INTERFACE = 127.0.0.1
NETWORK_HOSTNAME = localhost
BIND_ALL_INTERFACES = false
ENABLE_IPV6 = false
USE_SHARED_PORT = true
COLLECTOR_HOST = 127.0.0.1:0
SHARED_PORT_PORT = 0
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
UID_DOMAIN = localhost
TRUST_UID_DOMAIN = true
FILESYSTEM_DOMAIN = localhost
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_ADMINISTRATOR = *
ALLOW_DAEMON = *
ALLOW_NEGOTIATOR = *
NUM_CPUS = {SLOTS}
MEMORY = {SLOTS * 256}
SLOT_TYPE_1 = cpus=1
NUM_SLOTS_TYPE_1 = {SLOTS}
START = true
SUSPEND = false
PREEMPT = false
KILL = false
RUNBENCHMARKS = false
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
SCHEDD_INTERVAL = 2
DISCARD_SESSION_KEYRING_ON_STARTUP = false
CGROUP_TRACKING = false
BASE_CGROUP =
"""
# The tree must be a mount of its own, or a starter cannot make its mounts private.
POOL = """\
tree=$1 folder=$2 user=$3
mount --bind "$tree" "$tree" && mount -t proc proc "$tree/proc" && mount --rbind /dev "$tree/dev" &&
mount -t tmpfs -o mode=1777 tmpfs "$tree/tmp" && mount --bind "$folder" "$tree/srv" || exit 1
chroot "$tree" condor_master -f </dev/null >"$folder/log/said" 2>&1 &
until chroot "$tree" condor_who -wait:60 'IsReady && STARTD_State =?= "Ready"' 2>&1 |
  grep -q '^IsReady = true'
do kill -0 $! && sleep 0.1 || exit 1; done
echo 0
while read -r line; do
  chroot --userspec="$user" "$tree" sh -c "$line" </dev/null >"$folder/said" 2>&1
  echo $?
done
"""
SUBMISSION = """\
executable = /bin/sh
arguments = {script}
initialdir = {submit}
transfer_executable = false
should_transfer_files = NO
log = {submit}/job.log
request_memory = 64
request_disk = 1024
{attributes}
queue
"""
WAITING = 'cat "$_CONDOR_CHIRP_CONFIG" >{told}\nexec sleep infinity\n'
RUNNING = "({command}) >{said} 2>&1\necho $? >{told}\n"


class Ended(NamedTuple):
    code: int
    output: str


class Pool:
    """A pool that is up."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.version = version()
        self.folder = folder
        self.submit = folder / "submit"
        """The submit folder of all jobs."""
        self.pid = process.pid
        """Of the process that ends when all others of the pool have ended."""
        self._process = process
        self._jobs = 0

    def waiting(self, **attributes: str) -> Path:
        """A new job that does nothing; the contact file by which others may speak for it.

        `attributes` are those of its ad, as ClassAd text. Raises `RuntimeError` when it does not
        start.
        """
        contact = self.folder / f"contact{self._jobs + 1}"
        contact.write_text(self._told(WAITING, attributes))
        return contact

    def ended(self, command: str, **attributes: str) -> Ended:
        """What became of a new job with this command for the shell. Raises as `waiting`."""
        said = self.submit / f"said{self._jobs + 1}"
        code = self._told(RUNNING, attributes, command=command, said=self.inside(said))
        return Ended(int(code), said.read_text(errors="replace"))

    def tool(self, *words: str) -> Ended:
        """A command of the user's on the submit machine, such as `condor_q`; words of one line."""
        assert self._process.stdin
        self._process.stdin.write(f"{shlex.join(words)}\n")
        self._process.stdin.flush()
        code = self.answer()
        return Ended(code, (self.folder / "said").read_text(errors="replace"))

    def inside(self, path: Path) -> Path:
        """How daemons and jobs call a path of the pool's folder."""
        return INSIDE / path.relative_to(self.folder)

    def answer(self) -> int:
        """The exit code of what the pool's shell has done."""
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], PATIENCE_S)[0]:
            raise RuntimeError("HTCondor does not answer")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the pool of HTCondor has ended; see above")
        return int(line)

    def _told(self, script: str, attributes: dict[str, str], **words: object) -> str:
        """What a new job with this script writes into its FIFO."""
        self._jobs += 1
        told, file = self.folder / f"told{self._jobs}", self.folder / f"job{self._jobs}.sh"
        os.mkfifo(told)
        told.chmod(0o666)
        file.write_text(script.format(told=self.inside(told), **words))
        said = SUBMISSION.format(
            script=self.inside(file),
            submit=self.inside(self.submit),
            attributes="\n".join(f"+{name} = {text}" for name, text in attributes.items()),
        )
        submission = file.with_suffix(".sub")
        submission.write_text(said)
        reader = os.open(told, os.O_RDONLY | os.O_NONBLOCK)
        try:
            submitted = self.tool("condor_submit", str(self.inside(submission)))
            if submitted.code:
                raise RuntimeError(f"HTCondor took no job: {submitted.output}")
            if not select.select([reader], [], [], PATIENCE_S)[0]:
                log = (self.submit / "job.log").read_text()
                raise RuntimeError(f"a job of HTCondor did not start or end: {log[-2000:]}")
            return os.read(reader, select.PIPE_BUF).decode()
        finally:
            os.close(reader)


def version() -> str:
    """Of the HTCondor that is there, such as `25.14.1`. Raises `LookupError` when none is."""
    try:
        packages = (TREE / "var/lib/dpkg/status").read_text(errors="replace")
    except OSError:
        raise LookupError("there is no HTCondor; `make htcondor` makes one") from None
    about = packages.partition("Package: condor\n")[2].partition("\n\n")[0]
    return about.partition("\nVersion: ")[2].partition("\n")[0].partition("+")[0].partition("-")[0]


@contextlib.contextmanager
def pool(folder: Path) -> Iterator[Pool]:
    """A pool while the block lasts, in a new folder of `folder`.

    Raises `LookupError` where none can be, and `RuntimeError` when it does not start.
    """
    version()
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        raise LookupError("HTCondor's daemons need root, and unshare of util-linux")
    mount = [*unshare, "mount", "-t", "proc", "proc", "/proc"]
    if subprocess.run(mount, capture_output=True).returncode:
        raise LookupError("HTCondor needs namespaces of its own, and none are to be had here")
    place = Path(tempfile.mkdtemp(dir=folder))
    place.chmod(0o755)
    for name, owner in FOLDERS.items():
        (place / name).mkdir()
        os.chown(place / name, *_ids(owner))
    (place / "condor_config").write_text(CONFIGURATION)
    with subprocess.Popen(
        [*unshare, "sh", "-c", POOL, "pool", TREE.resolve(), place, USER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    ) as process:
        assert process.stdin
        up = Pool(process, place)
        try:
            up.answer()
            yield up
        finally:
            process.stdin.close()
            try:
                process.wait(END_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()


def _ids(name: str) -> tuple[int, int]:
    """User and group of a name of the tree, which mean nobody on this machine."""
    for line in (TREE / "etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return int(fields[2]), int(fields[3])
    raise LookupError(f"HTCondor's tree has no user {name}; make it again: `make htcondor`")

"""One impatient reader: asks everything there is to ask, over and over, until its input ends.

    python bench/readers.py URL ROOT_ID

Prints, as JSON, how many milliseconds each call took, by method: from the first byte sent to the
last one received. What the caller's own library needs to read the answer is not part of it; a list
of 5,000 ids costs Python's ten times what it costs the server to write. A fault, or an answer of
another type than HQueue's API page promises, ends it with a traceback.
"""

from __future__ import annotations

import http.client
import json
import random
import select
import sys
import time
import xmlrpc.client
from typing import Any
from urllib.parse import urlsplit

STATUSES = ["running", "runnable", "queued", "succeeded"]
JOB = {
    "children": list, "clients": list, "clientsOnHold": list, "conditions": list,
    "endTime": (xmlrpc.client.DateTime, type(None)), "ETA": int, "id": int, "latestNote": str,
    "logs": list, "name": str, "overallProgress": float, "parents": list, "priority": int,
    "progress": float, "queueTime": xmlrpc.client.DateTime, "resources": (dict, type(None)),
    "showBlockedClientsWarning": bool, "startTime": (xmlrpc.client.DateTime, type(None)),
    "status": str, "tags": list, "threadId": (int, type(None)), "triesLeft": int,
    "uiStatus": str, "waitingFor": str,
}  # fmt: skip
"""The attributes of a job and their types."""
PROGRESS = ["status", "progress", "uiStatus", "overallProgress", "ETA"]


def calls(root: int, jobs: list[int], client: int, name: str) -> dict[str, tuple[type, Any]]:
    """For every method that only reads: the type of its answer, and how to choose arguments."""

    def one() -> int:
        return random.choice(jobs)

    return {
        "ping": (bool, lambda: ()),
        "getVersion": (str, lambda: ()),
        "getServerTime": (xmlrpc.client.DateTime, lambda: ()),
        "getServerErrors": (dict, lambda: ()),
        "getAllJobStatusNames": (list, lambda: ()),
        "getJob": (dict, lambda: (one(),)),
        "getJobs": (list, lambda: (random.sample(jobs, min(20, len(jobs))), PROGRESS)),
        "getJobIdsByStatus": (list, lambda: ([random.choice(STATUSES)],)),
        "getFinishedRootJobIds": (list, lambda: ()),
        "getUnfinishedRootJobIds": (list, lambda: ()),
        "getNumWaitingJobs": (int, lambda: ()),
        "getJobOutput": (str, lambda: (one(), 1000)),
        "getPermittedClientsList": (list, lambda: (one(),)),
        "getJobHistory": (list, lambda: (client,)),
        "getJobIdsAssignedToClient": (list, lambda: (client,)),
        "getClients": (list, lambda: ()),
        "getClient": (dict, lambda: (client,)),
        "getClientByName": (dict, lambda: (name,)),
        "getClientErrors": (dict, lambda: (client,)),
        "getClientGroups": (list, lambda: ()),
        "getResources": (list, lambda: ()),
        "getNoteThreadIds": (list, lambda: ()),
        "getLatestNotes": (list, lambda: ()),
        "getstatus": (str, lambda: (root,)),
        "getinfo": (dict, lambda: (one(),)),
    }


def check(method: str, answer: object, kind: type) -> None:
    if type(answer) is not kind:
        raise TypeError(f"{method} answered {answer!r}")
    if method == "getJob":
        wrong = {n: answer[n] for n, t in JOB.items() if not isinstance(answer[n], t)}  # type: ignore[index]
        if wrong:
            raise TypeError(f"{method} answered {wrong!r}")


def main(url: str, root: int) -> None:
    server: Any = xmlrpc.client.ServerProxy(url)
    jobs = [root, *server.getJob(root, ["children"])["children"]]
    client = server.getClients()[0]
    asked = calls(root, jobs, client["id"], client["label"])
    took: dict[str, list[float]] = {method: [] for method in asked}
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        method = random.choice(list(asked))
        kind, arguments = asked[method]
        body = xmlrpc.client.dumps(arguments(), method).encode()
        before = time.perf_counter()
        connection.request("POST", "/RPC2", body, {"Content-Type": "text/xml"})
        received = connection.getresponse().read()
        took[method].append((time.perf_counter() - before) * 1e3)
        (answer,), _ = xmlrpc.client.loads(received)  # raises when it is a fault
        check(method, answer, kind)
    print(json.dumps(took))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

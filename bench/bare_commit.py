"""A server that does nothing for a request but commit a row, and answers the same bytes to each.

    python bench/bare_commit.py FOLDER ANSWER

One connection at a time, without a loop, a parser or a framework: what is left is the way over
loopback and SQLite. Prints its address; serves until it is ended.
"""

from __future__ import annotations

import socket
import sqlite3
import sys
from pathlib import Path

REQUEST_BYTES_MAX = 65536
"""Each comes in one piece."""


def main(folder: str, answer: bytes) -> None:
    database = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT)")
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer)
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while connection.recv(REQUEST_BYTES_MAX):
            database.execute("INSERT INTO rows (text) VALUES (?)", ("x" * 200,))
            connection.sendall(reply)
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2].encode())

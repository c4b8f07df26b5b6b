"""A real process that holds as much memory as it is told to: `python growing_process.py`. Prints the port of its page.

Each line of its input, `SECONDS BYTES`, is a time since its start (a clock of the test's) and what it is to hold then,
in mapped pages that are written to, so that they are resident; each is answered with a line. The page tells what the
shipped handlers tell: its own RSS, as the system counts it, and the uptime it was told.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

CHUNK = 256 * 1024
uptime_s = 0.0


class Page(BaseHTTPRequestHandler):
    """What this process takes."""

    def do_GET(self) -> None:
        """Resident bytes, and who says so."""
        rss = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        body = json.dumps({"instance": "one", "pid": os.getpid(), "uptime_s": uptime_s, "rss": rss}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Nothing is logged."""


def main() -> None:
    """Serve, and hold what is asked for until the input ends."""
    global uptime_s
    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    held: list[mmap.mmap] = []
    for line in sys.stdin:
        uptime_s, wanted = map(float, line.split())
        while len(held) * CHUNK < wanted - CHUNK / 2:
            held.append(mmap.mmap(-1, CHUNK))
            held[-1].write(b"\1" * CHUNK)
        while len(held) * CHUNK > wanted + CHUNK / 2:
            held.pop().close()
        print("held", flush=True)


if __name__ == "__main__":
    main()

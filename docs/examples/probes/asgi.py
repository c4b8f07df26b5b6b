"""What this process takes, as JSON for streamgauge. FastAPI and Starlette: app.add_route("/api/probe", probe).

Set PROBE_TOKEN; without it nobody gets in. Linux; elsewhere let psutil tell the rss.
"""

import gc
import hmac
import multiprocessing
import os
import socket
import time
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

BORN = time.monotonic()
INSTANCE = os.environ.get("INSTANCE_ID") or f"{socket.gethostname()}/{multiprocessing.current_process().name}"


def memory_limit() -> int | None:
    """Of the container (cgroup 2), where it has one."""
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return None if text == "max" else int(text)


async def probe(request: Request) -> Response:
    """Resident bytes, and who says so."""
    token = os.environ.get("PROBE_TOKEN", "").encode()
    given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
    if not token or not hmac.compare_digest(given, token):
        return Response(status_code=401)
    if collected := request.query_params.get("collect") == "1":
        gc.collect()
    rss = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    found = {
        "instance": INSTANCE, "pid": os.getpid(), "uptime_s": time.monotonic() - BORN, "time_ms": time.time() * 1000,
        "collected": collected, "rss": rss, "memory_limit": memory_limit(),
    }  # fmt: skip
    return JSONResponse(found, headers={"cache-control": "no-store"})

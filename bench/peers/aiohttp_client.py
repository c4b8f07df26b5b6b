"""python aiohttp_client.py URL MODEL STREAMS REQUESTS: a load client of the usual kind, aiohttp with uvloop.

STREAMS tasks ask one after the other until REQUESTS were sent. TTFT is from just before the call until the first piece
of text was decoded. It prints {"ttft_ms": [...], "failed": n}.
"""

import asyncio
import json
import sys
import time

import aiohttp
import uvloop

URL, MODEL, STREAMS, REQUESTS = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
BODY = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Why is the sky blue?"}]}


def text_of(line: bytes) -> str:
    """The text a line of the stream brings."""
    if not line.startswith(b"data: {"):
        return ""
    choices = json.loads(line[6:])["choices"]
    return choices[0]["delta"].get("content") or "" if choices else ""


async def ask(session: aiohttp.ClientSession) -> float | None:
    """One answer, read to its end: ms to its first text."""
    began, first = time.perf_counter(), None
    async with session.post(URL, json=BODY) as answer:
        async for line in answer.content:
            if text_of(line) and first is None:
                first = time.perf_counter()
    return None if first is None else (first - began) * 1e3


async def main() -> None:
    """Every stream at once; each asks anew as soon as its answer has ended."""
    left, found, failed = REQUESTS, [], 0

    async def stream(session: aiohttp.ClientSession) -> None:
        nonlocal left, failed
        while left > 0:
            left -= 1
            try:
                took = await ask(session)
            except (aiohttp.ClientError, OSError):
                took = None
            if took is None:
                failed += 1
            else:
                found.append(took)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        await asyncio.gather(*(stream(session) for _ in range(STREAMS)))
    print(json.dumps({"ttft_ms": found, "failed": failed}))


uvloop.run(main())

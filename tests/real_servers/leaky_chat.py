"""A chat in the OpenAI dialect under uvicorn, with a leak that is common in real ones: a list that only grows.

    python leaky_chat.py HANDLERS PORT LEAK [KB] [LIMIT_MB]

LEAK: `list` (each request's history is kept for ever, KB a request, 100 if not told) or `none` (it goes with its
answer). With LIMIT_MB the process sets its own limit (RLIMIT_DATA) and is gone where the system gives no more, as V8 or
the JVM would be; its parent starts it again, as a supervisor would. An answer has ?words=N words (20), one each
?gap_ms=N (10). Beside it is the shipped probe.
"""

import asyncio
import json
import os
import resource
import sys
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse

sys.path.insert(0, sys.argv[1])
from asgi import probe  # it lies in the folder that was named

PORT, LEAK = int(sys.argv[2]), sys.argv[3]
KB = int(sys.argv[4]) if len(sys.argv) > 4 else 100
LIMIT_MB = int(sys.argv[5]) if len(sys.argv) > 5 else 0
histories: list[bytearray] = []


def event(delta: dict[str, str], finish: str | None = None) -> bytes:
    """One event of the stream."""
    whole = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return f"data: {json.dumps(whole)}\n\n".encode()


async def chat(request: Request) -> StreamingResponse:
    """Stream an answer; what was said so far is held while it runs, or for ever."""
    await request.json()
    words, gap = (int(request.query_params.get(name, usual)) for name, usual in (("words", "20"), ("gap_ms", "10")))
    try:
        history = bytearray(b"\1" * (1_000 * KB))
    except MemoryError:
        os.abort()
    if LEAK == "list":
        histories.append(history)

    async def speak() -> AsyncIterator[bytes]:
        yield event({"role": "assistant", "content": ""})
        for n in range(words):
            await asyncio.sleep(gap / 1_000)
            yield event({"content": f"word{n} "})
        yield event({}, "stop")
        yield b"data: [DONE]\n\n"
        assert history

    return StreamingResponse(speak(), media_type="text/event-stream")


def serve() -> None:
    """Listen, within the limit."""
    if LIMIT_MB:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_MB * 1_000_000,) * 2)
    app = Starlette()
    app.add_route("/api/probe", probe)
    app.add_route("/v1/chat/completions", chat, methods=["POST"])
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="error")


if __name__ == "__main__":
    while LIMIT_MB and (child := os.fork()):
        os.waitpid(child, 0)
    serve()

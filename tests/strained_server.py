"""A real server that bears only so much: `python strained_server.py KIND AMOUNT`. Prints its port, then serves.

- `thrash N`: the more answers are under way the longer each takes, so that beyond N users more of them get less.
- `dies N`: with more than N connections at once the process is gone.
- `revives N`: the same, and its parent, which keeps the port, starts it again: nobody is ever refused.
- `limits N`: more than N requests a second are answered 429 (a bucket of a quarter second).

`GET /probe` tells its process id and how long it has been up.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
REFUSAL = b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\nslow"
FIRST_S = 0.1


def event(content: str, finish: str | None = None) -> bytes:
    delta = {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]}
    data = f"data: {json.dumps(delta)}\n\n".encode()
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Strained:
    """What it bears, and what is under way."""

    def __init__(self, kind: str, amount: float) -> None:
        self.kind, self.amount = kind, amount
        self.connections = self.working = 0
        self.tokens, self.filled = amount / 4, time.monotonic()
        self.began = time.monotonic()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.kind in ("dies", "revives") and self.connections > self.amount:
            os._exit(1)
        try:
            while await self.one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.connections -= 1
            writer.close()

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /probe "):
            writer.write(self.probe())
            await writer.drain()
            return True
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        if self.kind == "limits" and not self.allowed():
            writer.write(REFUSAL)
            await writer.drain()
            return True
        self.working += 1
        try:
            slower = (self.working / self.amount) ** 2 if self.kind == "thrash" else 0.0
            await asyncio.sleep(FIRST_S * (1 + slower))
            writer.write(HEAD + event("Hello"))
            await writer.drain()
            writer.write(event(" there", "stop") + b"0\r\n\r\n")
            await writer.drain()
        finally:
            self.working -= 1
        return True

    def probe(self) -> bytes:
        told = {"pid": os.getpid(), "uptime_s": time.monotonic() - self.began, "connections": self.connections}
        body = json.dumps(told).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def allowed(self) -> bool:
        now = time.monotonic()
        self.tokens = min(self.amount / 4, self.tokens + self.amount * (now - self.filled))
        self.filled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


async def serve(listener: socket.socket) -> None:
    strained = Strained(sys.argv[1], float(sys.argv[2]))
    server = await asyncio.start_server(strained.connected, sock=listener, backlog=512)
    await asyncio.wait_for(server.serve_forever(), 400)


def main() -> None:
    """Serve; where it is to be revived, in one child after another."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(listener.getsockname()[1], flush=True)
    until, parent = time.monotonic() + 400, os.getpid()
    while sys.argv[1] == "revives" and time.monotonic() < until:
        child = os.fork()
        if not child:
            watch(parent)
            break
        os.waitpid(child, 0)
    asyncio.run(serve(listener))


def watch(parent: int) -> None:
    """End with the parent, which the test kills."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(0)

    threading.Thread(target=look, daemon=True).start()


if __name__ == "__main__":
    main()

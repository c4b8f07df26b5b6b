"""A server that streams OpenAI chat answers: `python -m bench.long_server EVENTS PER_WRITE`.

Prints its port. A connection has a thread; an answer is EVENTS text events, PER_WRITE of them in each send, as fast as
it is read. Ends with its standard input.
"""

from __future__ import annotations

import socket
import sys
import threading


def _chunk(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN = _chunk(b'{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" word"}}]}')
LAST = (
    _chunk(b'{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}')
    + _chunk(b"[DONE]")
    + b"0\r\n\r\n"
)


def _serve(conn: socket.socket, events: int, per_write: int) -> None:
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    whole, rest = divmod(events, per_write)
    some = TOKEN * per_write
    asked = b""
    with conn:
        while True:
            while b"\r\n\r\n" not in asked:
                data = conn.recv(65_536)
                if not data:
                    return
                asked += data
            head, _, body = asked.partition(b"\r\n\r\n")
            fields = dict(line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:])
            length = int(fields[b"content-length"])
            while len(body) < length:
                body += conn.recv(65_536)
            asked = body[length:]
            conn.sendall(HEAD)
            for _ in range(whole):
                conn.sendall(some)
            conn.sendall(TOKEN * rest + LAST)


def main(events: int, per_write: int) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            conn, _ = listener.accept()
            threading.Thread(target=_safely, args=(conn, events, per_write), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


def _safely(conn: socket.socket, events: int, per_write: int) -> None:
    try:
        _serve(conn, events, per_write)
    except OSError:
        return  # whoever asked has left


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

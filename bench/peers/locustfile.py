"""Locust users that ask for streams (its quicker client). PEERS_MODEL names the model.

The answer is read line by line: FastHttp's own iter_lines waits for 1,024 bytes, which adds 80 ms to the first token.
TTFT is a request of its own in Locust's table: from just before the call until the first text.
"""

import json
import os
import time

from locust import FastHttpUser, constant, task

BODY = {
    "model": os.environ["PEERS_MODEL"],
    "stream": True,
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
}


def text_of(line: bytes) -> str:
    """The text a line of the stream brings."""
    if not line.startswith(b"data: {"):
        return ""
    choices = json.loads(line[6:])["choices"]
    return choices[0]["delta"].get("content") or "" if choices else ""


class Reader(FastHttpUser):
    """One stream at a time, the next as soon as it has ended."""

    wait_time = constant(0)

    @task
    def ask(self) -> None:
        """One answer, read to its end."""
        began, first = time.perf_counter(), None
        with self.client.post("/v1/chat/completions", json=BODY, stream=True, catch_response=True) as answer:
            while line := answer.stream.readline(b"\n"):
                if first is None and text_of(line):
                    first = time.perf_counter()
            answer.success()
        if first is not None:
            took = (first - began) * 1e3
            fire = self.environment.events.request.fire
            fire(request_type="TTFT", name="ttft", response_time=took, response_length=0, exception=None, context={})

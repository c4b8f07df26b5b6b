"""What the benchmarks' server in C sends is what its forms say, by Python's own HTTP client and JSON."""

from __future__ import annotations

import http.client
import json
from itertools import pairwise

import pytest
from bench.load import compiled
from bench.truth_log import FORMS, SERVER, read_log, serving

from real import require
from streamgauge import StreamClient

N = 300
MODEL = f"sim-t5-i1-n{N}"
TRACES = ("1" * 32, "2" * 32)
Heard = tuple[list[list[bytes]], dict[str, int]]
"""(each answer's events, as raw JSON; of each trace how many writes the server noted)"""


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def heard(form: str, tmp_path_factory: pytest.TempPathFactory) -> Heard:
    """Two answers to a plain client; our own client counts the same events."""
    made = tmp_path_factory.mktemp("truth")
    server = compiled(SERVER, made)
    require(server, "a C compiler (cc)")
    assert server is not None
    with serving(server, made / "log", fair=True, form=form) as (port, _):
        found = [_asked(port, trace) for trace in TRACES]
        with StreamClient(f"http://127.0.0.1:{port}/v1/chat/completions", dialect="openai-chat", model=MODEL) as one:
            sample = one.ask("hello").sample
            assert (sample.outcome, sample.text_events) == ("ok", N)
    log = read_log(made / "log")
    return found, {trace: len(log[trace].writes) for trace in TRACES}


def _asked(port: int, trace: str) -> list[bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"traceparent": f"00-{trace}-{'3' * 16}-01"}
    connection.request("POST", "/v1/chat/completions", json.dumps({"model": MODEL, "stream": True}), headers)
    body = connection.getresponse().read()
    connection.close()
    events = [event.removeprefix(b"data: ") for event in body.split(b"\n\n") if event]
    assert events.pop() == b"[DONE]"
    return events


def test_each_event_is_one_write_and_the_last_holds_the_end(
    heard: Heard,
) -> None:
    answers, writes = heard
    for events in answers:
        texts = [choice["delta"].get("content") for event in events for choice in json.loads(event)["choices"]]
        assert texts[0] == ""
        assert all(texts[1 : N + 1])
        assert texts[N + 1 :] == [None]
    assert writes == dict.fromkeys(TRACES, N + 1)


def test_what_differs_between_events_is_what_the_form_says(form: str, heard: Heard) -> None:
    for events in heard[0]:
        raw = events[1 : N + 1]
        told = [json.loads(event) for event in raw]
        texts = [one["choices"][0]["delta"].pop("content") for one in told]
        padding = [one.pop("obfuscation", "") for one in told]
        assert all(one == told[0] for one in told), "nothing else differs within an answer"
        if form == "same":
            assert len(set(raw)) == 1
            continue
        assert all(one != other for one, other in pairwise(texts))
        assert len({len(text) for text in texts}) > 5
        assert sum(b"\\" in event for event in raw) in range(3, N // 5)
        assert sum(not event.isascii() for event in raw) in range(1, N // 10)
        sizes = [len(text.encode()) + len(pad) for text, pad in zip(texts, padding, strict=True)]
        if form == "padded":
            plain = [size for size, event in zip(sizes, raw, strict=True) if b"\\" not in event]
            assert all(size % 8 == 0 for size in plain)
            assert len(set(padding)) > N / 3
        else:
            assert not any(padding)


def test_answers_of_a_varied_form_share_no_id(form: str, heard: Heard) -> None:
    ids = [json.loads(events[1])["id"] for events in heard[0]]
    assert len(set(ids)) == (1 if form == "same" else len(TRACES))

"""The running simulator, seen through sockets of our own."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim_client import BODIES, DIALECTS, Answer, ask, path, text_of, under_way
from streamgauge.errors import UsageError
from streamgauge.simulator import Record, Simulator, start

MS = 1_000_000
SCRIPT = [
    ["wait", 5], ["reasoning", "hm "], ["wait", 5], ["text", "Hel"], ["text", "lo"], ["step"],
    ["tool", "weather", {"city": "Oslo"}, {"pieces": 2, "output": {"t": 4}}], ["finish"],
]  # fmt: skip


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with start() as running:
        yield running


def last(sim: Simulator, mark: str) -> Record:
    """The record of the request with this trace id."""
    for _ in range(250):
        for record in sim.log():
            if record.trace_id == mark:
                return record
        time.sleep(0.02)
    raise AssertionError(f"no record of {mark}")


MARKS = iter(f"{n:032x}" for n in range(1, 10**6))


def marked(sim: Simulator, *args: object, **kwargs: object) -> tuple[Answer, Record]:
    """Ask with a trace id, and its record."""
    mark = next(MARKS)
    answer = ask(sim, *args, headers={"traceparent": f"00-{mark}-{'1' * 16}-01"}, **kwargs)  # type: ignore[arg-type]
    return answer, last(sim, mark)


# What each dialect says...


def test_openai_chat_sends_role_content_tool_finish_usage_and_done(sim: Simulator):
    answer, _ = marked(sim, "openai-chat", script=SCRIPT)
    data = [value for _, value in answer.events]
    assert data[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert [d["choices"][0]["delta"].get("content") for d in data[2:4]] == ["Hel", "lo"]
    assert "".join(
        c["function"]["arguments"] for d in data[4:-3] for c in d["choices"][0]["delta"]["tool_calls"]
    ) == json.dumps({"city": "Oslo"})
    assert data[-3]["choices"][0]["finish_reason"] == "tool_calls"
    assert data[-2]["choices"] == []
    assert data[-2]["usage"]["completion_tokens"] == 5
    assert data[-1] == "[DONE]"
    assert all(d["usage"] is None for d in data[:-2])
    for name in ("x-request-id", "openai-processing-ms", "x-ratelimit-remaining-requests"):
        assert name in answer.headers


def test_openai_chat_tells_no_usage_unasked(sim: Simulator):
    answer, record = marked(sim, "openai-chat", body={"stream_options": None})
    assert not any("usage" in value for _, value in answer.events[:-1])
    assert record.usage is None


def test_anthropic_sends_named_events_in_blocks_from_message_start_to_message_stop(sim: Simulator):
    answer, _ = marked(sim, "anthropic", script=SCRIPT)
    names = [name for name, _ in answer.events]
    assert all(name == value["type"] for name, value in answer.events)
    assert names[:4] == ["message_start", "content_block_start", "ping", "content_block_delta"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    deltas = [value["delta"]["type"] for name, value in answer.events if name == "content_block_delta"]
    assert deltas == [
        "thinking_delta", "signature_delta", "text_delta", "text_delta", "input_json_delta", "input_json_delta",
        "input_json_delta",
    ]  # fmt: skip
    assert answer.events[-2][1]["delta"]["stop_reason"] == "tool_use"
    assert answer.events[-2][1]["usage"]["output_tokens"] == 5
    assert "request-id" in answer.headers
    assert answer.headers["anthropic-ratelimit-requests-limit"] == "4000"


def test_gemini_sends_whole_responses_with_the_finish_reason_on_the_last(sim: Simulator):
    answer, _ = marked(sim, "gemini", script=SCRIPT)
    data = [value for _, value in answer.events]
    assert answer.body.endswith(b"\r\n\r\n")
    assert data[0]["candidates"][0]["content"]["parts"][0] == {"text": "hm ", "thought": True}
    assert ["finishReason" in d["candidates"][0] for d in data] == [False] * (len(data) - 1) + [True]
    assert data[-1]["usageMetadata"]["thoughtsTokenCount"] == 1
    assert data[-1]["usageMetadata"]["candidatesTokenCount"] == 4
    assert data[-2]["candidates"][0]["content"]["parts"][0]["functionCall"] == {
        "name": "weather",
        "args": {"city": "Oslo"},
    }
    assert all("modelVersion" in d and "responseId" in d for d in data)


def test_ai_sdk_sends_start_before_the_model_answers(sim: Simulator):
    answer, record = marked(sim, "ai-sdk", "sim-t200-i1-n2")
    kinds = [value if isinstance(value, str) else value["type"] for _, value in answer.events]
    assert kinds == [
        "start", "start-step", "text-start", "text-delta", "text-delta", "text-end", "finish-step", "finish", "[DONE]",
    ]  # fmt: skip
    assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
    first = record.first("start")
    assert first is not None
    assert record.ttft_ns is not None
    assert first.due_ns == record.request_complete_ns
    assert record.ttft_ns >= 200 * MS


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_text_on_the_wire_is_the_text_of_the_script(sim: Simulator, dialect: str):
    said = 'naïve 🙂 "quoted" \\ and\nmore  '
    answer, record = marked(sim, dialect, script=[["text", piece] for piece in said])
    assert text_of(dialect, answer) == said
    assert record.text_events == len(said)


def test_gemini_without_alt_sse_and_others_without_stream_get_one_body(sim: Simulator):
    answer = ask(sim, "openai-chat", body={"stream": False})
    assert json.loads(answer.body)["usage"]["completion_tokens"] == 5
    answer = ask(sim, "anthropic", body={"stream": False})
    assert json.loads(answer.body)["stop_reason"] == "end_turn"
    conn = http.client.HTTPConnection(sim.host, sim.port, timeout=20)
    conn.request("POST", "/v1/models/sim-t1-n3:generateContent", json.dumps(BODIES["gemini"]))
    assert json.loads(conn.getresponse().read())["candidates"][0]["finishReason"] == "STOP"
    conn.close()


# Time...


def test_sends_keep_to_an_absolute_schedule_and_the_log_says_when(sim: Simulator):
    _, record = marked(sim, "openai-chat", "sim-t100-i10-n30")
    texts = record.all("text")
    assert [send.due_ns - record.request_complete_ns for send in texts] == [(100 + 10 * i) * MS for i in range(30)]
    assert all(send.due_ns <= send.before_ns <= send.after_ns for send in texts)
    assert record.ttft_ns is not None
    assert record.accepted_ns <= record.request_complete_ns <= texts[0].before_ns
    assert len(record.text_gaps_ns) == 29
    assert record.text_tokens == 30


def test_a_long_answer_is_logged_in_parts_and_read_as_one(sim: Simulator):
    _, record = marked(sim, "openai-chat", "sim-t1-i0-n1500")
    assert record.text_tokens == 1500
    assert [send.due_ns for send in record.sends] == sorted(send.due_ns for send in record.sends)


def test_a_client_that_does_not_read_holds_up_only_itself(sim: Simulator):
    mark = next(MARKS)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect((sim.host, sim.port))
    body = json.dumps({"model": "sim-t0-i0-n60000", **BODIES["openai-chat"]}).encode()
    slow.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nconnection: close\r\ntraceparent: 00-%b-1111111111111111-01\r\n"
        b"content-length: %d\r\n\r\n" % (mark.encode(), len(body)) + body
    )
    time.sleep(1)
    _, other = marked(sim, "openai-chat", "sim-t20-i5-n5")
    assert other.outcome == "ok"
    assert other.blocked_ns == 0
    while slow.recv(1 << 20):
        pass
    slow.close()
    record = last(sim, mark)
    assert record.blocked_ns > 100 * MS
    assert record.text_tokens == 60000


# Outcomes: every one that a server can cause has a fault...

CAUSES = [
    ("500", "http_error"), ("502", "http_error"), ("429:retry-after=2", "rate_limited"), ("401", "auth_error"),
    ("403", "auth_error"), ("login", "auth_error"), ("overload", "rate_limited"), ("silent", "first_token_timeout"),
    ("mute", "first_token_timeout"), ("stall", "stall_timeout"), ("endless:1s", "total_timeout"), ("drop", "dropped"),
    ("drop:at=0", "dropped"), ("reset", "dropped"), ("hangup", "dropped"), ("truncate", "truncated"),
    ("error", "stream_error"), ("empty", "empty"), ("filter", "filtered"), ("length", "length_capped"),
    ("html", "protocol_error"), ("json", "protocol_error"), ("garbage", "protocol_error"), ("wrong", "wrong_answer"),
    ("lump:20ms", "ok"), ("merge:3", "ok"), ("keep-open", "ok"), ("close", "ok"), ("slow-headers:30ms", "ok"),
    ("no-usage", "ok"), ("stall:30ms", "ok"),
]  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_503_that_says_it_is_overloaded_means_that(sim: Simulator, dialect: str):
    mark = next(MARKS)
    answer = ask(sim, dialect, fault="503", headers={"traceparent": f"00-{mark}-{'1' * 16}-01"})
    says_so = b"overloaded" in answer.body
    assert says_so == (dialect in ("openai-chat", "gemini"))
    assert last(sim, mark).outcome == ("rate_limited" if says_so else "http_error")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("fault", "outcome"), CAUSES)
def test_each_fault_is_what_it_says(sim: Simulator, dialect: str, fault: str, outcome: str):
    name = fault.partition(":")[0]
    hangs = fault in ("silent", "mute", "stall", "endless:1s", "keep-open")
    for patience in (0.3, 3) if hangs else (20,):
        mark = next(MARKS)
        headers = {"traceparent": f"00-{mark}-{'1' * 16}-01"}
        try:
            answer = ask(sim, dialect, fault=fault, headers=headers, timeout=patience)
        except TimeoutError:
            assert hangs
            answer = None
        except (http.client.RemoteDisconnected, ConnectionResetError):
            assert name in ("hangup", "reset")
            answer = None
        record = last(sim, mark)
        if record.outcome == outcome:
            break  # else we left before a server that was held up had said what it says
    assert record.outcome == outcome
    assert record.fault == fault
    if answer is None:
        return
    assert answer.broken == (name in ("drop", "reset"))
    if name.isdigit():
        assert answer.status == int(name)
        assert json.loads(answer.body)
    if name == "429":
        assert answer.headers["retry-after"] == "2"
    if name == "login":
        assert (answer.status, answer.headers["location"]) == (307, "/login")
    if name == "empty":
        assert text_of(dialect, answer) == ""
    if name == "wrong":
        assert "Answer: " not in text_of(dialect, answer)
    if name in ("truncate", "garbage"):
        assert not answer.broken
    if name == "close":
        assert answer.headers["connection"] == "close"


def test_a_good_answer_begins_with_a_word_that_a_check_can_rely_on(sim: Simulator):
    for dialect in DIALECTS:
        assert text_of(dialect, ask(sim, dialect)).startswith("Answer: ")


def test_faults_come_at_their_rate_from_the_seed_and_are_the_same_again():
    def outcomes() -> list[str | None]:
        with start(faults=["500=0.3", "truncate=0.3"], seed=4) as sim:
            conn = http.client.HTTPConnection(sim.host, sim.port, timeout=20)
            for _ in range(60):
                ask(sim, model="sim-t0-i0-n2", connection=conn)
            conn.close()
        return [record.outcome for record in sim.log()]

    first = outcomes()
    assert first == outcomes()
    assert {first.count("http_error") > 5, first.count("truncated") > 5, first.count("ok") > 5} == {True}


def test_the_strategys_unreliability_is_off_until_asked_for():
    for share, failed in ((None, 0), ("0.5", 40)):
        options = {} if share is None else {"reliability": share}
        with start(**options) as sim:  # type: ignore[arg-type]
            for _ in range(80):
                with contextlib.suppress(http.client.RemoteDisconnected):
                    ask(sim, model="sim-t0-i0-n2")
        bad = sum(record.outcome != "ok" for record in sim.log())
        assert abs(bad - failed) <= (0 if failed == 0 else 20)


# Refusals...


@pytest.mark.parametrize(
    ("dialect", "shape"),
    [
        ("openai-chat", ["error", "message"]),
        ("anthropic", ["error", "message"]),
        ("gemini", ["error", "status"]),
        ("ai-sdk", ["error"]),
    ],
)
def test_bad_requests_get_the_providers_own_error(sim: Simulator, dialect: str, shape: list[str]):
    for body in ("{", "[]", "{}"):
        conn = http.client.HTTPConnection(sim.host, sim.port, timeout=20)
        conn.request("POST", path(dialect, "sim"), body)
        response = conn.getresponse()
        value = json.loads(response.read())
        conn.close()
        assert response.status == 400
        for key in shape:
            value = value[key]
        assert isinstance(value, str)


def test_unknown_paths_methods_and_models_are_refused_in_shape(sim: Simulator):
    conn = http.client.HTTPConnection(sim.host, sim.port, timeout=20)
    for method, where, status in (
        ("GET", "/nowhere", 404), ("GET", "/v1/chat/completions", 405), ("POST", "/healthz", 404),
        ("GET", "/healthz", 200), ("GET", "/v1/models", 200), ("GET", "/login", 200),
    ):  # fmt: skip
        conn.request(method, where)
        response = conn.getresponse()
        response.read()
        assert response.status == status, where
    conn.close()
    assert ask(sim, model="sim-x1").status == 404
    assert ask(sim, "anthropic", body={"max_tokens": None}).status == 400
    assert ask(sim, "openai-chat", body={"max_tokens": "many"}).status == 400
    assert b"step 1" in ask(sim, script=[["nonsense"]]).body


def test_a_key_can_be_required_as_each_provider_does():
    with start(require_key="sk-right", log=False) as sim:
        assert ask(sim, "openai-chat").status == 401
        assert ask(sim, "anthropic").status == 401
        assert ask(sim, "gemini").status == 403
        assert ask(sim, "gemini", headers={"x-goog-api-key": "wrong"}).status == 400
        assert ask(sim, "ai-sdk").status == 307
        for dialect, header in (
            ("openai-chat", {"authorization": "Bearer sk-right"}), ("anthropic", {"x-api-key": "sk-right"}),
            ("gemini", {"x-goog-api-key": "sk-right"}), ("ai-sdk", {"cookie": "a=b; session=sk-right"}),
        ):  # fmt: skip
            assert ask(sim, dialect, headers=header).status == 200


def test_a_tls_hello_on_the_plain_port_gets_400_at_once(sim: Simulator):
    context = ssl.create_default_context()
    with (
        socket.create_connection((sim.host, sim.port), timeout=20) as sock,
        pytest.raises(ssl.SSLError, match=r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE"),
    ):
        context.wrap_socket(sock, server_hostname="localhost")


def test_what_is_no_http_gets_400_and_the_connection_ends(sim: Simulator):
    for junk in (
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET /\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
    ):
        with socket.create_connection((sim.host, sim.port), timeout=20) as sock:
            sock.sendall(junk)
            assert sock.recv(65_536).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000, b'{"model":"\\ud800","messages":[1]}', b"\xff\xfe", b'{"model":"m","messages":{"a":1}}',
        b'{"model":"m","messages":[' + b'{"content":[' * 400 + b"]}" * 400 + b"]}", b"9" * 5000,
        b'{"model":"sim-t0-n9999999","messages":[1]}', b'{"model":"m","messages":[null],"max_tokens":1e999}',
    ],
)  # fmt: skip
def test_wild_bodies_are_answered_and_the_server_lives(sim: Simulator, body: bytes):
    for where in ("/v1/chat/completions", "/v1/messages", "/v1/models/m:generateContent", "/api/chat"):
        conn = http.client.HTTPConnection(sim.host, sim.port, timeout=20)
        conn.request("POST", where, body, {"x-sim-fault": "truncate:at=1"})
        response = conn.getresponse()
        assert response.status in (200, 400, 404, 500)
        response.read()
        conn.close()
    assert ask(sim).status == 200


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_wild_bytes_never_end_the_server(sim: Simulator, junk: bytes, as_request: bool):
    with socket.create_connection((sim.host, sim.port), timeout=20) as sock:
        sock.sendall((b"POST /v1/messages HTTP/1.1\r\n" if as_request else b"") + junk + b"\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while sock.recv(65_536):
                pass
    conn = http.client.HTTPConnection(sim.host, sim.port, timeout=20)
    conn.request("GET", "/healthz")
    assert conn.getresponse().status == 200
    conn.close()


def test_an_answer_without_end_asked_for_as_one_body_hangs_and_stops_nobody(sim: Simulator):
    with pytest.raises(TimeoutError):
        ask(sim, body={"stream": False}, script=[["tokens", None, 1]], timeout=1)
    assert ask(sim).status == 200


def test_a_flood_of_tokens_holds_up_no_other_stream(sim: Simulator):
    late = 0
    for _ in range(4):  # a busy machine sends anything late, now and then
        with under_way(sim, "sim-t0-i0-n60000") as flood:
            thread = threading.Thread(target=flood.read)
            thread.start()
            _, record = marked(sim, "openai-chat", "sim-t20-i5-n40")
            thread.join()
        late = max(record.late_ns)
        if late < 100 * MS:
            break
    assert late < 100 * MS


# HTTP...


def test_a_connection_serves_many_requests_and_is_named_in_the_log(sim: Simulator):
    conn = http.client.HTTPConnection(sim.host, sim.port, timeout=20)
    records = []
    for _ in range(3):
        mark = next(MARKS)
        ask(sim, headers={"traceparent": f"00-{mark}-{'1' * 16}-01"}, connection=conn)
        records.append(last(sim, mark))
    conn.close()
    assert len({record.conn for record in records}) == 1
    assert [record.conn_request for record in records] == [1, 2, 3]


def test_chunked_requests_expect_continue_and_http_1_0_are_understood(sim: Simulator):
    body = json.dumps({"model": "sim-t0-i0-n2", **BODIES["openai-chat"]}).encode()
    with socket.create_connection((sim.host, sim.port), timeout=20) as sock:
        sock.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n"
        )
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for i in range(0, len(body), 50):
            piece = body[i : i + 50]
            sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        sock.sendall(b"0\r\n\r\n")
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200 ")
    with socket.create_connection((sim.host, sim.port), timeout=20) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        answer = b""
        while data := sock.recv(65_536):
            answer += data
        assert b"transfer-encoding" not in answer
        assert answer.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("mode", ["flush", "buffered"])
def test_compressed_streams_hold_the_same_events(coding: str, mode: str):
    with start(gzip=mode) as sim:
        plain = ask(sim, model="sim-t0-i1-n40")
        packed = ask(sim, model="sim-t0-i1-n40", headers={"accept-encoding": f"br, {coding};q=0.9"})
    assert packed.headers["content-encoding"] == coding
    body = gzip.decompress(packed.body) if coding == "gzip" else zlib.decompress(packed.body)
    assert body.count(b'"content":"') == plain.body.count(b'"content":"') == 41
    record = sim.log()[-1]
    assert record.text_events == 40
    assert (len(record.all("text")) == 40) == (mode == "flush")


def test_flushed_gzip_can_be_read_event_by_event():
    with start(gzip="flush", log=False) as sim:
        conn = http.client.HTTPConnection(sim.host, sim.port, timeout=20)
        body = json.dumps({"model": "sim-t5-i9000-n3", **BODIES["openai-chat"]})
        conn.request("POST", "/v1/chat/completions", body, {"accept-encoding": "gzip"})
        response = conn.getresponse()
        unpack, seen = zlib.decompressobj(31), b""
        while b"Answer: " not in seen:
            seen += unpack.decompress(response.read1(65_536))
        assert b"[DONE]" not in seen
        conn.close()


def test_idle_connections_are_closed_at_their_limit():
    with start(idle_s=1, log=False) as sim:
        conn = http.client.HTTPConnection(sim.host, sim.port, timeout=20)
        ask(sim, connection=conn)
        assert conn.sock.recv(1) == b""
        conn.close()


def test_it_listens_on_both_families(sim: Simulator):
    for host in ("127.0.0.1", "::1"):
        try:
            conn = http.client.HTTPConnection(host, sim.port, timeout=20)
            conn.request("GET", "/healthz")
        except OSError:
            assert host == "::1", "no IPv4"
            pytest.skip("no IPv6 on this machine")
        assert conn.getresponse().read() == b'{"status":"ok"}'
        conn.close()


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate for localhost, signed by itself."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    pem, form, lock = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, form, lock))
    return str(folder / "cert.pem"), str(folder / "key.pem")


def test_it_speaks_tls_and_a_slow_handshake_holds_nobody_up(tmp_path: Path):
    cert, key = certificate(tmp_path)
    with start(tls_cert=cert, tls_key=key) as sim, socket.create_connection((sim.host, sim.port)) as silent:
        silent.sendall(b"\x16\x03")
        context = ssl.create_default_context(cafile=cert)
        for fault in (None, "drop", "reset", "close"):
            conn = http.client.HTTPSConnection("localhost", sim.port, timeout=20, context=context)
            try:
                answer = ask(sim, fault=fault, connection=conn)
                assert answer.broken == (fault in ("drop", "reset"))
            except (ssl.SSLEOFError, ConnectionResetError):
                assert fault in ("drop", "reset")
            conn.close()
        plain = socket.create_connection((sim.host, sim.port), timeout=20)
        plain.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        try:
            assert not plain.recv(100).startswith(b"HTTP")
        except ConnectionResetError:
            pass  # as good as an alert
        finally:
            plain.close()
    records = sim.log()
    assert [record.outcome for record in records] == ["ok", "dropped", "dropped", "ok"]
    assert all(record.tls for record in records)


# Capacity...


def test_beyond_its_capacity_requests_wait_and_beyond_the_queue_they_are_refused():
    with start(capacity=2, queue=2, over=429) as sim:
        answers: list[Answer] = []
        threads = [threading.Thread(target=lambda: answers.append(ask(sim, model="sim-t800-i1-n5"))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ask(sim, model="sim-t0-i0-n1").status == 200
    assert sorted(answer.status for answer in answers) == [200] * 4 + [429] * 2
    records = [record for record in sim.log() if record.model == "sim-t800-i1-n5" and record.status == 200]
    admitted = sorted(record.admitted_ns or 0 for record in records)
    ends = sorted(record.end_ns for record in records)
    assert admitted[1] < ends[0] <= admitted[2], "two at once, and the third has the place of the first that ends"
    assert ends[1] <= admitted[3]
    for record in records:
        first = record.first("text")
        assert first is not None
        assert record.ttft_ns == first.before_ns - record.request_complete_ns
        assert first.before_ns - (record.admitted_ns or 0) >= 800 * MS


def test_ai_sdk_sends_its_start_while_the_request_waits():
    with start(capacity=1) as sim:
        with under_way(sim, "sim-t0-i1000-n2") as before:
            ask(sim, "ai-sdk", "sim-t50-i1-n2")
            before.read()
        records = {record.dialect: record for record in sim.log(at_least=2)}
    record, other = records["ai-sdk"], records["openai-chat"]
    first = record.first("start")
    assert first is not None
    assert record.admitted_ns is not None
    assert first.before_ns < other.end_ns <= record.admitted_ns
    assert record.ttft_ns is not None
    assert record.request_complete_ns + record.ttft_ns >= record.admitted_ns + 50 * MS


def test_a_client_that_leaves_the_queue_takes_no_place():
    with start(capacity=1) as sim:
        with under_way(sim, "sim-t0-i1000-n2") as before:
            with pytest.raises(TimeoutError):
                ask(sim, timeout=0.1)
            before.read()
        ask(sim, model="sim-t1-i1-n1")
    gone = [record for record in sim.log() if record.ended == "client"]
    assert len(gone) == 1
    assert gone[0].admitted_ns is None
    assert gone[0].outcome is None


def test_load_can_slow_it_down():
    with start(slowdown=1.0) as sim, under_way(sim, "sim-t0-i1000-n2"):
        _, record = marked(sim, "openai-chat", "sim-t100-i1-n2")
    assert record.ttft_ns is not None
    assert record.ttft_ns >= 200 * MS


def test_a_leak_is_real_memory():
    def rss_mb(pid: int) -> float:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    with start(leak_mb_per_request=5, log=False) as sim:
        ask(sim)
        before = rss_mb(sim.pid)
        for _ in range(10):
            ask(sim)
        assert 45 < rss_mb(sim.pid) - before < 60


# Life and death...


def test_it_ends_well_on_sigterm_and_says_what_was_under_way():
    sim = start()
    with under_way(sim, "sim-t5-i1-n5", **{"x-sim-fault": "endless"}):
        assert sim.stop() == 0
    assert [record.ended for record in sim.log()] == ["shutdown"]


def test_ctrl_c_ends_it_with_0():
    process = subprocess.Popen(
        [sys.executable, "-m", "streamgauge.simulator"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["ready"] is True
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert (process.returncode, said) == (0, "")


def test_it_ends_by_itself_after_its_time():
    with start(for_s=0.3, log=False) as sim:
        for _ in range(100):
            if "ended 0" in repr(sim):
                break
            time.sleep(0.05)
        assert "ended 0" in repr(sim)


def test_it_does_not_outlive_a_parent_that_is_killed():
    code = "import time; from streamgauge.simulator import start\n"
    code += "print(start(log=False).pid, flush=True); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("the simulator is still there")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"faults": ["nonsense"]}, "nonsense"),
        ({"capacity": 0}, "capacity"),
        ({"queue": 3}, "capacity"),
        ({"gzip": "zip"}, "flush and buffered"),
        ({"tls_cert": "/nowhere.pem"}, "tls-key"),
        ({"reliability": "often"}, "0.999"),
        ({"model": "sim-zzz"}, "sim-t300"),
        ({"colour": "red"}, "colour"),
        ({"require_key": ""}, "require-key"),
        ({"port": 70_000}, "65535"),
    ],
)
def test_options_that_cannot_work_are_told_before_anything_starts(options: dict[str, object], named: str):
    with pytest.raises(UsageError) as e:
        start(**options)  # type: ignore[arg-type]
    assert named in str(e.value)


def test_a_taken_port_is_told(sim: Simulator):
    with pytest.raises(UsageError) as e:
        start(port=sim.port)
    assert str(sim.port) in str(e.value)
    assert "--port" in str(e.value)

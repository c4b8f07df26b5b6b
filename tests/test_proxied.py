"""Streams through a proxy: what it is asked, what its refusals are called, whose time is whose.

A small proxy of our own (`proxy_server`) and a real one (tinyproxy).
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import environment
from proxy_server import proxy
from real import require
from servers import CA, STREAM, Server, answer, certificate, closed_port, read_request, serving
from streamgauge.check.finding import Finding
from streamgauge.check.look import look
from streamgauge.client import Answer, StreamClient, target_from_url
from streamgauge.clock import S, SystemClock
from streamgauge.dialects import with_options
from streamgauge.errors import UsageError
from streamgauge.sample import Outcome
from streamgauge.spec.load import from_url, load_spec
from streamgauge.spec.resolve import resolve
from streamgauge.spec.resolved import Resolved
from streamgauge.stream import Limits
from streamgauge.target import Tls

PATIENT = Limits(connect_ns=10 * S, first_output_ns=10 * S, stall_ns=10 * S)
SECRET = "planted%20p%40ss"
both = pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])


def client(url: str, through: str, limits: Limits = PATIENT, **more: object) -> StreamClient:
    return StreamClient(url, dialect="openai-chat", tls=Tls(ca=CA), limits=limits, proxy=through, **more)


def ask(url: str, through: str, **more: object) -> Answer:
    with client(url, through, **more) as one:
        return one.ask("hi")


@contextlib.contextmanager
def target(*, secure: bool) -> Iterator[Server]:
    with serving(answer, certificate() if secure else None) as server:
        yield server


# What goes through.


@both
def test_a_stream_goes_through_a_proxy_and_its_connection_is_kept(*, secure: bool) -> None:
    with proxy() as through, target(secure=secure) as server, client(server.url, through.url) as one:
        first, second = one.ask("hi"), one.ask("hi")
    assert (first.outcome, second.outcome, first.text) == (Outcome.OK, Outcome.OK, "Hello")
    line = through.heads[0].split(b"\r\n")[0].decode()
    if secure:
        assert line == f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"
        assert (len(through.heads), server.accepted, second.sample.conn_requests) == (1, 1, 1)
        assert first.tls is not None
    else:
        assert line == f"POST http://127.0.0.1:{server.port}/v1/chat/completions HTTP/1.1"
        assert f"Host: 127.0.0.1:{server.port}".encode() in through.heads[0]
    assert first.sample.peer == "127.0.0.1"


@pytest.mark.parametrize("inner", [False, True], ids=["http", "https"])
def test_a_proxy_that_speaks_tls_itself_carries_either(*, inner: bool) -> None:
    with proxy(certificate()) as through, target(secure=inner) as server, client(server.url, through.url) as one:
        told = [one.ask("x" * 100_000) for _ in range(2)]
    assert [one.outcome for one in told] == [Outcome.OK] * 2
    assert (told[0].tls is not None) is inner
    assert through.heads[0].startswith(b"CONNECT " if inner else b"POST http://")


@both
def test_credentials_go_to_the_proxy_decoded_and_never_to_the_target(*, secure: bool) -> None:
    heads: list[bytes] = []

    def talk(conn: socket.socket) -> None:
        heads.append(read_request(conn))
        conn.sendall(b"HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n")

    with proxy(credentials="me:planted p@ss") as through, serving(talk, certificate() if secure else None) as server:
        told = ask(server.url, through.with_(f"me:{SECRET}"))
    wanted = base64.b64encode(b"me:planted p@ss")
    assert told.sample.http_status == 500
    assert b"Proxy-Authorization: Basic " + wanted in through.heads[0]
    assert b"proxy-authorization" not in heads[0].lower()


def test_the_environments_proxy_is_used_and_none_refuses_it() -> None:
    """A public name that only the proxy can reach: it answers in the target's place."""
    code = (
        "import sys; from streamgauge import StreamClient\n"
        "for how in ('environment', 'none'):\n"
        "    with StreamClient('http://app.invalid:8080', dialect='openai-chat', proxy=how) as client:\n"
        "        sample = client.ask('hi').sample\n"
        "        print(sample.outcome, sample.http_status)\n"
    )
    with proxy() as through:
        through.refusal = lambda conn: conn.sendall(b"HTTP/1.1 418 teapot\r\nContent-Length: 0\r\n\r\n")
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment(HTTP_PROXY=through.url), capture_output=True, text=True,
            timeout=300, check=True,
        )  # fmt: skip
    assert done.stdout.splitlines() == ["http_error 418", "dns_error None"]


def test_connect_ends_when_the_proxy_has_opened_the_way_and_tls_is_the_targets_alone() -> None:
    with proxy() as through, target(secure=True) as server:
        opened: list[int] = []
        through.refusal = _slowly(0.15, server.port, opened)
        began = time.monotonic_ns()
        sample = ask(server.url, through.url).sample
    assert sample.connect_ns is not None
    assert sample.tls_ns is not None
    assert sample.sent_ns is not None
    assert sample.connect_ns - began >= 150_000_000, "the answer to CONNECT is part of connect"
    assert sample.connect_ns >= opened[0], "to its last byte, and no part of tls"
    assert sample.connect_ns <= sample.tls_ns <= sample.sent_ns


def _slowly(seconds: float, port: int, opened: list[int]):  # type: ignore[no-untyped-def] # a Refusal that serves, in the end
    def serve(conn: socket.socket) -> None:
        from proxy_server import _pump_both

        time.sleep(seconds)
        upstream = socket.create_connection(("127.0.0.1", port))
        for piece in (b"HTTP/1.1 1", b"00 Wait\r\n\r\nHTTP/1.", b"0 200 OK\r\nX: y\r\n", b"\r\n"):
            opened[:] = [time.monotonic_ns()]
            conn.sendall(piece)
            time.sleep(0.005)
        _pump_both(conn, upstream)

    return serve


# Refusals.

REFUSED = [
    (b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Negotiate\r\n\r\n", "auth_error",
     "407 Proxy Authentication Required; it asks for Negotiate, and none were given"),
    (b"HTTP/1.0 403 Forbidden\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\n\r\n", "auth_error", "(ERR_ACCESS_DENIED)"),
    (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "unreachable", "502 Bad Gateway"),
    (b"HTTP/1.1 503\r\n\r\n", "unreachable", "refused CONNECT 127.0.0.1:443: 503"),
    (b"HTTP/1.1 504 Gateway Timeout\r\n\r\n", "connect_timeout", "504 Gateway Timeout"),
    (b"HTTP/1.1 301 Moved\r\nLocation: http://x/\r\n\r\n", "unreachable", "301 Moved"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "protocol_error", "no HTTP/1.1: 'SSH-2.0-OpenSSH_9.2'"),
    (b"\x15\x03\x01\x00\x02\x02\x28", "protocol_error", "no HTTP/1.1"),
    (b"HTTP/1.1 \x1b[31mred\r\n\r\n", "protocol_error", "no HTTP/1.1"),
    (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000, "protocol_error", "no HTTP/1.1"),
    (b"", "dropped", "connection closed instead of an answer to CONNECT"),
    (b"HTTP/1.1 200 OK\r\n", "dropped", "connection closed instead of an answer to CONNECT"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "outcome", "words"), REFUSED, ids=range(len(REFUSED)))
def test_a_refusal_of_the_proxys_is_called_its_own(said: bytes, outcome: str, words: str) -> None:
    with proxy() as through:
        through.refusal = lambda conn: conn.sendall(said)
        sample = ask("https://127.0.0.1:443", through.url).sample
    assert sample.outcome == outcome
    assert sample.error is not None
    assert sample.error.startswith(f"the proxy {through.url}")
    assert words in sample.error
    assert sample.error.isprintable()
    assert (sample.sent_ns, sample.connect_ns, sample.http_status) == (None, None, None)


def test_a_proxy_that_is_silent_is_waited_for_as_long_as_for_a_connection() -> None:
    with proxy() as through:
        through.refusal = lambda conn: time.sleep(3)
        sample = ask("https://127.0.0.1:443", through.url, limits=Limits(connect_ns=S)).sample
    assert sample.outcome == Outcome.CONNECT_TIMEOUT
    assert sample.error == f"no answer of the proxy {through.url} to CONNECT 127.0.0.1:443 after 1 s"


def test_a_proxy_that_is_not_there_is_named() -> None:
    with closed_port() as port:
        sample = ask("https://127.0.0.1:443", f"http://127.0.0.1:{port}").sample
    assert (sample.outcome, sample.error) == (
        Outcome.CONNECT_REFUSED, f"the proxy http://127.0.0.1:{port}: Connection refused",
    )  # fmt: skip
    lost = ask("https://127.0.0.1:443", "http://nowhere.invalid:1").sample
    assert lost.outcome == Outcome.DNS_ERROR
    assert "the proxy http://nowhere.invalid:1" in str(lost.error)


def test_a_bad_certificate_is_told_of_the_one_that_shows_it() -> None:
    with proxy(certificate("expired")) as through, target(secure=True) as server:
        his = ask(server.url, through.url).sample
    with proxy() as through, serving(answer, certificate("expired")) as server:
        theirs = ask(server.url, through.url).sample
    assert (his.outcome, theirs.outcome) == (Outcome.TLS_ERROR, Outcome.TLS_ERROR)
    assert str(his.error).startswith(f"the proxy https://127.0.0.1:{his and his.error and _port(his.error)}")
    assert str(theirs.error).startswith("certificate not accepted")


def _port(text: str) -> str:
    found = re.search(r":(\d+)", text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("status", "outcome"), [("407 Proxy Authentication Required", "auth_error"), ("502 Bad Gateway", "http_error")]
)
def test_in_plain_http_a_refusal_says_that_the_proxy_may_have_said_it(status: str, outcome: str) -> None:
    with proxy() as through:
        through.refusal = lambda conn: conn.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        sample = ask("http://127.0.0.1:80", through.url).sample
    assert sample.outcome == outcome
    assert f"asked through the proxy {through.url}, which may have said this itself" in str(sample.error)


# check.


def findings(url: str, through: str) -> dict[str, Finding]:
    at = target_from_url(url, dialect="openai-chat", model="m", tls=Tls(ca=CA), limits=PATIENT, proxy=through)
    return {finding.what: finding for finding in look(at, SystemClock()).findings}


def test_check_tells_the_proxy_and_that_it_let_us_pass() -> None:
    with proxy(credentials="me:planted p@ss") as through, serving(STREAM, certificate()) as server:
        found = findings(server.url, through.with_(f"me:{SECRET}"))
    assert list(found)[:4] == ["resolve", "connect", "proxy", "tls"]
    assert found["proxy"].level == found["tls"].level == "ok"
    assert f"with credentials, opened the way to 127.0.0.1:{server.port}" in found["proxy"].text.replace(
        ",", "", 1
    ).replace("s o", "s o")
    assert found["proxy"].facts["source"] == "proxy"
    assert found["ttft"].level == "ok"
    assert "planted" not in repr(found)


def test_check_tells_what_to_do_about_a_proxy_that_refuses() -> None:
    with proxy(credentials="me:other") as through, serving(STREAM, certificate()) as server:
        none = findings(server.url, through.url)["proxy"]
        wrong = findings(server.url, through.with_(f"me:{SECRET}"))["proxy"]
        through.credentials = None
        through.refusal = lambda conn: conn.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        denied = findings(server.url, through.url)["proxy"]
    assert {none.level, wrong.level, denied.level} == {"fail"}
    assert f"http://USER:${{PROXY_PASSWORD}}@127.0.0.1:{through.port}" in (none.next or "")
    assert "user or password of proxy is wrong" in (wrong.next or "")
    assert "ask who runs it" in (denied.next or "")
    assert all("--proxy none" in (one.next or "") for one in (none, wrong, denied))


def test_check_names_a_proxy_that_answers_for_an_http_target() -> None:
    with proxy(credentials="me:other") as through, serving(STREAM) as server:
        refused = findings(server.url, through.url)
        good = findings(server.url, through.with_("me:other"))
    assert refused["proxy"].text.endswith("wants credentials")
    assert refused["status"].level == "fail"
    assert good["proxy"].text.startswith(f"{through.url} (named for this target), with credentials, is asked for")
    assert good["ttft"].level == "ok"


def test_check_tells_why_the_environments_proxy_is_not_used(tmp_path: Path) -> None:
    with serving(STREAM) as server:
        asked = [sys.executable, "-m", "streamgauge", "check", "--url", f"{server.url}/v1/chat/completions", "--json"]
        done = subprocess.run(
            asked, env=environment(HTTP_PROXY="http://me:planted-pw@proxy.invalid:1"), cwd=tmp_path,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    first = json.loads(done.stdout)["targets"]["target"]["findings"][0]
    assert (done.returncode, first["what"], first["level"]) == (0, "proxy", "ok")
    assert first["text"] == "none: HTTP_PROXY is set, but this machine itself is asked directly"
    assert "planted-pw" not in done.stdout + done.stderr


# The command line, and what is kept.


def test_a_run_through_a_proxy_keeps_its_password_in_no_file_and_no_output(tmp_path: Path) -> None:
    with proxy(credentials="me:planted p@ss") as through, serving(STREAM, certificate()) as server:
        url = f"{server.url}/v1/chat/completions"
        done = subprocess.run(
            [sys.executable, "-m", "streamgauge", "run", "ttft", "--url", url, "--requests", "3", "--json", "-H",
             "X-A: b", "--set", f"targets.target.tls.ca={CA}", "--proxy", through.with_(f"me:{SECRET}")],
            env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["outcomes"].get("ok", 0) >= 3, done.stderr
    assert through.heads[-1].startswith(f"CONNECT 127.0.0.1:{server.port} ".encode())
    assert any(note.startswith("TLS: ") for note in report["measurement"]["notes"])
    note = f"target: through the proxy {through.url}, whose time is part of every number"
    assert note in report["measurement"]["notes"]
    assert report["run"]["targets"][0]["proxy"] == through.url
    coded = base64.b64encode(b"me:planted p@ss").decode()
    texts = [done.stdout, done.stderr]
    texts += [path.read_bytes().decode("utf-8", "replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert len(texts) > 6
    for text in texts:
        for form in ("planted p@ss", SECRET, "planted", coded):
            assert form not in text


def resolved(url: str, environ: dict[str, str], proxy: str | None = None) -> Resolved:
    """What `--url` and `--proxy` come to."""
    spec = from_url(url, dialect="openai-chat", speak=with_options, environ={}, model="m", proxy=proxy)
    return resolve(spec, None, environ, "ttft")


def test_a_proxy_that_cannot_be_is_a_mistake_with_its_place() -> None:
    with pytest.raises(UsageError, match=r"--proxy.*a proxy that speaks socks5 cannot be used") as caught:
        resolved("https://api.example.com/v1", {}, "socks5://me:planted-pw@x:1")
    assert "planted-pw" not in str(caught.value)
    with pytest.raises(UsageError, match=r"--proxy.*\$\{NO_SUCH_PW\} is not set"):
        resolved("https://api.example.com/v1", {}, "http://me:${NO_SUCH_PW}@x:1")
    with pytest.raises(UsageError, match="a Unix socket is not reached through a proxy"):
        resolved("http+unix://%2Frun%2Fapp.sock/v1", {}, "http://x:1")


def test_a_socks_proxy_of_the_environment_is_a_mistake_that_names_the_variable() -> None:
    with pytest.raises(UsageError, match="ALL_PROXY: a proxy that speaks socks5 cannot be used"):
        resolved("https://api.example.com/v1", {"ALL_PROXY": "socks5://x:1"})
    assert resolved("https://api.example.com/v1", {"ALL_PROXY": "socks5://x:1"}, "none").targets[0].proxy is None


def test_a_reference_in_a_proxys_credentials_is_taken_as_it_is_and_is_a_secret() -> None:
    password = "a@b/c%41:d"
    made = resolved("https://api.example.com/v1", {"WHO": "me", "PW": password}, "http://${WHO}:${PW}@127.0.0.1:3128")
    found = made.targets[0].proxy
    assert found is not None
    assert (found.authorization, found.shown) == (
        f"Basic {base64.b64encode(f'me:{password}'.encode()).decode()}", "http://127.0.0.1:3128",
    )  # fmt: skip
    assert made.redactor.text(f"x {password} {found.authorization}") == "x [redacted] [redacted]"
    whole = resolved("https://api.example.com/v1", {"CORP": "http://me:pa%20ss@p:1"}, "${CORP}").targets[0].proxy
    assert whole is not None
    assert whole.authorization == f"Basic {base64.b64encode(b'me:pa ss').decode()}"


def test_the_flag_stands_for_every_target_of_a_spec(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(
        '[targets.a]\nurl = "https://a.example.com"\ndialect = "openai-chat"\nmodel = "m"\nproxy = "http://own:1"\n'
        '[targets.b]\nurl = "https://b.example.com"\ndialect = "openai-chat"\nmodel = "m"\n'
    )
    own = load_spec(tmp_path / "s.toml", speak=with_options, environ={})
    flag = load_spec(tmp_path / "s.toml", speak=with_options, environ={}, proxy=("http://f:1", "--proxy"))
    environ = {"HTTPS_PROXY": "http://env:1", "NO_PROXY": "c.example.com"}
    shown = [[t.proxy and t.proxy.shown for t in resolve(s, None, environ, "ttft").targets] for s in (own, flag)]
    assert shown == [["http://own:1", "http://env:1"], ["http://f:1"] * 2]


# A real proxy.


@contextlib.contextmanager
def tinyproxy(folder: Path, *more: str) -> Iterator[int]:
    require(shutil.which("tinyproxy"), "the proxy tinyproxy (package tinyproxy-bin)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    rules = "\n".join([f"Port {port}", "Listen 127.0.0.1", "Timeout 20", "MaxClients 20", *more, ""])
    (folder / "tinyproxy.conf").write_text(rules)
    process = subprocess.Popen(
        ["tinyproxy", "-d", "-c", str(folder / "tinyproxy.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.real
@both
def test_a_real_proxy_carries_streams_and_its_refusals_are_told(tmp_path: Path, *, secure: bool) -> None:
    with tinyproxy(tmp_path, "BasicAuth me planted", "ConnectPort 1") as port, target(secure=secure) as server:
        good = f"http://me:planted@127.0.0.1:{port}"
        told = ask(server.url, good).sample
        unknown = ask(server.url, f"http://127.0.0.1:{port}").sample
    if secure:  # CONNECT is allowed to port 1 alone
        assert (told.outcome, "403" in str(told.error)) == (Outcome.AUTH_ERROR, True)
    else:
        assert (told.outcome, told.text_events) == (Outcome.OK, 2)
    assert unknown.outcome == Outcome.AUTH_ERROR
    assert "407" in str(unknown.error) or unknown.http_status == 407
    if secure:
        (tmp_path / "open").mkdir()
        with tinyproxy(tmp_path / "open") as port, target(secure=True) as server:
            told = ask(server.url, f"http://127.0.0.1:{port}").sample
        assert (told.outcome, told.text_events) == (Outcome.OK, 2)

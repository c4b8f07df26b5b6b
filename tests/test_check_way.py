"""What `check` says of the way to a server is what that server really did: names, addresses, TLS of every kind."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from servers import CA, CERTS, STREAM, Talk, always, certificate, read_request, serving
from streamgauge.check.finding import Finding
from streamgauge.check.knock import Knock, Session, Way, find_way, tls_trouble
from streamgauge.check.look import Looked, look
from streamgauge.check.way import way_findings
from streamgauge.client import target_from_url
from streamgauge.clock import S, SystemClock
from streamgauge.errors import TargetError, UsageError
from streamgauge.load import Load
from streamgauge.net import NetError
from streamgauge.sample import Outcome
from streamgauge.stream import Limits
from streamgauge.suite.prepare import preflight
from streamgauge.target import Target, Tls

CLOCK = SystemClock()


def target(port: int, scheme: str = "https", host: str = "127.0.0.1", **tls: object) -> Target:
    quick = Limits(connect_ns=2 * S, first_output_ns=2 * S, stall_ns=2 * S)
    url = f"{scheme}://{host}:{port}/v1/chat/completions"
    return target_from_url(url, dialect="openai-chat", model="m", tls=Tls(**{"ca": CA, **tls}), limits=quick)


def findings(at: Target) -> dict[str, Finding]:
    return {finding.what: finding for finding in look(at, CLOCK).findings}


def last(looked: Looked) -> Finding:
    return looked.findings[-1]


@pytest.fixture(scope="module")
def good() -> Iterator[int]:
    with serving(STREAM, certificate()) as own:
        yield own.port


def test_a_session_is_told_with_version_time_issuer_and_expiry(good: int) -> None:
    tls = findings(target(good))["tls"]
    assert tls.level == "ok"
    assert tls.text.startswith("TLSv1.3 TLS_")
    assert "verified; certificate by Streamgauge Test CA until 2120-01-01" in tls.text
    assert tls.facts["issuer"] == "Streamgauge Test CA"
    assert tls.facts["names"] == ["localhost", "127.0.0.1", "0:0:0:0:0:0:0:1"]
    assert 0 < tls.facts["tls_ms"] < 2_000
    assert tls.facts["not_before"] == "2020-01-01"


def test_a_certificate_is_told_though_it_is_not_verified(good: int) -> None:
    tls = findings(target(good, ca=None, verify=False))["tls"]
    assert tls.level == "warn"
    assert "NOT verified" in tls.text
    assert tls.facts["issuer"] == "Streamgauge Test CA"


def test_a_certificate_that_ends_soon_is_a_warning(good: int) -> None:
    at = target(good)
    way = find_way(at, CLOCK)
    end = datetime(2120, 1, 1, tzinfo=UTC).timestamp()
    *_, tls = way_findings(at, way, end - 3 * 86_400)
    assert (tls.level, tls.next) == ("warn", "renew it in time")
    assert "3 days from now" in tls.text
    *_, tls = way_findings(at, way, end - 30 * 86_400)
    assert tls.level == "ok"


@pytest.mark.parametrize(
    ("name", "settings", "trouble", "text", "step"),
    [
        ("expired", {}, "expired", '"Streamgauge Test CA" expired on 2021-01-01', "renew"),
        ("early", {}, "not_yet_valid", "is not valid before 2119-01-01", "clock"),
        ("self_signed", {}, "self_signed", "self-signed", "tls.ca does not hold"),
        ("self_signed", {"ca": None}, "self_signed", "self-signed", "trust this certificate: tls = { ca"),
        ("server", {"ca": None}, "unknown_ca", 'signed by "Streamgauge Test CA", an own CA', "trust its CA"),
        ("server", {"ca": str(CERTS / "other_ca.pem")}, "unknown_ca", "an own CA", "tls.ca does not hold the CA"),
        ("wrong_name", {}, "wrong_name", "is for other.example, not for 127.0.0.1", 'server_name = "other.example"'),
        ("server", {"server_name": "nobody.example"}, "wrong_name", "not for nobody.example", "server_name"),
    ],
)
def test_a_certificate_that_is_not_accepted_is_named_with_its_cure(
    name: str, settings: dict[str, str | None], trouble: str, text: str, step: str
) -> None:
    with serving(STREAM, certificate(name)) as own:
        looked = look(target(own.port, **settings), CLOCK)
    tls = last(looked)
    assert not looked.usable
    assert (tls.what, tls.level, tls.facts["trouble"]) == ("tls", "fail", trouble)
    assert text in tls.text
    assert step in (tls.next or "")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("self_signed", {"ca": str(CERTS / "self_signed.pem")}),
        ("wrong_name", {"server_name": "other.example"}),
        ("expired", {"verify": False}),
    ],
)
def test_the_cure_that_was_named_works(name: str, settings: dict[str, object]) -> None:
    with serving(STREAM, certificate(name)) as own:
        assert look(target(own.port, **settings), CLOCK).usable


@pytest.mark.parametrize("tls13", [False, True])
def test_a_server_that_wants_a_client_certificate_is_named(tls13: bool) -> None:
    with serving(STREAM, certificate(client_ca=CA, tls13=tls13)) as own:
        tls = last(look(target(own.port), CLOCK))
        mine = {"cert": str(CERTS / "client.pem"), "key": str(CERTS / "client.key")}
        assert look(target(own.port, **mine), CLOCK).usable
    assert (tls.what, tls.level) == ("tls", "fail")
    assert "client certificate" in tls.text + (tls.next or "")
    assert 'cert = "client.pem"' in (tls.next or "")


def test_a_client_certificate_of_another_ca_is_not_taken() -> None:
    other = {"cert": str(CERTS / "self_signed.pem"), "key": str(CERTS / "self_signed.key")}
    with serving(STREAM, certificate(client_ca=CA)) as own:
        tls = last(look(target(own.port, **other), CLOCK))
    assert (tls.what, tls.facts["trouble"]) == ("tls", "client_certificate")
    assert "does not take the client certificate of tls.cert" in (tls.next or "")


def test_a_client_certificate_asked_for_in_http_is_named() -> None:
    page = b"<html><head><title>400 No required SSL certificate was sent</title></head><center>nginx</center></html>"
    with serving(always("400 Bad Request", {"Content-Type": "text/html"}, page), certificate()) as own:
        tls = last(look(target(own.port), CLOCK))
    assert (tls.what, tls.text) == ("tls", "the server wants a client certificate")


def bad_request(sock: socket.socket) -> None:
    sock.recv(65_536)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def deaf_to_tls(sock: socket.socket) -> None:
    """Like a parser that waits for the end of a line: only HTTP gets an answer."""
    if sock.recv(1, socket.MSG_PEEK) == b"\x16":
        sock.recv(65_536)
        sock.recv(1)
    read_request(sock)
    sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


@pytest.mark.parametrize("answer", [bad_request, deaf_to_tls])
def test_plain_http_on_an_https_port_is_named(answer: Talk) -> None:
    with serving(answer) as own:
        tls = last(look(target(own.port), CLOCK))
    assert (tls.what, tls.level, tls.facts["trouble"]) == ("tls", "fail", "plain_http")
    assert "http://" in (tls.next or "")


@pytest.mark.parametrize(
    "server",
    [
        lambda: serving(STREAM, certificate()),
        lambda: serving(always("400 Bad Request", {}, b"The plain HTTP request was sent to HTTPS port"), certificate()),
    ],
    ids=["closes", "says so"],
)
def test_tls_on_an_http_port_is_named(server: object) -> None:
    with server() as own:  # type: ignore[operator]
        tls = last(look(target(own.port, "http"), CLOCK))
    assert (tls.what, tls.level, tls.facts["trouble"]) == ("tls", "fail", "speaks_tls")
    assert "https://" in (tls.next or "")


def test_a_port_that_speaks_neither_is_not_said_to_speak_one() -> None:
    with serving(lambda sock: sock.sendall(b"220 mail.example ESMTP\r\n")) as own:
        tls = last(look(target(own.port), CLOCK))
        plain = last(look(target(own.port, "http"), CLOCK))
    assert tls.facts["trouble"] != "speaks_tls"
    assert plain.what == "answer"


@pytest.mark.parametrize(
    ("words", "trouble"),
    [
        ("TLSV1_ALERT_NO_APPLICATION_PROTOCOL", "http2_only"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "client_certificate"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "old_tls"),
        ("UNSUPPORTED_PROTOCOL", "old_tls"),
        ("WRONG_VERSION_NUMBER", "plain_http"),
        ("connection closed during the TLS handshake", "other"),
    ],
)
def test_what_openssl_calls_an_error_has_a_meaning(words: str, trouble: str) -> None:
    at = target(443)
    knock = Knock(("127.0.0.1", 443), 10, error=NetError(Outcome.TLS_ERROR, words), trouble=tls_trouble(words))
    *_, tls = way_findings(at, Way(at.addresses, 0, (knock,)), 0.0)
    assert tls.facts["trouble"] == trouble
    assert tls.next


def test_an_ipv6_address_is_told_in_brackets() -> None:
    try:
        server = serving(STREAM, certificate(), host="::1")
        with server as own:
            found = findings(target(own.port, host="[::1]"))
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    assert found["connect"].text.startswith(f"[::1]:{own.port} in ")
    assert found["tls"].level == "ok"


def test_a_refused_port_and_a_name_that_does_not_resolve_are_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    dead = look(target(port, "http"), CLOCK)
    assert [finding.what for finding in dead.findings] == ["resolve", "connect"]
    assert "refused" in last(dead).text
    lost = look(target(80, "http", "nowhere.invalid"), CLOCK)
    assert [finding.what for finding in lost.findings] == ["resolve"]
    assert "does not resolve" in last(lost).text


def test_a_port_that_never_answers_is_told_after_the_targets_time_out() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        at = target(full.getsockname()[1], "http")
        crowd = [socket.socket() for _ in range(4)]
        try:
            for one in crowd:
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            looked = look(at, CLOCK)
        finally:
            for one in crowd:
                one.close()
    assert "no answer within 2 s" in last(looked).text
    assert "firewall" in (last(looked).next or "")


@pytest.fixture
def half(good: int) -> Way:
    """A name with two addresses of which one refuses."""
    session = Session("TLSv1.3", "c", 5_000_000, None)
    bad = Knock(("::1", good), error=NetError(Outcome.CONNECT_REFUSED, "Connection refused"))
    return Way((("::1", good), ("127.0.0.1", good)), 0, (bad, Knock(("127.0.0.1", good), 1_000_000, session)))


def test_each_address_is_told_and_one_that_refuses_is_a_warning(good: int, half: Way) -> None:
    found = {one.what: one for one in way_findings(target(good, host="localhost"), half, 0.0)}
    assert found["resolve"].facts["addresses"] == ["::1", "127.0.0.1"]
    assert found["connect"].level == "warn"
    assert f"127.0.0.1:{good} in 1.0 ms; but [::1]:{good}: Connection refused" in found["connect"].text
    assert "write 127.0.0.1 or [::1] in place of localhost" in (found["connect"].next or "")
    assert half.usable == (("127.0.0.1", good),)


def test_a_server_that_never_answers_the_tls_hello_is_told_after_the_targets_time_out() -> None:
    over = threading.Event()

    def silent(sock: socket.socket) -> None:
        over.wait(10)

    with serving(silent) as own:
        way = find_way(target(own.port), CLOCK)
        over.set()
    assert way.usable == ()
    assert way.knocks[0].trouble == "silent"


def test_an_unusable_own_certificate_file_is_a_usage_error(good: int) -> None:
    with pytest.raises(UsageError, match=r"tls\.ca"):
        look(target(good, ca=str(CERTS / "make.sh")), CLOCK)


def load(at: Target) -> Load:
    return Load(targets=(at,), prompts={}, phases=(), seed=1)


@pytest.mark.parametrize(("name", "stage", "words"), [("expired", "tls", "expired on 2021-01-01"), ("server", "", "")])
def test_a_runs_preflight_says_what_check_says(name: str, stage: str, words: str) -> None:
    asked: list[bytes] = []

    def note(sock: socket.socket) -> None:
        if head := read_request(sock):
            asked.append(head)

    with serving(note, certificate(name)) as own:
        at = target(own.port)
        if not stage:
            assert preflight(load(at), CLOCK).targets[0].addresses == (("127.0.0.1", own.port),)
        else:
            with pytest.raises(TargetError) as told:
                preflight(load(at), CLOCK)
            error = last(look(at, CLOCK))
            assert words in str(told.value)
            assert "tls_error" in str(told.value)
            assert (told.value.stage, told.value.next) == (stage, error.next)
    assert asked == [], "preflight sends no request"

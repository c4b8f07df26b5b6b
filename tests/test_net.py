"""Names, addresses, TLS and what the system's errors mean; and the engine where there is neither epoll nor a stamp."""

from __future__ import annotations

import errno
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import environment
from streamgauge.client import StreamClient
from streamgauge.errors import UsageError
from streamgauge.net import NetError, is_private, is_this_machine, net_error, resolve, tls_context
from streamgauge.sample import Outcome
from streamgauge.simulator import Simulator, start
from streamgauge.stream import Limits
from streamgauge.target import Tls
from test_simulator_server import certificate

SCRIPT = json.dumps([["text", "Hello "], ["wait", 20], ["text", "x" * 40_000], ["finish", "stop"]])


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (errno.ECONNREFUSED, "connect_refused"),
        (errno.ETIMEDOUT, "connect_timeout"),
        (errno.ENETUNREACH, "unreachable"),
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.EACCES, "unreachable"),
        (errno.EMFILE, "client_limit"),
        (errno.ENFILE, "client_limit"),
        (errno.EADDRNOTAVAIL, "client_limit"),
        (errno.ENOBUFS, "client_limit"),
    ],
)
def test_what_the_system_says_is_an_outcome_with_its_words(code: int, outcome: str) -> None:
    found = net_error(OSError(code, os.strerror(code)))
    assert (found.outcome, found.words) == (outcome, os.strerror(code))


def test_an_error_without_number_is_unreachable_in_its_own_words() -> None:
    found = net_error(OSError("no such luck"))
    assert (found.outcome, found.words) == (Outcome.UNREACHABLE, "no such luck")


def test_an_address_is_this_machines_where_a_server_could_have_it() -> None:
    shown = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout.split()
    for address in ("127.0.0.1", "127.8.8.8", "192.0.2.1", "2001:db8::1", *shown):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
            try:
                sock.bind((address, 0))
                ours = True
            except OSError:
                ours = False
        assert is_this_machine(address) == ours, address
    assert is_this_machine("/run/app.sock")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_name_gives_each_address_once(host: str) -> None:
    found = resolve(host, 80)
    assert found == tuple(dict.fromkeys(found))
    assert all(is_private(address) and port == 80 for address, port in found)


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "x" * 300, "\u2028", "ex ample.com"])
def test_a_name_that_gives_none_is_a_dns_error_that_shows_it(host: str) -> None:
    with pytest.raises(NetError) as caught:
        resolve(host, 80)
    assert caught.value.outcome is Outcome.DNS_ERROR
    assert repr(host) in caught.value.words


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.1.2.3", True), ("192.168.0.1", True),
        ("172.16.0.1", True), ("172.32.0.1", False), ("169.254.1.1", True), ("fe80::1%eth0", True), ("fd00::1", True),
        ("8.8.8.8", False), ("2606:4700::1", False), ("::ffff:8.8.8.8", False),
    ],
)  # fmt: skip
def test_loopback_private_and_link_local_addresses_are_ones_own(address: str, ours: bool) -> None:
    assert is_private(address) is ours


# TLS.


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secure(files: tuple[str, str]) -> Iterator[Simulator]:
    with start(tls_cert=files[0], tls_key=files[1]) as running:
        yield running


def client(sim: Simulator, tls: Tls, host: str = "localhost") -> StreamClient:
    url = f"https://{host}:{sim.port}/v1/chat/completions"
    limits = Limits(connect_ns=5_000_000_000)
    return StreamClient(url, dialect="openai-chat", model="m", headers={"X-Sim-Script": SCRIPT}, tls=tls, limits=limits)


def test_a_stream_over_tls_is_measured_like_any_other(secure: Simulator, files: tuple[str, str]) -> None:
    with client(secure, Tls(ca=files[0])) as asking:
        first, second = asking.ask("x"), asking.ask("y")
    truth = {record.trace_id: record for record in secure.log(at_least=2)}
    for answer in (first, second):
        sample, sends = answer.sample, [s for s in truth[answer.sample.id].sends if "text" in s.kinds]
        assert (answer.outcome, answer.text) == (Outcome.OK, "Hello " + "x" * 40_000)
        assert sample.first_token_ns is not None
        assert sends[0].before_ns - 200_000 <= sample.first_token_ns
        assert sample.kernel_stamps == (sys.platform == "linux")
    assert first.tls is not None
    assert first.tls[0].startswith("TLSv1.")
    assert first.sample.tls_ns is not None
    assert first.sample.connect_ns is not None
    assert first.sample.tls_ns > first.sample.connect_ns
    assert (second.sample.tls_ns, second.sample.conn_requests) == (None, 1)


@pytest.mark.parametrize(
    ("tls", "host", "words"),
    [
        (Tls(), "localhost", "certificate not accepted: self-signed certificate"),
        (Tls(ca="own"), "127.0.0.1", "certificate not accepted: IP address mismatch"),
        (Tls(ca="own", server_name="other"), "localhost", "certificate not accepted: Hostname mismatch"),
    ],
)
def test_a_certificate_that_is_not_accepted_says_why(
    secure: Simulator, files: tuple[str, str], tls: Tls, host: str, words: str
) -> None:
    own = Tls(ca=files[0], server_name=tls.server_name) if tls.ca else tls
    with client(secure, own, host) as asking:
        sample = asking.ask("x").sample
    assert sample.outcome is Outcome.TLS_ERROR
    assert words in (sample.error or "")
    assert (sample.sent_ns, sample.tls_ns) == (None, None)


def test_without_verification_any_certificate_does(secure: Simulator) -> None:
    with client(secure, Tls(verify=False), "127.0.0.1") as asking:
        assert asking.ask("x").outcome is Outcome.OK


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\x15\x03\x03\x00\x02\x02\x28", b"\x16\x03\x03" + b"\xff" * 90],
)
def test_a_server_that_does_not_speak_tls_is_a_tls_error(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer = listener.accept()[0]
            peer.recv(1 << 16)
            peer.sendall(answer)
            peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        with StreamClient(url, dialect="openai-chat", tls=Tls(verify=False)) as asking:
            sample = asking.ask("x").sample
        thread.join()
    assert sample.outcome is Outcome.TLS_ERROR
    assert sample.error


@pytest.mark.parametrize(
    ("tls", "key"), [(Tls(ca="/nowhere/ca.pem"), "tls.ca"), (Tls(cert="/nowhere/me.pem", key="/nowhere/k"), "tls.cert")]
)
def test_a_file_that_cannot_be_used_is_named_with_its_key(tls: Tls, key: str) -> None:
    with pytest.raises(UsageError, match=rf"{key} = '/nowhere/.*cannot be used"):
        tls_context(tls)


def test_a_file_that_holds_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(UsageError, match="wants a PEM file of certificates"):
        tls_context(Tls(ca=str(tmp_path / "ca.pem")))


def test_verification_is_on_unless_it_is_turned_off() -> None:
    assert tls_context(Tls()).verify_mode is ssl.CERT_REQUIRED
    assert tls_context(Tls()).check_hostname
    assert tls_context(Tls(verify=False)).verify_mode is ssl.CERT_NONE


# Another system.

ELSEWHERE = """
import select, sys
del select.epoll
import selectors, socket, ssl, subprocess, threading
sys.platform = "darwin"
from streamgauge import StreamClient
with StreamClient(sys.argv[1], dialect="openai-chat", model="sim-t60-i2-n10") as client:
    for _ in range(2):
        answer = client.ask("x")
        sample = answer.sample
        print(answer.outcome, sample.kernel_stamps, sample.text_events, sample.conn_requests, answer.metric("ttft_ms"))
"""


def test_without_epoll_and_kernel_stamps_it_measures_by_the_user_clock_and_says_so() -> None:
    with start() as sim:
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, sim.url],
            env=environment(), capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        truth = sim.log(at_least=2)
    for n, (line, record) in enumerate(zip(done.stdout.splitlines(), truth, strict=True)):
        outcome, stamps, events, carried, ttft = line.split()
        assert (outcome, stamps, int(events), int(carried)) == ("ok", "False", record.text_events, n)
        assert float(ttft) >= (record.ttft_ns or 0) / 1e6

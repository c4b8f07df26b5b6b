"""Each line of `streamgauge check` comes from what a server really did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import Done, streamgauge
from streamgauge.simulator import Simulator, start


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with start(gzip="buffered") as running:
        yield running


def check(simulator: Simulator, tmp_path: Path, *more: str, path: str = "/v1/chat/completions") -> Done:
    return streamgauge("check", "--url", simulator.url + path, "--model", "sim-t30-i5-n30", *more, cwd=tmp_path)


def lines(done: Done) -> dict[str, dict[str, str]]:
    return {line["subject"]: line for line in json.loads(done.out)["target"]}


def test_a_good_target_is_ok_line_by_line_and_its_plan_is_told(simulator: Simulator, tmp_path: Path) -> None:
    done = check(simulator, tmp_path)
    assert done.code == 0
    for words in (
        "ok   resolve",
        "ok   status   200",
        "ok   ttft",
        "30 out",
        "stop (ok)",
        "ok   pace",
        "plan   ttft pr",
    ):
        assert words in done.out
    assert "FAIL" not in done.out


def test_it_sends_two_requests(simulator: Simulator, tmp_path: Path) -> None:
    before = len(simulator.log())
    check(simulator, tmp_path)
    assert len(simulator.log()) == before + 2


def test_compression_that_merges_tokens_is_found_by_the_second_request(simulator: Simulator, tmp_path: Path) -> None:
    found = lines(check(simulator, tmp_path, "--json"))
    assert found["gzip"]["mark"] == "warn"
    assert "merged" in found["gzip"]["words"]
    assert found["pace"]["mark"] == "ok"


def test_another_dialect_is_named_with_the_line_to_write(simulator: Simulator, tmp_path: Path) -> None:
    done = check(simulator, tmp_path, "--dialect", "anthropic")
    assert done.code == 4
    assert "this is openai-chat, not anthropic" in done.out
    assert 'set dialect = "openai-chat"' in done.out


@pytest.mark.parametrize(
    ("fault", "subject", "words"),
    [
        ("401", "answer", "auth_error"),
        ("login", "answer", "redirect to /login"),
        ("500", "answer", "http_error"),
        ("429", "answer", "rate_limited"),
        ("html", "answer", "protocol_error"),
        ("truncate", "answer", "truncated"),
        ("empty", "answer", "empty"),
    ],
)
def test_a_failure_is_named_with_a_next_step(
    simulator: Simulator, tmp_path: Path, fault: str, subject: str, words: str
) -> None:
    done = check(simulator, tmp_path, "-H", f"X-Sim-Fault: {fault}", "--json")
    assert done.code == 4
    line = lines(done)[subject]
    assert (line["mark"], words in line["words"]) == ("FAIL", True)
    assert line["next_step"]


def test_a_dead_port_and_a_name_that_does_not_resolve_are_said(tmp_path: Path) -> None:
    dead = streamgauge("check", "--url", "http://127.0.0.1:9/v1/chat/completions", "--json", cwd=tmp_path)
    assert dead.code == 4
    assert "refused" in lines(dead)["connect"]["words"]
    lost = streamgauge("check", "--url", "http://nowhere.invalid/v1/chat/completions", "--json", cwd=tmp_path)
    assert lost.code == 4
    assert "does not resolve" in lines(lost)["resolve"]["words"]


def test_no_secret_is_shown(simulator: Simulator, tmp_path: Path) -> None:
    secret = "sk-planted-0123456789abcdef"
    flags = ("-H", "Authorization: Bearer ${PLANTED}", "-H", "X-Sim-Fault: 401")
    done = streamgauge(
        "check", "--url", f"{simulator.url}/v1/chat/completions", "--model", "m", *flags, cwd=tmp_path, PLANTED=secret
    )
    assert done.code == 4
    assert secret not in done.out + done.err


def test_without_a_target_it_says_how_to_get_one(tmp_path: Path) -> None:
    done = streamgauge("check", cwd=tmp_path)
    assert done.code == 2
    assert "streamgauge init" in done.err

"""The library's public face: the README's example runs as it stands, and an Answer tells what the server did."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asked import ended
from cli import environment
from streamgauge import MetricsCollector, Outcome, ReportGenerator, StreamClient, __all__
from streamgauge.errors import UsageError
from streamgauge.simulator import Simulator, start

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with start() as running:
        yield running


def test_the_readmes_example_runs_as_it_stands(simulator: Simulator, tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    example = example.replace("http://127.0.0.1:8484", simulator.url)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    *streams, p50 = done.stdout.splitlines()
    assert len(streams) == 5
    assert all(line.startswith("length_capped ") for line in streams)
    assert 100 < float(p50) < 2_000


@pytest.mark.parametrize("dialect", ["openai-chat", "anthropic", "gemini", "ai-sdk"])
def test_one_stream_tells_what_the_server_logged(simulator: Simulator, dialect: str) -> None:
    script = '[["wait",30],["text","Hello "],["wait",20],["text","world"],["finish","stop"]]'
    with StreamClient(simulator.url, dialect=dialect, model="m", headers={"X-Sim-Script": script}) as client:
        answer = client.ask("Say hello")
    truth = ended(simulator, answer.sample.id)
    assert (answer.outcome, answer.text) == (Outcome.OK, "Hello world")
    assert answer.sample.text_events == truth.text_events == 2
    assert truth.ttft_ns is not None
    service = answer.metric("ttft_service_ms")
    assert service is not None
    assert service >= truth.ttft_ns / 1e6 - 0.5
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_a_failure_of_the_target_is_an_outcome_and_not_an_exception(simulator: Simulator) -> None:
    with StreamClient("http://127.0.0.1:9", dialect="openai-chat") as client:
        assert client.ask("x").outcome is Outcome.CONNECT_REFUSED
    with StreamClient("http://nowhere.invalid", dialect="openai-chat") as client:
        assert client.ask("x").outcome is Outcome.DNS_ERROR


def test_connections_are_used_again_and_samples_sum_up(simulator: Simulator) -> None:
    collector = MetricsCollector()
    with StreamClient(simulator.url, dialect="openai-chat", model="sim-t20-i2-n5") as client:
        answers = [client.ask("again") for _ in range(3)]
        for answer in answers:
            collector.add(answer.sample)
    assert [answer.sample.conn_requests for answer in answers] == [0, 1, 2]
    summary = collector.summary()
    assert summary.metrics["ttft_ms"].n == 3
    assert summary.outcomes == {"ok": 3}


def test_wrong_arguments_are_usage_errors_that_name_what_is_allowed(simulator: Simulator) -> None:
    with pytest.raises(UsageError, match="known: openai-chat, anthropic, gemini, ai-sdk"):
        StreamClient(simulator.url, dialect="openai")
    with pytest.raises(UsageError, match="http://host:port/path"):
        StreamClient("localhost:80", dialect="openai-chat")


def test_the_public_names_are_these() -> None:
    assert set(__all__) == {
        "MetricsCollector", "Outcome", "ReportGenerator", "Sample", "StreamClient", "__version__",
    }  # fmt: skip
    assert ReportGenerator.__doc__

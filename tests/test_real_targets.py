"""Real targets: `streamgauge run ttft` against servers that we did not write the wire of, held against their own logs.

One is a chat route of the AI SDK in Node, in each of its ways to answer and to fail; one is a real model in a real
engine. Both log when the model gave each part and when the response was written, by the clock that we measure with
(hrtime is CLOCK_MONOTONIC), and each request is matched by its trace id. Counts and outcomes are equal for all. A first
token is never stamped before the server began to write it, and at most LATE_NS after, which covers Node's own buffering
of a write until its next tick, and a busy machine; at the median it must be within CLOSE_NS. Durations are held against
the log from when we sent, not from when Node came to its handler: on a busy machine that is tens of ms later.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from cli import Done, undisturbed, valid_report
from real import MODEL, NODE, node, require
from streamgauge.sample import Outcome, Sample, read_records

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="Node's clock is ours only on Linux"),
]

SERVERS = Path(__file__).parent / "real_servers"
MS = 1_000_000
CLOCKS_NS = MS // 5
"""How far the kernel's clock and ours may be apart in a stamp."""
LATE_NS = 2_000 * MS
CLOSE_NS = 100 * MS

JUDGED = 'criteria = ["ttft_ms.p50 < 2000", "ttft_ms.p95 < 5000"]\n'
"""What few requests can decide."""

GOOD = {
    "text": Outcome.OK,
    "keepalive": Outcome.OK,
    "capped": Outcome.LENGTH_CAPPED,
    "reasoning": Outcome.OK,
    "tool": Outcome.OK,
}
BAD = {
    "error": Outcome.STREAM_ERROR,
    "provider": Outcome.STREAM_ERROR,
    "abort": Outcome.STREAM_ERROR,
    "cut": Outcome.TRUNCATED,
    "drop": Outcome.DROPPED,
}
TOKENS = {
    "text": (9, 12, 4),
    "keepalive": (9, 12, 4),
    "capped": (9, 12, 4),
    "reasoning": (9, 12, 4),
    "tool": (18, 24, 8),
}
"""(input, output, reasoning) as the model told them; a tool call makes it two steps."""


@dataclass(frozen=True)
class Server:
    """A running server: where it listens, and what it says it did."""

    port: int
    log: Path

    def told(self) -> dict[str, dict[str, Any]]:
        """Its log, by trace id."""
        lines = self.log.read_text().splitlines()
        return {entry["id"]: entry for entry in map(json.loads, lines)}


@contextmanager
def serving(script: str, log: Path, *arguments: str | Path) -> Iterator[Server]:
    """Run a Node server until the block ends."""
    command = [node(), SERVERS / script, NODE.resolve(), log, *arguments]
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, f"{script} did not start"
            yield Server(int(line), log)
        finally:
            process.send_signal(signal.SIGKILL)


@dataclass(frozen=True)
class Measured:
    """One run: how the command ended, its report, its samples, and what the server says of the same requests."""

    done: Done
    report: dict[str, Any]
    samples: list[Sample]
    told: dict[str, dict[str, Any]]

    def pairs(self, target: str | None = None) -> Iterator[tuple[Sample, dict[str, Any]]]:
        for sample in self.samples:
            if target in (None, sample.target):
                yield sample, self.told[sample.id]


def measure(server: Server, folder: Path, spec: str, *more: str) -> Measured:
    """`streamgauge run ttft` by a spec file, in a folder of its own."""
    folder.mkdir()
    (folder / "streamgauge.toml").write_text(spec)
    done = undisturbed("run", "ttft", "--json", "--quiet", "--out", "out", *more, cwd=folder)
    assert done.code in (0, 1, 3), done.err
    records = [r for path in folder.glob(".streamgauge/runs/*/samples-*.sgs") for r in read_records(path)]
    samples = [record for record in records if isinstance(record, Sample)]
    return Measured(done, valid_report(done.out), samples, server.told())


def spec(port: int, modes: dict[str, Outcome]) -> str:
    """One target a mode of the AI SDK's server."""
    targets = [f'[targets.{mode}]\npath = "/api/chat?mode={mode}"\ndialect = "ai-sdk"\n' for mode in modes]
    head = f'[environments.local]\nurl = "http://127.0.0.1:{port}"\n[tests.ttft]\nprompts = ["short"]\n{JUDGED}'
    return head + "".join(targets)


@pytest.fixture(scope="module")
def ai(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Measured]]:
    require(node() and (NODE / "node_modules/ai/package.json").exists(), "npm package ai (scripts/real-setup node)")
    folder = tmp_path_factory.mktemp("ai")
    with serving("ai_server.mjs", folder / "log.jsonl") as server:
        yield {
            "good": measure(server, folder / "good", spec(server.port, GOOD), "--requests", "30", "--concurrency", "2"),
            "bad": measure(server, folder / "bad", spec(server.port, BAD), "--requests", "4", "--concurrency", "2"),
        }


def written(entry: dict[str, Any], kind: str) -> list[tuple[int, int]]:
    """(before, after) of each write of an event of this type by the AI SDK."""
    return [(before, after) for before, after, data in entry["writes"] if f'"type":"{kind}"' in data]


def test_the_ai_sdks_answers_and_failures_come_back_under_their_names(ai: dict[str, Measured]) -> None:
    for name, outcomes in (("good", GOOD), ("bad", BAD)):
        measured = ai[name]
        assert {sample.id for sample in measured.samples} <= measured.told.keys()
        for sample, entry in measured.pairs():
            assert sample.target == entry["mode"]
            assert sample.outcome is outcomes[sample.target], (sample.target, sample.error)
    assert ai["good"].report["rates"]["error_rate"]["k"] == 0
    assert ai["bad"].report["rates"]["error_rate"]["value"] == 1
    assert (ai["bad"].done.code, ai["bad"].report["verdict"]) == (1, "fail")
    assert (ai["good"].done.code, ai["good"].report["verdict"]) == (0, "pass")


def test_each_request_of_the_ai_sdk_is_one_sample_and_stands_in_the_report(ai: dict[str, Measured]) -> None:
    counts = Counter(sample.target for sample in ai["good"].samples)
    assert counts == dict.fromkeys(GOOD, 30 + 2), "30 judged and 2 for warm-up"
    assert ai["good"].report["outcomes"] == {"ok": 120, "length_capped": 30}


def test_the_events_of_the_ai_sdk_are_counted_as_its_model_gave_them(ai: dict[str, Measured]) -> None:
    for measured in ai.values():
        for sample, entry in measured.pairs():
            given = Counter(kind for kind, _ in entry["parts"])
            assert sample.text_events == given["text-delta"] == len(written(entry, "text-delta")), sample
            assert sample.reasoning_events == given["reasoning-delta"], sample
            # The name of the tool is output too: it comes in an event before the input's pieces.
            named = len(written(entry, "tool-input-start"))
            assert sample.tool_events == given["tool-input-delta"] + named, sample
            assert (sample.unknown_events, sample.malformed_events) == (0, 0)


def test_tokens_are_those_of_the_ai_sdks_metadata(ai: dict[str, Measured]) -> None:
    for sample, _ in ai["good"].pairs():
        assert (sample.input_tokens, sample.output_tokens, sample.reasoning_tokens) == TOKENS[sample.target]


def test_the_first_token_of_the_ai_sdk_is_when_the_server_wrote_it(ai: dict[str, Measured]) -> None:
    late = []
    for measured in ai.values():
        for sample, entry in measured.pairs():
            assert sample.sent_ns is not None
            assert sample.sent_ns <= entry["received"]
            texts = written(entry, "text-delta")
            late += within(sample.first_token_ns, sample.first_token_slack_ns, texts[0] if texts else None)
            within(sample.first_reasoning_ns, sample.first_reasoning_slack_ns, first(written(entry, "reasoning-delta")))
            first_given = next((at for kind, at in entry["parts"] if kind == "text-delta"), None)
            assert sample.first_token_ns is None or sample.first_token_ns > first_given
    assert median(late) < CLOSE_NS


def first(writes: list[tuple[int, int]]) -> tuple[int, int] | None:
    return writes[0] if writes else None


def within(stamp: int | None, slack: int, write: tuple[int, int] | None) -> list[int]:
    """Check a stamp against the server's write; how long after the write began it lies, where there was one."""
    assert (stamp is None) == (write is None)
    if stamp is None or write is None:
        return []
    before, after = write
    assert before - CLOCKS_NS <= stamp
    assert stamp - slack <= after + LATE_NS
    return [stamp - before]


def test_keep_alive_comments_and_the_early_start_are_no_first_token(ai: dict[str, Measured]) -> None:
    for sample, entry in ai["good"].pairs("keepalive"):
        comments = [before for before, _, data in entry["writes"] if data.startswith(":")]
        assert len(comments) >= 2
        assert sample.first_byte_ns is not None
        assert sample.first_token_ns is not None
        assert sample.first_token_ns - sample.first_byte_ns > 100 * MS


def test_ttft_in_the_report_is_what_the_server_took(ai: dict[str, Measured]) -> None:
    groups = {g["target"]: g for g in ai["good"].report["groups"] if g["prompt"] is None}
    assert set(GOOD) <= set(groups)
    for mode in GOOD:
        took = sorted(
            (written(entry, "text-delta")[0][0] - (sample.sent_ns or 0)) / MS
            for sample, entry in ai["good"].pairs(mode)
            if sample.phase != "warmup"
        )
        found = groups[mode]["metrics"]["ttft_service_ms"]
        assert found["n"] == len(took) == 30
        assert took[14] - 0.2 <= found["p50"] <= took[14] + CLOSE_NS / MS


def test_a_real_model_is_measured_as_its_server_saw_it(tmp_path: Path) -> None:
    require(node() and (NODE / "node_modules/node-llama-cpp/package.json").exists(), "npm package node-llama-cpp")
    require(MODEL is not None, "a model (scripts/real-setup model)")
    assert MODEL is not None
    with serving("llama_server.mjs", tmp_path / "log.jsonl", MODEL.resolve()) as server:
        target = (
            f'[targets.smollm2]\nurl = "http://127.0.0.1:{server.port}"\ndialect = "openai-chat"\nmodel = "smollm2"\n'
        )
        more = '[prompts.capital]\ntexts = ["Name a city."]\n[tests.ttft]\nprompts = ["capital"]\n' + JUDGED
        measured = measure(
            server,
            tmp_path / "run",
            target + more,
            "--requests",
            "4",
            "--concurrency",
            "1",
            "--set",
            "ttft.max_tokens=12",
        )
    assert len(measured.samples) == 6, "4 judged and 2 for warm-up"
    late, gaps = [], []
    for sample, entry in measured.pairs():
        texts = [(before, after) for before, after, data in entry["writes"] if '"delta":{"content":' in data]
        last = json.loads(entry["writes"][-2][2].removeprefix("data: "))
        assert sample.outcome in (Outcome.OK, Outcome.LENGTH_CAPPED), sample.error
        assert sample.text_events == len(texts) > 1
        assert sample.output_tokens == last["usage"]["completion_tokens"]
        assert sample.input_tokens == last["usage"]["prompt_tokens"]
        late += within(sample.first_token_ns, sample.first_token_slack_ns, texts[0])
        within(sample.last_output_ns, sample.last_output_slack_ns, texts[-1])
        assert sample.first_token_ns is not None
        assert sample.last_output_ns is not None
        gaps.append((sample.last_output_ns - sample.first_token_ns) - (texts[-1][0] - texts[0][0]))
    assert median(late) < CLOSE_NS
    assert abs(median(gaps)) < CLOSE_NS
    assert measured.report["metrics"]["ttft_service_ms"]["n"] == 4

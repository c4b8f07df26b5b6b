"""What a plan says it would send and cost, and what the hard stops count while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import inline
from streamgauge.clock import SystemClock
from streamgauge.control import Brief
from streamgauge.dialects import with_options
from streamgauge.guard import Guard, Limits
from streamgauge.journal import Journal
from streamgauge.run import Ending, conduct
from streamgauge.sample import Outcome
from streamgauge.simulator import start
from streamgauge.spec.load import from_url
from streamgauge.spec.resolve import resolve
from streamgauge.spec.settings import Overrides
from streamgauge.suite.prepare import preflight, prepare
from streamgauge.suite.seen import remember

URL = "http://127.0.0.1:9"
AI_SDK = f"""\
[targets.app]
url = "{URL}/api/chat"
dialect = "ai-sdk"
usd_per_mtok = {{ in = 0, out = 10 }}
[tests.ttft]
prompts = ["short"]
"""
KEY = f"{URL}/api/chat ai-sdk -"


def plan(folder: Path, spec: str, *more: str) -> str:
    """The plan as it is printed."""
    (folder / "streamgauge.toml").write_text(spec)
    done = inline("run", "ttft", "--requests", "98", "--dry-run", *more, cwd=folder)
    assert done.code == 0, done.err
    return done.out


def test_where_nothing_limits_an_answer_and_none_was_seen_the_guess_says_so(tmp_path: Path) -> None:
    told = plan(tmp_path, AI_SDK)
    assert "30,000 out, about $0.30" in told
    assert "300 tokens an answer assumed; streamgauge check measures it" in told


def test_what_check_saw_takes_the_place_of_the_guess(tmp_path: Path) -> None:
    assert remember(tmp_path, KEY, 40, 8_000.0, "2026-11-25T10:00:00Z") is None
    told = plan(tmp_path, AI_SDK)
    assert "4,000 out, about $0.04" in told
    assert "40 tokens an answer, as streamgauge check saw on 2026-11-25" in told
    assert "about 4 min" in told, "98 answers of 9 s (8 s to the first token), 4 at a time, and the warm-up"


@pytest.mark.parametrize(
    ("target", "tokens"),
    [
        ('dialect = "openai-chat"\nmodel = "m"', 32),
        ('dialect = "openai-chat"\nmodel = "m"\nextra = { max_completion_tokens = 500 }', 500),
        ('dialect = "anthropic"\nmodel = "m"', 32),
        ('dialect = "gemini"\nmodel = "m"', 32),
        ("""dialect = "ai-sdk"\nbody = '{"p":"{prompt}","max_tokens":{max_tokens}}'""", 32),
        ("""dialect = "openai-chat"\nbody = '{"messages":"{prompt}","max_tokens":77}'""", 77),
        ("""dialect = "openai-chat"\nbody = '{"messages":"{prompt} \\"max_tokens\\": 5"}'""", 300),
    ],
    ids=["openai", "extra wins", "anthropic", "gemini", "slot", "own number", "a text is no limit"],
)
def test_the_limit_is_read_from_the_request_that_would_be_sent(target: str, tokens: int, tmp_path: Path) -> None:
    told = plan(tmp_path, f'[targets.a]\nurl = "{URL}/x"\n{target}\n')
    assert f"{tokens * 100:,} out" in told


def test_several_targets_say_each_where_their_length_comes_from(tmp_path: Path) -> None:
    told = plan(tmp_path, AI_SDK + f'[targets.direct]\nurl = "{URL}/v1"\ndialect = "openai-chat"\nmodel = "m"\n')
    assert "app: 300 tokens an answer assumed" in told
    assert "direct: at most 32 tokens an answer" in told


def test_a_request_that_cannot_be_made_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    body = """body = '{"model":"{model}","p":"{prompt}"}'"""
    (tmp_path / "streamgauge.toml").write_text(f'[targets.a]\nurl = "{URL}/x"\ndialect = "openai-chat"\n{body}\n')
    done = inline("run", "--dry-run", cwd=tmp_path)
    assert done.code == 2
    assert "{model}" in done.err
    assert "Traceback" not in done.err


def ended(outcome: Outcome, status: int | None, tokens_in: int | None, tokens_out: int | None, events: int) -> Brief:
    return Brief("a", "warmup", outcome, status, None, None, tokens_out, tokens_in, events, None, 0)


@pytest.mark.parametrize(
    ("brief", "tokens", "usd"),
    [
        (ended(Outcome.OK, 200, 100, 50, 49), 150, 100 * 2e-6 + 50 * 10e-6),
        (ended(Outcome.OK, 200, None, None, 49), 30 + 49, 30 * 2e-6 + 49 * 10e-6),
        (ended(Outcome.DROPPED, 200, None, None, 7), 37, 30 * 2e-6 + 7 * 10e-6),
        (ended(Outcome.CONNECT_REFUSED, None, None, None, 0), 0, 0.0),
    ],
    ids=["as counted by the server", "no usage: events, and what a prompt takes", "dropped half-way", "never sent"],
)
def test_hard_stops_count_what_is_used_from_the_warm_up_on(brief: Brief, tokens: int, usd: float) -> None:
    limits = Limits(tokens=tokens or 1, usd_per_mtok={"a": (2.0, 10.0)}, input_tokens={"a": 30})
    guard = Guard(limits, frozenset({"a"}), ("warmup",))
    guard.saw(brief)
    assert guard.tokens == tokens
    assert guard.usd == pytest.approx(usd)
    assert (guard.over(0) is not None) == (tokens > 0)


def test_what_the_first_look_used_counts_towards_the_stops_of_the_second(tmp_path: Path) -> None:
    with start(log=False) as simulator:
        spec = from_url(
            f"{simulator.url}/v1/chat/completions", dialect="openai-chat", speak=with_options, environ={},
            model="sim-t5-i1-n2",
        )  # fmt: skip
        asked = Overrides(requests=60, max_requests=100)
        plan = prepare(resolve(spec, None, {}, "ttft", asked), 1, tmp_path)
        clock, journal = SystemClock(), Journal(tmp_path)
        first = Ending(None, partial=False, requests=90)
        second = conduct(preflight(plan.load, clock), tmp_path, clock, journal, lambda _: None, number=1, before=first)
        journal.close()
    assert second.stopped_by == "max_requests = 100 reached"
    assert 100 <= second.requests <= 160

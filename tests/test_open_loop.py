"""An open loop as users ask for it: in the spec and by flags, with its mistakes, its plan and its report."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import inline, valid_report
from hands import MS, S, job, target, working
from streamgauge.arrivals import Rate, Trace, ramp, spike
from streamgauge.errors import UsageError
from streamgauge.plan import Lane, Phase
from streamgauge.sample import Outcome
from streamgauge.simulator import start
from streamgauge.spec.trace import read_trace

SPEC = """\
[targets.app]
url = "http://127.0.0.1:9/api/chat"
dialect = "ai-sdk"
{target}
[tests.ttft]
prompts = ["short"]
{test}
"""
STAMPED = "when,path\n2026-01-31T09:00:02.5Z,/b\n2026-01-31T10:00:00+01:00,/a\n\n# night\n2026-01-31T09:00:04Z,/c\n"


def plan(folder: Path, test: str, *flags: str, more: str = "", code: int = 0) -> str:
    """What `run --dry-run` says."""
    (folder / "streamgauge.toml").write_text(SPEC.format(test=test, target=more))
    done = inline("run", "--dry-run", *flags, cwd=folder)
    assert done.code == code, done.err
    return done.err if code else done.out


@pytest.mark.parametrize(
    ("test", "flags", "told"),
    [
        ("rate = 50\nduration = 20", (), ("1,002 requests, 50 requests/s, ", "about 400 open at once (cap 3,000)")),
        ("", ("--rate", "50", "--duration", "20s"), ("1,002 requests, 50 requests/s, ",)),
        ('rate = { from = 1, to = 100, over = "60s" }', (), ("3,032 requests, rising from 1 to 100 requests/s",)),
        ("", ("--rate", "from=1,to=100,over=60s"), ("3,032 requests, rising from 1 to 100 requests/s over 60 s",)),
        ("", ("--rate", "{from = 1, to = 100, over = 60}"), ("3,032 requests, rising from 1 to 100",)),
        ("", ("--set", "ttft.rate={from=1,to=100,over='60s'}"), ("3,032 requests, rising from 1 to 100",)),
        ("", ("--rate", "base=5,peak=100,at=30s,for=10s"), ("1,302 requests, 5 requests/s with a spike to 100",)),
        ('rate = 5\narrivals = "poisson"\nrequests = 98', (), ("100 requests, 5 requests/s, poisson,",)),
        ("rate = 5\nrequests = 98", ("--arrivals", "poisson"), ("100 requests, 5 requests/s, poisson,",)),
        ('trace = "day.csv"', (), ("5 requests, 3 recorded arrivals over 4 s (day.csv)", "about 28 s")),
        ('trace = "day.csv"\nduration = 3', (), ("4 requests, 3 recorded arrivals",)),
        ('trace = "day.csv"', ("--requests", "1"), ("3 requests, 3 recorded arrivals",)),
        ("rate = 50", ("--trace", "day.csv"), ("5 requests, 3 recorded arrivals",)),
        ('trace = "day.csv"', ("--rate", "2", "--requests", "98"), ("100 requests, 2 requests/s",)),
    ],
)  # fmt: skip
def test_the_plan_says_how_requests_come_due_and_how_many(
    tmp_path: Path, test: str, flags: tuple[str, ...], told: tuple[str, ...]
) -> None:
    (tmp_path / "day.csv").write_text(STAMPED)
    said = plan(tmp_path, test, *flags)
    assert all(words in said for words in told), said


def test_the_plan_for_programs_has_rate_words_and_how_many_will_be_open(tmp_path: Path) -> None:
    (one,) = json.loads(plan(tmp_path, "rate = { from = 0, to = 10, over = 10 }", "--json"))["plan"]
    assert (one["rate_per_s"], one["open_loop"]) == (5.0, "rising from 0 to 10 requests/s over 10 s")
    assert one["most_open"] == 48, "300 tokens at 40 tok/s after 0.5 s: the arrivals of 8 s, 50 less the first 2 s' 2"


@pytest.mark.parametrize(
    ("test", "flags", "more", "told"),
    [
        ("rate = 500\nconcurrency = 20", (), "", ("about 4,000 streams would be open at once, and the cap is 20",)),
        ("rate = 30000\nconcurrency = 500", (), "", ("30,000 a second are more than this machine carries",)),
        ('trace = "burst.csv"', (), "", ("the trace is denser than this machine starts requests: 1 in 100 waits",)),
    ],
)
def test_the_plan_says_where_arrivals_cannot_be_held(
    tmp_path: Path, test: str, flags: tuple[str, ...], more: str, told: tuple[str, ...]
) -> None:
    (tmp_path / "burst.csv").write_text("0\n" + "1\n" * 5_000)
    said = plan(tmp_path, test, *flags, more=more)
    assert all(words in said for words in told), said


@pytest.mark.parametrize(
    ("test", "flags", "more", "told"),
    [
        ("rate = { from = 1, over = 60 }", (), "", ("tests.ttft.rate", "this ramp lacks to")),
        ("rate = { base = 9, peak = 9, at = 1, for = 1 }", (), "", ("peak (9) is not above base (9)",)),
        ("rate = { from = 1, to = 2, over = 3, peak = 4 }", (), "", ("give a ramp or a spike",)),
        ("rate = { from = 5, to = 5, over = 3 }", (), "", ("for a constant rate write rate = 5",)),
        ("rate = { from = 0, to = 0.001, over = 3 }", (), "", ("never reaches 0.01 a second",)),
        ("rate = { fron = 1 }", (), "", ("tests.ttft.rate.fron", 'did you mean "from"', "over, base, peak, at, for")),
        ('rate = { from = 1, to = 100, over = "soon" }', (), "", ("tests.ttft.rate.over", '"soon" is not a duration')),
        ("rate = { from = -1, to = 100, over = 9 }", (), "", ("tests.ttft.rate.from", "must be at least 0, not -1")),
        ('rate = "fast"', (), "", ("tests.ttft.rate", 'must be a number, not the text "fast"')),
        ('arrivals = "poisson"', (), "", ("tests.ttft.arrivals", "there is none; add a rate")),
        ("", ("--arrivals", "poisson"), "", ("--arrivals poisson", "there is none; add a rate")),
        ('rate = 2\narrivals = "posson"', (), "", ('did you mean "poisson"',)),
        ('rate = 2\ntrace = "day.csv"', (), "", ("give rate or trace, not both",)),
        ('trace = "day.csv"\narrivals = "poisson"', (), "", ("a trace has its own times",)),
        ("", ("--rate", "2", "--trace", "day.csv"), "", ("--trace day.csv: give --rate or --trace",)),
        ('trace = "nope.csv"', (), "", ("tests.ttft.trace", "nope.csv: cannot read a trace")),
        ("", ("--trace", "nope.csv"), "", ("--trace nope.csv: cannot read a trace",)),
        ("", ("--rate", "from=1,to=x,over=60s"), "", ("--rate", "to: must be a number",)),
        ("", ("--rate", "quick"), "", ("'quick' is no rate; allowed: a number, from=1",)),
        ("rate = { from = 1, to = 9, over = 9 }", (), "rpm = 60", ("reaches 9 a second", "app 540 requests a minute")),
        ('trace = "burst.csv"', (), "rpm = 60", ("the trace sends app 200 requests in its densest minute",)),
    ],
)  # fmt: skip
def test_each_mistake_is_named_with_its_place(
    tmp_path: Path, test: str, flags: tuple[str, ...], more: str, told: tuple[str, ...]
) -> None:
    (tmp_path / "day.csv").write_text(STAMPED)
    (tmp_path / "burst.csv").write_text("1\n" * 200)
    said = plan(tmp_path, test, *flags, more=more, code=2)
    assert all(words in " ".join(said.split()) for words in told), said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("text", "times_s"),
    [
        ("0\n0.5\n2\n", [0, 0.5, 2]),
        ("seconds\n10.25\n10\n", [0, 0.25]),
        ("1769850000.5;a\n1769850000;b\n", [0, 0.5]),
        (STAMPED, [0, 2.5, 4]),
        ('"2026-01-31 09:00:00"\t1\n"2026-01-31 09:00:01"\t2\n', [0, 1]),
        ("\ufeff3\r\n4\r\n", [0, 1]),
    ],
    ids=["seconds", "a heading, not in order", "epoch", "stamps", "quoted, without a zone", "from a spreadsheet"],
)
def test_a_trace_is_read_as_it_comes(tmp_path: Path, text: str, times_s: list[float]) -> None:
    (tmp_path / "t").write_bytes(text.encode())
    assert [at / S for at in read_trace(tmp_path / "t", "t")] == times_s


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "t: holds no arrival; a line begins with seconds"),
        ("0\nsoon\n", 't:2: "soon" is no time'),
        ("0\n2026-01-31T09:00:00Z\n", "t:2: seconds and time stamps are mixed"),
        ("inf\n", "t: holds no arrival"),
        ("0\nnan\n", 't:2: "nan" is no time'),
        ("0\n1e10\n", "t: spans over a year"),
    ],
)
def test_a_trace_that_cannot_be_is_named_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "t").write_text(text)
    with pytest.raises(UsageError) as error:
        read_trace(tmp_path / "t", "t")
    assert told in str(error.value)


@given(st.text(max_size=200))
def test_any_text_is_a_trace_or_a_named_mistake(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "wild.csv"
    path.write_text(text, "utf-8", "surrogateescape")
    told = "wild.csv"
    times: tuple[int, ...] = (0,)
    try:
        times = read_trace(path, told)
    except UsageError as error:
        told = str(error)
    assert told.startswith("wild.csv")
    assert times[0] == 0
    assert list(times) == sorted(times)


@pytest.mark.parametrize(
    "load",
    [
        ramp(0.0, 200.0, 300 * MS, 50),
        spike(0.0, 200.0, 100 * MS, 100 * MS, 50),
        Trace((0, 5 * MS, 5 * MS, 40 * MS, 120 * MS, 300 * MS), 50, "t"),
        Rate(100.0, 50, "poisson"),
    ],
    ids=["ramp", "spike", "trace", "poisson"],
)
def test_the_shards_together_keep_the_times_and_end_with_the_last(tmp_path: Path, load: Rate | Trace) -> None:
    duration = None if isinstance(load, Trace) or load.total < 1e9 else 300 * MS
    phase = Phase("hold", (Lane(("app",), ("short",), load),), 0, duration_ns=duration)
    found: list[int] = []
    with start(log=False) as sim:
        for shard in range(2):
            with working(job(tmp_path, (target(sim),), phase, shard=shard, shards=2)) as hand:
                at = hand.begin()
                hand.hear(hand.phase_done)
                samples = hand.finish()
            assert {s.outcome for s in samples} <= {Outcome.OK}
            found += [s.due_ns - at for s in samples]
    assert sorted(found) == [at for at in offsets_over_the_line(load) if duration is None or at < duration]


def offsets_over_the_line(load: Rate | Trace) -> list[int]:
    """The due times of the first second, as a worker that got the load over its line has them."""
    same = msgspec.msgpack.decode(msgspec.msgpack.encode(load), type=Rate | Trace)
    found = []
    for at in same.offsets(5):
        if at > S:
            break
        found.append(at)
    return found


def test_the_report_says_how_requests_came_due(tmp_path: Path) -> None:
    with start(model="sim-t20-i1-n3", log=False) as sim:
        done = inline(
            "run", "ttft", "--url", f"{sim.url}/v1/chat/completions", "--model", "sim-t20-i1-n3", "--rate",
            "from=10,to=60,over=1s", "--json", "-q", cwd=tmp_path,
        )  # fmt: skip
    report = valid_report(done.out)
    measured = report["measurement"]
    assert measured["arrivals"] == "rising from 10 to 60 requests/s over 1 s"
    assert measured["planned"]["rate_per_s"] == pytest.approx(35.0)
    assert report["run"]["settings"]["open_loop"] == "rising from 10 to 60 requests/s over 1 s"
    assert sum(report["outcomes"].values()) == pytest.approx(35, abs=1)
    shown = next((tmp_path / "tests/performance/reports").glob("*.md")).read_text()
    assert "rising from 10 to 60 requests/s over 1 s: " in shown
    assert "of 35 requests/s on average" in shown

"""A run folder to verdict, first lines and exit code: what counts, what never passes, what to do next."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from folders import Event, end, phase, run_folder, stop
from made import MS, START, made, run_of
from streamgauge.arrivals import Rate
from streamgauge.errors import Exit
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.reports import FORMS, terminal
from streamgauge.sample import AuditTick, Outcome, Sample, SampleWriter
from streamgauge.suite.assess import Assessment, assess
from streamgauge.verdict import Criterion
from test_verdict import P95, criterion

ERRORS = "error_rate < 0.005"
ROUND: Event = {"event": "round", "number": 0}
QUICK = run_of([100.0] * 150)


def assessed(
    root: Path, samples: list[Sample], *texts: str, journal: list[Event] | None = None, **head: object
) -> Assessment:
    asked: list[Criterion] = [criterion(text) for text in texts or (P95,)]
    return assess(run_folder(root, samples, asked, journal, **head))


def test_a_whole_run_of_quick_requests_passes(tmp_path: Path) -> None:
    found = assessed(tmp_path, QUICK)

    assert (found.document.verdict, found.exit, found.document.partial) == ("pass", Exit.PASS, False)
    assert found.document.headline == "the gating criterion is met"
    assert found.document.impact == "none of 150 chats waited over 1 s"


# Partial runs


@pytest.mark.parametrize(
    "journal",
    [
        [],
        [phase("hold")],
        [ROUND, phase("hold")],
        [phase("hold"), stop("interrupted", 15_000), end(15_100, partial=True, stopped_by="interrupted", signal=2)],
        [ROUND, phase("hold"), end(15_000), {**ROUND, "number": 1}, phase("hold", 15_001)],
    ],
    ids=["no journal", "killed", "killed in its round", "interrupted", "killed while it was doubled"],
)  # fmt: skip
@pytest.mark.parametrize("policy", [False, True], ids=["report", "inconclusive pass"])
def test_a_run_cut_short_never_passes_whatever_the_policy(tmp_path: Path, journal: list[Event], policy: bool) -> None:
    found = assessed(tmp_path, QUICK, journal=journal, inconclusive_passes=policy)

    assert (found.document.verdict, found.exit, found.document.partial) == ("inconclusive", Exit.INCONCLUSIVE, True)
    assert not found.doubling_helps


@pytest.mark.parametrize(
    ("stopped", "test", "rerun", "goes_on"),
    [
        ("interrupted", "ttft", "streamgauge run ttft --seed 1", True),
        ("interrupted", "concurrent", "streamgauge run concurrent --seed 1", False),
        ("interrupted", "ttft", "streamgauge run ttft -H 'Authorization: ***'", False),
        ("interrupted", "ttft", "streamgauge demo", False),
        ("max_usd = 1", "ttft", "streamgauge run ttft --seed 1", False),
    ],
)
def test_a_run_that_somebody_stopped_says_how_to_go_on_where_that_is_honest(
    tmp_path: Path, stopped: str, test: str, rerun: str, goes_on: bool
) -> None:
    journal = [phase("hold"), stop(stopped, 15_000), end(15_100, partial=True, stopped_by=stopped)]

    found = assessed(tmp_path, QUICK, journal=journal, test=test, rerun=rerun).document

    assert found.next_step.startswith(f"run it to its end: {rerun}")
    assert found.next_step.endswith(f"streamgauge run --resume {found.run.id}") == goes_on


def test_what_failed_in_a_run_cut_short_has_failed(tmp_path: Path) -> None:
    journal = [phase("hold"), stop("interrupted", 15_000), end(15_100, partial=True, stopped_by="interrupted")]

    found = assessed(tmp_path, run_of([3_000.0] * 150), journal=journal)

    assert (found.document.verdict, found.exit) == ("fail", Exit.FAIL)


def test_streams_that_drain_after_a_stop_are_no_load_that_was_not_held(tmp_path: Path) -> None:
    """Four slots in use without a break for 10 s; then the cap struck, and the drain took 30 s."""
    full = [made(100.0, n=4 * i + slot, due_ms=1_000.0 * i, slot=slot) for i in range(10) for slot in range(4)]
    journal = [
        phase("hold"),
        stop("usd", 10_000),
        end(40_000, partial=True, stopped_by="usd"),
    ]

    found = assessed(tmp_path, full, "concurrency_held >= 4", journal=journal)

    assert found.document.scalars["concurrency_held"] == 4
    assert (found.document.verdict, found.document.partial) == ("inconclusive", True)


def test_a_control_that_was_stopped_leaves_the_judged_part_whole(tmp_path: Path) -> None:
    broken = [made(n=900 + n, outcome=Outcome.AUTH_ERROR, target="direct") for n in range(20)]
    journal = [phase("hold"), phase("drain", 15_000, 0), end(16_000, partial=True, stopped_targets=["direct"])]
    head = {"only_controls": ["direct"], "controls": {"app": "direct"}}

    found = assessed(tmp_path, [*QUICK, *broken], P95, "drops == 0", journal=journal, **head)

    assert (found.document.verdict, found.document.partial) == ("pass", False)
    assert "the control direct was stopped: all its requests failed alike" in found.document.warnings
    assert found.document.headline.startswith("both gating criteria are met")
    both = [*journal[:-1], end(16_000, partial=True, stopped_targets=["direct", "app"])]
    assert assessed(tmp_path / "both", [*QUICK, *broken], journal=both, **head).document.partial


# Open, invalid, set-up


def test_the_policy_lets_an_open_run_pass_and_says_so_and_nothing_else(tmp_path: Path) -> None:
    said = "inconclusive counts as a pass by --inconclusive pass"
    few = assessed(tmp_path / "few", run_of([100.0] * 40), inconclusive_passes=True)
    assert (few.document.verdict, few.exit) == ("inconclusive", Exit.PASS)
    assert said in few.document.warnings
    late = [made(100.0, n=n, late_ms=200) for n in range(150)]
    for name, samples, exit_ in (("slow", run_of([3_000.0] * 150), 1), ("late", late, 5), ("good", QUICK, 0)):
        found = assessed(tmp_path / name, samples, inconclusive_passes=True)
        assert found.exit == exit_
        assert said not in found.document.warnings


def test_a_set_up_that_never_worked_is_invalid_exit_4_and_says_what_was_answered(tmp_path: Path) -> None:
    refused = [made(n=n, outcome=Outcome.AUTH_ERROR, http_status=401, error="no such key") for n in range(20)]
    journal = [
        phase("warmup"),
        stop("20 equal failures", 2_000),
        end(2_001, partial=True, stopped_by="20 equal failures"),
    ]

    typed = "streamgauge run ttft --url http://h/x --dialect=anthropic -H 'X: ${KEY}' --requests 5 --preset pr --seed 1"
    found = assessed(tmp_path, refused, P95, ERRORS, journal=journal, rerun=typed)

    assert (found.document.verdict, found.document.severity, found.exit) == ("invalid", None, Exit.UNUSABLE)
    assert "no such key" in found.document.headline
    assert found.document.next_step.startswith(
        "streamgauge check --url http://h/x --dialect=anthropic -H 'X: ${KEY}'   ("
    )


def test_a_wrong_set_up_leads_with_the_answer_and_leaves_out_what_means_nothing_then(tmp_path: Path) -> None:
    words = "it speaks anthropic, not openai-chat; it begins: event: message_start (200 with text/event-stream)"
    foreign = [made(n=n, outcome=Outcome.PROTOCOL_ERROR, http_status=200, error=words) for n in range(20)]
    document = assessed(tmp_path, foreign, P95, ERRORS).document
    assert (document.set_up, document.impact, document.warnings) == ("protocol_error", None, [])
    assert len(document.criteria) == 2, "programs get them all the same"
    first, headline, *more = terminal.render(document).splitlines()
    assert first.startswith("! INVALID")
    assert headline.startswith("  the set-up is wrong, not the service: it speaks anthropic, not openai-chat (every")
    screen = "\n".join(more)
    assert "in protocol_error)\n  Next: " in screen
    for form in (screen, *(b"".join(FORMS[name](document, [])).decode() for name in ("md", "html"))):
        assert "20" in form
        for noise in ("not reached", "waits over", "Slowest stream", "slowest requests", "counted as text events"):
            assert noise not in form, noise


def test_a_run_stopped_before_its_first_judged_request_says_so_in_one_line(tmp_path: Path) -> None:
    journal = [phase("warmup"), stop("interrupted", 2_000), end(2_001, partial=True, stopped_by="interrupted")]
    document = assessed(tmp_path, [], P95, ERRORS, journal=journal).document
    assert [one.why for one in document.criteria] == ["not_measured"] * 2
    assert not [one for one in document.warnings if "tokens are counted" in one], "no answer, nothing to count"
    said = "Nothing was judged: no request of the judged phases had ended."
    forms = [terminal.render(document), *(b"".join(FORMS[name](document, [])).decode() for name in ("md", "html"))]
    for form in forms:
        assert form.count(said) == 1
        assert "nothing was measured" not in form
        assert "more requests" not in form
    assert forms[0].count("interrupted") == 1


def test_who_was_refused_failed_and_did_not_wait(tmp_path: Path) -> None:
    half = [made(n=n, outcome=Outcome.CONNECT_REFUSED) if n % 2 else s for n, s in enumerate(QUICK)]
    document = assessed(tmp_path / "refused", half, P95).document
    assert document.headline.startswith("p95 not reached: ")
    assert document.impact == "none of 75 chats waited over 1 s; 1 request in 2 fails"
    overdue = [made(n=n, outcome=Outcome.FIRST_TOKEN_TIMEOUT) if n % 2 else s for n, s in enumerate(QUICK)]
    document = assessed(tmp_path / "overdue", overdue, P95).document
    assert document.impact == "1 chat in 2 waits over 1 s; 1 request in 2 fails"


def test_a_fail_on_the_wire_stands_though_our_own_starts_were_late(tmp_path: Path) -> None:
    late = [made(100.0, n=n, late_ms=200, outcome=Outcome.DROPPED if n % 5 == 0 else Outcome.OK) for n in range(400)]

    found = assessed(tmp_path, late, P95, ERRORS)

    assert [one.verdict for one in found.document.criteria] == ["invalid", "fail"]
    assert (found.document.verdict, found.document.severity, found.exit) == ("fail", "P0", Exit.FAIL)
    assert not found.document.measurement.valid


# The first lines


def test_the_impact_speaks_of_each_targets_own_limit_and_repeats_no_headline(tmp_path: Path) -> None:
    a = [made(900.0, n=n, target="a") for n in range(150)]
    b = [made(1_500.0 if n % 10 == 0 else 900.0, n=n, target="b") for n in range(150)]
    own = [criterion("ttft_ms.p95 < 2000", target="a"), criterion("ttft_ms.p95 < 1000", target="b")]

    document = assess(run_folder(tmp_path, [*a, *b], own)).document

    assert document.headline.startswith("b: 1 chat in 10 waits over 1 s: ")
    assert document.impact is None
    failing = [made(100.0, n=n, outcome=Outcome.DROPPED) if n % 10 == 0 else s for n, s in enumerate(QUICK)]
    document = assessed(tmp_path / "two", failing, P95, ERRORS).document
    assert document.headline.startswith("1 request in 10 fails (15 of 150)")
    assert document.impact == "none of 150 chats waited over 1 s"


def test_chats_that_stand_still_are_told_to_whom_they_matter(tmp_path: Path) -> None:
    still = [msgspec.structs.replace(s, stalls=1) if n < 3 else s for n, s in enumerate(QUICK)]

    assert (
        assessed(tmp_path, still).document.impact
        == "none of 150 chats waited over 1 s; 1 chat in 50 stands still for over 2 s"
    )


def test_all_that_failed_is_counted_in_the_headline(tmp_path: Path) -> None:
    bad = [made(3_000.0, n=n, outcome=Outcome.DROPPED) for n in range(100)]

    headline = assessed(tmp_path, bad, P95, ERRORS, "drops == 0").document.headline

    assert headline.startswith("every chat waits over 1 s")
    assert headline.endswith("; 2 more criteria fail")


@pytest.mark.parametrize(("prompt", "target"), [(None, "app"), ("short", "app"), (None, None), ("short", None)])
def test_so_many_requests_as_the_next_step_says_do_settle_it(
    tmp_path: Path, prompt: str | None, target: str | None
) -> None:
    def samples(each: int) -> list[Sample]:
        """So many a target, half of them short."""
        return [
            made(100.0, n=2 * n + i, target=name, prompt=("short", "long")[n % 2])
            for n in range(each)
            for i, name in enumerate(("app", "other"))
        ]

    asked = [criterion(P95, prompt=prompt, target=target)]
    few = assess(run_folder(tmp_path / "few", samples(24), asked, rerun="streamgauge run ttft --requests 24")).document

    assert few.verdict == "inconclusive"
    command, _, wanted = few.next_step.rpartition(" --requests ")
    assert command.endswith(": streamgauge run ttft")
    assert assess(run_folder(tmp_path / "more", samples(int(wanted)), asked)).document.verdict == "pass"


def test_one_answer_that_broke_off_is_told_in_the_singular(tmp_path: Path) -> None:
    whole = [made(100.0, n=n, input_tokens=100, tokens=33) for n in range(10)]
    cut = made(100.0, n=10, outcome=Outcome.TRUNCATED, text_events=33)

    document = assessed(tmp_path, [*whole, cut], prices={"app": (1_000.0, 1_000.0)}).document

    assert "1 answer broke off before its usage came: its cost is estimated" in document.warnings


def test_answers_without_text_are_not_helped_by_more_of_them(tmp_path: Path) -> None:
    silent = [*run_of([100.0] * 120), *(made(None, n=200 + n, tool_events=1) for n in range(30))]

    assert "raise max_tokens" in assessed(tmp_path, silent).document.next_step


# Cost and load


def test_answers_that_broke_off_cost_too_and_controls_as_well(tmp_path: Path) -> None:
    good = [made(100.0, n=n, input_tokens=100, tokens=33) for n in range(10)]
    cut = [made(100.0, n=10 + n, outcome=Outcome.TRUNCATED, text_events=33) for n in range(10)]
    control = [made(100.0, n=20 + n, input_tokens=100, tokens=33, target="direct") for n in range(10)]
    head = {"prices": {"app": (1_000.0, 1_000.0), "direct": (1_000.0, 1_000.0)}, "only_controls": ["direct"]}

    document = assessed(tmp_path, [*good, *cut, *control], **head).document

    assert document.run.cost_usd == pytest.approx(30 * 133 / 1_000)
    assert "10 answers broke off before their usage came: their cost is estimated" in document.warnings
    assert document.run.tokens == {"input": 2_000, "output": 660}
    assert document.metrics["ttft_ms"].n == 20


def test_the_cost_is_unknown_where_one_target_counts_no_tokens(tmp_path: Path) -> None:
    counted = [made(100.0, n=n, input_tokens=100) for n in range(10)]
    silent = [made(100.0, n=10 + n, tokens=None, target="other") for n in range(10)]
    prices = {"app": (1.0, 1.0), "other": (1.0, 1.0)}

    assert assessed(tmp_path, [*counted, *silent], prices=prices).document.run.cost_usd is None


def test_load_achieved_and_planned_are_of_the_same_streams(tmp_path: Path) -> None:
    """Two targets with four slots each, and a control's four that are not judged."""
    samples = [
        made(100.0, n=12 * i + slot, due_ms=1_000.0 * i, slot=slot, target=("a", "b", "direct")[slot // 4])
        for i in range(20)
        for slot in range(12)
    ]
    lanes = tuple(Lane((name,), ("short",), Hold(4), 80) for name in ("a", "b", "direct"))
    head = {"phases": [Phase("hold", lanes, 4)], "only_controls": ["direct"]}

    closed = assessed(tmp_path / "closed", samples, **head).document.measurement

    assert (closed.planned["streams"], closed.achieved["streams"]) == (8, 8)
    assert (closed.planned["requests"], closed.achieved["requests"]) == (240, 240)
    lanes = (Lane(("a", "b"), ("short",), Rate(8.0, 10), 160), Lane(("direct",), ("short",), Rate(4.0, 10), 80))
    opened = assessed(tmp_path / "open", samples, phases=[Phase("hold", lanes, 0)], only_controls=["direct"])
    rate = opened.document.measurement.achieved["rate_per_s"]
    assert opened.document.measurement.planned["rate_per_s"] == 12
    assert rate == pytest.approx(12, rel=0.1)


def test_a_doubled_run_is_judged_over_both_rounds_and_no_idle_time_between_them(tmp_path: Path) -> None:
    first = [made(100.0, n=4 * i + slot, due_ms=1_000.0 * i, slot=slot) for i in range(20) for slot in range(4)]
    second = [msgspec.structs.replace(s, due_ns=s.due_ns + 60_000 * MS, start_ns=(s.start_ns or 0) + 60_000 * MS,
                                      end_ns=s.end_ns + 60_000 * MS) for s in first]  # fmt: skip
    journal = [
        {"event": "round", "number": 0}, phase("hold"), phase("drain", 20_000, 0), end(21_000),
        {"event": "round", "number": 1}, phase("hold", 60_000), phase("drain", 80_000, 0), end(81_000),
    ]  # fmt: skip

    found = assessed(tmp_path, [*first, *second], P95, "concurrency_held >= 4", journal=journal, doubles=True)

    assert found.document.scalars["concurrency_held"] == 4
    assert (found.document.verdict, found.document.partial, found.doubling_helps) == ("pass", False, False)


def test_the_strategys_rows_tell_the_worst_target_and_what_was_never_reached(tmp_path: Path) -> None:
    quick = [made(100.0, n=n, target="quick") for n in range(900)]
    slow = [made(1_500.0, n=n, target="slow") for n in range(100)]

    found = {row.name: row for row in assessed(tmp_path, [*quick, *slow]).document.baselines if row.table == "criteria"}

    assert (found["TTFT p95"].measured, found["TTFT p95"].verdict) == ("1,500 ms", "fail")
    assert found["TTFT p95"].note == "the worst of 2: slow"
    assert (found["Connection drops"].measured, found["Connection drops"].note) == (None, "measured by concurrent")
    assert found["Error rate"].note == "measured by concurrent"
    never = assessed(tmp_path / "never", run_of([None] * 100)).document.baselines
    assert [(row.measured, row.verdict) for row in never if row.name == "TTFT p95"] == [("not reached", "fail")]


def test_a_rate_of_few_answers_says_for_how_many_it_does_not_speak(tmp_path: Path) -> None:
    """90 of 150 answers came whole in one read: their rate is unknown, and must not be taken for that of the others."""
    lumps = [made(100.0, n=n, text_events=1) if n % 5 < 3 else s for n, s in enumerate(QUICK)]
    said = "app: 90 of 150 good answers have no output_rate: they came in one read, or as one token"

    assert said in assessed(tmp_path, lumps, P95, "output_rate.p50 > 10").document.warnings
    assert said not in assessed(tmp_path / "unasked", lumps).document.warnings
    assert assessed(tmp_path / "whole", QUICK, "output_rate.p50 > 10").document.warnings == []


# Where it ran, and by what


@pytest.mark.parametrize(
    ("addresses", "here", "slowed"),
    [
        ("10.1.2.3", ["app"], True),
        ("10.1.2.3", [], False),
        ("127.0.0.1", None, True),
        ("10.1.2.3, ::1", None, True),
        ("10.1.2.3", None, False),
        ("/run/app.sock", None, False),
    ],
    ids=["told", "told not to", "old, on loopback", "old, one of two", "old, elsewhere", "old, a Unix socket"],
)
def test_a_fail_by_time_of_a_target_on_this_full_machine_does_not_stand(
    tmp_path: Path, addresses: str, here: list[str] | None, slowed: bool
) -> None:
    target = {"name": "app", "url": None, "dialect": "openai-chat", "model": None, "addresses": addresses}
    folder = run_folder(tmp_path, run_of([3_000.0] * 150), [criterion(P95)], targets=[target], here=here)
    writer = SampleWriter(folder / "samples-1-0.sgs")
    writer.add(
        AuditTick(
            worker=0, at_ns=START + 1, cpu=1.0, longest_turn_ns=1, open_streams=1, open_sockets=1, text_events=1,
            bytes_in=1, starts=1, steps=[], machine=0.99,
        )
    )  # fmt: skip
    writer.close()

    found = assess(folder)

    assert (found.document.verdict == "fail") == (not slowed)


@pytest.mark.parametrize(("compiled", "told"), [(True, "by the compiled part"), (False, "by plain Python"), (None, "")])
def test_a_report_tells_whether_the_compiled_part_read(tmp_path: Path, compiled: bool | None, told: str) -> None:
    document = assessed(tmp_path, QUICK, compiled=compiled).document

    assert document.measurement.compiled is compiled
    text = b"".join(FORMS["md"](document, ())).decode()
    assert re.search(rf"Clock of the stamps \| kernel{', read ' * bool(told)}{told} \|", text)

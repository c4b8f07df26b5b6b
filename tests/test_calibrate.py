"""What this machine can measure: figures against made truths, the rule, the file, and one real calibration."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from cli import inline, streamgauge, valid_report
from made import START, made
from streamgauge.calibrate import (
    KEPT,
    LIMIT_MS,
    OLD,
    Calibrated,
    Fingerprint,
    Level,
    fault,
    fingerprint,
    keep,
    ladder,
    larger,
    level_of,
    quote,
    quoted,
    state_file,
)
from streamgauge.cli.calibration import told
from streamgauge.reports.wording import calibrated
from streamgauge.sample import Outcome
from streamgauge.simulator import Record, Sent, start

MS = 1_000_000
HERE = Fingerprint("AMD EPYC", 4, "Linux 6.1", "CPython 3.12.1", "0.1.0", "pure")
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
GOOD = Level(
    streams=50, requests=200, events_per_s=2_500.0, error_ms={"p50": 0.01, "p95": 0.02, "p99": 0.03}, moved_ms=0.4,
    late_share=0.0, lost=0, cpu=0.2, sim_late_ms=0.5, pick_up_ms=0.3,
)  # fmt: skip


def calibration(*levels: Level, at: datetime = NOON, of: Fingerprint = HERE, others: float = 0.0) -> Calibrated:
    return Calibrated(
        at=at.strftime("%Y-%m-%dT%H:%M:%SZ"), fingerprint=of, levels=list(levels or (GOOD,)), others=others
    )


def truth(trace: str, request_ns: int, sends_ns: list[int], late_ms: float) -> Record:
    """One request as the simulator's log tells it."""
    sends = tuple(Sent(at - round(late_ms * MS), at, at + 5_000, 100, ("text",), 1) for at in sends_ns)
    return Record(
        1, trace, "openai-chat", "m", "/", True, "model", None, None, 1, 1, False, request_ns, request_ns, request_ns,
        200, "ok", "complete", sends_ns[-1], "stop", None, 5, None, 0, sends,
    )  # fmt: skip


# What is measured.


def test_our_error_is_told_apart_from_what_the_simulator_did_late() -> None:
    samples, log = [], {}
    for n in range(100):
        sample = made(100.0, n=n, id=f"{n:032x}", late_ms=1.0, slack_ms=2.0)
        sent, first = sample.sent_ns or 0, sample.first_token_ns or 0
        error = (n + 1) * MS // 10
        log[sample.id] = truth(sample.id, sent + 7 * MS, [first - error, first - error + 20 * MS], late_ms=30.0)
        samples.append(sample)
    level = level_of(10, samples, log, [])
    assert level.error_ms == {"p50": pytest.approx(5.1), "p95": pytest.approx(9.6), "p99": pytest.approx(10.0)}
    assert level.moved_ms == pytest.approx(9.6 + 1.0), "an error above the slack counts in full, lateness on top"
    assert (level.sim_late_ms, level.pick_up_ms) == (pytest.approx(30.0), pytest.approx(7.0))
    assert (level.requests, level.late_share, level.lost) == (100, 0.0, 0)
    assert level.events_per_s == pytest.approx(20.0, rel=0.05), "two events each 100 ms"


def test_a_claimed_slack_counts_even_where_the_stamp_was_right() -> None:
    sample = made(100.0, id="a" * 32, slack_ms=40.0)
    log = {sample.id: truth(sample.id, START, [sample.first_token_ns or 0], 0.0)}
    assert level_of(1, [sample], log, []).moved_ms == pytest.approx(40.0)


def test_what_the_log_does_not_know_is_no_error_of_zero() -> None:
    lost = made(outcome=Outcome.CONNECT_REFUSED)
    level = level_of(1, [made(id="a" * 32), lost], {}, [])
    assert (level.error_ms, level.moved_ms, level.pick_up_ms, level.sim_late_ms) == ({}, None, None, None)
    assert "0.00" not in told(level), "what was not measured is no zero"
    assert (level.requests, level.lost) == (0, 1)
    assert fault(level) == "only 0 requests could be compared"


@pytest.mark.parametrize(("planned", "levels"), [
    (None, (10, 50, 100, 200, 400, 800)), (4, (4,)), (50, (10, 50)), (300, (10, 50, 100, 200, 300)),
    (2_000, (10, 50, 100, 200, 400, 800, 2_000)),
])  # fmt: skip
def test_levels_go_up_to_the_planned_one(planned: int | None, levels: tuple[int, ...]) -> None:
    assert ladder(planned) == levels


# The rule.


@pytest.mark.parametrize(("changed", "why"), [
    ({}, None),
    ({"moved_ms": 0.05 * LIMIT_MS}, None),
    ({"moved_ms": 0.05 * LIMIT_MS + 0.1}, "we may have moved first tokens by 25.1 ms at p95, over 5 % of 500 ms"),
    ({"late_share": 0.05}, None),
    ({"late_share": 0.06}, "6% of the starts were over 50 ms late through us"),
    ({"lost": 2}, "2 requests did not end well"),
    ({"requests": 9}, "only 9 requests could be compared"),
    ({"sim_late_ms": 500.0, "pick_up_ms": 90.0}, None),
])  # fmt: skip
def test_a_level_holds_by_the_rule_that_makes_a_run_invalid(changed: dict[str, float], why: str | None) -> None:
    assert fault(msgspec.structs.replace(GOOD, **changed)) == why


def test_the_most_streams_that_held_are_quoted_with_the_floor_of_the_fewest() -> None:
    few = msgspec.structs.replace(GOOD, streams=10, error_ms={"p50": 0.0, "p95": 0.01, "p99": 0.01})
    broken = msgspec.structs.replace(GOOD, streams=100, moved_ms=99.0)
    told = quoted(calibration(few, GOOD, broken))
    assert (told.streams, told.events_per_s, told.open_end) == (50, 2_500.0, False)
    assert (told.floor_ms["p95"], told.error_ms["p95"]) == (0.01, 0.02)
    assert quoted(calibration(few, GOOD)).open_end
    none = quoted(calibration(broken))
    assert (none.streams, none.events_per_s, none.floor_ms) == (0, None, {})


@pytest.mark.parametrize(("found", "words"), [
    (quoted(calibration()), "Calibrated 2026-11-25: numbers hold up to at least 50 streams, 2,500 events/s (first "
                            "tokens within 0.1 ms at p95 with few streams, 0.1 ms with the most)"),
    (quoted(calibration(others=0.6)), "the machine was busy: others took 60"),
    (quoted(calibration(msgspec.structs.replace(GOOD, lost=1))), "did not hold on this machine even at the fewest"),
    (quoted(calibration(), "it is 91 days old"), "not count here: it is 91 days old (streamgauge check --calibrate)"),
])  # fmt: skip
def test_it_is_said_in_one_line(found: object, words: str) -> None:
    said = calibrated(found)  # type: ignore[arg-type] # each is a Calibration
    assert words in said
    assert "\n" not in said


# The file.


def test_a_calibration_is_found_again_and_the_latest_counts(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "calibration.json"
    assert quote(path, HERE, NOON) is None
    assert keep(path, calibration(at=NOON - timedelta(days=2))) is None
    assert keep(path, calibration(msgspec.structs.replace(GOOD, streams=70))) is None
    found = quote(path, HERE, NOON)
    assert found is not None
    assert (found.streams, found.stale) == (70, None)


BAD = msgspec.structs.replace(GOOD, lost=1)
MORE = msgspec.structs.replace(GOOD, streams=800)


@pytest.mark.parametrize(("before", "now", "stays"), [
    (calibration(GOOD, MORE, at=NOON - OLD), calibration(GOOD), True),
    (calibration(GOOD, MORE, at=NOON - OLD - timedelta(days=1)), calibration(GOOD), False),
    (calibration(GOOD, MORE), calibration(BAD), False),
    (calibration(GOOD, MORE, of=msgspec.structs.replace(HERE, cores=1)), calibration(GOOD), False),
    (calibration(GOOD), calibration(GOOD, MORE), False),
    (calibration(GOOD, MORE), calibration(GOOD, MORE), False),
], ids=["larger", "larger and old", "no longer true", "of another machine", "smaller", "as large"])  # fmt: skip
def test_a_smaller_calibration_replaces_a_larger_one_only_where_that_no_longer_counts(
    tmp_path: Path, before: Calibrated, now: Calibrated, stays: bool
) -> None:
    keep(tmp_path / "c.json", before)
    assert larger(tmp_path / "c.json", now) == (before if stays else None)


@pytest.mark.parametrize(("age", "of", "why"), [
    (OLD, HERE, None),
    (OLD + timedelta(days=1), HERE, "it is 91 days old"),
    (timedelta(), msgspec.structs.replace(HERE, kernel="Linux 6.2"), "it was made with another kernel"),
    (timedelta(), msgspec.structs.replace(HERE, python="x", streamgauge="y"), "with another Python and streamgauge"),
    (timedelta(), msgspec.structs.replace(HERE, engine="compiled"), "with another engine"),
])  # fmt: skip
def test_what_is_old_or_of_another_machine_is_stale_and_its_numbers_are_not_told(
    tmp_path: Path, age: timedelta, of: Fingerprint, why: str | None
) -> None:
    keep(tmp_path / "c.json", calibration(at=NOON - age, of=of))
    found = quote(tmp_path / "c.json", HERE, NOON)
    assert found is not None
    assert (found.stale is None) == (why is None)
    assert why is None or why in (found.stale or "")
    assert (found.streams, found.error_ms) == ((None, {}) if why else (50, GOOD.error_ms))


def test_each_machine_that_shares_the_folder_keeps_its_own_up_to_a_number(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    for n in range(KEPT + 5):
        other = msgspec.structs.replace(HERE, cores=n)
        assert keep(path, calibration(of=other, at=NOON + timedelta(hours=n))) is None
    last = quote(path, msgspec.structs.replace(HERE, cores=KEPT + 4), NOON + timedelta(days=2))
    first = quote(path, msgspec.structs.replace(HERE, cores=0), NOON + timedelta(days=2))
    assert last is not None
    assert first is not None
    assert (last.stale, first.stale) == (None, "it was made with another number of cores")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format":2,"calibrations":[]}', b"\xff", b"[" * 100_000])
def test_a_file_that_cannot_be_read_counts_as_none_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(content)
    assert quote(path, HERE, NOON) is None
    assert keep(path, calibration()) is None
    assert quote(path, HERE, NOON) is not None


def test_a_file_that_cannot_be_written_is_a_warning_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    warning = keep(tmp_path / "file" / "c.json", calibration())
    assert warning is not None
    assert "cannot be written" in warning


def test_the_state_folder_is_the_users_and_a_variable_names_another() -> None:
    assert state_file({"STREAMGAUGE_STATE": "/a", "XDG_STATE_HOME": "/b"}) == Path("/a/calibration.json")
    assert state_file({"XDG_STATE_HOME": "/b"}) == Path("/b/streamgauge/calibration.json")
    usual = Path.home() / ".local/state/streamgauge/calibration.json"
    assert state_file({}) == state_file({"XDG_STATE_HOME": "not/absolute"}) == usual


def test_the_fingerprint_is_this_machines_and_does_not_name_it() -> None:
    here = fingerprint()
    assert here == fingerprint()
    assert platform.release() in here.kernel
    assert here.python.endswith(platform.python_version())
    assert here.engine in ("pure", "compiled")
    assert platform.node() not in msgspec.json.encode(here).decode() or not platform.node()


@pytest.mark.parametrize(("of", "flags", "told"), [
    (fingerprint(), ("--concurrency", "50"), None),
    (fingerprint(), ("--concurrency", "51"), "51 streams are planned, and this machine was calibrated for 50"),
    (fingerprint(), ("--rate", "200", "--duration", "9s"), "260 streams are planned, and this machine was calibrated"),
    (fingerprint(), ("--rate", "20", "--duration", "9s"), None),
    (HERE, ("--concurrency", "5"), "does not count here: it was made with another"),
])  # fmt: skip
def test_a_plan_above_what_was_found_says_so_and_starts_all_the_same(
    tmp_path: Path, of: Fingerprint, flags: tuple[str, ...], told: str | None
) -> None:
    keep(tmp_path / "calibration.json", calibration(of=of, at=datetime.now(UTC)))
    run = ("run", "ttft", "--url", "http://127.0.0.1:9/v1/chat/completions", "--model", "m", *flags, "--dry-run")
    done = inline(*run, cwd=tmp_path, STREAMGAUGE_STATE=str(tmp_path))
    assert done.code == 0
    assert "calibrat" not in done.out if told is None else told in done.out
    (plan,) = json.loads(inline(*run, "--json", cwd=tmp_path, STREAMGAUGE_STATE=str(tmp_path)).out)["plan"]
    assert (told is None) == (not plan["notes"])


# For real.


def test_a_calibration_is_quoted_by_plan_check_and_every_form_of_a_report(tmp_path: Path) -> None:
    state = {"STREAMGAUGE_STATE": str(tmp_path / "state")}
    model = "sim-t20-i5-n4"
    with start(model=model, log=False) as sim:
        ask = ("--url", f"{sim.url}/v1/chat/completions", "--model", model)
        done = streamgauge("check", "--calibrate", *ask, cwd=tmp_path, **state)
        assert done.code == 0, done.err
        assert "up to 4 streams of 50 tok/s (by the plan)" in done.err
        assert "the simulator's own: sends" in done.err
        assert "Calibrated 20" in done.out
        (kept,) = json.loads((tmp_path / "state" / "calibration.json").read_text())["calibrations"]
        assert kept["levels"][0]["streams"] == 4
        assert kept["levels"][0]["error_ms"]["p50"] < 250, "the stamps of two processes of one machine"
        run = ("run", "ttft", *ask, "--requests", "12", "--concurrency", "5")
        plan = inline(*run, "--dry-run", cwd=tmp_path, **state).out
        assert "5 streams are planned, and this machine was calibrated for" in plan
        report = valid_report(inline(*run, "--json", "-q", cwd=tmp_path, **state).out)
    told = report["measurement"]["calibration"]
    assert (told["at"], told["stale"]) == (kept["at"], None)
    words = f"Calibrated {kept['at'][:10]}: "
    for form in ("md", "html"):
        (written,) = (tmp_path / "tests/performance/reports").glob(f"*.{form}")
        assert words in written.read_text("utf-8")
    assert words in inline("report", "last", cwd=tmp_path).out

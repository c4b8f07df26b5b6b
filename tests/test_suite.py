"""Several tests of one command: what one cannot do stops no other, and the index says what became of each."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from cli import environment, inline, streamgauge, valid_report
from hostile import HOSTILE, _soil
from sim_client import under_way
from streamgauge.client import target_from_url
from streamgauge.clock import SystemClock
from streamgauge.errors import Exit, TargetError, UsageError
from streamgauge.reports import SUITE_FORMS, terminal, to_json, write_suite
from streamgauge.reports.suite_document import Suite
from streamgauge.simulator import Simulator, start
from streamgauge.spec.presets import TESTS
from streamgauge.suite.index import index_of
from streamgauge.suite.settle import MOST_S, calm_ttft, settle
from streamgauge.suite.several import Ended, Planned, run_several
from suites import failing, passing
from test_prepare import planned

SHIPPED = (files("streamgauge.reports") / "suite.schema.json").read_bytes()
VALIDATOR = jsonschema.Draft202012Validator(json.loads(SHIPPED))


def form(suite: Suite, name: str) -> str:
    return b"".join(SUITE_FORMS[name](suite)).decode()


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with start() as running:
        yield running


# The document and its forms.


def test_the_shipped_schema_is_current_and_a_schema() -> None:
    assert to_json.suite_schema_text() == SHIPPED, "write to_json.suite_schema_text() to suite.schema.json"
    jsonschema.Draft202012Validator.check_schema(json.loads(SHIPPED))


@pytest.mark.parametrize("make", [failing, passing])
def test_the_json_is_valid_and_nothing_of_it_is_lost(make: Any) -> None:
    read = json.loads(form(make(), "json"))
    VALIDATOR.validate(read)
    assert read == json.loads(json.dumps(msgspec.to_builtins(make())))


def test_the_schema_refuses_an_index_of_another_version_or_without_its_tests() -> None:
    read = json.loads(form(failing(), "json"))
    for spoilt in ({**read, "schema": "streamgauge.suite/2"}, {k: v for k, v in read.items() if k != "tests"}):
        assert not VALIDATOR.is_valid(spoilt)


class Links(HTMLParser):
    """What a page links to, and its text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""
        self.tags: set[str] = set()
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += data + " "


@pytest.mark.parametrize("make", [failing, passing])
def test_each_form_has_a_line_a_test_and_leads_to_its_files(make: Any) -> None:
    suite = make()
    wanted = {name for one in suite.tests for name in one.files.values()}
    page = Links(form(suite, "html"))
    assert set(page.links) == wanted
    assert page.tags.isdisjoint({"script", "link", "img", "iframe"})
    written = form(suite, "md")
    assert set(re.findall(r"\]\(<([^>]+)>\)", written)) == wanted
    screen = "\n".join("".join(text for text, _ in line) for line in terminal.suite_lines(suite))
    for one in suite.tests:
        told = one.verdict or "not run"
        for text in (page.text, screen):
            assert re.search(rf"{one.test}\W+{told}", text), f"{one.test}: {told}"
        (row,) = [line for line in written.splitlines() if line.startswith("| ") and f"| {one.test} |" in line]
        assert told in row
    assert max(len(line) for line in screen.splitlines()) <= 100


def test_what_the_strategy_asks_for_stands_in_every_form() -> None:
    suite = failing()
    assert suite.actions[0] == "Page on-call engineer immediately"
    for text in (form(suite, "html"), form(suite, "md"), form(suite, "json")):
        places = [text.index(action) for action in suite.actions]
        assert places == sorted(places)
    for text in (form(passing(), "html"), form(passing(), "md")):
        assert "What to do now" not in text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_texts(text: str) -> None:
    soiled = _soil(failing(), text)
    VALIDATOR.validate(json.loads(form(soiled, "json")))
    clean = Links(form(soiled, "html"))
    assert clean.tags <= Links(form(failing(), "html")).tags
    assert not any(":" in link.partition("%")[0] for link in clean.links), "no link leads elsewhere"
    written = re.sub(r"(`+).*?\1", "", form(soiled, "md"))  # what stands in code spans is code
    assert "<script" not in written
    assert "<img" not in written
    assert "\x1b" not in written
    assert all(len(terminal.suite_lines(soiled, width)) > 5 for width in (60, 100))


def test_the_files_are_named_by_the_start_and_take_no_name_twice(tmp_path: Path) -> None:
    first, second = write_suite(passing(), tmp_path), write_suite(passing(), tmp_path)
    assert [path.name for path in first] == [f"suite_20261125T041455Z.{ext}" for ext in ("md", "json", "html")]
    assert [path.name for path in second] == [f"suite_20261125T041455Z-2.{ext}" for ext in ("md", "json", "html")]


# The verdict over several.


def of_codes(codes: tuple[Exit, ...], *, lenient: bool = False) -> Suite:
    """The index of tests that were not run, each with its exit code."""
    ended = [Ended(Planned(f"t{i}", f"streamgauge run t{i}", None), code, why="why") for i, code in enumerate(codes)]
    return index_of(ended, suite="s", started="2026-11-25T04:14:55Z", ended_at="2026-11-25T04:15:55Z", seconds=60.0,
                    rerun="streamgauge run all", lenient=lenient)  # fmt: skip


def test_the_exit_code_is_the_first_of_the_contract_for_every_pair() -> None:
    order = [70, 2, 130, 143, 1, 5, 4, 3, 0]
    for pair in product(map(Exit, order), repeat=2):
        assert of_codes(pair).exit == min(pair, key=order.index)


def test_what_was_not_run_is_no_pass_and_says_how_to_run_it() -> None:
    index = of_codes((Exit.INCONCLUSIVE, Exit.USAGE))
    assert (index.verdict, index.severity, index.actions) == ("inconclusive", None, [])
    assert index.headline == "t0 and t1 were not run"
    assert [(one.verdict, one.headline) for one in index.tests] == [(None, "why")] * 2


# One after another, by the code that does it.


def items(tmp_path: Path, *names: str) -> list[Planned]:
    """Tests with plans that ask nobody: what happens to them is the caller's."""
    plan = planned(tmp_path)
    empty = dataclasses.replace(plan, load=msgspec.structs.replace(plan.load, targets=()))
    return [Planned(name, f"streamgauge run {name}", empty) for name in names]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ZeroDivisionError("division by zero"), 70, "a bug of streamgauge"),
        (UsageError("the plan wants more"), 2, "the plan wants more"),
        (TargetError("refused", target="a", stage="connect", next_step="start it"), 4, "refused"),
    ],
)
def test_what_one_test_cannot_do_stops_no_other(tmp_path: Path, error: Exception, code: int, told: str) -> None:
    begun, bugs = [], []

    def one(item: Planned) -> Any:
        begun.append(item.test)
        raise error if item.test == "b" else UsageError("none of this is run")

    refused = Planned("d", "streamgauge run d", None, "no probe")
    ended = list(
        run_several([*items(tmp_path, "a", "b", "c"), refused], one, SystemClock(), refused=Exit.INCONCLUSIVE,
                    settling=lambda *_: None, bug=bugs.append)
    )  # fmt: skip
    assert begun == ["a", "b", "c"]
    assert [one.code for one in ended] == [2, code, 2, 3]
    assert told in str(ended[1].why)
    assert (ended[3].why, ended[3].next_step) == ("no probe", "streamgauge run d")
    assert bugs == ([error] if code == 70 else [])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_between_two_runs_ends_the_row_and_is_told(tmp_path: Path, number: int, code: int) -> None:
    def one(item: Planned) -> Any:
        signal.raise_signal(number)
        time.sleep(5)
        raise AssertionError("the signal was not heeded")

    before = signal.getsignal(signal.SIGTERM)
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
    row = items(tmp_path, "a", "b")
    ended = list(run_several(row, one, SystemClock(), refused=Exit.USAGE, settling=lambda *_: None, bug=lambda _: None))
    assert [one.code for one in ended] == [code, code]
    assert "before it began" in str(ended[1].why)
    assert signal.getsignal(signal.SIGTERM) == before
    signal.signal(signal.SIGINT, interrupt)


# The wait between two tests.

PROMPTS = {"short": ("hello",)}


def test_a_target_is_waited_for_until_it_answers_as_before() -> None:
    with start(capacity=1) as simulator:
        target = target_from_url(f"{simulator.url}/v1/chat/completions", dialect="openai-chat", model="sim-t20-i1-n3")
        calm = calm_ttft(target, PROMPTS, SystemClock())
        assert calm is not None
        assert 20 <= calm < 2_000
        limit = 2 * calm + 100
        with under_way(simulator, f"sim-t10-i10-n{round(300 + limit / 5)}"):  # twice the limit and 3 s
            waited = settle([target], {"target": calm}, PROMPTS, SystemClock())
    assert waited.settled
    assert waited.waited_s >= limit / 1_000, "the one in front of it kept it longer than that"
    (one,) = waited.targets
    assert one.asked >= 2, "the first waited behind it"
    assert one.after_ms is not None
    assert one.after_ms <= limit
    assert waited.sentence.startswith("the target answers as before")


def test_the_wait_is_bounded_and_says_what_was_not_reached(simulator: Simulator) -> None:
    slow = target_from_url(f"{simulator.url}/v1/chat/completions", dialect="openai-chat", model="sim-t400-i1-n3")
    began = time.monotonic()
    waited = settle([slow], {"target": 50.0}, PROMPTS, SystemClock(), most_s=2.5)
    assert time.monotonic() - began < 20 < MOST_S
    assert not waited.settled
    assert re.search(r"not as before after \d+ s: target: first token after \d+ ms \(50 ms before", waited.sentence)


def test_a_target_that_gave_no_token_before_is_not_waited_for(simulator: Simulator) -> None:
    nobody = target_from_url("http://127.0.0.1:9/v1/chat/completions", dialect="openai-chat", model="m")
    calm = calm_ttft(nobody, PROMPTS, SystemClock())
    assert calm is None
    assert settle([nobody], {"target": calm}, PROMPTS, SystemClock()).targets[0].asked == 0


# The command.

SMALL = ("--requests", "12", "--concurrency", "4", "--model", "sim-t60-i1-n5")


LIVE = """
[environments.live]
url = "{url}"
kind = "production"
[targets.app]
dialect = "openai-chat"
model = "sim-t60-i1-n5"
"""
FEW = ("--requests", "12", "--concurrency", "4", "--max-requests", "30")


def test_all_lists_what_cannot_start_and_judges_the_rest(simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / "streamgauge.toml").write_text(LIVE.format(url=simulator.url), "utf-8")
    done = streamgauge("run", "all", "--preset", "pr", *FEW, "--json", cwd=tmp_path)
    told = json.loads(done.out)
    VALIDATOR.validate(told["index"])
    reports = [valid_report(json.dumps(one)) for one in told["suite"]]
    assert [one["test"] for one in reports] == ["ttft"]
    assert reports[0]["suite"] == told["index"]["id"]
    lines = {one["test"]: one for one in told["index"]["tests"]}
    assert list(lines) == list(TESTS)
    assert lines["ttft"]["run"] == reports[0]["run"]["id"]
    why = {"concurrent": "the hard stop is 30 (--max-requests)", "endurance": "counts as production",
           "memory": "no probe reads it", "stress": "not for a number of requests"}  # fmt: skip
    for test, words in why.items():
        assert lines[test]["verdict"] is None
        assert words in lines[test]["headline"]
        assert lines[test]["next_step"].startswith(f"streamgauge run {test} ")
        assert f"plan   {test}: not run: " in done.err
    code = 5 if reports[0]["verdict"] == "invalid" else 3
    assert (done.code, told["index"]["exit"]) == (code, code), "what was not run is no pass"
    written = sorted(path.name.partition("_")[0] for path in tmp_path.glob("tests/performance/reports/*"))
    assert written == ["suite"] * 3 + ["ttft"] * 4
    for name in lines["ttft"]["files"].values():
        assert (tmp_path / "tests/performance/reports" / name).is_file()
    named = inline("run", "ttft", "concurrent", *FEW, "--dry-run", cwd=tmp_path)
    assert named.code == 2, "what was named and cannot start is a mistake"


def test_nothing_that_can_be_reached_is_exit_4_and_no_index(tmp_path: Path) -> None:
    flags = ("--url", "http://127.0.0.1:9/v1/chat/completions", *SMALL)
    done = inline("run", "ttft", "concurrent", *flags, "-q", "--json", cwd=tmp_path)
    assert done.code == 4
    assert json.loads(done.out)["stage"] == "connect"
    assert not (tmp_path / "tests").exists()


def test_ctrl_c_in_the_first_test_leaves_an_index_of_both(simulator: Simulator, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "streamgauge", "run", "ttft", "concurrent", "--url",
         f"{simulator.url}/v1/chat/completions", "--duration", "240s", "--model", "sim-t60-i1-n5", "--json"],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("ttft (1 of 2) hold"):
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    told = json.loads(out)["index"]
    VALIDATOR.validate(told)
    first, second = told["tests"]
    assert first["verdict"] in ("inconclusive", "invalid"), "a partial run never passes"
    assert (first["partial"], first["exit"]) == (True, 130)
    assert (second["verdict"], second["run"]) == (None, None)
    assert len(list(tmp_path.glob("tests/performance/reports/*"))) == 4 + 3

"""Behind real nginx, HAProxy and Envoy: what each does to a stream is found and named; streaming settings are clean.

One run a proxy asks through all of its settings (tests/proxies) at once. What the service did is known: the simulator
writes each token by itself, 20 ms apart, ends no stream early and keeps its connections.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from behind import Proxy, proxy
from cli import valid_report
from engine import lane, phase, run, target
from folders import run_folder
from made import collected
from standing_still import steadily
from streamgauge.check.finding import Finding as Line
from streamgauge.check.look import look
from streamgauge.client import target_from_url
from streamgauge.clock import SystemClock
from streamgauge.findings import Finding, RunFacts, find
from streamgauge.findings.flow import HOLDS_BACK
from streamgauge.plan import Hold, Rate
from streamgauge.reports import FORMS, ReportGenerator, terminal
from streamgauge.reports.document import Document
from streamgauge.sample import Sample
from streamgauge.simulator import Simulator, start
from streamgauge.suite.assess import assess
from streamgauge.summary import scope_of
from test_verdict import criterion

pytestmark = pytest.mark.real

SINGLY = "sim-t100-i20-n40"
"""40 tokens in 880 ms."""


@dataclass(frozen=True, slots=True)
class Ask:
    """How a setting is asked, and which findings it must have, and no other."""

    names: frozenset[str] = frozenset()
    model: str = SINGLY
    load: Hold | Rate = field(default_factory=lambda: Hold(3))
    requests: int = 6
    headers: dict[str, str] = field(default_factory=dict)
    dialect: str = "openai-chat"


def names(*found: str) -> frozenset[str]:
    return frozenset(found)


TWENTY = {"X-Sim-Script": '[["wait", 100], ["tokens", 20, 20]]'}
GZIP = {"Accept-Encoding": "gzip"}
SILENT = {"X-Sim-Fault": "stall:4s:at=10"}
OFTEN = "sim-t5-i5-n4"
STALLS = Ask(names("cut_at_equal_ages"), "sim-t20-i20-n20-j900", Rate(5, 16), 8, SILENT)
ENDS_AT_TWO = Ask(names("cut_at_equal_ages"), "sim-t20-i20-n150-j300", Rate(4, 16), 6)
SHORT_LIFE = Ask(names("keep_alive_cut"), "sim-t5-i15-n6", Hold(4), 120)
ASKED: dict[str, dict[str, Ask]] = {
    "nginx": {
        "default": Ask(names("lumps")),
        "buffered_11": Ask(),
        "deaf": Ask(names("answer_at_once"), headers=TWENTY, dialect="ai-sdk"),
        "streaming": Ask(),
        "gzip": Ask(headers=GZIP),
        "gzip_buffered": Ask(names("compression_merges"), headers=GZIP),
        "idle": STALLS,
        "no_keep_alive": Ask(names("no_keep_alive"), OFTEN, requests=30),
        "few_requests": Ask(names("keep_alive_cut"), OFTEN, requests=60),
        "short_lived": SHORT_LIFE,
        "direct": Ask(),
    },
    "haproxy": {
        "default": Ask(names("lumps")),
        "streaming": Ask(),
        "gzip": Ask(headers=GZIP),
        "idle": STALLS,
        "idle_client": Ask(model=STALLS.model, load=STALLS.load, headers={"X-Sim-Fault": "stall:2500ms:at=10"}),
        "no_keep_alive": Ask(names("no_keep_alive"), OFTEN, requests=30),
    },
    "envoy": {
        "default": Ask(),
        "streaming": Ask(),
        "buffer": Ask(),
        "gzip": Ask(headers=GZIP),
        "idle": STALLS,
        "total": ENDS_AT_TWO,
        "short_lived": SHORT_LIFE,
    },
}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with start() as running:
        yield running


@pytest.fixture(scope="module", params=list(ASKED))
def behind(
    request: pytest.FixtureRequest, simulator: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    with proxy(request.param, simulator.port, tmp_path_factory.mktemp("proxy")) as running:
        yield running


def url(behind: Proxy, simulator: Simulator, setting: str, dialect: str = "openai-chat") -> str:
    direct = simulator.endpoint(dialect)
    return direct if setting == "direct" else behind.url(setting, direct.removeprefix(simulator.url))


@pytest.fixture(scope="module")
def samples(behind: Proxy, simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """What came of asking through each setting, which is the name of the target."""
    asked = ASKED[behind.name]
    assert set(asked) - {"direct"} == set(behind.ports) - {"maxconn"}  # a limit: test_stress asks through it
    targets = [
        target(
            name, url(behind, simulator, name, ask.dialect), model=ask.model, headers=ask.headers, dialect=ask.dialect
        )
        for name, ask in asked.items()
    ]  # fmt: skip
    lanes = [lane(name, ask.requests, ask.load) for name, ask in asked.items()]
    return steadily(lambda: run(tmp_path_factory.mktemp("run"), targets, phase("hold", lanes)).samples)


@pytest.fixture(scope="module")
def found(behind: Proxy, samples: list[Sample]) -> dict[str, dict[str, Finding]]:
    """Of each setting the findings, by name."""
    columns = collected(samples).columns()
    told: dict[str, dict[str, Finding]] = {name: {} for name in ASKED[behind.name]}
    for one in find(RunFacts(columns, scope_of(columns), int(columns.due.min()))).findings:
        assert one.target is not None
        told[one.target][one.name] = one
    return told


def test_each_setting_has_the_findings_that_it_causes_and_no_other(
    behind: Proxy, found: dict[str, dict[str, Finding]]
) -> None:
    assert {name: frozenset(told) for name, told in found.items()} == {
        name: ask.names for name, ask in ASKED[behind.name].items()
    }, found


SAID = {
    "nginx": {
        "default": (
            "lumps",
            r"lumps of \d+ ms, about \d+ events each: a proxy holds them back",
            "nginx: proxy_buffering off",
        ),
        "deaf": (
            "answer_at_once",
            r"\d of \d answers come whole at once, [\d,]+ ms after sending",
            "proxy_buffering off",
        ),
        "gzip_buffered": ("compression_merges", r"\d of \d compressed answers come whole", "flush after each event"),
        "idle": (
            "cut_at_equal_ages",
            r"[5-8] of 8 streams ended .*: an idle time-out of 2 s: proxy_read_timeout",
            "raise it",
        ),
        "few_requests": ("keep_alive_cut", r"connections were closed after 5 requests", "keepalive_requests"),
        "short_lived": ("keep_alive_cut", r"connections were closed .*at an age of about 1\.\d s", "keepalive_time"),
        "no_keep_alive": ("no_keep_alive", r"each of 30 requests needed a connection", "keepalive_timeout"),
    },
    "haproxy": {
        "default": ("lumps", r"lumps of [2-4]\d\d ms", "HAProxy: option http-no-delay; nginx: proxy_buffering off"),
        "idle": (
            "cut_at_equal_ages",
            r"[5-8] of 8 streams ended after 2\.\d s .*: an idle time-out of 2 s: .*timeout server",
            "raise",
        ),
        "no_keep_alive": ("no_keep_alive", r"each of 30 requests needed a connection", "option httpclose"),
    },
    "envoy": {
        "idle": (
            "cut_at_equal_ages",
            r"[5-8] of 8 streams ended .*: an idle time-out of 2 s: stream_idle_timeout",
            "raise",
        ),
        "total": (
            "cut_at_equal_ages",
            r"[4-6] of 6 streams ended at 2\.\d s: a total time-out of 2 s: the route's timeout",
            "raise",
        ),
        "short_lived": ("keep_alive_cut", r"at an age of about 1\.\d s", "max_connection_duration"),
    },
}


def test_each_finding_says_what_was_set_and_what_to_do(behind: Proxy, found: dict[str, dict[str, Finding]]) -> None:
    for setting, (name, words, remedy) in SAID[behind.name].items():
        one = found[setting][name]
        assert re.search(words, one.words), one.words
        assert one.remedy.startswith(remedy) or remedy in one.remedy, one.remedy
        assert one.cause
        assert one.check
        assert 3 <= one.evidence.k <= one.evidence.n
        assert one.evidence.samples


def lines(behind: Proxy, simulator: Simulator, setting: str, model: str = SINGLY, **headers: str) -> dict[str, Line]:
    at = target_from_url(url(behind, simulator, setting), dialect="openai-chat", model=model, headers=headers)
    return {line.what: line for line in look(at, SystemClock()).findings}


def test_check_names_what_the_default_setting_does_and_finds_the_streaming_one_clean(
    behind: Proxy, simulator: Simulator
) -> None:
    told = lines(behind, simulator, "default")
    assert lines(behind, simulator, "streaming", "sim-t20-i15-n20")["pace"].text.startswith("not buffered")
    if behind.name == "envoy":
        assert told["pace"].text.startswith("not buffered")
        return
    assert "lumps of" in told["pace"].text
    assert HOLDS_BACK[{"nginx": "nginx", "haproxy": "HAProxy"}[behind.name]] in (told["pace"].next or "")


def test_check_names_a_time_out_and_a_connection_that_is_not_kept(behind: Proxy, simulator: Simulator) -> None:
    told = lines(behind, simulator, "idle", **SILENT)["answer"]
    assert re.search(r"after [123]\.\d s without output: an idle or total time-out\?", told.next or ""), told
    if behind.name == "nginx":
        told = lines(behind, simulator, "idle", **{"X-Sim-Fault": "slow-headers:4s"})["status"]
        assert "504 Gateway Time-out" in told.text
        assert re.search(r"waited [23]\.\d s for the app: proxy_read_timeout", told.next or ""), told
    if "no_keep_alive" in behind.ports:
        settings = ("streaming", "no_keep_alive")
        kept = {setting: lines(behind, simulator, setting, OFTEN)["reuse"].level for setting in settings}
        assert kept == {"streaming": "ok", "no_keep_alive": "warn"}


def test_every_form_of_a_report_tells_what_was_found(behind: Proxy, samples: list[Sample], tmp_path: Path) -> None:
    setting, (name, words, remedy) = next(iter(SAID[behind.name].items()))
    own = [sample for sample in samples if sample.target == setting]
    document = assess(run_folder(tmp_path, own, [criterion("error_rate < 0.5")])).document
    (told,) = valid_report(ReportGenerator(document).json())["findings"]
    assert (told["name"], told["target"]) == (name, setting)
    forms = ("md", "html") if behind.name == "haproxy" else ("md",)  # one page is enough: drawing takes seconds
    for text in (terminal.render(document, 1_000), *(_text(document, form) for form in forms)):
        assert re.search(words, text)
        assert remedy in text


def _text(document: Document, form: str) -> str:
    return html.unescape(b"".join(FORMS[form](document, ())).decode())

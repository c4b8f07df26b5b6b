"""`streamgauge check` as a user runs it: lines, JSON, exit codes, what is kept, what is never shown."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from asked import asked
from cli import Done, environment, streamgauge
from servers import CA, STREAM, always, certificate, serving
from streamgauge.cli import cli
from streamgauge.errors import StreamgaugeError
from streamgauge.simulator import Simulator, start

SECRET = "sk-planted-0123456789abcdef"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with start() as running:
        yield running


def spec(tmp_path: Path, text: str) -> None:
    (tmp_path / "streamgauge.toml").write_text(text)


def within(folder: Path, *arguments: str, **env: str) -> Done:
    """The verb in this process, since most of a new one's time would go into loading scipy."""
    there = environment(**env)
    changed = {name: there.get(name) for name in {*os.environ, *there}}  # None takes a variable away
    with contextlib.chdir(folder):
        done = CliRunner(env=changed).invoke(cli, arguments, standalone_mode=False)
    if isinstance(done.exception, StreamgaugeError):
        return Done(done.exception.exit, done.stdout, str(done.exception))
    assert done.exception is None, done.exception
    return Done(done.return_value, done.stdout, done.stderr)


def check(simulator: Simulator, tmp_path: Path, *more: str, dialect: str = "openai-chat", **env: str) -> Done:
    flags = ("--url", simulator.endpoint(dialect), "--model", "sim-t30-i5-n30", *more)
    return within(tmp_path, "check", *flags, **env)


def told(done: Done) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(done.out)
    return whole


def lines(done: Done, target: str = "target") -> dict[str, Any]:
    return {finding["what"]: finding for finding in told(done)["targets"][target]["findings"]}


def test_a_good_target_is_told_line_by_line_with_the_plan(simulator: Simulator, tmp_path: Path) -> None:
    url = simulator.endpoint("openai-chat")
    done = streamgauge("check", "--url", url, "--model", "sim-t30-i5-n30", cwd=tmp_path)
    assert done.code == 0
    for words in (
        "ok   resolve", "ok   connect", "ok   status   200 OK", "ok   ttft", "ok   events", "30 out", "stop (ok)",
        "ok   pace", "ok   gzip", "this machine", "clock", "limits", "plan   ttft pr", "152 requests", "decides:",
    ):  # fmt: skip
        assert words in done.out, words
    assert "FAIL" not in done.out


def test_json_has_the_facts_as_values(simulator: Simulator, tmp_path: Path) -> None:
    done = check(simulator, tmp_path, "--json")
    whole, found = told(done), lines(done)
    assert done.code == 0
    assert whole["targets"]["target"]["usable"] is True
    assert found["resolve"]["facts"]["addresses"] == ["127.0.0.1"]
    assert found["status"]["facts"]["http_status"] == 200
    assert found["usage"]["facts"]["output_tokens"] == 30
    assert found["ttft"]["facts"]["ttft_service_ms"] > 20
    assert [finding["what"] for finding in whole["machine"]] == ["clock", "limits", "accuracy"]
    assert whole["machine"][2]["facts"]["calibrated"] is None, "nobody calibrated here"
    assert whole["machine"][1]["facts"]["streams"] == 4
    plan = whole["plans"]["ttft"]
    assert (plan["starts"], plan["preset"], plan["requests"], plan["usd"]) == (
        True, "pr", 152, None,
    )  # fmt: skip
    assert "ttft_ms.p95 < 1000" in plan["decides"]
    assert not (tmp_path / ".streamgauge").exists(), "a capped answer teaches nothing about length"


def test_every_target_is_told_though_one_cannot_be_used(simulator: Simulator, tmp_path: Path) -> None:
    target = 'dialect = "openai-chat"\nmodel = "sim-t30-i5-n30"\n'
    spec(
        tmp_path,
        f'[targets.dead]\nurl = "http://127.0.0.1:9/v1"\n{target}'
        f'[targets.good]\nurl = "{simulator.endpoint("openai-chat")}"\n{target}',
    )
    done = within(tmp_path, "check", "--preset", "smoke")
    assert done.code == 4
    assert "FAIL connect  127.0.0.1:9: Connection refused" in done.out
    assert "next: nothing listens there" in done.out
    assert done.out.index("good\n") > done.out.index("dead\n")
    assert "200 OK" in done.out


def test_a_refused_secret_is_told_by_place_and_variable_and_never_shown(tmp_path: Path) -> None:
    page = always("401 Unauthorized", {"Location": f"/?token={SECRET}"}, f'{{"error":"{SECRET} expired"}}'.encode())
    with serving(page) as own:
        spec(
            tmp_path,
            f'[targets.app]\nurl = "http://127.0.0.1:{own.port}/api/chat"\ndialect = "ai-sdk"\n'
            'headers = { cookie = "session=${SG_SESSION}", x-csrf-token = "t0ken-value" }\n',
        )
        for flags in ((), ("--json",)):
            done = within(tmp_path, "check", "--preset", "smoke", *flags, SG_SESSION=SECRET)
            assert done.code == 4
            assert SECRET not in done.out + done.err
            assert "t0ken-value" not in done.out + done.err
            assert "sent: cookie yes, x-csrf-token yes" in done.out
            assert "${SG_SESSION}" in done.out


def test_an_empty_secret_is_named_and_nothing_is_sent(simulator: Simulator, tmp_path: Path) -> None:
    before = asked(simulator)
    done = check(simulator, tmp_path, "-H", "Authorization: Bearer ${APP_TOKEN}", APP_TOKEN="")
    assert done.code == 2
    assert "${APP_TOKEN} is not set (or empty)" in done.err
    assert "Traceback" not in done.err
    assert asked(simulator) == before + 1, "only the one that asks"


def test_the_length_of_an_uncapped_answer_is_kept_for_estimates(simulator: Simulator, tmp_path: Path) -> None:
    script = ("-H", 'X-Sim-Script: [["tokens", 20, 5]]')
    done = check(simulator, tmp_path, *script, dialect="ai-sdk")
    assert done.code == 0
    (key, seen), = json.loads((tmp_path / ".streamgauge" / "seen.json").read_text()).items()  # fmt: skip
    assert key == f"{simulator.endpoint('ai-sdk')} ai-sdk sim-t30-i5-n30"
    assert seen["output_tokens"] == 20
    assert seen["ttft_ms"] > 0
    assert seen["at"].endswith("Z")


def test_a_folder_that_cannot_be_written_costs_a_warning_only(simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / ".streamgauge").write_text("a file where the folder should be")
    done = check(simulator, tmp_path, "-H", 'X-Sim-Script: [["tokens", 20, 5]]', dialect="ai-sdk")
    assert done.code == 0
    assert "seen.json cannot be written" in done.err


def test_a_plan_above_a_hard_stop_is_told_after_the_targets(simulator: Simulator, tmp_path: Path) -> None:
    spec(
        tmp_path,
        f'[environments.local]\nurl = "{simulator.url}"\nmax = {{ streams = 2 }}\n'
        '[targets.app]\ndialect = "openai-chat"\nmodel = "sim-t30-i5-n30"\n[tests.concurrent]\npreset = "smoke"\n',
    )
    done = within(tmp_path, "check")
    assert done.code == 2
    assert "ok   ttft" in done.out
    assert "plan   concurrent: this plan does not start" in done.out
    assert "environments.local.max.streams" in done.out


def test_another_dialect_is_named_with_the_line_to_write(simulator: Simulator, tmp_path: Path) -> None:
    done = check(simulator, tmp_path, "--dialect", "anthropic")
    assert done.code == 4
    assert "this is openai-chat, not anthropic" in done.out
    assert 'set dialect = "openai-chat"' in done.out


def test_a_run_stops_before_its_first_request_with_the_words_of_check(tmp_path: Path) -> None:
    with serving(STREAM, certificate("expired")) as own:
        spec(
            tmp_path,
            f'[targets.app]\nurl = "https://127.0.0.1:{own.port}/v1"\ndialect = "openai-chat"\nmodel = "m"\n'
            f'tls = {{ ca = "{CA}" }}\n',
        )
        checked = within(tmp_path, "check", "--json", "--preset", "smoke")
        ran = within(tmp_path, "run", "ttft", "--preset", "smoke", "--json")
    tls = lines(checked, "app")["tls"]
    assert (checked.code, ran.code) == (4, 4)
    assert "expired on 2021-01-01" in tls["text"]
    stopped = json.loads(ran.out)
    assert (stopped["target"], stopped["stage"], stopped["next"]) == ("app", "tls", tls["next"])
    assert tls["text"].split(", ")[0] in stopped["error"]


def test_without_a_target_it_says_how_to_get_one(tmp_path: Path) -> None:
    done = streamgauge("check", cwd=tmp_path)
    assert done.code == 2
    assert "streamgauge init" in done.err

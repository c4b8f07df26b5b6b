"""A spec, an environment and a test to plain values: urls, secrets, guard, presets, criteria."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.arrivals import Rate
from streamgauge.dialects import with_options
from streamgauge.errors import UsageError
from streamgauge.spec.address import parse_url, reach
from streamgauge.spec.load import Spec, from_url, load_spec
from streamgauge.spec.presets import TABLE
from streamgauge.spec.resolve import resolve
from streamgauge.spec.resolved import Resolved
from streamgauge.spec.settings import Overrides

BASE = """\
[environments.local]
url = "http://localhost:3000/app/"
[environments.staging]
url = "https://${HOST}"
kind = "staging"
max = { streams = 50, requests = 900 }
[targets.chat]
path = "/api/chat?x=é"
dialect = "ai-sdk"
headers = { authorization = "Bearer ${TOKEN}", x-plain = "a" }
body = '{"id":"{chat}","t":"${TOKEN}","q":"{prompt}"}'
usd_per_mtok = { in = 3, out = 15 }
expect = { contains = "a.b" }
control = "direct"
[targets.gem]
dialect = "gemini"
model = "gemini-flash"
[targets.direct]
url = "https://api.example.org"
dialect = "anthropic"
headers = { x-api-key = "${OTHER}" }
"""
SECRETS = {"TOKEN": 'tok-"12345', "HOST": "staging.example.com", "OTHER": "other-key"}


def spec(tmp_path: Path, text: str = BASE, *sets: str) -> Spec:
    path = tmp_path / "streamgauge.toml"
    path.write_text(text)
    return load_spec(path, speak=with_options, environ={}, sets=sets)


def single(url: str, **more: object) -> Spec:
    return from_url(url, dialect="openai-chat", model="m", speak=with_options, environ={}, **more)  # type: ignore[arg-type]


def told(spec: Spec, env: str | None, environ: dict[str, str], overrides: Overrides | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(spec, env, environ, "ttft", overrides)
    return str(caught.value)


def test_a_target_is_resolved_to_plain_values(tmp_path: Path) -> None:
    found = resolve(spec(tmp_path), "staging", SECRETS, "ttft")
    chat, gem = found.targets
    assert (chat.scheme, chat.host, chat.port, chat.path) == ("https", "staging.example.com", 443, "/api/chat?x=%C3%A9")
    assert [(h.name, h.value, h.secret) for h in chat.headers] == [
        ("authorization", 'Bearer tok-"12345', True),
        ("x-plain", "a", False),
    ]
    assert chat.body == '{"id":"{chat}","t":"tok-\\"12345","q":"{prompt}"}'
    assert chat.expect == r"a\.b"
    assert chat.usd_per_mtok is not None
    assert (chat.usd_per_mtok.input, chat.usd_per_mtok.output) == (3.0, 15.0)
    assert gem.path == with_options("gemini", {}).default_path
    assert [one.name for one in found.controls] == ["direct"]
    assert found.controls[0].path == "/v1/messages"


def test_a_path_lies_below_the_environments_own(tmp_path: Path) -> None:
    found = resolve(spec(tmp_path), "local", SECRETS, "ttft")
    assert (found.targets[0].origin, found.targets[0].path) == ("http://localhost:3000", "/app/api/chat?x=%C3%A9")


def test_secrets_reach_neither_repr_nor_redacted_text(tmp_path: Path) -> None:
    found = resolve(spec(tmp_path), "staging", SECRETS, "ttft")
    assert "tok-" not in repr(found)
    assert "other-key" not in repr(found)
    assert found.redactor.text('a tok-\\"12345 and other-key') == "a [redacted] and [redacted]"
    assert "tok-" not in repr(spec(tmp_path))


def test_the_environment_wins_over_the_secrets_file(tmp_path: Path) -> None:
    (tmp_path / ".env.streamgauge").write_text("TOKEN=from-file\nOTHER=o-file\nHOST=file.example.com\n")
    found = resolve(spec(tmp_path), "staging", {"TOKEN": "from-env", "OTHER": ""}, "ttft")
    assert found.targets[0].headers[0].value == "Bearer from-env"
    assert found.controls[0].headers[0].value == "o-file"


def test_missing_and_empty_secrets_are_all_told_with_where_to_put_them(tmp_path: Path) -> None:
    text = told(spec(tmp_path), "staging", {"HOST": "h.example.com", "OTHER": ""})
    assert "streamgauge.toml:10: targets.chat.headers.authorization: ${TOKEN} is not set (or empty)" in text
    assert "streamgauge.toml:11: targets.chat.body: ${TOKEN}" in text
    assert "targets.direct.headers.x-api-key: ${OTHER}" in text
    assert "put TOKEN=... into .env.streamgauge" in text


def test_a_target_that_the_test_does_not_use_needs_no_secret(tmp_path: Path) -> None:
    found = resolve(spec(tmp_path, BASE, 'ttft.targets=["gem"]'), "local", {}, "ttft")
    assert [one.name for one in found.targets] == ["gem"]
    assert found.controls == ()


@pytest.mark.parametrize("value", ["two\nlines", "tab\x00", " padded ", "snow☃man"])
def test_a_secret_that_no_header_can_carry_is_told_without_its_value(tmp_path: Path, value: str) -> None:
    text = told(spec(tmp_path), "staging", {**SECRETS, "TOKEN": value})
    assert "targets.chat.headers.authorization: the value" in text
    assert value not in text


def test_an_unknown_environment_names_the_nearest(tmp_path: Path) -> None:
    assert '--env stagin: no environment "stagin"; did you mean "staging"?' in told(spec(tmp_path), "stagin", SECRETS)


def test_several_environments_must_be_chosen_from(tmp_path: Path) -> None:
    assert "say which: --env local or --env staging" in told(spec(tmp_path), None, SECRETS)


# --- manners ------------------------------------------------------------------------------------------------------


def limits(found: Resolved) -> dict[str, float | None]:
    return {
        k: (one.value if (one := getattr(found.limits, k)) else None) for k in ("streams", "requests", "tokens", "usd")
    }


def test_an_unnamed_public_host_counts_as_production_with_hard_stops() -> None:
    found = resolve(single("https://api.example.com/v1"), None, {}, "ttft")
    assert found.kind == "production"
    assert found.guarded == ("api.example.com",)
    assert limits(found) == {"streams": 10, "requests": 3000, "tokens": 1_000_000, "usd": 5}
    assert found.limits.streams is not None
    assert found.limits.streams.key == "api.example.com is public and no environment names it"


@pytest.mark.parametrize(
    "url", ["http://localhost:8080", "http://127.0.0.1", "http://[::1]:3", "http://10.1.2.3", "http://app"]
)
def test_loopback_and_private_hosts_have_no_stops_but_the_cost(url: str) -> None:
    found = resolve(single(url), None, {}, "ttft")
    assert (found.kind, found.guarded) == ("local", ())
    assert limits(found) == {"streams": None, "requests": None, "tokens": None, "usd": 5}


def test_a_named_host_has_the_stops_of_its_environment(tmp_path: Path) -> None:
    named = spec(tmp_path, BASE.replace("${HOST}", "staging.example.com"))
    found = resolve(single("https://staging.example.com/x", named=named), None, {}, "ttft")
    assert found.kind == "staging"
    assert limits(found) == {"streams": 50, "requests": 900, "tokens": None, "usd": 5}
    assert found.limits.streams is not None
    assert found.limits.streams.key == "environments.staging.max.streams"


def test_a_run_takes_the_tightest_stops_of_all_hosts_it_touches(tmp_path: Path) -> None:
    found = resolve(spec(tmp_path), "staging", SECRETS, "ttft")  # the control stands on an unnamed public host
    assert found.kind == "production"
    assert limits(found) == {"streams": 10, "requests": 900, "tokens": 1_000_000, "usd": 5}


def test_flags_change_the_stops_but_cannot_lift_the_guard() -> None:
    lower = resolve(single("https://api.example.com"), None, {}, "ttft", Overrides(max_requests=50, max_usd=20))
    assert limits(lower) == {"streams": 10, "requests": 50, "tokens": 1_000_000, "usd": 20}
    text = told(single("https://api.example.com"), None, {}, Overrides(max_requests=5000))
    assert "--max-requests 5000: api.example.com is public and no environment names it: at most 3,000 requests" in text
    free = resolve(single("http://localhost"), None, {}, "ttft", Overrides(max_requests=5000))
    assert limits(free)["requests"] == 5000


@pytest.mark.parametrize(
    ("host", "where"),
    [
        ("localhost", "loopback"), ("a.localhost", "loopback"), ("127.8.8.8", "loopback"), ("::1", "loopback"),
        ("0.0.0.0", "loopback"), ("::ffff:127.0.0.1", "loopback"),
        ("10.0.0.1", "private"), ("172.16.0.1", "private"), ("192.168.1.1", "private"), ("100.64.0.1", "private"),
        ("169.254.1.1", "private"), ("fd00::1", "private"), ("fe80::1%eth0", "private"), ("::ffff:10.0.0.1", "private"),
        ("app", "private"), ("db.internal", "private"), ("printer.local", "private"),
        ("x.svc.cluster.local.", "private"),
        ("172.32.0.1", "public"), ("8.8.8.8", "public"), ("2606:4700::1", "public"), ("example.com", "public"),
        ("localhost.example.com", "public"), ("127.0.0.1.nip.io", "public"),
        ("10.example.com", "public"), ("127.1", "public"),
    ],
)  # fmt: skip
def test_how_far_away_a_host_counts_as(host: str, where: str) -> None:
    assert reach(host) == where


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("example.com/x", 'write "https://example.com/x"'),
        ("localhost:3000/x", 'write "http://localhost:3000/x"'),
        ("ftp://example.com", "only http, https and http+unix"),
        ("https://", "names no host"),
        ("https://u:p@example.com", "no user and password"),
        ("https://example.com:99999", "is not a url"),
        ("https://example.com:0", "port 0"),
        ("https://exa mple.com", "space or a control character"),
        ("https://example.com/\n", "space or a control character"),
        ("https://example.com/#a", "never sent"),
        ("https://[::1", "is not a url"),
        ("https://exam$ple.com", "not a host name"),
    ],
)
def test_a_url_that_cannot_be_is_refused_with_the_next_step(url: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_url(url)
    assert words in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    for url in (text, f"https://{text}"):
        try:
            found = parse_url(url)
        except ValueError:
            continue
        assert found.host.isascii()
        assert 0 < found.port < 65_536


def test_a_host_beyond_ascii_is_sent_as_idna() -> None:
    assert parse_url("https://bücher.example/ä").host == "xn--bcher-kva.example"


# --- settings ---------------------------------------------------------------------------------------------------------


def test_the_presets_are_those_of_the_design() -> None:
    ttft = {name: TABLE["ttft", name] for name in ("smoke", "pr", "standard", "full")}
    assert [one.requests for one in ttft.values()] == [150, 150, 400, 400]
    assert {(one.concurrency, one.max_tokens, one.prompts, one.floor) for one in ttft.values()} == {
        (4, 32, ("short", "medium", "long"), 59)
    }
    assert [one.double for one in ttft.values()] == [False, False, True, True]
    assert {one.timeouts.total_s for one in ttft.values()} == {300.0}
    for name in ("standard", "full"):
        one = TABLE["concurrent", name]
        assert (one.concurrency, one.requests, one.duration_s, one.stress_level) == (100, 2000, 600.0, 200)
        assert (one.reference_requests, one.reference_s) == (20, 30.0)
    usual = TABLE["concurrent", "standard"].timeouts
    assert (usual.connect_s, usual.first_token_s, usual.stall_s, usual.total_s, usual.drain_s) == (10, 60, 60, None, 30)


def test_pr_is_the_preset_with_a_url_and_standard_with_a_spec(tmp_path: Path) -> None:
    assert resolve(single("http://localhost"), None, {}, "ttft").settings.preset == "pr"
    assert resolve(spec(tmp_path), "local", SECRETS, "ttft").settings.preset == "standard"


def test_what_is_asked_for_replaces_both_ends_of_the_presets_hold() -> None:
    base = single("http://localhost")
    plain = resolve(base, None, {}, "concurrent", Overrides(preset="standard")).settings
    assert (plain.requests, plain.duration_s, plain.stress_level) == (2000, 600.0, 200)
    timed = resolve(base, None, {}, "concurrent", Overrides(preset="standard", duration_s=60)).settings
    assert (timed.requests, timed.duration_s) == (None, 60)
    counted = resolve(base, None, {}, "ttft", Overrides(preset="full", requests=80)).settings
    assert (counted.requests, counted.duration_s, counted.double) == (80, None, False)


def test_a_concurrency_of_ones_own_is_the_only_level_and_is_what_is_judged() -> None:
    found = resolve(single("http://localhost"), None, {}, "concurrent", Overrides(concurrency=30))
    assert (found.settings.concurrency, found.settings.stress_level, found.settings.ramp_s) == (30, None, 2.0)
    assert found.criteria[0].text == "concurrency_held >= 30"
    assert (
        resolve(single("http://localhost"), None, {}, "concurrent", Overrides(concurrency=1000)).settings.ramp_s == 10
    )


def test_an_open_loop_has_a_cap_that_stays_below_the_hard_stop() -> None:
    assert resolve(single("http://localhost"), None, {}, "ttft", Overrides(rate=2)).settings.concurrency == 120
    assert resolve(single("https://api.example.com"), None, {}, "ttft", Overrides(rate=2)).settings.concurrency == 10
    both = resolve(single("http://localhost"), None, {}, "ttft", Overrides(rate=2, concurrency=7)).settings
    assert (both.open_loop, both.concurrency) == (Rate(2, 7), 7)


def test_requests_of_the_concurrent_preset_are_shared_by_the_targets(tmp_path: Path) -> None:
    text = "".join(f"[targets.{n}]\nurl='http://localhost/{n}'\ndialect='ai-sdk'\n" for n in "abc")
    assert resolve(spec(tmp_path, text), None, {}, "concurrent").settings.requests == 667


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            Overrides(preset="ful"),
            '--preset ful: no such preset; did you mean "full"? Presets: smoke, pr, standard, full',
        ),
        (Overrides(requests=0), "--requests 0: must be a whole number from 1"),
        (Overrides(rate=float("nan")), "--rate nan: must be a number from 0.01"),
        (Overrides(duration_s=float("inf")), "--duration inf"),
        (Overrides(max_usd=-1), "--max-usd -1"),
    ],
)
def test_flags_that_cannot_be_are_told_by_name(overrides: Overrides, words: str) -> None:
    assert words in told(single("http://localhost"), None, {}, overrides)


def test_an_unknown_test_names_the_nearest() -> None:
    with pytest.raises(UsageError, match='no test "concurent"; did you mean "concurrent"'):
        resolve(single("http://localhost"), None, {}, "concurent")


def test_the_specs_table_lies_between_preset_and_flags(tmp_path: Path) -> None:
    text = "[targets.a]\nurl='http://localhost'\ndialect='ai-sdk'\n[prompts.own]\ntexts=['Hi?']\n[tests.ttft]\n" + (
        "preset='full'\nprompts=['own']\nmax_tokens=64\nthink_time='2s'\ntimeouts={ total='1m', stall=5 }\n"
        "concurrency=2\nunique_prefix=false\ninconclusive='pass'\n"
    )
    found = resolve(spec(tmp_path, text), None, {}, "ttft", Overrides(concurrency=3))
    s = found.settings
    assert (s.preset, s.prompts, s.max_tokens, s.think_time_s, s.concurrency) == ("full", ("own",), 64, 2.0, 3)
    assert (s.timeouts.total_s, s.timeouts.stall_s, s.timeouts.connect_s) == (60.0, 5.0, 10.0)
    assert (s.unique_prefix, s.inconclusive) == (False, "pass")
    assert found.prompts["own"].texts == ("Hi?",)


def test_ones_own_criteria_replace_the_tests_and_default_brings_back_the_rest(tmp_path: Path) -> None:
    head = "[targets.a]\nurl='http://localhost'\ndialect='ai-sdk'\n[tests.ttft]\ncriteria="
    only = resolve(spec(tmp_path, head + '["ttft_ms.p95 < 500"]'), None, {}, "ttft").criteria
    assert [one.text for one in only] == ["ttft_ms.p95 < 500"]
    both = resolve(spec(tmp_path, head + '["default", "ttft_ms.p95 < 500"]'), None, {}, "ttft").criteria
    texts = [one.text for one in both]
    assert texts[-1] == "ttft_ms.p95 < 500"
    assert "ttft_ms.p95 < 1000" not in texts
    assert "ttft_ms.p99 < 2000" in texts


def test_tls_files_lie_beside_the_spec_and_must_be_there(tmp_path: Path) -> None:
    text = "[targets.a]\nurl='https://localhost'\ndialect='ai-sdk'\ntls={ ca='ca.pem', server_name='x' }\n"
    assert 'targets.a.tls.ca: no file "ca.pem" beside the spec' in told(spec(tmp_path, text), None, {})
    (tmp_path / "ca.pem").write_text("x")
    assert resolve(spec(tmp_path, text), None, {}, "ttft").targets[0].tls.ca == str(tmp_path / "ca.pem")


def test_a_dialect_whose_path_holds_the_model_needs_one(tmp_path: Path) -> None:
    text = "[targets.a]\nurl='http://localhost'\ndialect='gemini'\n"
    assert "targets.a: dialect gemini asks at" in told(spec(tmp_path, text), None, {})

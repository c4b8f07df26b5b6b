"""Loading a spec: every mistake at once with its place, precedence, files that are no spec."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.dialects import with_options
from streamgauge.errors import Exit, UsageError
from streamgauge.spec.load import Spec, digest, find_spec, from_url, load_spec
from streamgauge.spec.mistakes import Mistakes, Places
from streamgauge.spec.read import dotenv_line, parse_value, read_dotenv, split_set

GOOD = """\
[environments.staging]
url = "https://staging.example.com"
kind = "staging"
max = { streams = 100, requests = 3000, usd = 5 }

[targets.claude]
path = "/api/chat"
dialect = "ai-sdk"
headers = { authorization = "Bearer ${TOKEN}" }
usd_per_mtok = { in = 3, out = 15 }
control = "direct"

[targets.direct]
url = "https://api.example.org/v1/messages"
dialect = "anthropic"
model = "claude-sonnet"

[tests.ttft]
requests = 120
criteria = ["default", { rule = "ttft_ms.p99 < 3000", target = "claude", severity = "P1" }]
"""


def load(tmp_path: Path, text: str | bytes, *sets: str, **environ: str) -> Spec:
    path = tmp_path / "streamgauge.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_spec(path, speak=with_options, environ=environ, sets=sets)


def mistakes(tmp_path: Path, text: str | bytes, *sets: str, **environ: str) -> list[str]:
    """Each mistake on its own line, without the folder."""
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text, *sets, **environ)
    assert caught.value.exit == Exit.USAGE
    lines = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    return lines if len(lines) == 1 else [line.strip() for line in lines[1:]]


def test_a_good_spec_loads_and_needs_no_secret_for_it(tmp_path: Path) -> None:
    spec = load(tmp_path, GOOD)
    assert spec.tests == ("ttft",)
    assert spec.model.targets["claude"].headers == {"authorization": "Bearer ${TOKEN}"}
    assert spec.model.tests.ttft is not None
    assert spec.model.tests.ttft.requests == 120
    assert set(spec.prompts) == {"short", "medium", "long", "endless"}


BAD = """\
[environments.staging]
url = "https://staging.example.com"
knd = "staging"
kind = "stagin"
max = { streams = 100, usd = -5 }
[targets.claude]
path = "api/chat"
dialect = "ai_sdk"
headers = { "bad name" = "x", x-a = "a\\u0007b", X-A = "c" }
usd_per_mtok = { in = 3, ou = 15 }
control = "claud"
[targets.gpt]
url = "api.example.com"
dialect = "openai-chat"
rpm = "400"
body = "no slot"
[targets.each]
url = "http://localhost"
dialect = "anthropic"
tls = { key = "k.pem" }
[prompts.mine]
file = "nope.txt"
[prompts.none]
[tests.tfft]
requests = 1
[tests.ttft]
requests = 1.5
duration = "fast"
targets = ["claude", "gtp"]
prompts = ["short", "shrt"]
criteria = [
  "ttft_ms.p95 < 1000",
  "tft_ms.p95 < 1000",
  { rule = "error_rate < 0.5", targt = "claude" },
  { rule = "drops == 0", phase = "stress", target = "nobody" },
  { rule = "default", advisory = true },
]
[tests.concurrent]
concurrency = 0
rate = nan
timeouts = { conect = 3 }
[test]
x = 1
"""


def test_all_mistakes_are_told_at_once_with_line_key_and_the_right_name(tmp_path: Path) -> None:
    found = mistakes(tmp_path, BAD)
    expected = [
        (3, "environments.staging.knd", 'unknown key; did you mean "kind"? Allowed: url, kind, max'),
        (
            4,
            "environments.staging.kind",
            'must be one of local, staging, production, not the text "stagin"; did you mean',
        ),
        (5, "environments.staging.max.usd", "must be above 0, not -5"),
        (7, "targets.claude.path", 'must begin with "/"'),
        (8, "targets.claude.dialect", "did you mean 'ai-sdk'?"),
        (9, 'targets.claude.headers."bad name"', "is not a header name"),
        (9, "targets.claude.headers.x-a", "control character (U+0007 at position 2)"),
        (9, "targets.claude.headers.X-A", "is there twice"),
        (10, "targets.claude.usd_per_mtok", 'key "out" is missing'),
        (10, "targets.claude.usd_per_mtok.ou", 'unknown key; did you mean "out"?'),
        (11, "targets.claude.control", 'no target "claud"; did you mean "claude"?'),
        (13, "targets.gpt.url", '"api.example.com" has no scheme; write "https://api.example.com"'),
        (15, "targets.gpt.rpm", 'must be a number, not the text "400"'),
        (16, "targets.gpt.body", "holds no {prompt}"),
        (17, "targets.each", "choose another name"),
        (20, "targets.each.tls", "key is given without cert"),
        (22, "prompts.mine.file", "nope.txt: cannot read a prompt file"),
        (23, "prompts.none", "give one of file and texts"),
        (24, "tests.tfft", 'no such test "tfft"; did you mean "ttft"? Tests: ttft, concurrent'),
        (27, "tests.ttft.requests", "must be a whole number, not 1.5"),
        (28, "tests.ttft.duration", '"fast" is not a duration'),
        (29, "tests.ttft.targets[2]", 'no target "gtp" here; did you mean "gpt"?'),
        (30, "tests.ttft.prompts[2]", 'no prompt set "shrt" here; did you mean "short"?'),
        (33, "tests.ttft.criteria[2].rule", 'no metric "tft_ms"; did you mean "ttft_ms"?'),
        (34, "tests.ttft.criteria[3].rule", "means 50 %"),
        (34, "tests.ttft.criteria[3].targt", 'unknown key; did you mean "target"?'),
        (36, "tests.ttft.criteria[5]", "takes nothing beside it"),
        (39, "tests.concurrent.concurrency", "must be at least 1, not 0"),
        (40, "tests.concurrent.rate", "must be a finite number, not nan"),
        (41, "tests.concurrent.timeouts.conect", 'unknown key; did you mean "connect"?'),
        (42, "test", 'unknown key; did you mean "tests"?'),
    ]
    for line, key, words in expected:
        hits = [one for one in found if one.startswith(f"streamgauge.toml:{line}: {key}: ")]
        assert any(words in one for one in hits), (line, key, words, hits)
    assert len(found) == len(expected)
    assert [int(one.split(":")[1]) for one in found] == sorted(line for line, _, _ in expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[targets.a]\nurl = \n", "streamgauge.toml:2: not TOML: Invalid value"),
        ("[targets.a]\nurl = 'x\n", "streamgauge.toml:2: not TOML"),
        ("a = 1\nb = 2\na = 3\n", "3: not TOML: 'a = ...' is there twice; it stands first on line 1"),
        ("[targets.a]\nurl = 'x'\n\n[targets.a]\n", "4: not TOML: '[targets.a]' is there twice; it stands first"),
        (b"# ok\nname = '\xff\xfe'\n", "streamgauge.toml:2: byte 0xff is not UTF-8; save a spec as UTF-8"),
        ("x = " + "[" * 5000, "streamgauge.toml"),
        ("", "names no target; add [targets.NAME]"),
        ("targets = 3\n", "streamgauge.toml: names no target"),
        ("targets = { a = 3 }\n", "streamgauge.toml:1: targets.a: must be a table, not 3"),
        ("[ttft]\nrequests = 3\n[targets.a]\nurl='http://localhost'\ndialect='ai-sdk'\n", "(write [tests.ttft])"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_spec_is_told_with_its_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    assert words in mistakes(tmp_path, text)[0]


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistake(tmp_path: Path) -> None:
    spec = load(tmp_path, b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert list(spec.model.targets) == ["claude", "direct"]


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    assert "at most 10 MB" in mistakes(tmp_path, b"#" * 10_000_001)[0]


def test_a_missing_config_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    assert find_spec(None, tmp_path) is None
    with pytest.raises(UsageError, match="does not exist; name a spec file"):
        find_spec("other.toml", tmp_path)
    with pytest.raises(UsageError, match="is a folder"):
        find_spec(".", tmp_path)
    (tmp_path / "streamgauge.toml").write_text(GOOD)
    assert find_spec(None, tmp_path) == tmp_path / "streamgauge.toml"


def test_flags_win_over_variables_and_variables_over_the_file(tmp_path: Path) -> None:
    def requests(spec: Spec) -> int | None:
        return spec.model.tests.ttft.requests if spec.model.tests.ttft else None

    assert requests(load(tmp_path, GOOD)) == 120
    assert requests(load(tmp_path, GOOD, STREAMGAUGE_TTFT__REQUESTS="7")) == 7
    assert requests(load(tmp_path, GOOD, "ttft.requests=9", STREAMGAUGE_TTFT__REQUESTS="7")) == 9
    assert requests(load(tmp_path, GOOD, STREAMGAUGE_TESTS__TTFT__REQUESTS="8")) == 8


def test_a_variable_finds_names_it_cannot_spell(tmp_path: Path) -> None:
    text = GOOD.replace("targets.direct", 'targets."GPT-4.1"').replace('"direct"', '"GPT-4.1"')
    spec = load(tmp_path, text, STREAMGAUGE_TARGETS__GPT_4_1__MODEL="gpt-4.1-mini")
    assert spec.model.targets["GPT-4.1"].model == "gpt-4.1-mini"


def test_other_variables_of_ours_are_left_alone_but_a_slip_is_told(tmp_path: Path) -> None:
    load(tmp_path, GOOD, STREAMGAUGE_REQUIRE_REAL="1", STREAMGAUGE_ENV="staging")
    found = mistakes(tmp_path, GOOD, STREAMGAUGE_TTFT_REQUESTS="5")
    assert found == [
        "STREAMGAUGE_TTFT_REQUESTS: sets no key; levels are parted by two underscores: STREAMGAUGE_TTFT__REQUESTS?"
    ]


def test_a_mistake_in_a_flag_or_variable_names_it_and_not_the_file(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path, GOOD, "ttft.requests=many", "nonsense", "targets.claude.path.x=1", STREAMGAUGE_TTFT__RATE="inf"
    )
    assert found[0].startswith("--set nonsense: is not key.path=value")
    assert found[1].startswith("--set targets.claude.path.x: targets.claude.path is no table")
    assert "--set tests.ttft.requests: tests.ttft.requests: must be a whole number" in "\n".join(found)
    assert "STREAMGAUGE_TTFT__RATE: tests.ttft.rate: must be a finite number, not inf" in "\n".join(found)
    assert len(found) == 4


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5), ("1.5", 1.5), ("true", True), ('["a"]', ["a"]), ('"5"', "5"), ("gpt-4o", "gpt-4o"), ("", ""),
        ("1\nb=2", "1\nb=2"),
    ],
)  # fmt: skip
def test_a_value_is_toml_or_the_text_itself(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_a_set_flag_knows_quoted_names_and_values_with_equals_signs() -> None:
    assert split_set('targets."gpt-4.1=x".model=a=b') == (("targets", "gpt-4.1=x", "model"), "a=b")
    assert split_set("ttft.requests = 5") == (("tests", "ttft", "requests"), 5)
    assert split_set("=5") is None
    assert split_set("a b=5") is None


@given(st.text(max_size=30))
@settings(deadline=None)
def test_any_set_flag_is_read_or_refused(text: str) -> None:
    split_set(text)


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=60))
@settings(deadline=None)
def test_a_secret_written_to_the_secrets_file_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, value: str
) -> None:
    path = tmp_path_factory.mktemp("env") / ".env.streamgauge"
    path.write_bytes(f"# comment\nexport OTHER=1 # one\n{dotenv_line('NAME', value)}\n".encode())
    noted = Mistakes(Places(path.name))
    assert read_dotenv(path, noted) == {"OTHER": "1", "NAME": value}
    assert noted.found == []


def test_a_broken_secrets_file_is_told_by_line_and_never_by_value(tmp_path: Path) -> None:
    (tmp_path / ".env.streamgauge").write_text("A=1\nS3cr3t value\nB='S3cr3t\n9X=S3cr3t\n")
    found = mistakes(tmp_path, GOOD)
    assert [one.split(": ")[0] for one in found] == [f".env.streamgauge:{line}" for line in (2, 3, 4)]
    assert "S3cr3t" not in "\n".join(found)


@pytest.mark.parametrize(
    "line", ['headers = { authorization = 5, x = ["S3cr3t"] }', 'body = ["S3cr3t"]', 'url = ["S3cr3t"]']
)
def test_a_value_that_may_be_secret_is_never_shown(tmp_path: Path, line: str) -> None:
    found = mistakes(tmp_path, f"[targets.a]\ndialect = 'anthropic'\n{line}\n")
    assert "S3cr3t" not in "\n".join(found)
    assert "must be a text" in "\n".join(found)


def test_an_option_that_the_dialect_does_not_have_is_a_mistake(tmp_path: Path) -> None:
    text = "[targets.a]\nurl='http://localhost'\ndialect='anthropic'\n\ndialect_options = { nonsense = 1 }\n"
    (found,) = mistakes(tmp_path, text)
    assert found.startswith("streamgauge.toml:5: targets.a.dialect_options: dialect anthropic has no option 'nonsense'")


def test_digest_sees_what_is_asked_and_neither_order_nor_secrets(tmp_path: Path) -> None:
    base = digest(load(tmp_path, GOOD))
    blocks = re.split(r"\n(?=\[)", GOOD)
    assert digest(load(tmp_path, "# other\n" + "\n".join(reversed(blocks)))) == base
    assert digest(load(tmp_path, GOOD, "ttft.requests=121")) != base
    assert len(base) == 64
    literal = GOOD.replace("Bearer ${TOKEN}", "Bearer one-secret")
    assert digest(load(tmp_path, literal)) == digest(load(tmp_path, literal.replace("one-secret", "another")))


def test_from_url_makes_one_target_and_tells_flags_by_name(tmp_path: Path) -> None:
    spec = from_url(
        "https://api.example.com",
        dialect="openai-chat",
        model="m",
        headers=[("X-A", "b")],
        speak=with_options,
        environ={},
    )
    assert list(spec.model.targets) == ["target"]
    assert spec.path is None
    with pytest.raises(UsageError) as caught:
        from_url("api.example.com", dialect="opnai", headers=[("a b", "c")], speak=with_options, environ={})
    text = str(caught.value)
    assert '--url: targets.target.url: "api.example.com" has no scheme' in text
    assert "--dialect: targets.target.dialect: no dialect 'opnai'" in text
    assert '-H: targets.target.headers."a b": ' in text


def test_from_url_keeps_the_environments_that_a_spec_names(tmp_path: Path) -> None:
    named = load(tmp_path, GOOD)
    spec = from_url("https://staging.example.com/x", dialect="ai-sdk", speak=with_options, environ={}, named=named)
    assert list(spec.model.environments) == ["staging"]
    assert list(spec.model.targets) == ["target"]
    assert spec.tests == ("ttft",)


def test_a_variable_for_a_target_of_the_file_does_not_disturb_a_url() -> None:
    spec = from_url(
        "http://localhost",
        dialect="ai-sdk",
        speak=with_options,
        environ={"STREAMGAUGE_TARGETS__CLAUDE__MODEL": "m", "STREAMGAUGE_TTFT__REQUESTS": "70"},
    )
    assert list(spec.model.targets) == ["target"]
    assert spec.model.tests.ttft is not None
    assert spec.model.tests.ttft.requests == 70

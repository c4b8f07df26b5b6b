"""`streamgauge init`: what is written loads back, resolves to the request that was copied, and overwrites nothing."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from browsers import chrome, firefox
from streamgauge.cli.init import init
from streamgauge.cli.spec_text import toml_text
from streamgauge.dialects import with_options
from streamgauge.dialects.contract import Ask
from streamgauge.dialects.template import fill, fill_path, json_text
from streamgauge.errors import Exit, UsageError
from streamgauge.spec.load import load_spec
from streamgauge.spec.resolve import resolve
from streamgauge.spec.resolved import Resolved

CHAT = "6f0b6f3e-8f5e-4f0c-9a39-1f2f0f7f9a11"
MESSAGE = "0b5c1a52-7d1e-4a9a-9c4f-2f1b7f5e6d7c"
PROMPT = 'It\'s late!\nWhy is the sky "blue"? \\o/ café 😀'
SESSION = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..9d8f7a6b5c4d.abc-DEF_123"


@dataclass(frozen=True)
class Copied:
    """A request as the browser sent it, and what of it must come back."""

    name: str
    url: str
    body: dict[str, object]
    headers: dict[str, str]
    kept: dict[str, str]
    dialect: str
    secrets: tuple[str, ...]
    prompt_at: str


NOISE = {
    "accept": "*/*",
    "accept-language": "en-US,en;q=0.9",
    "accept-encoding": "gzip, deflate, br, zstd",
    "content-type": "application/json",
    "sec-ch-ua": '"Chromium";v="140", "Not=A?Brand";v="24"',
    "sec-fetch-mode": "cors",
    "user-agent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15)",
    "priority": "u=1, i",
    "referer": f"https://staging.acme.dev/chat/{CHAT}",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
PARTS = [{"type": "text", "text": PROMPT}]
COPIES = [
    Copied(
        "ai-sdk behind a login",
        "https://staging.acme.dev/api/chat",
        {"id": CHAT, "trigger": "submit-message", "messages": [{"id": MESSAGE, "role": "user", "parts": PARTS}],
         "modelId": "claude-sonnet", "visibility": "private"},
        {**NOISE, "origin": "https://staging.acme.dev", "x-csrf-token": "8c1f0e9b7a6d",
         "cookie": f"__Secure-authjs.session-token={SESSION}; _ga=GA1.1.2; AWSALB=pin1; AWSALBCORS=pin1; theme=dark"},
        {"origin": "https://staging.acme.dev", "x-csrf-token": "8c1f0e9b7a6d",
         "cookie": f"__Secure-authjs.session-token={SESSION}; theme=dark"},
        "ai-sdk", (SESSION, "8c1f0e9b7a6d"), "messages[0].parts[0].text",
    ),
    Copied(
        "openai-chat",
        "https://api.openai.com/v1/chat/completions",
        {"model": "gpt-4o-mini", "stream": True, "temperature": 0.7, "max_tokens": 256,
         "messages": [{"role": "system", "content": "Be {brief}. ${HOME} {prompt}"},
                      {"role": "user", "content": PROMPT}]},
        {**NOISE, "authorization": "Bearer sk-proj-abcDEF1234567890abcdef"},
        {"authorization": "Bearer sk-proj-abcDEF1234567890abcdef"},
        "openai-chat", ("sk-proj-abcDEF1234567890abcdef",), "messages[1].content",
    ),
    Copied(
        "anthropic",
        "https://api.anthropic.com/v1/messages",
        {"model": "claude-sonnet-4-5", "max_tokens": 64, "stream": True, "system": "Be brief.",
         "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
                      {"role": "user", "content": [{"type": "text", "text": PROMPT}]}]},
        {**NOISE, "x-api-key": "sk-ant-api03-abcdefghijklmnop", "anthropic-version": "2023-06-01"},
        {"x-api-key": "sk-ant-api03-abcdefghijklmnop", "anthropic-version": "2023-06-01"},
        "anthropic", ("sk-ant-api03-abcdefghijklmnop",), "messages[2].content[0].text",
    ),
    Copied(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.0-flash:streamGenerateContent"
        "?alt=sse&key=AIzaSyA1234567890abcdefghijklmnopqrstuv",
        {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}], "generationConfig": {"maxOutputTokens": 99}},
        NOISE, {}, "gemini", ("AIzaSyA1234567890abcdefghijklmnopqrstuv",), "contents[0].parts[0].text",
    ),
    Copied(
        "fields of its own",
        f"http://localhost:3000/api/conversations/{CHAT}/ask?stream=1",
        {"question": PROMPT, "conversationId": CHAT, "requestId": MESSAGE,
         "orgId": "11111111-2222-4333-8444-555555555555",
         "options": {"accessToken": "tok-\"quoted\"-12345", "deep": [1, 2.5, None, True]}},
        {**NOISE, "x-tenant": "acme"}, {"x-tenant": "acme"},
        "ai-sdk", ('tok-"quoted"-12345',), "question",
    ),
]  # fmt: skip


def as_chrome(copied: Copied) -> str:
    lines = [f"curl {chrome(copied.url)}"]
    for name, value in copied.headers.items():
        if name == "accept-encoding":
            continue  # Chrome leaves it out
        lines.append(f"-b {chrome(value)}" if name == "cookie" else f"-H {chrome(f'{name}: {value}')}")
    lines.append(f"--data-raw {chrome(json.dumps(copied.body, ensure_ascii=False, separators=(',', ':')))}")
    return " \\\n  ".join(lines) + "\n"


def as_firefox(copied: Copied) -> str:
    words = [f"curl {firefox(copied.url)}", "--compressed", "-X POST"]
    words += [f"-H {firefox(f'{name.title()}: {value}')}" for name, value in copied.headers.items()]
    words += ["-H 'Connection: keep-alive'", "-H 'TE: trailers'"]
    return " ".join(
        [*words, f"--data-raw {firefox(json.dumps(copied.body, ensure_ascii=False, separators=(',', ':')))}"]
    )


def as_safari(copied: Copied) -> str:
    words = [f"curl {firefox(copied.url)}", "-X 'POST'"]
    words += [f"-H {firefox(f'{name.title()}: {value}')}" for name, value in copied.headers.items()]
    body = firefox(json.dumps(copied.body, ensure_ascii=False, separators=(",", ":")))
    return " \\\n".join([*words, f"-H 'Content-Length: 123' \\\n--data-binary {body}"])


def run(folder: Path, *arguments: str, text: str | None = None) -> Result:
    """Run init in `folder`."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return CliRunner().invoke(init, list(arguments), input=text, catch_exceptions=True)
    finally:
        os.chdir(before)


def loaded(folder: Path) -> Resolved:
    spec = load_spec(folder / "streamgauge.toml", speak=with_options, environ={})
    return resolve(spec, None, {}, "ttft")


def limit_of(body: dict[str, object]) -> int | None:
    config = body.get("generationConfig", {})
    found = body.get("max_tokens") or (config.get("maxOutputTokens") if isinstance(config, dict) else None)
    return found if isinstance(found, int) else None


@pytest.mark.parametrize("browser", [as_chrome, as_firefox, as_safari])
@pytest.mark.parametrize("copied", COPIES, ids=lambda one: one.name)
def test_what_is_written_resolves_to_the_request_that_was_copied(
    tmp_path: Path, copied: Copied, browser: object
) -> None:
    text = browser(copied)  # type: ignore[operator]
    result = run(tmp_path, "--from-curl", "-", text=text)
    assert result.exit_code == 0, result.exception
    (target,) = loaded(tmp_path).targets
    ask = Ask(prompt=PROMPT, model=target.model, max_tokens=limit_of(copied.body), chat_id=CHAT)

    assert target.body is not None
    assert json.loads(fill(target.body, ask, json_text, fresh=lambda: MESSAGE)) == copied.body
    assert target.origin + fill_path(target.path, ask) == copied.url
    assert {header.name: header.value for header in target.headers} == copied.kept
    assert target.dialect == copied.dialect
    assert f"prompt   goes to {copied.prompt_at}" in result.output


@pytest.mark.parametrize("copied", COPIES, ids=lambda one: one.name)
def test_secrets_are_in_the_ignored_file_only(tmp_path: Path, copied: Copied) -> None:
    result = run(tmp_path, "--from-curl", "-", text=as_chrome(copied))
    spec = (tmp_path / "streamgauge.toml").read_text()
    resolved = loaded(tmp_path)
    for secret in copied.secrets:
        assert secret not in result.output
        assert secret not in spec
        assert secret in resolved.secrets
    assert stat.S_IMODE((tmp_path / ".env.streamgauge").stat().st_mode) == 0o600
    assert ".env.streamgauge" in (tmp_path / ".gitignore").read_text().splitlines()


def test_a_proxy_is_kept_and_its_password_stands_in_the_ignored_file_only(tmp_path: Path) -> None:
    result = run(
        tmp_path, "--from-curl", "-", text=as_chrome(COPIES[1]).rstrip() + " -x http://m%20e:p%40ss%24@h.example:1"
    )
    assert "secret   the proxy's password -> $SG_PROXY_PASSWORD in .env.streamgauge" in result.output
    spec = (tmp_path / "streamgauge.toml").read_text()
    assert 'proxy = "http://m%20e:${SG_PROXY_PASSWORD}@h.example:1"' in spec
    proxy = loaded(tmp_path).targets[0].proxy
    assert proxy is not None
    assert (proxy.host, proxy.port) == ("h.example", 1)
    assert proxy.authorization == "Basic " + base64.b64encode(b"m e:p@ss$").decode()
    for text in (spec, result.output):
        assert "p@ss" not in text
        assert "p%40ss" not in text


def test_each_decision_is_printed(tmp_path: Path) -> None:
    (tmp_path / "request.txt").write_text(as_chrome(COPIES[0]))
    lines = run(tmp_path, "--from-curl", "request.txt").output.splitlines()
    assert lines[0] == (
        "target   POST https://staging.acme.dev/api/chat   dialect ai-sdk (messages[].parts)   "
        "kept 2 body fields of your own"
    )
    for line in (
        "prompt   goes to messages[0].parts[0].text",
        "new      chat id (id), id messages[0].id: new for each request",
        "secret   cookie __Secure-authjs.session-token -> $SG_SESSION in .env.streamgauge (git-ignored)",
        "secret   header x-csrf-token -> $SG_CSRF in .env.streamgauge (git-ignored)",
        "secret   request.txt still holds them in the clear; delete it",
        "dropped  cookie _ga (analytics)",
        "dropped  cookie AWSALB, AWSALBCORS (pins all load on one server)",
        "guard    public host: kind production, at most 10 streams, 3,000 requests, 1 M tokens and 5 USD a run, "
        "until you raise max",
        "wrote    streamgauge.toml and .env.streamgauge",
        "next     streamgauge check",
    ):  # fmt: skip
        assert line in lines
    assert any(line.startswith("csrf     header x-csrf-token lives as long as the session") for line in lines)


def test_ids_of_ones_own_stay_and_are_told(tmp_path: Path) -> None:
    output = run(tmp_path, "--from-curl", "-", text=as_chrome(COPIES[4])).output
    assert "kept     orgId: an id of yours?" in output
    assert "dialect  ai-sdk is a guess" in output
    assert "guard    localhost is loopback" in output


def test_a_public_host_gets_the_guards_stops_in_writing(tmp_path: Path) -> None:
    run(tmp_path, "--from-curl", "-", text=as_chrome(COPIES[0]))
    environment = tomllib.loads((tmp_path / "streamgauge.toml").read_text())["environments"]["staging"]
    assert environment["kind"] == "production"
    assert environment["max"] == {"streams": 10, "requests": 3000, "tokens": 1_000_000, "usd": 5}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "streamgauge.toml").write_text("mine")
    result = run(tmp_path, "--from-curl", "-", text=as_chrome(COPIES[0]))
    assert isinstance(result.exception, UsageError)
    assert result.exception.exit == Exit.USAGE
    assert "is there already and is not overwritten" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["streamgauge.toml"]
    assert (tmp_path / "streamgauge.toml").read_text() == "mine"


def test_secrets_that_are_there_stay_and_another_value_gets_another_name(tmp_path: Path) -> None:
    (tmp_path / ".env.streamgauge").write_text("SG_SESSION=another\nMINE='x y'")
    (tmp_path / ".gitignore").write_text("node_modules\n.streamgauge/")
    run(tmp_path, "--from-curl", "-", text=as_chrome(COPIES[0]))
    lines = (tmp_path / ".env.streamgauge").read_text().splitlines()
    assert lines[:2] == ["SG_SESSION=another", "MINE='x y'"]
    assert f"SG_SESSION_2={SESSION}" in lines
    assert "session-token=${SG_SESSION_2}" in (tmp_path / "streamgauge.toml").read_text()
    assert (tmp_path / ".gitignore").read_text().splitlines() == [
        "node_modules", ".streamgauge/", ".env.streamgauge", "tests/performance/reports/",
    ]  # fmt: skip
    second = run(tmp_path, "--from-curl", "-", "--config", "two.toml", text=as_chrome(COPIES[0]))
    assert second.exit_code == 0
    assert (tmp_path / ".env.streamgauge").read_text().splitlines() == lines
    assert "next     streamgauge check --config two.toml" in second.output


@pytest.mark.parametrize(
    ("arguments", "body", "words"),
    [
        ((), "a=1", "the body is not JSON"),
        ((), "[1]", "JSON but no object"),
        ((), '{"a": 1}', "add --prompt 'the words you typed'"),
        (("--prompt", "nowhere"), '{"a": "b"}', "'nowhere' is nowhere in the request's body"),
        (("--dialect", "opnai"), '{"a": "b"}', "no dialect 'opnai'"),
        (("--url", "http://localhost"), '{"a": "b"}', "leave --url out"),
        (("--target", "each"), '{"prompt": "b"}', "streamgauge.toml"),
    ],
)
def test_what_cannot_be_drafted_is_refused_and_leaves_no_spec(
    tmp_path: Path, arguments: tuple[str, ...], body: str, words: str
) -> None:
    text = f"curl 'https://h.example/x' --data-raw {chrome(body)}"
    result = run(tmp_path, "--from-curl", "-", *arguments, text=text)
    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)
    assert not [path for path in tmp_path.iterdir() if "toml" in path.name]


def test_the_words_typed_find_a_prompt_that_is_hidden_in_a_longer_text(tmp_path: Path) -> None:
    text = f"curl http://localhost/x --data-raw {chrome(json.dumps({'blob': 'Answer {chat}: why blue? Now.'}))}"
    assert run(tmp_path, "--from-curl", "-", "--prompt", "why blue?", text=text).exit_code == 0
    body = loaded(tmp_path).targets[0].body
    assert body is not None
    filled = fill(body, Ask(prompt="why blue?", chat_id="no"), json_text)
    assert json.loads(filled) == {"blob": "Answer {chat}: why blue? Now."}


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "Q?"}]}]}, "input[0].content[0].text"),
        ({"input": "Q?", "model": "m"}, "input"),
        ({"message": {"role": "user", "parts": [{"type": "text", "text": "Q?"}]}}, "message.parts[0].text"),
        ({"data": {"userInput": "Q?"}}, "data.userInput"),
        ({"messages": [{"role": "user", "content": "old"}, {"role": "assistant", "content": "x"},
                       {"role": "user", "content": "Q?"}]}, "messages[2].content"),
        ({"messages": [{"type": "human", "text": "Q?"}]}, "messages[0].text"),
        ({"0": {"json": {"messages": [{"role": "user", "content": "Q?"}]}}}, "0.json.messages[0].content"),
    ],
)  # fmt: skip
def test_the_prompt_is_found_in_the_shapes_routes_use(tmp_path: Path, body: dict[str, object], at: str) -> None:
    text = f"curl http://localhost/x --data-raw {chrome(json.dumps(body))}"
    assert f"prompt   goes to {at}" in run(tmp_path, "--from-curl", "-", text=text).output


def test_flags_make_a_spec_too_and_a_literal_secret_is_moved(tmp_path: Path) -> None:
    result = run(
        tmp_path, "--url", "https://api.example.com/v1/x", "--dialect", "openai-chat", "--model", "m-1",
        "--env", "prod eu", "--kind", "staging", "--target", "main",
        "-H", "Authorization: Bearer abcdef123456", "-H", "X-A: ${FROM_CI}",
    )  # fmt: skip
    assert result.exit_code == 0, result.exception
    spec = tomllib.loads((tmp_path / "streamgauge.toml").read_text())
    assert spec["environments"]["prod eu"]["kind"] == "staging"
    assert spec["targets"]["main"]["headers"] == {"authorization": "Bearer ${SG_TOKEN}", "x-a": "${FROM_CI}"}
    assert (tmp_path / ".env.streamgauge").read_text() == "SG_TOKEN=abcdef123456\n"
    assert "abcdef123456" not in result.output


def test_a_providers_usual_key_is_referred_to(tmp_path: Path) -> None:
    run(tmp_path, "--url", "https://api.anthropic.com", "--dialect", "anthropic", "--model", "m")
    spec = tomllib.loads((tmp_path / "streamgauge.toml").read_text())
    assert spec["targets"]["m"]["headers"] == {"x-api-key": "${ANTHROPIC_API_KEY}"}
    assert not (tmp_path / ".env.streamgauge").exists()


def test_a_local_url_needs_no_key(tmp_path: Path) -> None:
    run(tmp_path, "--url", "http://localhost:8080/api/chat", "--dialect", "ai-sdk")
    (target,) = loaded(tmp_path).targets
    assert (target.name, target.path, target.headers) == ("chat", "/api/chat", ())


@pytest.mark.parametrize(
    ("url", "dialect", "model", "asked"),
    [
        ("http://localhost:3000/api/chat", "ai-sdk", None, "http://localhost:3000/api/chat"),
        ("http://localhost/v1/messages/", "anthropic", "m", "http://localhost/v1/messages/"),
        ("https://api.openai.com", "openai-chat", "m", "https://api.openai.com/v1/chat/completions"),
        (
            "https://generativelanguage.googleapis.com", "gemini", "g-2",
            "https://generativelanguage.googleapis.com/v1beta/models/g-2:streamGenerateContent?alt=sse",
        ),
    ],
)  # fmt: skip
def test_what_the_url_tells_is_taken_and_said_with_the_whole_path(
    tmp_path: Path, url: str, dialect: str, model: str | None, asked: str
) -> None:
    output = run(tmp_path, "--url", url, *(("--model", model) if model else ())).output
    assert f"target   POST {asked}   dialect {dialect}\n" in output
    assert f"dialect  {dialect}, as the url tells; else --dialect " in output
    (target,) = tomllib.loads((tmp_path / "streamgauge.toml").read_text())["targets"].values()
    assert target["dialect"] == dialect


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to start from: give --url URL --dialect NAME, or --from-curl FILE"),
        (("--url", "api.example.com"), 'write "https://api.example.com"'),
        (("--url", "http://localhost/api/chat", "-H", "nonsense"), 'is not "Name: value"'),
        (("--url", "http://localhost/api/chat", "-H", "a b: c"), "is not a header name"),
        (("--url", "http://localhost"), "add --dialect openai-chat, anthropic, gemini or ai-sdk"),
        (("--from-curl", "nope.txt"), "nope.txt: cannot be read"),
        (("--url", "http://localhost", "--config", "no/such/x.toml"), "there is no folder no/such"),
    ],
)
def test_flags_that_cannot_be_are_told(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    result = run(tmp_path, *arguments)
    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)
    assert list(tmp_path.iterdir()) == []


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=40))
def test_any_text_survives_being_written_as_toml(text: str) -> None:
    # A carriage return and line feed in a multi-line literal would be read as a line feed alone.
    assert tomllib.loads(f"x = {toml_text(text)}")["x"] == text


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_on_a_terminal_it_asks(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    os.write(ours, b"nonsense\nhttp://localhost:9/api/chat\n\nmy-model\n")
    code = "from streamgauge.cli.init import init; init()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdin=theirs,
        capture_output=True,
        cwd=tmp_path,
        text=True,
        timeout=300,
        check=False,
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0, done.stderr
    assert '"nonsense" has no scheme' in done.stdout + done.stderr
    (target,) = loaded(tmp_path).targets
    assert (target.origin, target.path, target.dialect, target.model) == (
        "http://localhost:9", "/api/chat", "ai-sdk", "my-model",
    )  # fmt: skip


def test_a_prompt_that_is_sent_twice_is_new_at_both_places_but_earlier_messages_stay(tmp_path: Path) -> None:
    body = {
        "message": {"role": "user", "content": "Why is it so?", "parts": [{"type": "text", "text": "Why is it so?"}]},
        "history": [{"role": "user", "content": "Why?"}],
    }
    out = run(tmp_path, "--from-curl", "-", text=f"curl http://localhost/api/chat -d '{json.dumps(body)}'").output
    assert "goes to message.parts[0].text, message.content" in out
    spec = tomllib.loads((tmp_path / "streamgauge.toml").read_text())
    written = json.loads(spec["targets"]["chat"]["body"])
    assert written["message"]["content"] == written["message"]["parts"][0]["text"] == "{prompt}"
    assert written["history"] == body["history"]
    again = {"messages": [{"role": "user", "content": "Again"}, {"role": "user", "content": "Again"}]}
    text = f"curl http://localhost/x -d '{json.dumps(again)}'"
    out = run(tmp_path, "--from-curl", "-", "--config", "b.toml", text=text).output
    assert "1 earlier message of the chat goes along" in out
    assert '{"role":"user","content":"Again"},{"role":"user","content":"{prompt}"}' in (tmp_path / "b.toml").read_text()


def test_instructions_are_no_earlier_message(tmp_path: Path) -> None:
    body = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]}
    out = run(tmp_path, "--from-curl", "-", text=f"curl http://localhost/x -d '{json.dumps(body)}'").output
    assert "goes to messages[1].content" in out
    assert "earlier message" not in out

"""The redactor: a planted secret never survives, and the text around it does."""

from __future__ import annotations

import base64
import html
import json
import shlex
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamgauge.secrets import MIN_LENGTH, Redactor, is_sensitive, looks_secret, secrets_of

SECRETS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=8, max_size=40)
AROUND = st.text(max_size=60)
WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "percent-encoded": lambda s: quote(s, safe=""),
    "percent-encoded path": quote,
    "JSON": lambda s: json.dumps(s)[1:-1],
    "JSON in UTF-8": lambda s: json.dumps(s, ensure_ascii=False)[1:-1],
    "HTML": html.escape,
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 behind one byte": lambda s: base64.b64encode(b"u" + s.encode()).decode(),
    "base64 of user:secret": lambda s: base64.b64encode(b"us:" + s.encode() + b"!").decode(),
    "url-safe base64": lambda s: base64.urlsafe_b64encode(b"uu" + s.encode()).decode().rstrip("="),
    "repr": lambda s: repr(s)[1:-1],
}


@pytest.mark.parametrize("form", list(WRITTEN))
@given(secret=SECRETS, before=AROUND, after=AROUND)
@settings(max_examples=60, deadline=None)
@example(secret="redacted", before="[", after="]")
@example(secret="[redacted]", before="", after="")
@example(secret="aaaaaaaa", before="aaa", after="aaa")
def test_a_planted_secret_never_survives(form: str, secret: str, before: str, after: str) -> None:
    written = WRITTEN[form](secret)
    redactor = Redactor([secret])
    text = f"{before} {written} {after}"

    assert secret not in redactor.text(text)
    assert secret.encode() not in redactor.bytes(text.encode("utf-8", "surrogatepass"))
    # In another form at least the readable core of it is gone.
    assert written not in redactor.text(text) or written in f"{before} {redactor.mark} {after}"


@given(st.binary(max_size=80), SECRETS)
@settings(max_examples=100, deadline=None)
def test_bytes_that_are_no_text_stay_as_they_are_around_a_secret(noise: bytes, secret: str) -> None:
    raw = secret.encode()
    out = Redactor([secret]).bytes(noise + b"\xff" + raw + b"\xfe")
    assert raw not in out


@given(st.text(alphabet=st.sampled_from("abcdef ghij.,!\n"), max_size=200))
def test_a_text_without_secrets_is_left_alone(text: str) -> None:
    assert Redactor(["S3cr3t-value"]).text(text) == text


@pytest.mark.parametrize("value", ["", "1", "true", "a" * (MIN_LENGTH - 1)])
def test_a_short_value_does_not_eat_the_text(value: str) -> None:
    text = f"1 of 10 was true: {value} aaa"
    assert Redactor([value]).text(text) == text


def test_two_secrets_that_overlap_are_both_hidden() -> None:
    out = Redactor(["abcdefgh", "defghijk"]).text("x abcdefghijk y")
    assert "abcdefgh" not in out
    assert "defghijk" not in out


def test_a_longer_secret_goes_before_one_that_is_a_part_of_it() -> None:
    assert Redactor(["abcdef", "abcdef-123456"]).text("key abcdef-123456.") == "key [redacted]."


@pytest.mark.parametrize(
    "token",
    [
        "sk-proj-abcDEF1234567890abcdef",
        "sk-ant-api03-abcdefghijklmnopqrstuvwxyz",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
        "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..9d8f7a6b5c.abc-DEF_123.tag",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_abcdefghijklmnopqrst1234",
        "xoxb-123456789012-abcdef",
    ],
)
def test_tokens_are_known_by_their_shape_without_being_told(token: str) -> None:
    assert looks_secret(token)
    assert token not in Redactor([]).text(f"error: key {token} is not valid")


def test_bearer_and_basic_tokens_are_hidden_but_the_words_stay() -> None:
    text = Redactor([]).text("sent Bearer abc123def456 and Basic dXNlcjpwYXNz; Bearer authentication is required")
    assert text == "sent Bearer [redacted] and Basic [redacted]; Bearer authentication is required"


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Token abcdef",
        "cookie: a=1; b=2",
        '"x-api-key": "abc def"',
        "Set-Cookie: sid=abcdef; Path=/",
        "'api-key': 'abcdef'",
    ],
)
def test_a_dump_of_headers_is_hidden_by_name(line: str) -> None:
    out = Redactor([]).text(f"> {line}\n> accept: text/event-stream")
    assert "[redacted]" in out
    assert "abc" not in out
    assert "b=2" not in out
    assert out.endswith("> accept: text/event-stream")


def test_a_reference_to_a_secret_stays_readable() -> None:
    line = '"authorization": "${OPENAI_API_KEY}"'
    assert Redactor([]).text(line) == line


def test_headers_are_hidden_by_name_and_by_value() -> None:
    headers = [("Authorization", "x"), ("X-Api-Key", "k"), ("X-Trace", "id-S3cr3t-value"), ("Accept", "*/*")]
    assert Redactor(["S3cr3t-value"]).headers(headers) == [
        ("Authorization", "[redacted]"),
        ("X-Api-Key", "[redacted]"),
        ("X-Trace", "id-[redacted]"),
        ("Accept", "*/*"),
    ]


@pytest.mark.parametrize(
    ("url", "hidden"),
    [
        ("https://user:pa55@host/x?a=1", "https://[redacted]@host/x?a=1"),
        ("https://h/x?key=AbC&alt=sse", "https://h/x?key=[redacted]&alt=sse"),
        ("https://h/x?access_token=a&api%5Fkey=b", "https://h/x?access_token=[redacted]&api%5Fkey=[redacted]"),
        ("https://h/x?X-Amz-Signature=abc&X-Amz-Date=1", "https://h/x?X-Amz-Signature=[redacted]&X-Amz-Date=1"),
        ("https://h/x?max_tokens=32&keyword=tea", "https://h/x?max_tokens=32&keyword=tea"),
        ("https://h/x?key=${GEMINI_API_KEY}", "https://h/x?key=${GEMINI_API_KEY}"),
        ("not a url", "not a url"),
    ],
)
def test_urls_lose_user_password_and_secret_parameters(url: str, hidden: str) -> None:
    assert Redactor([]).url(url) == hidden


@pytest.mark.parametrize(
    "name", ["Authorization", "x-csrf-token", "apiKey", "clientSecret", "X-Amz-Signature", "session_id", "jwt"]
)
def test_names_that_say_secret_are_sensitive(name: str) -> None:
    assert is_sensitive(name)


@pytest.mark.parametrize(
    "name", ["accept", "max_tokens", "keyword", "author", "content-type", "idempotency-key", "x-tokens"]
)
def test_other_names_are_not_sensitive(name: str) -> None:
    assert not is_sensitive(name)


def test_a_header_gives_its_parts_as_secrets_too() -> None:
    basic = base64.b64encode(b"user:pass-word").decode()
    assert secrets_of("Authorization", f"Basic {basic}") == (f"Basic {basic}", basic, "user:pass-word", "pass-word")
    assert "abcdef123" in secrets_of("cookie", "sid=abcdef123; theme=dark")
    assert secrets_of("x-api-key", "short") == ()
    assert "notbase64!" in secrets_of("authorization", "Basic notbase64!")


def test_a_redactor_shows_no_secret_in_its_repr() -> None:
    assert "S3cr3t" not in repr(Redactor(["S3cr3t-value"]))


def test_a_secret_in_a_command_takes_no_quote_with_it() -> None:
    typed = "streamgauge run ttft -H 'Authorization: Bearer wrong' --url http://h/x"
    hidden = Redactor(["wrong"]).command(typed)
    assert "wrong" not in hidden
    words = shlex.split(hidden)
    assert words[:4] == ["streamgauge", "run", "ttft", "-H"]
    assert words[5:] == ["--url", "http://h/x"]

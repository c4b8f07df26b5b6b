"""The human text of error bodies, in the shapes in which the official SDKs and frameworks know them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.dialects.contract import InBandError
from streamgauge.dialects.errors import error_text, line, told


@pytest.mark.parametrize(
    ("body", "text"),
    [
        # openai 3.54.0, APIError: message, type, param, code
        (b'{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","param":null,"code":"x"}}',
         "Incorrect API key provided"),
        # anthropic 2.12.0, ErrorResponse
        (b'{"type":"error","error":{"type":"not_found_error","message":"model: claude-x"},"request_id":"r"}',
         "model: claude-x"),
        # google-genai 3.4.0, APIError; without alt=sse all of it is an array
        (b'[{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT"}}]', "API key not valid."),
        (b'{"message":"Forbidden"}', "Forbidden"),
        (b'{"Message":"User is not authorized"}', "User is not authorized"),
        (b'{"error":"unauthorized","error_description":"expired"}', "unauthorized"),
        (b'{"detail":[{"loc":["body"],"msg":"Field required","type":"missing"}]}', "Field required"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (b'{"errors":[{"message":"bad"}]}', "bad"),
        (b'{"type":"about:blank","title":"Too Many Requests","status":429}', "Too Many Requests"),
        (b'data: {"error":{"message":"litellm down"}}\n\n', "litellm down"),
        (b"upstream connect error or disconnect\n", "upstream connect error or disconnect"),
        (b"<html>\r\n<head><title>502 Bad Gateway</title></head><body><h1>x</h1></body></html>", "502 Bad Gateway"),
        (b"<HTML><BODY><style>p{}</style><p>Denied &amp; gone</p></BODY></HTML>", "Denied & gone"),
        (b'\xef\xbb\xbf{"message":"bom"}', "bom"),
        (b'"just words"', "just words"),
        (b"", None), (b"  \n", None), (b"<p></p>", None), (b"\x00\x01", None),
    ],
)  # fmt: skip
def test_the_words_of_an_error_body(body: bytes, text: str | None) -> None:
    assert error_text(body) == text


def test_a_long_text_is_cut_and_control_characters_go() -> None:
    text = error_text(b'{"message":"a\\u001b[31mred\\u0000\\n\\u202eb' + b"x" * 9_000 + b'"}')
    assert text is not None
    assert text.startswith("a [31mred b")
    assert len(text) == 300
    assert text.endswith("…")


def test_json_without_words_is_shown_as_it_is() -> None:
    assert error_text(b'{"ok":false}') == '{"ok":false}'
    assert error_text(b'{"error":{}}') == '{"error":{}}'


objects = st.text(max_size=100).map(lambda text: b'{"error":"' + text.encode("utf-8", "replace") + b'"}')


@given(st.binary(max_size=200) | objects)
def test_any_body_gives_one_printable_line_or_none(body: bytes) -> None:
    text = error_text(body)
    assert text is None or (0 < len(text) <= 300 and text.isprintable())


def test_deep_nesting_is_no_exception() -> None:
    assert error_text(b"[" * 60_000) is not None
    assert error_text(b'{"error":' * 5_000 + b'"x"' + b"}" * 5_000) is not None
    assert error_text(b"[[[[[[[[[[" + b'"x"' + b"]]]]]]]]]]") is not None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"message": "m", "type": "tokens", "code": "rate_limit_exceeded"}, InBandError("m", "tokens", True)),
        ({"message": "m", "type": "insufficient_quota"}, InBandError("m", "insufficient_quota", True)),
        ({"message": "m", "code": 529}, InBandError("m", "529", True)),
        ({"message": "m", "code": 1429}, InBandError("m", "1429")),
        ({"message": "429 of 500 words", "code": 400}, InBandError("429 of 500 words", "400")),
        ({"message": {"message": "deep"}}, InBandError("deep")),
        ({"code": "server_error"}, InBandError("server_error", "server_error")),
        (None, InBandError("an error without words")),
        (["Overloaded"], InBandError("Overloaded", None, True)),
        (17, InBandError("an error without words")),
    ],
)
def test_an_in_band_error_and_whether_it_means_too_much_load(error: object, expected: InBandError) -> None:
    assert told(error) == expected


def test_a_line_keeps_letters_of_every_script() -> None:
    assert line("日本語\u00a0ø\t🙂 ") == "日本語 ø 🙂"

"""Body templates: values of any kind come out of the filled JSON as they went in."""

from __future__ import annotations

import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.dialects import DIALECTS
from streamgauge.dialects.contract import Ask
from streamgauge.dialects.template import encode, fill_path, merged
from streamgauge.errors import UsageError

ROUTE = (
    '{"id":"{chat}","modelId":"{model}","limit":{max_tokens},"other":"{chat}","slots":"{unknown} { } {}",'
    '"messages":[{"id":"{uuid}","role":"user","parts":[{"type":"text","text":"{prompt}"}]}],"trace":"{uuid}"}'
)


def sent(template: str, prompt: str, **ask: object) -> dict[str, object]:
    asked = DIALECTS["ai-sdk"].request("/api/chat", Ask(prompt, body=template, **ask))  # type: ignore[arg-type]
    return json.loads(asked.body)  # type: ignore[no-any-return]


def test_slots_are_filled_and_other_braces_are_left_alone() -> None:
    body = sent(ROUTE, "Hi", model="claude", max_tokens=32)
    assert body["modelId"] == "claude"
    assert body["limit"] == 32
    assert body["slots"] == "{unknown} { } {}"
    assert body["messages"][0]["parts"] == [{"type": "text", "text": "Hi"}]  # type: ignore[index]


@pytest.mark.parametrize(
    "prompt",
    [
        'say "hi"',
        "two\nlines\r\n\ttab",
        "back\\slash \\n",
        "{prompt} {uuid} {chat} {model}",
        "søt 日本語 🙂",
        "\x00\x1f\x7f\u2028",
        "",
    ],
)
def test_a_prompt_comes_out_as_it_went_in(prompt: str) -> None:
    body = sent(ROUTE, prompt, model="m")
    assert body["messages"][0]["parts"][0]["text"] == prompt  # type: ignore[index]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_prompt_comes_out_as_it_went_in(prompt: str) -> None:
    assert sent('{"a":"<{prompt}>"}', prompt) == {"a": f"<{prompt}>"}


def test_each_uuid_is_fresh_and_the_chat_is_one() -> None:
    first, second = (sent(ROUTE, "Hi", model="m") for _ in range(2))
    assert first["id"] == first["other"] != second["id"]
    ids = [body["trace"] for body in (first, second)]
    ids += [body["messages"][0]["id"] for body in (first, second)]  # type: ignore[index]
    assert len(set(ids)) == 4
    assert all(str(uuid.UUID(str(i))) == i for i in [*ids, first["id"]])


def test_a_missing_limit_is_null_and_a_missing_model_is_a_mistake() -> None:
    assert sent('{"n":{max_tokens}}', "Hi") == {"n": None}
    with pytest.raises(UsageError, match=r"\{model\} in .* has no value.*--model"):
        sent(ROUTE, "Hi")


def test_undecodable_bytes_of_a_command_line_do_not_stop_a_request() -> None:
    assert sent('{"a":"{prompt}"}', "a\udcffb") == {"a": "a?b"}
    assert encode({"a": "\ud83d"}) == b'{"a": "?"}'


def test_a_path_is_filled_with_percent_encoding() -> None:
    ask = Ask("Hi", model="meta/llama 3:8b")
    assert fill_path("/v1/{model}/x?chat={chat}", ask) == f"/v1/meta%2Fllama%203:8b/x?chat={ask.chat_id}"
    assert fill_path("/v1/{other}", ask) == "/v1/{other}"


def test_extras_are_laid_over_key_by_key() -> None:
    own = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merged(own, {"a": {"c": 3}, "d": [2], "e": None}) == {"a": {"b": 1, "c": 3}, "d": [2], "e": None}
    assert own == {"a": {"b": 1, "c": 2}, "d": [1]}


def test_an_extra_that_is_no_json_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="extra"):
        DIALECTS["openai-chat"].request("/x", Ask("Hi", extra={"x": object()}))

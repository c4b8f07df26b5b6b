"""Run by the Python that has the official SDKs: every word that their types allow where a dialect must know it.

Standard output: JSON {openai, anthropic, gemini}, each an object of lists. It imports nothing of the product.
"""

from __future__ import annotations

import json
from typing import Any, get_args

from anthropic.types import (
    ErrorObject,
    RawContentBlockDelta,
    RawContentBlockStartEvent,
    RawMessageStreamEvent,
    StopReason,
)
from anthropic.types.beta import (
    BetaRawContentBlockDelta,
    BetaRawContentBlockStartEvent,
    BetaRawMessageStreamEvent,
    BetaStopReason,
)
from google.genai import types
from openai.types.chat import chat_completion_chunk


def types_of(union: Any) -> list[str]:
    """The `type` of each member of an Annotated[Union[...], ...] of models, or of a Union of them."""
    members = get_args(union)
    members = get_args(members[0]) or members
    return [get_args(member.model_fields["type"].annotation)[0] for member in members]


def literals(annotation: Any) -> list[str]:
    """The words of a Literal, whether optional or not."""
    inner = [get_args(arg) for arg in get_args(annotation)]
    return list(next((words for words in inner if words), get_args(annotation)))


def both(one: list[str], other: list[str]) -> list[str]:
    return list(dict.fromkeys([*one, *other]))


def blocks(event: Any) -> list[str]:
    return types_of(event.model_fields["content_block"].annotation)


WORDS = {
    "openai-chat": {
        "finish": literals(chat_completion_chunk.Choice.model_fields["finish_reason"].annotation),
        "deltas": list(chat_completion_chunk.ChoiceDelta.model_fields),
    },
    "anthropic": {
        "finish": both(literals(StopReason), literals(BetaStopReason)),
        "events": both(types_of(RawMessageStreamEvent), types_of(BetaRawMessageStreamEvent)),
        "deltas": both(types_of(RawContentBlockDelta), types_of(BetaRawContentBlockDelta)),
        "errors": types_of(ErrorObject),
        "blocks": both(blocks(RawContentBlockStartEvent), blocks(BetaRawContentBlockStartEvent)),
    },
    "gemini": {
        "finish": [word.value for word in types.FinishReason],
        "blocked": [word.value for word in types.BlockedReason],
        "parts": [field.alias or name for name, field in types.Part.model_fields.items()],
    },
}
print(json.dumps(WORDS))

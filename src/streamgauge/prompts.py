"""Prompts: named sets of texts, taken in turn, made unique so that no cache flatters TTFT."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence


def prompt_text(texts: Mapping[str, Sequence[str]], name: str, k: int, *, unique: str | None) -> str:
    """The k-th text of set `name` (they repeat in turn), behind a line that holds a mark made from `unique`.

    `unique` is different for each request (its trace id); None leaves the text alone. The mark comes first because
    prefix caches match from the start.
    """
    sets = texts[name]
    text = sets[k % len(sets)]
    if unique is None:
        return text
    mark = hashlib.blake2s(unique.encode(), digest_size=6).hexdigest()
    return f"[{mark}]\n{text}"

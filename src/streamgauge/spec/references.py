"""${NAME} in a spec: filled in from the environment and .env.streamgauge, and remembered as secret.

Rules: a reference that is unset or empty is a mistake that names variable, key and .env.streamgauge: a CI job without
its secrets must not send a request that can only fail.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from streamgauge.spec.mistakes import Mistakes, Path
from streamgauge.spec.values import REFERENCE


@dataclass(slots=True)
class Filler:
    """Fills ${NAME} references in and remembers what is secret."""

    variables: Mapping[str, str] = field(repr=False)
    mistakes: Mistakes
    secrets: set[str] = field(default_factory=set, repr=False)

    def fill(self, text: str, at: Path, *, escape: bool = False, encode: bool = False) -> str:
        """`text` with its references filled in; an unset one is noted at `at`.

        `escape`: as they stand inside JSON texts. `encode`: percent-encoded.
        """
        for name in dict.fromkeys(REFERENCE.findall(text)):
            value = self.variables.get(name)
            if not value:
                self.mistakes.add(
                    at,
                    f"${{{name}}} is not set (or empty); export {name}, or put {name}=... into .env.streamgauge "
                    "beside the spec",
                )
                value = "unset"
            elif not value.isprintable() and any("\ud800" <= char <= "\udfff" for char in value):
                self.mistakes.add(at, f"${{{name}}} holds bytes that are not UTF-8; set it anew")
                value = "unset"
            else:
                self.secrets.add(value)
            if escape:
                value = json.dumps(value, ensure_ascii=False)[1:-1]
            text = text.replace(f"${{{name}}}", quote(value, safe="") if encode else value)
        return text

    def knows(self, text: str) -> bool:
        """Whether every reference in `text` is set."""
        return all(self.variables.get(name) for name in REFERENCE.findall(text))

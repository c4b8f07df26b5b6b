"""A draft as the text of a streamgauge.toml, commented for the person who will edit it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from streamgauge.cli.draft import Draft
from streamgauge.spec.address import reach
from streamgauge.spec.presets import LENGTHS

GUARD = "max = { streams = 10, requests = 3000, tokens = 1000000, usd = 5 }"


@dataclass(frozen=True, slots=True)
class Names:
    """What the tables are called, and how careful to be (None: by the host)."""

    environment: str | None = None
    target: str | None = None
    kind: str | None = None


def toml_text(text: str) -> str:
    """A TOML string that reads back as `text`, in the form that needs the fewest escapes."""
    plain = all(char.isprintable() or char == "\t" for char in text)
    if plain and "'" not in text:
        return f"'{text}'" if '"' in text or "\\" in text else f'"{text}"'
    if "'''" not in text and not text.endswith("'") and not text.startswith("\n") and _multi_line(text):
        return f"'''{text}'''"
    # JSON escapes are TOML escapes, less \/ (json.dumps writes none) and surrogate pairs (ensure_ascii is off).
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _multi_line(text: str) -> bool:
    return all(char.isprintable() or char in "\t\n" for char in text)


def toml_key(name: str) -> str:
    """A bare key where it can be one."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def environment_name(host: str) -> str:
    """A name for where `host` is: local, staging, preview, dev, production."""
    if reach(host) != "public":
        return "local"
    for word in ("staging", "stage", "preview", "dev", "test", "qa", "uat"):
        if re.search(rf"(?:^|[.-]){word}", host):
            return "staging" if word == "stage" else word
    return "production"


def target_name(draft: Draft) -> str:
    """A name for the target: the model's, else the last word of the path."""
    base = draft.model or draft.url.partition("?")[0].rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", base.partition("{")[0]).strip("-._")[:40]
    return name if name and name not in ("each", "all") else "target"


def spec_text(draft: Draft, names: Names) -> str:
    """The whole file."""
    parts = urlsplit(draft.url)
    host = parts.hostname or ""
    public = reach(host) == "public"
    kind = names.kind or ("production" if public else "local")
    environment = toml_key(names.environment or environment_name(host))
    path = draft.url.partition("://")[2][len(parts.netloc) :]
    lines = [
        "# What Streamgauge measures, and how hard it may push. Every key: docs/spec.md.",
        "# Next: streamgauge check, then streamgauge run.",
        "",
        f"[environments.{environment}]",
        f"url = {toml_text(f'{parts.scheme}://{parts.netloc}')}",
        f'kind = "{kind}"' + " " * max(1, 24 - len(kind)) + "# local, staging or production",
        *(
            [f"{GUARD}   # hard stops; raise them for a host of your own"]
            if public
            else ["# max = { streams = 100, usd = 5 }"]
        ),
        "",
        *_target(draft, toml_key(names.target or target_name(draft)), path),
        "",
        *_probe(parts.port, here=reach(host) == "loopback"),
        "",
        *_tests(public),
    ]
    return "\n".join(lines) + "\n"


def _target(draft: Draft, name: str, path: str) -> list[str]:
    lines = [f"[targets.{name}]"]
    if path not in ("", "/"):
        lines.append(f"path = {toml_text(path)}")
    lines.append(f"dialect = {toml_text(draft.dialect)}")
    if draft.model is not None:
        lines.append(f"model = {toml_text(draft.model)}")
    if draft.body is not None:
        lines.append(
            "# New for each request: {prompt}, {chat}, {uuid}; from this file and the test: {model}, {max_tokens}."
        )
        lines.append(f"body = {toml_text(draft.body)}")
    tls = [f"{key} = {toml_text(value)}" for key, value in draft.files]
    tls += [] if draft.verify else ["verify = false"]
    if tls:
        lines.append(f"tls = {{ {', '.join(tls)} }}")
    if draft.proxy is not None:
        lines.append(f"proxy = {toml_text(draft.proxy)}")
    lines += [
        "# usd_per_mtok = { in = 3, out = 15 }   # dollars a million tokens: tells the cost beforehand",
        "# rpm = 400                             # your quota",
        '# expect = { contains = "..." }         # what a good answer must hold',
    ]
    if draft.headers:
        lines += ["", f"[targets.{name}.headers]   # ${{NAME}}: from the environment or .env.streamgauge"]
        lines += [f"{toml_key(key)} = {toml_text(value)}" for key, value in draft.headers.items()]
    return lines


def _probe(port: int | None, *, here: bool) -> list[str]:
    """How the server's own memory would be read: of the process, where it runs on this machine."""
    if here and port is not None:
        return [
            "# [probes.server]                      # the server's own memory, read beside every run",
            '# kind = "process"                     # or "json", a page of yours: docs/probes.md',
            f"# port = {port}",
        ]
    return [
        "# [probes.web]                         # the server's own memory, read beside every run: docs/probes.md",
        '# kind = "json"                        # ready handlers: docs/examples/probes/',
        '# path = "/api/probe"',
        '# headers = { authorization = "Bearer ${PROBE_TOKEN}" }',
    ]


def _tests(public: bool) -> list[str]:
    quoted = ", ".join(f'"{one}"' for one in LENGTHS)
    return [
        "[tests.ttft]                           # time to first token",
        "# requests = 400                       # for each target",
        f"# prompts = [{quoted}]  # or your own: [prompts.NAME] with file = ...",
        '# criteria = ["default", "ttft_ms.p95 < 800"]',
        "",
        "# [tests.concurrent]                   # many streams at a time"
        + ("; more than the 10 above" if public else ""),
        "# concurrency = 100",
    ]

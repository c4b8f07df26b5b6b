"""docs/dialects.md is true: it names what the code has, and its example of a new dialect works as printed."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import streamgauge
from cli import streamgauge as command
from streamgauge.dialects import DIALECTS, ai_sdk, anthropic, gemini, openai_chat
from streamgauge.dialects.contract import Ask, Usage
from streamgauge.dialects.template import SLOTS
from transcripts import read

PAGE = (Path(__file__).parent.parent / "docs" / "dialects.md").read_text(encoding="utf-8")
SECTIONS = {part.split("\n", 1)[0]: part for part in PAGE.split("\n## ")[1:]}


@pytest.mark.parametrize("name", DIALECTS)
def test_each_dialect_is_told_with_its_path_and_its_options(name: str) -> None:
    dialect: Any = DIALECTS[name]
    assert f"| `{name}` | `{dialect.default_path}` |" in PAGE
    for option in dataclasses.fields(dialect):
        where = PAGE if option.name == "verdicts" else SECTIONS[name]
        assert f"`{option.name}" in where


@pytest.mark.parametrize("module", [openai_chat, anthropic, gemini, ai_sdk])
def test_each_word_for_the_end_is_told(module: ModuleType) -> None:
    section = SECTIONS[module.__name__.rpartition(".")[2].replace("_", "-")]
    for word in module.VERDICTS:
        told = word.startswith("IMAGE_") or word == "content-filter" or f"`{word}`" in section
        assert told, word


def test_each_slot_is_told() -> None:
    for slot in SLOTS:
        assert f"`{{{slot}}}`" in SECTIONS["Asking"]


# platform.openai.com/docs/api-reference/completions (streaming)
TRANSCRIPT = """
data: {"id":"cmpl-7iA7iJjj8V2zOkCGvWF2hAkDWBQZe","object":"text_completion","created":1690759702,"choices":[{"text":"This","index":0,"logprobs":null,"finish_reason":null}],"model":"gpt-3.5-turbo-instruct","system_fingerprint":"fp_44709d6fcb"}

data: {"id":"cmpl-7iA7iJjj8V2zOkCGvWF2hAkDWBQZe","object":"text_completion","created":1690759702,"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":5,"completion_tokens":7}}

data: [DONE]
"""  # noqa: E501


def test_the_example_of_a_new_dialect_works_as_printed() -> None:
    source, line = re.findall(r"```python\n(.*?)```", SECTIONS["Add a dialect: one file and one line"], re.DOTALL)
    module = ModuleType("streamgauge_docs_example")
    sys.modules[module.__name__] = module  # dataclasses looks its module up
    exec(compile(source, "docs/dialects.md", "exec"), module.__dict__)
    added: dict[str, Any] = eval("{" + line + "}", module.__dict__)
    assert list(added) == ["completions"] == [dialect.name for dialect in added.values()]
    dialect = added["completions"]

    got = read(dialect, TRANSCRIPT)
    assert got.brought == ["text", "end", ""]
    assert (got.text, got.reader.verdict, got.reader.usage) == ("This", "length_capped", Usage(5, 7))
    assert read(dialect, 'data: {"error":{"code":429}}\n\ndata: nonsense\n\ndata: {}').brought == [
        "error",
        "malformed",
        "unknown",
    ]
    asked = dialect.request(dialect.default_path, Ask("Hi", model="m", max_tokens=3))
    assert json.loads(asked.body) == {"model": "m", "prompt": "Hi", "max_tokens": 3, "stream": True}
    assert dialect.claims(asked.path, {}, json.loads(asked.body)) == 3
    assert not any(shipped.recognises("message", b'{"object":"text_completion"}') for shipped in DIALECTS.values())


class OldServer(BaseHTTPRequestHandler):
    """Answers as servers of text completions do."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert asked["prompt"]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(TRANSCRIPT.strip().encode() + b"\n\n")

    def log_message(self, *args: object) -> None:
        pass


def test_one_file_and_one_line_are_all_that_a_new_dialect_needs(tmp_path: Path) -> None:
    source, line = re.findall(r"```python\n(.*?)```", SECTIONS["Add a dialect: one file and one line"], re.DOTALL)
    package = tmp_path / "streamgauge"
    shutil.copytree(Path(streamgauge.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "dialects" / "completions.py").write_text(source)
    place = package / "dialects" / "__init__.py"
    told = "from streamgauge.dialects.completions import Completions\n"
    before = place.read_text()
    after = before.replace("from streamgauge.dialects.contract", told + "from streamgauge.dialects.contract", 1)
    place.write_text(after.replace('    "ai-sdk": AiSdk(),\n', '    "ai-sdk": AiSdk(),\n' + line, 1))
    server = ThreadingHTTPServer(("127.0.0.1", 0), OldServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        asked = ("--url", url, "--dialect", "completions", "--model", "m")
        checked = command("check", *asked, cwd=tmp_path, PYTHONPATH=str(tmp_path))
        assert (checked.code, "FAIL" in checked.out) == (0, False), checked
        script = (
            "from streamgauge import StreamClient\n"
            f"with StreamClient({url!r}, dialect='completions', model='m') as client:\n"
            "    sample = client.ask('Hi').sample\n"
            "    print(sample.outcome, sample.text_events, sample.output_tokens)\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        streamed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
        assert streamed.stdout.split() == ["length_capped", "1", "7"], streamed.stderr
    finally:
        server.shutdown()
        server.server_close()

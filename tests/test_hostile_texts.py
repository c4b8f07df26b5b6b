"""Text from outside, by each writer: no control reaches a terminal, no formula a spreadsheet, no markup a page.

The reports' own tests (test_reports_*) put hostile text into every field of a document; here are the functions that
they all use, the screens, and one real server that says such things wherever a server can say something.
"""

from __future__ import annotations

import html as stdlib_html
import io
import itertools
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from cli import inline, streamgauge
from hostile import HOSTILE
from servers import Server, read_request, serving, token
from streamgauge import wild
from streamgauge.check.finding import clean, warn
from streamgauge.cli.say import coloured, say
from streamgauge.clock import FakeClock
from streamgauge.control import Brief, Report
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.progress import Progress
from streamgauge.run import Began
from streamgauge.sample import Outcome
from test_progress import Terminal

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\x85\u202eback\u2066 =1+1 <img src=x> [a](b)\r\nX: y\x00\x7f"
LINE_ENDS = {"Zl", "Zp"}


def obeyed(text: str, *, lines: bool = False) -> list[str]:
    """What of `text` a terminal would obey: controls, direction marks, halves of characters."""
    return [
        char for char in text
        if (unicodedata.category(char) in {"Cc", "Cs", *LINE_ENDS} or char in "\u061c\u200e\u200f\ufeff"
            or "\u202a" <= char <= "\u202e" or "\u2066" <= char <= "\u2069") and not (lines and char == "\n")
    ]  # fmt: skip


ANY = st.text(st.characters(), max_size=80) | st.sampled_from(HOSTILE) | st.lists(st.sampled_from(EVIL)).map("".join)


@given(ANY)
@example(EVIL)
@settings(deadline=None)
def test_no_function_of_wild_lets_through_what_a_terminal_obeys(text: str) -> None:
    for write in (wild.plain, wild.csv_cell, wild.markdown, wild.markdown_code, wild.html):
        assert obeyed(stdlib_html.unescape(write(text)).replace("\u200b", "")) == [], write
    assert obeyed(wild.screen(text), lines=True) == []


@given(ANY)
@example("\x7f\x80\x9b")
@settings(deadline=None)
def test_json_says_the_same_without_what_a_terminal_obeys(text: str) -> None:
    text = re.sub("[\ud800-\udfff]", "", text)
    data = json.dumps({text: [text]}, ensure_ascii=False, indent=2).encode()
    safe = wild.json_bytes(data)
    assert json.loads(safe) == {text: [text]}
    assert obeyed(safe.decode(), lines=True) == []


@given(ANY)
@settings(deadline=None)
def test_a_markdown_cell_is_one_cell_without_a_tag_or_a_link(text: str) -> None:
    for cell in (wild.markdown(text), wild.markdown_code(text)):
        assert not re.search(r"(?<!\\)(?:\\\\)*\|", cell)
        assert "\n" not in cell
    assert not re.search(r"<[A-Za-z/!?]", wild.markdown(text))
    assert not re.search(r"(?<!\\)(?:\\\\)*\]\(", wild.markdown(text))


def test_a_formula_in_any_disguise_is_no_formula() -> None:
    for start in (
        "=",
        "+",
        "-",
        "@",
        "\t=",
        "\r=",
        "\n@",
        " =",
        "'=",
        '"=',
        "＝",
        "\ufeff=",
        "|",
        "%",
        "\x00=",
        "\u202e=",
    ):
        cell = wild.csv_cell(f"{start}1+1")
        assert cell.strip('"').lstrip("\ufffd")[:1] in ("'", "1") or "\ufffd" in cell[:2], (start, cell)
        assert not re.match(r'"?[=+\-@\t\r|%]', cell), (start, cell)


# The screens.


def test_a_finding_of_check_has_nothing_that_a_terminal_obeys() -> None:
    finding = clean(warn("a", EVIL, EVIL, deep={EVIL: [EVIL, {EVIL: EVIL}]}), str)
    assert obeyed(repr(finding)) == []
    assert obeyed(finding.text + (finding.next or "")) == []


def test_messages_of_the_command_line_keep_their_lines_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"two\n  lines {EVIL}")
    say(EVIL, err=True)
    said = capsys.readouterr()
    assert said.out.startswith("two\n  lines ")
    assert obeyed(said.out + said.err, lines=True) == []
    assert obeyed(re.sub(r"\x1b\[\d*m", "", coloured(EVIL, bold=True)), lines=True) == []


@pytest.mark.parametrize("terminal", [True, False])
def test_live_progress_shows_a_servers_words_without_obeying_them(terminal: bool) -> None:
    clock, out = FakeClock(), Terminal() if terminal else io.StringIO()
    phases = (Phase("hold", (Lane(("a",), ("short",), Hold(4), 100),), 4),)
    brief = Brief("a", "hold", Outcome.EMPTY, 200, None, None, None, None, 0, EVIL, 0)
    with Progress("ttft", phases, clock, stream=out) as progress:
        progress(Began(phases[0], clock.now()))
        progress(Report(worker=0, at_ns=clock.now(), open_streams=4, ended=[brief]))
        console = Console(file=Terminal(), width=100, color_system=None)
        console.print(progress._block())
        shown = console.file.getvalue()
    assert "back" in shown
    assert obeyed(shown, lines=True) == []
    if not terminal:
        assert obeyed(out.getvalue(), lines=True) == []


# A server that says such things wherever it can.


def _header(text: str) -> bytes:
    """What of it a header can carry: bytes 0x80 to 0x9f are C1 controls in Latin-1."""
    return re.sub("[\x00-\x08\x0a-\x1f\x7f]", "", text).encode("latin-1", "ignore")


HEADERS = b"".join(
    b"%s: %s\r\n" % (name, _header(EVIL))
    for name in (b"server", b"via", b"x-request-id", b"server-timing", b"x-powered-by", b"cf-ray", b"www-authenticate")
)


TURN = itertools.count()


def _answer(conn) -> None:  # type: ignore[no-untyped-def] # a socket
    """In turn: a good answer, one with a wild reason and no output, an error body, an in-band error, a redirect."""
    while read_request(conn):
        model = json.dumps({"model": EVIL, "choices": []}).encode()
        reason = json.dumps({"choices": [{"delta": {}, "finish_reason": EVIL}]}).encode()
        error = json.dumps({"error": {"message": EVIL, "type": EVIL}}).encode()
        status, body = (
            (b"200 OK", b"data: " + model + b"\n\n" + token(EVIL) + b"data: " + reason + b"\n\n"),
            (b"200 OK", b"data: " + model + b"\n\ndata: " + reason + b"\n\n"),
            (b"500 " + _header(EVIL), EVIL.encode("utf-8", "replace")),
            (b"200 OK", token("a") + b"data: " + error + b"\n\n"),
            (b"302 Found\r\nlocation: /" + _header(EVIL), b"<title>" + EVIL.encode() + b"</title>"),
        )[next(TURN) % 5]
        conn.sendall(b"HTTP/1.1 " + status + b"\r\n" + HEADERS + b"content-length: %d\r\n\r\n" % len(body) + body)


@pytest.fixture(scope="module")
def evil() -> Iterator[Server]:
    with serving(_answer) as server:
        yield server


def test_a_run_against_such_a_server_writes_nothing_that_is_obeyed(evil: Server, tmp_path: Path) -> None:
    flags = ("--url", f"{evil.url}/v1/chat/completions", "--model", "m", "--requests", "5", "--concurrency", "5")
    done = streamgauge("run", "ttft", *flags, cwd=tmp_path)
    assert done.code in (1, 3, 4), done.err
    assert obeyed(done.out + done.err, lines=True) == []
    again = inline("report", "last", "--json", cwd=tmp_path)
    assert obeyed(again.out + again.err, lines=True) == []
    reports = {path.suffix: path.read_text("utf-8") for path in tmp_path.glob("tests/performance/reports/*")}
    assert reports.keys() == {".md", ".html", ".json", ".csv"}
    for form, text in reports.items():
        assert obeyed(text, lines=True) == [], form
    assert "<img src" not in reports[".html"]
    assert "back" in reports[".html"], "its words are told, as text"
    outside_code = re.sub(r"(?<!\\)(`+).*?\1", "", reports[".md"])
    assert "<img" not in outside_code
    assert not re.search(r"(?<!\\)\]\(", outside_code)


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_check_of_such_a_server_shows_nothing_that_is_obeyed(
    form: tuple[str, ...], evil: Server, tmp_path: Path
) -> None:
    for _ in range(5):
        done = inline("check", "--url", f"{evil.url}/v1/chat/completions", "--model", "m", *form, cwd=tmp_path)
        assert done.code in (0, 4), done.err
        assert obeyed(done.out + done.err, lines=True) == []


def test_names_of_a_spec_are_shown_without_being_obeyed(tmp_path: Path) -> None:
    (tmp_path / "streamgauge.toml").write_text(
        '[targets."a\\u001b[2J\\u009b31m"]\nurl = "http://127.0.0.1:9/\\u001b[2J"\ndialect = "open\\u001b[31mai"\n'
        '[tests.ttft]\nprompts = ["sh\\u001b[2Jort"]\ncriteria = ["ttft\\u009b < 1"]\n'
    )
    for command in (("run", "--dry-run"), ("check",), ("run", "--env", "x\x1b[2J"), ("run", "\x1b[2J")):
        done = inline(*command, cwd=tmp_path)
        assert done.code == 2
        assert obeyed(done.out + done.err, lines=True) == [], command

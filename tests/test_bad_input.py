"""Whatever is put in wrongly: exit 2, a text that names value, place and next step, no traceback, nothing written.

One table. Each row is a folder's files, a command and what its words must hold. Files that are links point at something
that nobody can read: root can read a file without permissions, but not /proc/self/mem.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cli import inline

TARGET = '[targets.a]\nurl = "http://127.0.0.1:9/v1/x"\ndialect = "openai-chat"\nmodel = "m"\n'
RUN = ("run", "--dry-run")
URL = (*RUN, "--url", "http://127.0.0.1:9/v1/x", "--dialect", "openai-chat")
UNREADABLE = Path("/proc/self/mem")
ENDLESS = Path("/dev/zero")
PROMPTS = '[prompts.p]\nfile = "{}"\n'
SPEC = "streamgauge.toml"


@dataclass(frozen=True)
class Row:
    """What is there, what is asked, and what must be told."""

    id: str
    told: tuple[str, ...]
    command: tuple[str, ...] = RUN
    files: dict[str, bytes | Path] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    stdin: bytes = b""


def spec(name: str, more: str, *told: str) -> Row:
    """A spec with one good target and `more` below it, from line 5 on."""
    return Row(name, told, files={SPEC: (TARGET + more).encode()})


def ttft(name: str, more: str, *told: str) -> Row:
    """A spec with one wrong key of the test, on line 6."""
    return spec(name, f"[tests.ttft]\n{more}\n", f"{SPEC}:6: tests.ttft.", *told)


def prompts(name: str, file: str, content: bytes | Path | None, *told: str) -> Row:
    """A spec that names a prompt file, and the file."""
    files: dict[str, bytes | Path] = {SPEC: (TARGET + PROMPTS.format(file)).encode()}
    return Row(
        name,
        (f"{SPEC}:6: prompts.p.file: {file}", *told),
        files=files | ({file: content} if content is not None else {}),
    )


def flag(*arguments: str, told: tuple[str, ...]) -> Row:
    """A good spec and a wrong flag."""
    return Row(" ".join(arguments)[:60], told, (*RUN, *arguments), {SPEC: TARGET.encode()})


def setting(text: str, *told: str) -> Row:
    """A good spec and a wrong --set."""
    return Row(f"--set {text[:30]}", told, (*RUN, "--set", text), {SPEC: TARGET.encode()})


def curl(name: str, content: bytes | Path | None, *told: str) -> Row:
    """`init --from-curl` of a file."""
    there = {"r.txt": content} if content is not None else {}
    return Row(name, ("--from-curl", *told), ("init", "--from-curl", "r.txt"), there)


WHOLE = "must be a whole number from 1 to 1,000,000,000"
TABLE = [
    # The spec: wrong types, unknown names, numbers that cannot be.
    ttft("a wrong type", 'requests = "many"', "requests", 'the text "many"', "whole number"),
    ttft("a huge whole number", f"requests = {10**30}", "at most 1,000,000,000"),
    ttft("a negative number", "concurrency = -4", "at least 1, not -4"),
    ttft("zero requests", "requests = 0", "at least 1, not 0"),
    ttft("NaN", "rate = nan", "finite number"),
    ttft("a rate no clock can keep", "rate = 1e300", "at most 1,000,000"),
    ttft("a duration of words", 'duration = "5 fortnights"', '"5 fortnights"', '"90s"'),
    ttft("a duration over a year", "duration = 1e300", "over a year"),
    ttft(
        "no such metric",
        'criteria = ["tftt_ms.p95 < 1000"]',
        'criteria[1].rule: "tftt_ms.p95 < 1000"',
        'mean "ttft_ms"',
    ),
    ttft("no such stat", 'criteria = ["ttft_ms.p9x < 1"]', '"p9x"', "Allowed: p50"),
    ttft("a limit of NaN", 'criteria = ["ttft_ms.p95 < nan"]', '"nan" is not a finite number'),
    ttft("a limit beyond all numbers", 'criteria = ["ttft_ms.p95 < 1e999"]', '"1e999" is not a finite number'),
    ttft("a negative limit", 'criteria = ["ttft_ms.p95 < -1"]', "-1 is negative"),
    ttft("half of all requests, probably half a percent", 'criteria = ["error_rate < 0.5"]', "means 50 %", '"0.5%"'),
    spec("a test that does not exist", "[tests.tfft]\n", f"{SPEC}:5: tests.tfft", 'mean "ttft"'),
    spec("an unknown key", 'modle = "x"\n', f"{SPEC}:5: targets.a.modle", 'mean "model"', "Allowed: url"),
    spec("an unknown section", '[target.b]\nurl = "x"\n', f"{SPEC}:5: target: unknown key", 'mean "targets"'),
    spec("a key that is there twice", 'model = "n"\n', f"{SPEC}:5", "twice", "line 4", "Keep one"),
    spec("a number of thousands of digits", f"rpm = {'9' * 5000}\n", SPEC, "not TOML", "digits"),
    spec("no TOML", "this is not\n", f"{SPEC}:5: not TOML", "'this is not'"),
    spec("nested without end", f"extra = {{ a = {'[' * 5000}", SPEC),
    spec("a NUL", "\0", f"{SPEC}:5: not TOML"),
    spec("an rpm that never comes", "rpm = 1e-300\n", f"{SPEC}:5: targets.a.rpm", "at least 0.01"),
    spec(
        "an infinite price", "usd_per_mtok = { in = inf, out = 1 }\n", f"{SPEC}:5: targets.a.usd_per_mtok.in", "finite"
    ),
    spec(
        "control characters in a header",
        'headers = { x-a = "a\\u0001b" }\n',
        f"{SPEC}:5: targets.a.headers.x-a",
        "U+0001",
    ),
    spec("a header name with a space", 'headers = { "x a" = "b" }\n', f"{SPEC}:5", "'x a' is not a header name"),
    spec(
        "a secret that is not set", 'headers = { x-a = "${S_UNSET}" }\n', f"{SPEC}:5", "${S_UNSET}", ".env.streamgauge"
    ),
    spec("a dialect option", "dialect_options = { nope = 1 }\n", f"{SPEC}:5: targets.a.dialect_options", "known: "),
    spec("a body without a prompt", "body = '{}'\n", f"{SPEC}:5: targets.a.body", "put {prompt} where it belongs"),
    spec("a body that is no JSON", "body = '{\"a\": {prompt}'\n", f"{SPEC}:5: targets.a.body", "not JSON"),
    spec("a regular expression", 'expect = { regex = "(" }\n', f"{SPEC}:5: targets.a.expect.regex", "'('"),
    spec("a certificate that is not there", 'tls = { ca = "no.pem" }\n', f"{SPEC}:5: targets.a.tls.ca", '"no.pem"'),
    spec("a control that is itself", 'control = "a"\n', f"{SPEC}:5: targets.a.control", "shorter way"),
    Row(
        "a certificate that is none",
        ("tls.ca = 'ca.pem'", "PEM"),
        files={SPEC: (TARGET.replace("http:", "https:") + 'tls = { ca = "ca.pem" }\n').encode(), "ca.pem": b"junk"},
    ),
    Row(
        "a hard stop as one word",
        (f"{SPEC}:3: environments.e.max_streams: unknown key; did you mean max = {{ streams = ... }}?",),
        files={SPEC: b'[environments.e]\nurl = "http://127.0.0.1"\nmax_streams = 10\n' + TARGET.encode()},
    ),
    Row("a section that is a number", (f"{SPEC}:1: targets", "[targets.NAME]"), files={SPEC: b"targets = 3\n"}),
    Row("an empty spec", (SPEC, "add [targets.NAME]"), files={SPEC: b""}),
    Row(
        "a url without a scheme",
        (f'{SPEC}:2: targets.a.url: "api.example.com" has no scheme', '"https://api.example.com"'),
        files={SPEC: b'[targets.a]\nurl = "api.example.com"\ndialect = "anthropic"\n'},
    ),
    Row(
        "a dialect",
        (f"{SPEC}:3: targets.a.dialect: no dialect 'opnai-chat'", "mean 'openai-chat'"),
        files={SPEC: b'[targets.a]\nurl = "http://127.0.0.1"\ndialect = "opnai-chat"\n'},
    ),
    Row(
        "all mistakes at once",
        ("3 mistakes", f"{SPEC}:2: targets.a.urll", f"{SPEC}:4: tests.ttft.rate", f"{SPEC}:1: targets.a: key"),
        files={SPEC: b'[targets.a]\nurll = "http://h"\n[tests.ttft]\nrate = -1\n'},
    ),
    Row(
        "CRLF lines are counted",
        (f"{SPEC}:5: targets.a.modle",),
        files={SPEC: b"\xef\xbb\xbf" + (TARGET + 'modle = "x"\n').replace("\n", "\r\n").encode()},
    ),
    # Files that are none.
    Row(
        "a spec in Latin-1",
        (f"{SPEC}:5: byte 0xe9 is not UTF-8", "save"),
        files={SPEC: TARGET.encode() + b"# caf\xe9\n"},
    ),
    Row("a spec in UTF-16", (f"{SPEC}:1: byte 0xff is not UTF-8",), files={SPEC: TARGET.encode("utf-16")}),
    Row("a folder for a spec", (f"{SPEC}: is a folder", "streamgauge init"), files={f"{SPEC}/x": b""}),
    Row("a link to nothing for a spec", (f"{SPEC}: is a link to nothing",), files={SPEC: Path("/nonexistent")}),
    Row("an unreadable spec", (f"{SPEC}: cannot read a spec",), files={SPEC: UNREADABLE}),
    Row("a spec without end", (f"{SPEC}: over 10 MB",), files={SPEC: ENDLESS}),
    Row(
        "no such config", ("--config other.toml: does not exist", "streamgauge init"), (*RUN, "--config", "other.toml")
    ),
    Row("a folder for a config", ("--config .: is a folder",), (*RUN, "--config", ".")),
    Row("a name no file can have", ("cannot be read: File name too long",), (*RUN, "--config", "a" * 300)),
    prompts("an empty prompt file", "p.txt", b"", "holds no prompt; write at least one"),
    prompts("a prompt of blanks", "p.jsonl", b'" "\n', "prompt 1 is blank"),
    prompts("prompts in Latin-1", "p.txt", b"ok\n\ncaf\xe9", "p.txt:3: byte 0xe9 is not UTF-8"),
    prompts("a prompt of 10 MB", "p.txt", b"x" * 10_000_000, "10.0 MB", "at most 8 MB", "Make it smaller"),
    prompts("a prompt without end", "p.txt", ENDLESS, "over 8 MB"),
    prompts("an unreadable prompt file", "p.txt", UNREADABLE, "cannot read a prompt file", "may read"),
    prompts("a missing prompt file", "p.txt", None, "No such file", "name a file that is there"),
    prompts("a folder of prompts", ".", None, "no kind of prompt file", ".jsonl"),
    prompts("prompts in a word processor's format", "p.docx", b"x", '".docx"', "allowed: .txt, .jsonl, .toml"),
    prompts("a line that is no JSON", "p.jsonl", b'"ok"\n{oops\n', "p.jsonl:2: not JSON"),
    prompts("a line without a prompt", "p.jsonl", b'{"prompt": 3}\n', "p.jsonl:1", 'a text "prompt"'),
    spec(
        "a prompt of 9 MB in the spec",
        f"[prompts.p]\ntexts = ['{'x' * 9_000_000}']\n",
        f"{SPEC}:6: prompts.p.texts: 9.0 MB",
        "at most 8 MB",
    ),
    Row(
        "secrets in Latin-1",
        (".env.streamgauge:1: byte 0xe9",),
        files={SPEC: TARGET.encode(), ".env.streamgauge": b"A=\xe9\n"},
    ),
    Row(
        "a folder of secrets",
        (".env.streamgauge: cannot read",),
        files={SPEC: TARGET.encode(), ".env.streamgauge/x": b""},
    ),
    Row(
        "unreadable secrets",
        (".env.streamgauge: cannot read",),
        files={SPEC: TARGET.encode(), ".env.streamgauge": UNREADABLE},
    ),
    Row(
        "secrets that are none",
        (".env.streamgauge:2: is not NAME=value",),
        files={SPEC: TARGET.encode(), ".env.streamgauge": b"A=1\nbc\n"},
    ),
    Row(
        "a secret of two lines in a header",
        (f"{SPEC}:5: targets.a.headers.x-a", "U+000A at position 6"),
        files={SPEC: (TARGET + 'headers = { x-a = "${S_K}" }\n').encode(), ".env.streamgauge": b'S_K="hush!\\nx"\n'},
    ),
    Row(
        "a secret that is no text",
        (f"{SPEC}:5: targets.a.body", "${S_K} holds bytes that are not UTF-8"),
        files={SPEC: (TARGET + 'body = \'{"p":"{prompt}${S_K}"}\'\n').encode()},
        variables={"S_K": "\udcff"},
    ),
    # Flags.
    flag("--requests", "0", told=("--requests 0", WHOLE)),
    flag("--requests", "-3", told=("--requests -3", WHOLE)),
    flag("--requests", str(10**30), told=("--requests 1000", WHOLE)),
    flag("--requests", "x", told=("'--requests': 'x'", "integer")),
    flag("--concurrency", "0", told=("--concurrency 0", "from 1 to 100,000")),
    flag("--concurrency", str(10**9), told=("--concurrency 1000000000", "from 1 to 100,000")),
    flag("--rate", "0", told=("--rate 0", "from 0.01 to 1,000,000")),
    flag("--rate", "nan", told=("--rate nan", "from 0.01 to 1,000,000")),
    flag("--rate", "1e300", told=("--rate 1e+300", "from 0.01 to 1,000,000")),
    flag("--duration", "nonsense", told=("'--duration'", '"nonsense" is not a duration', '"90s"')),
    flag("--duration", "0", told=("'--duration'", "0 is not a duration above 0")),
    flag("--duration", "-5s", told=("'--duration'", '"-5s" is not a duration')),
    flag("--max-usd", "nan", told=("--max-usd nan", "above 0")),
    flag("--max-requests", "0", told=("--max-requests 0", WHOLE)),
    flag("--max-tokens", "-1", told=("--max-tokens -1", WHOLE)),
    flag("--preset", "smok", told=("--preset smok", 'mean "smoke"', "Presets: smoke, pr")),
    flag("--seed", "-1", told=("'--seed'", "-1")),
    flag("--seed", str(10**30), told=("'--seed'", "range")),
    flag("--inconclusive", "fail", told=("'--inconclusive'", "'fail'", "'pass'")),
    flag("--env", "stagin", told=("--env stagin", "no environment", "[environments.NAME]")),
    flag("--modle", "x", told=("--modle", "--model")),
    flag("--model", "m", told=("--model goes with --url",)),
    flag("--out", "", told=("'--out'", "empty")),
    flag("--out", SPEC, told=("'--out'", f"{SPEC} is a file; name a folder")),
    flag("--out", f"{SPEC}/reports", told=("'--out'", f"{SPEC} is a file; name a folder")),
    flag("--out", "r" * 300, told=("'--out'", "no report can be written there: File name too long; name another")),
    flag("--out", "r" * 300 + "/x", told=("'--out'", "File name too long; name another folder")),
    flag("--config", "caf\udce9.toml", told=("argument 4", "0xe9", "UTF-8")),
    Row(
        "an environment's name",
        ("--env stagin", 'mean "staging"', "Environments: staging"),
        (*RUN, "--env", "stagin"),
        {SPEC: (TARGET + '[environments.staging]\nurl = "http://127.0.0.1"\n').encode()},
    ),
    Row(
        "a url without a scheme, by flag",
        ('--url: "api.example.com/v1/chat/completions" has no scheme', "https://api"),
        (*RUN, "--url", "api.example.com/v1/chat/completions"),
    ),
    Row("an empty url", ("--url: is empty", "variable"), (*RUN, "--url", "")),
    Row(
        "a port",
        ("--url", "http://h:99999/v1", "0-65535"),
        (*RUN, "--url", "http://h:99999/v1", "--dialect", "anthropic"),
    ),
    Row("a header of two lines", ("-H", "X-A", "U+000A at position 2"), (*URL, "-H", "X-A: a\nb: c")),
    Row("a header that is only a secret", ("-H 'sk-p...'", "-H 'Name: value'"), (*URL, "-H", "sk-planted-0123456789")),
    Row("a model that is no text", ("argument 8", "0xff"), (*URL, "--model", "m\udcff")),
    Row("a test's name", ("'tfft'", 'mean "ttft"'), ("run", "tfft"), {SPEC: TARGET.encode()}),
    Row("a verb", ("'rnu'", "Did you mean run?"), ("rnu",)),
    setting("foo", "--set foo", "ttft.requests=100"),
    setting("=3", "--set =3", "key.path=value"),
    setting("a..b=1", "--set a..b=1", "key.path=value"),
    setting("tests.ttft.requests=abc", "--set tests.ttft.requests", 'the text "abc"'),
    setting("tests.ttft.requests=" + "9" * 5000, "--set tests.ttft.requests", "whole number"),
    setting("tests.ttft.reqests=1", "--set tests.ttft.reqests", 'mean "requests"'),
    setting("nosuch.key=1", "--set nosuch.key", "Allowed: environments"),
    setting("tests=3", "--set tests", "table of tables"),
    setting("targets.a.model.x=1", "--set targets.a.model.x", "targets.a.model is no table"),
    # Variables.
    Row(
        "a variable's value",
        ("STREAMGAUGE_TTFT__REQUESTS: tests.ttft.requests", 'the text "many"'),
        files={SPEC: TARGET.encode()},
        variables={"STREAMGAUGE_TTFT__REQUESTS": "many"},
    ),
    Row(
        "a variable's key",
        ("STREAMGAUGE_TTFT__REQEUSTS", 'mean "requests"'),
        files={SPEC: TARGET.encode()},
        variables={"STREAMGAUGE_TTFT__REQEUSTS": "3"},
    ),
    Row(
        "a variable with one underscore",
        ("STREAMGAUGE_TTFT_REQUESTS: sets no key", "STREAMGAUGE_TTFT__REQUESTS?"),
        files={SPEC: TARGET.encode()},
        variables={"STREAMGAUGE_TTFT_REQUESTS": "3"},
    ),
    # Other verbs.
    curl("no such request", None, "r.txt", "No such file", "standard input"),
    curl("a request in Latin-1", b"curl 'http://x/caf\xe9'", "byte 18 is not UTF-8", "save"),
    curl("an unreadable request", UNREADABLE, "cannot be read"),
    curl("a request without end", ENDLESS, "over 20 MB", "a single request"),
    curl("an empty request", b"", "nothing there", "Copy as cURL"),
    curl("a request cut short", b"curl 'http://x", "never closed", "copy it again"),
    curl("Windows' form of a request", b'curl ^"http://x^"', "the Windows form", "Copy as cURL (bash)"),
    curl("another command", b"wget http://x", "'wget'", "Copy as cURL"),
    Row("nothing on standard input", ("--from-curl", "nothing there"), ("init", "--from-curl", "-")),
    Row(
        "a folder for a request",
        ("--from-curl r.txt: cannot be read: Is a directory",),
        ("init", "--from-curl", "r.txt"),
        {"r.txt/x": b""},
    ),
    Row("init with nothing", ("--url URL --dialect NAME", "only on a terminal"), ("init",)),
    Row(
        "init over a spec",
        (f"{SPEC} is there already", "--config other.toml"),
        ("init", "--url", "http://x"),
        {SPEC: b"#"},
    ),
    Row("init into no folder", ("no folder d", "make it first"), ("init", "--url", "http://x", "--config", "d/x.toml")),
    Row(
        "init with a name that means more",
        ("targets.each", "choose another name"),
        ("init", "--url", "http://x/api/chat", "--target", "each"),
    ),
    Row("init with a dialect", ("--dialect: no dialect 'opnai'",), ("init", "--url", "http://x", "--dialect", "opnai")),
    Row("init of a url that tells nothing", ("--url http://x", "add --dialect"), ("init", "--url", "http://x")),
    Row("init with a header", ("-H a", "not a header name"), ("init", "--url", "http://x/api/chat", "-H", "a\x01: b")),
    Row(
        "a set key with a slip in its test",
        ('did you mean "tests.ttft.requests"',),
        ("run", "--url", "http://127.0.0.1:9/api/chat", "--set", "tttft.requests=3"),
    ),
    Row(
        "a set key without its table",
        ('did you mean "tests.ttft.requests"',),
        ("run", "--url", "http://127.0.0.1:9/api/chat", "--set", "requests=3"),
    ),
    Row("gemini without a model", ("add model", "--model"), ("run", "--url", "http://x:9", "--dialect", "gemini")),
    Row("check with nothing", ("nothing to check", "streamgauge init"), ("check",)),
    Row("check of no url", ('--url: "x" has no scheme',), ("check", "--url", "x")),
    Row("report of no run", ("no run 'last'", "streamgauge run"), ("report", "last")),
    Row(
        "report of a broken run",
        ("holds no run that can be read", "last"),
        ("report", "a"),
        {".streamgauge/runs/a/run.json": b"\xff{"},
    ),
    Row("report into a file", ("'--out'", "f is a file"), ("report", "last", "--out", "f"), {"f": b""}),
    Row("report too deep", ("'--out'", "name another folder"), ("report", "last", "--out", "f" * 300)),
    Row("demo too deep", ("'--out'", "name another folder"), ("demo", "--out", "f" * 300)),
    Row("report in no form", ("--form pdf", "md, json, csv, html"), ("report", "last", "--form", "pdf")),
    Row("sim with a fault", ("fault 'nope'", "truncate"), ("sim", "--fault", "nope=1")),
    Row("sim with a port", ("port 99999", "65535"), ("sim", "--port", "99999")),
    Row("sim with a folder for a log", ("'.'", "name a file"), ("sim", "--log", ".")),
    Row("a shell", ("'tcsh'", "'bash', 'zsh', 'fish'"), ("completion", "tcsh")),
]


@pytest.mark.parametrize("row", TABLE, ids=[row.id for row in TABLE])
def test_bad_input_is_told_and_nothing_is_written(row: Row, tmp_path: Path) -> None:
    for name, content in row.files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
    before = tree(tmp_path)
    done = inline(*row.command, cwd=tmp_path, stdin=row.stdin, **row.variables)
    assert done.code == 2, done.err
    assert done.out == ""
    for words in row.told:
        assert words in done.err
    assert "Traceback" not in done.err
    assert "planted" not in done.err
    assert "hush" not in done.err
    assert len(done.err) < 3000
    assert tree(tmp_path) == before


def tree(folder: Path) -> dict[str, int]:
    """Every file and folder with its size."""
    return {str(path): path.lstat().st_size for path in folder.rglob("*")}


def test_marks_and_line_ends_of_other_systems_are_taken_in_every_file(tmp_path: Path) -> None:
    """A byte order mark and CRLF are no mistake: Windows' editors write both."""
    text = TARGET + PROMPTS.format("p.txt") + '[targets.b]\nurl = "http://127.0.0.1:9"\ndialect = "anthropic"\n'
    text += 'model = "${NAME}"\nheaders = { x-api-key = "${NAME}" }\n'
    files = {SPEC: text, "p.txt": "one\n\ntwo\n", ".env.streamgauge": "NAME=a-secret-key\n"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.replace("\n", "\r\n").encode())
    done = inline(*RUN, "--set", 'tests.ttft.prompts=["p"]', cwd=tmp_path)
    assert done.code == 0, done.err
    assert os.linesep not in done.err


def test_a_pipe_can_be_the_spec(tmp_path: Path) -> None:
    """`--config <(generate)`: what a shell hands over is no regular file."""
    read, write = os.pipe()
    os.write(write, TARGET.encode())
    os.close(write)
    done = inline(*RUN, "--config", f"/dev/fd/{read}", cwd=tmp_path)
    os.close(read)
    assert done.code == 0, done.err

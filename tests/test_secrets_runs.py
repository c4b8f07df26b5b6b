"""Planted secrets are in no file, report, log, traceback, screen or process list, whatever is run and whatever breaks.

The server says every secret back in every form, and across every place where texts are cut. What is allowed to hold
them: the user's own files and environment, and what the user typed. A worker's environment is cleared of them.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from cli import environment, inline
from planted import SECRETS, WAYS, Echo, found_in, leaks, processes, sayings
from servers import Server, serving
from streamgauge import cli, secrets
from streamgauge.client import StreamClient, target_from_url
from streamgauge.clock import SystemClock
from streamgauge.control import Job
from streamgauge.dialects import DIALECTS, with_options
from streamgauge.errors import UsageError
from streamgauge.foreign import words_of
from streamgauge.hand import without_secrets
from streamgauge.journal import Journal
from streamgauge.load import Load
from streamgauge.plan import Hold, Lane, Phase, Shot
from streamgauge.run import conduct
from streamgauge.secrets import Redactor
from streamgauge.spec.load import load_spec
from streamgauge.stream import Limits, Stream

OWN = (".env.streamgauge", "streamgauge.toml", "request.txt")
"""The user's own files: here a secret may stand."""
IN_ENV = ("API_KEY", "SHORT", "COOKIE", "URL_KEY", "PROXY")
PROXIES = {"HTTPS_PROXY": f"http://user:{SECRETS['PROXY']}@127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost"}
"""A proxy's password, where it is not used; the target `proxied` has one by its own key."""
ENV = {**{f"SG_{name}": SECRETS[name] for name in IN_ENV}, **PROXIES}

TARGET = """
[targets.{way}]
path = "/{way}/v1/chat/completions?key=${{SG_URL_KEY}}&token={literal}"
dialect = "openai-chat"
model = "m"
headers = {{ authorization = "Bearer ${{SG_API_KEY}}", cookie = "i=${{SG_COOKIE}}; a=b", x-api-key = "${{SG_SHORT}}" }}
body = '{{"messages":[{{"role":"user","content":"{{prompt}}"}}],"apiToken":"${{SG_BODY_KEY}}","model":"{{model}}"}}'
"""


def write_spec(folder: Path, server: Server, ways: tuple[str, ...]) -> None:
    text = f'[environments.local]\nurl = "{server.url}"\nkind = "local"\n'
    for way in ways:
        text += TARGET.format(way=way, literal=SECRETS["LITERAL"])
        if way == "proxied":
            text += f'proxy = "http://me:${{SG_PROXY}}@{server.host}:{server.port}"\n'
    (folder / "streamgauge.toml").write_text(text)
    (folder / ".env.streamgauge").write_text(f"SG_BODY_KEY={SECRETS['BODY_KEY']}\n")


@pytest.fixture(scope="module")
def echo() -> Iterator[tuple[Server, Echo]]:
    said = Echo()
    with serving(said) as server:
        yield server, said


def clean(*texts: str | bytes) -> None:
    for text in texts:
        assert found_in(text.encode() if isinstance(text, str) else text) == []


def test_the_search_finds_each_secret_in_each_form_and_in_pieces() -> None:
    for said in sayings():
        assert found_in(said.encode()), said
    assert found_in(b"...\"Lo'ng&Key<...")
    assert found_in(b"nothing to see") == []


def test_a_run_of_every_failure_leaves_no_secret_anywhere(echo: tuple[Server, Echo], tmp_path: Path) -> None:
    server, said = echo
    write_spec(tmp_path, server, WAYS)
    command = [
        sys.executable,
        "-m",
        "streamgauge",
        "run",
        "ttft",
        "--requests",
        "24",
        "--concurrency",
        "24",
        "--seed",
        "1",
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(**ENV), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    workers: dict[str, tuple[bytes, bytes]] = {}
    watched = psutil.Process(process.pid)
    try:
        while process.poll() is None and not any(b"streamgauge.worker" in line for line, _ in workers.values()):
            children = [child.pid for child in watched.children(recursive=True)]
            workers |= {who: (line, environ) for who, line, environ in processes([*children, process.pid])}
            time.sleep(0.02)
        out, err = process.communicate(timeout=200)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode in (1, 3, 4, 5), err.decode()[-2_000:]
    sent = b"".join(said.seen)
    assert b"Bearer" in sent, "the secrets were sent"
    assert b"Proxy-Authorization: Basic" in sent
    clean(out, err)
    assert leaks(tmp_path, *OWN) == []
    assert len(list(tmp_path.glob("tests/performance/reports/*"))) == 4
    seen = {who: pair for who, pair in workers.items() if b"streamgauge.worker" in pair[0]}
    assert seen, "a worker was looked at while it ran"
    for line, environ in workers.values():
        clean(line)
        if b"streamgauge.worker" in line:
            clean(environ)
    again = inline("report", "last", "--json", cwd=tmp_path, **ENV)
    clean(again.out, again.err)


@pytest.mark.parametrize("way", WAYS)
def test_check_of_every_failure_tells_no_secret(way: str, echo: tuple[Server, Echo], tmp_path: Path) -> None:
    write_spec(tmp_path, echo[0], (way,))
    for flags in ((), ("--json",)):
        done = inline("check", *flags, cwd=tmp_path, **ENV)
        assert done.code in (0, 2, 4), done.err
        clean(done.out, done.err)
    assert leaks(tmp_path, *OWN) == []


def test_a_dry_run_tells_no_secret(echo: tuple[Server, Echo], tmp_path: Path) -> None:
    write_spec(tmp_path, echo[0], ("ok", "auth"))
    for flags in (("--dry-run",), ("--dry-run", "--json")):
        done = inline("run", *flags, cwd=tmp_path, **ENV)
        assert done.code == 0, done.err
        assert "/ok/v1/chat/completions?key=" in done.out
        clean(done.out, done.err)
    assert leaks(tmp_path, *OWN) == []


def test_a_killed_worker_and_what_was_typed_leave_no_secret(echo: tuple[Server, Echo], tmp_path: Path) -> None:
    """Given by flags: the parent's own command line has them, the worker's and the files do not."""
    url = f"{echo[0].url}/ok/v1/chat/completions?key={SECRETS['URL_KEY'].replace('+', '%2B')}"
    command = [
        sys.executable, "-m", "streamgauge", "run", "ttft", "--url", url, "--model", "m", "--json", "--rate", "10",
        "--duration", "120s", "-H", f"Authorization: Bearer {SECRETS['API_KEY']}", "-H", "X-Api-Key: ${SG_SHORT}",
        "-H", f"Cookie: sid={SECRETS['COOKIE']}", "-H", f"X-Session: {SECRETS['LITERAL']}",
        "-H", f"Proxy-Authorization: {SECRETS['PROXY']}", "-H", f"X-Auth-Token: {SECRETS['BODY_KEY']}",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(**ENV), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        worker = _worker_of(process, tmp_path)
        for _, line, environ in processes([worker.pid]):
            clean(line, environ)
        worker.kill()
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 5, err.decode()[-2_000:]
    clean(out, err)
    assert leaks(tmp_path, *OWN) == []


def _worker_of(process: subprocess.Popen[bytes], folder: Path) -> psutil.Process:
    """The worker of a run, once samples of it are on the disk."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        if any(path.stat().st_size > 2_000 for path in folder.glob(".streamgauge/runs/*/samples-*.sgs")):
            return psutil.Process(process.pid).children()[0]
        time.sleep(0.05)
    raise AssertionError("no samples within 90 s")


def test_init_from_a_copied_request_writes_secrets_into_their_one_file_only(tmp_path: Path) -> None:
    request = shlex.join([
        "curl", f"https://app.example/api/chat?key={SECRETS['SHORT']}",
        "-H", f"authorization: Bearer {SECRETS['URL_KEY']}", "-b", f"sid={SECRETS['COOKIE']}",
        "-H", "content-type: application/json",
        "--data-raw", '{"id":"x","messages":[{"role":"user","content":"hi"}],"apiToken":"' + SECRETS["BODY_KEY"] + '"}',
    ])  # fmt: skip
    (tmp_path / "request.txt").write_text(request)
    done = inline("init", "--from-curl", "request.txt", "--dialect", "ai-sdk", cwd=tmp_path)
    assert done.code == 0, done.err
    clean(done.out, done.err)
    assert leaks(tmp_path, ".env.streamgauge", "request.txt") == []
    assert {name for name in ("SHORT", "URL_KEY", "COOKIE", "BODY_KEY") if SECRETS[name] in
            (tmp_path / ".env.streamgauge").read_text()} == {"SHORT", "URL_KEY", "COOKIE", "BODY_KEY"}  # fmt: skip
    for wrong in (request[5:], request[:-1], f"Authorization: Bearer {SECRETS['API_KEY']}"):
        again = inline("init", "--from-curl", "-", "--config", "other.toml", cwd=tmp_path, stdin=wrong.encode())
        assert again.code == 2
        clean(again.out, again.err)


@pytest.mark.parametrize("way", WAYS)
def test_stream_client_keeps_no_secret_in_what_it_tells(way: str, echo: tuple[Server, Echo]) -> None:
    url = f"{echo[0].url}/{way}/v1?key={SECRETS['URL_KEY'].replace('+', '%2B')}&token={SECRETS['LITERAL']}"
    headers = {
        "Authorization": f"Bearer {SECRETS['API_KEY']}", "Cookie": f"sid={SECRETS['COOKIE']}; a=b",
        "X-Api-Key": SECRETS["SHORT"], "Proxy-Authorization": SECRETS["PROXY"],
    }  # fmt: skip
    more = {"body": '{"messages":[],"apiToken":"' + SECRETS["BODY_KEY"] + '","prompt":"{prompt}"}'}
    if way == "proxied":
        more["proxy"] = f"http://me:{SECRETS['PROXY']}@{echo[0].host}:{echo[0].port}"
    with StreamClient(url, dialect="openai-chat", model="m", headers=headers, **more) as client:
        clean(repr(client), repr(client.target))
        for _ in range(12):
            clean(msgspec.json.encode(client.ask("hello").sample), repr(client._loop))


@pytest.mark.parametrize("way", WAYS)
def test_whatever_is_said_and_wherever_it_is_cut_a_sample_keeps_no_secret(way: str) -> None:
    given = [*SECRETS.values(), f"Bearer {SECRETS['API_KEY']}", f"i={SECRETS['COOKIE']}; a=b"]
    redact, answer = Redactor(given).text, getattr(Echo(), f"_{way}")
    for said in list(sayings())[::3]:
        data = answer(said)
        stream = Stream(Shot(0, "t", "p", 0, "hold", 1, 0, 0), "0" * 32, DIALECTS["openai-chat"], Limits())
        stream.on_start(0, 0)
        stream.on_sent(0)
        for part in data if isinstance(data, tuple) else (data,):
            if not stream.done:
                stream.on_read(1, 0, part)
        stream.on_close(2)
        clean(msgspec.json.encode(stream.sample(redact)))


def test_mistakes_in_urls_are_told_without_what_is_secret_in_them() -> None:
    key = SECRETS["SHORT"]
    for url in (f"ftp://h/x?key={key}", f"http://h/a b?key={key}", f"http://h:x/?api_key={key}", f"http://u:{key}@/"):
        with pytest.raises(UsageError) as told:
            target_from_url(url, dialect="openai-chat")
        clean(str(told.value))
    for url in (f"user:{key}@host/x", f"http://user:{key}@host/x", f"host/x?key={key}", f"http://h/ x?key={key}"):
        done = inline("run", "--url", url, "--dry-run", "--dialect", "openai-chat", cwd=Path("/"))
        assert done.code == 2
        clean(done.out, done.err)


# A bug of ours.


def test_a_worker_that_crashes_says_why_once_and_without_secrets(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A prompt set that is not there, named like a secret: the worker's KeyError quotes it."""
    secret = SECRETS["API_KEY"]
    target = target_from_url("http://127.0.0.1:9/x", dialect="openai-chat", name="app", model="m")
    target = msgspec.structs.replace(target, addresses=(("127.0.0.1", 9),))
    lane = Lane(("app",), (secret,), Hold(1), 2)
    load = Load(
        targets=(target,), prompts={"short": ("Hi",)}, phases=(Phase("hold", (lane,), 1, 10_000_000_000),), seed=1,
        secrets=(secret,),
    )  # fmt: skip
    journal = Journal(tmp_path)
    try:
        ending = conduct(load, tmp_path, SystemClock(), journal, lambda event: None)
    finally:
        journal.close()
    assert ending.bug is not None
    assert "KeyError" in ending.bug
    said = capfd.readouterr()
    assert "Traceback" not in said.err, "the parent tells it"
    clean(ending.bug, said.out, said.err)
    assert leaks(tmp_path) == []


def test_a_crash_of_the_command_is_told_with_its_traceback_and_without_secrets(
    echo: tuple[Server, Echo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_spec(tmp_path, echo[0], ("ok",))
    inline("run", "--dry-run", cwd=tmp_path, **ENV)  # it knows its secrets from here on
    held = " and ".join(SECRETS[name] for name in (*IN_ENV, "BODY_KEY", "LITERAL"))
    try:
        raise RuntimeError(f"a bug that holds {held}")
    except RuntimeError:
        assert cli.tell_bug() == 70
    said = capsys.readouterr()
    assert "RuntimeError: a bug that holds" in said.err
    clean(said.out, said.err)


def test_what_holds_secrets_shows_none_in_its_repr(echo: tuple[Server, Echo], tmp_path: Path) -> None:
    from streamgauge.spec.resolve import resolve
    from streamgauge.spec.settings import Overrides
    from streamgauge.suite.prepare import prepare

    write_spec(tmp_path, echo[0], ("ok",))
    spec = load_spec(tmp_path / "streamgauge.toml", speak=with_options, environ=ENV)
    prepared = prepare(resolve(spec, None, ENV, "ttft", Overrides()), 1)
    load = prepared.load
    job = Job(targets=load.targets, prompts={}, phases=(), samples="x", shard=0, shards=1, seed=1, secrets=load.secrets)
    clean(repr(load.targets), repr(job), repr(prepared.resolved.redactor), repr(load))


# The parts.


def test_a_worker_gets_the_environment_less_what_is_secret() -> None:
    given = {
        **ENV, "PATH": "/bin", "HOME": "/root", "LANG": "C", "PYTHONPATH": "src", "OPENAI_API_KEY": "whatever-it-is",
        "MY_URL": f"http://h/x?token={SECRETS['LITERAL']}", "PWD": "/work", "SSH_AUTH_SOCK": "/tmp/s",
    }  # fmt: skip
    kept = without_secrets(given, SECRETS.values())
    assert {"PATH", "HOME", "LANG", "PYTHONPATH", "PWD", "NO_PROXY"} <= kept.keys()
    clean("\n".join(kept.values()))
    assert "OPENAI_API_KEY" not in kept


@pytest.mark.parametrize("name", SECRETS)
def test_a_piece_of_a_secret_beside_an_ellipsis_is_hidden_at_every_cut(name: str) -> None:
    secret = SECRETS[name]
    redactor = Redactor([secret])
    for cut in range(1, len(secret)):
        for text in (f"a {secret[:cut]}…", f"…{secret[cut:]} b", f"a {secret[:cut]}… b …{secret[cut:]}, c"):
            assert found_in(redactor.text(text).encode()) == [], text
        for end in range(cut + 1, len(secret) + 1):
            assert found_in(redactor.text(f"…{secret[cut:end]}…").encode()) == []
    assert redactor.text("Bearer… and more…") == "Bearer… and more…"


@pytest.mark.parametrize(
    "unit", ["eyJ-", "a.", "bearer ", "?a=", "…", "zq7\"Lo'…", "<script", "<title", "</script  ", "://"]
)
def test_no_text_makes_the_search_for_secrets_and_words_slow(unit: str) -> None:
    """16 KB of it is read in some ms; what is quadratic in it would take a second and hold up every other stream."""
    text = (unit * 16_384)[:16_384]
    redact = Redactor(SECRETS.values()).text
    began = time.process_time()
    words_of(500, {}, text.encode(), redact)
    assert time.process_time() - began < 0.6


def test_a_text_is_cut_with_a_mark_and_words_that_are_no_piece_stay() -> None:
    assert secrets.cut_short("abcdef", 6) == "abcdef"
    assert secrets.cut_short("abcdefg", 6) == "abcde…"
    redactor = Redactor(["Bearer abc123def456", "abc123def456"])
    assert redactor.text("Authentication wants Bearer…") == "Authentication wants Bearer…"
    assert redactor.text("you sent Bearer abc123…") == "you sent [redacted]…"
    assert redactor.text("…def456 was sent") == "…[redacted] was sent"


def test_secrets_stand_under_names_in_urls_and_bodies() -> None:
    url = "https://us:pa%20ss-word@h/x?key=abc%2Bdef&alt=sse&access_token=tok-12345#f"
    assert set(secrets.secrets_in_url(url)) == {
        "us:pa%20ss-word", "pa%20ss-word", "pa ss-word", "abc+def", "abc%2Bdef", "tok-12345"
    }  # fmt: skip
    assert secrets.secrets_in_url("/v1/chat?model=gpt-4o-mini&key=${KEY}") == ()
    body = '{"a":{"apiKey":"k-123456","tokens":["no-secret"]},"password":["p-123456"],"messages":"{prompt}","id":"x"}'
    assert set(secrets.secrets_in_json(body)) == {"k-123456", "p-123456"}
    assert secrets.secrets_in_json("no json {prompt}") == ()

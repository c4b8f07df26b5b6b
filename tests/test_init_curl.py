"""Copied requests: quoting against bash itself, the forms of three browsers, what is refused and how."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from browsers import chrome, firefox
from streamgauge.cli.curl import parse_curl, split_words
from streamgauge.errors import UsageError

BASH = shutil.which("bash")


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40)


@given(st.lists(TEXT, min_size=1, max_size=4))
@settings(deadline=None)
@example(["it's !", "a\\b\n\r\té", "😀é"])
def test_words_quoted_by_chrome_or_firefox_are_read_back(texts: list[str]) -> None:
    # Letters of Latin-1 in a row may be UTF-8 bytes as well in Firefox's \xHH: bash takes them so, and so do we.
    for quote in (chrome, firefox):
        plain = [one for one in texts if quote is chrome or not re.search(r"[\x80-\xff]{2}", one)]
        assert split_words(" \\\n  ".join(quote(one) for one in ["curl", *plain])) == ["curl", *plain]


SHELL = st.lists(
    st.sampled_from([
        "'a b'", '"a \\"b\\" \\$x \\q"', "$'t\\tn\\n\\'q\\\\'",
        "$'\\x41\\u00e9\\U0001F600\\101\\cA\\e\\z'", "pl\\ ain", "a'b'\"c\"$'d'", "''", '""', "\\\n", " ",
        "  \\\n ", "$'\\xc3\\xa9'", "x=1", "'{\"a\":\"b\"}'", '"two\nlines"', "'two\nlines'",
    ]),
    min_size=1,
    max_size=8,
)  # fmt: skip


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
@given(SHELL)
@settings(max_examples=40, deadline=None)
def test_words_are_split_as_bash_splits_them(pieces: list[str]) -> None:
    line = "X" + "".join(pieces)
    done = subprocess.run(
        [str(BASH), "-c", f"printf '%s\\0' {line}"],
        capture_output=True,
        env={"LC_ALL": "C.UTF-8"},
        timeout=20,
        check=True,
    )
    assert split_words(line) == done.stdout.decode().split("\0")[:-1]


@given(st.text(max_size=60))
@settings(deadline=None)
def test_any_text_is_a_request_or_a_told_mistake(text: str) -> None:
    for one in (text, f"curl {text}"):
        try:
            parse_curl(one)
        except UsageError as error:
            assert "--from-curl" in str(error)  # noqa: PT017 - most texts are mistakes, some are requests


def test_chromes_form_is_read() -> None:
    found = parse_curl(
        "curl 'https://h.example/api/chat?a=\\[1\\]' \\\n  -H 'accept: */*' \\\n  -b 'a=b; c=d' \\\n"
        "  -H 'x-empty;' \\\n"
        '  --data-raw $\'{"q":"it\\\'s\\u0021"}\' ;\n'
    )
    assert found.url == "https://h.example/api/chat?a=[1]"
    assert found.headers == (("accept", "*/*"), ("cookie", "a=b; c=d"), ("x-empty", ""))
    assert found.body == '{"q":"it\'s!"}'


def test_firefoxs_form_is_read() -> None:
    found = parse_curl(
        "curl 'https://h.example/api/chat' --compressed -X POST -H 'User-Agent: Mozilla/5.0' -H 'Cookie: a=b' "
        '--data-raw $\'{"q":"caf\\xe9 \\ud83d\\ude00\\x21"}\''
    )
    assert found.headers == (("User-Agent", "Mozilla/5.0"), ("Cookie", "a=b"))
    assert found.body == '{"q":"café 😀!"}'


def test_safaris_form_is_read() -> None:
    found = parse_curl(
        "curl 'https://h.example/api/chat' \\\n-X 'POST' \\\n-H 'Content-Type: application/json' \\\n"
        "--data-binary '{\"q\":1}'"
    )
    assert (found.url, found.body) == ("https://h.example/api/chat", '{"q":1}')


def test_what_people_type_by_hand_is_read_too() -> None:
    found = parse_curl(
        "$ curl -sS -k -XPOST --url=https://h.example -A me -e http://r -u user:pw -H'X-A: b' --json '{}' "
        "--max-time 5 -o out"
    )
    assert found.insecure
    assert found.headers == (
        ("user-agent", "me"),
        ("referer", "http://r"),
        ("authorization", "Basic dXNlcjpwdw=="),
        ("X-A", "b"),
        ("content-type", "application/json"),
    )
    assert parse_curl("curl https://h -d '{' -d '}' --cacert ca.pem --cert me.pem --key k.pem").files == (
        ("ca", "ca.pem"),
        ("cert", "me.pem"),
        ("key", "k.pem"),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing there"),
        ('curl ^"https://h.example/^" ^\r\n  -H ^"accept: */*^"', 'Copy as cURL (cmd)"'),
        ('curl --location "https://h" ^\n -d "{}"', 'Copy as cURL (cmd)"'),
        ('fetch("https://h", {})', 'Copy as fetch"'),
        ("await fetch('https://h')", 'Copy as fetch"'),
        ("$session = New-Object Microsoft", 'Copy as PowerShell"'),
        ("Invoke-WebRequest -Uri x", 'Copy as PowerShell"'),
        ("wget https://h", "begins with 'wget', not with curl"),
        ("curl 'https://h", "never closed; the text was cut short"),
        ("curl $'https://h", "never closed"),
        ('curl "https://h', "never closed"),
        ("curl https://h -H", "-H has no value"),
        ("curl https://h --data-raw", "--data-raw has no value"),
        ("curl 'https://h'", "this is a GET request"),
        ("curl -X PUT https://h -d x", "this is a PUT request"),
        ("curl -X POST https://h", "a POST without a body"),
        ("curl -d x", "0 urls in the command"),
        ("curl -d x https://a https://b", "2 urls in the command"),
        ("curl https://h -d @body.json", "the body is in the file 'body.json'; paste it"),
        ("curl https://h -F a=b", "a form with files"),
        ("curl --socks5 localhost:9050 https://h -d x", "a request through a SOCKS proxy"),
        ("curl -x socks5h://me:S3cr3t@localhost https://h -d x", "a proxy that speaks socks5h cannot be used"),
        ("curl https://h -G -d a=b", "a GET request"),
        ("curl https://h --data-urlencode a=b", "encodes by itself"),
        ("curl 'https://a' -d '{}' ;\ncurl 'https://b' -d '{}'", "there are several requests"),
        ("curl 'https://a' -d '{}' & curl 'https://b'", "there are several requests"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_next_step(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_curl(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("-x proxy.example:3128", "http://proxy.example:3128"),
        ("-xproxy.example", "http://proxy.example:1080"),
        ("--proxy https://proxy.example", "https://proxy.example:443"),
        ("-x http://me@proxy.example:1", "http://me@proxy.example:1"),
        ("-x http://me:p%40ss@proxy.example:1", "http://me:HIDDEN@proxy.example:1"),
        ("-x http://x:y@proxy.example:1 -U 'm e:p@ss:1'", "http://m%20e:HIDDEN@proxy.example:1"),
        ("-x ''", "none"),
        ("-x proxy.example:1 --noproxy other.example", "http://proxy.example:1"),
        ("-x proxy.example:1 --noproxy '*'", "none"),
        ("-x proxy.example:1 --noproxy 'a.example, h.example'", "none"),
        ("-U me:pw", None),
    ],
)
def test_the_proxy_is_read_as_curl_takes_it(options: str, text: str | None) -> None:
    proxy = parse_curl(f"curl {options} https://h.example -d '{{}}'").proxy
    assert (None if proxy is None else proxy.text("HIDDEN")) == text


def test_a_copied_request_shows_no_secret_in_its_repr() -> None:
    assert "S3cr3t" not in repr(
        parse_curl("curl https://h -H 'authorization: S3cr3t' -d S3cr3t -x http://me:S3cr3t@proxy:1")
    )

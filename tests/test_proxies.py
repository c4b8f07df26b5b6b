"""Which proxy a target goes through, by text alone; Python's own urllib is asked the same where it has an answer."""

from __future__ import annotations

import base64
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.proxies import Proxy, from_environment, parse_proxy, secrets_of_proxy
from streamgauge.secrets import Redactor


def chosen(
    environ: dict[str, str], scheme: str = "https", host: str = "api.example.com", port: int = 443
) -> str | None:
    found = from_environment(scheme, host, port, environ).proxy
    return None if found is None else f"{found.shown} by {found.source}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("proxy:3128", "http://proxy:3128"),
        ("http://proxy", "http://proxy:80"),
        ("https://proxy/", "https://proxy:443"),
        ("HTTP://Proxy.Example:8080", "http://proxy.example:8080"),
        ("http://[::1]:3128", "http://[::1]:3128"),
        ("http://me:secret@10.0.0.1:3128", "http://10.0.0.1:3128"),
    ],
)
def test_a_proxy_is_named_by_its_url_or_host_and_port(text: str, shown: str) -> None:
    found = parse_proxy(text)
    assert found is not None
    assert found.shown == shown


@pytest.mark.parametrize("text", ["none", "None", " none "])
def test_none_is_no_proxy(text: str) -> None:
    assert parse_proxy(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("socks5://me:planted-pw@proxy:1080", "speaks socks5 cannot be used"),
        ("http://me:planted-pw@proxy:port", "cannot be read"),
        ("http://me:planted-pw@proxy:99999", "cannot be read"),
        ("http://me:planted-pw@:3128", "names no host"),
        ("http://me:planted-pw@proxy:0", "1 to 65535"),
        ("http://me:planted-pw@proxy:3128/path", "scheme, host and port"),
        ("http://me:planted-pw @proxy:3128", "percent-encoded"),
        ("http://me:planted-pw\n@proxy:3128", "percent-encoded"),
        ("http://[::1:3128", "cannot be read"),
    ],
)
def test_what_names_none_is_told_without_its_password(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_proxy(text)
    assert "planted-pw" not in str(caught.value)
    assert "it wants the form http://host:port" in str(caught.value)


@given(st.text(min_size=1), st.text())
def test_credentials_are_percent_decoded_whatever_is_in_them(user: str, password: str) -> None:
    user = user.replace(":", "")
    try:
        plain = f"{user}:{password}".encode()
    except UnicodeEncodeError:
        return  # half a surrogate pair is no text
    quoted = "".join(f"%{byte:02x}" for byte in user.encode())
    secret = "".join(f"%{byte:02X}" for byte in password.encode())
    found = parse_proxy(f"http://{quoted}:{secret}@proxy:3128")
    assert found is not None
    assert found.authorization == f"Basic {base64.b64encode(plain).decode()}"


def test_credentials_are_in_no_repr_and_in_every_form_a_secret() -> None:
    found = parse_proxy("http://me:planted%20pass%2Fword@proxy:3128")
    assert isinstance(found, Proxy)
    assert "planted" not in repr(found)
    redact = Redactor(secrets_of_proxy(found)).text
    for text in ("planted pass/word", "planted%20pass%2Fword", "me:planted pass/word", found.authorization or ""):
        assert redact(f"x {text} y").replace("[redacted]", "").replace("Basic ", "").split() == ["x", "y"]


# The environment.


@pytest.mark.parametrize(
    ("environ", "scheme", "proxy"),
    [
        ({}, "https", None),
        ({"HTTPS_PROXY": ""}, "https", None),
        ({"HTTPS_PROXY": "http://a:1"}, "https", "http://a:1 by HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://a:1"}, "http", None),
        ({"https_proxy": "http://b:1", "HTTPS_PROXY": "http://a:1"}, "https", "http://b:1 by https_proxy"),
        ({"http_proxy": "http://a:1"}, "http", "http://a:1 by http_proxy"),
        ({"HTTP_PROXY": "http://a:1"}, "http", "http://a:1 by HTTP_PROXY"),
        ({"HTTP_PROXY": "http://a:1", "REQUEST_METHOD": "GET"}, "http", None),
        ({"http_proxy": "http://a:1", "REQUEST_METHOD": "GET"}, "http", "http://a:1 by http_proxy"),
        ({"HTTPS_PROXY": "http://a:1", "REQUEST_METHOD": "GET"}, "https", "http://a:1 by HTTPS_PROXY"),
        ({"ALL_PROXY": "http://c:1"}, "https", "http://c:1 by ALL_PROXY"),
        ({"all_proxy": "http://c:1", "HTTP_PROXY": "http://a:1"}, "http", "http://a:1 by HTTP_PROXY"),
        ({"ALL_PROXY": "c:1", "HTTP_PROXY": "a:1", "REQUEST_METHOD": "GET"}, "http", "http://c:1 by ALL_PROXY"),
    ],
)  # fmt: skip
def test_the_environment_names_the_proxy(environ: dict[str, str], scheme: str, proxy: str | None) -> None:
    assert chosen(environ, scheme) == proxy


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "app.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_itself_is_asked_directly_and_that_is_told(host: str) -> None:
    found = from_environment("http", host, 8080, {"HTTP_PROXY": "http://a:1"})
    assert found.proxy is None
    assert found.why == "HTTP_PROXY is set, but this machine itself is asked directly"


def test_a_variable_whose_value_cannot_be_used_is_named_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r'^ALL_PROXY: a proxy that speaks socks5h .*proxy = "none"') as caught:
        chosen({"ALL_PROXY": "socks5h://me:planted-pw@a:1080"})
    assert "planted-pw" not in str(caught.value)


EXEMPT = [
    ("*", "api.example.com", 443, True),
    ("api.example.com", "api.example.com", 443, True),
    ("example.com", "api.example.com", 443, True),
    (".example.com", "api.example.com", 443, True),
    ("*.example.com", "api.example.com", 443, True),
    (".example.com", "example.com", 443, True),
    ("Example.COM", "API.example.com", 443, True),
    ("ample.com", "api.example.com", 443, False),
    ("example.org, ,api.example.com", "api.example.com", 443, True),
    ("example.org api.example.com", "api.example.com", 443, True),
    ("api.example.com:443", "api.example.com", 443, True),
    ("api.example.com:8443", "api.example.com", 443, False),
    ("example.com:443", "api.example.com", 443, True),
    ("10.0.0.0/8", "10.1.2.3", 80, True),
    ("10.0.0.0/8", "11.1.2.3", 80, False),
    ("10.1.2.3/8", "10.9.9.9", 80, True),
    ("10.0.0.0/8:80", "10.1.2.3", 80, True),
    ("10.1.2.3", "10.1.2.3", 80, True),
    ("10.1.2.3:81", "10.1.2.3", 80, False),
    ("1.2.3", "10.1.2.3", 80, False),
    ("fd00::/8", "fd12::1", 80, True),
    ("[fd12::1]:80", "fd12::1", 80, True),
    ("[fd12::1]:81", "fd12::1", 80, False),
    ("fd12::1", "fd12::1", 80, True),
    ("10.0.0.0/8", "ten.example.com", 80, False),
    ("10.0.0.0/99", "10.1.2.3", 80, False),
    ("::::/x,.,:80,,*:81", "10.1.2.3", 80, False),
    ("", "api.example.com", 443, False),
]


@pytest.mark.parametrize(("rules", "host", "port", "exempt"), EXEMPT)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_exempts_by_name_suffix_port_address_and_network(
    rules: str, host: str, port: int, name: str, *, exempt: bool
) -> None:
    found = from_environment("https", host, port, {"HTTPS_PROXY": "http://a:1", name: rules})
    assert (found.proxy is None) is exempt
    if exempt:
        assert f"HTTPS_PROXY is set, but {name} exempts {host}" in (found.why or "")


@pytest.mark.parametrize(("rules", "host"), [(r, h) for r, h, _, _ in EXEMPT if "example" in h and ":" not in r])
def test_python_itself_agrees_on_names(rules: str, host: str) -> None:
    ours = from_environment("https", host, 443, {"https_proxy": "http://a:1", "no_proxy": rules}).proxy is None
    if " " in rules.replace(", ", ",") or rules.startswith("*."):
        return  # spaces part names for curl and Go, and *. is Go's: not for Python
    theirs = bool(urllib.request.proxy_bypass_environment(host, {"no": rules}))  # type: ignore[attr-defined] # untyped
    assert ours is theirs


@given(st.text(), st.text(), st.integers(1, 65535))
def test_no_text_of_no_proxy_is_too_wild(rules: str, host: str, port: int) -> None:
    found = from_environment("https", host, port, {"HTTPS_PROXY": "http://a:1", "NO_PROXY": rules})
    assert (found.proxy is None) is ("exempts" in (found.why or "") or "itself" in (found.why or ""))

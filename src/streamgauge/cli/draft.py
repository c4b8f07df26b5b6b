"""A copied request to a draft of a target: where the prompt goes, what is new each time, what is secret, what is noise.

Rules: every decision is said, in the words that `init` prints. What the request sent is sent again, except noise of the
browser and of its hop; nothing is added. When in doubt a value is a secret, and an id stays as it is: a changed id of
one's own (an organisation, an assistant) would measure an error.

Pure: text in, `Draft` out. Slots are {prompt} {chat} {uuid} {model} {max_tokens}; a secret becomes ${SG_NAME}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from streamgauge.cli.curl import CopiedRequest
from streamgauge.cli.curl_proxy import CopiedProxy
from streamgauge.cli.noise import DROPPED_HEADERS, cookie_noise
from streamgauge.cli.slots import (
    MAX_KEYS,
    MODEL_KEYS,
    SLOT,
    UUID,
    Json,
    Where,
    disarmed,
    folded,
    is_chat_id,
    is_new_id,
    numbers,
    prompt_place,
    same_text,
    template,
    texts,
    written,
)
from streamgauge.errors import UsageError
from streamgauge.proxies import NONE
from streamgauge.secrets import is_sensitive, looks_secret

Recognise: TypeAlias = Callable[[str, Mapping[str, str], object], str | None]

_STANDARD = {
    "messages", "id", "model", "stream", "contents", "max_tokens", "trigger", "message", "stream_options", "system",
    "generationConfig", "systemInstruction", "temperature", "messageId",
}  # fmt: skip
_INSTRUCTIONS = ("system", "developer")
_USUAL = {"accept": ("*/*", "text/event-stream"), "content-type": ("application/json",)}
"""What every dialect sends by itself."""


@dataclass(slots=True)
class Draft:
    """A target as it will be written, and what was decided on the way."""

    url: str
    dialect: str
    model: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    verify: bool = True
    files: tuple[tuple[str, str], ...] = ()
    proxy: str | None = None
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    """Variable -> value, for .env.streamgauge."""
    decisions: list[tuple[str, str]] = field(default_factory=list)
    """(word, text), as printed."""
    taken: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables that .env.streamgauge holds already; one of them is used again only where it has the same value."""

    def say(self, word: str, text: str) -> None:
        """Note a decision."""
        self.decisions.append((word, text))

    def hide(self, value: str, name: str) -> str:
        """A ${...} reference to `value`, under a variable named after `name`."""
        base = variable_for(name)
        number, variable = 1, base
        while {**self.taken, **self.secrets}.get(variable, value) != value:
            number += 1
            variable = f"{base}_{number}"
        self.secrets[variable] = value
        return f"${{{variable}}}"


def variable_for(name: str) -> str:
    """The variable a secret of this name goes to: SG_SESSION, SG_CSRF, SG_TOKEN, SG_API_KEY, or SG_ and the name."""
    plain = re.sub(r"^__(?:Secure|Host)-", "", name).lower()
    words = (
        (r"csrf|xsrf", "CSRF"),
        (r"session|(?:^|[.-])sid$", "SESSION"),
        (r"^authorization$", "TOKEN"),
        (r"api-?key|goog-api|^key$", "API_KEY"),
    )
    for pattern, word in words:
        if re.search(pattern, plain):
            return f"SG_{word}"
    cleaned = re.sub(r"[^A-Za-z0-9]+", "_", re.sub(r"^__(?:Secure|Host)-", "", name)).strip("_").upper()
    return f"SG_{cleaned[:40] or 'SECRET'}"


def draft_from_request(
    request: CopiedRequest,
    *,
    recognise: Recognise,
    dialect: str | None = None,
    model: str | None = None,
    prompt: str | None = None,
    taken: Mapping[str, str] | None = None,
) -> Draft:
    """The draft for a copied request. `dialect`, `model` and `prompt` (words that were typed) win over what is found.

    UsageError where the body is no JSON or no prompt is found, with the next step.
    """
    body = _parsed(request)
    path = re.sub(r"^[a-z]+://[^/?]*", "", request.url) or "/"
    known = recognise(path, dict(request.headers), body)
    draft = Draft(request.url, dialect or known or "ai-sdk", model, taken=taken or {}, verify=not request.insecure)
    draft.files = request.files
    _say_target(draft, body, guessed=dialect is None and known is None)
    draft.body = _body(draft, body, prompt)
    draft.url = _url(draft, draft.url)
    _headers(draft, request.headers)
    if request.insecure:
        draft.say("tls", "the certificate is not checked (-k), and every report will say so")
    if request.proxy is not None:
        _proxy(draft, request.proxy)
    for key, name in request.files:
        draft.say("tls", f"{key} {name}: kept; the file must lie beside the spec or be named in full")
    return draft


def _proxy(draft: Draft, proxy: CopiedProxy) -> None:
    """The proxy is a part of how the target is reached; its password is a secret."""
    draft.say("proxy", f"{proxy.url}: every request goes there" if proxy.url != NONE else "none, as the request had it")
    reference = "" if proxy.password is None else draft.hide(proxy.password, "proxy-password")
    if reference:
        _say_secret(draft, "the proxy's password", reference)
    draft.proxy = proxy.text(reference)


def _parsed(request: CopiedRequest) -> Json:
    kind = next((value for name, value in request.headers if name.lower() == "content-type"), "")
    try:
        body: Json = json.loads(request.body)
    except (ValueError, RecursionError):
        raise UsageError(
            f"--from-curl: the body is not JSON ({kind or 'no content type'}); "
            "only a POST with a JSON body can be measured"
        ) from None
    if not isinstance(body, dict):
        raise UsageError("--from-curl: the body is JSON but no object; copy the request that asks the model")
    return body


def _say_target(draft: Draft, body: Json, *, guessed: bool) -> None:
    assert isinstance(body, dict)
    shape = ""
    if draft.dialect == "ai-sdk" and isinstance(body.get("messages"), list):
        shape = " (messages[].parts)" if '"parts"' in json.dumps(body["messages"]) else " (messages[].content)"
    own = [key for key in body if key not in _STANDARD]
    kept = f"   kept {len(own)} body field{'s' * (len(own) != 1)} of your own" if own else ""
    draft.say("target", f"POST {draft.url.partition('?')[0]}   dialect {draft.dialect}{shape}{kept}")
    if guessed:
        draft.say(
            "dialect", f"{draft.dialect} is a guess, the request does not tell; `streamgauge check` names the right one"
        )


def _body(draft: Draft, body: Json, words: str | None) -> str:
    """The template: the body with its slots."""
    places: dict[Where, str] = {}
    at, text, typed = prompt_place(body, words)
    before, _, after = text.partition(typed)
    places[at] = disarmed(before) + "{prompt}" + disarmed(after)
    copies = same_text(body, at, text) if typed == text else []
    places.update(dict.fromkeys(copies, "{prompt}"))
    part = " (a part of the text)" if typed != text else ""
    draft.say("prompt", f"goes to {', '.join(map(written, (at, *copies)))}{part}")
    _ids(draft, body, at, places)
    _model_and_length(draft, body, places)
    for where, value in texts(body):
        key = next((str(part) for part in reversed(where) if isinstance(part, str)), "")
        if where not in places and len(value) >= 8 and (is_sensitive(key) or looks_secret(value)):
            places[where] = draft.hide(value, key)
            _say_secret(draft, f"field {written(where)}", places[where])
    _say_history(draft, body, at)
    return template(body, places)


def _ids(draft: Draft, body: Json, prompt_at: Where, places: dict[Where, str]) -> None:
    """Chat id -> {chat}, ids of the new message -> {uuid}; other ids stay."""
    here = [(at, text) for at, text in texts(body) if at not in places]
    chats = [(at, text) for at, text in here if is_chat_id(at, text)]
    new = [(at, text) for at, text in here if (at, text) not in chats and is_new_id(at, text, prompt_at)]
    said = []
    if chats:
        value = chats[0][1]
        same = [at for at, text in here if text == value]
        places.update(dict.fromkeys(same, "{chat}"))
        draft.url = draft.url.replace(value, "{chat}")
        said.append(f"chat id ({', '.join(map(written, same))})")
    for at, text in new:
        if at not in places and sum(text == other for _, other in here) == 1:
            places[at] = "{uuid}"
            said.append(f"id {written(at)}")
    if said:
        were = [text for at, text in here if at in places]
        shape = "" if all(map(UUID.match, were)) else "; they become UUIDs"
        draft.say("new", f"{', '.join(said)}: new for each request{shape}")
    kept = [written(at) for at, text in here if at not in places and UUID.match(text)]
    if kept:
        shown = ", ".join(kept[:4]) + (f" and {len(kept) - 4} more" if len(kept) > 4 else "")
        draft.say("kept", f"{shown}: an id of yours? Write {{uuid}} there if it must be new each time")


def _model_and_length(draft: Draft, body: Json, places: dict[Where, str]) -> None:
    """The model and the longest answer become slots, so that spec and plan can set them."""
    assert isinstance(body, dict)
    found: str | None = None
    for key, value in body.items():
        if folded(key) in MODEL_KEYS and isinstance(value, str) and value and found in (None, value):
            found = value
            places[(key,)] = "{model}"
    draft.model = draft.model or found
    for at, number in numbers(body):
        if isinstance(at[-1], str) and folded(at[-1]) in MAX_KEYS:
            places[at] = "{max_tokens}"
            draft.say("length", f"{written(at)} was {number}; each test sets it (max_tokens)")


def _say_history(draft: Draft, body: Json, prompt_at: Where) -> None:
    assert isinstance(body, dict)
    if len(prompt_at) < 2 or not isinstance(prompt_at[1], int):
        return
    before = body[str(prompt_at[0])]
    assert isinstance(before, list)
    said = [one for one in before[: prompt_at[1]] if not (isinstance(one, dict) and one.get("role") in _INSTRUCTIONS)]
    if said:
        many = f"{len(said)} earlier messages of the chat go" if len(said) > 1 else "1 earlier message of the chat goes"
        draft.say("kept", f"{many} along each time; copy a first message to avoid it")


def _url(draft: Draft, url: str) -> str:
    """The url with secret parameters, and user and password, moved out."""

    def parameter(match: re.Match[str]) -> str:
        if not match[3] or not is_sensitive(match[2]):
            return match[0]
        reference = draft.hide(match[3], match[2])
        _say_secret(draft, f"parameter {match[2]}", reference)
        return match[1] + reference

    login = re.match(r"^([a-z]+://)([^/?#@]+)@", url, re.I)
    if login:
        raise UsageError(
            "--from-curl: the url holds user and password; copy it without them and add -u 'user:password'"
        )
    return re.sub(r"([?&]([^=&#]+)=)([^&#]*)", parameter, url.partition("#")[0])


def _headers(draft: Draft, headers: Iterable[tuple[str, str]]) -> None:
    """Headers that the route may need, with their secrets moved out; the rest is said to be dropped."""
    dropped: list[str] = []
    for name, value in headers:
        lower = name.lower()
        if lower == "cookie":
            _cookies(draft, value)
        elif name.startswith(":") or any(pattern.match(lower) for pattern in DROPPED_HEADERS):
            dropped.append(lower)
        elif value and value.strip().lower() not in _USUAL.get(lower, ()):
            draft.headers[lower] = header_template(draft, lower, value)
    if dropped:
        names = ", ".join(dict.fromkeys(dropped))
        draft.say("dropped", f"{names} (of the browser and its connection; Streamgauge sends its own)")


def header_template(draft: Draft, name: str, value: str) -> str:
    """The header's value, with what is secret in it as a reference."""
    if not (is_sensitive(name) or looks_secret(value) or SLOT.search(value)):
        return value
    scheme, space, token = value.partition(" ")
    if name in ("authorization", "proxy-authorization") and space and token.strip():
        reference = draft.hide(token.strip(), name)
        filled = f"{scheme} {reference}"
    else:
        reference = filled = draft.hide(value, name)
    _say_secret(draft, f"header {name}", reference)
    if variable_for(name) == "SG_CSRF":
        draft.say("csrf", f"header {name} lives as long as the session; copy the request again when check says 403")
    return filled


def _cookies(draft: Draft, text: str) -> None:
    """The cookies that may say who we are; load balancer pins and analytics are left out."""
    pairs = []
    dropped: dict[str, list[str]] = {}
    for pair in filter(None, (one.strip() for one in text.split(";"))):
        name, equals, value = pair.partition("=")
        why = cookie_noise(name)
        if why:
            dropped.setdefault(why, []).append(name)
        elif not equals or _plain_cookie(name, value):
            pairs.append(pair)
        else:
            reference = draft.hide(value, name)
            pairs.append(f"{name}={reference}")
            _say_secret(draft, f"cookie {name}", reference)
    before = draft.headers.get("cookie")
    joined = "; ".join([before, *pairs] if before else pairs)
    if joined:
        draft.headers["cookie"] = joined
    for why, names in dropped.items():
        draft.say("dropped", f"cookie {', '.join(names)} ({why})")


def _plain_cookie(name: str, value: str) -> bool:
    """A setting anybody may see: theme=dark, locale=en-US, seen=true."""
    return not is_sensitive(name) and re.fullmatch(r"[A-Za-z]{0,10}(?:[-_][A-Za-z]{1,8})?|\d{1,4}", value) is not None


def _say_secret(draft: Draft, what: str, reference: str) -> None:
    draft.say("secret", f"{what} -> ${reference.strip('${}')} in .env.streamgauge (git-ignored)")

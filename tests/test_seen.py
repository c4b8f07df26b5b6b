"""What check saw of an answer's length is there for the next estimate, and never in the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamgauge.client import target_from_url
from streamgauge.suite.seen import FILE, MOST, Seen, key_of, recall, remember

KEY = "http://127.0.0.1:3000/api/chat ai-sdk -"
AT = "2026-11-25T12:00:00Z"


def test_what_was_remembered_is_recalled(tmp_path: Path) -> None:
    assert remember(tmp_path, KEY, 412, 230.5, AT) is None
    assert recall(tmp_path, KEY) == Seen(412, 230.5, AT)
    assert json.loads((tmp_path / ".streamgauge" / "seen.json").read_text()) == {
        KEY: {"output_tokens": 412, "ttft_ms": 230.5, "at": AT}
    }


def test_the_last_look_counts_and_other_targets_stay(tmp_path: Path) -> None:
    remember(tmp_path, KEY, 412, 230.5, AT)
    remember(tmp_path, "other", 7, None, AT)
    remember(tmp_path, KEY, 90, None, "2026-11-26T12:00:00Z")
    assert recall(tmp_path, KEY) == Seen(90, None, "2026-11-26T12:00:00Z")
    assert recall(tmp_path, "other") == Seen(7, None, AT)


def test_nothing_seen_is_none(tmp_path: Path) -> None:
    assert recall(tmp_path, KEY) is None


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"\xff\xfe\x00", b'{"k": 3}', b'{"k": {"output_tokens": "many"}}', b"[" * 100_000,
        f'{{"{KEY}": {{"output_tokens": -3, "ttft_ms": null, "at": "{AT}"}}}}'.encode(),
    ],
)  # fmt: skip
def test_a_broken_file_counts_as_nothing_seen_and_is_replaced(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / FILE
    path.parent.mkdir()
    path.write_bytes(data)
    assert recall(tmp_path, KEY) is None
    assert remember(tmp_path, KEY, 5, 1.0, AT) is None
    assert recall(tmp_path, KEY) == Seen(5, 1.0, AT)


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / ".streamgauge").write_text("a file where the folder should be")
    warning = remember(tmp_path, KEY, 5, 1.0, AT)
    assert warning is not None
    assert "seen.json cannot be written" in warning
    assert recall(tmp_path, KEY) is None


def test_the_file_does_not_grow_without_end(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.parent.mkdir()
    many = {f"k{i}": {"output_tokens": i, "ttft_ms": None, "at": f"2026-01-01T00:00:00.{i:06}Z"} for i in range(MOST)}
    path.write_text(json.dumps(many))
    remember(tmp_path, KEY, 5, 1.0, AT)
    assert len(json.loads(path.read_text())) == MOST
    assert recall(tmp_path, KEY) is not None
    assert recall(tmp_path, "k0") is None


def test_the_key_names_target_dialect_and_model_and_holds_no_query() -> None:
    target = target_from_url("https://api.example/v1/chat?key=sk-planted", dialect="openai-chat", model="m-1")
    assert key_of(target) == "https://api.example/v1/chat openai-chat m-1"
    assert key_of(target_from_url("http://[::1]:8080", dialect="ai-sdk")) == "http://[::1]:8080/api/chat ai-sdk -"

"""Shell completion: fixed words, names from the spec that is there, and what the tab key does in three real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import environment, inline
from real import require
from shells import START, Shell

SPEC = """\
[environments.staging]
url = "https://staging.example.com"
[environments.prod-eu]
url = "https://example.com"
[targets.claude]
dialect = "anthropic"
[targets."gpt-4.1"]
dialect = "openai-chat"
"""


def offered(folder: Path, *words: str) -> list[str]:
    """What is offered for the last of `words`, which may be empty."""
    line = " ".join(("streamgauge", *words))
    done = inline(cwd=folder, _STREAMGAUGE_COMPLETE="words_complete", COMP_LINE=line, COMP_WORD=words[-1])
    assert done.code == 0, done.err
    return [text.split("\t")[1] for text in done.out.splitlines() if text]


def filled(folder: Path) -> Path:
    """With a spec and a run in it."""
    (folder / "streamgauge.toml").write_text(SPEC)
    (folder / ".streamgauge/runs/20261125T100000Z-ttft-abcd").mkdir(parents=True)
    (folder / ".streamgauge/runs/20261125T100000Z-ttft-abcd/run.json").touch()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", ""), ["ttft", "concurrent", "endurance", "memory", "stress", "all"]),
        (("run", "ttft", ""), ["concurrent", "endurance", "memory", "stress", "all"]),
        (("run", "--preset", ""), ["smoke", "pr", "standard", "full"]),
        (("check", "--dialect", "a"), ["anthropic", "ai-sdk"]),
        (("run", "--env", ""), ["staging", "prod-eu"]),
        (("run", "--set", "targets.claude.m"), ["targets.claude.model="]),
        (("run", "--set", 'targets."gpt-4.1".ur'), ['targets."gpt-4.1".url=']),
        (("run", "--set", "tests.ttft.timeouts.s"), ["tests.ttft.timeouts.stall="]),
        (("report", ""), ["last", "20261125T100000Z-ttft-abcd"]),
        (("rep",), ["report"]),
        (("completion", "z"), ["zsh"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_words_and_names_are_offered(words: tuple[str, ...], told: list[str], folder: Path) -> None:
    if '"' in words[-1]:
        words = (*words[:-1], f"'{words[-1]}'")
    assert offered(folder, *words) == told


def test_the_spec_that_the_line_names_is_asked(folder: Path) -> None:
    (folder / "other.toml").write_text('[environments.elsewhere]\nurl = "http://h"\n')
    assert offered(folder, "run", "--config", "other.toml", "--env", "") == ["elsewhere"]


@pytest.mark.parametrize("content", [None, b"not = = toml", b"\xff", b"environments = 3"])
def test_a_spec_that_cannot_be_read_offers_nothing_and_says_nothing(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "streamgauge.toml").write_bytes(content)
    assert offered(tmp_path, "run", "--env", "") == []


@pytest.fixture(scope="module", params=list(START))
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A real shell, in a folder with a spec, a run and a place for reports."""
    require(shutil.which(request.param) and shutil.which("setsid"), f"{request.param} (Debian package {request.param})")
    cwd = filled(tmp_path_factory.mktemp(request.param))
    (cwd / "reports-here").mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with Shell(request.param, inline("completion", request.param, cwd=cwd).out, cwd, environment(PATH=path)) as one:
        yield one


@pytest.mark.real
@pytest.mark.parametrize(
    ("typed", "then"),
    [
        ("rep", "report"),
        ("run tt", "run ttft"),
        ("run --max-to", "run --max-tokens"),
        ("run --preset sta", "run --preset standard"),
        ("run --env stag", "run --env staging"),
        ("run --env=prod", "run --env=prod-eu"),
        ("run --url http://h:1/x --set a.b=c --env stag", "run --url http://h:1/x --set a.b=c --env staging"),
        ("run --set targets.cl", "run --set targets.claude."),
        ("run --set targets.claude.mod", "run --set targets.claude.model="),
        ("report 2026", "report 20261125T100000Z-ttft-abcd"),
        ("run --out rep", "run --out reports-here"),
        ("run --out=rep", "run --out=reports-here"),
        ("run --config=stre", "run --config=streamgauge.toml"),
    ],
)
def test_the_tab_key_completes_in_a_real_shell(typed: str, then: str, shell: Shell) -> None:
    found = shell.completed(f"streamgauge {typed}")
    assert found.rstrip(" /|") == f"streamgauge {then}"
    assert not then.endswith("=") or found.endswith("=|"), "a value follows, without a space"


def test_help_beside_a_word_is_whole(folder: Path) -> None:
    line = "streamgauge run --pres"
    told = inline(cwd=folder, _STREAMGAUGE_COMPLETE="words_complete", COMP_LINE=line, COMP_WORD="--pres").out
    assert told == "plain\t--preset\tsmoke, pr, standard or full. Default: pr with --url, else standard.\n"


def test_completion_loads_nothing_heavy(folder: Path) -> None:
    code = (
        "import sys, os\nfrom streamgauge.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('loaded', [n for n in ('numpy', 'scipy', 'pydantic', 'matplotlib', 'rich') if n in sys.modules])"
    )
    given = {"_STREAMGAUGE_COMPLETE": "words_complete", "COMP_LINE": "streamgauge run --set ", "COMP_WORD": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(**given), capture_output=True, text=True, timeout=300,
        check=True,
    )  # fmt: skip
    assert "plain\ttargets.claude.model=" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded []"

"""Shell completion: fixed words, names from the spec that is there, in the three shells' own protocols and in bash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli import environment, inline

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


def offered(folder: Path, *words: str, shell: str = "bash") -> list[str]:
    """What is offered for the last of `words`, which may be empty."""
    given = {
        "_STREAMGAUGE_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(("streamgauge", *words)),
        # fish hands over the word itself, the others its number
        "COMP_CWORD": words[-1] if shell == "fish" else str(len(words)),
    }
    done = inline(cwd=folder, **given)
    assert done.code == 0, done.err
    lines = done.out.split("\n")
    return lines[1::3] if shell == "zsh" else [line.partition(",")[2].partition("\t")[0] for line in lines if line]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "streamgauge.toml").write_text(SPEC)
    (tmp_path / ".streamgauge/runs/20261125T100000Z-ttft-abcd").mkdir(parents=True)
    (tmp_path / ".streamgauge/runs/20261125T100000Z-ttft-abcd/run.json").touch()
    return tmp_path


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
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
def test_words_and_names_are_offered(shell: str, words: tuple[str, ...], told: list[str], folder: Path) -> None:
    if '"' in words[-1]:
        words = (*words[:-1], f"'{words[-1]}'")
    assert offered(folder, *words, shell=shell) == told


def test_the_spec_that_the_line_names_is_asked(folder: Path) -> None:
    (folder / "other.toml").write_text('[environments.elsewhere]\nurl = "http://h"\n')
    assert offered(folder, "run", "--config", "other.toml", "--env", "") == ["elsewhere"]


@pytest.mark.parametrize("content", [None, b"not = = toml", b"\xff", b"environments = 3"])
def test_a_spec_that_cannot_be_read_offers_nothing_and_says_nothing(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "streamgauge.toml").write_bytes(content)
    assert offered(tmp_path, "run", "--env", "") == []


def test_bash_completes_with_the_script_that_is_printed(folder: Path) -> None:
    script = inline("completion", "bash", cwd=folder).out
    words = "COMP_WORDS=(streamgauge run --preset s); COMP_CWORD=3; _streamgauge_completion streamgauge"
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{words}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""],
        cwd=folder, env=environment(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"),
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["smoke", "standard"]


def test_completion_loads_nothing_heavy(folder: Path) -> None:
    code = (
        "import sys, os\nfrom streamgauge.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('loaded', [n for n in ('numpy', 'scipy', 'pydantic', 'matplotlib', 'rich') if n in sys.modules])"
    )
    given = {"_STREAMGAUGE_COMPLETE": "bash_complete", "COMP_WORDS": "streamgauge run --set ", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(**given), capture_output=True, text=True, timeout=300,
        check=True,
    )  # fmt: skip
    assert "plain,targets.claude.model=" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded []"

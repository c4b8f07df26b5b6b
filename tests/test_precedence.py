"""Flags win over STREAMGAUGE_* variables, these over the file: shown for each flag, and for keys of every table."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import inline
from streamgauge.dialects import with_options
from streamgauge.spec.load import load_spec

SPEC = """\
[environments.one]
url = "http://127.0.0.1:9"
kind = "local"
max = { streams = 500 }
[environments.two]
url = "http://127.0.0.2:9"
[targets.a]
path = "/v1/x"
dialect = "openai-chat"
model = "of-file"
[prompts.mine]
texts = ["of file"]
[tests.ttft]
preset = "smoke"
requests = 100
concurrency = 3
max_tokens = 8
prompts = ["short"]
"""


def plan(folder: Path, *arguments: str, **variables: str) -> str:
    """The plan as it is printed, or what is wrong with it."""
    (folder / "streamgauge.toml").write_text(SPEC)
    (folder / "other.toml").write_text(SPEC.replace("requests = 100", "requests = 55"))
    done = inline("run", "ttft", "--dry-run", *arguments, cwd=folder, **variables)
    return done.out + done.err


FLAGS = [
    # flag, variable, by flag, by variable, what the plan says by flag, by variable, by file
    ("--requests", "REQUESTS", "20", "30", "22 requests", "32 requests", "102 requests"),
    ("--concurrency", "CONCURRENCY", "6", "7", "6 streams", "7 streams", "3 streams"),
    ("--preset", "PRESET", "pr", "full", "ttft pr", "ttft full", "ttft smoke"),
    ("--env", "ENV", "two", "one", "in two", "in one", "in one"),
    ("--config", "CONFIG", "other.toml", "streamgauge.toml", "57 requests", "102 requests", "102 requests"),
    ("--rate", "RATE", "2", "4", "2 requests/s", "4 requests/s", "at once"),
    ("--max-requests", "MAX_REQUESTS", "10", "11", "stop is 10 (--max", "stop is 11 (STREAM", "102 requests"),
    ("--max-tokens", "MAX_TOKENS", "10", "11", "stop is 10 (--max", "stop is 11 (STREAM", "102 requests"),
    ("--seed", "SEED", "x", "y", "'x' is not", "'y' is not", "102 requests"),
    ("--out", "OUT", "streamgauge.toml", "other.toml", "streamgauge.toml is a", "other.toml is a", "102 requests"),
    ("--duration", "DURATION", "x", "y", '"x" is not', '"y" is not', "102 requests"),
    ("--max-usd", "MAX_USD", "0", "-1", "--max-usd 0", "STREAMGAUGE_MAX_USD=-1", "102 requests"),
    ("--inconclusive", "INCONCLUSIVE", "x", "y", "'x' is not", "'y' is not", "102 requests"),
]


@pytest.mark.parametrize(
    ("flag", "variable", "by_flag", "by_variable", "flag_says", "variable_says", "file_says"),
    FLAGS,
    ids=[row[0] for row in FLAGS],
)
def test_each_flag_wins_over_its_variable_and_that_over_the_file(
    flag: str, variable: str, by_flag: str, by_variable: str, flag_says: str, variable_says: str, file_says: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    where = {} if flag == "--env" else {"STREAMGAUGE_ENV": "one"}
    given = {f"STREAMGAUGE_{variable}": by_variable}
    assert flag_says in plan(tmp_path, flag, by_flag, **where, **given)
    assert variable_says in plan(tmp_path, **where, **given)
    assert file_says in plan(tmp_path, STREAMGAUGE_ENV="one")


def test_url_dialect_and_model_of_flags_win_over_those_of_variables(tmp_path: Path) -> None:
    given = {
        "STREAMGAUGE_URL": "http://127.0.0.3:9/x", "STREAMGAUGE_DIALECT": "gemini", "STREAMGAUGE_MODEL": "of-variable",
    }  # fmt: skip
    assert "ttft pr (local): target" in plan(tmp_path, **given), "--url by variable: the preset is pr"
    assert '--url: targets.target.url: "api" has no scheme' in plan(tmp_path, "--url", "api", **given)
    assert "no dialect 'x'" in plan(tmp_path, "--dialect", "x", **given)
    wrong = plan(tmp_path, **{**given, "STREAMGAUGE_URL": "api.example.com"})
    assert 'STREAMGAUGE_URL: targets.target.url: "api.example.com" has no scheme' in wrong
    assert "STREAMGAUGE_MODEL goes with --url" in plan(tmp_path, STREAMGAUGE_MODEL="m")


@pytest.mark.parametrize(
    ("key", "variable", "by_flag", "by_variable", "by_file"),
    [
        ("environments.one.kind", "ENVIRONMENTS__ONE__KIND", "staging", "production", "local"),
        ("environments.one.max.streams", "ENVIRONMENTS__ONE__MAX__STREAMS", 7, 8, 500),
        ("targets.a.model", "TARGETS__A__MODEL", "of-flag", "of-variable", "of-file"),
        ("prompts.mine.texts", "PROMPTS__MINE__TEXTS", ("flag",), ("variable",), ("of file",)),
        ("tests.ttft.max_tokens", "TTFT__MAX_TOKENS", 1, 2, 8),
        ("ttft.prompts", "TESTS__TTFT__PROMPTS", ("long",), ("medium",), ("short",)),
    ],
)
def test_set_wins_over_a_variable_and_that_over_the_file(
    key: str, variable: str, by_flag: object, by_variable: object, by_file: object, tmp_path: Path
) -> None:
    path = tmp_path / "streamgauge.toml"
    path.write_text(SPEC)

    def written(value: object) -> str:
        return str(list(value)) if isinstance(value, tuple) else str(value)

    def found(*sets: str, **environ: str) -> object:
        value: object = load_spec(path, speak=with_options, environ=environ, sets=sets).model
        for part in (f"tests.{key}" if key.startswith("ttft") else key).split("."):
            value = value[part] if isinstance(value, dict) else getattr(value, part)
        return value

    given = {f"STREAMGAUGE_{variable}": written(by_variable)}
    assert found(f"{key}={written(by_flag)}", **given) == by_flag
    assert found(**given) == by_variable
    assert found() == by_file


def test_a_flag_wins_over_set_and_the_variable_of_a_flag_over_that_of_a_key(tmp_path: Path) -> None:
    where = {"STREAMGAUGE_ENV": "one"}
    assert "22 requests" in plan(tmp_path, "--requests", "20", "--set", "ttft.requests=30", **where)
    assert "42 requests" in plan(tmp_path, **where, STREAMGAUGE_REQUESTS="40", STREAMGAUGE_TTFT__REQUESTS="50")


def test_a_variable_that_is_empty_is_not_given(tmp_path: Path) -> None:
    assert "102 requests" in plan(tmp_path, STREAMGAUGE_ENV="one", STREAMGAUGE_URL="", STREAMGAUGE_REQUESTS="")

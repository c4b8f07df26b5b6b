"""streamgauge.toml, flags and variables to one checked `Spec`; every mistake told at once.

Strategy: the text is read (tomllib), the keys located (`locate`), variables and `--set` flags laid over it, and each
table checked by its own model, so that a mistake in one does not hide those in another. Then what needs two tables:
dialects, controls, the targets and prompts that tests and criteria name, prompt files.

Rules: nothing is sent and no secret is needed to load a spec; `resolve` fills secrets in. Dialects are known by a
function of the caller's (`speak`, which is dialects.with_options), because the spec stands below them.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Protocol, TypeAlias, TypeVar

from pydantic import ValidationError

from streamgauge.errors import UsageError
from streamgauge.metrics import METRICS
from streamgauge.secrets import Redactor
from streamgauge.spec.criteria import ALL, EACH
from streamgauge.spec.explain import explain, keys_of, shown, unknown_key
from streamgauge.spec.locate import locate
from streamgauge.spec.mistakes import Mistakes, Path, Places, did_you_mean, nearest
from streamgauge.spec.model import Environment, Findings, Prompts, SpecModel
from streamgauge.spec.presets import PHASES_OF, SHIPPED, TESTS
from streamgauge.spec.probe_flag import parse_probe
from streamgauge.spec.probes import Probe
from streamgauge.spec.prompt_files import MAX_BYTES, PromptSet, read_prompts, shipped
from streamgauge.spec.read import (
    DOTENV,
    MAX_SPEC_BYTES,
    PREFIX,
    SECTIONS,
    apply_sets,
    apply_variables,
    read_dotenv,
    read_text,
    read_toml,
)
from streamgauge.spec.targets import Target, body_mistake, header_mistakes
from streamgauge.spec.tests import EnduranceTest, MemoryTest, StressTest, Test, Tests
from streamgauge.spec.trace import read_trace
from streamgauge.spec.values import REFERENCE, Table

FILE = "streamgauge.toml"
TARGET = "target"
"""The name of the one target that --url makes."""
_RESERVED = (EACH, ALL)
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9 ._/:+-]{0,63}$")
T = TypeVar("T", bound=Table)
TABLES: dict[str, type[Test]] = {
    **dict.fromkeys(TESTS, Test),
    "endurance": EnduranceTest,
    "memory": MemoryTest,
    "stress": StressTest,
}
"""Each test's table."""


class Speaks(Protocol):
    """What the spec needs to know of a dialect."""

    @property
    def default_path(self) -> str:
        """Added where a url has no path of its own."""
        ...


Speak: TypeAlias = Callable[[str, Mapping[str, object]], Speaks]
"""A dialect by its name and options; UsageError where there is none such. `dialects.with_options` is one."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A checked spec, its secrets not yet filled in."""

    model: SpecModel
    prompts: Mapping[str, PromptSet]
    """Every set that may be named: the shipped ones and the spec's own."""
    default_paths: Mapping[str, str]
    """Target name -> the path its dialect is asked at where the url has none."""
    places: Places
    folder: FilePath
    """Files named in the spec lie below it."""
    path: FilePath | None = None
    """The file it was read from; None for one made from --url."""
    traces: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Test name -> its recorded arrivals, in ns after the first."""
    dotenv: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def tests(self) -> tuple[str, ...]:
        """The tests that `run` runs when it is told none: those the spec lists, else ttft."""
        listed = tuple(name for name in TESTS if getattr(self.model.tests, name) is not None)
        return listed or ("ttft",)


def find_spec(config: str | None, folder: FilePath) -> FilePath | None:
    """The spec to read: `config` (it must exist), else `folder`/streamgauge.toml, else None."""
    path = folder / (config or FILE)
    if path.name == FILE and config is None and not os.path.lexists(path):
        return None
    try:
        mode = path.stat().st_mode
        what = "is a folder" if stat.S_ISDIR(mode) else None
    except FileNotFoundError:
        what = "does not exist" if config is not None else "is a link to nothing"
    except (OSError, ValueError) as error:
        what = f"cannot be read: {getattr(error, 'strerror', None) or error}"
    if what is not None:
        shown = FILE if config is None else f"--config {config}"
        raise UsageError(f'{shown}: {what}; name a spec file, or write one with "streamgauge init"')
    return path


def load_spec(
    path: FilePath,
    *,
    speak: Speak,
    environ: Mapping[str, str],
    sets: Iterable[str] = (),
    proxy: tuple[str, str] | None = None,
    probes: Iterable[str] = (),
) -> Spec:
    """The spec in `path` with variables of `environ` and flags laid over it. UsageError lists every mistake.

    `proxy`: that of every target, and the flag or variable that gave it. `probes`: further ones, as `--probe` has them.
    """
    file = _shown(path)
    text = read_text(path, "a spec", MAX_SPEC_BYTES, file)
    tree = read_toml(text, file)
    flags: dict[Path, str] = {}
    targets = tree.get("targets")
    if proxy is not None and isinstance(targets, dict):
        for name, table in targets.items():
            if isinstance(table, dict):
                table["proxy"], flags["targets", name, "proxy"] = proxy
    flags |= _add_probes(tree, probes, environ, path.parent)
    return _check(tree, file, locate(text), path.parent, path, speak=speak, environ=environ, sets=sets, flags=flags)


def from_url(
    url: str,
    *,
    dialect: str,
    speak: Speak,
    environ: Mapping[str, str],
    model: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    proxy: str | None = None,
    sets: Iterable[str] = (),
    folder: FilePath = FilePath(),
    named: Spec | None = None,
    origins: Mapping[str, str] | None = None,
    probes: Iterable[str] = (),
) -> Spec:
    """A spec with one target, `target`, at `url`. UsageError lists every mistake.

    `named`: a spec whose environments (so that a host it names keeps its limits) and prompts are kept. Its targets and
    tests are about other endpoints and are not. `origins`: {flag: variable} of the flags that a variable gave.
    """
    target: dict[str, object] = {"url": url, "dialect": dialect, "headers": dict(headers)}
    if model is not None:
        target["model"] = model
    if proxy is not None:
        target["proxy"] = proxy
    tree: dict[str, object] = {"targets": {TARGET: target}}
    if named is not None:
        kept = named.model.model_dump(by_alias=True, exclude_unset=True, include={"environments", "prompts"})
        tree |= kept
    keys = {"url": "--url", "model": "--model", "dialect": "--dialect", "headers": "-H", "proxy": "--proxy"}
    flags: dict[Path, str] = {("targets", TARGET, key): (origins or {}).get(flag, flag) for key, flag in keys.items()}
    base = named.folder if named is not None else folder
    flags |= _add_probes(tree, probes, environ, base)
    environ = {name: value for name, value in environ.items() if not name.startswith(f"{PREFIX}TARGETS__")}
    return _check(tree, None, {}, base, None, speak=speak, environ=environ, sets=sets, flags=flags)


def _add_probes(
    tree: dict[str, object], texts: Iterable[str], environ: Mapping[str, str], folder: FilePath
) -> dict[Path, str]:
    """Lay the probes of flags over the file's; returns which tables came from which flag. UsageError for none."""
    flags: dict[Path, str] = {}
    for text in texts:
        variables = {**read_dotenv(folder / DOTENV, Mistakes(Places())), **environ}
        try:
            name, table = parse_probe(text, variables)
        except ValueError as error:
            raise UsageError(f"--probe {text[:60]}: {error}") from None
        section = tree.setdefault("probes", {})
        if isinstance(section, dict):
            section[name] = table
        flags["probes", name] = f"--probe {name if '://' in text else text[:60]}"
    return flags


def _shown(path: FilePath) -> str:
    """The path as a person would type it from here."""
    try:
        return str(path.resolve().relative_to(FilePath.cwd()))
    except (ValueError, OSError):
        return str(path)


def _check(
    tree: dict[str, object],
    file: str | None,
    lines: Mapping[Path, int],
    folder: FilePath,
    path: FilePath | None,
    *,
    speak: Speak,
    environ: Mapping[str, str],
    sets: Iterable[str],
    flags: Mapping[Path, str] | None = None,
) -> Spec:
    tree = copy.deepcopy(tree)
    mistakes = Mistakes(Places(file, lines, flags or {}))
    origins = {**(flags or {}), **apply_variables(tree, environ, mistakes), **apply_sets(tree, sets, mistakes)}
    mistakes.places = places = Places(file, lines, origins)
    model = _tables(tree, mistakes)
    prompts = _prompts(model, folder, mistakes)
    traces = _traces(model, folder, mistakes)
    default_paths = _speaking(model, speak, mistakes)
    _relations(model, tree, mistakes)
    dotenv = read_dotenv(folder / DOTENV, mistakes)
    mistakes.raise_if_any()
    return Spec(model, prompts, default_paths, places, folder, path, traces, dotenv)


def _tables(tree: dict[str, object], mistakes: Mistakes) -> SpecModel:
    """Each table by its own model; what is wrong is noted and left out, so that the rest can still be checked."""
    for key in tree:
        if key not in SECTIONS:
            mistakes.add((key,), _unknown_section(key, tree[key]))
    environments = _section(tree, "environments", Environment, mistakes)
    targets = _section(tree, "targets", Target, mistakes)
    prompts = _section(tree, "prompts", Prompts, mistakes)
    probes = _section(tree, "probes", Probe, mistakes)
    tests = _section(tree, "tests", Test, mistakes, only=TABLES)
    findings = _table(tree.get("findings", {}), Findings, ("findings",), mistakes) or Findings()
    return SpecModel(
        environments=environments, targets=targets, prompts=prompts, probes=probes,
        tests=Tests.model_validate(tests), findings=findings,
    )  # fmt: skip


def _unknown_section(key: str, value: object) -> str:
    """The text for a key that no spec has at its top: a test's name, or a key that belongs into a table, is told so."""
    allowed = f"Allowed: {', '.join(SECTIONS)}"
    test = nearest(key, (*SECTIONS, *TESTS))
    if key in TESTS:
        return f"unknown key. {allowed} (write [tests.{key}])"
    if test in TESTS:
        below = f".{next(iter(value))}" if isinstance(value, dict) and len(value) == 1 else ""
        return f'unknown key; did you mean "tests.{test}{below}"? {allowed}'
    for section, kind in (("tests.ttft", Test), ("targets.NAME", Target), ("environments.NAME", Environment)):
        if key in keys_of(kind):
            return f'unknown key; did you mean "{section}.{key}"? {allowed}'
    return unknown_key(key, SECTIONS)


def _section(
    tree: Mapping[str, object], name: str, kind: type[T], mistakes: Mistakes, only: Mapping[str, type[T]] | None = None
) -> dict[str, T]:
    """The tables of one section that are right; `only`: the names it may have, and the kind of each."""
    section = tree.get(name, {})
    if not isinstance(section, dict):
        mistakes.add((name,), f"must be a table of tables, as in [{name}.NAME], not {shown(section)}")
        return {}
    found: dict[str, T] = {}
    for key, table in section.items():
        if only is not None and key not in only:
            mistakes.add((name, key), f'no such test "{key}"{did_you_mean(key, only)} Tests: {", ".join(only)}')
            continue
        wrong_name = None if only is not None else _name_mistake(key)
        if wrong_name:
            mistakes.add((name, key), wrong_name)
        model = _table(table, kind if only is None else only[key], (name, key), mistakes)
        if model is not None:
            found[key] = model
    return found


def _table(table: object, kind: type[T], at: Path, mistakes: Mistakes) -> T | None:
    """One table; where some of its keys are wrong, they are noted and the rest is given, for the checks to come."""
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        wrong = error.errors(include_url=False)
    for one in wrong:
        path, text = explain(one, kind)
        mistakes.add((*at, *path), text)
    if not isinstance(table, dict):
        return None
    bad = {one["loc"][0] for one in wrong if one["loc"]}
    try:
        return kind.model_validate({key: value for key, value in table.items() if key not in bad})
    except ValidationError:
        return None


def _name_mistake(name: str) -> str | None:
    """Names go into file names, tables and the command line."""
    if name in _RESERVED:
        return f'"{name}" means more than one in a criterion; choose another name'
    if not _NAME.match(name):
        return f"{name!r} is no name; allowed: 1 to 64 letters, digits, spaces and . _ - / : +, a letter or digit first"
    return None


def _prompts(model: SpecModel, folder: FilePath, mistakes: Mistakes) -> dict[str, PromptSet]:
    """Every set that may be named; a file that cannot be read is a mistake."""
    sets = {name: PromptSet(name, shipped(name)) for name in SHIPPED}
    for name, table in model.prompts.items():
        if table.texts is not None:
            blank = [number for number, text in enumerate(table.texts) if not text.strip()]
            for number in blank:
                mistakes.add(("prompts", name, "texts", number), "is blank; write it or take it out")
            size = sum(map(len, table.texts))
            if size > MAX_BYTES:
                told = f"{size / 1e6:.1f} MB; a prompt set may have at most {MAX_BYTES / 1e6:g} MB. Make it smaller."
                mistakes.add(("prompts", name, "texts"), told)
            sets[name] = PromptSet(name, table.texts)
        elif table.file is not None:
            try:
                sets[name] = PromptSet(name, read_prompts(folder / table.file, table.file))
            except UsageError as error:
                mistakes.add(("prompts", name, "file"), str(error))
    return sets


def _traces(model: SpecModel, folder: FilePath, mistakes: Mistakes) -> dict[str, tuple[int, ...]]:
    """The recorded arrivals of each test that names some; a file that cannot be read is a mistake."""
    found = {}
    for name in TESTS:
        test: Test | None = getattr(model.tests, name)
        if test is not None and test.trace is not None:
            try:
                found[name] = read_trace(folder / test.trace, test.trace)
            except UsageError as error:
                mistakes.add(("tests", name, "trace"), str(error))
    return found


def _speaking(model: SpecModel, speak: Speak, mistakes: Mistakes) -> dict[str, str]:
    """Each target's default path; a dialect or an option that is not known is a mistake."""
    paths: dict[str, str] = {}
    for name, target in model.targets.items():
        for key, options in (("dialect", {}), ("dialect_options", target.dialect_options)):
            try:
                paths[name] = speak(target.dialect, options).default_path
            except UsageError as error:
                mistakes.add(("targets", name, key), str(error))
                break
    return paths


def _relations(model: SpecModel, tree: Mapping[str, object], mistakes: Mistakes) -> None:
    """What one table says about another. A name in the file counts as there, even where its table is wrong."""
    targets = _names(tree, "targets")
    environments = _names(tree, "environments")
    prompts = [*SHIPPED, *(name for name in _names(tree, "prompts") if name not in SHIPPED)]
    if not targets:
        mistakes.add((), "names no target; add [targets.NAME] with a url and a dialect, or run with --url")
    for name, target in model.targets.items():
        at: Path = ("targets", name)
        if target.url is None and not environments and "url" not in _raw(tree, name):
            mistakes.add(at, "has no url, and there is no environment to take it from; add url, or [environments.NAME]")
        for header, text in header_mistakes(target.headers).items():
            mistakes.add((*at, "headers", header), text)
        wrong = body_mistake(target.body, target.headers) if target.body is not None else None
        if wrong:
            mistakes.add((*at, "body"), wrong)
        if target.control is not None:
            _control(name, target.control, model, targets, mistakes)
    for name, probe in model.probes.items():
        if probe.path is not None and not environments:
            told = "is below an environment's url, and there is none; write the whole url, or add [environments.NAME]"
            mistakes.add(("probes", name, "path"), told)
        for header, text in header_mistakes(probe.headers).items():
            mistakes.add(("probes", name, "headers", header), text)
    probes = _names(tree, "probes")
    for name in TESTS:
        test: Test | None = getattr(model.tests, name)
        if test is not None:
            _test(name, test, targets, prompts, mistakes)
            for number, one in enumerate(test.probes or ()):
                if one not in probes:
                    mistakes.add(("tests", name, "probes", number), _no_such("probe", one, probes))


def _names(tree: Mapping[str, object], section: str) -> list[str]:
    tables = tree.get(section)
    return list(tables) if isinstance(tables, dict) else []


def _raw(tree: Mapping[str, object], target: str) -> Mapping[str, object]:
    """The target's table as it stands in the file."""
    tables = tree.get("targets")
    table = tables.get(target) if isinstance(tables, dict) else None
    return table if isinstance(table, dict) else {}


def _control(name: str, control: str, model: SpecModel, targets: list[str], mistakes: Mistakes) -> None:
    at: Path = ("targets", name, "control")
    other = model.targets.get(control)
    if control == name:
        mistakes.add(at, "names the target itself; name the one that takes the shorter way")
    elif control not in targets:
        mistakes.add(at, f'no target "{control}"{did_you_mean(control, targets)} Targets: {", ".join(targets)}')
    elif other is not None and other.control is not None:
        mistakes.add(at, f'"{control}" has a control of its own ("{other.control}"); a control stands at the end')


def _test(name: str, test: Test, targets: list[str], prompts: list[str], mistakes: Mistakes) -> None:
    """The targets and prompt sets that one test and its criteria name."""
    at: Path = ("tests", name)
    for what, known, wanted in (("target", targets, test.targets), ("prompt", prompts, test.prompts)):
        key = f"{what}s"
        for number, one in enumerate(wanted or ()):
            if one not in known:
                mistakes.add((*at, key, number), _no_such(what, one, known))
            elif one in (wanted or ())[:number]:
                mistakes.add((*at, key, number), f'"{one}" is there twice; take one out')
    scopes = (("target", test.targets or targets), ("prompt", test.prompts or prompts))
    for number, criterion in enumerate(test.criteria or ()):
        for what, scope in scopes:
            one = getattr(criterion, what)
            if one is not None and one not in (*_RESERVED, *scope):
                mistakes.add((*at, "criteria", number, what), _no_such(what, one, scope))
        if criterion.phase not in (None, *PHASES_OF[name]):
            mistakes.add((*at, "criteria", number, "phase"), f'{name} has no phase "{criterion.phase}"; leave it out')
        metric = METRICS.get(re.split(r"[.\s<>=]", criterion.rule, maxsplit=1)[0])
        if metric is not None and metric.tests and name not in metric.tests:
            told = f"{metric.name} is found by the test {' and '.join(metric.tests)}; ask for it there"
            mistakes.add((*at, "criteria", number, "rule"), told)


def _no_such(what: str, word: str, known: Iterable[str]) -> str:
    names = list(known)
    noun = "prompt set" if what == "prompt" else what
    return f'no {noun} "{word}" here{did_you_mean(word, names)} There is: {", ".join(names) or "none"}'


def digest(spec: Spec) -> str:
    """sha256 (hex) of what the spec asks for: order of keys, comments, file names and secrets do not change it."""
    tree = spec.model.model_dump(mode="json", by_alias=True)
    redactor = Redactor(())
    for target in (*tree["targets"].values(), *tree["probes"].values()):
        target["headers"] = {
            name.lower(): value if REFERENCE.search(value) else redactor.headers([(name, value)])[0][1]
            for name, value in sorted(target["headers"].items())
        }
        for key in ("url", "proxy"):
            target[key] = redactor.url(target[key]) if target[key] else None
    tree["prompts"] = {name: list(one.texts) for name, one in spec.prompts.items()}
    tree["traces"] = {name: list(times) for name, times in spec.traces.items()}
    text = json.dumps(tree, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

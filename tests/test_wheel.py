"""`pip install .` gives a whole package: the command, the types, and every file that it reads at run time."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from shutil import copytree, ignore_patterns, which
from zipfile import ZipFile

import pytest

from real import require

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "streamgauge"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with streamgauge installed from a copy of this checkout.

    Its dependencies are those of this environment, by their folder, so that only the build tool has to be fetched.
    """
    folder = tmp_path_factory.mktemp("wheel")
    copytree(SOURCE, folder / "copy" / "src" / "streamgauge", ignore=ignore_patterns("__pycache__", "*.so"))
    copytree(ROOT / "native", folder / "copy" / "native")
    for name in ("pyproject.toml", "setup.py", "README.md"):
        (folder / "copy" / name).write_bytes((ROOT / name).read_bytes())
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", folder / "copy"]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=300, check=False)
    require(done.returncode == 0, f"a build of the package ({done.stderr[-300:]})")
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    (Path(where) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def told(installed: Path, code: str, cwd: Path) -> str:
    done = subprocess.run(
        [installed / "python", "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.real
@pytest.mark.slow
def test_the_package_holds_every_file_of_the_source(installed: Path, tmp_path: Path) -> None:
    where = Path(told(installed, "import streamgauge; print(streamgauge.__path__[0])", tmp_path).strip())
    assert installed.parent in where.parents

    def files(root: Path) -> set[Path]:
        found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        return {path for path in found if "__pycache__" not in path.parts and path.suffix != ".so"}

    assert files(where) == files(SOURCE)


@pytest.mark.real
@pytest.mark.slow
def test_the_package_has_its_compiled_part_where_there_is_a_compiler(installed: Path, tmp_path: Path) -> None:
    made_of = told(installed, "from streamgauge import compiled; print(compiled.MADE_OF)", tmp_path).strip()
    assert made_of == ("compiled" if which("cc") and sys.platform == "linux" else "pure Python")


@pytest.mark.real
@pytest.mark.slow
def test_without_a_compiler_it_installs_in_plain_python(installed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    made = (".so", "build")  # what the first build left there
    copytree(installed.parent.parent / "copy", copy, ignore=lambda _, names: [n for n in names if n.endswith(made)])
    command = [installed / "python", "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", copy]
    done = subprocess.run(
        [*command, "--wheel-dir", tmp_path], capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "CC": "no-such-compiler"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = ZipFile(wheel).namelist()
    assert "streamgauge/drain.py" in names
    assert not [name for name in names if name.endswith(".so")]


@pytest.mark.real
@pytest.mark.slow
def test_the_installed_command_and_library_work(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [installed / "streamgauge", "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: streamgauge ")
    code = (
        "from streamgauge import MetricsCollector, ReportGenerator, StreamClient\n"
        "from streamgauge.reports import to_json\n"
        "from streamgauge.spec.prompt_files import shipped\n"
        "print(to_json.schema()['$schema'], len(shipped('short')))"
    )
    assert told(installed, code, tmp_path).startswith("https://json-schema.org/")

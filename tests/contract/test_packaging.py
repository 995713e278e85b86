"""Every way to install mmwatch includes its C files and its manual."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
C_FILES = {str(path.relative_to(ROOT)) for path in (ROOT / "bpf").rglob("*.[ch]")}
MODULES = {str(path.relative_to(ROOT)) for path in (ROOT / "mmwatch").rglob("*.py")}
NOT_SOURCES = shutil.ignore_patterns(
    ".git", ".venv", ".cache", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", "*.mmw*"
)
# How mmwatch finds its C files: beside itself when installed, at the top of the checkout otherwise.
FIND = """
import pathlib, mmwatch
package = pathlib.Path(mmwatch.__file__).parent
bpf = next(path for path in (package / "bpf", package.parent / "bpf") if path.is_dir())
print(package, *sorted("bpf/" + str(path.relative_to(bpf)) for path in bpf.rglob("*.[ch]")), sep="\\n")
"""


def run(*argv: str, cwd: Path) -> list[str]:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The ``copy`` of the checkout and what was built from it: ``sdist``, ``wheel``, ``editable``."""
    top = tmp_path_factory.mktemp("packaging")
    copy = top / "checkout"
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCES, symlinks=True)
    built = {"copy": copy}
    for kind in ("sdist", "wheel", "editable"):  # a folder each: both wheels have the same name
        (name,) = run(sys.executable, "tools/dist.py", str(top / kind), kind, cwd=copy)
        built[kind] = Path(name)
    return built


def unpacked_wheel(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def found_from(site: Path) -> tuple[Path, set[str]]:
    """The package's folder and the C files, as a Python that has only ``site`` finds them."""
    program = f"import site; site.addsitedir({str(site)!r})\n{FIND}"
    package, *files = run(sys.executable, "-I", "-S", "-c", program, cwd=site)
    return Path(package), set(files)


def test_the_wheel_carries_everything(built: dict[str, Path], tmp_path: Path) -> None:
    site = unpacked_wheel(built["wheel"], tmp_path)
    package, files = found_from(site)
    assert package == site / "mmwatch"
    assert files == C_FILES
    assert {str(path.relative_to(site)) for path in package.rglob("*.py")} == MODULES
    assert [path.name for path in site.glob("*.data/data/share/man/man8/*")] == ["mmwatch.8"]
    scripts = configparser.ConfigParser()
    scripts.read(next(site.glob("*.dist-info/entry_points.txt")))
    assert scripts["console_scripts"]["mmwatch"] == "mmwatch.cli.entry:entry"


def test_the_source_archive_builds_the_same_wheel(built: dict[str, Path], tmp_path: Path) -> None:
    with tarfile.open(built["sdist"]) as archive:
        archive.extractall(tmp_path)
    (source,) = tmp_path.iterdir()
    for name in ("Makefile", "tools/setup.sh", "man/mmwatch.8", "tests/conftest.py", "tests/allowed_skips.txt"):
        assert (source / name).exists()
    run(sys.executable, "tools/dist.py", str(tmp_path / "again"), cwd=source)
    (again,) = (tmp_path / "again").glob("*.whl")
    with zipfile.ZipFile(again) as ours, zipfile.ZipFile(built["wheel"]) as theirs:
        assert sorted(ours.namelist()) == sorted(theirs.namelist())


def test_an_editable_install_finds_the_checkout(built: dict[str, Path], tmp_path: Path) -> None:
    package, files = found_from(unpacked_wheel(built["editable"], tmp_path))
    assert package == built["copy"] / "mmwatch"
    assert files == C_FILES


def test_setup_cfg_lists_the_packages_there_are() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    folders = {".".join(path.relative_to(ROOT).parent.parts) for path in (ROOT / "mmwatch").rglob("__init__.py")}
    assert set(settings["options"]["packages"].split()) == folders | {"mmwatch.bpf"}


SHORT = "#!{python}\nimport sys; print(sys.flags.isolated, sys.argv[1:])\n"
LONG = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import sys; print(sys.flags.isolated, sys.argv[1:])
"""


@pytest.mark.parametrize("launcher", [SHORT, LONG])
def test_the_launcher_is_isolated(tmp_path: Path, launcher: str) -> None:
    """Oracle: a Python that looks into PYTHONPATH, or believes PYTHONHOME, does not start."""
    program = tmp_path / "mmwatch"
    program.write_text(launcher.format(python=sys.executable))
    program.chmod(0o755)
    subprocess.run(["bash", "-c", f". {ROOT}/tools/common.sh; isolate {program}"], cwd=ROOT, check=True)
    (tmp_path / "usercustomize.py").write_text("raise SystemExit('usercustomize ran')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nowhere"}
    done = subprocess.run([program, "a b"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1 ['a b']\n"), done.stderr

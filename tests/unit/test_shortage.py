"""When memory or a package is missing: a message that says where, and no traceback."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from mmwatch.cli import main as main_module
from mmwatch.errors import EXIT_ERROR, EXIT_UNAVAILABLE, OutOfMemoryError
from mmwatch.kernel.builder_process import _explanation
from mmwatch.session.packages import USED, broken_by, import_problem
from mmwatch.session.shortage import told_where_memory_is_short


def test_a_map_for_which_there_is_no_memory() -> None:
    """The words are those of bcc and libbpf."""
    said = Exception("Failed to compile BPF module <text>")
    found = _explanation(said, "could not open bpf map: rows, error: Cannot allocate memory\n")
    assert isinstance(found, OutOfMemoryError)
    assert "rows" in found.message


@pytest.mark.parametrize(
    "error", [OutOfMemoryError("no room"), MemoryError(), OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))]
)
def test_the_cgroup_is_named(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr("mmwatch.host.cgroup_memory.shortage", lambda: "cgroup /small has a limit of 10M")
    with pytest.raises(OutOfMemoryError) as caught, told_where_memory_is_short():
        raise error
    assert caught.value.hint == "cgroup /small has a limit of 10M"
    assert caught.value.exit_code == EXIT_ERROR


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(PermissionError), told_where_memory_is_short():
        raise PermissionError(errno.EPERM, "no")


def running(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """The exit status of a command that fails so."""

    def run(_arguments: argparse.Namespace) -> int:
        raise error

    class Parser:
        def parse_args(self, _words: Any) -> argparse.Namespace:
            return argparse.Namespace(command="top", run=run)

    monkeypatch.setattr(main_module, "build_parser", Parser)
    return main_module.main(["top"])


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")])
def test_a_command_that_runs_out_of_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    assert running(monkeypatch, error) == EXIT_ERROR
    assert capsys.readouterr().err == "mmwatch: out of memory\n"


@pytest.mark.parametrize(
    "content", ["raise RuntimeError('needs a newer CPU')", "raise SystemExit(3)", "import nothing_like_it", "x = ("]
)
@pytest.mark.parametrize("package", USED)
def test_a_package_that_does_not_import_is_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    package: str,
    content: str,
) -> None:
    (tmp_path / f"{package}.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            patch.delitem(sys.modules, name)
        assert import_problem(package)
        assert running(patch, RuntimeError("needs a newer CPU")) == EXIT_UNAVAILABLE
    said = capsys.readouterr().err
    assert said.startswith(f"mmwatch: Python package {package}: it does not import")
    assert "install it again" in said


def test_a_bug_is_not_blamed_on_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken_by(RuntimeError("a bug")) is None
    with pytest.raises(RuntimeError, match="a bug"):
        running(monkeypatch, RuntimeError("a bug"))

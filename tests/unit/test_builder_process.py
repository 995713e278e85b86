"""Error messages for programs that cannot be loaded. No test loads any."""

from __future__ import annotations

import resource

import pytest

from mmwatch.errors import NoPermissionError, UnavailableError
from mmwatch.kernel.builder import FILES, Builder
from mmwatch.kernel.builder_process import explained


def limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> list[tuple[int, int]]:
    """Fake these limits on open files; the hard limit cannot be raised. Returns the limits requested."""
    asked: list[tuple[int, int]] = []

    def raise_to(_kind: int, wanted: tuple[int, int]) -> None:
        asked.append(wanted)
        if wanted[1] > hard:
            raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", raise_to)
    return asked


def test_too_few_open_files_are_told_before_anything_is_half_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, 40, 64)
    with pytest.raises(
        UnavailableError, match="this process may open 64 files, and the probes take up to 256"
    ) as error:
        Builder()
    assert error.value.hint.startswith("ulimit -n 256")


def test_what_may_be_raised_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = limits(monkeypatch, 40, 4096)
    monkeypatch.setattr("mmwatch.kernel.builder.bpf_directory", lambda: 1 / 0)  # the test should get this far
    with pytest.raises(ZeroDivisionError):
        Builder()
    assert asked == [(FILES, 4096)]


def test_words_of_bcc_are_told_without_python_around_them() -> None:
    with pytest.raises(UnavailableError, match=r"to kprobe shrink_node\.isra\.99, it's not traceable"), explained():
        raise Exception(
            "Failed to attach BPF program b'on_shrink_node' to kprobe b'shrink_node.isra.99', it's not traceable"
        )


def test_a_refusal_is_one_of_permission() -> None:
    with pytest.raises(NoPermissionError, match="refused a BPF program: Operation not permitted") as error, explained():
        raise Exception("Need super-user privileges to run")
    assert "CAP_SYS_RESOURCE" in error.value.hint

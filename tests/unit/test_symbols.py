"""Names of functions, from /proc/kallsyms."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmwatch.kernel.symbols import Symbols

KALLSYMS = b"""\
0000000000000000 A fixed_percpu_data
0000000000000000 A __per_cpu_start
0000000000001000 A cpu_debug_store
ffffffff816bf620 t __pfx_super_cache_scan
ffffffff816bf630 t super_cache_scan
ffffffff816bf630 t its_other_name
ffffffffc0de0000 t i915_gem_shrinker_scan\t[i915]
ffffffffc0de0010 t own\xff\x1b_scan\t[own]
ffffffffc0de0020
"""


@pytest.fixture
def kallsyms(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/kallsyms").write_bytes(KALLSYMS)
    return tmp_path / "proc/kallsyms"


def test_functions_of_the_kernel_and_of_modules(tmp_path: Path, kallsyms: Path) -> None:
    symbols = Symbols(tmp_path)
    assert (symbols.available, symbols.reason) == (True, "")
    wanted = (0xFFFFFFFFC0DE0000, 0xFFFFFFFF816BF630, 0, 0xFFFFFFFF816BF631, 0xFFFFFFFFC0DE0010, 0xFFFFFFFFC0DE0020)
    names = ["i915_gem_shrinker_scan [i915]", "super_cache_scan", "", "", "own\ufffd\\x1b_scan [own]", ""]
    assert symbols.names(wanted) == names
    kallsyms.unlink()  # it is read once, and does not come back as an error
    assert symbols.names(wanted) == names
    assert symbols.names([0xFFFFFFFF816BF620]) == [""]


@pytest.mark.parametrize("hidden", [True, False])
def test_addresses_that_are_hidden(tmp_path: Path, kallsyms: Path, hidden: bool) -> None:
    if hidden:
        kallsyms.write_bytes(b"".join(b"0" * 16 + line[16:] for line in KALLSYMS.splitlines(True)))
    else:
        kallsyms.unlink()
    symbols = Symbols(tmp_path)
    assert not symbols.available
    assert ("kptr_restrict" in symbols.reason) == hidden
    assert symbols.names([0xFFFFFFFF816BF630, 0]) == ["", ""]

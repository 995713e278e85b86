"""No code compares kernel versions: distributions backport, so code must probe for the feature itself."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSION = re.compile(
    r"LINUX_VERSION_CODE|KERNEL_VERSION\s*\(|platform\.(release|uname|version)|\buname\b|\bosrelease\b"
)

_BCC_ASKS = "BCC's own helpers.h asks for it; our code does not use it"
# file: {part of the line: why it is no comparison}
ALLOWED: dict[str, dict[str, str]] = {
    "bpf/include/include/linux/version.h": {
        "#define KERNEL_VERSION(a, b, c) ": _BCC_ASKS,
        "#define LINUX_VERSION_CODE KERNEL_VERSION(5, 10, 0)": _BCC_ASKS,
    },
    "mmwatch/kernel/facts.py": {"kernel=platform.release(),": "doctor prints it"},
    "mmwatch/host/settings.py": {"kernel_release=": "the session's header and the recording name the kernel"},
}


def uses() -> list[tuple[str, str]]:
    """File and line of everything that seems to use the version."""
    return [
        (str(path.relative_to(ROOT)), line.strip())
        for path in sorted([*ROOT.glob("bpf/**/*.[ch]"), *ROOT.glob("mmwatch/**/*.py")])
        for line in path.read_text().splitlines()
        if VERSION.search(line)
    ]


def test_versions_are_at_most_printed() -> None:
    new = [use for use in uses() if not any(part in use[1] for part in ALLOWED.get(use[0], {}))]
    assert new == [], "probe for the tracepoint, field, symbol or BTF member; to print a version, list the line above"


def test_the_list_of_exceptions_is_current() -> None:
    unused = [
        (path, part)
        for path, parts in ALLOWED.items()
        for part in parts
        if not any(path == use[0] and part in use[1] for use in uses())
    ]
    assert unused == []

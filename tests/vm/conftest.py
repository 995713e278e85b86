"""The laboratory runs if named (``make test-vm``, ``pytest tests/vm``) or with ``MMWATCH_RUN_VM=1``.

It boots virtual machines under software emulation, which takes minutes, so plain ``pytest`` leaves it out.
``MMWATCH_VM_KEEP=1`` keeps the guests' results below the cache; ``MMWATCH_VM_RESULTS=FOLDER`` tests such results again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
laboratories = pytest.StashKey["object"]()


def _asked_for(config: pytest.Config) -> bool:
    if os.environ.get("MMWATCH_RUN_VM") == "1":
        return True
    named = [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]
    return any(path == HERE or HERE in path.parents for path in named)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return None if _asked_for(config) else True


@pytest.fixture(scope="session")
def laboratory(request: pytest.FixtureRequest) -> Iterator[object]:
    """Guests for the cases of this session, and no others."""
    from laboratory import Laboratory

    mine = [item for item in request.session.items if HERE in item.path.parents]
    parameters = [item.callspec.params for item in mine if hasattr(item, "callspec")]
    cases = [case for values in parameters for case in (*values.get("cases", ()), values.get("case")) if case]
    recorded = [(values["kernel"], values["lru"]) for values in parameters if "kernel" in values]
    provoked = [(values["where"], values["provocation"]) for values in parameters if "provocation" in values]
    found = Laboratory(dict.fromkeys(cases), recorded, provoked)
    request.config.stash[laboratories] = found
    try:
        yield found
    finally:
        found.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash.get(laboratories, None)
    if found is not None and (lines := found.times()):
        terminalreporter.section("guests")
        for line in lines:
            terminalreporter.write_line(line)

"""What an observer reads besides the rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mmwatch.model.merge import merge
from mmwatch.session import surroundings
from mmwatch.session.observer import Observer
from mmwatch.session.target import resolve_target


def test_a_changed_setting_stays_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value of the test's own instead of a sysctl of this machine."""
    found = surroundings.read_settings()
    changed: dict[str, Any] = {}
    monkeypatch.setattr(surroundings, "read_settings", lambda: replace(found, **changed))
    observer = Observer(resolve_target())
    try:
        seen = [observer.sample()]
        changed["min_free_kbytes"] = -1
        seen += [observer.sample(), observer.sample()]
        assert [dict(interval.settings) for interval in seen] == [{}, changed, changed]
        assert merge(seen[1], seen[2]).settings == changed
        changed.clear()
        assert not observer.sample().settings
    finally:
        observer.close()

"""The rules, one module each. Adding a module adds a rule: :func:`all_rules` finds it."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from mmwatch.diagnosis.rule import Rule


@cache
def all_rules() -> tuple[Rule, ...]:
    """The ``RULE`` of each module, each after the rules that explain the same time better."""
    found = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda one: one.name):
        rule = importlib.import_module(f"{__name__}.{module.name}").RULE
        found[rule.id] = rule
    ordered: dict[str, Rule] = {}
    while len(ordered) < len(found):
        ready = [rule for rule in found.values() if rule.id not in ordered and ordered.keys() >= set(rule.yields_to)]
        if not ready:
            raise AssertionError(f"rules that yield to each other, or to none: {sorted(found.keys() - ordered.keys())}")
        ordered.update((rule.id, rule) for rule in ready)
    return tuple(ordered.values())

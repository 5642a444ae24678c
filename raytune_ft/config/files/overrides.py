"""Applies settings by key path: `--set train.max_steps=20`, and a trial's parameters."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raytune_ft.config.files.yaml import parse_yaml
from raytune_ft.config.methods.choice import DEFAULT as LORA
from raytune_ft.config.objectives.choice import DEFAULT as SFT
from raytune_ft.errors import InputError

METHOD = "method.type"
"""Key path of the setting that says which weights move."""
_KINDS = {METHOD: LORA, "objective.type": SFT}
"""Key path of the setting that says what a section is -> what it is by default."""


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Parses `["train.max_steps=20"]` to `{"train.max_steps": 20}`; values are read as YAML."""
    parsed: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {assignment}", "is not key=value", "write e.g. --set train.max_steps=20")
        parsed[key.strip()] = parse_yaml(f"value: {value}" if value else "value: ''", f"--set {key}").value["value"]
    return parsed


def check_section(section: str, assignments: Sequence[str]) -> None:
    """Raises InputError if `--set` names a setting outside the section, since the others belong to a finished run."""
    for key in parse_assignments(assignments):
        if key.partition(".")[0] != section:
            what = "is what the run was trained with, which stays as it is"
            raise InputError(f"--set {key}", what, f"set {section}.* alone, or run it again under another `name`")


def with_settings(values: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of nested `values` in which each dotted key of `settings` has its value.

    Another `method.type` or `objective.type` clears its section first, because the settings of one kind do not apply to
    another.
    """
    result: dict[str, Any] = copy.deepcopy(dict(values))
    for key, default in _KINDS.items():
        if key in settings and settings[key] != (value_at(result, key) or default):
            result[key.partition(".")[0]] = {}
    for dotted, value in settings.items():
        at: Any = result
        *parents, last = dotted.split(".")
        for depth, part in enumerate(parents, 1):
            at = at.setdefault(part, {})
            if not isinstance(at, dict):
                inner = ".".join(parents[:depth])
                raise InputError(dotted, f"{inner} is {at!r}, which has no keys below it", "check the key path")
        at[last] = copy.deepcopy(value)
    return result


def value_at(values: Mapping[str, Any], dotted: str) -> Any:
    """Returns the value at a dotted key of nested `values`, or None."""
    at: Any = values
    for part in dotted.split("."):
        at = at.get(part) if isinstance(at, Mapping) else None
    return at


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Key path -> value, of nested settings."""
    return dict(_walk(values, prefix))


def _walk(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _walk(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

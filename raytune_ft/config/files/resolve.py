"""The resolved experiment as it is written beside a run's results, without secrets."""

from __future__ import annotations

import re
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.yaml import dump_yaml

_SECRET_KEY = re.compile(r"(?i)(?:^|[_-])(?:api_?key|access_?key|token|secret|password|passwd|pwd|credential)s?$")
# Up to the last @: drivers take passwords with / and @ in them, and a password half shown is shown.
_URL_PASSWORD = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://[^:/@\s]*):\S+@", re.IGNORECASE)
_URL_SECRET = re.compile(r"(?i)(?P<key>[?&;][a-z_-]*(?:api_?key|token|secret|password|passwd|pwd)=)[^&;\s]+")
REDACTED = "***"


def redact(value: Any) -> Any:
    """A copy of plain values in which secrets and passwords in URLs are `***`."""
    if isinstance(value, dict):
        return {key: REDACTED if _is_secret(key, item) else redact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redact(item) for item in value]
    if isinstance(value, str):
        return _URL_SECRET.sub(rf"\g<key>{REDACTED}", _URL_PASSWORD.sub(rf"\g<scheme>:{REDACTED}@", value))
    return value


def _is_secret(key: str, item: Any) -> bool:
    if item is None or isinstance(item, dict):
        return False
    counts = key.endswith("tokens") and isinstance(item, int)  # `budget.tokens`, a number of them
    return not counts and _SECRET_KEY.search(key) is not None


def resolved_values(experiment: Experiment) -> dict[str, Any]:
    """Every setting, defaults included, as plain redacted values."""
    values: dict[str, Any] = redact(experiment.model_dump(mode="json", exclude_none=True))
    # There null is a setting: a gate that is switched off.
    values["promotion"] = experiment.promotion.model_dump(mode="json")
    return values


def resolved_yaml(experiment: Experiment) -> str:
    """`resolved_values` as YAML that `load_experiment` reads again."""
    return dump_yaml(resolved_values(experiment))

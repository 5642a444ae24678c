"""Formats the resolved experiment for the file beside a run's results, without secrets."""

from __future__ import annotations

import re
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.yaml import dump_yaml

_SECRET_KEY = re.compile(r"(?i)(?:^|[_-])(?:api_?key|access_?key|token|secret|password|passwd|pwd|credential)s?$")
# It matches up to the last @, because passwords may contain / and @, and no part of one may be shown.
_URL_PASSWORD = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://[^:/@\s]*):\S+@", re.IGNORECASE)
_URL_SECRET = re.compile(r"(?i)(?P<key>[?&;][a-z_-]*(?:api_?key|token|secret|password|passwd|pwd)=)[^&;\s]+")
REDACTED = "***"


def redact(value: Any) -> Any:
    """Returns a copy of plain values in which secrets and passwords in URLs are replaced by `***`."""
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
    counts = key.endswith("tokens") and isinstance(item, int)  # a count such as `budget.tokens` is not a secret
    return not counts and _SECRET_KEY.search(key) is not None


def resolved_values(experiment: Experiment) -> dict[str, Any]:
    """Returns every setting, including defaults, as plain redacted values."""
    values: dict[str, Any] = redact(experiment.model_dump(mode="json", exclude_none=True))
    # In this section null is a setting, because it switches a gate off.
    values["promotion"] = experiment.promotion.model_dump(mode="json")
    return values


def resolved_yaml(experiment: Experiment) -> str:
    """Returns `resolved_values` as YAML that `load_experiment` can read."""
    return dump_yaml(resolved_values(experiment))

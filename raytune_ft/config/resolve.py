"""The resolved experiment as it is written beside a run's results, without secrets."""

from __future__ import annotations

import re
from typing import Any

import yaml

from raytune_ft.config.experiment import Experiment

_SECRET_KEY = re.compile(r"(?i)(?:^|_)(?:api_?key|token|secret|password|passwd|credential)s?$")
_URL_PASSWORD = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://[^:/@\s]*):[^@/\s]+@", re.IGNORECASE)
REDACTED = "***"


def redact(value: Any) -> Any:
    """A copy of plain values in which secrets and passwords in URLs are `***`."""
    if isinstance(value, dict):
        return {key: REDACTED if _is_secret(key, item) else redact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redact(item) for item in value]
    if isinstance(value, str):
        return _URL_PASSWORD.sub(rf"\g<scheme>:{REDACTED}@", value)
    return value


def _is_secret(key: str, item: Any) -> bool:
    return isinstance(item, str) and _SECRET_KEY.search(key) is not None


def resolved_values(experiment: Experiment) -> dict[str, Any]:
    """Every setting, defaults included, as plain redacted values."""
    values: dict[str, Any] = redact(experiment.model_dump(mode="json", exclude_none=True))
    return values


def resolved_yaml(experiment: Experiment) -> str:
    """`resolved_values` as YAML that `load_experiment` reads again."""
    return yaml.safe_dump(resolved_values(experiment), sort_keys=False, allow_unicode=True, width=120)

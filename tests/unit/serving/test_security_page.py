"""What docs/endpoint_security.md says is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from raytune_ft.monitoring.drift import ALPHA, RESAMPLES
from raytune_ft.monitoring.monitor import LIMITS
from raytune_ft.serving.gateway.guard import _ROUTES, HEALTH
from raytune_ft.serving.settings import Limits

PAGE = (Path(__file__).parents[3] / "docs" / "endpoint_security.md").read_text()


def test_the_page_names_every_limit_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)`:[^|]*\| ([^|]+) \|", PAGE, re.MULTILINE))
    defaults = {name: field.default for name, field in Limits.model_fields.items()}
    shown = {name: f"{value:g}" if isinstance(value, int | float) else value for name, value in defaults.items()}
    assert rows == {**shown, "max_body_bytes": "1 MiB", "max_tokens": "`max_model_len`"}
    assert (defaults["max_body_bytes"], defaults["max_tokens"]) == (1 << 20, None)


@pytest.mark.parametrize("name", LIMITS)
def test_the_page_names_every_measure_of_drift_with_its_limit(name: str) -> None:
    [limit] = re.findall(rf"^\| `{name}` \|.*\| ([\d.]+) (?:above|times) \|$", PAGE, re.MULTILINE)
    assert float(limit) == LIMITS[name]


def test_the_page_says_how_sure_drift_is() -> None:
    assert f"drawn {RESAMPLES} times" in " ".join(PAGE.split()) and f"at most {ALPHA:g}" in PAGE


def test_the_page_names_every_route() -> None:
    for path, (method, _) in _ROUTES.items():
        assert f"`{method} {path}" in PAGE
    assert f"`GET {HEALTH}`" in PAGE


def test_the_tls_options_of_the_page_are_serves_own() -> None:
    from ray.serve.schema import ServeDeploySchema

    [block] = [text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "ssl_certfile" in text]
    schema = ServeDeploySchema.model_validate({**yaml.safe_load(block), "applications": []})
    assert schema.http_options.ssl_keyfile == "/etc/tls/endpoint.key"
    assert schema.http_options.port == 8443

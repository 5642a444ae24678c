"""What the registry holds, one row a version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raytune_ft.registry import manifest
from raytune_ft.registry.base import base_id
from raytune_ft.registry.store import Registry


@dataclass(frozen=True)
class ListedVersion:
    """One version, as `raytune-ft adapters` shows it."""

    adapter: str
    version: int
    aliases: list[str]
    base_model: str
    metric: str | None
    gain: Mapping[str, float] | None
    created: str
    forced: bool


def list_versions(registry: Registry) -> list[ListedVersion]:
    """All versions of all adapters, by name and number; only manifests are read."""
    rows = []
    for adapter in registry.adapters():
        aliases = registry.aliases(adapter)
        for version in registry.versions(adapter):
            found = manifest.read(registry.path(adapter, version))
            metric = first_metric(found.metrics)
            rows.append(
                ListedVersion(
                    adapter=adapter,
                    version=version,
                    aliases=sorted(name for name, number in aliases.items() if number == version),
                    base_model=base_id(found.base_model),
                    metric=metric,
                    gain=found.metrics["difference"][metric] if metric else None,
                    created=found.created,
                    forced=found.forced,
                )
            )
    return rows


def first_metric(metrics: Mapping[str, Any]) -> str | None:
    """The metric that promotion looked at: the first that isn't the loss, or the loss."""
    names = list(metrics.get("difference") or {})
    return next((name for name in names if name != "loss"), names[0] if names else None)

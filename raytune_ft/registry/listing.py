"""Lists the versions in the registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raytune_ft.methods.weights.base_weights import base_id
from raytune_ft.metrics.named import deciding_metric
from raytune_ft.registry import manifest
from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import canary, read_traffic


@dataclass(frozen=True)
class ListedVersion:
    """One version, as `raytune-ft adapters` shows it.

    Attributes:
        merged: Whether it is a complete model, which needs an engine of its own at an endpoint.
        full: Whether it is a full fine-tune, a merged version of which all weights were trained.
        traffic: Percentage of the requests to the adapter's plain name that it answers.
        by: Whether requests are split by `request` or by `user`; None if there is no rule.
        shadow: Percentage of these requests of which it gets a shadow copy.
    """

    adapter: str
    version: int
    aliases: list[str]
    base_model: str
    metric: str | None
    gain: Mapping[str, float] | None
    created: str
    forced: bool
    merged: bool
    full: bool
    traffic: int
    by: str | None
    shadow: int


def list_versions(registry: Registry) -> list[ListedVersion]:
    """Returns all versions of all adapters, by name and number; reads only manifests."""
    rows = []
    for adapter in registry.adapters():
        aliases = registry.aliases(adapter)
        rule = read_traffic(registry, adapter)
        split = canary(0) if rule is None else rule
        for version in registry.versions(adapter):
            found = manifest.read(registry.path(adapter, version))
            metric = deciding_metric(found.metrics.get("difference") or {})
            names = sorted(name for name, number in aliases.items() if number == version)
            rows.append(
                ListedVersion(
                    adapter=adapter,
                    version=version,
                    aliases=names,
                    base_model=base_id(found.base_model),
                    metric=metric,
                    gain=found.metrics["difference"][metric] if metric else None,
                    created=found.created,
                    forced=found.forced,
                    merged=found.merged,
                    full=found.full,
                    traffic=sum(map(split.answers, names)),
                    by=rule.by if rule else None,
                    shadow=sum(map(split.is_asked_besides, names)),
                )
            )
    return rows

"""The entries of the endpoint's list of models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raytune_ft.metrics.named import deciding_metric
from raytune_ft.registry.manifest import Manifest


@dataclass(frozen=True)
class ListedModel:
    """One model id with its metadata."""

    id: str
    metadata: dict[str, Any] = field(default_factory=dict)


def listed_version(model: str, base: str, found: Manifest, alias: str | None = None) -> ListedModel:
    """A version under one of its ids, with the facts of its card."""
    metric = deciding_metric(found.metrics.get("difference") or {})
    gain = found.metrics["difference"][metric] if metric else {}
    facts: dict[str, Any] = {
        "base_model": base,
        "adapter": found.adapter,
        "version": found.version,
        "alias": alias,
        "form": found.form,
        "lora_rank": found.lora_rank,
        "merged": found.merged,
        "study": found.study,
        "trial": found.trial,
        "created": found.created,
        "forced": found.forced,
        "metric": metric,
        "gain": {name: gain[name] for name in ("mean", "low", "high") if name in gain} or None,
    }
    return ListedModel(model, facts)

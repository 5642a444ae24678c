"""Finds what `raytune-ft serve` serves by default: the registry's champions and their base."""

from __future__ import annotations

from pathlib import Path

from raytune_ft.errors import InputError
from raytune_ft.registry import manifest as manifests
from raytune_ft.registry.bucket.bucket import is_remote
from raytune_ft.registry.location import absolute
from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import CHAMPION


def base_of_champions(registry: Registry, adapters: list[str]) -> str:
    """Returns the base model that the champions' manifests name.

    Raises:
        InputError: There is no champion, or the champions have several bases.
    """
    names = adapters or [name for name in registry.adapters() if registry.alias(name, CHAMPION) is not None]
    bases = sorted({manifests.read(registry.resolve(name).path).base_model for name in names})
    if not bases:
        raise InputError(registry.location, "has no champion to serve", "promote a run, or name --base-model")
    if len(bases) > 1:
        raise InputError(registry.location, f"its champions have several bases: {bases}", "choose with --base-model")
    return bases[0]


def registry_argument(registry: Path) -> str | None:
    """Returns the registry for ServeArgs, or None for a missing directory, which serves the base alone."""
    return absolute(registry) if is_remote(registry) or registry.is_dir() else None

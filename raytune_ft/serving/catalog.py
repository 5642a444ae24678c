"""Which model ids the endpoint answers to, and which directory each means; asked anew for every request."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.registry import manifest as manifests
from raytune_ft.registry.base import base_id, base_sha256
from raytune_ft.registry.manifest import Manifest
from raytune_ft.registry.store import CHAMPION, Registry
from raytune_ft.serving.settings import ServeArgs

_log = logging.getLogger(__name__)
VLLM_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # vLLM 0.29, config/lora.py: MaxLoRARanks


class UnknownModelError(RaytuneError):
    """The endpoint doesn't serve the model that a request names."""


@dataclass(frozen=True)
class ListedModel:
    """One model id, and what is known of it."""

    id: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Catalog:
    """The base and its adapters. Ids: `<base>`, `<base>:<adapter>` (its champion), `<base>:<adapter>@3`."""

    base: str
    base_sha256: str
    registry: str | None
    adapters: tuple[str, ...]
    max_lora_rank: int

    def listed(self) -> list[ListedModel]:
        """Every id that would be answered now, the base first."""
        models = [ListedModel(self.base, {"base_model": self.base})]
        for adapter, versions in self._served().items():
            champion = self._registry().alias(adapter, CHAMPION)
            if champion in versions:
                models.append(self._listed(f"{self.base}:{adapter}", versions[champion]))
            models += [self._listed(f"{self.base}:{adapter}@{number}", found) for number, found in versions.items()]
        return models

    def concrete(self, model: str) -> str:
        """The id with its version: an alias means what it points to now, so a request has exactly one version.

        Raises:
            UnknownModelError: There is no such model here.
        """
        base, marked, reference = model.partition(":")
        if base != self.base:
            raise UnknownModelError(f"the model {model[:200]!a} does not exist; this endpoint serves {self.base}")
        if not marked:
            return self.base
        found = self._manifest(reference)
        return f"{self.base}:{found.adapter}@{found.version}"

    def load_path(self, concrete: str) -> Path:
        """Directory of a concrete id, after its manifest was verified; vLLM may load it.

        Raises:
            UnknownModelError: There is no such model here.
            IntegrityError: A file is not what the manifest says.
        """
        reference = concrete.partition(":")[2]
        self._manifest(reference)
        path = self._registry().resolve(reference).path
        manifests.verify(path)
        return path

    def _registry(self) -> Registry:
        if self.registry is None:
            raise UnknownModelError(f"this endpoint serves {self.base} alone, without adapters")
        return Registry(Path(self.registry))

    def _manifest(self, reference: str) -> Manifest:
        try:
            resolved = self._registry().resolve(reference)
            found = manifests.read(resolved.path)
        except (InputError, IntegrityError) as error:
            raise UnknownModelError(f"the model {self.base}:{reference[:80]!a} does not exist") from error
        if reason := self._refusal(found):
            raise UnknownModelError(f"the model {self.base}:{reference[:80]!a} is not served: {reason}")
        return found

    def _refusal(self, found: Manifest) -> str | None:
        if self.adapters and found.adapter not in self.adapters:
            return "its adapter is not among those that were asked for"
        if found.base_sha256 != self.base_sha256:
            return f"it was trained on another base ({base_id(found.base_model)})"
        if found.lora_rank > self.max_lora_rank:
            return f"its rank {found.lora_rank} is above max_lora_rank {self.max_lora_rank}; start the endpoint anew"
        return None

    def _served(self) -> dict[str, dict[int, Manifest]]:
        if self.registry is None:
            return {}
        return {
            adapter: {number: each for number, each in versions.items() if not self._refusal(each)}
            for adapter, versions in _manifests(self._registry()).items()
        }

    def _listed(self, model: str, found: Manifest) -> ListedModel:
        return ListedModel(
            model,
            {
                "base_model": self.base,
                "adapter": found.adapter,
                "version": found.version,
                "form": found.form,
                "lora_rank": found.lora_rank,
            },
        )


def build_catalog(args: ServeArgs) -> Catalog:
    """The catalog of an endpoint; the adapters that it was asked for must be there and be of its base.

    Raises:
        InputError: An adapter that was asked for has no champion, or is of another base.
    """
    digest = base_sha256(args.base_model)
    registry = Registry(Path(args.registry).resolve()) if args.registry is not None else None
    if args.adapters and registry is None:
        raise InputError("adapters", f"{list(args.adapters)} need a registry", "name it with --registry")
    ranks = [
        found.lora_rank
        for adapter, versions in (_manifests(registry) if registry else {}).items()
        for found in versions.values()
        if found.base_sha256 == digest and (not args.adapters or adapter in args.adapters)
    ]
    for adapter in args.adapters:
        assert registry is not None
        found = manifests.read(registry.resolve(adapter).path)
        if found.base_sha256 != digest:
            raise InputError(
                adapter,
                f"its base is {found.base_model}, the weights of {args.base_model} are others",
                "serve it with its own base",
            )
    return Catalog(
        base=base_id(args.base_model),
        base_sha256=digest,
        registry=str(registry.root) if registry else None,
        adapters=args.adapters,
        max_lora_rank=served_rank(args.max_lora_rank or max(ranks, default=1)),
    )


def _manifests(registry: Registry) -> dict[str, dict[int, Manifest]]:
    """Adapter -> version -> manifest; one that is broken is logged and left out, the others are still served."""
    found: dict[str, dict[int, Manifest]] = {}
    for adapter in registry.adapters():
        for version in registry.versions(adapter):
            try:
                found.setdefault(adapter, {})[version] = manifests.read(registry.path(adapter, version))
            except IntegrityError as error:
                _log.warning("left out: %s", error)
    return found


def served_rank(rank: int) -> int:
    """The smallest of vLLM's steps that covers `rank`."""
    return next(step for step in VLLM_LORA_RANKS if step >= rank)

"""Which model ids the endpoint answers to, and which directory each means; asked anew for every request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from raytune_ft.config.number_type import NumberType
from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.registry import manifest as manifests
from raytune_ft.registry.base import base_id, base_sha256
from raytune_ft.registry.location import absolute, open_registry
from raytune_ft.registry.manifest import Manifest
from raytune_ft.registry.traffic import CHAMPION
from raytune_ft.serving.models.capacity import Capacity, bytes_per_rank, capacity_for, rank_with_room, served_rank
from raytune_ft.serving.models.listed import ListedModel, listed_version
from raytune_ft.serving.models.registry_view import RegistryReader, RegistryView, is_version
from raytune_ft.serving.settings import ServeArgs


class UnknownModelError(RaytuneError):
    """The endpoint doesn't serve the model that a request names."""


@dataclass(frozen=True)
class Named:
    """What a model id names: the base, or one version of one adapter."""

    id: str
    """With its version, as the answer names it."""
    alias: str | None = None
    """The alias that led there."""
    manifest: Manifest | None = None


@dataclass(frozen=True)
class Catalog:
    """The base and its adapters: `<base>`, `<base>:<adapter>` (its champion), `...@challenger`, `...@3`."""

    base: str
    base_sha256: str
    registry: str | None
    adapters: tuple[str, ...]
    max_lora_rank: int
    merged: tuple[str, ...] = ()
    """Merged versions that have an engine of their own: `movies@3`."""
    capacity: Capacity = field(default_factory=Capacity)
    trained_in: tuple[NumberType, ...] = ()
    """Number types of the versions that are served, as far as they are recorded."""
    followed: RegistryReader | None = field(default=None, compare=False, repr=False)
    """Asked in place of the registry itself, which may make its reader wait."""

    @cached_property
    def view(self) -> RegistryReader:
        """The registry, read anew where it changed.

        Raises:
            UnknownModelError: The endpoint has none.
        """
        return self.followed or self._own_view

    @cached_property
    def _own_view(self) -> RegistryView:
        if self.registry is None:
            raise UnknownModelError(f"this endpoint serves {self.base} alone, without adapters")
        return RegistryView(self.registry)

    def listed(self, answering: Callable[[str], int | None] = lambda adapter: None) -> list[ListedModel]:
        """Every id that would be answered now, the base first.

        Args:
            answering: Of an adapter, the version that answers for its champion, where that is not the champion.
        """
        models = [ListedModel(self.base, {"base_model": self.base, "max_lora_rank": self.max_lora_rank})]
        for adapter, versions in self._served().items():
            named = f"{self.base}:{adapter}"
            pointed = dict(self.aliases(adapter))
            if CHAMPION in pointed:
                pointed[CHAMPION] = answering(adapter) or pointed[CHAMPION]
            pointed = {name: number for name, number in pointed.items() if number in versions}
            if CHAMPION in pointed:
                models.append(listed_version(named, self.base, versions[pointed[CHAMPION]], CHAMPION))
            for name in sorted(pointed):
                models.append(listed_version(f"{named}@{name}", self.base, versions[pointed[name]], name))
            models += [listed_version(f"{named}@{number}", self.base, found) for number, found in versions.items()]
        return models

    def split(self, model: str) -> tuple[str, str] | None:
        """Adapter and what stands after its `@`, "" for nothing; None for the base.

        Raises:
            UnknownModelError: It names another base.
        """
        base, marked, reference = model.partition(":")
        if base != self.base:
            raise UnknownModelError(f"the model {model[:200]!a} does not exist; this endpoint serves {self.base}")
        if not marked:
            return None
        adapter, _, wanted = reference.partition("@")
        if reference.endswith("@"):
            raise self.unknown(reference)
        return adapter, wanted

    def find(self, adapter: str, wanted: str) -> Named:
        """The version that a number, an alias, or "" (the champion) means now.

        Raises:
            UnknownModelError: There is none, or it can't be served here.
        """
        reference = f"{adapter}@{wanted}" if wanted else adapter
        try:
            if is_version(wanted):
                alias, version = None, int(wanted)
            else:
                alias = wanted or CHAMPION
                version = self.view.aliases(adapter).get(alias, 0)
            found = self.view.manifest(adapter, version) if version else None
        except (InputError, IntegrityError) as error:
            raise self.unknown(reference) from error
        if found is None:
            raise self.unknown(reference)
        if reason := self._refusal(found):
            raise UnknownModelError(f"the model {self.base}:{reference[:80]!a} is not served: {reason}")
        return Named(self.id_of(adapter, version), alias, found)

    def id_of(self, adapter: str, version: int | str) -> str:
        """The id of one version, or of an alias."""
        return f"{self.base}:{adapter}@{version}"

    def refusal(self, adapter: str, version: int) -> str | None:
        """Why a version can't be served here, or None."""
        try:
            found = self.view.manifest(adapter, version)
        except (InputError, IntegrityError):
            found = None
        return "its manifest is missing or can't be read" if found is None else self._refusal(found)

    def foreign(self, adapter: str, version: int | None) -> bool:
        """Whether a version is none for this endpoint: of another base, or not among those that were asked for.

        Args:
            adapter: Whose.
            version: None for one that nobody can tell.
        """
        try:
            found = self.view.manifest(adapter, version) if version else None
        except (InputError, IntegrityError):
            found = None
        return adapter not in self.own_adapters() if found is None else self._foreign(found) is not None

    def own_adapters(self) -> list[str]:
        """Those with a version of this endpoint's base, and those of which no version says its base."""
        if self.registry is None:
            return []
        return [
            adapter
            for adapter, versions in self.view.whole_versions().items()
            if (not self.adapters or adapter in self.adapters)
            and (not versions or not all(map(self._foreign, versions.values())))
        ]

    def aliases(self, adapter: str) -> Mapping[str, int]:
        """Alias -> version; empty where that can't be read, and the versions are still served by number."""
        try:
            return self.view.aliases(adapter)
        except (InputError, IntegrityError):
            return {}  # logged where it was read

    def concrete(self, model: str) -> str:
        """The id with its version: an alias means what it points to now, so a request has exactly one version.

        Raises:
            UnknownModelError: There is no such model here.
        """
        named = self.split(model)
        return self.base if named is None else self.find(*named).id

    @property
    def engines(self) -> tuple[str, ...]:
        """Ids that an engine of their own answers for, the base's first; it answers for all adapters too."""
        return (self.base, *(f"{self.base}:{reference}" for reference in self.merged))

    def without_engine(self) -> list[str]:
        """Merged versions that an alias points to and that can't be asked here: `movies@3`."""
        return [
            f"{adapter}@{number}"
            for adapter, versions in (self.view.whole_versions() if self.registry else {}).items()
            for number in sorted(set(self.aliases(adapter).values()) & versions.keys())
            if not self._foreign(versions[number]) and self._lacks_engine(versions[number])
        ]

    def load_path(self, concrete: str) -> Path:
        """Directory of a concrete id, after its manifest was verified; vLLM may load it.

        Raises:
            UnknownModelError: There is no such model here.
            IntegrityError: A file is not what the manifest says.
        """
        named = self.split(concrete)
        if named is None:
            raise UnknownModelError(f"{concrete} is the base, no adapter")
        found = self.find(*named).manifest
        assert found is not None
        return self._own_view.registry.verified(found.adapter, found.version)

    def unknown(self, reference: str) -> UnknownModelError:
        """The error for a reference that leads nowhere."""
        return UnknownModelError(f"the model {self.base}:{reference[:80]!a} does not exist")

    def _foreign(self, found: Manifest) -> str | None:
        if self.adapters and found.adapter not in self.adapters:
            return "its adapter is not among those that were asked for"
        if found.base_sha256 != self.base_sha256:
            return f"it was trained on another base ({base_id(found.base_model)})"
        return None

    def _lacks_engine(self, found: Manifest) -> bool:
        return found.merged and f"{found.adapter}@{found.version}" not in self.merged

    def _refusal(self, found: Manifest) -> str | None:
        if reason := self._foreign(found):
            return reason
        if self._lacks_engine(found):
            return f"it is a model of its own without an engine here; start the endpoint with merged {found.adapter}"
        if not found.merged and found.lora_rank > self.max_lora_rank:
            return f"its rank {found.lora_rank} is above max_lora_rank {self.max_lora_rank}; start the endpoint anew"
        return None

    def _served(self) -> dict[str, dict[int, Manifest]]:
        if self.registry is None:
            return {}
        return {
            adapter: {number: each for number, each in versions.items() if not self._refusal(each)}
            for adapter, versions in self.view.whole_versions().items()
        }


def build_catalog(args: ServeArgs) -> Catalog:
    """The catalog of an endpoint; the adapters that it was asked for must be there and be of its base.

    Raises:
        InputError: An adapter that was asked for has no champion, or is of another base; a merged one is none.
    """
    digest = base_sha256(args.base_model)
    registry = open_registry(absolute(args.registry), keep_going=True) if args.registry is not None else None
    if (asked := [*args.adapters, *args.merged]) and registry is None:
        raise InputError("adapters", f"{asked} need a registry", "name it with --registry")
    view = RegistryView(registry.location) if registry else None
    served = [
        found
        for adapter, versions in (view.whole_versions() if view else {}).items()
        for found in versions.values()
        if found.base_sha256 == digest and not found.merged and (not args.adapters or adapter in args.adapters)
    ]
    trained_in = {found.dtype for found in served} | {_type_of_version(args.base_model)}
    greatest = max((found.lora_rank for found in served), default=1)
    if args.max_lora_rank is not None:
        rank = served_rank(args.max_lora_rank)
    else:
        rank = rank_with_room(greatest, bytes_per_rank(view, served) if view else 0)
    merged = []
    for reference in asked:
        assert registry is not None
        found = manifests.read(registry.resolve(reference).path)
        if found.base_sha256 != digest:
            raise InputError(
                reference,
                f"its base is {found.base_model}, the weights of {args.base_model} are others",
                "serve it with its own base",
            )
        if reference in args.merged:
            if not found.merged:
                raise InputError(reference, "is an adapter, which the base's engine answers for", "leave out --merged")
            if args.adapters and found.adapter not in args.adapters:
                raise InputError(reference, f"is not among the adapters {list(args.adapters)}", "add it there")
            merged.append(f"{found.adapter}@{found.version}")
            trained_in.add(found.dtype)
    return Catalog(
        base=base_id(args.base_model),
        base_sha256=digest,
        registry=registry.location if registry else None,
        adapters=args.adapters,
        max_lora_rank=rank,
        merged=tuple(dict.fromkeys(merged)),
        capacity=capacity_for(args, view, served, rank) if view else Capacity(),
        trained_in=tuple(sorted(each for each in trained_in if each is not None)),
    )


def _type_of_version(base_model: str) -> NumberType | None:
    """Of a whole version that is served as a base of its own."""
    path = Path(base_model)
    return manifests.read(path).dtype if (path / manifests.MANIFEST_NAME).is_file() else None

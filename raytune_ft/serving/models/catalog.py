"""Resolves model ids to versions and their directories; it looks at the registry's present state for every request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from raytune_ft.config.number_type import NumberType
from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.methods.weights.base_weights import base_id, base_sha256
from raytune_ft.registry import manifest as manifests
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
    """One version of one adapter that a model id names."""

    id: str
    """Concrete model id, with its version, as responses name it."""
    alias: str | None = None
    """The alias that was resolved to this version, or None."""
    manifest: Manifest | None = None


@dataclass(frozen=True)
class Catalog:
    """The models that an endpoint serves.

    Their ids are `<base>`, `<base>:<adapter>` (the adapter's champion), `<base>:<adapter>@challenger` (an alias) and
    `<base>:<adapter>@3` (a version). A concrete id is one that names a version, or the base.
    """

    base: str
    base_sha256: str
    registry: str | None
    adapters: tuple[str, ...]
    max_lora_rank: int
    merged: tuple[str, ...] = ()
    """Merged versions that have an engine of their own, such as `movies@3`."""
    capacity: Capacity = field(default_factory=Capacity)
    trained_in: tuple[NumberType, ...] = ()
    """Number types in which the served versions were trained, as far as they are recorded."""
    followed: RegistryReader | None = field(default=None, compare=False, repr=False)
    """A reader that is asked in place of the registry itself, whose storage may block."""

    @cached_property
    def view(self) -> RegistryReader:
        """The reader of the registry's present state.

        Raises:
            UnknownModelError: The endpoint has no registry.
        """
        return self.followed or self._own_view

    @cached_property
    def _own_view(self) -> RegistryView:
        if self.registry is None:
            raise UnknownModelError(f"this endpoint serves {self.base} alone, without adapters")
        return RegistryView(self.registry)

    def listed(self, answering: Callable[[str], int | None] = lambda adapter: None) -> list[ListedModel]:
        """Returns every model id that can be asked now, the base first.

        Args:
            answering: Returns the version that answers for an adapter's champion, or None if that is the champion.
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
        """Splits a model id into the adapter and the alias or version after its `@`, "" without one; None for the base.

        Raises:
            UnknownModelError: The id names another base.
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
        """Finds the version that a number, an alias, or "" (the champion) means now.

        Raises:
            UnknownModelError: There is no such version, or it can't be served here.
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
        """Returns the model id of a version or of an alias."""
        return f"{self.base}:{adapter}@{version}"

    def refusal(self, adapter: str, version: int) -> str | None:
        """Returns the reason why a version can't be served here, or None."""
        try:
            found = self.view.manifest(adapter, version)
        except (InputError, IntegrityError):
            found = None
        return "its manifest is missing or can't be read" if found is None else self._refusal(found)

    def foreign(self, adapter: str, version: int | None) -> bool:
        """Tells whether a version does not belong to this endpoint: it has another base or an adapter not asked for.

        Args:
            adapter: Name of the adapter.
            version: The version; None if it is unknown, in which case the adapter's other versions decide.
        """
        try:
            found = self.view.manifest(adapter, version) if version else None
        except (InputError, IntegrityError):
            found = None
        return adapter not in self.own_adapters() if found is None else self._foreign(found) is not None

    def own_adapters(self) -> list[str]:
        """Returns the adapters that have a version of this endpoint's base, and those without any readable version."""
        if self.registry is None:
            return []
        return [
            adapter
            for adapter, versions in self.view.whole_versions().items()
            if (not self.adapters or adapter in self.adapters)
            and (not versions or not all(map(self._foreign, versions.values())))
        ]

    def aliases(self, adapter: str) -> Mapping[str, int]:
        """Returns alias -> version; empty if the aliases can't be read, and versions are then served by number only."""
        try:
            return self.view.aliases(adapter)
        except (InputError, IntegrityError):
            return {}  # logged where it was read

    def concrete(self, model: str) -> str:
        """Resolves a model id to its concrete id, so that one request is answered by exactly one version.

        Raises:
            UnknownModelError: The endpoint does not serve the model.
        """
        named = self.split(model)
        return self.base if named is None else self.find(*named).id

    @property
    def engines(self) -> tuple[str, ...]:
        """Model ids that have an engine each: the base, whose engine serves all adapters too, then merged versions."""
        return (self.base, *(f"{self.base}:{reference}" for reference in self.merged))

    def without_engine(self) -> list[str]:
        """Returns merged versions with an alias but without an engine here, such as `movies@3`."""
        return [
            f"{adapter}@{number}"
            for adapter, versions in (self.view.whole_versions() if self.registry else {}).items()
            for number in sorted(set(self.aliases(adapter).values()) & versions.keys())
            if not self._foreign(versions[number]) and self._lacks_engine(versions[number])
        ]

    def load_path(self, concrete: str) -> Path:
        """Returns the directory of a concrete id for vLLM to load, after its files were verified.

        Raises:
            UnknownModelError: The endpoint does not serve the model.
            IntegrityError: A file does not match the manifest.
        """
        named = self.split(concrete)
        if named is None:
            raise UnknownModelError(f"{concrete} is the base, no adapter")
        found = self.find(*named).manifest
        assert found is not None
        return self._own_view.registry.verified(found.adapter, found.version)

    def unknown(self, reference: str) -> UnknownModelError:
        """Returns the error for a reference that does not exist."""
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
    """Builds the catalog of an endpoint.

    Raises:
        InputError: An adapter or merged version in `args` is missing, or is of another base or kind.
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
    """Returns the number type of a merged version whose directory is served as the base, else None."""
    path = Path(base_model)
    return manifests.read(path).dtype if (path / manifests.MANIFEST_NAME).is_file() else None

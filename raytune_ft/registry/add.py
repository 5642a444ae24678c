"""Adds a new version to the registry: checks it, copies it to a staging directory, describes it, renames it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from raytune_ft.config.data import PromptForm
from raytune_ft.config.number_type import NumberType
from raytune_ft.methods.weights.base_weights import base_sha256
from raytune_ft.paths import sha256_file, write_text
from raytune_ft.registry.card import CARD_NAME, CardFacts, render_card
from raytune_ft.registry.compared import Compared, check_compared
from raytune_ft.registry.journal import Move, last_moved
from raytune_ft.registry.manifest import MANIFEST_NAME, Manifest
from raytune_ft.registry.staging import StagedAdapter, publish, staged
from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import CHAMPION


@dataclass(frozen=True)
class Provenance:
    """The manifest's fields that say where an adapter comes from, which its files alone don't."""

    base_model: str
    data_fingerprint: str
    form: PromptForm
    study: str
    trial: str
    command: str
    template_sha256: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    forced: bool = False
    dtype: NumberType | None = None
    gates: dict[str, Any] = field(default_factory=dict)
    method: str | None = None
    objective: str | None = None


@dataclass(frozen=True)
class Placing:
    """The alias that a new version gets in the same step.

    Attributes:
        alias: `champion` or `challenger`.
        move: The journal entry.
        compared: The champion it was compared with, which must still be the champion; None if it was not compared.
    """

    alias: str
    move: Move
    compared: Compared | None


@dataclass(frozen=True)
class Added:
    """A new version's number, and the version that its alias pointed to before."""

    version: int
    previous: int | None


def add_version(
    registry: Registry, adapter: str, source: Path, provenance: Provenance, card: CardFacts | None = None
) -> int:
    """Copies the adapter in `source` into the registry as its next version, completely or not at all.

    Only the weights and PEFT's config are copied. Two concurrent callers get two versions.

    Returns:
        The new version's number.

    Raises:
        IntegrityError: A file of the adapter is missing or broken.
        RaytuneError: The adapter has another base, or vLLM couldn't serve it.
    """
    with staged(registry, adapter, source, provenance.base_model) as copy:
        return add_staged(registry, adapter, copy, provenance, base_sha256(provenance.base_model), card).version


def add_staged(
    registry: Registry,
    adapter: str,
    copy: StagedAdapter,
    provenance: Provenance,
    base_sha256: str,
    card: CardFacts | None = None,
    placing: Placing | None = None,
) -> Added:
    """Makes a staged adapter the next version: writes its manifest and card, and renames it into place.

    With `placing`, an alias is moved to it under the same lock, so that no other move can come in between.

    Raises:
        ChampionMovedError: The champion is no longer the one it was compared with; nothing was changed.
    """
    copy.check_unchanged()
    directory = registry.directory(adapter)
    directory.mkdir(parents=True, exist_ok=True)
    with registry.lock(adapter):
        if placing is not None:
            check_compared(adapter, placing.compared, registry.alias(adapter, CHAMPION))
        there = (int(entry.name) for entry in directory.iterdir() if entry.name.isdecimal())
        version = max([last_moved(registry, adapter), *there]) + 1  # version numbers are never reused
        manifest = Manifest(
            schema=1, adapter=adapter, version=version, base_sha256=base_sha256, lora_rank=copy.facts.lora_rank,
            artefact=copy.facts.artefact, merged=copy.merged,
            created=datetime.now(UTC).isoformat(timespec="seconds"), files={}, **asdict(provenance),
        )  # fmt: skip
        write_text(copy.path / CARD_NAME, render_card(manifest, copy.facts.config, card or CardFacts()))
        files = {**copy.files, CARD_NAME: sha256_file(copy.path / CARD_NAME)}
        write_text(
            copy.path / MANIFEST_NAME,
            json.dumps({**manifest.to_json(), "files": files}, indent=2, ensure_ascii=False) + "\n",
        )
        publish(copy.path, directory / str(version))
        previous = None
        if placing is not None:
            previous = registry.alias(adapter, placing.alias)
            registry.point(adapter, placing.alias, version, placing.move)
    return Added(version, previous)

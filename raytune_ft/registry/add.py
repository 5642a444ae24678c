"""A new version: checked, copied aside, described, and renamed into place."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from raytune_ft.paths import sha256_file, sync_directory, write_json, write_text
from raytune_ft.registry.adapter import CONFIG_NAME, WEIGHTS_NAME, check_adapter
from raytune_ft.registry.base import base_id, base_sha256
from raytune_ft.registry.card import CARD_NAME, CardFacts, render_card
from raytune_ft.registry.manifest import MANIFEST_NAME, Manifest
from raytune_ft.registry.store import Registry

_INCOMING = ".incoming-"


@dataclass(frozen=True)
class Provenance:
    """Where an adapter comes from: the manifest's fields that the files themselves can't tell."""

    base_model: str
    data_fingerprint: str
    form: Literal["prompt_completion", "messages"]
    study: str
    trial: str
    command: str
    template_sha256: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    forced: bool = False


def add_version(
    registry: Registry, adapter: str, source: Path, provenance: Provenance, card: CardFacts | None = None
) -> int:
    """Copies the adapter in `source` into the registry as its next version, whole or not at all.

    Only the weights and PEFT's config are taken. Two callers at once get two versions.

    Returns:
        The new version's number.

    Raises:
        IntegrityError: A file of the adapter is missing or broken.
        RaytuneError: The adapter is of another base, or vLLM couldn't serve it.
    """
    directory = registry.directory(adapter)
    facts = check_adapter(source, provenance.base_model)
    weights_sha256 = base_sha256(provenance.base_model)
    directory.mkdir(parents=True, exist_ok=True)
    with registry.lock(adapter):
        for stale in directory.glob(f"{_INCOMING}*"):  # left by a process that was killed; the lock is ours now
            shutil.rmtree(stale)
        version = max((int(entry.name) for entry in directory.iterdir() if entry.name.isdecimal()), default=0) + 1
        aside = Path(tempfile.mkdtemp(dir=directory, prefix=_INCOMING))
        try:
            _copy(source / WEIGHTS_NAME, aside / WEIGHTS_NAME)
            # The training machine's path means nothing elsewhere, and must not be found in what is published.
            config = {**facts.config, "base_model_name_or_path": _public_name(provenance.base_model)}
            write_json(aside / CONFIG_NAME, config)
            manifest = Manifest(
                schema=1, adapter=adapter, version=version, base_sha256=weights_sha256, lora_rank=facts.lora_rank,
                created=datetime.now(UTC).isoformat(timespec="seconds"), files={}, **asdict(provenance),
            )  # fmt: skip
            write_text(aside / CARD_NAME, render_card(manifest, facts.config, card or CardFacts()))
            files = {name: sha256_file(aside / name) for name in (WEIGHTS_NAME, CONFIG_NAME, CARD_NAME)}
            write_text(
                aside / MANIFEST_NAME,
                json.dumps({**manifest.to_json(), "files": files}, indent=2, ensure_ascii=False) + "\n",
            )
            aside.chmod(0o755)
            aside.rename(directory / str(version))
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        sync_directory(directory)
    return version


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer)
        writer.flush()
        os.fsync(writer.fileno())


def _public_name(base_model: str) -> str:
    """A hub id as it is; a directory by its name."""
    return base_id(base_model) if Path(base_model).is_dir() else base_model

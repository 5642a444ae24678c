"""The manifest of an adapter version: its facts, its origin, and the sha256 of each of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from raytune_ft.config.data import PromptForm
from raytune_ft.config.methods.facts import Artefact
from raytune_ft.config.model import Strict
from raytune_ft.config.number_type import NumberType
from raytune_ft.errors import IntegrityError
from raytune_ft.paths import read_json, sha256_file

MANIFEST_NAME = "manifest.json"


class Manifest(Strict):
    """The recorded facts of one adapter version."""

    schema_version: Literal[1] = Field(1, alias="schema")
    """Version of this format."""
    adapter: str
    """Name of the adapter."""
    version: int = Field(ge=1)
    """Number of the version."""
    base_model: str
    """The base as the experiment named it: a directory or a hub id."""
    base_sha256: str
    """Hash of the base's weights, see `base.base_sha256`."""
    lora_rank: int = Field(ge=0)
    """PEFT's `r`; 0 where there is no adapter."""
    artefact: Artefact | None = None
    """What was trained, an adapter or a whole model; None for older versions, where `lora_rank` 0 means a model."""
    method: str | None = None
    """The method that it was trained by; None for older versions."""
    objective: str | None = None
    """The objective that it was trained for; None for older versions, which knew `sft` only."""
    merged: bool = False
    """The files are a complete model: the adapter was merged into the base, or all weights were trained."""
    dtype: NumberType | None = None
    """The number type it was trained in; None for older versions, which did not record it."""
    data_fingerprint: str
    """Fingerprint of the rows it was trained on."""
    form: PromptForm
    """The prompt form in which it was trained and has to be asked: plain completion or chat."""
    template_sha256: str | None = None
    """Hash of the chat template, for `messages`."""
    study: str
    """Name of the study whose winner it is."""
    trial: str
    """Id of the winning trial."""
    metrics: dict[str, Any]
    """`systems` and `difference` of evaluation.json."""
    created: str
    """UTC time, ISO 8601."""
    command: str
    """The command that created it."""
    forced: bool = False
    """It was promoted although a gate refused it."""
    gates: dict[str, Any] = Field(default_factory=dict)
    """Gate -> {"passed": true, false or null (not run), "reason", and the measured numbers}."""
    files: dict[str, str]
    """File name -> hex sha256, for every file except the manifest."""

    @property
    def full(self) -> bool:
        """Whether it is a full fine-tune: all weights were trained, not an adapter."""
        return self.artefact == "model" if self.artefact else self.lora_rank == 0

    def to_json(self) -> dict[str, Any]:
        """Returns the manifest as it is written to the file."""
        return self.model_dump(mode="json", by_alias=True)


def read(directory: Path) -> Manifest:
    """Reads the manifest in `directory`, which is `<adapter>/<version>`.

    Raises:
        IntegrityError: It is missing, incomplete, not a manifest, or that of another version.
    """
    path = directory / MANIFEST_NAME
    if path.is_symlink() or not path.is_file():
        raise IntegrityError(f"{directory}: has no {MANIFEST_NAME}; promote the run again")
    try:
        manifest = Manifest.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise IntegrityError(f"{path}: {place}: {first['msg']}; promote the run again") from error
    if (directory.parent.name, directory.name) != (manifest.adapter, str(manifest.version)):
        raise IntegrityError(f"{path}: is that of {manifest.adapter}@{manifest.version}; remove the copy")
    return manifest


def verify(directory: Path) -> Manifest:
    """Checks every file against the manifest in `directory` and returns the manifest.

    Raises:
        IntegrityError: A file is missing, unexpected, a link, or has other bytes.
    """
    manifest = read(directory)
    present = {entry.name for entry in directory.iterdir()} - {MANIFEST_NAME}
    if missing := sorted(manifest.files.keys() - present):
        raise IntegrityError(f"{directory}: {missing[0]} is missing; promote the run again")
    if extra := sorted(present - manifest.files.keys()):
        raise IntegrityError(f"{directory}: {extra[0]} is not in {MANIFEST_NAME}; remove it")
    for name, expected in manifest.files.items():
        path = directory / name
        if path.is_symlink() or not path.is_file():
            raise IntegrityError(f"{path}: is not an ordinary file; promote the run again")
        found = sha256_file(path)
        if found != expected:
            raise IntegrityError(
                f"{path}: sha256 {found[:12]}... is not {expected[:12]}... of {MANIFEST_NAME}; promote the run again"
            )
    return manifest

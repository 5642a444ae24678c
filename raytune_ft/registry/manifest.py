"""The manifest beside an adapter: what it is, what it came from, and the sha256 of each of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from raytune_ft.config.model import Strict
from raytune_ft.config.number_type import NumberType
from raytune_ft.errors import IntegrityError
from raytune_ft.paths import read_json, sha256_file

MANIFEST_NAME = "manifest.json"


class Manifest(Strict):
    """Everything that is recorded of one adapter version."""

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
    """PEFT's `r`; 0 of a full fine-tune."""
    merged: bool = False
    """The files are a whole model: the adapter is in the base's weights, or all of them moved."""
    dtype: NumberType | None = None
    """The number type it was trained in; None of a version of before that was recorded."""
    data_fingerprint: str
    """Fingerprint of the rows it was trained on."""
    form: Literal["prompt_completion", "messages"]
    """How it was trained and has to be asked: plain completion or chat."""
    template_sha256: str | None = None
    """Hash of the chat template, for `messages`."""
    study: str
    """The study whose winner it is."""
    trial: str
    """The winning trial."""
    metrics: dict[str, Any]
    """`systems` and `difference` as evaluation.json has them."""
    created: str
    """UTC time, ISO 8601."""
    command: str
    """What made it."""
    forced: bool = False
    """Promoted although a gate refused."""
    gates: dict[str, Any] = Field(default_factory=dict)
    """Gate -> {"passed": true, false or null (not run), "reason", and what it measured}."""
    files: dict[str, str]
    """File name -> hex sha256, for every file but this one."""

    @property
    def full(self) -> bool:
        """Whether all weights moved, and no adapter was trained."""
        return self.lora_rank == 0

    def to_json(self) -> dict[str, Any]:
        """The manifest as it is written."""
        return self.model_dump(mode="json", by_alias=True)


def read(directory: Path) -> Manifest:
    """Reads the manifest in `directory`, which is `<adapter>/<version>`.

    Raises:
        IntegrityError: It is missing, not whole, not a manifest, or that of another version.
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
    """Returns the manifest after every file proved to be the one it names.

    Raises:
        IntegrityError: A file is missing, extra, a link, or its bytes changed.
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

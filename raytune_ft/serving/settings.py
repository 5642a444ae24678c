"""What an endpoint is told: the arguments of `raytune-ft serve` and of a Serve config file alike."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from raytune_ft.config.model import Strict
from raytune_ft.errors import InputError

API_KEY_VARIABLE = "RAYTUNE_FT_API_KEY"


class Limits(Strict):
    """What one request may ask for."""

    max_n: int = Field(8, ge=1)
    """Answers of one request, over all its prompts."""
    max_tokens: int | None = Field(None, ge=1)
    """Tokens of one answer; by default `max_model_len`."""
    max_body_bytes: int = Field(1 << 20, ge=1024)
    """Bytes of a request's body."""


class ServeArgs(Strict):
    """One endpoint: a base and its adapters."""

    base_model: str
    """A model directory, or a hub id that lies in the Hugging Face cache."""
    registry: str | None = "registry"
    """Directory of adapters; null serves the base alone."""
    adapters: tuple[str, ...] = ()
    """Names of the adapters that are served; empty: all of this base, also those that are promoted later."""
    host: str = "127.0.0.1"
    """Address that is listened on; beyond loopback an API key is needed."""
    port: int = Field(8000, ge=0, le=65535)
    """Port; 0 takes a free one."""
    api_key_file: str | None = None
    """File whose first line is the API key; else RAYTUNE_FT_API_KEY is, where it is set."""
    max_model_len: int = Field(512, ge=8)
    """Tokens of prompt and answer together."""
    max_lora_rank: int | None = Field(None, ge=1, le=512)
    """Greatest rank that can be served; by default what the registry's adapters need now."""
    max_adapters: int = Field(4, ge=1)
    """Adapter versions in one batch of the engine."""
    dtype: str = "bfloat16"
    """Type of the weights in the engine."""
    gpus: int | None = Field(None, ge=0)
    """GPUs of one replica; by default one where the cluster has one, else none."""
    cpu_kv_cache_gib: int = Field(1, ge=1)
    """Memory for keys and values where there is no GPU."""
    enforce_eager: bool | None = None
    """Skip compiling; by default on a CPU, where compiling takes minutes."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Off unless you read that code."""
    start_attempts: int = Field(3, ge=1)
    """Starts of the engine before the deployment counts as failed."""
    limits: Limits = Limits()
    """What one request may ask for."""


def parse_serve_args(value: ServeArgs | dict[str, Any]) -> ServeArgs:
    """Checks the `args` of a Serve config file."""
    if isinstance(value, ServeArgs):
        return value
    try:
        return ServeArgs.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"args.{place}", str(first["msg"]), "see raytune-ft serve --help") from error


def read_api_key(api_key_file: str | None) -> str | None:
    """The API key, or None where none is set.

    Raises:
        InputError: The file is missing or empty, or the key is too short to be one.
    """
    if api_key_file is not None:
        path = Path(api_key_file)
        if not path.is_file():
            raise InputError(str(path), "is missing", "write the API key into its first line")
        lines = path.read_text(encoding="utf-8").splitlines()
        where, key = str(path), lines[0].strip() if lines else ""
    elif (value := os.environ.get(API_KEY_VARIABLE)) is not None:
        where, key = API_KEY_VARIABLE, value.strip()
    else:
        return None
    if len(key) < 8 or not key.isascii() or not key.isprintable():
        raise InputError(where, "holds no usable API key", "use at least 8 printable ASCII characters")
    return key


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, api_key: str | None) -> None:
    """Refuses to listen beyond this machine without a key."""
    if api_key is None and not is_loopback(host):
        raise InputError(
            f"host {host}", "is reachable by others and no API key is set", f"set {API_KEY_VARIABLE} or --api-key-file"
        )

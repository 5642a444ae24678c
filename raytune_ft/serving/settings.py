"""The settings of an endpoint: the options of `raytune-ft serve`, and the `args` of a Serve config file."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from raytune_ft.config.model import Strict
from raytune_ft.config.number_type import NumberType
from raytune_ft.errors import InputError

API_KEY_VARIABLE = "RAYTUNE_FT_API_KEY"


class Limits(Strict):
    """Limits on one request."""

    max_n: int = Field(8, ge=1)
    """Most answers of one request, over all its prompts."""
    max_tokens: int | None = Field(None, ge=1)
    """Most tokens of one answer; by default `max_model_len`."""
    max_body_bytes: int = Field(1 << 20, ge=1024)
    """Most bytes of a request's body."""
    body_timeout_s: float = Field(30.0, gt=0, allow_inf_nan=False)
    """Seconds within which a request's body has to arrive."""
    max_concurrent_per_key: int = Field(64, ge=1)
    """Most concurrent requests of one API key at one ingress replica; without keys, of all clients together."""


class Autoscaling(Strict):
    """Adds and removes replicas with the load; the fields are Ray Serve's."""

    min_replicas: int = Field(1, ge=1)
    """Fewest replicas; at least 1, because with none the health check would always fail."""
    max_replicas: int = Field(ge=1)
    """Most replicas."""
    target_ongoing_requests: float = Field(32, gt=0, allow_inf_nan=False)
    """Concurrent requests that one replica should have."""
    upscale_delay_s: float = Field(30, ge=0, allow_inf_nan=False)
    """Seconds above the target before a replica is added; its engine then takes a minute or more to start."""
    downscale_delay_s: float = Field(600, ge=0, allow_inf_nan=False)
    """Seconds below the target before a replica is removed."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self


class ServeArgs(Strict):
    """The settings of one endpoint, which serves a base and its adapters."""

    base_model: str
    """A model directory, or a hub id that lies in the Hugging Face cache."""
    registry: str | None = "registry"
    """Directory of adapters, or s3://bucket/prefix; null serves the base alone."""
    adapters: tuple[str, ...] = ()
    """Names of the adapters that are served; empty: all of this base, also those that are promoted later."""
    merged: tuple[str, ...] = ()
    """Merged versions that get an engine of their own, which takes as much as the base's: `movies` (its champion now),
    `movies@challenger` or `movies@3`."""
    host: str = "127.0.0.1"
    """Address to listen on; any address beyond loopback needs an API key."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    api_key_file: str | None = None
    """File whose first line is the API key; by default the key is read from RAYTUNE_FT_API_KEY, if that is set."""
    api_keys_file: str | None = None
    """File of hashed keys, as `raytune-ft keys` writes it; read again when it changes."""
    log_dir: str | None = None
    """Directory of the access log and of feedback; null keeps neither."""
    log_prompts: bool = False
    """Keep prompts and answers too, in `log_dir`."""
    max_log_mib: int = Field(1024, ge=16)
    """Most MiB of all logs of one kind (access, refused, requests, feedback) in `log_dir`; the oldest go first."""
    max_model_len: int = Field(512, ge=8)
    """Most tokens of prompt and answer together."""
    max_lora_rank: int | None = Field(None, ge=1, le=512)
    """Highest LoRA rank that can be served; by default twice the highest in the registry, and at least 32."""
    max_adapters: int | None = Field(None, ge=1)
    """Most adapter versions in one batch of the engine; by default 4 to 8, as the registry needs and memory allows."""
    max_loaded_adapters: int | None = Field(None, ge=1)
    """Most adapter versions in memory (LRU eviction); by default all, up to 64, as memory allows."""
    dtype: Literal["auto"] | NumberType = "auto"
    """Number type of the engine. `auto` takes, among the types that can hold the trained weights, the one in which the
    devices answer many requests at once fastest. On a CPU without fast bfloat16, bfloat16 may be faster for a single
    request."""
    gpus: int | None = Field(None, ge=0)
    """GPUs of one replica, tensor parallel if several; by default 1 if the cluster has a GPU, else 0."""
    gpu_memory_utilization: float | None = Field(None, gt=0, le=1)
    """Fraction of each GPU's memory that the engine takes; by default vLLM's."""
    max_num_seqs: int | None = Field(None, ge=1)
    """Most requests in one step of the engine; by default vLLM's."""
    replicas: int = Field(1, ge=1)
    """Number of engine replicas, each with its own GPUs."""
    autoscaling: Autoscaling | None = None
    """Adapts the number of replicas to the load, in place of `replicas`."""
    max_surge_percent: int = Field(0, ge=0, le=100)
    """Percentage of new replicas that start before old ones end when settings change; they need free GPUs."""
    max_ongoing_requests: int | None = Field(None, ge=1)
    """Most requests at one replica before another is asked; with several replicas the default is `max_num_seqs`."""
    router: Literal["balanced", "prefix"] = "balanced"
    """Which replica gets a request: the less busy of two (`balanced`), or one that saw its beginning (`prefix`)."""
    cpu_kv_cache_gib: int = Field(1, ge=1)
    """GiB of memory for the KV cache of an engine on a CPU."""
    enforce_eager: bool | None = None
    """Skip compilation; by default only on a CPU, where it takes minutes."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Off unless you read that code."""
    start_attempts: int = Field(3, ge=1)
    """Attempts to start the engine before the deployment counts as failed."""
    limits: Limits = Limits()
    """Limits on one request."""

    @property
    def max_log_bytes(self) -> int:
        """`max_log_mib` in bytes."""
        return self.max_log_mib << 20

    @model_validator(mode="after")
    def _prompts_need_a_place(self) -> Self:
        if self.log_prompts and self.log_dir is None:
            raise ValueError("log_prompts needs log_dir, a directory to keep them in")
        return self


def parse_serve_args(value: ServeArgs | dict[str, Any]) -> ServeArgs:
    """Validates the `args` of a Serve config file.

    Raises:
        InputError: A field is unknown or wrong.
    """
    if isinstance(value, ServeArgs):
        return value
    try:
        return ServeArgs.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"args.{place}", str(first["msg"]), "see raytune-ft serve --help") from error


def read_api_key(api_key_file: str | None) -> str | None:
    """Returns the API key, or None if none is set.

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
    """Tells whether `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""What an endpoint is told: the arguments of `raytune-ft serve` and of a Serve config file alike."""

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
    """What one request may ask for."""

    max_n: int = Field(8, ge=1)
    """Answers of one request, over all its prompts."""
    max_tokens: int | None = Field(None, ge=1)
    """Tokens of one answer; by default `max_model_len`."""
    max_body_bytes: int = Field(1 << 20, ge=1024)
    """Bytes of a request's body."""
    body_timeout_s: float = Field(30.0, gt=0, allow_inf_nan=False)
    """Within this time a request's body has to be there."""
    max_concurrent_per_key: int = Field(64, ge=1)
    """Requests of one API key that one ingress replica works on at once; without keys, of all together."""


class Autoscaling(Strict):
    """Replicas that come and go with the load; the names and their meaning are Ray Serve's."""

    min_replicas: int = Field(1, ge=1)
    """Replicas that are always there; with none, a health check would find nobody and send nobody."""
    max_replicas: int = Field(ge=1)
    """Replicas at most."""
    target_ongoing_requests: float = Field(32, gt=0, allow_inf_nan=False)
    """Requests that one replica should work on at once."""
    upscale_delay_s: float = Field(30, ge=0, allow_inf_nan=False)
    """Time above the target before a replica is added; its engine then takes a minute or more to start."""
    downscale_delay_s: float = Field(600, ge=0, allow_inf_nan=False)
    """Time below the target before one is taken away."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self


class ServeArgs(Strict):
    """One endpoint: a base and its adapters."""

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
    """Address that is listened on; beyond loopback an API key is needed."""
    port: int = Field(8000, ge=0, le=65535)
    """Port; 0 takes a free one."""
    api_key_file: str | None = None
    """File whose first line is the API key; else RAYTUNE_FT_API_KEY is, where it is set."""
    api_keys_file: str | None = None
    """File of hashed keys, as `raytune-ft keys` writes it; read again when it changes."""
    log_dir: str | None = None
    """Directory of the access log and of feedback; null keeps neither."""
    log_prompts: bool = False
    """Keep prompts and answers too, in `log_dir`."""
    max_log_mib: int = Field(1024, ge=16)
    """MiB of all logs of one kind (access, refused, requests, feedback) in `log_dir`; beyond it the oldest files go."""
    max_model_len: int = Field(512, ge=8)
    """Tokens of prompt and answer together."""
    max_lora_rank: int | None = Field(None, ge=1, le=512)
    """Greatest rank that can be served; by default twice the greatest in the registry and 32 at least."""
    max_adapters: int | None = Field(None, ge=1)
    """Adapter versions in one batch of the engine; by default what the registry holds, 4 to 8, as memory allows."""
    max_loaded_adapters: int | None = Field(None, ge=1)
    """Adapter versions kept in memory, the least used goes first; by default all, at most 64, as memory allows."""
    dtype: Literal["auto"] | NumberType = "auto"
    """Number type of the engine. `auto` is what the devices multiply fast, of the types that hold what was trained: so
    many requests at once are answered fastest. On a CPU without fast bfloat16 one request may be faster with it."""
    gpus: int | None = Field(None, ge=0)
    """GPUs of one replica; by default one where the cluster has one, else none. Several: tensor parallel."""
    gpu_memory_utilization: float | None = Field(None, gt=0, le=1)
    """Part of each GPU's memory that the engine takes; by default vLLM's."""
    max_num_seqs: int | None = Field(None, ge=1)
    """Requests in one step of the engine; by default vLLM's."""
    replicas: int = Field(1, ge=1)
    """Engines, each with its own GPUs."""
    autoscaling: Autoscaling | None = None
    """As many engines as the load needs, in place of `replicas`."""
    max_surge_percent: int = Field(0, ge=0, le=100)
    """Engines that start before old ones end when settings change, in percent of all; they need free GPUs."""
    max_ongoing_requests: int | None = Field(None, ge=1)
    """Requests that a replica takes before another is asked; by default, of several, as many as one step of it has."""
    router: Literal["balanced", "prefix"] = "balanced"
    """Which replica is asked: the less busy of two, or the one that has seen the request's beginning."""
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
